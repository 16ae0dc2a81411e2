"""Replay: what was rejected is tried again; what fits now lands once and leaves the rejects."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lake import layout
from lake.entries import LANDED, Rewrite
from lake.export import export
from lake.gaps import find_gaps
from lake.landing import Unit
from lake.rejected import read_rejected
from lake.replay import ReplayCounts, replay
from lake.storage import open_storage
from lake.tenant import TenantLake
from lake.verify import verify
from schemas.times import parse_wire
from tests.lake_records import FEED, HOUR, START, blob, body, guid, land, list_blobs, new_lake, record, storage_at

ODD = "20/11/2026 08:15"
NOW = START + HOUR


@pytest.fixture
def lake(tmp_path: Path) -> TenantLake:
    return new_lake(storage_at(tmp_path))


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes a newer auditlake, which reads a form of time that the one before did not."""

    def patch() -> None:
        def read(text: str) -> datetime | None:
            return datetime(2026, 11, 20, 8, 15, tzinfo=UTC) if text == ODD else parse_wire(text)

        monkeypatch.setattr("schemas.fit.parse_wire", read)

    return patch


def ids(lake: TenantLake) -> list[str]:
    return sorted(json.loads(line)["Id"] for line in export(lake.storage))


def reasons(lake: TenantLake) -> list[str]:
    found = (r for o in lake.storage.list(layout.REJECTED) for r in read_rejected(lake.storage.get(o.key)))
    return sorted(r.reason for r in found)


def sound(lake: TenantLake) -> None:
    assert verify(lake.storage).problems == []
    assert list(lake.storage.list(layout.STAGING)) == []


def test_what_fits_now_lands_and_the_rest_stays_rejected(lake: TenantLake, today: Callable[[], None]) -> None:
    odd, same, other = (record(n, CreationTime=ODD) for n in (1, 2, 3))
    land(lake, {"a": body([record(4), odd, 7, same]), "b": body([same, other, record(4, UserId="x")])})
    assert reasons(lake) == ["conflict", *["no_creation_time"] * 4, "not_an_object"]
    assert replay(lake, "replay", NOW) == ReplayCounts(tried=5, rejected=5), "nothing fits yet"
    today()
    assert replay(lake, "replay", NOW) == ReplayCounts(tried=5, rows=3, duplicates=1, rejected=1)
    assert ids(lake) == [guid(n) for n in (1, 2, 3, 4)]
    assert reasons(lake) == ["conflict", "not_an_object"]
    state = lake.ledger.state
    told = {i: (b.records, b.rows, b.duplicates, b.rejects, b.conflicts) for i, b in state.blobs.items()}
    assert told == {"a": (4, 3, 0, 1, 0), "b": (3, 1, 1, 1, 1)}
    (entry,) = [e for e in lake.ledger.entries_after(0) if isinstance(e, Rewrite)]
    assert entry.cause == "replay"
    sound(lake)
    assert replay(new_lake(lake.storage), "again", NOW) == ReplayCounts(tried=1, rejected=1)
    sound(lake)


def test_replayed_record_whose_id_has_landed_meanwhile_is_compared(lake: TenantLake, today: Callable[[], None]) -> None:
    land(lake, {"a": body([record(1, CreationTime=ODD), record(2, CreationTime=ODD)])})
    today()
    land(lake, {"b": body([record(1, CreationTime=ODD), record(2, UserId="x")])})
    assert replay(lake, "replay", NOW) == ReplayCounts(tried=2, duplicates=1, conflicts=1)
    assert reasons(lake) == ["conflict"]
    sound(lake)


def test_two_replays_at_once_land_everything_once(lake: TenantLake, today: Callable[[], None]) -> None:
    land(lake, {"a": body([record(1, CreationTime=ODD)])})
    today()
    rival, raced = new_lake(open_storage(lake.storage.uri)), []
    put = lake.storage.put_if_absent

    def race(key: str, data: bytes) -> bool:
        if not raced:
            raced.append(replay(rival, "rival", NOW))
        return put(key, data)

    lake.storage.put_if_absent = race  # type: ignore[method-assign]
    assert replay(lake, "replay", NOW) == ReplayCounts()
    assert raced == [ReplayCounts(tried=1, rows=1)]
    assert ids(lake) == [guid(1)]
    sound(lake)


def unreadable(lake: TenantLake, data: bytes) -> None:
    list_blobs(lake, [blob("a")])
    unit = Unit(lake, "run", FEED)
    unit.add_unreadable(blob("a"), data, "no whole array")
    unit.commit()


def test_body_that_breaks_off_lands_as_far_as_it_goes_when_the_service_has_it_no_more(lake: TenantLake) -> None:
    unreadable(lake, body([record(1), record(2), record(3)])[:-20])
    assert replay(lake, "replay", NOW) == ReplayCounts(bodies_tried=1)
    assert ids(lake) == []
    later = blob("a").content_expiration + HOUR
    assert replay(lake, "replay", later) == ReplayCounts(tried=3, rows=2, rejected=1, bodies_tried=1, bodies_landed=1)
    assert ids(lake) == [guid(1), guid(2)]
    state = lake.ledger.state.blobs["a"]
    assert (state.status, state.records, state.rows, state.rejects) == (LANDED, 3, 2, 1)
    assert lake.ledger.state.unsettled == {}
    sound(lake)
    (gap,) = [g for g in find_gaps(lake.tenant, lake.ledger.state, later) if g.blobs]
    assert (gap.kind, gap.blobs, gap.until) == ("cut off", ("a",), None)


def test_cut_body_stays_named_when_its_rest_is_tried_again(lake: TenantLake, today: Callable[[], None]) -> None:
    unreadable(lake, body([record(1), record(2, CreationTime=ODD), record(3)])[:-20])
    later = blob("a").content_expiration + HOUR
    assert replay(lake, "replay", later).rows == 1
    today()
    assert replay(lake, "again", later) == ReplayCounts(tried=2, rows=1, rejected=1)
    assert [g.kind for g in find_gaps(lake.tenant, lake.ledger.state, later) if g.blobs] == ["cut off"]
    sound(lake)


def test_body_that_is_no_array_stays(lake: TenantLake) -> None:
    unreadable(lake, b"<html>")
    later = blob("a").content_expiration + HOUR
    assert replay(lake, "replay", later) == ReplayCounts(bodies_tried=1)
    assert reasons(lake) == ["unreadable"]
    sound(lake)
