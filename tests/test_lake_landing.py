"""Landing: every record once, every count right, whoever lands what at the same time."""

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from lake import layout
from lake.committed import read_committed
from lake.entries import EXPIRED, FAILED, LANDED, Landing
from lake.export import export
from lake.landing import Unit
from lake.rejected import RejectedRecord, read_rejected, write_rejected
from lake.storage import LakeError, Storage
from lake.storage_local import LocalStorage
from lake.tenant import SWEEP_AGE, TenantLake
from lake.verify import Verification, verify
from schemas.decode import NotAnArrayError
from tests.lake_records import FEED, START, TENANT, blob, body, guid, land, list_blobs, new_lake, record, storage_at
from tests.lake_records import unit_of as unit_with


@pytest.fixture
def lake(tmp_path: Path) -> TenantLake:
    return new_lake(storage_at(tmp_path))


def rows(storage: Storage) -> list[str]:
    return sorted(export(storage))


def ids(storage: Storage) -> list[str]:
    return sorted(line.partition('"Id":"')[2][:36] for line in export(storage))


def guids(numbers: Iterable[int]) -> list[str]:
    return [guid(n) for n in numbers]


def counts(entry: Landing | None) -> dict[str, tuple[int, int, int, int]]:
    assert entry is not None
    return {b.content_id: (b.records, b.rows, b.duplicates, b.rejects) for b in entry.blobs}


def sound(storage: Storage) -> Verification:
    found = verify(storage)
    assert found.problems == []
    return found


def test_record_repeated_within_a_blob_lands_once(lake: TenantLake) -> None:
    assert counts(land(lake, {"a": body([record(1), record(2), record(1)])})) == {"a": (3, 2, 1, 0)}
    assert ids(lake.storage) == guids([1, 2])
    sound(lake.storage)


def test_record_repeated_within_a_unit_lands_once(lake: TenantLake) -> None:
    found = land(lake, {"a": body([record(1), record(2)]), "b": body([record(2), record(3)])})
    assert counts(found) == {"a": (2, 2, 0, 0), "b": (2, 1, 1, 0)}
    sound(lake.storage)


def test_record_repeated_across_units_lands_once(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1), record(2)])})
    assert counts(land(lake, {"b": body([record(2), record(3)])})) == {"b": (2, 1, 1, 0)}
    assert counts(land(new_lake(lake.storage), {"c": body([record(1), record(3)])})) == {"c": (2, 0, 2, 0)}
    assert ids(lake.storage) == guids([1, 2, 3])
    sound(lake.storage)


