"""A crash at any storage operation of a compaction: no reader loses a row, and the next run finishes it."""

import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lake import layout
from lake.compact import Compaction, compact_tenant
from lake.export import export
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from lake.verify import verify
from tests.lake_records import body, land, new_lake, record, storage_at
from tests.test_lake_compact import LATER, NOTHING
from tests.test_lake_crash import CrashError, CrashingStorage

BLOBS = {"a": (1, 5, 12), "b": (3, 2, 13), "c": (4, 14)}


@pytest.fixture
def original(tmp_path: Path) -> LocalStorage:
    lake = new_lake(storage_at(tmp_path / "original"))
    for name, numbers in BLOBS.items():
        land(lake, {name: body([record(n, Odd=n) for n in numbers])})
    return storage_at(tmp_path / "original")


def copy(original: LocalStorage, folder: Path) -> LocalStorage:
    shutil.copytree(original.uri, folder / "lake")
    return storage_at(folder)


def compact(lake: TenantLake) -> Compaction:
    return compact_tenant(lake, "compact", LATER, NOTHING)


def plain(storage: LocalStorage) -> Counter[str]:
    """What a reader sees who takes all files under audit/: how often each Id."""
    files = [Path(storage.uri, o.key) for o in storage.list(layout.AUDIT)]
    return Counter(i for f in files for i in pq.ParquetFile(f).read(["Id"])["Id"].to_pylist())


def changes(original: LocalStorage, folder: Path) -> int:
    storage = CrashingStorage(copy(original, folder), -1, after=False)
    assert compact(new_lake(storage)).days == 2
    return storage.changes


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_at_any_change_of_a_compaction_is_finished_by_the_next_run(
    original: LocalStorage, tmp_path: Path, after: bool
) -> None:
    expected, ids = sorted(export(original)), plain(original)
    doubled = 0
    for crash_at in range(1, changes(original, tmp_path / "calm") + 1):
        storage = copy(original, tmp_path / str(crash_at))
        with pytest.raises(CrashError):
            compact(new_lake(CrashingStorage(storage, crash_at, after=after)))
        seen = plain(storage)
        assert seen.keys() == ids.keys(), f"crash at change {crash_at}: a plain reader misses rows"
        doubled += seen != ids
        assert sorted(export(storage)) == expected, f"crash at change {crash_at}: read by the ledger"
        finished = new_lake(storage)
        assert plain(storage) == ids, f"crash at change {crash_at}: after the next start"
        assert verify(storage).problems == [], f"crash at change {crash_at}"
        compact(finished)
        assert sorted(export(storage)) == expected
        assert len(list(storage.list(layout.AUDIT))) == 2
        assert verify(storage).problems == []
    assert doubled, "the time between the last two steps was met"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_while_a_crash_is_mended_hides_no_row_from_plain_readers(
    original: LocalStorage, tmp_path: Path, after: bool
) -> None:
    ids = plain(original)
    broken = tmp_path / "broken"
    for crash_at in range(1, changes(original, tmp_path / "calm") + 1):
        storage = copy(original, broken / str(crash_at))
        with pytest.raises(CrashError):
            compact(new_lake(CrashingStorage(storage, crash_at, after=False)))
        for again_at in range(1, 20):
            again = copy(storage, tmp_path / f"{crash_at}-{again_at}")
            mending = CrashingStorage(again, again_at, after=after)
            try:
                new_lake(mending)
            except CrashError:
                assert plain(again).keys() == ids.keys()
            new_lake(again)
            assert plain(again) == ids
            assert verify(again).problems == []
            if mending.changes < again_at:
                break
