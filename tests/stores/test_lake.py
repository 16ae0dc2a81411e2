"""A lake on each kind of store: landing, crashes, rivals, and the whole job as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import pytest

from emulator.filling import Shape
from emulator.server import running as emulating
from lake import layout
from lake.compact import compact_tenant
from lake.export import export
from lake.query import LakeViews, run_query
from lake.storage import Storage, StoredObject, open_storage
from lake.verify import verify
from pipeline.cli import main
from tests.commands import auditlake_here, environment, succeed_here
from tests.lake_records import TENANT, blob, body, guid, land, list_blobs, new_lake, record, unit_of

FEW_BLOBS = Shape(days=0.9, max_records=100)
BODIES = [
    {"a": body([record(1), record(12), {"Id": ""}]), "b": body([record(1), record(2)])},
    {"c": body([record(2), record(3), 7])},
]


def ask(storage: Storage, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for batch in run_query(storage, sql).batches for row in batch.to_pylist()]


def run(storage: Storage) -> None:
    """Lands what is not yet landed, as a run does."""
    lake = new_lake(storage)
    for bodies in BODIES:
        list_blobs(lake, [blob(n) for n in bodies])
        unit_of(lake, {n: data for n, data in bodies.items() if not lake.ledger.state.is_settled(n)}).commit()


def test_landed_lake_verifies_and_answers(storage: Storage) -> None:
    run(storage)
    assert verify(storage).problems == []
    assert ask(storage, "select Id, date::varchar, tenant from exchange_mailbox order by Id") == [
        (guid(n), f"2026-11-2{n // 10}", TENANT) for n in (1, 2, 3, 12)
    ]
    assert ask(storage, "select Id from audit where date > '2026-11-20'") == [(guid(12),)]
    assert ask(storage, "select reason from rejected order by 1") == [("no_id",), ("not_an_object",)]
    assert ask(storage, "select count(*) from generic") == [(0,)]
    assert len(list(export(storage))) == 4
    assert len(list(export(storage, "Id > ''"))) == 4


class CrashError(Exception):
    """The process died here."""


class CrashingStorage:
    """A store that dies after its n-th change; then no thread changes it any more. 0: never."""

    def __init__(self, inner: Storage, crash_after: int) -> None:
        self._inner = inner
        self._left = crash_after
        self._lock = Lock()
        self._is_dead = False
        self.uri = inner.uri

    def __getattr__(self, name: str) -> Any:
        made = getattr(self._inner, name)
        if name not in ("put", "put_if_absent", "move", "delete"):
            return made

        def change(*args: Any) -> Any:
            with self._lock:
                if self._is_dead:
                    raise CrashError
                answer = made(*args)
                self._left -= 1
                self._is_dead = self._left == 0
                if self._is_dead:
                    raise CrashError
                return answer

        return change


def test_crash_after_any_change_loses_and_doubles_nothing(place: str) -> None:
    expected: list[str] | None = None
    for crash_after in range(50):
        storage = open_storage(f"{place}/{uuid4().hex}")
        try:
            run(CrashingStorage(storage, crash_after))
            crashed = False
        except CrashError:
            crashed = True
        run(storage)
        assert verify(storage).problems == []
        found = sorted(export(storage))
        expected = expected or found
        assert found == expected
        if crash_after and not crashed:
            return
    pytest.fail("there were more changes than expected")


def test_two_collectors_at_once_land_every_record_once(storage: Storage) -> None:
    def collect(first: int) -> None:
        lake = new_lake(open_storage(storage.uri))
        for start in range(first, first + 6):
            land(lake, {f"blob{start}": body([record(n) for n in range(start, start + 3)])})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(collect, (1, 4)))
    assert verify(storage).problems == []
    assert len(list(export(storage))) == 11


def test_whole_backfill_and_kill_give_every_record_once(uri: str, tmp_path: Path) -> None:
    with emulating(count=1500, shape=FEW_BLOBS) as emu:
        env = environment(emu)
        command = [sys.executable, "-m", "pipeline", "backfill", "--lake", uri, "--start", "-1d"]
        wait_until = _entries(open_storage(uri), emu.tenants[0].tenant_id)
        with subprocess.Popen(command, env=env, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL) as job:
            deadline = time.monotonic() + 120
            while wait_until() < 3 and job.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(job.pid, signal.SIGKILL)
        summary = json.loads(succeed_here("backfill", "--lake", uri, "--start", "-1d", "--json", env=env, cwd=tmp_path))
    assert summary["complete"]
    words = {"env": environment(), "cwd": tmp_path}
    succeed_here("verify", "--lake", uri, **words)
    assert "landed" in succeed_here("status", "--lake", uri, **words)
    sql = "select count(*) as n, count(distinct Id) as ids from audit"
    assert json.loads(succeed_here("query", "--lake", uri, "--json", sql, **words)) == {"n": 1500, "ids": 1500}
    assert len(succeed_here("export", "--lake", uri, **words).splitlines()) == 1500


def _entries(storage: Storage, tenant: str) -> Callable[[], int]:
    return lambda: sum(1 for _ in storage.list(layout.entries(tenant)))


def test_lake_that_cannot_be_written_is_refused_before_the_service_is_asked(uri: str, tmp_path: Path) -> None:
    wrong = uri.replace("audit-bucket", "no-such-bucket") if "://" in uri else "/proc/no-lake"
    with emulating(count=10) as emu:
        done = auditlake_here("backfill", "--lake", wrong, "--start", "-1d", env=environment(emu), cwd=tmp_path)
    assert done.returncode == 2
    said = f"auditlake: the lake {wrong!r} cannot be written: cannot write '{layout.ASIDE}/probe-"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("verify",), ("status",), ("export",), ("query", "select 1")], ids=lambda w: w[0])
def test_no_lake_is_one_sentence(uri: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([words[0], "--lake", uri, *words[1:]]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"auditlake: no lake at '{uri}'")
    assert said.count("\n") == 1


class Listed:
    """A store that remembers what was listed."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.prefixes: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def list(self, prefix: str) -> Any:
        self.prefixes.append(prefix)
        found: list[StoredObject] = list(self._inner.list(prefix))
        return iter(found)