def test_record_of_an_old_file_is_known_too(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    land(lake, {"a": body([record(1), record(11)])})
    monkeypatch.setattr("lake.committed.limits", lambda: {"retention": -1000})
    assert counts(land(new_lake(lake.storage), {"b": body([record(1), record(2), record(11)])})) == {"b": (3, 1, 2, 0)}
    sound(lake.storage)


def test_old_file_that_could_not_be_read_is_tried_again(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    land(lake, {"a": body([record(1)])})
    monkeypatch.setattr("lake.committed.limits", lambda: {"retention": -1000})
    again = new_lake(lake.storage)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "open", refuse)
        with pytest.raises(LakeError, match="disk"):
            land(again, {"b": body([record(1)])})
    assert counts(land(again, {"b": body([record(1)])})) == {"b": (1, 0, 1, 0)}


def refuse(*_: object) -> None:
    raise LakeError("the disk is gone")


def test_blob_that_stands_twice_in_a_unit_lands_once(lake: TenantLake) -> None:
    list_blobs(lake, [blob("a")])
    unit = Unit(lake, "run", FEED)
    assert unit.add(blob("a"), body([record(1), {"Id": ""}])) == 2
    assert unit.add(blob("a"), body([record(1), {"Id": ""}])) == 2
    assert counts(unit.commit()) == {"a": (2, 1, 0, 1)}
    sound(lake.storage)


@pytest.mark.parametrize("before", ["[", " [", "[ ", "[,", "\ufeff["])
@pytest.mark.parametrize("between", [",", "", ",,", " ,", ", "])
@pytest.mark.parametrize("after", [",", "", ",,", ",  "])
def test_records_land_as_they_are_whatever_stands_between_them(
    lake: TenantLake, before: str, between: str, after: str
) -> None:
    one, two, three = (body([record(n, New="a,b")]).decode()[1:-1] for n in range(3))
    entry = land(lake, {"a": f"{before}{one}{between}{two}{after}{three}]".encode()})
    assert counts(entry) == {"a": (3, 3, 0, 0)}
    assert entry is not None
    rows = [row for f in entry.files for row in read_committed(lake.storage, f).to_pylist()]
    assert sorted((r["Id"], r["_extra"]) for r in rows) == [(guid(n), '{"New":"a,b"}') for n in range(3)]


@pytest.mark.parametrize("first_fails", [True, False])
def test_blob_that_fails_once_and_lands_once_in_a_unit_has_landed(lake: TenantLake, first_fails: bool) -> None:
    list_blobs(lake, [blob("a")])
    unit = Unit(lake, "run", FEED)
    if first_fails:
        unit.add_failed(blob("a"), "HTTP 500")
    unit.add(blob("a"), body([record(1)]))
    if not first_fails:
        unit.add_failed(blob("a"), "HTTP 500")
    entry = unit.commit()
    assert [b.status for b in entry.blobs] == [LANDED]
    sound(lake.storage)


def test_blob_that_is_no_array_leaves_nothing_in_its_unit(lake: TenantLake) -> None:
    list_blobs(lake, [blob("a"), blob("b")])
    unit = Unit(lake, "run", FEED)
    unit.add(blob("b"), body([record(1)]))
    with pytest.raises(NotAnArrayError):
        unit.add(blob("a"), b"<html>")
    unit.add_failed(blob("a"), "no array")
    unit.commit()
    (feed,) = sound(lake.storage).feeds
    assert (feed.landed, feed.failed, feed.records) == (1, 1, 1)


def test_failed_blob_lands_later(lake: TenantLake) -> None:
    list_blobs(lake, [blob("a")])
    unit = Unit(lake, "run", FEED)
    unit.add_failed(blob("a"), "HTTP 500")
    unit.commit()
    assert lake.ledger.state.blobs["a"].status == FAILED
    assert not lake.ledger.state.is_settled("a")
    assert counts(land(lake, {"a": body([record(1)])})) == {"a": (1, 1, 0, 0)}
    state = lake.ledger.state.blobs["a"]
    assert (state.status, state.error) == (LANDED, None)
    sound(lake.storage)


def test_landed_blob_that_is_listed_and_fetched_again_adds_nothing(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1)])})
    before = lake.ledger.state.version
    assert land(lake, {"a": body([record(1)])}) is None
    assert lake.ledger.state.version == before + 1  # the listing
    unit = Unit(lake, "run", FEED)
    unit.add_failed(blob("a"), "HTTP 500")
    assert unit.commit() is None
    sound(lake.storage)


def test_empty_blob_lands_without_a_file(lake: TenantLake) -> None:
    entry = land(lake, {"a": b"[]"})
    assert counts(entry) == {"a": (0, 0, 0, 0)}
    assert entry is not None
    assert entry.files == []
    sound(lake.storage)


