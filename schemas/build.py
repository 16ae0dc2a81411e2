"""Arrow columns from the text of records, a whole column at a time.

Each builder takes the spans of one column's values, which begin as its kind does, and gives a `Built`: the array, and
the values of single rows whose exact text the array cannot give back.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas import scan
from schemas.columns import TIMESTAMP, arrow_type
from schemas.fit import Fitted, fit_text, is_exact
from schemas.model import Column
from schemas.scan import Found, Names, Spans

_NUMBER = b"-0123456789"
_NULL = ord("n")
ANY = _NUMBER + b'"tfn{['
_BEGINS = {
    "string": b'"',
    "long": _NUMBER,
    "boolean": b"tf",
    "double": _NUMBER,
    "timestamp": b'"',
    "json": b"{[",
    "map": b"[",
    "list": b"[",
    "record": b"{",
    "records": b"[",
}
_MAY_BEGIN = {kind: np.isin(np.arange(256), [0, *some]) for kind, some in _BEGINS.items()}


class Built(NamedTuple):
    """A built column.

    `exact` holds exact JSON texts by row where they are needed, `misfits` what the schema does not declare, as row,
    path and JSON type. The values of `unfit` rows cannot be held by the column, where they are null.
    """

    array: pa.Array
    exact: dict[int, bytes] = {}  # noqa: RUF012 - never changed
    misfits: Sequence[tuple[int, str, str]] = ()
    unfit: Sequence[int] = ()


@cache
def member_names(columns: tuple[Column, ...]) -> Names:
    """Prepares columns to be found by name; only what may be null may begin as another kind does."""
    return scan.names_of([(c.name, ANY if c.nullable else _BEGINS[c.kind]) for c in columns])


@cache
def _pair_names(wire: tuple[str, str]) -> Names:
    name, content = wire
    return scan.names_of([(name, _BEGINS["string"]), (content, _BEGINS["string"] + b"n")])


def build_columns(columns: Sequence[Column], spans: Spans) -> list[Built]:
    """Builds columns, a column of `spans` each; single values that do not fit theirs as `fit` says."""
    built = _build_all(columns, spans)
    return [
        _fit_rest(c, spans.column(n), one) if one.unfit else one
        for n, (c, one) in enumerate(zip(columns, built, strict=True))
    ]


def _build_all(columns: Sequence[Column], spans: Spans) -> list[Built]:
    """Builds columns, and names the rows whose values do not fit."""
    there = [bool(marks.any()) for marks in spans.marks]
    texts = [n for n, c in enumerate(columns) if there[n] and c.kind == "string"]
    strings = spans.columns(texts)
    said = dict(zip(texts, _string_arrays(strings, scan.strings(strings)), strict=True))
    rows = spans.marks.shape[1]
    return [
        _build(c, spans.column(n), said.get(n)) if there[n] else Built(pa.nulls(rows, arrow_type(c)))
        for n, c in enumerate(columns)
    ]


def _build(column: Column, spans: Spans, said: pa.StringArray | None = None) -> Built:
    """Builds a column; `said` has what its strings say."""
    if (others := ~_MAY_BEGIN[column.kind][spans.marks]).any():
        return _without(column, spans, others, said)
    return Built(said) if said is not None else _BUILD[column.kind](column, spans)


def stored_array(column: Column, values: Sequence[Any]) -> pa.Array:
    """Makes the array of what `fit` stores for a column."""
    if not any(v is not None for v in values):
        return pa.nulls(len(values), arrow_type(column))
    if column.kind == "record":
        values = [v if v is None else _by_name(column, v) for v in values]
    elif column.kind == "records":
        values = [v if v is None else [_by_name(column, one) for one in v] for v in values]
    return pa.array(values, arrow_type(column))


def _by_name(column: Column, values: Sequence[Any]) -> dict[str, Any]:
    return {f.name: v for f, v in zip(column.fields, values, strict=True)}


def _fit_rest(column: Column, spans: Spans, built: Built) -> Built:
    """Puts the values that do not fit into a column as `fit` says."""
    exact = dict(built.exact)
    fitted: dict[int, Fitted] = {}
    known: dict[bytes, Fitted] = {}
    broken = []
    for row in built.unfit:
        if spans.marks[row] == _NULL:
            exact[row] = b"null"
            continue
        text = spans.value(row)
        try:
            fitted[row] = known[text] if text in known else fit_text(column, column.name, text.decode())
        except RecursionError:
            broken.append(row)
            continue
        known[text] = fitted[row]
        if not fitted[row].exact:
            exact[row] = text
    misfits = [(row, *misfit) for row, f in fitted.items() for misfit in f.misfits]
    return Built(_with_stored(column, built.array, fitted), exact, misfits, broken)


def _with_stored(column: Column, array: pa.Array, fitted: Mapping[int, Fitted]) -> pa.Array:
    if all(f.stored is None for f in fitted.values()):
        return array
    stored = stored_array(column, [f.stored for f in fitted.values()])
    chosen = np.arange(len(array))
    chosen[list(fitted)] = len(array) + np.arange(len(fitted))
    return pa.concat_arrays([array, stored]).take(pa.array(chosen))


def _without(
    column: Column, spans: Spans, rows: Sequence[int] | np.ndarray, said: pa.StringArray | None = None
) -> Built:
    """Builds a column without the values of some rows, which do not fit."""
    unfit = np.zeros(len(spans.marks), np.bool_)
    unfit[rows] = True
    built = _build(column, spans.without(unfit), said)
    return built._replace(unfit=[*np.flatnonzero(unfit).tolist(), *built.unfit])


def _array(kind: pa.DataType, there: np.ndarray, *buffers: np.ndarray, children: Sequence[pa.Array] = ()) -> pa.Array:
    """Makes an array of its buffers, with null for what is not there."""
    nulls = len(there) - int(np.count_nonzero(there))
    valid = pa.py_buffer(np.packbits(there, bitorder="little")) if nulls else None
    held = [valid, *(pa.py_buffer(b) for b in buffers)]
    return pa.Array.from_buffers(kind, len(there), held, nulls, children=children)


def _string_arrays(spans: Spans, said: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[pa.StringArray]:
    """Makes the arrays of columns of strings; what is no string is null."""
    return [_array(pa.string(), there, *one) for there, one in zip(spans.marks == ord('"'), said, strict=True)]


def _build_json(_column: Column, spans: Spans) -> Built:
    return Built(_array(pa.string(), spans.there, *scan.texts(spans)))


def _build_long(_column: Column, spans: Spans) -> Built:
    values, odd = scan.longs(spans)
    return Built(_array(pa.int64(), spans.there & ~odd, values), unfit=np.flatnonzero(odd).tolist())


def _build_boolean(_column: Column, spans: Spans) -> Built:
    return Built(_array(pa.bool_(), spans.there, np.packbits(spans.marks == ord("t"), bitorder="little")))


def _build_double(_column: Column, spans: Spans) -> Built:
    texts = {row: spans.value(row).decode() for row in np.flatnonzero(spans.there).tolist()}
    numbers = {row: float(text) for row, text in texts.items() if is_exact(float(text), text)}
    values = np.zeros(len(spans.marks))
    values[list(numbers)] = list(numbers.values())
    fits = np.zeros(len(spans.marks), np.bool_)
    fits[list(numbers)] = True
    return Built(_array(pa.float64(), fits, values), unfit=[row for row in texts if row not in numbers])


def _build_timestamp(_column: Column, spans: Spans) -> Built:
    micros, odd = scan.times(spans)
    return Built(_array(TIMESTAMP, spans.there & ~odd, micros), unfit=np.flatnonzero(odd).tolist())


def _build_map(column: Column, spans: Spans) -> Built:
    bounds, pairs = scan.items(spans)
    found = scan.members(pairs, _pair_names(column.wire))
    odd = _is_odd(found) | ~found.values.there.all(axis=0)
    said = scan.strings(found.values)
    repeating = scan.repeating(bounds, said[0])  # a map holds a name once
    repeating[_rows(bounds, np.flatnonzero(odd))] = True
    if repeating.any():
        return _without(column, spans, repeating)
    kind = arrow_type(column)
    names, contents = _string_arrays(found.values, said)
    entries = _array(pa.struct([kind.key_field, kind.item_field]), pairs.there, children=[names, contents])
    return Built(_array(kind, spans.there, bounds, children=[entries]))


def _is_odd(found: Found) -> np.ndarray:
    """Marks objects that are none, or do not have exactly what they may."""
    odd = found.odd.copy()
    odd[found.rows] = True
    return odd


def _rows(bounds: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Tells which rows items belong to."""
    found: np.ndarray = np.searchsorted(bounds, places, "right") - 1
    return found


