"""Arrow types of the columns."""

from functools import cache

import pyarrow as pa

from schemas.model import Column, Table

TIMESTAMP = pa.timestamp("us", "UTC")
_SCALARS = {
    "string": pa.string(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "timestamp": TIMESTAMP,
    "json": pa.string(),
}


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
