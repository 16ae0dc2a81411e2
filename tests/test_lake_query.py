"""The lake in SQL: views, renderers, refusals."""

import csv
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import layout
from lake.query import QueryError, connect, render, run_query
from lake.storage import LakeError
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from schemas.contract import record_types
from schemas.model import common_columns, tables
from tests.lake_records import FEED, START, TENANT, blob, body, guid, land, list_blobs, new_lake, record, storage_at

ROOT = Path(__file__).parents[1]
COMMAND = {"RecordType": 1, "Parameters": [{"Name": "Identity", "Value": "adele"}, {"Name": "Force", "Value": "True"}]}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    lake = new_lake(storage_at(tmp_path))
    land(lake, {"a": body([record(1), record(12, Odd=1), {"Id": ""}]), "b": body([record(2, **COMMAND)])})
    list_blobs(lake, [blob("late")])
    return storage_at(tmp_path)


def ask(storage: LocalStorage, sql: str) -> list[tuple[object, ...]]:
    """Runs a query and gives its rows as Python has them."""
    answer = run_query(storage, sql)
    return [tuple(row.values()) for batch in answer.batches for row in batch.to_pylist()]


def refusal(storage: LocalStorage, sql: str) -> str:
    with pytest.raises(QueryError) as caught:
        list(run_query(storage, sql).batches)
    return str(caught.value)


def test_tables_hold_their_rows(storage: LocalStorage) -> None:
    assert ask(storage, "select Id, date::varchar, tenant from exchange_mailbox order by Id") == [
        (guid(1), "2026-11-20", TENANT),
        (guid(12), "2026-11-21", TENANT),
    ]
    assert ask(storage, "select Parameters['Identity'] from exchange_admin") == [("adele",)]


def test_every_table_is_a_view_of_its_columns_with_or_without_files(storage: LocalStorage) -> None:
    for table in tables().values():
        names = [str(row[0]) for row in ask(storage, f'describe "{table.name}"')]
        assert names == [*(c.name for c in table.columns), "tenant", "date"]


def test_views_have_the_same_types_with_and_without_files(storage: LocalStorage, tmp_path: Path) -> None:
    empty = storage_at(tmp_path / "empty")
    list_blobs(TenantLake(empty, TENANT), [])
    for table in ("exchange_admin", "exchange_mailbox"):
        types = [[row[:2] for row in ask(s, f"describe {table}")] for s in (storage, empty)]
        assert types[0] == types[1]
    assert ask(empty, "select count(*) from audit") == [(0,)]


def test_audit_spans_all_tables(storage: LocalStorage) -> None:
    assert ask(storage, 'select "table", count(*) from audit group by all order by 1') == [
        ("exchange_admin", 1),
        ("exchange_mailbox", 2),
    ]
    names = [str(row[0]) for row in ask(storage, "describe audit")]
    assert names == [*(c.name for c in common_columns()), "table", "tenant", "date"]


def test_ledger_is_there_to_ask(storage: LocalStorage) -> None:
    blobs = "select content_id, status, records, rows, duplicates, rejects from ledger_blobs order by 1"
    assert ask(storage, blobs) == [
        ("a", "landed", 3, 2, 0, 1),
        ("b", "landed", 1, 1, 0, 0),
        ("late", "pending", 0, 0, 0, 0),
    ]
    assert ask(storage, "select content_type, slice_start, outcome, blobs from ledger_slices") == [
        (FEED, START, "listed", 1)
    ]
    files = 'select "table", sum(rows)::int from ledger_files group by all order by 1 nulls last'
    assert ask(storage, files) == [("exchange_admin", 1), ("exchange_mailbox", 2), (None, 1)]
    assert ask(storage, 'select "table", member, json_type, count from ledger_drift') == [
        ("exchange_mailbox", "Odd", "integer", 1)
    ]
    assert ask(storage, "select tenant, content_id, position, reason, data from rejected") == [
        (TENANT, "a", 2, "no_id", b'{"Id": ""}')
    ]


def test_record_types_are_there_to_join(storage: LocalStorage) -> None:
    assert ask(storage, "select count(*) from record_types") == [(len(record_types()),)]
    joined = "select distinct name from audit join record_types on RecordType = value order by 1"
    assert ask(storage, joined) == [("ExchangeAdmin",), ("ExchangeItem",)]