def _build_list(column: Column, spans: Spans) -> Built:
    bounds, found = scan.items(spans)
    if column.item_nullable:
        found = found.without(found.marks == _NULL)
    (built,) = _build_all([Column("item", column.item, True)], found.as_columns())
    return _lists(column, spans, bounds, built.array, [*built.unfit, *built.exact])


def _build_records(column: Column, spans: Spans) -> Built:
    bounds, found = scan.items(spans)
    structs, unfit = _structs(column, found, arrow_type(column).value_type)
    return _lists(column, spans, bounds, structs, unfit)


def _lists(column: Column, spans: Spans, bounds: np.ndarray, items: pa.Array, unfit: Sequence[int]) -> Built:
    if unfit:
        return _without(column, spans, _rows(bounds, np.array(unfit)))
    return Built(_array(arrow_type(column), spans.there, bounds, children=[items]))


def _build_record(column: Column, spans: Spans) -> Built:
    structs, unfit = _structs(column, spans, arrow_type(column))
    return _without(column, spans, unfit) if unfit else Built(structs)


def _structs(column: Column, spans: Spans, kind: pa.StructType) -> tuple[pa.StructArray, list[int]]:
    """Builds objects of scalars as structs; names those that a struct does not give back."""
    found = scan.members(spans, member_names(column.fields))
    built = _build_all(column.fields, found.values)
    unfit = [row for b in built for row in (*b.exact, *b.unfit)]
    structs = _array(kind, spans.there, children=[b.array for b in built])
    return structs, [*unfit, *np.flatnonzero(_is_odd(found)).tolist()]


_BUILD: dict[str, Callable[[Column, Spans], Built]] = {
    "long": _build_long,
    "boolean": _build_boolean,
    "double": _build_double,
    "timestamp": _build_timestamp,
    "json": _build_json,
    "map": _build_map,
    "list": _build_list,
    "record": _build_record,
    "records": _build_records,
}