def test_many_records_land_in_many_stages(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lake.stage.CHUNK_RECORDS", 3)
    monkeypatch.setattr("lake.stage.HELD_BYTES", 0)
    bodies = {f"b{n}": body([record(k) for k in range(n, n + 7)] + [{"Id": ""}]) for n in range(5)}
    entry = land(lake, bodies)
    assert ids(lake.storage) == guids(range(11))
    assert counts(entry) == {"b0": (8, 7, 0, 1)} | {f"b{n}": (8, 1, 6, 1) for n in range(1, 5)}
    sound(lake.storage)


def test_two_collectors_landing_the_same_records_land_each_once(tmp_path: Path) -> None:
    one, two = new_lake(storage_at(tmp_path)), new_lake(storage_at(tmp_path))
    list_blobs(one, [blob(n) for n in "abc"])
    mine = unit_with(one, {"a": body([record(1), record(2)]), "b": body([record(3), {"Id": ""}])})
    theirs = unit_with(two, {"b": body([record(3), {"Id": ""}]), "c": body([record(2), record(3), record(4)])})
    assert counts(mine.commit()) == {"a": (2, 2, 0, 0), "b": (2, 1, 0, 1)}
    assert counts(theirs.commit()) == {"c": (3, 1, 2, 0)}
    assert ids(one.storage) == guids([1, 2, 3, 4])
    assert list(one.storage.list(layout.STAGING)) == []
    sound(one.storage)


def test_unit_that_others_landed_whole_commits_nothing(tmp_path: Path) -> None:
    one, two = new_lake(storage_at(tmp_path)), new_lake(storage_at(tmp_path))
    list_blobs(one, [blob("a")])
    late = unit_with(two, {"a": body([record(1)])})
    unit_with(one, {"a": body([record(1)])}).commit()
    assert late.commit() is None
    assert list(one.storage.list(layout.STAGING)) == []
    sound(one.storage)


def test_blob_that_expired_for_another_collector_still_lands(tmp_path: Path) -> None:
    one, two = new_lake(storage_at(tmp_path)), new_lake(storage_at(tmp_path))
    list_blobs(one, [blob("a"), blob("b")])
    mine = unit_with(one, {"a": body([record(1)]), "b": body([record(1), record(2)])})
    theirs = Unit(two, "run", FEED)
    theirs.add_failed(blob("a"), "gone", expired=True)
    theirs.commit()
    assert counts(mine.commit()) == {"a": (1, 1, 0, 0), "b": (2, 1, 1, 0)}
    assert ids(one.storage) == guids([1, 2])
    sound(one.storage)


def test_rejects_are_staged_once_however_often_the_race_is_lost(tmp_path: Path) -> None:
    one, two = new_lake(storage_at(tmp_path)), new_lake(storage_at(tmp_path))
    list_blobs(one, [blob("a"), blob("b")])
    unit = unit_with(one, {"a": body([{"Id": ""}]), "b": body([{"Id": "x"}])})
    put = one.storage.put_if_absent
    lost = iter([lambda: list_blobs(two, []), lambda: land(two, {"a": body([{"Id": ""}])})])

    def raced(key: str, data: bytes) -> bool:
        if other := next(lost, None):
            other()
        return put(key, data)

    one.storage.put_if_absent = raced  # type: ignore[method-assign]
    assert counts(unit.commit()) == {"b": (1, 0, 0, 1)}
    assert list(one.storage.list(layout.STAGING)) == []
    sound(one.storage)


@pytest.mark.parametrize("collectors", [1, 4])
def test_threads_landing_overlapping_blobs_lose_and_double_nothing(tmp_path: Path, collectors: int) -> None:
    lakes = [new_lake(storage_at(tmp_path)) for _ in range(collectors)]
    names = [f"b{n}" for n in range(12)]
    list_blobs(lakes[0], [blob(n) for n in names])
    bodies = {n: body([record(k * 3 + j) for j in range(9)] + [{"Id": ""}]) for k, n in enumerate(names)}

    def work(worker: int) -> None:
        lake = lakes[worker % collectors]
        for start in range(12):
            chosen = [names[(start * 5 + worker + k) % 12] for k in range(3)]
            unit_with(lake, {n: bodies[n] for n in chosen}).commit()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    (feed,) = sound(lakes[0].storage).feeds
    assert (feed.listed, feed.landed, feed.records, feed.rejects) == (12, 12, 120, 12)
    assert (feed.rows, feed.duplicates) == (42, 66)
    assert ids(lakes[0].storage) == guids(range(42))
    assert list(lakes[0].storage.list(layout.STAGING)) == []


def test_file_that_could_not_be_published_is_published_by_the_next_commit(
    lake: TenantLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_blobs(lake, [blob("a")])
    unit = unit_with(lake, {"a": body([record(1)])})
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "move", refuse)
        with pytest.raises(LakeError):
            unit.commit()
    assert list(lake.storage.list(layout.AUDIT)) == []
    assert land(lake, {"a": body([record(1)])}) is None
    land(lake, {"b": body([record(1), record(2)])})
    assert ids(lake.storage) == guids([1, 2])
    sound(lake.storage)


def test_leftovers_are_swept_when_no_live_run_can_own_them(lake: TenantLake) -> None:
    other = "99999999-2222-4333-8444-555555555555"
    keys = [layout.staged(TENANT, "old"), f"{layout.ASIDE}/old", f"{layout.ASIDE}/probe-old"]
    kept = [layout.staged(TENANT, "new"), f"{layout.ASIDE}/new", layout.staged(other, "old")]
    for key in keys + kept:
        lake.storage.put(key, b"")
        if key.endswith("old"):
            age = time.time() - SWEEP_AGE.total_seconds() - 60
            os.utime(Path(lake.storage.uri, key), (age, age))
    lake.recover()
    assert {o.key for o in lake.storage.list(layout.STAGING)} == set(kept)


def test_old_staged_file_that_was_committed_meanwhile_is_published_not_swept(tmp_path: Path) -> None:
    late = new_lake(storage_at(tmp_path))
    slow = new_lake(storage_at(tmp_path))
    list_blobs(slow, [blob("a")])
    unit = unit_with(slow, {"a": body([record(1)])})
    slow.publish = lambda _: None  # type: ignore[method-assign, assignment]
    unit.commit()
    for stored in slow.storage.list(layout.STAGING):
        os.utime(Path(slow.storage.uri, stored.key), (0, 0))
    late.recover()
    assert ids(late.storage) == guids([1])
    sound(late.storage)


def test_rejected_records_come_back_as_they_were(lake: TenantLake) -> None:
    odd = b'[{"Id": "x"}, 7, {"Id":"\xff","CreationTime":"2026-11-20T08:00:00"}, {"Id": "y", "CreationTime": "never"}, '
    odd += b'{"Id": "cut'
    entry = land(lake, {"a": odd, "b": body([record(1), None])})
    assert counts(entry) == {"a": (5, 0, 0, 5), "b": (2, 1, 0, 1)}
    (stored,) = lake.storage.list(layout.REJECTED)
    found = list(read_rejected(lake.storage.get(stored.key)))
    assert [(r.content_id, r.position, r.data) for r in found] == [
        ("a", 0, b'{"Id": "x"}'),
        ("a", 1, b"7"),
        ("a", 2, b'{"Id":"\xff","CreationTime":"2026-11-20T08:00:00"}'),
        ("a", 3, b'{"Id": "y", "CreationTime": "never"}'),
        ("a", 4, b'{"Id": "cut'),
        ("b", 1, b"null"),
    ]
    assert list(read_rejected(write_rejected(found))) == found
    sound(lake.storage)


def test_rejected_record_keeps_microseconds_of_its_blob() -> None:
    created = START + timedelta(microseconds=204_001)
    one = RejectedRecord(TENANT, FEED, "a", "https://x", created, 3, "no_id", b"{}")
    assert list(read_rejected(write_rejected([one]))) == [one]


def test_blob_that_expired_does_not_become_one_that_failed(lake: TenantLake) -> None:
    list_blobs(lake, [blob("a")])
    for expired in (True, False):
        unit = Unit(lake, "run", FEED)
        unit.add_failed(blob("a"), "gone", expired=expired)
        unit.commit()
    assert lake.ledger.state.blobs["a"].status == EXPIRED
