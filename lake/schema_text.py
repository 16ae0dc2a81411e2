"""The tables and their columns as text, as Avro and as SQL."""

import json

from lake.text_table import text_table
from schemas.model import Column, Table, tables

PARTITIONS = (
    ("tenant", "VARCHAR", "Tenant GUID, from the path."),
    ("date", "DATE", "UTC date of CreationTime, from the path."),
)
_SCALARS = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "boolean": "BOOLEAN",
    "double": "DOUBLE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "json": "VARCHAR",
}


def describe_schema(table: str | None, form: str) -> str:
    """Describes one table, or all where `table` is None; `form` is text, avro or ddl.

    Raises:
      KeyError: There is no such table.
    """
    chosen = list(tables().values()) if table is None else [tables()[table]]
    if form == "avro":
        schemas = [t.avro for t in chosen]
        return json.dumps(schemas if table is None else schemas[0], indent=2, ensure_ascii=False)
    return "\n\n".join(_ddl(t) if form == "ddl" else _text(t) for t in chosen)


def sql_type(column: Column) -> str:
    """Gives the SQL type of a column, as DuckDB reads it from the files."""
    if column.kind == "map":
        return "MAP(VARCHAR, VARCHAR)"
    if column.kind == "list":
        return f"{_SCALARS[column.item]}[]"
    if column.kind in ("record", "records"):
        fields = ", ".join(f"{quoted(f.name)} {sql_type(f)}" for f in column.fields)
        return f"STRUCT({fields}){'[]' if column.kind == 'records' else ''}"
    return _SCALARS[column.kind]


def quoted(name: str) -> str:
    """Quotes a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _text(table: Table) -> str:
    rows = [row for c in table.columns for row in _column_rows(c)]
    lines = text_table(("column", "type", "what it holds"), [*rows, *PARTITIONS])
    return "\n".join([f"{table.name}: {table.doc}", "", *lines])


def _column_rows(column: Column) -> list[tuple[str, str, str]]:
    """Gives a row for a column, and one for each member of a struct, whose type would run off the page."""
    if not column.fields:
        return [(column.name, sql_type(column), column.doc)]
    kind = "STRUCT[]" if column.kind == "records" else "STRUCT"
    return [(column.name, kind, column.doc), *((f"{column.name}.{f.name}", sql_type(f), f.doc) for f in column.fields)]


def _ddl(table: Table) -> str:
    rows = [(quoted(c.name), f"{sql_type(c)}{'' if c.nullable else ' NOT NULL'}", c.doc) for c in table.columns]
    rows += [(quoted(name), f"{kind} NOT NULL", doc) for name, kind, doc in PARTITIONS]
    lines = [f"  {name} {kind}{',' if n < len(rows) else ''} -- {doc}" for n, (name, kind, doc) in enumerate(rows, 1)]
    return "\n".join([f"-- {table.doc}", f"CREATE TABLE {quoted(table.name)} (", *lines, ");"])
