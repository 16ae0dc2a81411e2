"""The Arrow schemas of the files, pinned so that a change is seen, and the columns that decoding builds."""

import re
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import arrow_schema, build, count_members
from schemas.decode import decode_records, member_schema, split_blob
from schemas.model import Column, common_columns, tables
from schemas.times import format_wire
from tests.schema_records import TABLES, anything, blob, record, spellings, text_of, texts

COMMON = """
Id: string not null
CreationTime: timestamp[us, tz=UTC] not null
RecordType: int64
Operation: string
OrganizationId: string
UserType: int64
UserKey: string
UserId: string
Workload: string
ResultStatus: string
ObjectId: string
ClientIP: string
Scope: int64
Version: int64
AppAccessContext: struct<AADSessionId: string, APIId: string, AuthTime: string, ClientAppId: string, \
ClientAppName: string, CorrelationId: string, DeviceId: string, IssuedAtTime: string, TokenIssuedAtTime: string, \
UniqueTokenId: string, UserObjectId: string>
AssociatedAdminUnits: list<item: string>
_content_id: string not null
_content_created: timestamp[us, tz=UTC] not null
_content_type: string not null
_extra: string"""
EXCHANGE_ADMIN = """
Parameters: map<string, string>
ModifiedProperties: list<item: struct<Name: string, NewValue: string, OldValue: string>>
ModifiedObjectResolvedName: string
ExternalAccess: bool
OrganizationName: string
OriginatingServer: string
DeviceId: string
TokenObjectId: string
TokenTenantId: string
AppId: string
ClientAppId: string
SessionId: string
RequestId: string
SkypeForBusinessEventType: int64
TenantName: string
ObjectName: string
CmdletVersion: string"""
AAD_LOGON = """
ApplicationId: string
Client: string
DeviceProperties: map<string, string>
ErrorCode: string
LogonError: string
ErrorNumber: string
AzureActiveDirectoryEventType: int64
ExtendedProperties: map<string, string>
ModifiedProperties: list<item: struct<Name: string, NewValue: string, OldValue: string>>
Actor: list<item: struct<ID: string, Type: int64>>
ActorContextId: string
ActorIpAddress: string
InterSystemsId: string
IntraSystemId: string
SupportTicketId: string
Target: list<item: struct<ID: string, Type: int64>>
TargetContextId: string
Application: string
LoginStatus: int64
UserDomain: string"""


@pytest.mark.parametrize(
    ("table", "text"),
    [("generic", COMMON), ("exchange_admin", COMMON + EXCHANGE_ADMIN), ("aad_logon", COMMON + AAD_LOGON)],
)
def test_schema_of_the_files_is_pinned(table, text):
    fields = [f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in arrow_schema(tables()[table])]
    assert fields == text.split("\n")[1:]


@pytest.mark.parametrize("table", TABLES)
def test_every_table_begins_with_the_common_columns(table):
    shared = len(common_columns())
    assert tables()[table].columns[:shared] == common_columns()
    assert arrow_schema(tables()[table]).names[:shared] == [c.name for c in common_columns()]


@pytest.mark.parametrize("table", TABLES)
def test_batches_hold_the_members_and_extra(table):
    ours = ("_content_id", "_content_created", "_content_type", "_extra")
    fields = [f for f in arrow_schema(tables()[table]) if f.name not in ours]
    assert member_schema(table).equals(pa.schema([*fields, pa.field("_extra", pa.string())]))


def test_batches_of_both_ways_have_one_schema():
    decoded = decode_records(split_blob(blob(text_of(), text_of(New="1"), record(Parameters=[], AppAccessContext={}))))
    assert [b.rows.schema for b in decoded.batches] == [member_schema("exchange_admin")] * 2


def test_columns_without_values_are_null():
    for column in tables()["exchange_admin"].members:
        built = build(column, (None, None))
        assert built.array.to_pylist() == [None, None]
        assert built.array.type == arrow_schema(tables()["exchange_admin"]).field(column.name).type
        assert (built.members, built.exact) == (0, {})


