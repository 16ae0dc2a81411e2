"""Prism: Beam's portable local runner, in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from emulator.filling import Shape
from emulator.server import running
from tests.commands import auditlake, backfill, environment, rows, succeed
from tests.runners.landed import at_work, records


def words(prism: Path) -> list[str]:
    return ["--runner=PrismRunner", f"--prism_location={prism}"]


def test_prism_lands_what_the_runner_in_this_process_lands(prism: Path, tmp_path: Path) -> None:
    with running(count=1000, shape=Shape(max_records=50)) as emu:
        here = backfill(tmp_path / "here", environment(emu))
        there = backfill(tmp_path / "there", environment(emu), *words(prism))
    assert there["complete"]
    assert there["rows"] == here["rows"]
    assert records(tmp_path / "there") == records(tmp_path / "here")
    succeed("verify", "--lake", tmp_path / "there", env=environment(), cwd=tmp_path)


def test_backfill_and_prism_ended_by_sigkill_and_run_again_land_every_record_once(prism: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(lake), "--start", "-7d", *words(prism)]
    with running(count=6000, shape=Shape(max_records=60)) as emu:
        env = environment(emu)
        for wanted in (45, 60):
            with subprocess.Popen(
                command, env=env, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL
            ) as run:
                at_work(run, lake, wanted)
                os.killpg(run.pid, signal.SIGKILL)
        assert auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 1
        backfill(lake, env, *words(prism))
    assert rows(lake, "select count(*) as n, count(distinct Id) as ids from audit") == [{"n": 6000, "ids": 6000}]
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_failing_step_on_prism_is_one_sentence_and_exit_1(prism: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=200) as emu:
        env = environment(emu)
        backfill(lake, env)
        entry = sorted(lake.rglob("entries/*.json"))[-1]
        entry.write_bytes(b"{")
        done = auditlake("backfill", "--lake", lake, "--start", "-7d", *words(prism), env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "auditlake: " in done.stderr


def test_missing_prism_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    with running(count=10) as emu:
        done = auditlake(
            "backfill",
            "--lake",
            "lake",
            "--start",
            "-1d",
            *words(tmp_path / "none"),
            env=environment(emu),
            cwd=tmp_path,
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "none") in done.stderr
