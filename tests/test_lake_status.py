"""Status: how far each feed is, and where `--start auto` goes on. And the tables as text, Avro and SQL."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from lake.entries import LISTED, LOST, UNLISTED, Listing, Slice, State
from lake.landing import Unit
from lake.schema_text import describe_schema
from lake.status import OpenBlob, describe, frontier, status, to_json
from lake.storage import LakeError
from lake.tenant import TenantLake
from schemas.model import tables
from tests.lake_records import FEED, HOUR, START, TENANT, blob, body, land, list_blobs, new_lake, record, storage_at


def state_of(*slices: tuple[float, float, str], at: datetime | None = None) -> State:
    """A state after slices were listed one after the other: hours since START, and how it went."""
    state = State()
    for start, end, outcome in slices:
        one = Slice(START + start * HOUR, START + end * HOUR, outcome, at or START + timedelta(days=1))
        state.apply(Listing("run", one.at, FEED, [one], []))
    return state


@pytest.mark.parametrize(
    ("slices", "hours"),
    [
        ([], None),
        ([(0, 1, LISTED)], 1),
        ([(0, 1, LISTED), (1, 2, LISTED), (2, 3, LISTED)], 3),
        ([(2, 3, LISTED), (0, 1, LISTED), (1, 2, LISTED)], 3),
        ([(0, 1, LISTED), (2, 3, LISTED)], 1),
        ([(0, 1, LISTED), (1, 2, UNLISTED), (2, 3, LISTED)], 1),
        ([(0, 1, LISTED), (1, 2, UNLISTED), (2, 3, LISTED), (1, 2, LISTED)], 3),
        ([(0, 1, UNLISTED), (1, 2, LISTED)], None),
        ([(0, 5, LOST), (5, 6, LISTED)], 6),
        ([(0, 0.5, LOST), (0.5, 1, LISTED), (1, 2, LISTED)], 2),
        ([(0, 4, LOST), (1, 2, UNLISTED), (3, 5, LISTED)], 5),
        ([(0, 1, LISTED), (0.5, 3, LISTED)], 3),
    ],
)
def test_frontier_ends_at_the_first_hole(slices: list[tuple[float, float, str]], hours: float | None) -> None:
    assert frontier(state_of(*slices), FEED) == (None if hours is None else START + hours * HOUR)


def test_slice_that_was_not_over_is_known_up_to_its_listing() -> None:
    at = START + 1.5 * HOUR
    assert frontier(state_of((0, 1, LISTED), (1, 2, LISTED), at=at), FEED) == at


def test_frontier_of_another_feed_is_its_own() -> None:
    assert frontier(state_of((0, 1, LISTED)), "Audit.General") is None


def filled(folder: Path) -> TenantLake:
    lake = new_lake(storage_at(folder))
    land(lake, {"a": body([record(1), record(2, Odd=1), record(1), {"Id": ""}])})
    list_blobs(lake, [blob(n, created=START + HOUR) for n in ("failed", "expired", "pending")], start=START + HOUR)
    unit = Unit(lake, "run", FEED)
    unit.add_failed(blob("failed", created=START + HOUR), "HTTP 500")
    unit.add_failed(blob("expired", created=START + HOUR), "gone", expired=True)
    unit.commit()
    list_blobs(lake, [], start=START + 2 * HOUR, outcome=UNLISTED)
    return lake


def test_status_counts_what_the_ledger_says(tmp_path: Path) -> None:
    lake = filled(tmp_path)
    (tenant,) = status(lake.storage).tenants
    (feed,) = tenant.feeds
    assert (tenant.tenant, tenant.drift, feed.content_type) == (TENANT, 1, FEED)
    assert (feed.frontier, feed.last_listed) == (START + 2 * HOUR, START + 2 * HOUR)
    assert (feed.landed, feed.pending, feed.failed, feed.expired) == (1, 1, 1, 1)
    assert (feed.records, feed.rows, feed.duplicates, feed.rejects) == (4, 2, 1, 1)
    created = START + HOUR
    assert feed.oldest_open == OpenBlob("failed", created, created + timedelta(days=7))
    (table,) = tenant.tables
    sizes = [o.size for o in lake.storage.list("audit")]
    assert (table.table, table.files, table.bytes, table.rows) == ("exchange_mailbox", len(sizes), sum(sizes), 2)


def test_status_reads_well(tmp_path: Path) -> None:
    lines = describe(status(filled(tmp_path).storage)).splitlines()
    assert lines[0] == f"tenant {TENANT}"
    assert lines[3].split()[:4] == [FEED, "2026-11-20T10:00:00Z", "-", "2026-11-20T10:00:00Z"]
    assert lines[4] == (
        f"{FEED}: oldest blob not landed is failed of 2026-11-20T09:00:00Z, expires 2026-11-27T09:00:00Z"
    )
    assert lines[-1].startswith("1 members kept in _extra")


def test_status_is_json_with_iso_times(tmp_path: Path) -> None:
    found = json.loads(json.dumps(to_json(status(filled(tmp_path).storage))))
    (feed,) = found["tenants"][0]["feeds"]
    assert feed["frontier"] == "2026-11-20T10:00:00Z"
    assert feed["oldest_open"]["content_id"] == "failed"


def test_status_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        status(storage_at(tmp_path))


def test_text_names_every_column() -> None:
    for table in tables().values():
        words = [line.split()[0] for line in describe_schema(table.name, "text").splitlines() if line]
        assert [w for w in words[3:] if "." not in w] == [*(c.name for c in table.columns), "tenant", "date"]


def test_avro_is_the_schema_itself() -> None:
    assert json.loads(describe_schema("sharepoint", "avro")) == tables()["sharepoint"].avro
    assert [s["name"] for s in json.loads(describe_schema(None, "avro"))] == list(tables())


def test_ddl_makes_the_tables() -> None:
    con = duckdb.connect()
    con.execute(describe_schema(None, "ddl"))
    for table in tables().values():
        found = con.execute("select column_name from duckdb_columns() where table_name = ?", [table.name]).fetchall()
        assert [row[0] for row in found] == [*(c.name for c in table.columns), "tenant", "date"]


def test_table_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        describe_schema("nothing", "text")
