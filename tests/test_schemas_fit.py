"""What a column accepts: fastavro judges by the Avro schema, and the decoder must agree, accepting and refusing."""

import json
from collections import Counter
from functools import cache
from typing import Any
from unittest.mock import patch

import fastavro
import pyarrow as pa
import pytest
from fastavro.validation import validate
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import decode as decoding
from schemas.build import stored_array
from schemas.columns import arrow_schema
from schemas.decode import Drift, RawRecords, decode_records, split_blob
from schemas.fit import Fitted, fit, fit_record, members
from schemas.model import Column, table_of, tables
from schemas.times import parse_wire
from tests.schema_records import (
    HUGE,
    TABLES,
    TIME,
    blob,
    built_of,
    canonical,
    decode,
    drifted_records,
    loads,
    record,
    spellings,
    straight_records,
    text_of,
    through_parquet,
    type_of,
    values,
)

NO_DATUM = object()
ODD_VALUES = [
    None, True, False, 0, 1, -1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**25, 10**400, HUGE,
    0.0, 1.0, -0.5, 1e300, "", "0", "12", "true", "text", "é\0\U0001f600", "\ud800",
    TIME, f"{TIME}Z", f"{TIME}.5", f"{TIME}+24:00", "2026-11-20", [], [None], ["a"], ["a", None],
    [1], [1, 2**63], [1.5], [True], [[]], ["a", {}], [{}], [[{}]], [{}, None], [{}, 1], {}, {"-type": 1},
    {"a": {"b": [1]}}, {"ID": "a"}, {"ID": 1}, {"Type": 2**63}, {"Name": "a", "Value": "b"},
    [{"Name": "a", "Value": "b"}], [{"Key": "a", "Value": "b"}], [{"Name": "a", "Value": None}],
    [{"Name": "a"}], [{"Value": "b"}], [{"Name": None, "Value": "b"}], [{"Name": 1, "Value": "b"}],
    [{"Name": 10**30, "Value": "b"}], [{"Name": "a", "Value": 1}], [{"Name": "a", "Value": {}}],
    [{"Name": "a", "Value": "b", "More": 1}], [{"Name": "a", "Value": "b"}, 1],
    [{"Name": "a", "Value": 1}, {"Name": "a", "Value": "b"}], [{"NewValue": "x", "OldValue": None}],
    [{"ID": "a", "Type": 0}], [{"ID": "a", "Type": "0"}], [{"ID": "a", "Other": 0}],
    {"AADSessionId": None}, {"AADSessionId": 5}, {"AADSessionId": "x", "b": 1},
]  # fmt: skip


@cache
def avro_types(table: str) -> dict[str, Any]:
    expanded = fastavro.schema.expand_schema(tables()[table].avro)
    return {f["name"]: f["type"] for f in expanded["fields"]}


def accepts(avro: Any, value: Any) -> bool:
    """Asks fastavro whether the datum that stands on the wire as `value` is one of the schema."""
    branches = avro if isinstance(avro, list) else [avro]
    return any(validate(to_datum(b, value), b, strict=True, raise_errors=False) for b in branches)


def to_datum(avro: Any, value: Any) -> Any:
    """Reads the wire form of one Avro type; what has another form is no datum of any type."""
    kind = avro["type"] if isinstance(avro, dict) else avro
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    if logical == "timestamp-micros":
        return (isinstance(value, str) and parse_wire(value)) or NO_DATUM
    if logical == "json":
        return json.dumps(value) if isinstance(value, (dict, list)) else NO_DATUM
    if kind == "map":
        name, content = avro["wire"]
        exact = isinstance(value, list) and all(isinstance(e, dict) and set(e) == {name, content} for e in value)
        if not exact or not all(isinstance(e[name], str) for e in value):
            return NO_DATUM
        # A name may stand twice on the wire; all its values count.
        return {f"{n} {e[name]}": e[content] for n, e in enumerate(value)}
    if kind == "array" and isinstance(value, list):
        return [v if accepts(avro["items"], v) else NO_DATUM for v in value]
    if kind == "record" and isinstance(value, dict):
        known = {f["name"] for f in avro["fields"]}
        return {} if not known else value if known >= set(value) else NO_DATUM
    return value


def fitted(column: Column, value: Any) -> Fitted:
    text = json.dumps({"x": value}) if value is not HUGE else f'{{"x":1{"0" * 5000}}}'
    (member,) = members(text)
    return fit(column, member.value, member.raw)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_accepts_what_its_avro_type_does(table):
    for column in tables()[table].members:
        avro = avro_types(table)[column.name]
        for value in ODD_VALUES:
            agree = accepts(avro, value) == (fitted(column, value).misfits == ())
            assert agree, f"{column.name}: {str(value)[:50]}"


def distinct_columns() -> list[tuple[str, Column]]:
    """Gives one column of each shape, with its table."""
    found: dict[Any, tuple[str, Column]] = {}
    for table in tables().values():
        for column in table.members:
            others = tuple((o.kind, o.item, len(o.fields)) for o in column.others)
            shape = (column.kind, column.nullable, others, column.item, tuple(f.kind for f in column.fields))
            found.setdefault(shape, (table.name, column))
    return list(found.values())


