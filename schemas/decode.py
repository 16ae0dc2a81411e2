"""From content blobs' bytes to typed rows, many records at a time.

bytes ── raw records ── by table ── compiled decoder ── columns ── RecordBatch
             │              └─ copies     │ refuses a record
             │                            └─ member by member (fit.py) ── columns ── RecordBatch
             └─ broken records ── Reject
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, NamedTuple, Union

import msgspec
import numpy as np
import pyarrow as pa

from schemas.columns import Built, arrow_type, build, count_members
from schemas.contract import record_types
from schemas.fit import BrokenRecordError, CarefulRow, fit_record, members
from schemas.model import Column, Table, tables
from schemas.split import SPACE, split_array

RawRecord = msgspec.Raw | bytes
"""One record's JSON text as it stood in its blob; bytes where it is broken."""

_BOM = b"\xef\xbb\xbf"
_BLOCK = 128
_Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_PYTHON = {"string": str, "long": _Long, "boolean": bool, "double": msgspec.Raw, "timestamp": str, "json": msgspec.Raw}
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class NotAnArrayError(ValueError):
    """A blob's body is not a JSON array of records at all: an error page, say."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot become a row: where it stood in its blob, why, and its exact bytes."""

    position: int
    reason: str
    data: bytes


class Drift(NamedTuple):
    """What was seen that the schemas do not declare: a member's path in a table, and its JSON type or `repeated`."""

    table: str
    member: str
    json_type: str


class Batch(NamedTuple):
    """Rows of one table: its members and `_extra` as `member_schema` orders them, and where each record stood."""

    table: str
    rows: pa.RecordBatch
    positions: np.ndarray


