"""The lake in SQL: DuckDB views over its files and its ledger. Only reads.

`auditlake query` and notebooks use the same views: one for each table, `audit` over what all tables share,
`record_types`, `ledger_blobs`, `ledger_files`, `ledger_slices`, `ledger_drift` and `rejected`.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from re import DOTALL, IGNORECASE
from re import compile as regex
from tempfile import gettempdir

import duckdb
import pyarrow as pa

from lake import layout
from lake.committed import read_steadily
from lake.entries import FileState, State
from lake.ledger import read_states
from lake.ledger_tables import LEDGER_TABLES, record_type_table
from lake.query_files import PROTOCOL, LakeFiles
from lake.render import render
from lake.schema_text import quoted, sql_type
from lake.storage import Storage, WrongRequestError
from lake.storage_objects import ObjectStorage
from schemas.model import Table, common_columns, tables

__all__ = ["LakeViews", "QueryError", "QueryResult", "connect", "render", "run_query"]

BATCH_ROWS = 8192
_EXPLAIN = regex(r"\s*EXPLAIN(?:\s+ANALYZE)?(?:\s*\([^)]*\))?\s+(?P<statement>.*)", DOTALL | IGNORECASE)
_ONLY_READING = (
    "a query must be one statement that reads: "
    "expected a single SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
)
_PARTITION = "regexp_extract(_file, '/tenant=([^/]*)/date=([^/]*)/[^/]*$', {})"
_TRACEBACK = regex(r"\ATraceback .*\n[\w.]+Error: ", DOTALL)
_POSITION = regex(r"\n+LINE \d+:.*", DOTALL)


class QueryError(WrongRequestError):
    """A query was refused or failed; the message is what DuckDB says."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query: names of its columns, and its rows as Arrow batches, to be read once."""

    names: list[str]
    batches: Iterator[pa.RecordBatch]


def connect(storage: Storage, sql: str | None = None) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB connection with the views of a lake as it is now; times are UTC.

    The views of the ledger and of rejected records are read into memory. Where `sql` is given, only the views that it
    names have rows.

    Raises:
      LakeError: There is no lake, or it cannot be read.
    """
    return LakeViews(storage, sql).con


class LakeViews:
    """The views of a lake at one moment: the files that its ledgers name then, whatever is replaced meanwhile."""

    con: duckdb.DuckDBPyConnection

    def __init__(self, storage: Storage, sql: str | None = None) -> None:
        self._storage = storage
        self._named = _named(sql)
        self._places: Mapping[str, str] = {}
        self._open()

    def _open(self) -> None:
        def states() -> dict[str, State]:
            return read_states(self._storage, files_only=self._named.isdisjoint(LEDGER_TABLES))

        self.con, self._places = read_steadily(states, lambda found: _open_views(self._storage, found, self._named))

    def answer(self, sql: str, batch_rows: int = BATCH_ROWS) -> QueryResult:
        """Runs one reading statement; once more, on new views, where a file that it reads was replaced meanwhile.

        Raises:
          QueryError: It is not one that reads, or DuckDB refuses it.
        """
        while True:
            try:
                with query_errors():
                    require_reading(self.con, sql)
                    reader = self.con.sql(sql).to_arrow_reader(batch_rows)
                batches = _read_batches(reader)
                first = list(islice(batches, 1))
            except QueryError:
                if not self._reopen():
                    raise
            else:
                return QueryResult(reader.schema.names, chain(first, self._rest(batches)))

    def _rest(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except QueryError as error:
            if self._reopen():
                raise QueryError("compaction has replaced files while the answer was read: ask again") from error
            raise

    def _reopen(self) -> bool:
        """Tells whether a file of the views was replaced or published, and opens the views anew."""
        before = self._places
        self._open()
        return any(self._places.get(key) != place for key, place in before.items())


def _named(sql: str | None) -> set[str]:
    """Gives the views that a statement may read; the others stand without rows, which halves short answers."""
    known = {*LEDGER_TABLES, *tables()}
    if sql is None or "query" in sql.lower():  # query('…') may name any of them
        return known
    return {name for name in known if name in sql.lower() or ("audit" in sql.lower() and name in tables())}


def _open_views(
    storage: Storage, states: Mapping[str, State], named: Collection[str]
) -> tuple[duckdb.DuckDBPyConnection, Mapping[str, str]]:
    held = {key: file for state in states.values() for key, file in state.files.items()}
    files = {key: held[key] for key in sorted(held) if layout.partition_of(key)}
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",  # a query must not fetch anything
            "python_enable_replacements": "false",  # or take variables of this program for tables
            "temp_directory": str(Path(gettempdir()) / "auditlake-query"),
        }
    )
    con.execute("SET TimeZone = 'UTC'")
    if isinstance(storage, ObjectStorage):
        con.register_filesystem(LakeFiles(storage, files))
        places = {key: key for key in files}
    else:
        places = places_of(storage, files)
    with query_errors():
        for table in tables().values():
            folder = f"{layout.AUDIT}/table={table.name}/"
            here = {k: place for k, place in places.items() if k.startswith(folder)} if table.name in named else {}
            if isinstance(storage, ObjectStorage):
                select = _select_table(table, [f"{PROTOCOL}://{folder}tenant=*/date=*/*.parquet"] if here else [])
            else:
                select = _select_local(storage, table, here)
            con.execute(f"CREATE VIEW {quoted(table.name)} AS {select}")
        con.execute(f"CREATE VIEW audit AS {_select_audit()}")
    con.register("record_types", record_type_table())
    for name, (schema, rows) in LEDGER_TABLES.items():
        con.register(name, pa.Table.from_pylist(list(rows(storage, states)) if name in named else [], schema))
    return con, places


def places_of(storage: Storage, files: Mapping[str, FileState]) -> dict[str, str]:
    """Gives the keys that committed files lie under: their own, or staged ones while they are not yet published."""
    staged = {stored.key for stored in storage.list(layout.STAGING)}
    return {key: file.ref.staged if file.ref.staged in staged else key for key, file in files.items()}


def _select_local(storage: Storage, table: Table, places: Mapping[str, str]) -> str:
    """Selects a table's columns from files on a local disk."""
    published: list[str] = []
    staged: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for key, place in places.items():
        where = layout.partition_of(key)
        assert where is not None, "only files of rows are asked for"  # noqa: S101
        uri = "".join(f"[{c}]" if c in "*?[" else c for c in f"{storage.uri}/{place}")
        (published if place == key else staged[where[1], where[2]]).append(uri)
    selects = [_select_table(table, published)] if published or not staged else []
    selects += [_select_table(table, uris, *map(_literal, where)) for where, uris in staged.items()]
    return " UNION ALL ".join(selects)