def test_names_in_a_query_function_are_loaded(storage: LocalStorage) -> None:
    assert ask(storage, "select count(*) from query_table('ledger_' || 'blobs')") == [(3,)]


def test_times_are_utc(storage: LocalStorage) -> None:
    assert ask(storage, "select current_setting('TimeZone')") == [("UTC",)]
    sql = f"select CreationTime::varchar from audit where Id = '{guid(1)}'"
    assert ask(storage, sql) == [("2026-11-20 08:15:01+00",)]


def test_files_of_an_older_and_a_newer_schema_are_read_together(storage: LocalStorage) -> None:
    for number in (3, 4):
        land(new_lake(storage), {f"c{number}": body([record(number, **COMMAND)])})
    older, newer, _ = (Path(storage.uri, o.key) for o in storage.list("audit/table=exchange_admin"))
    pq.write_table(pq.ParquetFile(older).read().drop_columns(["Parameters"]), older)
    pq.write_table(pq.ParquetFile(newer).read().append_column("Added", pa.array([1])), newer)
    found = ask(storage, "select cardinality(Parameters)::int, count(*) from exchange_admin group by all order by 1")
    assert found == [(2, 2), (None, 1)]


def test_filter_on_a_partition_skips_its_files(storage: LocalStorage) -> None:
    for key in [o.key for o in storage.list("audit") if "date=2026-11-20" in o.key]:
        storage.put(key, b"not to be read")
    assert ask(storage, "select Id from exchange_mailbox where date > '2026-11-20'") == [(guid(12),)]


def test_odd_characters_in_the_path_of_the_lake_are_no_pattern(tmp_path: Path) -> None:
    lake = new_lake(storage_at(tmp_path / "it's [a] *?"))
    land(lake, {"a": body([record(1)])})
    assert ask(storage_at(tmp_path / "it's [a] *?"), "select Id from audit") == [(guid(1),)]


def test_files_that_the_ledger_does_not_name_are_not_read(storage: LocalStorage) -> None:
    before = ask(storage, "select count(*) from audit")
    for key in [o.key for o in storage.list("audit")]:
        storage.put(key.replace(".parquet", "-copy.parquet"), storage.get(key))
    storage.put(f"audit/table=generic/tenant={TENANT}/date=2026-11-20/notes.txt", b"")
    storage.put(f"audit/table=generic/tenant={TENANT}/date=2026-11-20/notes.parquet", b"")
    assert ask(storage, "select count(*) from audit") == before


@pytest.mark.parametrize(
    "sql",
    [
        "copy audit to '{out}'",
        "with x as (copy (select 1) to '{out}') select 1",
        "explain analyze copy (select 1) to '{out}'",
        "explain analyze with x as (copy (select 1) to '{out}') select 1",
        "explain (analyze) copy (select 1) to '{out}'",
        "create table x as select 1",
        "attach '{out}'",
        "export database '{out}'",
        "insert into audit values (1)",
        "drop view audit",
        "set threads = 1",
        "pragma version",
        "install httpfs",
        "select 1; select 2",
        "select 1; copy audit to '{out}'",
        "select 1) to '{out}'; copy (select 1",
        "",
        "-- nothing",
    ],
)
def test_what_does_not_only_read_is_refused(storage: LocalStorage, tmp_path: Path, sql: str) -> None:
    message = refusal(storage, sql.replace("{out}", str(tmp_path / "out")))
    assert message.startswith(("a query must be one statement that reads", "Parser Error"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "select 1;",
        "  -- first a comment\nselect 1 -- and last",
        "with x as (select 1) select * from x",
        "from audit select count(*)",
        "describe audit",
        "show tables",
        "summarize exchange_mailbox",
        "EXPLAIN select 1",
        "explain analyze select count(*) from audit",
        "values (1)",
    ],
)
def test_what_only_reads_runs(storage: LocalStorage, sql: str) -> None:
    assert ask(storage, sql)


