"""Records as the service delivered them, rebuilt from their rows, one JSON text each.

files (or rows that meet a condition) ── batches ── rebuild ── NDJSON
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from re import compile as regex

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout
from lake.committed import read_wherever
from lake.entries import State
from lake.ledger import read_states
from lake.query import QueryError, connect, query_errors, read_batches, require_reading, select_nothing
from lake.schema_text import quoted
from lake.storage import LakeError, Storage
from schemas.fit import BrokenRecordError
from schemas.model import Table, tables
from schemas.rebuild import rebuild

BATCH_ROWS = 4096
_DAMAGED = (BrokenRecordError, ValueError, TypeError, AttributeError, KeyError, OverflowError)
_NOT_FOUND = regex(r'Referenced (?:column|table) "([^"]+)" not found')


def export(storage: Storage, where: str | None = None) -> Iterator[str]:
    """Yields the records of a lake in the order of its files: table, tenant, date, file. Memory: one batch of rows.

    Args:
      storage: The lake.
      where: An SQL condition on the columns of a table, its `tenant` and its `date`. A table on which it has no
        meaning, because it lacks a column or has it in another type, has no record that meets it.

    Raises:
      QueryError: The condition fits no table, or DuckDB refuses it.
      LakeError: There is no lake, or it cannot be read.
    """
    states = read_states(storage)
    found = _all_batches(storage, states) if where is None else _matching_batches(storage, where)
    for table, batch in found:
        try:
            records = [rebuild(table, row) for row in batch.to_pylist()]
        except _DAMAGED as error:
            raise LakeError(
                f"rows of the table {table.name!r} in {storage.uri!r} are no records any more: a file was changed,"
                " `auditlake verify` names it"
            ) from error
        yield from records


def _all_batches(storage: Storage, states: Mapping[str, State]) -> Iterator[tuple[Table, pa.RecordBatch]]:
    refs = {f.ref.key: f.ref for state in states.values() for f in state.files.values()}
    for key in sorted(refs):
        where = layout.partition_of(key)
        if where is None:
            continue
        try:
            table = tables()[where[0]]
            found, source = read_wherever(storage, refs[key], lambda k: (k, storage.open(k)))
            with source:
                if found == key:  # what is not yet published is for a later time, as it is for every reader
                    for batch in pq.ParquetFile(source).iter_batches(BATCH_ROWS):
                        yield table, _with_all_columns(table, batch)
        except KeyError as error:
            raise LakeError(f"{key!r} is of the table {where[0]!r}, which this auditlake does not know") from error
        except (pa.ArrowException, OSError) as error:
            raise LakeError(f"{key!r} in {storage.uri!r} cannot be read: {error}") from error


def _with_all_columns(table: Table, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds the columns that a file of an older schema lacks."""
    for column in table.columns:
        if column.name not in batch.schema.names:
            batch = batch.append_column(column.name, pa.nulls(len(batch)))
    return batch


def _matching_batches(storage: Storage, where: str) -> Iterator[tuple[Table, pa.RecordBatch]]:
    con = connect(storage, where)
    for table in _fitting_tables(con, where):
        names = ", ".join(quoted(c.name) for c in table.columns)
        with query_errors():
            rows = con.sql(f"SELECT {names} FROM {quoted(table.name)} WHERE (\n{where}\n)")  # noqa: S608 (checked above)
            reader = rows.to_arrow_reader(BATCH_ROWS)
        for batch in read_batches(reader):
            yield table, batch


def _fitting_tables(con: duckdb.DuckDBPyConnection, where: str) -> list[Table]:
    """Gives the tables on which a condition has a meaning."""
    fitting = []
    refusals = []
    for table in tables().values():
        nothing = f"({select_nothing(table)}) AS {quoted(table.name)}"
        try:
            with query_errors():
                require_reading(con, f"SELECT * FROM {nothing} WHERE (\n{where}\n)")  # noqa: S608 (this is the check)
            fitting.append(table)
        except QueryError as error:
            if not isinstance(error.__cause__, duckdb.BinderException | duckdb.ConversionException):
                raise
            refusals.append(str(error))
    if not fitting:
        raise QueryError(_why_none(where, refusals))
    return fitting


def _why_none(where: str, refusals: list[str]) -> str:
    known = {c.name.lower(): c.name for t in tables().values() for c in t.columns} | {
        "tenant": "tenant",
        "date": "date",
    }
    missing = {found[1]: None for text in refusals if (found := _NOT_FOUND.search(text))}
    for name in missing:
        if name.lower() not in known:
            near = get_close_matches(name.lower(), known, 1)
            hint = f"; did you mean {quoted(known[near[0]])}?" if near else ""
            return f"no table has the column {quoted(name)} that the condition {where!r} names{hint}"
    if missing:
        names = " and ".join(quoted(name) for name in missing)
        return f"the condition {where!r} fits no table: none has all of its columns, each lacks {names} or another"
    return f"the condition {where!r} fits no table: {refusals[0]}"
