"""From content blobs' bytes to typed rows, many records at a time.

bytes ── raw records ── by table ── spans of members (scan.py) ── columns (build.py) ── RecordBatch
             │              └─ copies     │ an odd record
             │                            └─ member by member (fit.py) ── columns ── RecordBatch
             └─ broken records ── Reject
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from schemas import scan
from schemas.build import ANY, build_columns, member_names, stored_array
from schemas.columns import arrow_type
from schemas.contract import record_types
from schemas.fit import BrokenRecordError, CarefulRow, fit_record, fit_text, members
from schemas.model import Column, Table, tables
from schemas.scan import Found, Spans
from schemas.split import SPACE, split_array

RawRecord = msgspec.Raw | bytes
"""One record's JSON text as it stood in its blob; bytes where it is broken."""

_BOM = b"\xef\xbb\xbf"
_EMPTY = b"{}"
_KEYS = scan.names_of([("RecordType", ANY), ("Id", b'"'), ("CreationTime", b'"')])
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
    """Rows of one table: its members and `_extra` as `member_schema` orders them, and where each record stood.

    The rows are in the order of their times, but for records that were read member by member, and those that repeat
    the Id of an earlier one with another text, which come last.
    """

    table: str
    rows: pa.RecordBatch
    positions: np.ndarray


@dataclass(slots=True)
class Decoded:
    """Decoded records: as many as there are rows in all batches, copies, and rejects.

    A copy has the very text of an earlier record that has a row; `firsts` tells that record's position, and of all that
    are no copies their own.
    """

    firsts: np.ndarray
    batches: list[Batch] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    drift: Counter[Drift] = field(default_factory=Counter)


_RAW_RECORDS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_RECORD = msgspec.json.Decoder(msgspec.Raw)


class WholeArray(list[RawRecord]):
    """The records of a JSON array, `text`, that is valid throughout."""

    def __init__(self, text: bytes) -> None:
        super().__init__(_RAW_RECORDS.decode(text))
        self.text = text


def split_blob(data: bytes) -> Sequence[RawRecord]:
    """Splits a blob's body into its records, undecoded; gives a `WholeArray` where nothing is wrong with it.

    Raises:
      NotAnArrayError: The body is not a JSON array.
    """
    if data.startswith(_BOM):
        data = data[len(_BOM) :]
    if not data.lstrip(SPACE).startswith(b"["):
        raise NotAnArrayError("it does not begin with '['")
    try:
        return WholeArray(data)
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


class RawRecords:
    """Raw records that are to be decoded together, copied as they come: the bodies that they stood in may go."""

    def __init__(self, raws: Sequence[RawRecord] = ()) -> None:
        self.text = scan.Text()
        self.broken: dict[int, bytes] = {}  # by position: these may not be read
        self._count = 0
        self.add(raws)

    def __len__(self) -> int:
        return self._count

    def add(self, raws: Sequence[RawRecord]) -> None:
        """Adds records after those that are here."""
        if bytes in set(map(type, raws)):
            self.broken |= {n: raw for n, raw in enumerate(raws, self._count) if isinstance(raw, bytes)}
            raws = [_EMPTY if isinstance(raw, bytes) else raw for raw in raws]
        self.text.add(raws, raws.text if isinstance(raws, WholeArray) else b"")
        self._count += len(raws)


def decode_records(raws: RawRecords) -> Decoded:
    """Decodes records, which are used up then; the more at once, the less each costs."""
    records = raws.text.spans()
    keys, odd = scan.first_members(records, _KEYS)
    types, ids, times = (keys.column(n) for n in range(3))
    firsts, repeats = scan.copies(records, ids)
    decoded = Decoded(firsts)
    own = firsts == np.arange(len(raws))
    odd = own & (odd | ~_is_utf8(records))
    usual = own & ~odd
    order = np.lexsort((scan.times(times)[0], repeats))
    for name, rows in _by_table(types.take(order), usual[order]).items():
        positions = order[rows]
        odd[_decode_table(tables()[name], positions, records.take(positions), decoded)] = True
    texts = {n: raws.broken[n] if n in raws.broken else records.value(n) for n in np.flatnonzero(odd).tolist()}
    _decode_odd(texts, decoded)
    for reject in list(decoded.rejects):
        again = np.flatnonzero(~own & (decoded.firsts == reject.position))
        decoded.firsts[again] = again
        decoded.rejects += (replace(reject, position=n) for n in again.tolist())
    decoded.rejects.sort(key=lambda r: r.position)
    raws.text.give_back()
    return decoded