def test_a_name_that_is_not_there_is_told_with_near_ones(storage: LocalStorage) -> None:
    first, second = refusal(storage, "select UserIdd from audit").splitlines()
    assert first == 'Binder Error: Referenced column "UserIdd" not found in FROM clause!'
    assert second.startswith('Candidate bindings: "UserId", ')
    assert 'Did you mean "audit"?' in refusal(storage, "select * from audi")


def test_error_on_the_way_is_one_line(storage: LocalStorage) -> None:
    assert refusal(storage, "select error('boom ' || Id) from audit").count("\n") == 0
    key = next(o.key for o in storage.list("audit/table=exchange_admin"))
    storage.put(key, b"damaged")
    assert key in refusal(storage, "select * from exchange_admin")


def test_nothing_is_no_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        connect(storage_at(tmp_path))


def lines(storage: LocalStorage, sql: str, form: str) -> list[str]:
    return list(render(run_query(storage, sql), form))


def test_text_is_aligned_and_says_null(storage: LocalStorage) -> None:
    sql = "select Operation, RecordType, ClientIP from exchange_admin union all select 'a longer name', 12, 'x'"
    assert lines(storage, sql, "text") == [
        "Operation      RecordType  ClientIP",
        "-------------  ----------  --------",
        "Update                  1  NULL",
        "a longer name          12  x",
        "(2 rows)",
    ]


def test_text_gives_terminals_no_commands(storage: LocalStorage) -> None:
    assert lines(storage, "select chr(27) || '[2J' || chr(10) || 'é' as x", "text")[2] == "\\x1b[2J\\né"


NESTED = (
    "select map {'a': 'x', 'b': null} m, map {}::map(varchar, varchar) e, [1, 2] l, {'k': [true]} s, "
    "timestamptz '2026-11-20 08:00:00.5+01' t, date '2026-11-20' d, 'x'::blob b, 1.5 n, 2::hugeint h, null z, "
    "'nan'::double f"
)


def test_json_is_one_object_a_line(storage: LocalStorage) -> None:
    (line,) = lines(storage, NESTED, "json")
    assert json.loads(line) == {
        "m": {"a": "x", "b": None},
        "e": {},
        "l": [1, 2],
        "s": {"k": [True]},
        "t": "2026-11-20T07:00:00.500000Z",
        "d": "2026-11-20",
        "b": "x",
        "n": 1.5,
        "h": 2,
        "z": None,
        "f": "nan",
    }


def test_columns_of_one_name_stay_apart_in_json(storage: LocalStorage) -> None:
    assert lines(storage, "select 1 a, 2 a, 3 a_2", "json") == ['{"a": 1, "a_2": 2, "a_2_2": 3}']


def test_csv_can_be_read_back(storage: LocalStorage) -> None:
    sql = "select 'a,\"b' x, 'two' || chr(10) || 'lines' || chr(13) y, null z, {'k': 1} s"
    text = "\n".join(lines(storage, sql, "csv"))
    assert list(csv.reader(StringIO(text, newline=""))) == [
        ["x", "y", "z", "s"],
        ['a,"b', "two\nlines\r", "", '{"k": 1}'],
    ]


def test_time_beyond_all_time_is_shown(storage: LocalStorage) -> None:
    assert "infinity" not in lines(storage, "select 'infinity'::timestamptz t", "json")[0]


def test_explain_is_shown_as_it_is_drawn(storage: LocalStorage) -> None:
    assert len(lines(storage, "explain select 1", "text")) > 3


def test_lake_needs_no_beam_and_loads_duckdb_for_queries_only() -> None:
    code = (
        "import sys, lake.query, lake.export, lake.verify, lake.status, lake.schema_text, lake.landing\n"
        "assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = "import sys, lake.verify, lake.status, lake.landing\nassert 'duckdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_committed_files_are_read_before_they_are_published(storage: LocalStorage) -> None:
    sql = "select Id, tenant, date::varchar from audit order by 1"
    before = ask(storage, sql)
    for file in TenantLake(storage, TENANT).ledger.state.files.values():
        if layout.partition_of(file.ref.key):
            storage.move(file.ref.key, file.ref.staged)
            assert ask(storage, sql) == before
    assert ask(storage, f"{sql} limit 1") == before[:1]
