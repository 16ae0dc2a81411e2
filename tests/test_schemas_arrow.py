"""The Arrow schemas of the files, pinned so that a change is seen, and the columns that decoding builds."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import arrow_schema
from schemas.decode import RawRecords, decode_records, member_schema, split_blob
from schemas.model import Column, common_columns, tables
from schemas.times import format_wire
from tests.schema_records import TABLES, blob, built_of, record, text_of

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
    twice = text_of(Version="1").replace(b'"Version":1', b'"Version":1,"Version":1')
    decoded = decode_records(RawRecords(split_blob(blob(text_of(), twice, record(Parameters=[], AppAccessContext={})))))
    assert [b.rows.schema for b in decoded.batches] == [member_schema("exchange_admin")] * 2


def test_columns_without_values_are_null():
    for column in tables()["exchange_admin"].members:
        built = built_of(column, None, None)
        assert built.array.to_pylist() == [None, None]
        assert built.array.type == arrow_schema(tables()["exchange_admin"]).field(column.name).type
        assert built[1:] == ({}, (), ())


@pytest.mark.parametrize(
    ("kind", "values", "exact", "misfits"),
    [
        ("timestamp", [b'"2026-11-20T08:15:31"', b'"yesterday"', None, b'"2026-11-20T08:15:31Z"'], [1, 3], [1]),
        ("timestamp", [b'"2026-02-30T08:15:31"'], [0], [0]),
        ("timestamp", [b'"2026-11-20T08:15:31"', b'"2026-02-30T08:15:31"', b'"2026-02-28T08:15:31"'], [1], [1]),
        ("timestamp", [b'"2026-11-20T08:15:31"', b"5", b"null"], [1, 2], [1]),
        ("double", [b"9007199254740993", None, b"1.5"], [0], []),
        ("double", [b"1e400", b"true"], [0, 1], [1]),
        ("long", [b"1", b"1.5", None, b"1e3", b"9223372036854775808", b"-9223372036854775808"], [1, 3, 4], [1, 3, 4]),
        ("json", [b"{}", b'"text"', b"[1]", b"2"], [1, 3], [1, 3]),
        ("boolean", [b"true", b"false", None, b'"True"'], [3], [3]),
    ],
)
def test_values_that_a_column_cannot_hold_keep_their_text_and_no_others(kind, values, exact, misfits):
    built = built_of(Column("x", kind, True), *values)
    assert built.exact == {row: values[row] for row in exact}
    assert [row for row, *_ in built.misfits] == misfits
    assert list(built.unfit) == []


def test_records_whose_exact_text_no_column_keeps_ride_along():
    time = Column("x", "record", True, fields=(Column("t", "timestamp", True),))
    one, other, none = (b'{"t":"2026-%s"}' % t for t in (b"11-20T08:15:31", b"11-20T08:15:31Z", b"02-30T08:15:31"))
    assert built_of(time, one)[1:] == ({}, (), ())
    assert built_of(time, one, None, other).exact == {2: other}
    times = replace(time, kind="records")
    values = (b"[%s,%s]" % (one, one), None, b"[]", b"[%s,%s]" % (one, none))
    built = built_of(times, *values)
    assert (built.exact, built.misfits) == ({3: values[3]}, [(3, "x[].t", "string")])


@given(st.lists(st.sampled_from(["2026-11-20T08:15:31", "1000-01-01T00:00:00", "0999-12-31T23:59:59"]), max_size=4))
def test_times_that_look_usual_only_end_to_end_are_read_one_by_one(values):
    column = Column("x", "timestamp", True)
    texts = [f'"{v}"'.encode() for v in values]
    shifted = [*texts, b'"2026-11-20T08:15:3"', b'"12026-11-20T08:15:31"']
    assert list(built_of(column, *shifted).exact) == [len(values), len(values) + 1]
    built = built_of(column, *texts, None)
    assert [t and format_wire(t) for t in built.array.to_pylist()] == [*values, None]
    assert built.exact == {}


def test_times_in_other_forms_keep_their_text():
    texts = (b'"2026-11-20T08:15:31"', None, b'"2026-11-20T08:15:31Z"', b'"2026-11-20T08:15:31.5"')
    built = built_of(Column("x", "timestamp", True), *texts)
    assert [None if t is None else t.isoformat() for t in built.array.to_pylist()] == [
        "2026-11-20T08:15:31+00:00",
        None,
        "2026-11-20T08:15:31+00:00",
        "2026-11-20T08:15:31.500000+00:00",
    ]
    assert built.exact == {2: b'"2026-11-20T08:15:31Z"', 3: b'"2026-11-20T08:15:31.5"'}