def _by_table(types: Spans, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Tells the positions of each table's records among the marked ones, by their types."""
    found: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    numbers, no_long = scan.longs(types)
    no_long |= ~types.there
    for number in np.unique(numbers[rows & ~no_long]).tolist():
        found[table_for(number)].append(np.flatnonzero(rows & ~no_long & (numbers == number)))
    for row in np.flatnonzero(rows & no_long).tolist():
        is_text = types.marks[row] == ord('"')
        found[table_for(msgspec.json.decode(types.value(row)) if is_text else None)].append(np.array([row]))
    return {name: np.sort(np.concatenate(some)) for name, some in found.items()}


def _decode_table(table: Table, positions: np.ndarray, records: Spans, decoded: Decoded) -> np.ndarray:
    """Decodes the records of one table by columns; gives the positions of those that cannot be."""
    found = scan.members(records, member_names(table.members))
    extras, misfits, unfit = _others(found)
    odd = found.odd | ~_has_keys(table, found.values)
    odd[unfit] = True
    built = build_columns(table.members, found.values.without(odd))
    for column, one in zip(table.members, built, strict=True):
        odd[list(one.unfit)] = True
        misfits += one.misfits
        for row, text in one.exact.items():
            extras[row][_quoted(column.name)] = text.decode()
    odd |= built[table.positions["CreationTime"]].array.is_null().to_numpy(False)
    if not odd.all():
        rows = _batch(table, [b.array for b in built], extras, len(odd))
        decoded.batches.append(Batch(table.name, rows.filter(pa.array(~odd)) if odd.any() else rows, positions[~odd]))
    _count(table, ((positions[row], path, kind) for row, path, kind in misfits if not odd[row]), decoded)
    left: np.ndarray = positions[odd]
    return left


def _others(found: Found) -> tuple[dict[int, dict[str, str]], list[tuple[int, str, str]], list[int]]:
    """Reads the members that the table does not have.

    Returns:
      Their texts by row and quoted name, misfits as `Built` has them, and the rows that have one twice, with an escape
      in its name, or nested too deeply.
    """
    extras: defaultdict[int, dict[str, str]] = defaultdict(dict)
    misfits: list[tuple[int, str, str]] = []
    unfit = []
    for n, row in enumerate(found.rows.tolist()):
        key, text = found.names.value(n).decode(), found.others.value(n).decode()
        try:
            fitted = fit_text(None, key[1:-1], text)
        except RecursionError:
            unfit.append(row)
            continue
        if "\\" in key or key in extras[row]:
            unfit.append(row)
        extras[row][key] = text
        misfits += ((row, *misfit) for misfit in fitted.misfits)
    return extras, misfits, unfit


def _count(table: Table, misfits: Iterable[tuple[int, str, str]], decoded: Decoded) -> None:
    """Counts what the schema does not declare, by the positions of the records, for these and their copies."""
    alike = np.bincount(decoded.firsts)
    for position, path, kind in misfits:
        decoded.drift[Drift(table.name, path, kind)] += int(alike[position])


def _has_keys(table: Table, found: Spans) -> np.ndarray:
    """Marks the records that have an Id and a time."""
    ids, times = (found.column(table.positions[name]) for name in ("Id", "CreationTime"))
    has_keys: np.ndarray = ids.there & times.there & (ids.ends - ids.starts > len('""'))
    return has_keys


def _is_utf8(records: Spans) -> np.ndarray:
    """Marks the records whose text is UTF-8."""
    is_utf8 = np.ones(len(records.starts), np.bool_)
    bounds = np.array([0, len(records.text)], np.int32)
    all_text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bounds), pa.py_buffer(records.text)])
    try:
        all_text.validate(full=True)
    except pa.ArrowInvalid:
        for n in range(len(is_utf8)):
            try:
                records.value(n).decode()
            except UnicodeDecodeError:
                is_utf8[n] = False
    return is_utf8


def _record_type(raw: bytes) -> Any:
    """Reads a record's type, the last where it has several."""
    try:
        return {m.key: m.value for m in members(raw.decode("utf-8", "replace"))}.get("RecordType")
    except BrokenRecordError:
        return None


def table_for(record_type: Any) -> str:
    """Names the table of a `RecordType`: a number, or the text of one; `generic` where no family has it."""
    if isinstance(record_type, str) and record_type.isascii() and record_type.isdigit() and len(record_type) < 10:
        record_type = int(record_type)
    known = record_types().get(record_type) if type(record_type) is int else None
    return known.table if known else "generic"


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


def _decode_odd(raws: Mapping[int, bytes], decoded: Decoded) -> None:
    """Decodes records by their positions, member by member."""
    found: defaultdict[str, dict[int, CarefulRow]] = defaultdict(dict)
    for position, raw in raws.items():
        name = table_for(_record_type(raw))
        try:
            found[name][position] = fit_record(tables()[name], raw)
        except BrokenRecordError as error:
            decoded.rejects.append(Reject(position, error.reason, raw))
    for name, rows in found.items():
        table = tables()[name]
        columns = zip(*(r.values for r in rows.values()), strict=True)
        arrays = [stored_array(c, v) for c, v in zip(table.members, columns, strict=True)]
        extras = {n: r.extra for n, r in enumerate(rows.values()) if r.extra}
        decoded.batches.append(Batch(name, _batch(table, arrays, extras, len(rows)), np.array(list(rows))))
        _count(table, ((position, *misfit) for position, r in rows.items() for misfit in r.drift), decoded)


def _batch(
    table: Table, arrays: Sequence[pa.Array], extras: Mapping[int, Mapping[str, str]], length: int
) -> pa.RecordBatch:
    """Makes a batch of a table's columns; `extras` has texts of members by row and quoted name."""
    texts: list[str | None] = [None] * length
    for row, extra in extras.items():
        texts[row] = "{" + ",".join(f"{key}:{value}" for key, value in extra.items()) + "}"
    return pa.RecordBatch.from_arrays([*arrays, pa.array(texts, pa.string())], schema=member_schema(table.name))


@cache
def member_schema(table: str) -> pa.Schema:
    """Gives the Arrow schema of a decoded batch: the record's members, then `_extra`."""
    columns = (*tables()[table].members, Column("_extra", "json", True))
    return pa.schema([pa.field(c.name, arrow_type(c), nullable=c.nullable) for c in columns])
