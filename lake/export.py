"""Records as the service delivered them, rebuilt from their rows, one JSON text each.

files (or rows that meet a condition) ── batches ── rebuild ── NDJSON
"""

from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import chain
from re import compile as regex

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout
from lake.committed import GoneError, read_wherever
from lake.entries import FileRef, State
from lake.ids import IdSet, keys_of
from lake.ledger import Ledger, require_tenants
from lake.query import LakeViews, QueryError, query_errors, require_reading, select_nothing
from lake.schema_text import quoted
from lake.storage import LakeError, Storage
from schemas.fit import BrokenRecordError
from schemas.model import Table, tables
from schemas.rebuild import rebuild

BATCH_ROWS = 4096
_Partition = tuple[str, str, str]
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
    found = _all_batches(storage) if where is None else _matching_batches(storage, where)
    for table, batch in found:
        try:
            records = [rebuild(table, row) for row in batch.to_pylist()]
        except _DAMAGED as error:
            raise LakeError(
                f"rows of the table {table.name!r} in {storage.uri!r} are no records any more: a file was changed,"
                " `auditlake verify` names it"
            ) from error
        yield from records


def _all_batches(storage: Storage) -> Iterator[tuple[Table, pa.RecordBatch]]:
    days = [
        (partition, ledger, refs)
        for tenant in require_tenants(storage)
        for ledger in [Ledger(storage, tenant, files_only=True)]
        for partition, refs in _by_partition(ledger.state).items()
    ]
    for partition, ledger, refs in sorted(days, key=lambda d: d[0]):
        if (table := tables().get(partition[0])) is None:
            key = refs[0].key
            raise LakeError(f"{key!r} is of the table {partition[0]!r}, which this auditlake does not know")
        for batch in _rows_of_day(storage, ledger, partition, refs):
            yield table, _with_all_columns(table, batch)


def _by_partition(state: State) -> dict[_Partition, list[FileRef]]:
    found: defaultdict[_Partition, list[FileRef]] = defaultdict(list)
    for key in sorted(state.files):
        if where := layout.partition_of(key):
            found[where].append(state.files[key].ref)
    return found


def _rows_of_day(
    storage: Storage, ledger: Ledger, partition: _Partition, refs: list[FileRef]
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a day of a table, each once, also where others replace its files meanwhile."""
    given = IdSet()
    while True:
        seen = []
        try:
            for batch, keys in chain.from_iterable(_batches(storage, ref) for ref in refs):
                seen.append(keys)
                again = given.holds(keys)
                yield batch.filter(pa.array(~again)) if again.any() else batch
        except GoneError:
            ledger.refresh()
            newer = _by_partition(ledger.state)[partition]
            if newer == refs:
                raise
            refs = newer
            for keys in seen:
                given.add(keys)
        else:
            return


def _batches(storage: Storage, ref: FileRef) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yields the rows of a file with the keys of their Ids."""
    try:
        with read_wherever(storage, ref, storage.open) as source:
            for batch in pq.ParquetFile(source).iter_batches(BATCH_ROWS):
                yield batch, keys_of(batch["Id"])
    except FileNotFoundError as error:
        raise GoneError(f"{ref.key!r} in {storage.uri!r} went while it was read") from error
    except (pa.ArrowException, OSError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(f"{ref.key!r} in {storage.uri!r} cannot be read: {error}") from error


def _with_all_columns(table: Table, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds the columns that a file of an older schema lacks."""
    for column in table.columns:
        if column.name not in batch.schema.names:
            batch = batch.append_column(column.name, pa.nulls(len(batch)))
    return batch


def _matching_batches(storage: Storage, where: str) -> Iterator[tuple[Table, pa.RecordBatch]]:
    views = LakeViews(storage, f"FROM audit WHERE ({where})")  # it is asked of every table
    for table in _fitting_tables(views.con, where):
        names = ", ".join(quoted(c.name) for c in table.columns)
        # The condition was checked.
        answer = views.answer(f"SELECT {names} FROM {quoted(table.name)} WHERE (\n{where}\n)", BATCH_ROWS)  # noqa: S608
        for batch in answer.batches:
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
