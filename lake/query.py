"""The lake in SQL: DuckDB views over its files and its ledger. Only reads.

`auditlake query` and notebooks use the same views: one for each table, `audit` over what all tables share,
`record_types`, `ledger_blobs`, `ledger_files`, `ledger_slices`, `ledger_drift` and `rejected`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from re import DOTALL, IGNORECASE
from re import compile as regex
from tempfile import gettempdir

import duckdb
import pyarrow as pa

from lake import layout
from lake.entries import State
from lake.ledger import read_states, require_tenants
from lake.ledger_tables import LEDGER_TABLES, record_type_table
from lake.query_files import PROTOCOL, LakeFiles
from lake.render import render
from lake.schema_text import quoted, sql_type
from lake.storage import Storage, WrongRequestError
from lake.storage_objects import ObjectStorage
from schemas.model import Table, common_columns, tables

__all__ = ["QueryError", "QueryResult", "connect", "parquet_uris", "render", "run_query"]

BATCH_ROWS = 8192
_EXPLAIN = regex(r"\s*EXPLAIN(?:\s+ANALYZE)?(?:\s*\([^)]*\))?\s+(?P<statement>.*)", DOTALL | IGNORECASE)
_ONLY_READING = (
    "a query must be one statement that reads: "
    "expected a single SELECT, WITH, FROM, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
)
_PARTITION = "/tenant=([^/]*)/date=([^/]*)/[^/]*$"
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
    """Opens a DuckDB connection with the views of a lake; times are UTC.

    The views of the ledger and of rejected records are read into memory. Where `sql` is given, only those that it
    names are.

    Raises:
      LakeError: There is no lake, or it cannot be read.
    """
    # query('…') may name any of them
    named = {name for name in LEDGER_TABLES if sql is None or name in sql.lower() or "query" in sql.lower()}
    remote = isinstance(storage, ObjectStorage)
    states = read_states(storage) if named or remote else dict.fromkeys(require_tenants(storage), State())
    files = {key: file for state in states.values() for key, file in state.files.items()}
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
    with query_errors():
        for table in tables().values():
            uris = ledger_uris(files, table.name) if remote else parquet_uris(storage, table.name)
            con.execute(f"CREATE VIEW {quoted(table.name)} AS {_select_table(uris, table)}")
        con.execute(f"CREATE VIEW audit AS {_select_audit()}")
    con.register("record_types", record_type_table())
    for name, (schema, rows) in LEDGER_TABLES.items():
        con.register(name, pa.Table.from_pylist(list(rows(storage, states)) if name in named else [], schema))
    return con


def parquet_uris(storage: Storage, table: str) -> list[str]:
    """Gives what DuckDB reads the published files of a table on a local disk from; nothing where there are none.

    A pattern, because files come while a connection is open, and thousands of names would make a slow statement.
    """
    folder = f"{layout.AUDIT}/table={table}"
    if not any(layout.partition_of(o.key) for o in storage.list(folder)):
        return []
    root = "".join(f"[{c}]" if c in "*?[" else c for c in storage.uri)
    return [f"{root}/{folder}/tenant=*/date=*/*.parquet"]


def ledger_uris(files: Iterable[str], table: str) -> list[str]:
    """Gives what DuckDB reads those files of a table from that the ledgers named when the connection was opened."""
    folder = f"{layout.AUDIT}/table={table}"
    named = any(key.startswith(f"{folder}/") for key in files)
    return [f"{PROTOCOL}://{folder}/tenant=*/date=*/*.parquet"] if named else []


def _select_table(uris: Sequence[str], table: Table) -> str:
    """Selects a table's columns from its files. Those of older schemas lack some: they read as NULL."""
    if not uris:
        return select_nothing(table)
    # With the columns given, DuckDB need not open every file to find them, as it must for union_by_name: that costs
    # 170 KB and a millisecond a file. Partitions then come from the name; filters on them still skip files.
    columns = ", ".join(
        f"{_literal(c.name)}: {{name: {_literal(c.name)}, type: {_literal(sql_type(c))}, default_value: NULL}}"
        for c in table.columns
    )
    files = ", ".join(map(_literal, uris))
    read = f"read_parquet([{files}], filename = '_file', hive_partitioning = false, schema = MAP {{{columns}}})"
    names = ", ".join(quoted(c.name) for c in table.columns)
    tenant, day = (f"regexp_extract(_file, '{_PARTITION}', {group})" for group in (1, 2))
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
    con = connect(storage, sql)
    with query_errors():
        require_reading(con, sql)
        reader = con.sql(sql).to_arrow_reader(BATCH_ROWS)
    return QueryResult(reader.schema.names, read_batches(reader))


def read_batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
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
