"""A real Flink cluster, with workers that have nothing but the wheel, their environment and the lake."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import backfill, environment, rows, succeed
from tests.runners.conftest import RECORDS, Flink
from tests.runners.landed import at_work, entries, records
from tests.runners.processes import kill_group, wait_for

pytestmark = pytest.mark.xdist_group("flink")
ONCE = [{"n": RECORDS, "ids": RECORDS}]
COUNTED = "select count(*) as n, count(distinct Id) as ids from audit"


@dataclass(frozen=True)
class Landed:
    """A lake that the cluster has landed, and the summary of that."""

    lake: Path
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def landed(flink: Flink, tmp_path_factory: pytest.TempPathFactory) -> Landed:
    lake = tmp_path_factory.mktemp("landed") / "lake"
    return Landed(lake, backfill(lake, environment(flink.emu), *flink.cluster.words, "--parallelism=2"))


def test_flink_lands_what_the_runner_in_this_process_lands(flink: Flink, landed: Landed, tmp_path: Path) -> None:
    here = backfill(tmp_path / "here", environment(flink.emu))
    assert landed.summary["complete"]
    assert landed.summary["rows"] == here["rows"]
    assert records(landed.lake) == records(tmp_path / "here")
    succeed("verify", "--lake", landed.lake, env=environment(), cwd=tmp_path)


def test_worker_and_then_task_manager_ended_by_sigkill_lose_and_repeat_nothing(flink: Flink, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(lake), "--start", "-7d", "--json"]
    command += [*flink.cluster.words, "--parallelism=2"]
    flink.cluster.add_task_manager()
    with subprocess.Popen(
        command, env=environment(flink.emu), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        at_work(run, lake, 40)
        _, worker = flink.cluster.busy()
        os.kill(worker, signal.SIGKILL)
        at_work(run, lake, entries(lake) + 1)
        manager, _ = flink.cluster.busy()
        assert run.poll() is None, "it must still be at work to be disturbed"
        kill_group(manager)
        said, complained = run.communicate(timeout=240)
    assert run.returncode == 0, complained
    assert json.loads(said)["complete"]
    assert rows(lake, COUNTED) == ONCE
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_no_secret_reaches_the_job(flink: Flink, landed: Landed) -> None:
    assert landed.summary["complete"]
    secret = flink.emu.tenants[0].client_secret.encode()
    written = [p for p in flink.cluster.folder.parent.rglob("*") if p.is_file() and "venv" not in p.parts]
    assert len(written) > 10
    assert [p for p in written if secret in p.read_bytes()] == []
    jobs = [j["id"] for j in flink.cluster.get("/jobs")["jobs"]]
    assert jobs
    assert secret.decode() not in json.dumps([flink.cluster.get(f"/jobs/{job}/config") for job in jobs])


def test_ctrl_c_ends_the_job_on_the_cluster_too(flink: Flink, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(lake), "--start", "-7d"]
    with subprocess.Popen(
        [*command, *flink.cluster.words], env=environment(flink.emu), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            wait_for("the job's entries", lambda: entries(lake) >= 38)
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130, said
    assert "stopped; what was committed stays" in said
    wait_for("the end of the job", lambda: flink.cluster.running_jobs() == [])