@pytest.mark.parametrize(
    ("kind", "values", "unfit"),
    [
        ("timestamp", ["2026-11-20T08:15:31", "yesterday", None, "2026-11-20T08:15:31Z"], [1]),
        ("timestamp", ["2026-02-30T08:15:31"], [0]),
        ("timestamp", ["2026-11-20T08:15:31", "2026-02-30T08:15:31", "2026-02-28T08:15:31"], [1]),
        ("double", [msgspec.Raw(b"1.5"), msgspec.Raw(b'"1.5"')], [1]),
        ("double", [msgspec.Raw(b"9007199254740993"), None, msgspec.Raw(b"1.5")], [0]),
        ("double", [msgspec.Raw(b"1e400")], [0]),
        ("json", [msgspec.Raw(b"{}"), None, msgspec.Raw(b'"text"')], [2]),
        ("json", [msgspec.Raw(b'["a"]'), msgspec.Raw(b'["\xff"]')], [1]),
    ],
)
def test_decoded_values_that_a_column_cannot_hold_are_unfit_and_no_others(kind, values, unfit):
    assert build(Column("x", kind, True), values).unfit == unfit


def test_records_whose_exact_text_no_column_keeps_are_unfit():
    time = Column("x", "record", True, fields=(Column("t", "timestamp", True),))
    assert build(time, [("2026-11-20T08:15:31",)])[1:] == (2, {}, ())
    assert build(time, [("2026-11-20T08:15:31",), None, ("2026-11-20T08:15:31Z",)]).unfit == [2]
    times = replace(time, kind="records")
    rows = [[("2026-11-20T08:15:31",)] * 2, None, [], [("2026-11-20T08:15:31",), ("2026-02-30T08:15:31",)]]
    assert build(times, rows).unfit == [3]


@given(st.lists(st.sampled_from(["2026-11-20T08:15:31", "1000-01-01T00:00:00", "0999-12-31T23:59:59"]), max_size=4))
def test_times_that_look_usual_only_end_to_end_are_read_one_by_one(values):
    shifted = [*values, "2026-11-20T08:15:3", "12026-11-20T08:15:31"]
    assert build(Column("x", "timestamp", True), shifted).unfit == [len(values), len(values) + 1]
    built = build(Column("x", "timestamp", True), [*values, None])
    assert [t and format_wire(t) for t in built.array.to_pylist()] == [*values, None]
    assert built.exact == {}


def test_times_in_other_forms_keep_their_text():
    values = ("2026-11-20T08:15:31", None, "2026-11-20T08:15:31Z", "2026-11-20T08:15:31.5")
    built = build(Column("x", "timestamp", True), values)
    assert [None if t is None else t.isoformat() for t in built.array.to_pylist()] == [
        "2026-11-20T08:15:31+00:00",
        None,
        "2026-11-20T08:15:31+00:00",
        "2026-11-20T08:15:31.500000+00:00",
    ]
    assert built.exact == {2: b'"2026-11-20T08:15:31Z"', 3: b'"2026-11-20T08:15:31.5"'}


def names_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [n for v in value for n in names_in(v)]
    return [*value, *(n for v in value.values() for n in names_in(v))] if isinstance(value, dict) else []


@given(st.dictionaries(texts | st.sampled_from(["a", "é", "a ", 'a"', "a\\", "Name_1"]), anything), spellings)
def test_every_member_that_a_column_could_hold_is_counted_and_nothing_but_members(value, spell):
    names = names_in(value)
    like_columns = sum(re.fullmatch(r".*[0-9A-Za-z_]", n, re.DOTALL) is not None for n in names)
    assert like_columns <= count_members(spell(value)) <= len(names)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"", 0),
        (b":", 0),
        (b"{}", 0),
        (b'{"a":1}', 1),
        (b'{"a":1,"a":1}', 2),
        (b'{"a" :1,"b"\n\t:{"c":2}}', 3),
        (b'{"a":"::1","b":":","c":[":"]}', 3),
        (b'{"a": "::1", "b": " : "}', 2),
        (rb'{"a":"{\"b\":\"c\"}"}', 1),
        (rb'{"a":"{\"b\":\"{\\\"c\\\":1}\"}"}', 1),
        (rb'{"a":"\\","b":"\\\":"}', 2),
    ],
)
def test_counted_members(text, count):
    assert count_members(text) == count
