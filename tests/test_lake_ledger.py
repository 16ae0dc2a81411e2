"""The ledger: appends that lose nothing, checkpoints that equal the entries."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import msgspec
import pytest

from lake import checkpoint, layout, ledger
from lake.entries import EXPIRED, FAILED, LANDED, LISTED, UNLISTED, BlobOutcome, Landing, Listing, Slice
from lake.ledger import Ledger, read_entries, require_tenants
from lake.storage import LakeError
from lake.storage_local import LocalStorage
from lake.verify import verify
from tests.lake_records import FEED, HOUR, START, TENANT, TenantLake, blob, body, land, list_blobs, record, storage_at

ROOT = Path(__file__).parents[1]


def note(run: str) -> Listing:
    return Listing(run, START, FEED, [Slice(START, START + HOUR, LISTED, START + HOUR)], [])


def runs_of(storage: LocalStorage) -> list[str]:
    return [e.run for _, e in read_entries(storage, TENANT) if isinstance(e, Listing)]


def test_appends_of_many_threads_lose_nothing(tmp_path: Path) -> None:
    ledgers = [Ledger(storage_at(tmp_path), TENANT) for _ in range(4)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: ledgers[n % 4].append(lambda _: note(f"run{n}")), range(64)))
    assert sorted(runs_of(storage_at(tmp_path))) == sorted(f"run{n}" for n in range(64))
    assert [n for n, _ in read_entries(storage_at(tmp_path), TENANT)] == list(range(1, 65))
    for one in ledgers:
        one.refresh()
        assert one.state.version == 64


def test_appends_of_many_processes_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.test_lake_ledger import note, storage_at, Ledger, TENANT\n"
        "one = Ledger(storage_at(Path(sys.argv[1])), TENANT)\n"
        "for n in range(10): one.append(lambda _: note(f'{sys.argv[2]}-{n}'))\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(p)], cwd=ROOT) for p in range(4)]
    assert [p.wait() for p in started] == [0] * 4
    runs = runs_of(storage_at(tmp_path))
    assert sorted(runs) == sorted(f"{p}-{n}" for p in range(4) for n in range(10))
    for p in "0123":
        assert [r for r in runs if r.startswith(p)] == [f"{p}-{n}" for n in range(10)]


def test_append_asks_again_when_another_was_first(tmp_path: Path) -> None:
    mine, other = Ledger(storage_at(tmp_path), TENANT), Ledger(storage_at(tmp_path), TENANT)
    seen = []

    def make(state: ledger.State) -> Listing:
        seen.append(state.version)
        if len(seen) == 1:
            other.append(lambda _: note("other"))
        return note("mine")

    mine.append(make)
    assert seen == [0, 1]
    assert runs_of(storage_at(tmp_path)) == ["other", "mine"]


def test_append_of_nothing_writes_nothing(tmp_path: Path) -> None:
    assert Ledger(storage_at(tmp_path), TENANT).append(lambda _: None) is None
    assert not (tmp_path / "lake").exists()


def full_lake(folder: Path) -> TenantLake:
    lake = TenantLake(storage_at(folder), TENANT)
    land(lake, {"a": body([record(1), record(2, Odd=1), {"Id": ""}]), "b": body([record(1)])})
    list_blobs(lake, [blob("c"), blob("d")], start=START + HOUR)
    lost = [BlobOutcome("c", START, FAILED, error="HTTP 500"), BlobOutcome("d", START, EXPIRED, error="gone")]
    lake.ledger.append(lambda _: Landing("run", START, FEED, lost, [], []))
    list_blobs(lake, [], start=START + 2 * HOUR, outcome=UNLISTED)
    return lake


def test_checkpoint_equals_the_entries_it_stands_for(tmp_path: Path) -> None:
    state = full_lake(tmp_path).ledger.state
    assert vars(checkpoint.read(checkpoint.write(state), state.version)) == vars(state)
    assert {b.status for b in state.blobs.values()} == {LANDED, FAILED, EXPIRED}
    assert [seen.count for seen in state.drift.values()] == [1]


def test_checkpoint_of_nothing_can_be_read() -> None:
    assert vars(checkpoint.read(checkpoint.write(ledger.State()), 0)) == vars(ledger.State())


def test_start_from_a_checkpoint_equals_a_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "CHECKPOINT_EVERY", 2)
    lake = full_lake(tmp_path)
    found = [o.key for o in lake.storage.list(layout.checkpoints(TENANT))]
    assert [layout.number_of(k) for k in found] == [2, 4]
    assert vars(Ledger(lake.storage, TENANT).state) == vars(lake.ledger.state)
    for key in found:
        lake.storage.delete(key)
    assert vars(Ledger(lake.storage, TENANT).state) == vars(lake.ledger.state)


def test_checkpoints_grow_rarer_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "CHECKPOINT_EVERY", 2)
    log = Ledger(storage_at(tmp_path), TENANT)
    log.storage.put(f"{layout.checkpoints(TENANT)}/000000000001.parquet.txt", b"a stranger")
    for n in range(80):
        log.append(lambda _, n=n: note(str(n)))
    assert [n for n in range(1, 81) if ledger.is_checkpoint(n)] == [*range(2, 64, 2), *range(64, 81, 4)]
    assert [layout.number_of(k) for k in ledger.checkpoints(log.storage, TENANT)] == [72, 76, 80]
    assert len(list(log.storage.list(layout.checkpoints(TENANT)))) == 4
    assert vars(Ledger(log.storage, TENANT).state) == vars(log.state)


class _Vanishing(LocalStorage):
    """A lake whose checkpoints are listed, and gone when they are asked for."""

    def get(self, key: str) -> bytes:
        if "/checkpoints/" in key:
            raise FileNotFoundError(key)
        return super().get(key)


def test_checkpoint_that_goes_while_it_is_looked_for_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "CHECKPOINT_EVERY", 2)
    lake = full_lake(tmp_path)
    vanishing = _Vanishing(lake.storage.root)
    assert ledger.checkpoints(vanishing, TENANT)
    assert vars(Ledger(vanishing, TENANT).state) == vars(lake.ledger.state)
    assert verify(vanishing) == verify(lake.storage)


def test_damaged_checkpoint_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "CHECKPOINT_EVERY", 2)
    lake = full_lake(tmp_path)
    lake.storage.put(layout.checkpoint(TENANT, 4), b"damaged")
    lake.storage.put(f"{layout.checkpoints(TENANT)}/zz.parquet", b"a stranger")
    assert vars(Ledger(lake.storage, TENANT).state) == vars(lake.ledger.state)


def test_damaged_entry_stops_everything(tmp_path: Path) -> None:
    lake = full_lake(tmp_path)
    lake.storage.put(layout.entry(TENANT, 2), b"{}")
    with pytest.raises(LakeError, match=r"ledger entry '.*000000000002.json' in .* restore it before anything else"):
        Ledger(lake.storage, TENANT)


def test_entries_are_read_past_gaps_and_strangers(tmp_path: Path) -> None:
    storage = storage_at(tmp_path)
    for number in (1, 4, 5):
        storage.put(layout.entry(TENANT, number), msgspec.json.encode(note("run")))
    storage.put(layout.entry(TENANT, 6), b"?")
    storage.put(layout.entry(TENANT, 3) + ".bak", b"?")
    found = [(n, type(e).__name__) for n, e in read_entries(storage, TENANT)]
    assert found == [(1, "Listing"), (2, "NoneType"), (4, "Listing"), (5, "Listing"), (6, "DecodeError")]


class Asked(LocalStorage):
    """A store that counts reads of entries, and lets those of some numbers through only together."""

    def __init__(self, root: Path, together: range = range(0)) -> None:
        super().__init__(root)
        self.numbers: list[int] = []
        self._together = together
        self._barrier = Barrier(ledger.READS_AT_ONCE, timeout=60)

    def get(self, key: str) -> bytes:
        number = layout.number_of(key)
        self.numbers.append(number)
        if number in self._together:
            self._barrier.wait()
        return super().get(key)


def test_start_reads_entries_several_at_a_time_and_few_that_are_not_there(tmp_path: Path) -> None:
    storage = storage_at(tmp_path)
    one = Ledger(storage, TENANT)
    for n in range(100):
        one.append(lambda _, n=n: note(f"run{n}"))
    asked = Asked(storage.root, range(9, 97))
    started = Ledger(asked, TENANT)
    assert started.state.version == 100
    assert len(asked.numbers) == len(set(asked.numbers)) <= 100 + ledger.READS_AT_ONCE
    asked.numbers.clear()
    assert [e.run for e in started.entries_after(8)] == [f"run{n}" for n in range(8, 100)]
    started.refresh()
    assert asked.numbers.count(101) == 2, "a look at what is new is one request"
    one.append(lambda _: note("new"))
    asked.numbers.clear()
    started.refresh()
    assert asked.numbers == [101, 102]


@pytest.mark.parametrize("missing", range(1, 14))
def test_entries_are_applied_up_to_the_first_that_is_missing(tmp_path: Path, missing: int) -> None:
    storage = storage_at(tmp_path)
    one = Ledger(storage, TENANT)
    for n in range(12):
        one.append(lambda _, n=n: note(f"run{n}"))
    storage.delete(layout.entry(TENANT, missing))
    storage.put(layout.entry(TENANT, missing + 1), b"damaged")
    assert Ledger(storage, TENANT).state.version == missing - 1


def test_entries_before_a_damaged_one_are_applied(tmp_path: Path) -> None:
    storage = storage_at(tmp_path)
    late, one = Ledger(storage, TENANT), Ledger(storage, TENANT)
    for n in range(12):
        one.append(lambda _, n=n: note(f"run{n}"))
    storage.put(layout.entry(TENANT, 7), b"damaged")
    with pytest.raises(LakeError, match="000000000007"):
        late.refresh()
    assert late.state.version == 6


def test_listing_that_fails_later_does_not_undo_one_that_succeeded(tmp_path: Path) -> None:
    lake = TenantLake(storage_at(tmp_path), TENANT)
    list_blobs(lake, [blob("a")])
    list_blobs(lake, [], outcome=UNLISTED)
    (one,) = lake.ledger.state.slices.values()
    assert (one.outcome, one.blobs) == (LISTED, 1)


def test_landed_blob_stays_landed(tmp_path: Path) -> None:
    lake = full_lake(tmp_path)
    for status in (FAILED, EXPIRED):
        again = [BlobOutcome("a", START, status, error="late")]
        lake.ledger.append(lambda _, again=again: Landing("run", START + timedelta(1), FEED, again, [], []))  # type: ignore[misc]
    assert lake.ledger.state.blobs["a"].status == LANDED
    assert lake.ledger.state.blobs["a"].rows == 2


def test_folder_without_a_ledger_is_no_lake(tmp_path: Path) -> None:
    with pytest.raises(
        LakeError, match=r"no lake at '.*lake': expected a folder that `auditlake backfill` has written"
    ):
        require_tenants(storage_at(tmp_path))
