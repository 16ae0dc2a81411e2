"""Rows that repeat an Id, compared with the row that came first under it: the same record, or a conflict.

The service delivers records again, at times with members in another order; that is a duplicate. A record with another
body under the same Id is a fact worth keeping.
"""

import json

import pyarrow as pa

from schemas.model import Table, tables
from schemas.rebuild import rebuild


def differing(table: str, rows: pa.Table, first_table: str, first: pa.Table) -> list[tuple[int, str]]:
    """Gives the places, and the texts, of rows that as JSON values are not the records at these places of `first`."""
    mine, theirs = tables()[table], tables()[first_table]
    places = _unequal(mine, rows, theirs, first)
    chosen = pa.array(places, pa.int64())
    texts = (_record_texts(mine, rows.take(chosen)), _record_texts(theirs, first.take(chosen)))
    return [(place, a) for place, a, b in zip(places, *texts, strict=True) if not _same(a, b)]


def _unequal(mine: Table, rows: pa.Table, theirs: Table, first: pa.Table) -> list[int]:
    """Names the places at which columns differ."""
    names = [c.name for c in mine.columns if not c.ours or c.name == "_extra"]
    if mine is not theirs or not set(names) <= set(first.column_names):
        return list(range(len(rows)))
    rows, first = rows.select(names), first.select(names)
    stretches = [(0, len(rows))] if len(rows) else []
    found = []
    while stretches:
        start, length = stretches.pop()
        if rows.slice(start, length).equals(first.slice(start, length)):
            continue
        if length > 1:
            half = length // 2
            stretches += [(start + half, length - half), (start, half)]
        else:
            found.append(start)
    return found


def _same(text: str, first: str) -> bool:
    try:
        return text == first or _value(text) == _value(first)
    except (ValueError, RecursionError):
        return False


def _record_texts(table: Table, rows: pa.Table) -> list[str]:
    """Rebuilds the records of a table's rows; columns that their file lacks are as good as null."""
    nothing = dict.fromkeys((c.name for c in table.columns), None)
    return [rebuild(table, nothing | values) for values in rows.to_pylist()]


def _value(text: str) -> object:
    # Numbers as their text: 1 and 1.0, or digits past a double, are not the same record.
    return json.loads(text, parse_int=_Number, parse_float=_Number)


class _Number(str):
    """A number's text, so that it equals no string of the same characters."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str.__eq__(self, other)

    __hash__ = str.__hash__
