"""Merges the rows of files of one table and day into few files, in the order of time.

files ── times and Ids ── where to cut ── stretch by stretch: rows of all files ── sorted ── row groups of new files

Memory: 24 bytes a row, one stretch of rows, one file that is read and one that is written, and at most KEPT_BYTES of
files, so that each need not be read twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.committed import read_wherever
from lake.entries import FileRef
from lake.ids import keys_of
from lake.rows import ROW_GROUP_ROWS, parquet_writer
from lake.storage import LakeError, Storage
from schemas.columns import arrow_schema
from schemas.model import tables

TARGET_BYTES = 128 * 1024 * 1024
TARGET_ROWS = 1024 * 1024
KEPT_BYTES = TARGET_BYTES


class UnmergeableError(LakeError):
    """The files cannot be merged without a change of what they hold."""


class UnpublishedError(LakeError):
    """A file is committed but waits for its final name: whoever gives it that must not do so after it was replaced."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the files: its rows' times in microseconds, in the order of the file, and where its row groups begin."""

    ref: FileRef
    times: np.ndarray
    groups: list[int]


def merge(storage: Storage, table: str, refs: Sequence[FileRef]) -> Iterator[tuple[memoryview, int]]:
    """Yields new Parquet files and their rows; together they hold the rows of the given ones.

    They have the columns of today's schema, and after them those that only the files have.

    Raises:
      GoneError: A file is not there: others have put another in its place, or it was lost.
      UnpublishedError: A file waits for its final name.
      UnmergeableError: A file was changed, an Id stands twice, or a column has different types in different files.
    """
    files = _Files(storage)
    parts, keys = [], []
    schemas: list[pa.Schema] = []
    for ref in refs:
        file = files.open(ref)
        with _reading(ref):
            rows = file.read(["CreationTime", "Id"], use_threads=False)
            keys.append(keys_of(rows["Id"].combine_chunks()))
            times = rows["CreationTime"].cast(pa.int64()).to_numpy()
        if len(rows) != ref.rows:
            raise UnmergeableError(f"{ref.key!r} holds {len(rows):,} rows, the ledger says {ref.rows:,}")
        if file.schema_arrow not in schemas:
            schemas.append(file.schema_arrow)
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
        parts.append(_Part(ref, times, [0, *np.cumsum(sizes).tolist()]))
    if (twice := sum(map(len, keys)) - len(np.unique(np.concatenate(keys)))) > 0:
        raise UnmergeableError(f"{_names(refs)}: {twice:,} rows repeat an Id; see `auditlake verify`")
    schema = _schema(table, refs, schemas)
    times = np.sort(np.concatenate([p.times for p in parts]))
    for stretches in cut(times, sum(ref.size for ref in refs)):
        yield _write(files, parts, schema, stretches)


def cut(times: np.ndarray, size_bytes: int) -> list[list[tuple[int, int]]]:
    """Cuts sorted times into files of about the target size, and each into half-open stretches, its row groups.

    Rows of one time stay together.
    """
    files = max(-(-len(times) // TARGET_ROWS), -(-size_bytes // TARGET_BYTES), 1)
    return [_stretches(times[start:end], ROW_GROUP_ROWS) for start, end in _cut(times, -(-len(times) // files))]


def _cut(times: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """Gives the borders of pieces of about so many rows, as positions."""
    starts = np.unique(np.searchsorted(times, times[::rows]))
    return list(pairwise([*starts.tolist(), len(times)]))


def _stretches(times: np.ndarray, rows: int) -> list[tuple[int, int]]:
    return [(int(times[start]), int(times[end - 1]) + 1) for start, end in _cut(times, rows)]


def _write(
    files: "_Files", parts: Sequence[_Part], schema: pa.Schema, stretches: Sequence[tuple[int, int]]
) -> tuple[memoryview, int]:
    sink = pa.BufferOutputStream()
    held = 0
    begin, over = stretches[0][0], stretches[-1][1]
    expected = sum(int(((p.times >= begin) & (p.times < over)).sum()) for p in parts)
    with parquet_writer(sink, schema, expected) as writer:
        for start, end in stretches:
            found = [_rows_between(files, p, schema, start, end) for p in parts]
            rows = pa.concat_tables([schema.empty_table(), *filter(None, found)])
            order = pc.sort_indices(rows, [("CreationTime", "ascending"), ("Id", "ascending")])
            writer.write_table(rows.take(order), row_group_size=max(len(rows), 1))
            held += len(rows)
    return memoryview(sink.getvalue()), held


def _rows_between(files: "_Files", part: _Part, schema: pa.Schema, start: int, end: int) -> pa.Table | None:
    chosen = (part.times >= start) & (part.times < end)
    if not chosen.any():
        return None
    groups = [n for n, (a, b) in enumerate(pairwise(part.groups)) if chosen[a:b].any()]
    file = files.open(part.ref)
    with _reading(part.ref):
        rows = file.read_row_groups(groups, use_threads=False)
        mask = np.concatenate([chosen[part.groups[n] : part.groups[n + 1]] for n in groups])
        if not mask.all():
            rows = rows.filter(pa.array(mask))
        return _conform(rows, schema)


def _schema(table: str, refs: Sequence[FileRef], held: Sequence[pa.Schema]) -> pa.Schema:
    """Joins today's schema of a table with what the files have."""
    today = arrow_schema(tables()[table]) if table in tables() else pa.schema([])
    try:
        joined = pa.unify_schemas([today, *held])
    except pa.ArrowException as error:
        raise UnmergeableError(f"{_names(refs)}: their columns have different types: {error}") from error
    lacking = {f.name for f in joined if not all(f.name in s.names for s in held)}
    return pa.schema([f.with_nullable(f.nullable or f.name in lacking) for f in joined])


def _conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Gives rows all columns of a schema; those that they lack are null."""
    if rows.schema.equals(schema):
        return rows
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type) for f in schema
    ]
    return pa.table(columns, schema=schema)


class _Files:
    """Reads published files and checks that they are what the ledger says, so that no damage gets a new SHA-256."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0

    def open(self, ref: FileRef) -> pq.ParquetFile:
        """Opens a file."""
        with _reading(ref):
            return pq.ParquetFile(pa.BufferReader(self._kept.get(ref.key) or self._read(ref)))

    def _read(self, ref: FileRef) -> bytes:
        key, data = read_wherever(self._storage, ref, lambda k: (k, self._storage.get(k)))
        if key != ref.key:
            raise UnpublishedError(f"{ref.key!r} is still under {key!r}: any next run finishes it")
        if sha256(data).hexdigest() != ref.sha256:
            raise UnmergeableError(f"{ref.key!r} was changed: its SHA-256 is not the one in the ledger; restore it")
        if self._kept_bytes + len(data) <= KEPT_BYTES:
            self._kept[ref.key] = data
            self._kept_bytes += len(data)
        return data


@contextmanager
def _reading(ref: FileRef) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UnmergeableError(f"{ref.key!r} cannot be read: {error}; see `auditlake verify`") from error


def _names(refs: Sequence[FileRef]) -> str:
    return f"the {len(refs):,} small files of {refs[0].key.rpartition('/')[0]!r}"
