"""Rows on their way to a file: chosen, in the order of their times, whichever way they came."""

from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.rows import BLOOM_FILTERS, RUN_ROWS, SMALL_ROWS, taken, write_parquet
from schemas.columns import arrow_schema
from schemas.model import common_columns, tables
from schemas.times import parse_wire
from tests.lake_records import body, guid, land, new_lake, record, storage_at

TIMES = [f"2026-11-20T08:{minute:02}:31" for minute in range(60)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3 * RUN_ROWS)), max_size=8))
def test_runs_of_rows_are_those_that_were_chosen(runs: list[tuple[int, int]]) -> None:
    rows = pa.table({"n": pa.array(range(4000)), "s": pa.array(map(str, range(4000)))})
    chosen = np.concatenate([np.arange(length) + 10 * start for start, length in runs] or [np.array([], int)])
    assert taken(rows, chosen).to_pydict() == rows.take(pa.array(chosen)).to_pydict()


@pytest.mark.parametrize("chunk", [7, 100_000])
@pytest.mark.parametrize("run_rows", [0, RUN_ROWS])
def test_file_has_the_first_of_each_record_in_the_order_of_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, run_rows: int
) -> None:
    monkeypatch.setattr("lake.stage.CHUNK_RECORDS", chunk)
    monkeypatch.setattr("lake.rows.RUN_ROWS", run_rows)
    times = TIMES + [t.replace("T", " ") for t in TIMES[::7]] + [t + "Z" for t in TIMES[::9]]
    Random(1).shuffle(times)
    records = []
    for n, time in enumerate(times):
        records.append(record(n, CreationTime=time))
        if n % 5 == 4:
            records.append(record(n // 2, CreationTime=TIMES[n % 60], Operation="Other"))
    entry = land(new_lake(storage_at(tmp_path)), {"a": body(records[:50]), "b": body(records[50:])})
    assert entry is not None
    assert sum(b.conflicts for b in entry.blobs) == len(times) // 5
    key = min(f.key for f in entry.files)  # the other one has the conflicts
    rows = pq.ParquetFile(tmp_path / "lake" / key).read().to_pylist()
    assert [r["CreationTime"] for r in rows] == sorted(parse_wire(t) for t in times)
    assert {r["Id"]: r["CreationTime"] for r in rows} == {guid(n): parse_wire(t) for n, t in enumerate(times)}
    assert {r["Operation"] for r in rows} == {"Update"}


@pytest.mark.parametrize("rows", [1, SMALL_ROWS])
@pytest.mark.parametrize("table", sorted(tables()))
def test_file_tells_each_column_its_type_and_bounds_of_those_that_all_tables_have(table: str, rows: int) -> None:
    schema = arrow_schema(tables()[table])
    values = {"Id": [f"{n:036}" for n in range(rows)], "CreationTime": [n * 10**6 for n in range(rows)]}
    filled = {"Operation": ["Update"] * rows, "UserId": [None, *["a"] * (rows - 1)]} | values
    arrays = [pa.array(filled.get(f.name, [_least(f)] * rows), f.type) for f in schema]
    read = pq.ParquetFile(pa.BufferReader(write_parquet(pa.table(arrays, schema=schema))))
    assert read.schema_arrow.equals(schema)
    assert read.read().equals(pa.table(arrays, schema=schema))
    group = read.metadata.row_group(0)
    columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
    bounded = {path for path, column in columns.items() if column.is_stats_set}
    assert bounded == {c.name for c in common_columns()} & columns.keys()
    assert {
        path for path, column in columns.items() if column.bloom_filter_offset
    } == BLOOM_FILTERS.keys() & columns.keys()


def _least(field: pa.Field) -> object:
    """A value where there must be one."""
    return None if field.nullable else "x" if pa.types.is_string(field.type) else 0