@pytest.mark.parametrize(("table", "column"), distinct_columns(), ids=lambda p: p if isinstance(p, str) else p.name)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_columns_of_every_shape_accept_what_their_avro_types_do(table, column, data):
    value = data.draw(values(column))
    assert accepts(avro_types(table)[column.name], value) == (fitted(column, value).misfits == ())


def careful_row(table: str, raw: bytes) -> tuple[dict[str, Any], list[Drift]]:
    row = fit_record(tables()[table], raw)
    columns = tables()[table].members
    arrays = {c.name: stored_array(c, [v]) for c, v in zip(columns, row.values, strict=True)}
    (read,) = through_parquet(pa.table(arrays))
    extra = "{" + ",".join(f"{k}:{v}" for k, v in row.extra.items()) + "}" if row.extra else None
    return read | {"_extra": extra}, [Drift(table, path, kind) for path, kind in row.drift]


def as_values(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """Reads the columns that hold JSON text, as its spelling does not matter."""
    kinds = {c.name: c.kind for c in tables()[table].members} | {"_extra": "json"}
    return {k: canonical(loads(v)) if v is not None and kinds[k] == "json" else v for k, v in row.items()}


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_fast_way_and_careful_way_give_the_same_row_and_drift(table, data):
    records = st.one_of(straight_records(table), drifted_records(table))
    raw = data.draw(spellings)(data.draw(records))
    seen = decode(blob(raw))
    row, drift = careful_row(table, raw)
    assert seen.records == 1
    assert seen.rows[0][0] == table
    assert as_values(table, seen.rows[0][1]) == as_values(table, row)
    assert sorted(seen.drift.elements()) == sorted(drift)


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_records_that_fit_never_go_the_careful_way(table, data):
    records = data.draw(st.lists(straight_records(table), min_size=1, max_size=3))
    spell = data.draw(spellings)
    with patch.object(decoding, "fit_record", side_effect=AssertionError):
        decoded = decode_records(RawRecords(split_blob(spell(records))))
    ((name, rows, positions),) = decoded.batches
    assert name == table
    assert positions.tolist() == [n for n, first in enumerate(decoded.firsts) if n == first]
    assert not decoded.drift
    assert rows["_extra"].null_count == len(rows)


def test_one_odd_record_of_many_goes_the_careful_way_alone():
    records = [record(Id=str(n)) for n in range(1000)]
    records[500] = record(CreationTime=f"{TIME}+00:00", Version="7", More=1)
    records[700] = text_of(Version="1").replace(b'"Version":1', b'"Version":1,"Version":1')
    with patch.object(decoding, "fit_record", side_effect=fit_record) as careful:
        seen = decode(blob(*records))
    assert len(seen.rows) == 1000
    assert careful.call_count == 1  # a member that stands twice


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_rows_read_back_from_parquet_are_data_of_the_avro_schema(table, data):
    records = st.lists(st.one_of(straight_records(table), drifted_records(table)), min_size=1, max_size=4)
    decoded = decode_records(RawRecords(split_blob(data.draw(spellings)(data.draw(records)))))
    ours = {"_content_id": "blob", "_content_type": "Audit.General", "_content_created": 0}
    for _, rows, _ in decoded.batches:
        arrays = {
            f.name: pa.array([ours[f.name]] * len(rows), f.type)
            for f in arrow_schema(tables()[table])
            if f.name in ours
        }
        columns = arrays | {n: rows[n] for n in rows.schema.names}
        schema = arrow_schema(tables()[table])
        for row in through_parquet(pa.table([columns[n] for n in schema.names], schema=schema)):
            assert validate(row, tables()[table].avro, strict=True)


def test_drift_is_counted_by_table_path_and_json_type():
    type_9 = type_of("aad_logon")
    seen = decode(
        blob(
            record(RecordType=type_9, New=1, UserType="0", Actor=[{"ID": 5, "Type": None, "Kind": 1}]),
            record(RecordType=type_9, New="x", UserType=0.5, Actor="me", CreationTime=f"{TIME}Z"),
            record(RecordType=type_9, DeviceProperties=[{"Name": "OS", "Value": 1}, {"Name": "OS"}], Client=None),
            record(
                RecordType=type_9, AppAccessContext={"New": [], "APIId": False}, AssociatedAdminUnits=["a", None, 3]
            ),
            record(RecordType="9", ModifiedProperties={"any": "object"}, ResultStatus=1),
            record(RecordType=10**9, Deep={"a": [{}]}),
            text_of(RecordType="9", Client='"a","Client":"b"', New='{"a":1,"a":2}'),
        )
    )
    assert not seen.rejects
    assert {tuple(k): n for k, n in seen.drift.items()} == {
        ("aad_logon", "New", "integer"): 1,
        ("aad_logon", "New", "string"): 1,
        ("aad_logon", "New", "object"): 1,
        ("aad_logon", "New", "repeated"): 1,
        ("aad_logon", "RecordType", "repeated"): 1,
        ("aad_logon", "Client", "repeated"): 1,
        ("aad_logon", "UserType", "string"): 1,
        ("aad_logon", "UserType", "number"): 1,
        ("aad_logon", "Actor", "string"): 1,
        ("aad_logon", "Actor[].ID", "integer"): 1,
        ("aad_logon", "Actor[].Kind", "integer"): 1,
        ("aad_logon", "DeviceProperties[].Value", "integer"): 1,
        ("aad_logon", "DeviceProperties[]", "object"): 1,
        ("aad_logon", "AppAccessContext.New", "array"): 1,
        ("aad_logon", "AppAccessContext.APIId", "boolean"): 1,
        ("aad_logon", "AssociatedAdminUnits[]", "null"): 1,
        ("aad_logon", "AssociatedAdminUnits[]", "integer"): 1,
        ("aad_logon", "RecordType", "string"): 1,
        ("generic", "Deep", "object"): 1,
    }


@pytest.mark.parametrize(
    ("member", "value", "column"),
    [
        ("UserType", "2", 2),
        ("UserType", "-", None),
        ("UserType", "9" * 19, None),
        ("UserId", 5, "5"),
        ("UserId", {"a": [1]}, '{"a": [1]}'),
        ("UserId", "a\ud800b", "a?b"),
        ("ExternalAccess", "True", True),
        ("ExternalAccess", "maybe", None),
        ("CreationTime", f"{TIME}.25+01:00", parse_wire(f"{TIME}.25+01:00")),
        ("AssociatedAdminUnits", ["a", None, 3], ["a", "3"]),
        ("Parameters", [{"Name": "n", "Value": [1]}, {"Name": "n", "Value": 10**30}], {"n": str(10**30)}),
        ("Parameters", "text", None),
    ],
)
def test_column_of_a_drifted_member_holds_what_can_be_searched(member, value, column):
    seen = decode(blob(record(RecordType=1, **{member: value})))
    ((table, row),) = seen.rows.values()
    assert table == "exchange_admin"
    assert row[member] == column
    assert member in json.loads(row["_extra"])


@pytest.mark.parametrize(
    ("value", "table"),
    [
        (1, "exchange_admin"),
        ("1", "exchange_admin"),
        (True, "generic"),
        (1.0, "generic"),
        (None, "generic"),
        ("x", "generic"),
        (10**30, "generic"),
        ([1], "generic"),
    ],
)
def test_record_type_leads_to_the_table_also_as_text(value, table):
    assert decode(blob(record(RecordType=value))).rows[0][0] == table


def test_record_type_of_another_kind_does_not_send_the_record_the_careful_way():
    records = [record(RecordType=value, Id=str(value)) for value in ("1", "\u0661", 1.0, None, [1], {})]
    with patch.object(decoding, "fit_record", side_effect=AssertionError):
        seen = decode(blob(*records))
    assert [seen.rows[n][0] for n in range(len(records))] == ["exchange_admin", *["generic"] * 5]


def test_column_of_doubles_takes_every_number():
    table = table_of({"type": "record", "name": "t", "doc": "", "fields": [{"name": "x", "type": ["null", "double"]}]})
    (column,) = table.columns
    exact = {
        "1": 1.0,
        "-0.0": -0.0,
        "1.50": 1.5,
        "9007199254740993": None,
        "1e400": None,
        "0.10000000000000000001": None,
    }
    for text, number in exact.items():
        (member,) = members(f'{{"x":{text}}}')
        assert fit(column, member.value, member.raw).misfits == ()
        assert fit(column, member.value, member.raw).exact == (number is not None)
        built = built_of(column, text.encode())
        assert built.array.to_pylist() == [fit(column, member.value, member.raw).stored]
        assert built.exact == ({0: text.encode()} if number is None else {})
        assert (list(built.misfits), list(built.unfit)) == ([], [])


def test_compiling_refuses_types_that_no_table_may_have():
    field = {"name": "x", "type": ["null", "bytes"]}
    with pytest.raises(ValueError, match="'x' has the unsupported Avro type 'bytes'"):
        table_of({"type": "record", "name": "t", "doc": "", "fields": [field]})


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_record_given_again_counts_as_it_did_the_first_time_and_is_decoded_once(data):
    records = st.one_of(*(drifted_records(t) for t in TABLES), st.just({"RecordType": 1}))
    once = [r | {"Id": str(n)} for n, r in enumerate(data.draw(st.lists(records, max_size=4)))]
    apart = [decode(blob(r)) for r in once]
    with patch.object(decoding, "fit_record", side_effect=fit_record) as careful:
        together = decode(blob(*once, *once))
    broken = sum(isinstance(raw, bytes) for raw in split_blob(blob(*once)))
    assert careful.call_count <= len(once) + broken  # of what is broken no copies are looked for
    assert together.rows == {n: rows for n, rows in enumerate(2 * [s.rows.get(0) for s in apart]) if rows}
    assert [r.data for r in together.rejects] == 2 * [r.data for s in apart for r in s.rejects]
    assert together.drift == sum(2 * [s.drift for s in apart], Counter())
