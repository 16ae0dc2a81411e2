"""The answer to a query as text: an aligned table, CSV, or one JSON object a line."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from io import StringIO
from math import isfinite
from re import compile as regex
from typing import Any, Protocol

import pyarrow as pa

from lake.text_table import text_table
from schemas.times import format_utc

_UNSEEN = regex(r"[\x7f-\x9f]")


class Answer(Protocol):
    """Columns and rows of an answer."""

    @property
    def names(self) -> list[str]:
        """Names of the columns."""

    @property
    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows, to be read once."""


def render(answer: Answer, form: str) -> Iterator[str]:
    """Yields an answer line by line; `form` is text, csv or json. CSV and JSON are written as the rows come."""
    rows = (row for batch in answer.batches for row in zip(*map(_values, batch.columns), strict=True))
    if form == "json":
        names = _distinct(answer.names)
        yield from (_json(dict(zip(names, row, strict=True))) for row in rows)
    elif form == "csv":
        yield _csv(answer.names)
        yield from (_csv(["" if v is None else _text(v) for v in row]) for row in rows)
    elif answer.names == ["explain_key", "explain_value"]:
        yield from (line for row in rows for line in _text(row[1]).splitlines())
    else:
        kept = [[_text(v) for v in row] for row in rows]
        yield from text_table(answer.names, kept)
        yield f"({len(kept):,} {'row' if len(kept) == 1 else 'rows'})"


def _values(column: pa.Array) -> list[Any]:
    try:
        return [_plain(v, column.type) for v in column.to_pylist()]
    except (ValueError, OverflowError):  # a time beyond year 9999, infinity say, has no datetime
        return [_plain(v, pa.string()) for v in column.cast(pa.string()).to_pylist()]


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Gives a value as JSON has it."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has no number for it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if pa.types.is_map(kind):
        return {_text(_plain(k, kind.key_type)): _plain(v, kind.item_type) for k, v in value}
    if pa.types.is_nested(kind) and isinstance(value, list):
        return [_plain(v, kind.value_type) for v in value]
    if pa.types.is_struct(kind):
        return {f.name: _plain(value[f.name], f.type) for f in kind}
    if isinstance(value, datetime):
        return format_utc(value) if value.tzinfo else value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Decimal):
        return float(value) if kind.scale else int(value)
    return str(value)


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    # JSON may hold these as they are, and some terminals take them for commands.
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _csv(cells: Sequence[str]) -> str:
    line = StringIO()
    # Only characters of the terminator are quoted inside of a cell, and either of these ends a line.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def _distinct(names: Sequence[str]) -> list[str]:
    """Tells columns of one name apart, which an object cannot hold twice."""
    found: list[str] = []
    for name in names:
        new, number = name, 1
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found
