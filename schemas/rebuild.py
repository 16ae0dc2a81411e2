"""From a row back to the record it was, equal as a JSON value."""

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.fit import members
from schemas.model import Column, Table
from schemas.times import format_wire


def rebuild(table: Table, row: Mapping[str, Any]) -> str:
    """Gives the JSON text of the record that a row was made from.

    `row` maps column names to values as `pyarrow.Table.to_pylist` gives them. A member in `_extra` wins over its
    column: there the column holds only what could be made searchable of it.
    """
    extra = {m.key: f"{m.raw_key}:{m.raw}" for m in members(row["_extra"])} if row["_extra"] else {}
    held = (c for c in table.members if row[c.name] is not None and c.name not in extra)
    parts = [f"{_json(c.name)}:{_text(c, row[c.name])}" for c in held]
    return "{" + ",".join([*parts, *extra.values()]) + "}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(column: Column, value: Any) -> str:
    if column.kind == "json":
        return str(value)
    return _json(_plain(column, value))


def _plain(column: Column, value: Any) -> Any:
    if column.kind == "timestamp":
        return format_wire(value)  # other forms stand in `_extra`
    if column.kind == "map":
        name, content = column.wire
        pairs = value.items() if isinstance(value, Mapping) else value
        return [{name: n, content: v} for n, v in pairs]
    if column.kind == "record":
        return {f.name: _plain(f, value[f.name]) for f in column.fields if value[f.name] is not None}
    if column.kind == "records":
        return [{f.name: _plain(f, v[f.name]) for f in column.fields if v[f.name] is not None} for v in value]
    return value
