"""Rows on their way from a decoded blob to a Parquet file."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import TIMESTAMP, arrow_schema
from schemas.feed import ContentBlob
from schemas.model import common_columns, tables

ROW_GROUP_ROWS = 128 * 1024
SMALL_ROWS = 2048  # in fewer, dictionaries cost more than they save
RUN_ROWS = 128  # in shorter runs, on average, to copy rows costs less than many pieces of a table
BLOOM_FILTERS = {"Id": 1, "UserId": 8, "ClientIP": 8, "ObjectId": 2}
"""Columns that are searched for one value, and how many rows of a group share one, at least."""
_DISTINCT = frozenset({"Id", "CreationTime", "CorrelationId", "InterSystemsId", "IntraSystemId", "ClientRequestId"})
"""Columns of which few rows share a value: a dictionary takes time and saves nothing."""
_DAY_MICROS = 86_400_000_000


def with_content(table: str, rows: pa.Table, owners: np.ndarray, blobs: Sequence[ContentBlob]) -> pa.Table:
    """Adds the columns that tell which blob each row came from."""
    chosen = pa.array(owners)
    ours = {
        "_content_id": pa.array([b.content_id for b in blobs], pa.string()).take(chosen),
        "_content_created": pa.array([b.content_created for b in blobs], TIMESTAMP).take(chosen),
        "_content_type": pa.array([b.content_type for b in blobs], pa.string()).take(chosen),
    }
    schema = arrow_schema(tables()[table])
    return pa.table([ours[f.name] if f.name in ours else rows[f.name] for f in schema], schema=schema)


def taken(rows: pa.Table, chosen: np.ndarray) -> pa.Table:
    """Takes rows; long runs of them as they stand, without a copy."""
    runs = _runs(chosen, 1)
    if len(runs) * RUN_ROWS > len(chosen):
        return rows.take(pa.array(chosen))
    return pa.concat_tables([rows.slice(chosen[start], end - start) for start, end in runs])


def _runs(values: np.ndarray, step: int) -> list[tuple[int, int]]:
    """Cuts values where one is not `step` more than the one before it; gives where the pieces begin and end."""
    return list(pairwise([0, *(np.flatnonzero(np.diff(values) != step) + 1).tolist(), len(values)]))


def micros_of(batch: pa.RecordBatch) -> np.ndarray:
    """Gives the rows' CreationTime in microseconds since 1970."""
    micros: np.ndarray = batch["CreationTime"].cast(pa.int64()).to_numpy()
    return micros


def days_in(micros: np.ndarray) -> list[date]:
    """Gives the UTC dates of times."""
    return [_day(n) for n in np.unique(micros // _DAY_MICROS)]


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=int(number))


def cut_by_day(micros: np.ndarray) -> Iterator[tuple[date, slice]]:
    """Cuts times that are in order by their UTC dates."""
    numbers = micros // _DAY_MICROS
    return ((_day(numbers[start]), slice(start, end)) for start, end in _runs(numbers, 0) if start < end)


def write_parquet(rows: pa.Table) -> memoryview:
    """Encodes rows, sorted by CreationTime, as one Parquet file."""
    sink = pa.BufferOutputStream()
    empty = [
        name for name, column in zip(rows.column_names, rows.columns, strict=True) if column.null_count == len(rows)
    ]
    with parquet_writer(sink, rows.schema, len(rows), empty) as writer:
        writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    return memoryview(sink.getvalue())


def parquet_writer(
    sink: pa.BufferOutputStream, schema: pa.Schema, rows: int, empty: Collection[str] = ()
) -> pq.ParquetWriter:
    """Opens a Parquet file of the lake for writing rows, sorted by CreationTime.

    Args:
      sink: Where it goes.
      schema: Its columns.
      rows: How many rows are expected.
      empty: The columns that will hold nothing but nulls, as far as they are known.
    """
    return pq.ParquetWriter(sink, schema, **parquet_form(schema, rows, empty))


def parquet_form(schema: pa.Schema, rows: int, empty: Collection[str] = ()) -> dict[str, Any]:
    """Gives the form of a file of so many rows, as options of pyarrow's writer; `empty` as `parquet_writer` has it."""
    held = min(rows, ROW_GROUP_ROWS)
    filters = {name: {"ndv": max(held // share, 1), "fpp": 0.01} for name, share in BLOOM_FILTERS.items()}
    leaves = _leaves(schema)
    return {
        # What zstd needs before its first byte takes longer than to write an empty column.
        "compression": {leaf: "none" if leaf.partition(".")[0] in empty else "zstd" for leaf in leaves},
        "use_dictionary": [n for n in leaves if n not in _DISTINCT] if rows >= SMALL_ROWS else False,
        "write_statistics": [c.name for c in common_columns() if c.name in leaves],
        "store_schema": False,  # Parquet's own says as much
        "sorting_columns": [pq.SortingColumn(schema.get_field_index("CreationTime"))],
        "bloom_filter_options": {name: sized for name, sized in filters.items() if name in leaves},
    }


@cache
def _leaves(schema: pa.Schema) -> list[str]:
    """Names the columns of a file by their paths, as pyarrow's writer wants them."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    columns = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [columns.column(n).path for n in range(len(columns))]
