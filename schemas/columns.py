"""Arrow columns from decoded rows, a whole column at a time.

Each builder takes one column's values (a sequence with None for absent) and gives a `Built`: the array, how many JSON
members it stands for, and the members of single rows whose exact text the array cannot give back.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, pairwise
from re import compile as regex
from types import NoneType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.fit import fit, is_exact
from schemas.model import Column, Table
from schemas.times import format_wire, parse_wire, to_micros

TIMESTAMP = pa.timestamp("us", "UTC")
_SCALARS = {
    "string": pa.string(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "timestamp": TIMESTAMP,
    "json": pa.string(),
}
_PYTHON = {"string": str, "long": int, "boolean": bool, "map": list, "list": list, "records": list}
_NAME_END = regex(rb'[0-9A-Za-z_]"[ \t\r\n]*+:')
_ENDS_NAME = np.array([chr(n).isalnum() or chr(n) == "_" for n in range(128)] + [False] * 128)
_EARLIEST = np.frombuffer(b"1000-00-00T00:00:00", np.uint8)
_LATEST = np.frombuffer(b"9999-99-99T99:99:99", np.uint8)


class Built(NamedTuple):
    """A built column.

    `members` counts the JSON members that the array stands for, `exact` holds exact JSON texts by row where they are
    needed, `unfit` the rows whose values have the right JSON type but cannot be held by the column.
    """

    array: pa.Array
    members: int
    exact: dict[int, bytes] = {}  # noqa: RUF012 - never changed
    unfit: Sequence[int] = ()


@cache
def arrow_type(column: Column) -> pa.DataType:
    """Gives the Arrow type of a column."""
    if column.kind == "map":
        return pa.map_(pa.string(), pa.string())
    if column.kind == "list":
        return pa.list_(_SCALARS[column.item])
    if column.kind == "record":
        return _struct_type(column)
    if column.kind == "records":
        return pa.list_(_struct_type(column))
    return _SCALARS[column.kind]


def _struct_type(column: Column) -> pa.StructType:
    return pa.struct([pa.field(f.name, arrow_type(f)) for f in column.fields])


def arrow_schema(table: Table) -> pa.Schema:
    """Gives the Arrow schema of a table's files."""
    return pa.schema([pa.field(c.name, arrow_type(c), nullable=c.nullable) for c in table.columns])


def build(column: Column, values: Sequence[Any]) -> Built:
    """Builds a column."""
    if not any(values) and values.count(None) == len(values):
        return Built(pa.nulls(len(values), arrow_type(column)), 0)
    if column.others and not set(map(type, values)) <= {NoneType, _PYTHON[column.kind]}:
        return _build_mixed(column, values)
    return _BUILD[column.kind](column, values)


def _build_mixed(column: Column, values: Sequence[Any]) -> Built:
    """Builds a column with values of other declared forms: their text is kept, and of their content what can be."""
    own = _PYTHON[column.kind]
    exact = {n: msgspec.json.encode(v) for n, v in enumerate(values) if type(v) not in (own, NoneType)}
    stored = list(values)
    for n, text in exact.items():
        stored[n] = fit(column, values[n], text.decode()).stored
    built = build(column, stored)
    untold = sum(stored[n] is None for n in exact)
    return built._replace(members=built.members + untold, exact=built.exact | exact)


def _first(values: Sequence[Any]) -> Any:
    return next(v for v in values if v is not None)


def _of(array: pa.Array, inner: int = 0) -> Built:
    """Counts a member for each value, and those inside of them."""
    return Built(array, len(array) - int(array.null_count) + inner)


def _unfit(column: Column, values: Sequence[Any], rows: Sequence[int]) -> Built:
    return Built(pa.nulls(len(values), arrow_type(column)), 0, unfit=rows)


def _build_scalar(column: Column, values: Sequence[Any]) -> Built:
    return _of(pa.array(values, arrow_type(column)))