@dataclass(slots=True)
class Decoded:
    """Decoded records: as many as there are rows in all batches, copies, and rejects.

    A copy has the very text of an earlier record that has a row; `copies` tells its position, and that record's.
    """

    batches: list[Batch] = field(default_factory=list)
    copies: dict[int, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    drift: Counter[Drift] = field(default_factory=Counter)


class _Peek(msgspec.Struct, gc=False):
    RecordType: Any = None
    Id: Any = None


_RAW_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_RECORD = msgspec.json.Decoder(msgspec.Raw)
_PEEK = msgspec.json.Decoder(_Peek)


def split_blob(data: bytes) -> Sequence[RawRecord]:
    """Splits a blob's body into its records, undecoded.

    Raises:
      NotAnArrayError: The body is not a JSON array.
    """
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    if not data.lstrip(SPACE).startswith(b"["):
        raise NotAnArrayError("it does not begin with '['")
    try:
        return _RAW_RECORDS.decode(data)
    except _REFUSALS:
        return [raw_record(piece) for piece in split_array(data)]


def whole_records(data: bytes) -> Sequence[RawRecord] | None:
    """Splits a blob's body as `split_blob` does; None where it is no array, or breaks off before the array ends."""
    try:
        raws = split_blob(data)
    except NotAnArrayError:
        return None
    return raws if data.rstrip(SPACE).endswith(b"]") and raws[-1:] != [b""] else None


def raw_record(piece: bytes) -> RawRecord:
    """Gives one record's text as `split_blob` does."""
    try:
        return _RAW_RECORD.decode(piece)
    except _REFUSALS:
        return piece


def decode_records(raws: Sequence[RawRecord]) -> Decoded:
    """Decodes records; the more at once, the less each costs. Positions in what it gives count from 0 in `raws`."""
    decoded = Decoded()
    with _garbage_kept():
        for name, positions in _by_table(raws, decoded.copies).items():
            _decode_table(tables()[name], np.array(positions), [raws[p] for p in positions], decoded)
    broken = {r.position: r for r in decoded.rejects}
    for position, first in list(decoded.copies.items()):
        if first in broken:
            del decoded.copies[position]
            decoded.rejects.append(replace(broken[first], position=position))
    decoded.rejects.sort(key=lambda r: r.position)
    return decoded


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Keeps the collector from walking all records again and again: it doubles the time, and they form no cycles."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _decode_table(table: Table, positions: np.ndarray, raws: Sequence[RawRecord], decoded: Decoded) -> None:
    """Decodes the records of one table: the compiled way all that fit, the careful way the rest."""
    decode = typed_decoder(table.name).decode
    rows: list[Any] = []
    fitting: list[int] = []
    careful: list[int] = []
    for n, raw in enumerate(raws):
        try:
            rows.append(decode(raw))
            fitting.append(n)
        except _REFUSALS:
            careful.append(n)
    while rows:
        batch, odd = _fast_batch(table, rows, [raws[n] for n in fitting])
        if batch is not None:
            decoded.batches.append(Batch(table.name, batch, positions[fitting]))
            break
        careful += [fitting[n] for n in sorted(odd)]
        kept = [n for n in range(len(rows)) if n not in odd]
        rows, fitting = [rows[n] for n in kept], [fitting[n] for n in kept]
    if careful:
        _decode_carefully(table, positions[careful], [bytes(raws[n]) for n in careful], decoded)


def _by_table(raws: Sequence[RawRecord], copies: dict[int, int]) -> dict[str, list[int]]:
    """Tells the positions of each table's records, but for copies, which it adds to `copies`."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    firsts: dict[Any, int] = {}
    for position, raw in enumerate(raws):
        try:
            peek = _PEEK.decode(raw)
        except _REFUSALS:
            peek = _peek_carefully(bytes(raw))
        if type(peek.Id) is str:
            first = firsts.setdefault(peek.Id, position)
            if first != position and raws[first] == raw:
                copies[position] = first
                continue
        found[table_for(peek.RecordType)].append(position)
    return found


def _peek_carefully(raw: bytes) -> _Peek:
    try:
        found = {m.key: m.value for m in members(raw.decode("utf-8", "replace"))}
    except BrokenRecordError:
        return _Peek()
    return _Peek(found.get("RecordType"), found.get("Id"))


def table_for(record_type: Any) -> str:
    """Names the table of a `RecordType`: a number, or the text of one; `generic` where no family has it."""
    if isinstance(record_type, str) and record_type.isascii() and record_type.isdigit() and len(record_type) < 10:
        record_type = int(record_type)
    known = record_types().get(record_type) if type(record_type) is int else None
    return known.table if known else "generic"


@cache
def typed_decoder(table: str) -> msgspec.json.Decoder[Any]:
    """Compiles the decoder of a table's records; it refuses all that does not fit."""
    return msgspec.json.Decoder(_struct(table, tables()[table].members))


def _struct(name: str, columns: Sequence[Column]) -> type[msgspec.Struct]:
    """Compiles columns to a struct that takes exactly what they declare: no null, no other type, no other member.

    Absent is None. A null has its own meaning and goes the careful way, which keeps it apart.
    """
    fields = [(f"f{n}", _python_type(c), *(() if not c.nullable else (None,))) for n, c in enumerate(columns)]
    renamed = {f"f{n}": c.name for n, c in enumerate(columns)}
    return msgspec.defstruct(
        name, fields, rename=renamed, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True
    )


def _python_type(column: Column) -> Any:
    """Gives the type of what the column stores, and of other forms of it that a look at the value tells apart."""
    others = (_PYTHON[other.kind] for other in column.others if other.kind in ("string", "long", "boolean"))
    return Union[_stored_type(column), *others]


def _stored_type(column: Column) -> Any:
    if column.kind == "map":
        pair = [("name", str), ("value", str | None)]
        rename = dict(zip(("name", "value"), column.wire, strict=True))
        return list[msgspec.defstruct("Pair", pair, rename=rename, forbid_unknown_fields=True, gc=False)]  # type: ignore[misc]
    if column.kind == "list":
        item = _PYTHON[column.item]
        return list[item | None] if column.item_nullable else list[item]  # type: ignore[valid-type]
    if column.kind in ("record", "records"):
        record = _struct(column.name, column.fields)
        return record if column.kind == "record" else list[record]  # type: ignore[valid-type]
    return _PYTHON[column.kind]


def _fast_batch(table: Table, rows: Sequence[Any], raws: Sequence[RawRecord]) -> tuple[pa.RecordBatch | None, set[int]]:
    """Builds the columns, or gives no batch and the rows that need the careful way."""
    columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
    built = [build(c, v) for c, v in zip(table.members, columns, strict=True)]
    odd = {row for b in built for row in b.unfit}
    if not odd and "" in columns[0]:
        odd = {row for row, value in enumerate(columns[0]) if value == ""}
    if not odd and sum(b.members for b in built) != sum(count_members(b",".join(some)) for some in _blocks(raws)):
        odd = {n for n, row in enumerate(rows) if _has_dropped(raws[n], row)} or set(range(len(rows)))
    if odd:
        return None, odd
    extras: dict[int, dict[str, str]] = defaultdict(dict)
    for column, one in zip(table.members, built, strict=True):
        for row, text in one.exact.items():
            extras[row][_quoted(column.name)] = text.decode()
    return _batch(table, built, extras, len(rows)), odd


def _has_dropped(raw: RawRecord, row: Any) -> bool:
    """Tells whether the text of a record has members that its decoded row has not."""
    return count_members(bytes(raw)) != count_members(msgspec.json.encode(row))


def _blocks(raws: Sequence[RawRecord]) -> Iterator[Sequence[RawRecord]]:
    """Yields records in blocks that stay in the processor's cache while their text is looked at."""
    return (raws[n : n + _BLOCK] for n in range(0, len(raws), _BLOCK))


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


def _decode_carefully(table: Table, positions: np.ndarray, raws: Sequence[bytes], decoded: Decoded) -> None:
    rows: list[CarefulRow] = []
    kept: list[int] = []
    for position, raw in zip(positions.tolist(), raws, strict=True):
        try:
            rows.append(fit_record(table, raw))
            kept.append(position)
        except BrokenRecordError as error:
            decoded.rejects.append(Reject(position, error.reason, raw))
    alike = Counter(decoded.copies.values())
    for position, row in zip(kept, rows, strict=True):
        for path, kind in row.drift:
            decoded.drift[Drift(table.name, path, kind)] += 1 + alike[position]
    if rows:
        columns = zip(*(r.values for r in rows), strict=True)
        built = [build(c, v) for c, v in zip(table.members, columns, strict=True)]
        extras = {n: r.extra for n, r in enumerate(rows) if r.extra}
        decoded.batches.append(Batch(table.name, _batch(table, built, extras, len(rows)), np.array(kept)))


def _batch(table: Table, built: Sequence[Built], extras: dict[int, dict[str, str]], length: int) -> pa.RecordBatch:
    texts: list[str | None] = [None] * length
    for row, extra in extras.items():
        texts[row] = "{" + ",".join(f"{key}:{value}" for key, value in extra.items()) + "}"
    arrays = [*(b.array for b in built), pa.array(texts, pa.string())]
    return pa.RecordBatch.from_arrays(arrays, schema=member_schema(table.name))


@cache
def member_schema(table: str) -> pa.Schema:
    """Gives the Arrow schema of a decoded batch: the record's members, then `_extra`."""
    columns = (*tables()[table].members, Column("_extra", "json", True))
    return pa.schema([pa.field(c.name, arrow_type(c), nullable=c.nullable) for c in columns])
