"""Records for tests of the schemas: made from the Avro schemas, straight or drifted, and what decoding made of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from schemas import scan
from schemas.build import Built, build_columns, member_names
from schemas.contract import record_types
from schemas.decode import Drift, RawRecords, Reject, decode_records, split_blob
from schemas.model import Column, tables
from schemas.rebuild import rebuild

TIME = "2026-11-20T08:15:31"
HUGE = 10**4000


@dataclass
class Seen:
    """What decoding made of a blob: rows by their position, with their table, rejects, drift."""

    rows: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    drift: Counter[Drift] = field(default_factory=Counter)
    records: int = 0

    def rebuilt(self) -> list[Any]:
        return [canonical(loads(rebuild(tables()[name], row))) for _, (name, row) in sorted(self.rows.items())]


def decode(blob: bytes) -> Seen:
    """Decodes a blob and reads its rows back from Parquet."""
    raws = split_blob(blob)
    decoded = decode_records(RawRecords(raws))
    seen = Seen(rejects=decoded.rejects, drift=decoded.drift, records=len(raws))
    for name, batch, positions in decoded.batches:
        rows = through_parquet(pa.Table.from_batches([batch]))
        seen.rows |= {int(p): (name, row) for p, row in zip(positions, rows, strict=True)}
    firsts = enumerate(decoded.firsts.tolist())
    seen.rows |= {position: seen.rows[first] for position, first in firsts if position != first}
    return seen


def through_parquet(table: pa.Table) -> list[dict[str, Any]]:
    file = BytesIO()
    pq.write_table(table, file)
    read = pq.read_table(BytesIO(file.getvalue()), schema=table.schema)
    assert read.schema.equals(table.schema)
    return read.to_pylist(maps_as_pydicts="strict")


def built_of(column: Column, *values: bytes | None) -> Built:
    """Builds a column of JSON texts, None where a record does not have the member."""
    named = [b"{}" if v is None else b'{"' + column.name.encode() + b'":' + v + b"}" for v in values]
    found = scan.members(scan.joined(named), member_names((column,)))
    assert not found.odd.any()
    (built,) = build_columns([column], found.values)
    return built


def loads(text: str | bytes) -> Any:
    """Reads JSON and keeps numbers exact, but for the digits of integers beyond 4000 of them."""
    return json.loads(text, parse_int=lambda s: int(s) if len(s) < 4000 else s, parse_float=Decimal)


def canonical(value: Any) -> Any:
    """Keeps true apart from 1, which Python takes for the same."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return [canonical(v) for v in value]
    return {k: canonical(v) for k, v in value.items()} if isinstance(value, dict) else value


def record(**members: Any) -> dict[str, Any]:
    return {"Id": "one", "CreationTime": TIME, "RecordType": 1} | members


def text_of(**members: str) -> bytes:
    """A record with members given as JSON text."""
    return json.dumps(record())[:-1].encode() + b"".join(f',"{k}":{v}'.encode() for k, v in members.items()) + b"}"


def blob(*records: bytes | dict[str, Any]) -> bytes:
    return b"[" + b",".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records) + b"]"


@cache
def type_of(table: str) -> int:
    """Gives a record type that leads to a table."""
    return next(t.value for t in record_types().values() if t.table == table)


