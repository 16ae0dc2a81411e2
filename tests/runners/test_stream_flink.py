"""The open form on a Flink cluster: a streaming job with checkpoints."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.commands import backfill, environment, succeed
from tests.runners.conftest import RECORDS, Flink
from tests.runners.landed import at_work, entries, records
from tests.runners.processes import ended_with, kill_group, wait_for
from tests.test_settling import add_blob

pytestmark = pytest.mark.xdist_group("flink")
CHECKPOINTS = (
    "--checkpointing_interval=3000",
    "--max_bundle_time_mills=200",
    "--finish_bundle_before_checkpointing",
    "--max_bundle_size=10",
)


@contextmanager
def stream(flink: Flink, lake: Path, *more: str) -> Iterator["subprocess.Popen[str]"]:
    """The command at work; whatever the block does, it and its jobs end with it."""
    command = [sys.executable, "-m", "pipeline", "stream", "--lake", str(lake), "--poll-interval", "2s"]
    command += [*flink.cluster.words, *CHECKPOINTS, *more]
    env = environment(flink.emu)
    started = subprocess.Popen(
        command, env=env, cwd=lake.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with ended_with(started) as run:
            yield run
    finally:
        # A job outlives its command: one that was killed, and with this job server also one that has cancelled it.
        for left in flink.cluster.running_jobs():
            flink.cluster.cancel(left)


def has_landed(lake: Path, content_id: str) -> bool:
    outcome = f'"content_id":"{content_id}"'
    return any(
        outcome in text and '"status":"landed"' in text
        for text in (entry.read_text() for entry in sorted(lake.glob("_ledger/*/entries/*.json"))[-5:])
    )


def test_stream_on_flink_goes_on_after_dead_workers_and_from_a_savepoint(flink: Flink, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", flink.emu.tenants[0]
    flink.cluster.add_task_manager()
    with stream(flink, lake) as run:
        wait_for("files", lambda: len(list(lake.glob("audit/**/*.parquet"))) > 3 or run.poll() is not None)
        assert run.poll() is None, run.communicate()
        _, worker = flink.cluster.busy()
        os.kill(worker, signal.SIGKILL)
        at_work(run, lake, entries(lake) + 1)
        manager, _ = flink.cluster.busy()
        kill_group(manager)
        at_work(run, lake, entries(lake) + 1)
        run.kill()  # first, or it would take the cancelled job for a failed one, and start another; the job goes on
        run.communicate()
        (job,) = flink.cluster.running_jobs()
        savepoint = flink.cluster.savepoint_and_cancel(job)
    content_id = add_blob(tenant, 999_999, datetime.now(UTC))
    try:
        with stream(flink, lake, f"--savepoint_path={savepoint}") as run:
            wait_for("the new blob", lambda: has_landed(lake, content_id) or run.poll() is not None)
            run.send_signal(signal.SIGTERM)
            _, said = run.communicate(timeout=120)
            assert run.returncode == 0, said
        backfill(tmp_path / "here", environment(flink.emu))
    finally:  # other tests use the same service
        tenant.blobs["Audit.Exchange"].remove(tenant.by_id.pop(content_id))
    assert len(records(lake)) == RECORDS + 1
    assert records(lake) == records(tmp_path / "here")
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)
