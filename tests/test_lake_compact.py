"""Compaction: few files in the place of many, with the same rows, whoever else is at work."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import layout, merge
from lake.compact import Compaction, compact, compact_tenant, find_piles
from lake.entries import FileRef, Rewrite
from lake.export import export
from lake.storage import open_storage
from lake.tenant import TenantLake
from lake.verify import verify
from tests.lake_records import TENANT, body, land, new_lake, record, storage_at

LATER = datetime(2026, 12, 1, tzinfo=UTC)
NOTHING = timedelta()


@pytest.fixture
def lake(tmp_path: Path) -> TenantLake:
    lake = new_lake(storage_at(tmp_path))
    for name, numbers in {"a": (1, 5, 12), "b": (3, 2, 13), "c": (4, 14, 9)}.items():
        land(lake, {name: body([record(n, Odd=n) for n in numbers])})
    return lake


def published(lake: TenantLake) -> list[str]:
    return [o.key for o in lake.storage.list(layout.AUDIT)]


def rows(lake: TenantLake) -> list[str]:
    return sorted(export(lake.storage))


def run(lake: TenantLake, now: datetime = LATER) -> Compaction:
    return compact_tenant(lake, "compact", now, NOTHING)


def sound(lake: TenantLake) -> None:
    assert verify(lake.storage).problems == []
    assert list(lake.storage.list(layout.STAGING)) == []
    assert published(lake) == sorted(k for k in lake.ledger.state.files if layout.partition_of(k))


def test_files_of_a_day_become_one_with_the_same_rows_in_the_order_of_time(lake: TenantLake) -> None:
    before, old = rows(lake), published(lake)
    found = run(lake)
    assert (found.days, found.files_before, found.files_after, found.rows, found.busy) == (2, 6, 2, 9, 0)
    assert rows(lake) == before
    assert not set(published(lake)) & set(old)
    sound(lake)
    for key in published(lake):
        times = pq.ParquetFile(Path(lake.storage.uri, key)).read(["CreationTime"])["CreationTime"].to_pylist()
        assert times == sorted(times)
    assert run(lake) == Compaction(), "what was made is not made again"


def test_entry_names_what_went_and_what_came_and_changes_no_outcome(lake: TenantLake) -> None:
    outcomes = dict(lake.ledger.state.blobs)
    old = {k: f.at for k, f in lake.ledger.state.files.items()}
    run(lake)
    entries = [e for e in lake.ledger.entries_after(0) if isinstance(e, Rewrite)]
    assert [(e.run, e.cause, len(e.removed), len(e.files), e.blobs) for e in entries] == [
        ("compact", "compaction", 3, 1, [])
    ] * 2
    assert lake.ledger.state.blobs == outcomes
    for e in entries:
        assert lake.ledger.state.files[e.files[0].key].at == max(old[k] for k in e.removed)


@pytest.mark.parametrize(
    ("now", "days"), [("2026-11-20T23:59:59", 0), ("2026-11-21T00:00:00", 1), ("2026-11-22T00:00:00", 2)]
)
def test_only_days_that_are_over_are_compacted(lake: TenantLake, now: str, days: int) -> None:
    over_by = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert compact_tenant(lake, "compact", over_by + timedelta(hours=48), timedelta(hours=48)).days == days
    sound(lake)


def test_large_files_are_left_alone(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lake.compact.TARGET_ROWS", 4)
    large = [k for k in published(lake) if "date=2026-11-20" in k]
    assert run(lake).files_before == 3
    assert [k for k in published(lake) if "date=2026-11-20" in k] == large, "two rows are half of four"
    sound(lake)


def test_day_that_takes_longer_than_the_budget_is_the_last(lake: TenantLake) -> None:
    found = compact_tenant(lake, "compact", LATER, NOTHING, budget_s=0)
    assert found == Compaction(later=2)


def test_much_becomes_several_files_of_several_row_groups(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "TARGET_ROWS", 4)
    monkeypatch.setattr(merge, "ROW_GROUP_ROWS", 2)
    before = rows(lake)
    assert run(lake).files_after == 3
    assert rows(lake) == before
    sound(lake)
    day = [pq.ParquetFile(Path(lake.storage.uri, k)) for k in published(lake) if "date=2026-11-20" in k]
    assert sorted(f.num_row_groups for f in day) == [2, 2]
    ends = sorted((t[0], t[-1]) for f in day if (t := f.read(["CreationTime"])["CreationTime"].to_pylist()))
    assert ends[0][1] < ends[1][0], "a file's times follow on another's"


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 90))
def test_stretches_cover_every_time_once_in_order(times: list[int], target: int, group: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "TARGET_ROWS", target)
        patch.setattr(merge, "TARGET_BYTES", 30)
        patch.setattr(merge, "ROW_GROUP_ROWS", group)
        found = merge.cut(np.sort(np.array(times)), size)
    flat = [stretch for file in found for stretch in file]
    assert all(found)
    assert flat == sorted(flat)
    assert all(sum(a <= t < b for a, b in flat) == 1 for t in times)
    assert len(found) <= max(-(-len(times) // target), -(-size // 30), 1)


def replace_file(lake: TenantLake, place: int, table: pa.Table) -> None:
    """Puts a file of a day in the ledger as an auditlake with other schemas would have written it."""
    state = lake.ledger.state
    key = [k for k in state.files if "date=2026-11-20" in k][place]
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = bytes(sink.getvalue())
    name = layout.new_name()
    new = key.rpartition("/")[0] + f"/{name}.parquet"
    ref = FileRef(new, layout.staged(TENANT, name), len(table), len(data), merge.sha256(data).hexdigest())
    lake.storage.put(ref.staged, data)
    assert lake.commit(lambda _: Rewrite("r", LATER, "test", [key], [ref], [], []))


def table_of(lake: TenantLake, place: int) -> pa.Table:
    key = [k for k in lake.ledger.state.files if "date=2026-11-20" in k][place]
    return pq.ParquetFile(Path(lake.storage.uri, key)).read()


def test_files_of_older_and_newer_schemas_keep_all_their_columns(lake: TenantLake) -> None:
    replace_file(lake, 0, table_of(lake, 0).drop_columns(["ClientIP"]))
    newer = table_of(lake, 0)
    replace_file(lake, 0, newer.append_column("New", pa.array([f"new {n}" for n in range(len(newer))])))
    before = rows(lake)
    run(lake)
    assert rows(lake) == before
    sound(lake)
    (key,) = [k for k in published(lake) if "date=2026-11-20" in k]
    held = pq.ParquetFile(Path(lake.storage.uri, key)).read()
    assert held.column_names == [*newer.column_names, "New"]
    assert held["New"].drop_null().to_pylist() == ["new 0", "new 1"]


def problem_of(lake: TenantLake) -> str:
    (pile,) = [p for p in find_piles(lake.ledger.state, TENANT, LATER) if p.day.day == 20]
    before = published(lake), lake.ledger.state.version
    found = compact(lake, "compact", pile)
    assert (published(lake), lake.ledger.state.version) == before
    assert list(lake.storage.list(layout.STAGING)) == []
    (problem,) = found.problems
    assert found == Compaction(problems=[problem])
    return problem


def test_column_of_another_type_leaves_the_day_as_it_is(lake: TenantLake) -> None:
    rows = table_of(lake, 0)
    replace_file(lake, 0, rows.set_column(rows.column_names.index("UserId"), "UserId", pa.array(range(len(rows)))))
    assert "have different types" in problem_of(lake)


def test_id_that_stands_twice_leaves_the_day_as_it_is(lake: TenantLake) -> None:
    replace_file(lake, 0, table_of(lake, 1))
    assert "2 rows repeat an Id" in problem_of(lake)


@pytest.mark.parametrize("damage", ["changed", "gone", "no Parquet", "other rows"])
def test_damage_is_named_and_gets_no_new_sha256(lake: TenantLake, damage: str) -> None:
    key = next(k for k in lake.ledger.state.files if "date=2026-11-20" in k)
    ref = lake.ledger.state.files[key].ref
    data = lake.storage.get(key)
    if damage == "changed":
        lake.storage.put(key, data[:9] + bytes([data[9] ^ 1]) + data[10:])
    elif damage == "gone":
        lake.storage.delete(key)
    else:
        data = b"no Parquet" if damage == "no Parquet" else data
        lake.storage.put(key, data)
        new = FileRef(key, ref.staged, 7, len(data), merge.sha256(data).hexdigest())
        lake.ledger.append(lambda _: Rewrite("r", LATER, "test", [], [new], [], []))
    told = {
        "changed": "was changed: its SHA-256",
        "gone": "is gone from the lake",
        "no Parquet": "cannot be read",
        "other rows": "holds 2 rows, the ledger says 7",
    }
    assert f"{key!r} {told[damage]}" in problem_of(lake)


def test_of_two_compactions_at_once_one_gives_up_and_leaves_nothing(lake: TenantLake) -> None:
    before = rows(lake)
    rival, raced = new_lake(open_storage(lake.storage.uri)), []
    put = lake.storage.put_if_absent

    def race(key: str, data: bytes) -> bool:
        if not raced:
            raced.append(run(rival))
        return put(key, data)

    lake.storage.put_if_absent = race  # type: ignore[method-assign]
    assert run(lake) == Compaction(busy=2)
    assert raced[0].days == 2
    assert rows(lake) == before
    sound(lake)


def test_landing_in_between_is_no_hindrance(lake: TenantLake) -> None:
    rival, raced = new_lake(open_storage(lake.storage.uri)), []
    put = lake.storage.put_if_absent

    def race(key: str, data: bytes) -> bool:
        if not raced:
            raced.append(land(rival, {"d": body([record(6), record(1)])}))
        return put(key, data)

    lake.storage.put_if_absent = race  # type: ignore[method-assign]
    assert run(lake).days == 2
    new_lake(lake.storage)
    assert len(rows(lake)) == 10
    sound(lake)


def test_file_that_its_collector_has_not_yet_published_is_left_to_it(lake: TenantLake) -> None:
    ref = next(f.ref for f in lake.ledger.state.files.values() if "date=2026-11-20" in f.ref.key)
    lake.storage.move(ref.key, ref.staged)
    found = run(lake)
    assert (found.days, found.busy, found.problems) == (1, 1, [])
    assert new_lake(lake.storage).storage.get(ref.key)
    assert run(lake).days == 1
    sound(lake)
