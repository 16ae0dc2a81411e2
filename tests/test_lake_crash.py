"""A crash at any storage operation of a landing: the next run makes the lake what it would have been."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from lake import layout
from lake.entries import LANDED
from lake.export import export
from lake.storage import StoredObject
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from lake.verify import verify
from tests.lake_records import TENANT, blob, body, list_blobs, new_lake, record, storage_at, unit_of

BODIES = [
    {"e": body([record(20), record(21), record(20, UserId="another body")])},
    {"a": body([record(1), record(12), {"Id": ""}]), "b": body([record(1), record(2)])},
    {"c": body([record(2), record(3), 7]), "d": body([record(12), record(13)])},
]


class CrashError(Exception):
    """The process died here."""


class CrashingStorage:
    """A store that dies at its n-th change (-1: never), before or after making it, and then does nothing any more."""

    def __init__(self, inner: LocalStorage, crash_at: int, *, after: bool) -> None:
        self._inner = inner
        self._crash_at = crash_at
        self._after = after
        self._lock = Lock()
        self.changes = 0
        self.uri = inner.uri

    def _change(self, make: Callable[[], Any]) -> Any:
        with self._lock:
            if self.changes == self._crash_at:
                raise CrashError(self.changes)
            self.changes += 1
            if self.changes != self._crash_at:
                return make()
            if self._after:
                make()
            raise CrashError(self.changes)

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._change(lambda: self._inner.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return bool(self._change(lambda: self._inner.put_if_absent(key, data)))

    def move(self, source: str, target: str) -> None:
        self._change(lambda: self._inner.move(source, target))

    def delete(self, key: str) -> None:
        self._change(lambda: self._inner.delete(key))

    def get(self, key: str) -> bytes:
        return self._inner.get(key)

    def open(self, key: str) -> Any:
        return self._inner.open(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return self._inner.list(prefix)


def run(lake: TenantLake, other: TenantLake | None = None) -> None:
    """Lands all units as a run does: what the ledger calls settled is not fetched again. The first comes damaged."""
    list_blobs(lake, [blob("e")])
    if not lake.ledger.state.is_settled("e"):
        damaged = unit_of(lake, {})
        damaged.add_unreadable(blob("e"), b"[{", "no whole array")
        damaged.commit()
    for bodies in BODIES:
        list_blobs(lake, [blob(n) for n in bodies])
        wanted = {n: data for n, data in bodies.items() if not lake.ledger.state.is_settled(n)}
        unit = unit_of(lake, wanted)
        if other is not None and "c" in bodies:
            unit_of(other, {"c": bodies["c"]}).commit()  # comes in between: the unit is checked and staged again
        unit.commit()


def lake_of(folder: Path, crash_at: int, *, after: bool, race: bool) -> tuple[CrashingStorage, bool]:
    storage = CrashingStorage(storage_at(folder), crash_at, after=after)
    try:
        run(new_lake(storage), new_lake(storage_at(folder)) if race else None)
    except CrashError:
        return storage, True
    return storage, False


def contents(storage: LocalStorage) -> tuple[list[str], list[tuple[object, ...]], int]:
    lake = TenantLake(storage, TENANT)
    blobs = [(i, b.status, b.records, b.rejects) for i, b in sorted(lake.ledger.state.blobs.items())]
    rejected = verify(storage).feeds[0].rejects
    return sorted(export(storage)), list(blobs), rejected


@pytest.mark.parametrize("race", [False, True], ids=["alone", "racing"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_at_any_change_loses_and_doubles_nothing(tmp_path: Path, after: bool, race: bool) -> None:
    calm, _ = lake_of(tmp_path / "calm", -1, after=after, race=race)
    expected = contents(storage_at(tmp_path / "calm"))
    assert all(b[1] == LANDED for b in expected[1])
    for crash_at in range(1, calm.changes + 1):
        folder = tmp_path / str(crash_at)
        _, crashed = lake_of(folder, crash_at, after=after, race=race)
        assert crashed
        storage = storage_at(folder)
        run(new_lake(storage))
        assert verify(storage).problems == [], f"crash at change {crash_at}"
        assert contents(storage) == expected, f"crash at change {crash_at}"


def test_reading_a_lake_after_a_crash_finds_no_stranger_and_no_double(tmp_path: Path) -> None:
    calm, _ = lake_of(tmp_path / "calm", -1, after=True, race=False)
    for crash_at in range(2, calm.changes + 1):
        storage = storage_at(tmp_path / str(crash_at))
        lake_of(tmp_path / str(crash_at), crash_at, after=True, race=False)
        lines = list(export(storage))
        assert len(lines) == len(set(lines))
        named = set(TenantLake(storage, TENANT).ledger.state.files)
        published = {o.key for top in (layout.AUDIT, layout.REJECTED) for o in storage.list(top)}
        announced = [storage.get(o.key) for o in storage.list(layout.STAGING) if layout.is_removal(o.key)]
        assert published <= named.union(*map(json.loads, announced))
