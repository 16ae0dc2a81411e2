"""Tables and columns, read from the Avro schemas in `schemas/avro/`.

A column is stored as the first non-null branch of its Avro type. Further branches declare other forms that also arrive
for the member: they are no drift, but their exact value rides in the row's `_extra`. A record without fields takes any
object.

| Avro                          | kind      | on the wire                        | Arrow                 |
| ----------------------------- | --------- | ---------------------------------- | --------------------- |
| string, long, boolean, double | as named  | string, integer, boolean, number   | the same              |
| long, timestamp-micros        | timestamp | `2026-11-20T08:15:31`              | timestamp[us, UTC]    |
| map, `wire: [Name, Value]`    | map       | `[{"Name": …, "Value": …}, …]`     | map<string, string>   |
| array of string or long       | list      | array of these                     | list                  |
| record of scalars             | record    | object                             | struct                |
| array of record of scalars    | records   | array of objects                   | list<struct>          |
| string, json                  | json      | any object or array                | string: its JSON text |
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

Avro = Any
SCALARS = ("string", "long", "boolean", "double")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how its member is stored and what else may arrive for it.

    `fields` holds the members of a record, `item` the scalar of a list, `wire` the two member names of a map's pairs.
    `others` are the forms declared besides the stored one.
    """

    name: str
    kind: str
    nullable: bool
    others: tuple["Column", ...] = ()
    fields: tuple["Column", ...] = ()
    item: str = ""
    item_nullable: bool = False
    wire: tuple[str, str] = ("", "")
    doc: str = ""
    source: str = ""

    @property
    def ours(self) -> bool:
        """True for a column that auditlake adds, false for a member of the record."""
        return self.name.startswith("_")


@dataclass(frozen=True)
class Table:
    """One table of the lake and the Avro schema it was read from."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    avro: Avro

    @cached_property
    def members(self) -> tuple[Column, ...]:
        """Columns that hold members of the record."""
        return tuple(c for c in self.columns if not c.ours)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Positions in `members` by name."""
        return {c.name: n for n, c in enumerate(self.members)}


def _branches(avro: Avro) -> list[Avro]:
    return [b for b in (avro if isinstance(avro, list) else [avro]) if b != "null"]


def _type_name(avro: Avro) -> str:
    return str(avro["type"] if isinstance(avro, dict) else avro)


def _column(field: Mapping[str, Any], named: dict[str, Avro]) -> Column:
    stored, *others = (_form(field, _resolve(b, named), named) for b in _branches(field["type"]))
    return replace(stored, others=tuple(others))


def _form(field: Mapping[str, Any], avro: Avro, named: dict[str, Avro]) -> Column:
    """Compiles one branch of a field's type as if there were no other."""
    shape: dict[str, Any] = {}
    kind = _type_name(avro)
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    if logical == "timestamp-micros":
        kind = "timestamp"
    elif logical == "json":
        kind = "json"
    elif kind == "map":
        shape["wire"] = tuple(avro["wire"])
    elif kind == "record":
        shape["fields"] = tuple(_column(f, named) for f in avro["fields"])
    elif kind == "array":
        item = _resolve(_branches(avro["items"])[0], named)
        if _type_name(item) == "record":
            kind, shape["fields"] = "records", tuple(_column(f, named) for f in item["fields"])
        else:
            kind, shape["item"] = "list", _type_name(item)
            shape["item_nullable"] = "null" in avro["items"] and isinstance(avro["items"], list)
    elif kind not in SCALARS:
        raise ValueError(f"column {field['name']!r} has the unsupported Avro type {kind!r}")
    return Column(
        name=field["name"],
        kind=kind,
        nullable=isinstance(field["type"], list) and "null" in field["type"],
        doc=field.get("doc", ""),
        source=field.get("source", ""),
        **shape,
    )


def _resolve(avro: Avro, named: dict[str, Avro]) -> Avro:
    """Follows a name to the record that it names, and remembers records by their names."""
    if isinstance(avro, dict) and avro["type"] == "record":
        named[avro["name"]] = avro
    return named.get(avro, avro) if isinstance(avro, str) else avro


def table_of(avro: Avro) -> Table:
    """Compiles one Avro record schema to a table.

    Raises:
      ValueError: A column has a type that no table may have.
    """
    named: dict[str, Avro] = {}
    return Table(avro["name"], avro["doc"], tuple(_column(f, named) for f in avro["fields"]), avro)


@cache
def tables() -> Mapping[str, Table]:
    """All tables of the lake by name."""
    found = (f for f in (files("schemas") / "avro").iterdir() if f.name.endswith(".avsc"))
    compiled = (table_of(json.loads(f.read_text(encoding="utf-8"))) for f in found)
    return {t.name: t for t in sorted(compiled, key=lambda t: t.name)}


@cache
def common_columns() -> tuple[Column, ...]:
    """The columns that every table begins with."""
    return tables()["generic"].columns
