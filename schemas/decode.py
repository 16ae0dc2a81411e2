"""From a content blob's bytes to typed rows, a whole blob at a time.

bytes ── raw records ── by table ── compiled decoder ── columns ── RecordBatch
             │                            │ refuses a record
             │                            └─ member by member (fit.py) ── columns ── RecordBatch
             └─ broken records ── Reject
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from re import DOTALL
from re import compile as regex
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from schemas.columns import Built, UnfitError, arrow_type, build, count_members
from schemas.contract import record_types
from schemas.fit import BrokenRecordError, CarefulRow, fit_record, members
from schemas.model import Column, Table, tables

CHUNK_RECORDS = 8192
_BOM = b"\xef\xbb\xbf"
_Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_PYTHON = {"string": str, "long": _Long, "boolean": bool, "double": float, "timestamp": str, "json": msgspec.Raw}
_TOKEN = regex(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', DOTALL)


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


@dataclass(slots=True)
class Decoded:
    """A piece of a decoded blob: `records` = rows of all batches + rejects.

    Batches hold a table's members and `_extra`, in the order of `member_schema`.
    """

    records: int = 0
    batches: list[tuple[str, pa.RecordBatch]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    drift: Counter[Drift] = field(default_factory=Counter)


class _Peek(msgspec.Struct):
    RecordType: Any = None


_RAW_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])
_PEEKS = msgspec.json.Decoder(list[_Peek])
_PEEK = msgspec.json.Decoder(_Peek)


def decode_blob(data: bytes) -> Iterator[Decoded]:
    """Decodes a blob's body in pieces of at most `CHUNK_RECORDS` records.

    Raises:
      NotAnArrayError: The body is not a JSON array.
    """
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    if not data.lstrip(b" \t\r\n").startswith(b"["):
        raise NotAnArrayError("the body does not begin with '['")
    try:
        raws: Sequence[Any] = _RAW_RECORDS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raws = list(split_array(data))
    for start in range(0, len(raws), CHUNK_RECORDS):
        yield _decode_records(start, raws[start : start + CHUNK_RECORDS])


def split_array(data: bytes) -> Iterator[bytes]:
    """Splits a damaged JSON array at the commas between its records; what follows the last whole record comes last."""
    depth, start = 0, 0
    for token in _TOKEN.finditer(data):
        mark = token[0]
        if mark == b'"':
            break  # a string without an end: the rest is one piece
        if mark in b"[{":
            depth += 1
            if depth == 1:
                start = token.end()
        elif (mark == b"," and depth == 1) or (mark in b"]}" and depth <= 1):
            piece = data[start : token.start()].strip(b" \t\r\n")
            if piece or mark == b",":
                yield piece
            start, depth = token.end(), 1 if mark == b"," else 0
        elif mark in b"]}":
            depth -= 1
    if rest := data[start:].strip(b" \t\r\n"):
        yield rest


def _decode_records(start: int, raws: Sequence[Any]) -> Decoded:
    decoded = Decoded(records=len(raws))
    for name, positions in _by_table(raws).items():
        table = tables()[name]
        chosen = [raws[p] for p in positions]
        rows = _fast_rows(table, chosen)
        batch = None if None in rows else _fast_batch(table, rows, chosen)
        if batch is not None:
            decoded.batches.append((name, batch))
            continue
        # One odd record must not slow its whole blob down: try the rest of its table again without it.
        fast = [n for n, row in enumerate(rows) if row is not None]
        if len(fast) < len(rows) and fast:
            batch = _fast_batch(table, [rows[n] for n in fast], [chosen[n] for n in fast])
        if batch is None:
            fast = []
        else:
            decoded.batches.append((name, batch))
        careful = sorted(set(range(len(rows))) - set(fast))
        _decode_carefully(table, [(start + positions[n], bytes(chosen[n])) for n in careful], decoded)
    decoded.rejects.sort(key=lambda r: r.position)
    return decoded


def _by_table(raws: Sequence[Any]) -> dict[str, list[int]]:
    joined = b"[" + b",".join(raws) + b"]"
    try:
        kinds = [p.RecordType for p in _PEEKS.decode(joined)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kinds = []
    if len(kinds) != len(raws):
        kinds = [_peek(bytes(r)) for r in raws]
    found: defaultdict[str, list[int]] = defaultdict(list)
    for position, kind in enumerate(kinds):
        found[table_for(kind)].append(position)
    return found


def _peek(raw: bytes) -> Any:
    try:
        return _PEEK.decode(raw).RecordType
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return {m.key: m.value for m in members(raw.decode("utf-8", "replace"))}.get("RecordType")
    except BrokenRecordError:
        return None


def table_for(record_type: Any) -> str:
    """Names the table of a `RecordType`: a number, or the text of one; `generic` where no family has it."""
    if isinstance(record_type, str) and record_type.isascii() and record_type.isdigit() and len(record_type) < 10:
        record_type = int(record_type)
    known = record_types().get(record_type) if isinstance(record_type, int) else None
    return known.table if known else "generic"


@cache
def _decoders(table: str) -> tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]:
    record = _struct(table, tables()[table].members)
    return msgspec.json.Decoder(list[record]), msgspec.json.Decoder(record)  # type: ignore[valid-type]


def _struct(name: str, columns: Sequence[Column]) -> type[msgspec.Struct]:
    """Compiles columns to a struct that takes exactly what they declare: no null, no other type, no other member.

    Absent is None. A null has its own meaning and goes the careful way, which keeps it apart.
    """
    fields = [(f"f{n}", _python_type(c), *(() if not c.nullable else (None,))) for n, c in enumerate(columns)]
    renamed = {f"f{n}": c.name for n, c in enumerate(columns)}
    return msgspec.defstruct(name, fields, rename=renamed, forbid_unknown_fields=True, gc=False, kw_only=True)


def _python_type(column: Column) -> Any:
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


def _fast_rows(table: Table, raws: Sequence[Any]) -> Sequence[Any]:
    """Decodes records by the compiled decoder; None stands for one that it refuses."""
    whole, single = _decoders(table.name)
    try:
        rows: Sequence[Any] = whole.decode(b"[" + b",".join(raws) + b"]")
        if len(rows) == len(raws):
            return rows
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return [_or_none(single, bytes(raw)) for raw in raws]


def _or_none(decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _fast_batch(table: Table, rows: Sequence[Any], raws: Sequence[Any]) -> pa.RecordBatch | None:
    """Builds the columns, or gives None where a record needs the careful way."""
    columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
    try:
        built = [build(c, v) for c, v in zip(table.members, columns, strict=True)]
    except UnfitError:
        return None
    if sum(b.members for b in built) != count_members(b",".join(raws)) or "" in columns[0]:
        return None
    extras: dict[int, dict[str, str]] = defaultdict(dict)
    for column, one in zip(table.members, built, strict=True):
        for row, text in one.exact.items():
            extras[row][_quoted(column.name)] = text.decode()
    return _batch(table, built, extras, len(rows))


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


def _decode_carefully(table: Table, records: Sequence[tuple[int, bytes]], decoded: Decoded) -> None:
    rows: list[CarefulRow] = []
    for position, raw in records:
        try:
            rows.append(fit_record(table, raw))
        except BrokenRecordError as error:
            decoded.rejects.append(Reject(position, error.reason, raw))
    decoded.drift.update(Drift(table.name, path, kind) for row in rows for path, kind in row.drift)
    if rows:
        columns = zip(*(r.values for r in rows), strict=True)
        built = [build(c, v) for c, v in zip(table.members, columns, strict=True)]
        extras = {n: r.extra for n, r in enumerate(rows) if r.extra}
        decoded.batches.append((table.name, _batch(table, built, extras, len(rows))))


def _batch(table: Table, built: Sequence[Built], extras: dict[int, dict[str, str]], length: int) -> pa.RecordBatch:
    texts = np.full(length, None, object)
    for row, extra in extras.items():
        texts[row] = "{" + ",".join(f"{key}:{value}" for key, value in extra.items()) + "}"
    arrays = [*(b.array for b in built), pa.array(texts, pa.string())]
    return pa.RecordBatch.from_arrays(arrays, schema=member_schema(table.name))


@cache
def member_schema(table: str) -> pa.Schema:
    """Gives the Arrow schema of a decoded batch: the record's members, then `_extra`."""
    columns = (*tables()[table].members, Column("_extra", "json", True))
    return pa.schema([pa.field(c.name, arrow_type(c), nullable=c.nullable) for c in columns])
