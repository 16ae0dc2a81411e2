"""Rows on their way from a decoded blob to a Parquet file."""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import TIMESTAMP, arrow_schema
from schemas.feed import ContentBlob
from schemas.model import tables

ROW_GROUP_ROWS = 128 * 1024
_DAY_MICROS = 86_400_000_000


def with_content(table: str, batch: pa.RecordBatch, owners: np.ndarray, blobs: list[ContentBlob]) -> pa.RecordBatch:
    """Adds the columns that tell which blob each row came from."""
    chosen = pa.array(owners)
    ours = {
        "_content_id": pa.array([b.content_id for b in blobs]).take(chosen),
        "_content_created": pa.array([b.content_created for b in blobs], TIMESTAMP).take(chosen),
        "_content_type": pa.array([b.content_type for b in blobs]).take(chosen),
    }
    schema = arrow_schema(tables()[table])
    columns = [ours[f.name] if f.name in ours else batch[f.name] for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _day_numbers(batch: pa.RecordBatch) -> np.ndarray:
    micros: np.ndarray = batch["CreationTime"].cast(pa.int64()).to_numpy()
    return micros // _DAY_MICROS


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=int(number))


def days_of(batch: pa.RecordBatch) -> list[date]:
    """Gives the UTC dates of the rows' CreationTime."""
    return [_day(n) for n in np.unique(_day_numbers(batch))]


def by_day(batch: pa.RecordBatch) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Splits rows by the UTC date of their CreationTime."""
    numbers = _day_numbers(batch)
    for number in np.unique(numbers):
        chosen = numbers == number
        yield _day(number), batch if chosen.all() else batch.filter(pa.array(chosen))


def write_parquet(rows: pa.Table) -> memoryview:
    """Encodes rows, sorted by CreationTime, as one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP_ROWS,
        sorting_columns=[pq.SortingColumn(rows.schema.get_field_index("CreationTime"))],
        bloom_filter_options={"Id": {"ndv": len(rows), "fpp": 0.01}},
    )
    return memoryview(sink.getvalue())