def _build_double(column: Column, values: Sequence[Any]) -> Built:
    """Takes numbers (the careful way) or their JSON text (the compiled decoder)."""
    numbers = [_number(v) if isinstance(v, msgspec.Raw) else v for v in values]
    if unfit := [n for n, v in enumerate(values) if v is not None and numbers[n] is None]:
        return _unfit(column, values, unfit)
    return _build_scalar(column, numbers)


def _number(raw: msgspec.Raw) -> float | None:
    """Reads a number; None where it is none, or has digits that no double gives back."""
    try:
        text = bytes(raw).decode()
        number = float(text)
    except ValueError:
        return None
    return number if is_exact(number, text) else None


def _build_timestamp(column: Column, values: Sequence[Any]) -> Built:
    """Takes microseconds (the careful way) or the strings of the wire (the compiled decoder)."""
    if not isinstance(_first(values), str):
        return _build_scalar(column, values)
    texts = pa.array(values, pa.string())
    try:
        return _times(column, values, texts, _odd_rows(texts))
    except pa.ArrowInvalid:  # one is no day of the calendar
        return _times(column, values, texts, [n for n, v in enumerate(values) if v is not None])


def _odd_rows(texts: pa.StringArray) -> list[int]:
    """Names the rows whose times are not as the service writes them, from the year 1000 on."""
    lengths = pc.fill_null(pc.binary_length(texts), -1).to_numpy()
    odd: np.ndarray = lengths >= 0
    usual = np.flatnonzero(lengths == len(_EARLIEST))
    grid = np.frombuffer(_text_of(texts.take(usual)), np.uint8).reshape(len(usual), len(_EARLIEST))
    odd[usual] = ((grid < _EARLIEST) | (grid > _LATEST)).any(axis=1)
    return np.flatnonzero(odd).tolist()


def _times(column: Column, values: Sequence[Any], texts: pa.StringArray, rows: Sequence[int]) -> Built:
    """Builds a column of times; those in `rows` are read one by one and keep their texts where these are unusual."""
    times = {n: parse_wire(values[n]) for n in rows}
    if unfit := [n for n, time in times.items() if time is None]:
        return _unfit(column, values, unfit)
    if not rows:
        return _of(texts.cast(pa.timestamp("us")).cast(TIMESTAMP))
    odd = pa.array(np.isin(np.arange(len(values)), rows))
    usual = pc.if_else(odd, None, texts).cast(pa.timestamp("us")).cast(TIMESTAMP)
    read = pa.array([to_micros(t) for t in times.values() if t], TIMESTAMP)
    exact = {n: msgspec.json.encode(values[n]) for n, t in times.items() if t and values[n] != format_wire(t)}
    return _of(pc.replace_with_mask(usual, odd, read))._replace(exact=exact)


def _build_json(column: Column, values: Sequence[Any]) -> Built:
    """Takes text (the careful way) or JSON of any type (the compiled decoder)."""
    if isinstance(_first(values), str):
        return _build_scalar(column, values)
    texts = [None if v is None else bytes(v) for v in values]
    if unfit := [n for n, text in enumerate(texts) if text and text[0] not in b"[{"]:
        return _unfit(column, values, unfit)
    try:
        array = pa.array(texts, pa.string())
    except pa.ArrowInvalid:
        return _unfit(column, values, [n for n, text in enumerate(texts) if text and not _is_utf8(text)])
    return _of(array, count_members(_text_of(array)))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text_of(array: pa.StringArray) -> bytes:
    """Gives the text of all values, one after the other."""
    buffer = array.buffers()[2]
    return b"" if buffer is None else buffer.to_pybytes()


def _ends(values: Sequence[Any]) -> np.ndarray:
    """Gives where each value's items end among the items of all, after a 0."""
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(v) if v else 0 for v in values], out=ends[1:])
    return ends


