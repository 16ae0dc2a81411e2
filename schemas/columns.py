"""Arrow columns from decoded rows, a whole column at a time.

Each builder takes one column's values (a sequence with None for absent) and gives a `Built`: the array, how many JSON
members it stands for, and the members of single rows whose exact text the array cannot give back.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, chain
from re import compile as regex
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.fit import is_exact
from schemas.model import Column, Table
from schemas.times import parse_wire, to_micros

TIMESTAMP = pa.timestamp("us", "UTC")
_SCALARS = {
    "string": pa.string(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "timestamp": TIMESTAMP,
    "json": pa.string(),
}
_NAME_END = regex(rb'[0-9A-Za-z_]"[ \t\r\n]*+:')
_ENDS_NAME = np.array([chr(n).isalnum() or chr(n) == "_" for n in range(128)] + [False] * 128)
_CANONICAL_TIME = r"^(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])-\d\d-\d\dT\d\d:\d\d:\d\d$"


class Built(NamedTuple):
    """A built column: the array, its count of JSON members, and exact JSON texts by row where they are needed."""

    array: pa.Array
    members: int
    exact: dict[int, bytes]


class UnfitError(Exception):
    """A column's values do not all fit; the rows must go the careful way."""


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
    """Builds a column.

    Raises:
      UnfitError: A value has the right JSON type but not a value that the column can hold.
    """
    if values.count(None) == len(values):
        return Built(pa.nulls(len(values), arrow_type(column)), 0, {})
    return _BUILD[column.kind](column, values)


def _present(array: pa.Array) -> int:
    return len(array) - int(array.null_count)


def _build_scalar(column: Column, values: Sequence[Any]) -> Built:
    array = pa.array(values, _SCALARS[column.kind])
    return Built(array, _present(array), {})


def _build_double(column: Column, values: Sequence[Any]) -> Built:
    """Takes numbers (the careful way) or their JSON text (the compiled decoder)."""
    return _build_scalar(column, [_number(column, v) if isinstance(v, msgspec.Raw) else v for v in values])


def _number(column: Column, raw: msgspec.Raw) -> float:
    try:
        text = bytes(raw).decode()
        number = float(text)
    except ValueError as error:
        raise UnfitError(column.name) from error
    if not is_exact(number, text):
        raise UnfitError(column.name)
    return number


def _build_timestamp(column: Column, values: Sequence[Any]) -> Built:
    """Takes microseconds (the careful way) or the strings of the wire (the compiled decoder)."""
    if not isinstance(next(v for v in values if v is not None), str):
        return _build_scalar(column, values)
    texts = pa.array(values, pa.string())
    odd = pc.fill_null(pc.invert(pc.match_substring_regex(texts, _CANONICAL_TIME)), False)
    rows = np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist()
    times = [parse_wire(values[n]) for n in rows]
    if None in times:
        raise UnfitError(column.name)
    try:
        usual = pc.if_else(odd, None, texts).cast(pa.timestamp("us")).cast(TIMESTAMP)
    except pa.ArrowInvalid as error:
        raise UnfitError(column.name) from error
    array = pc.replace_with_mask(usual, odd, pa.array(map(to_micros, filter(None, times)), TIMESTAMP))
    return Built(array, _present(array), {n: msgspec.json.encode(values[n]) for n in rows})


def _build_json(column: Column, values: Sequence[Any]) -> Built:
    """Takes text (the careful way) or JSON of any type (the compiled decoder)."""
    if isinstance(next(v for v in values if v is not None), str):
        return _build_scalar(column, values)
    texts = [None if v is None else bytes(v) for v in values]
    if not all(t is None or t[0] in b"[{" for t in texts):
        raise UnfitError(column.name)
    try:
        array = pa.array(texts, pa.string())
    except pa.ArrowInvalid as error:
        raise UnfitError(column.name) from error
    return Built(array, _present(array) + count_members(_text_of(array)), {})


def _text_of(array: pa.StringArray) -> bytes:
    """Gives the text of all values, one after the other."""
    buffer = array.buffers()[2]
    return b"" if buffer is None else buffer.to_pybytes()


def _offsets(values: Sequence[Any]) -> pa.Array:
    ends = accumulate((len(v) if v else 0 for v in values), initial=0)
    offsets = pa.array(ends, pa.int32())
    if None not in values:
        return offsets
    absent = np.fromiter((v is None for v in chain(values, (1,))), bool, len(values) + 1)
    return pa.array(offsets.to_numpy(), pa.int32(), mask=absent)


def _build_map(column: Column, values: Sequence[Any]) -> Built:
    offsets = _offsets(values)
    pairs = [msgspec.structs.astuple(p) if isinstance(p, msgspec.Struct) else p for v in values if v for p in v]
    names, contents = zip(*pairs, strict=True) if pairs else ((), ())
    exact = {}
    start = 0
    for row, value in enumerate(values):
        if value and len(value) != len(set(names[start : start + len(value)])):
            exact[row] = msgspec.json.encode(value)
        start += len(value) if value else 0
    if exact:
        # A map holds a name once; the last one counts and the array rides along.
        unique = [list(dict(map(_pair, v)).items()) if v else v for v in values]
        members = sum(v is not None for v in values) + 2 * len(pairs)
        return Built(pa.array(unique, arrow_type(column)), members, exact)
    array = pa.MapArray.from_arrays(offsets, pa.array(names, pa.string()), pa.array(contents, pa.string()))
    return Built(array, _present(array) + 2 * len(pairs), {})


def _pair(pair: Any) -> Any:
    return msgspec.structs.astuple(pair) if isinstance(pair, msgspec.Struct) else pair


def _build_list(column: Column, values: Sequence[Any]) -> Built:
    array = pa.array(values, arrow_type(column))
    return Built(array, _present(array), {})


def _struct(column: Column, rows: Sequence[Any], mask: pa.Array | None = None) -> tuple[pa.StructArray, int]:
    tuples = [msgspec.structs.astuple(r) if isinstance(r, msgspec.Struct) else r for r in rows]
    columns = zip(*tuples, strict=True) if tuples else ((),) * len(column.fields)
    built = [build(f, c) for f, c in zip(column.fields, columns, strict=True)]
    if any(b.exact for b in built):
        raise UnfitError(column.name)
    array = pa.StructArray.from_arrays([b.array for b in built], fields=list(_struct_type(column)), mask=mask)
    return array, sum(b.members for b in built)


def _build_record(column: Column, values: Sequence[Any]) -> Built:
    nothing = (None,) * len(column.fields)
    array, inner = _struct(column, [nothing if v is None else v for v in values], pa.array(v is None for v in values))
    return Built(array, _present(array) + inner, {})


def _build_records(column: Column, values: Sequence[Any]) -> Built:
    flat, inner = _struct(column, [r for v in values if v for r in v])
    array = pa.ListArray.from_arrays(_offsets(values), flat)
    return Built(array, _present(array) + inner, {})


_BUILD: dict[str, Callable[[Column, Sequence[Any]], Built]] = {
    "string": _build_scalar,
    "long": _build_scalar,
    "boolean": _build_scalar,
    "double": _build_double,
    "timestamp": _build_timestamp,
    "json": _build_json,
    "map": _build_map,
    "list": _build_list,
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