def test_landing_lists_its_own_tenant_only_and_export_no_files_of_records(storage: Storage) -> None:
    listed = Listed(storage)
    run(listed)  # type: ignore[arg-type]
    assert set(listed.prefixes) == {layout.staging(TENANT), layout.ASIDE, layout.checkpoints(TENANT)}, "no other tenant"
    assert len(list(export(listed))) == 4  # type: ignore[arg-type]
    assert {p.partition("/")[0] for p in listed.prefixes} == {"_staging", "_ledger"}


def test_compaction_beside_a_reader_and_a_collector_that_know_the_old_files(storage: Storage) -> None:
    lake = new_lake(storage)
    for name, numbers in {"a": (1, 5, 12), "b": (3, 2, 13), "c": (4, 14)}.items():
        land(lake, {name: body([record(n) for n in numbers])})
    views, rival = LakeViews(open_storage(storage.uri)), new_lake(open_storage(storage.uri))
    rival.committed.cover(rival.ledger, [])
    done = compact_tenant(lake, "compact", datetime(2027, 1, 1, tzinfo=UTC), timedelta())
    assert (done.days, done.files_before, done.files_after) == (2, 6, 2)
    (batch,) = views.answer("select count(*)::int as n, count(distinct Id)::int as ids from audit").batches
    assert batch.to_pylist() == [{"n": 8, "ids": 8}]
    entry = land(rival, {"d": body([record(1), record(5, UserId="x"), record(6)])})
    assert entry is not None
    assert [(b.rows, b.duplicates, b.conflicts) for b in entry.blobs] == [(1, 1, 1)]
    assert len(list(storage.list(layout.AUDIT))) == 3
    assert list(storage.list(layout.STAGING)) == []
    assert verify(storage).problems == []