def _offsets(values: Sequence[Any], ends: np.ndarray) -> pa.Array:
    if None not in values:
        return pa.array(ends)
    return pa.array(ends, mask=np.array([*(v is None for v in values), False]))


def _tuples(items: Sequence[Any]) -> Sequence[Any]:
    """Gives records as tuples, which those of the careful way are."""
    return list(map(msgspec.structs.astuple, items)) if items and isinstance(items[0], msgspec.Struct) else items


def _build_map(column: Column, values: Sequence[Any]) -> Built:
    ends = _ends(values)
    pairs = list(chain.from_iterable(filter(None, values)))
    names, contents = [p.name for p in pairs], [p.value for p in pairs]
    bounds = pairwise(ends.tolist())
    repeated = [n for n, (start, end) in enumerate(bounds) if start < end and len({*names[start:end]}) < end - start]
    if repeated:
        # A map holds a name once; the last one counts and the array rides along.
        unique = [list(dict(_tuples(v)).items()) if v else v for v in values]
        exact = {row: msgspec.json.encode(values[row]) for row in repeated}
        return _of(pa.array(unique, arrow_type(column)), 2 * len(pairs))._replace(exact=exact)
    offsets = _offsets(values, ends)
    return _of(
        pa.MapArray.from_arrays(offsets, pa.array(names, pa.string()), pa.array(contents, pa.string())), 2 * len(pairs)
    )


def _struct(
    column: Column, tuples: Sequence[Any], mask: pa.Array | None = None
) -> tuple[pa.StructArray, int, list[int]]:
    """Builds the records of a column: the array, the count of their members, and those that no struct can hold."""
    columns = zip(*tuples, strict=True) if tuples else ((),) * len(column.fields)
    built = [build(f, c) for f, c in zip(column.fields, columns, strict=True)]
    array = pa.StructArray.from_arrays([b.array for b in built], fields=list(_struct_type(column)), mask=mask)
    return array, sum(b.members for b in built), [row for b in built for row in (*b.exact, *b.unfit)]


def _build_record(column: Column, values: Sequence[Any]) -> Built:
    nothing = (None,) * len(column.fields)
    found = iter(_tuples([v for v in values if v is not None]))
    tuples = [nothing if v is None else next(found) for v in values]
    array, inner, unfit = _struct(column, tuples, pa.array([v is None for v in values]))
    return _unfit(column, values, unfit) if unfit else _of(array, inner)


def _build_records(column: Column, values: Sequence[Any]) -> Built:
    ends = _ends(values)
    flat, inner, unfit = _struct(column, _tuples(list(chain.from_iterable(filter(None, values)))))
    if unfit:
        return _unfit(column, values, (np.searchsorted(ends, unfit, "right") - 1).tolist())
    return _of(pa.ListArray.from_arrays(_offsets(values, ends), flat), inner)


_BUILD: dict[str, Callable[[Column, Sequence[Any]], Built]] = {
    "string": _build_scalar,
    "long": _build_scalar,
    "boolean": _build_scalar,
    "double": _build_double,
    "timestamp": _build_timestamp,
    "json": _build_json,
    "map": _build_map,
    "list": _build_scalar,
    "record": _build_record,
    "records": _build_records,
}


def count_members(text: bytes) -> int:
    """Counts the members of all objects in JSON text whose names end in a letter, digit or underscore, as columns do.

    Counting over a whole blob and comparing with what was decoded finds members that stand twice, which parsers drop
    silently. Such a name ends in its letter, a quote and a colon, and nothing else in JSON does: an escaped quote has
    a backslash before it, and the quote that opens a string a mark or a blank.
    """
    data = np.frombuffer(text, np.uint8)
    colons = np.flatnonzero(data[1:] == ord(":"))
    before = data[colons]
    if (before <= ord(" ")).any():
        return len(_NAME_END.findall(text))
    return int(np.count_nonzero(_ENDS_NAME[data[colons[before == ord('"')] - 1]]))
