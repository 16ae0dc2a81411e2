"""Compaction: few files in the place of many, with the same rows, whoever else is at work."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import layout, merge
from lake.committed import GoneError, read_rows_of
from lake.compact import Compaction, compact, compact_tenant, find_piles
from lake.drift import drift
from lake.entries import FileRef, Rewrite
from lake.export import export
from lake.ids import keys_of
from lake.query import LakeViews, QueryError, run_query
from lake.storage import Storage, open_storage
from lake.tenant import TenantLake
from lake.verify import verify
from tests.lake_records import TENANT, blob, body, guid, land, list_blobs, new_lake, record, storage_at, unit_of

LATER = datetime(2026, 12, 1, tzinfo=UTC)
NOTHING = timedelta()


class Future(datetime):
    """A clock by which all that was committed is old."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime(2040, 1, 1, tzinfo=UTC)


class Past(datetime):
    """A clock that says what no service still holds."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime(2020, 1, 1, tzinfo=UTC)


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
    lake.ledger.refresh()
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


def test_folder_that_is_no_day_is_left_alone(lake: TenantLake) -> None:
    refs = [FileRef(f"audit/table=dlp/tenant={TENANT}/date=2026-11-99/{n}.parquet", n, 1, 1, "") for n in "ab"]
    lake.ledger.append(lambda _: Rewrite("r", LATER, "test", [], refs, [], []))
    assert [p.day.day for p in find_piles(lake.ledger.state, TENANT, LATER)] == [20, 21]


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


def test_collector_that_knew_the_old_files_still_tells_duplicates_from_conflicts(lake: TenantLake) -> None:
    older = new_lake(open_storage(lake.storage.uri))
    older.committed.cover(older.ledger, [])
    run(lake)
    again = [record(1, Odd=1), record(5, Odd=7), record(3, Odd=3), record(7)]
    moved = record(4, Odd=4) | {"CreationTime": "2026-11-25T00:00:00"}  # its first one stands in another partition
    found = land(older, {"d": body([*again, moved])})
    assert found is not None
    (d,) = found.blobs
    assert (d.records, d.rows, d.duplicates, d.conflicts) == (5, 1, 2, 2)
    sound(older)


@pytest.mark.parametrize("old", [False, True])
def test_repeat_of_a_row_whose_file_was_replaced_since_it_was_noticed_is_compared(
    lake: TenantLake, monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    monkeypatch.setattr("lake.stage.CHUNK_RECORDS", 1)  # a record is noticed when it is added, and compared later
    if old:
        monkeypatch.setattr("lake.committed.datetime", Future)
    list_blobs(lake, [blob("d")])
    moved = record(4, Odd=4) | {"CreationTime": "2026-11-21T00:00:00"}
    mine = new_lake(open_storage(lake.storage.uri))
    unit = unit_of(mine, {"d": body([record(1, Odd=1), record(5, Odd=7), moved, record(7)])})
    run(lake)
    entry = unit.commit()
    assert entry is not None
    (d,) = entry.blobs
    assert (d.records, d.rows, d.duplicates, d.conflicts) == (4, 1, 1, 2)
    sound(lake)


def test_file_that_is_lost_is_not_taken_for_replaced(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lake.stage.CHUNK_RECORDS", 1)
    unit = unit_of(lake, {"d": body([record(1)])})
    for key in published(lake):
        lake.storage.delete(key)
    with pytest.raises(GoneError, match="restore it"):
        unit.commit()


def test_collector_whose_staged_rows_meet_a_compaction_drops_what_others_have(lake: TenantLake) -> None:
    list_blobs(lake, [blob("d")])
    mine = unit_of(new_lake(open_storage(lake.storage.uri)), {"d": body([record(1, Odd=8), record(8), record(7)])})
    mine._stage.flush()
    land(lake, {"e": body([record(8), record(7, UserId="x")])})
    run(lake)
    entry = mine.commit()
    assert entry is not None
    (d,) = entry.blobs
    assert (d.rows, d.duplicates, d.conflicts) == (0, 1, 2)
    sound(lake)


def test_collector_in_the_process_that_compacts_keeps_knowing_its_ids(lake: TenantLake) -> None:
    land(new_lake(open_storage(lake.storage.uri)), {"d": body([record(6)])})
    run(lake)
    found = land(lake, {"e": body([record(n, Odd=n) for n in (1, 2, 3, 4, 5, 9, 12, 13, 14)] + [record(6)])})
    assert found is not None
    assert (found.blobs[0].duplicates, found.blobs[0].conflicts) == (10, 0)
    sound(lake)


def test_old_rows_in_a_new_file_are_read_only_for_repeats_of_their_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = new_lake(storage_at(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("lake.landing.datetime", Past)
        land(lake, {"a": body([record(1)])})
        land(lake, {"b": body([record(2)])})
    run(lake)
    later = new_lake(lake.storage)
    opened: list[str] = []
    read = later.storage.open

    def watched(key: str) -> pa.NativeFile:
        opened.append(key)
        return read(key)

    later.storage.open = watched  # type: ignore[method-assign]
    land(later, {"c": body([record(11)])})
    assert opened == []
    land(later, {"d": body([record(1)])})
    assert opened
    sound(later)


def test_repeats_read_only_the_row_groups_that_hold_them(lake: TenantLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "ROW_GROUP_ROWS", 2)
    run(lake)
    (ref,) = [f.ref for f in lake.ledger.state.files.values() if "date=2026-11-20" in f.ref.key]
    keys = keys_of(pa.array([guid(2), guid(77)]))
    assert read_rows_of(lake.storage, ref, keys)["Id"].to_pylist() == [guid(2)]


class Interrupted:
    """A local lake on which something happens before the n-th file of rows is read."""

    def __init__(self, inner: Storage, at: int, happen: Callable[[], object]) -> None:
        self._inner = inner
        self._at = at
        self._happen = happen
        self.uri = inner.uri
        self.list, self.folders = inner.list, inner.folders

    def _read(self, key: str) -> None:
        if key.startswith(layout.AUDIT):
            self._at -= 1
            if self._at == 0:
                self._happen()

    def get(self, key: str) -> bytes:
        self._read(key)
        return self._inner.get(key)

    def open(self, key: str) -> pa.NativeFile:
        self._read(key)
        return self._inner.open(key)


@pytest.fixture(params=range(1, 7))
def compacted_meanwhile(lake: TenantLake, request: pytest.FixtureRequest) -> Storage:
    happened: list[Compaction] = []
    return Interrupted(lake.storage, request.param, lambda: happened or happened.append(run(lake)))  # type: ignore[return-value]


def test_verify_follows_a_compaction_that_goes_on_while_it_reads(
    lake: TenantLake, compacted_meanwhile: Storage
) -> None:
    found = verify(compacted_meanwhile)
    assert found.problems == []
    assert len(published(lake)) == 2
    assert [f.rows for f in found.feeds] == [9]
    assert found.files in (2, 6)


def test_export_gives_every_record_once_while_a_compaction_goes_on(
    lake: TenantLake, compacted_meanwhile: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lake.export.BATCH_ROWS", 1)
    before = rows(lake)
    assert sorted(export(compacted_meanwhile)) == before
    assert len(published(lake)) == 2


def test_drift_finds_its_examples_while_a_compaction_goes_on(lake: TenantLake, compacted_meanwhile: Storage) -> None:
    (one,) = [d for d in drift(compacted_meanwhile) if d.member == "Odd"]
    assert (one.count, one.example) == (9, "9")


def test_query_sees_every_row_once_while_files_are_replaced(lake: TenantLake) -> None:
    views = LakeViews(lake.storage)
    run(lake)
    sql = "select count(*)::int as n, count(distinct Id)::int as ids from audit"
    assert [b.to_pylist() for b in views.answer(sql).batches] == [[{"n": 9, "ids": 9}]]


def test_query_whose_answer_is_under_way_says_that_files_were_replaced(
    lake: TenantLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = LakeViews(lake.storage)
    answer = views.answer("select Id from audit")
    failing = views._rest(iter_failing())
    assert len(list(answer.batches)) >= 1
    run(lake)
    with pytest.raises(QueryError, match="compaction has replaced files while the answer was read: ask again"):
        list(failing)
    with pytest.raises(QueryError, match="went away"):
        list(views._rest(iter_failing()))


def iter_failing() -> Iterator[pa.RecordBatch]:
    yield from ()
    raise QueryError("a file went away")


def test_query_between_commit_and_publication_and_removal_is_exact(lake: TenantLake) -> None:
    sql = "select count(*)::int as n, count(distinct Id)::int as ids from audit"
    seen = []

    def look(step: Callable[..., None]) -> Callable[..., None]:
        def looking(*keys: str) -> None:
            seen.append([b.to_pylist() for b in run_query(open_storage(lake.storage.uri), sql).batches])
            step(*keys)

        return looking

    lake.storage.move = look(lake.storage.move)  # type: ignore[method-assign]
    lake.storage.delete = look(lake.storage.delete)  # type: ignore[method-assign]
    run(lake)
    assert len(seen) == 2 * (1 + 3 + 1)
    assert seen == [[[{"n": 9, "ids": 9}]]] * len(seen)


def test_collector_that_publishes_late_meets_that_its_file_was_published_and_replaced(lake: TenantLake) -> None:
    slow = new_lake(open_storage(lake.storage.uri))
    move = slow.storage.move

    def overtaken(source: str, target: str) -> None:
        assert run(new_lake(open_storage(lake.storage.uri))).days == 2  # publishes it first
        move(source, target)

    slow.storage.move = overtaken  # type: ignore[method-assign]
    assert land(slow, {"d": body([record(7)])}) is not None
    slow.storage.move = move  # type: ignore[method-assign]
    assert land(slow, {"e": body([record(8), record(7)])}) is not None
    assert len(rows(lake)) == 11
    sound(lake)


def test_file_that_a_start_gives_back_its_name_after_it_was_replaced_is_removed(lake: TenantLake) -> None:
    ref = next(f.ref for f in lake.ledger.state.files.values() if "date=2026-11-20" in f.ref.key)
    lake.storage.put(ref.staged, lake.storage.get(ref.key))  # as on an object store between copy and delete
    late = TenantLake(open_storage(lake.storage.uri), TENANT)
    move = late.storage.move

    def overtaken(source: str, target: str) -> None:
        assert run(lake).days == 2
        move(source, target)

    late.storage.move = overtaken  # type: ignore[method-assign]
    late.recover()
    sound(lake)
