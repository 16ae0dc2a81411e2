"""Rows that repeat an Id, compared with the row that came first under it: the same record, or a conflict.

The service delivers records again, at times with members in another order; that is a duplicate. A record with another
body under the same Id is a fact worth keeping.
"""

import json
from collections.abc import Iterator

import pyarrow as pa

from schemas.model import Table, tables
from schemas.rebuild import rebuild


def differing(table: str, rows: pa.Table, first_table: str, first: pa.Table) -> Iterator[int]:
    """Yields the places of rows that, as JSON values, are not the records at the same places of `first`."""
    mine, theirs = tables()[table], tables()[first_table]
    names = [c.name for c in mine.columns if not c.ours or c.name == "_extra"]
    comparable = mine is theirs and set(names) <= set(first.column_names)
    stretches = [(0, len(rows))] if len(rows) else []
    while stretches:
        start, length = stretches.pop()
        a, b = rows.slice(start, length), first.slice(start, length)
        if comparable and a.select(names).equals(b.select(names)):
            continue
        if length > 1:
            half = length // 2
            stretches += [(start + half, length - half), (start, half)]
        elif not _same(mine, a, theirs, b):
            yield start


def _same(mine: Table, row: pa.Table, theirs: Table, first: pa.Table) -> bool:
    texts = [record_text(table, one) for table, one in ((mine, row), (theirs, first))]
    try:
        return texts[0] == texts[1] or _value(texts[0]) == _value(texts[1])
    except (ValueError, RecursionError):
        return False


def record_text(table: Table, row: pa.Table) -> str:
    """Rebuilds the record of a table of one row; columns that its file lacks are as good as null."""
    (values,) = row.to_pylist()
    return rebuild(table, dict.fromkeys((c.name for c in table.columns), None) | values)


def _value(text: str) -> object:
    # Numbers as their text: 1 and 1.0, or digits past a double, are not the same record.
    return json.loads(text, parse_int=_Number, parse_float=_Number)


class _Number(str):
    """A number's text, so that it equals no string of the same characters."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and str.__eq__(self, other)

    __hash__ = str.__hash__
