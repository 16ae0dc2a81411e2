"""A record that is delivered again under its Id: the same is a duplicate, another body a conflict that is kept."""

import json
from pathlib import Path

import pytest

from lake import layout
from lake.entries import Landing
from lake.export import export
from lake.rejected import RejectedRecord, read_rejected
from lake.tenant import TenantLake
from lake.verify import describe, verify
from tests.lake_records import TENANT, blob, body, land, list_blobs, new_lake, record, storage_at, unit_of


@pytest.fixture
def lake(tmp_path: Path) -> TenantLake:
    return new_lake(storage_at(tmp_path))


def counts(entry: Landing | None) -> dict[str, tuple[int, int, int, int, int]]:
    assert entry is not None
    return {b.content_id: (b.records, b.rows, b.duplicates, b.rejects, b.conflicts) for b in entry.blobs}


def rejected(lake: TenantLake) -> list[RejectedRecord]:
    return [r for o in lake.storage.list(layout.REJECTED) for r in read_rejected(lake.storage.get(o.key))]


def sound(lake: TenantLake) -> None:
    assert verify(lake.storage).problems == []


NESTED = {"Item": {"Id": "i", "Subject": "s"}, "Odd": {"a": 1, "b": [1.50, {"c": None}]}}


def reordered(value: object) -> object:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(list(value))}
    return [reordered(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("where", ["same blob", "same unit", "later unit", "later process"])
def test_same_record_with_members_in_another_order_is_a_duplicate(lake: TenantLake, where: str) -> None:
    first, again = record(1, **NESTED), reordered(record(1, **NESTED))
    if where == "same blob":
        assert counts(land(lake, {"a": body([first, again])})) == {"a": (2, 1, 1, 0, 0)}
    elif where == "same unit":
        found = counts(land(lake, {"a": body([first]), "b": body([again])}))
        assert found == {"a": (1, 1, 0, 0, 0), "b": (1, 0, 1, 0, 0)}
    else:
        land(lake, {"a": body([first])})
        later = new_lake(lake.storage) if where == "later process" else lake
        assert counts(land(later, {"b": body([again])})) == {"b": (1, 0, 1, 0, 0)}
    sound(lake)


@pytest.mark.parametrize("where", ["same blob", "same unit", "later unit", "later process"])
@pytest.mark.parametrize(
    "change",
    [{"UserId": "other@contoso.com"}, {"Odd": {"a": 1, "b": [1.51, {"c": None}]}}, {"New": None}, {"RecordType": 999}],
)
def test_another_body_under_the_same_id_is_kept_as_a_conflict(
    lake: TenantLake, where: str, change: dict[str, object]
) -> None:
    first, other = record(1, **NESTED), record(1, **(NESTED | change))
    if where == "same blob":
        assert counts(land(lake, {"a": body([first, record(2), other])})) == {"a": (3, 2, 0, 1, 1)}
    elif where == "same unit":
        found = counts(land(lake, {"a": body([first]), "b": body([other])}))
        # Records are decoded table by table: which of two tables comes first is not the blobs' order.
        assert sorted(found.values()) == [(1, 0, 0, 1, 1), (1, 1, 0, 0, 0)]
    else:
        land(lake, {"a": body([first])})
        later = new_lake(lake.storage) if where == "later process" else lake
        assert counts(land(later, {"b": body([other])})) == {"b": (1, 0, 0, 1, 1)}
    (kept,) = rejected(lake)
    assert kept.reason == "conflict"
    landed = [json.loads(line) for line in export(lake.storage)]
    assert json.loads(kept.data) in (first, other)
    assert len([r for r in landed if r["Id"] == first["Id"]]) == 1
    assert json.loads(kept.data) not in landed
    sound(lake)


def test_conflict_says_where_it_stood(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1), record(2), record(3), record(2, UserId="x")])})
    (kept,) = rejected(lake)
    assert (kept.content_id, kept.position) == ("a", 3)


def test_conflict_with_a_staged_file_of_the_same_unit_is_found(
    lake: TenantLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lake.stage.CHUNK_RECORDS", 2)
    monkeypatch.setattr("lake.stage.HELD_BYTES", 1)
    found = land(lake, {"a": body([record(1), record(2), record(1, UserId="x"), record(2)])})
    assert counts(found) == {"a": (4, 2, 1, 1, 1)}
    sound(lake)


def test_conflict_with_what_another_collector_committed_first_is_found(lake: TenantLake) -> None:
    list_blobs(lake, [blob("a"), blob("b")])
    mine = unit_of(lake, {"a": body([record(1), record(2), record(3)])})
    mine._stage.flush()
    land(new_lake(lake.storage), {"b": body([record(1, UserId="x"), record(2)])})
    assert counts(mine.commit()) == {"a": (3, 1, 1, 1, 1)}
    assert [r.content_id for r in rejected(lake)] == ["a"]
    sound(lake)


def test_conflicts_are_told_by_verify(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1), record(1, UserId="x")])})
    found = verify(lake.storage)
    (feed,) = found.feeds
    assert (feed.rejects, feed.conflicts) == (1, 1)
    assert "conflicts" in describe(found)


def test_body_that_is_no_array_is_kept_whole_and_asked_for_again(lake: TenantLake) -> None:
    list_blobs(lake, [blob("a")])
    for body_bytes in (b"<html>", b"<html>", b"[{"):
        unit = unit_of(lake, {})
        unit.add_unreadable(blob("a"), body_bytes, "no array")
        unit.commit()
    assert [(r.position, r.reason, r.data) for r in rejected(lake)] == [(-1, "unreadable", b"[{")]
    assert list(lake.ledger.state.unsettled) == ["a"]
    sound(lake)
    unit = unit_of(lake, {})
    unit.add_failed(blob("a"), "HTTP 500")
    assert unit.commit() is None, "the kept body says more"
    assert counts(land(lake, {"a": body([record(1)])})) == {"a": (1, 1, 0, 0, 0)}
    assert rejected(lake) == []
    assert lake.ledger.state.unsettled == {}
    sound(lake)


def test_kept_body_that_a_crash_left_behind_is_removed_by_the_next_run(
    lake: TenantLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_blobs(lake, [blob("a")])
    unit = unit_of(lake, {})
    unit.add_unreadable(blob("a"), b"<html>", "no array")
    unit.commit()
    with monkeypatch.context() as patch:
        patch.setattr(type(lake.storage), "delete", lambda *_: None)  # died before it
        land(lake, {"a": body([record(1)])})
    (problem,) = verify(lake.storage).problems
    assert "any next run removes it" in problem.what
    new_lake(lake.storage)
    assert rejected(lake) == []
    assert list(lake.storage.list(layout.STAGING)) == []
    sound(lake)


def test_announced_removal_that_was_not_committed_removes_nothing(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1), 7])})
    keys = list(lake.ledger.state.files)
    lake.storage.put(layout.removal(TENANT), json.dumps(keys).encode())
    lake.storage.put(layout.removal(TENANT), json.dumps(["../outside", "audit/x.parquet"]).encode())
    new_lake(lake.storage)
    sound(lake)


def test_copies_of_a_conflict_are_conflicts_and_those_of_a_new_row_duplicates(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1)])})
    first, other = record(2), record(1, UserId="x")
    found = counts(land(lake, {"b": body([other, first, other]), "c": body([first, record(1), other])}))
    assert found == {"b": (3, 1, 0, 2, 2), "c": (3, 0, 2, 1, 1)}
    assert sorted((r.content_id, r.position) for r in rejected(lake)) == [("b", 0), ("b", 2), ("c", 2)]
    sound(lake)
