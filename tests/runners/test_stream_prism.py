"""The open form on a runner that waits: one streaming job on Prism."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from emulator.filling import Shape
from emulator.server import running
from tests.commands import auditlake, backfill, environment, rows, succeed
from tests.runners.landed import records
from tests.runners.processes import ended_with, wait_for


def words(prism: Path) -> list[str]:
    return ["--runner=PrismRunner", f"--prism_location={prism}"]


def test_stream_on_prism_with_a_last_poll_lands_what_a_backfill_lands(prism: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=600, shape=Shape(max_records=50)) as emu:
        env = environment(emu)
        more = ("--poll-interval", "2s", "--polls", "3", "--json")
        done = auditlake("stream", "--lake", lake, *more, *words(prism), env=env, cwd=tmp_path)
        backfill(tmp_path / "here", env)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["missing"] == []
    assert len(records(lake)) == 600
    assert records(lake) == records(tmp_path / "here")
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_signal_cancels_the_job_and_the_next_stream_goes_on_from_the_ledger(prism: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [sys.executable, "-m", "pipeline", "stream", "--lake", str(lake), "--poll-interval", "1s", *words(prism)]
    with running(count=600, shape=Shape(max_records=50)) as emu:
        env = environment(emu)
        started = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        with ended_with(started) as run:
            wait_for("files", lambda: len(list(lake.glob("audit/**/*.parquet"))) > 3 or run.poll() is not None)
            assert run.poll() is None, "it must still be at work to be stopped"
            run.send_signal(signal.SIGTERM)
            out, _ = run.communicate(timeout=120)
        assert run.returncode == 0
        assert "lake " in out
        more = ("--poll-interval", "2s", "--polls", "1")
        succeed("stream", "--lake", lake, *more, *words(prism), env=env, cwd=tmp_path)
    assert rows(lake, "select count(*) as n, count(distinct Id) as ids from audit") == [{"n": 600, "ids": 600}]
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)