def _select_table(table: Table, uris: Sequence[str], tenant: str | None = None, day: str | None = None) -> str:
    """Selects a table's columns from its files, whose names give tenant and date unless they are given."""
    if not uris:
        return select_nothing(table)
    # With the columns given, DuckDB need not open every file to find them, as it must for union_by_name: that costs
    # 170 KB and a millisecond a file. Files of older schemas lack some: they read as NULL. Partitions then come from
    # the name; filters on them still skip files.
    columns = ", ".join(
        f"{_literal(c.name)}: {{name: {_literal(c.name)}, type: {_literal(sql_type(c))}, default_value: NULL}}"
        for c in table.columns
    )
    files = ", ".join(map(_literal, uris))
    read = f"read_parquet([{files}], filename = '_file', hive_partitioning = false, schema = MAP {{{columns}}})"
    names = ", ".join(quoted(c.name) for c in table.columns)
    tenant, day = tenant or _PARTITION.format(1), day or _PARTITION.format(2)
    return f"SELECT {names}, {tenant} AS tenant, {day}::DATE AS date FROM {read}"  # noqa: S608 (our own names)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def select_nothing(table: Table) -> str:
    """Gives a SELECT of a table's columns, in their types and order, without rows."""
    columns = [f"NULL::{sql_type(c)} AS {quoted(c.name)}" for c in table.columns]
    return f"SELECT {', '.join(columns)}, NULL::VARCHAR AS tenant, NULL::DATE AS date WHERE false"


def _select_audit() -> str:
    names = ", ".join(quoted(c.name) for c in common_columns())
    parts = (
        f"SELECT {names}, '{table}' AS \"table\", tenant, date FROM {quoted(table)}"  # noqa: S608 (our own names)
        for table in tables()
    )
    return " UNION ALL ".join(parts)


def run_query(storage: Storage, sql: str) -> QueryResult:
    """Runs one reading statement.

    Raises:
      QueryError: It is not one that reads, or DuckDB refuses it.
      LakeError: There is no lake, or it cannot be read.
    """
    return LakeViews(storage, sql).answer(sql)


def _read_batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yields the batches of an answer; what fails on the way is a QueryError."""
    with query_errors():
        yield from reader


def require_reading(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Lets only a single statement pass that reads.

    Raises:
      QueryError: It is none.
      duckdb.Error: It cannot be parsed, or names what is not there.
    """
    statements = con.extract_statements(sql)
    explained = _EXPLAIN.fullmatch(sql)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN and explained:
        statements = con.extract_statements(explained["statement"])
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError(_ONLY_READING)
    # WITH may hold statements that write, but not inside of another SELECT.
    try:
        con.execute(f"EXPLAIN SELECT * FROM (\n{statements[0].query.rstrip().rstrip(';')}\n)")  # noqa: S608
    except duckdb.BinderException as error:
        if "must be at the top level" in str(error):
            raise QueryError(_ONLY_READING) from error
        raise


@contextmanager
def query_errors() -> Iterator[None]:
    """Turns DuckDB's errors into QueryErrors of a line or two."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # What reading a store raised comes as the text of its traceback, and ends in its sentence.
        text = _POSITION.sub("", _TRACEBACK.sub("", str(error))).strip()
        raise QueryError("\n".join(line for line in text.splitlines() if line.strip())[:1000]) from error