TABLES = sorted(tables())
anything_written = st.characters(exclude_categories=())  # with halves of surrogate pairs
texts = st.text(anything_written, max_size=8) | st.sampled_from(
    ["", ":", '":', '\\":', " :", "\\", "é\u2028\0", "\ud800"]
)
integers = st.integers(-3, 9) | st.sampled_from([2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**53 + 1, 10**30, HUGE])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 1e300, 5e-324])
scalars = st.none() | st.booleans() | integers | floats | texts
times = st.sampled_from(
    [TIME, f"{TIME}Z", f"{TIME}.1234567", f"{TIME}.5+05:30", "0001-01-01T00:00:00", "2026-02-30T00:00:00", "9999-12-31"]
)
anything = st.recursive(
    scalars | times, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def pairs(column: Column, content: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    name, value = column.wire
    exact = st.fixed_dictionaries({name: texts, value: content})
    return st.lists(
        exact | st.fixed_dictionaries({name: texts}, optional={value: content, "More": scalars}), max_size=3
    )


def fields(column: Column, content: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    inner = {f.name: straight(f) if content is None else straight(f) | content for f in column.fields}
    return st.fixed_dictionaries({}, optional=inner)


@cache
def straight(column: Column) -> st.SearchStrategy[Any]:
    """Values that fit a column, as they stand on the wire."""
    legible = st.text(max_size=6)
    by_kind = {
        "string": lambda: legible,
        "long": lambda: st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans,
        "double": lambda: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1),
        "timestamp": lambda: st.datetimes().map(lambda t: t.isoformat(timespec="seconds")),
        "json": lambda: st.dictionaries(legible, legible | st.booleans(), max_size=2) | st.lists(legible, max_size=2),
        "map": lambda: st.dictionaries(legible, legible | st.none(), max_size=3).map(
            lambda d: [dict(zip(column.wire, pair, strict=True)) for pair in d.items()]
        ),
        "list": lambda: st.lists(straight(Column("", column.item, False)), max_size=3),
        "record": lambda: fields(column),
        "records": lambda: st.lists(fields(column), max_size=3),
    }
    return by_kind[column.kind]()


@cache
def crooked(column: Column) -> st.SearchStrategy[Any]:
    """Values near to what a column takes."""
    by_kind = {
        "map": lambda: pairs(column, scalars | st.lists(scalars, max_size=2)),
        "list": lambda: st.lists(straight(Column("", column.item, False)) | scalars, max_size=3),
        "record": lambda: fields(column, anything) | st.dictionaries(texts, scalars, max_size=2),
        "records": lambda: st.lists(fields(column, anything) | scalars, max_size=3),
        "timestamp": lambda: times,
        "double": lambda: integers,
        "long": lambda: integers | integers.map(str),
    }
    return by_kind[column.kind]() | anything if column.kind in by_kind else anything


def values(column: Column) -> st.SearchStrategy[Any]:
    return st.one_of(straight(column), crooked(column), *(straight(o) for o in column.others))


def members(
    draw: st.DrawFn, table: str, value: Any, required: Sequence[str] = ("Id", "CreationTime", "RecordType")
) -> dict[str, Any]:
    columns = [c for c in tables()[table].members if c.name not in required]
    chosen = draw(st.lists(st.sampled_from(columns), max_size=5, unique_by=lambda c: c.name))
    return {c.name: draw(value(c)) for c in chosen}


@st.composite
def straight_records(draw: st.DrawFn, table: str) -> dict[str, Any]:
    """Records that fit their schema in every way."""
    return record(RecordType=type_of(table)) | members(draw, table, straight)


@st.composite
def drifted_records(draw: st.DrawFn, table: str) -> dict[str, Any]:
    """Records with an Id and a time, and else with whatever JSON there is."""
    names = texts | st.sampled_from(["_extra", "_content_id", "id", 'quo"te', "a:"])
    unknown = draw(st.dictionaries(names, anything, max_size=2))
    drifted = unknown | record(RecordType=type_of(table)) | members(draw, table, values)
    return dict(draw(st.permutations(list(drifted.items()))))


class _Spelling:
    """Ways to write the same JSON."""

    def __init__(self, ascii_only: bool, indent: int | None, separators: tuple[str, str]) -> None:
        self.options = {"ensure_ascii": ascii_only, "indent": indent, "separators": separators}

    def __call__(self, value: Any) -> bytes:
        try:
            return _dumps(value, self.options).encode()
        except UnicodeEncodeError:
            return _dumps(value, self.options | {"ensure_ascii": True}).encode()


def _dumps(value: Any, options: dict[str, Any]) -> str:
    return json.dumps(value, **options)


spellings = st.builds(
    _Spelling, st.booleans(), st.sampled_from([None, 2]), st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])
)
