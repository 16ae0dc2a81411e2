"""The runner and its options, without running one."""

import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import StandardOptions

from emulator.server import running
from pipeline.errors import UsageError
from pipeline.runners import beam_options, is_in_process, is_waited_for, new_pipeline, run_together, takes_turns
from tests.commands import auditlake, environment


@pytest.mark.parametrize("words", [[], ["--runner=DirectRunner"], ["--runner=directrunner"], ["--runner", "direct"]])
def test_direct_runner_is_the_one_in_this_process(words: list[str]) -> None:
    options = beam_options(words)
    assert options.view_as(StandardOptions).runner == "FnApiRunner"
    assert is_in_process(options)


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner", "DataflowRunner", "SparkRunner"])
def test_counts_are_not_watched_where_the_steps_run_elsewhere(runner: str) -> None:
    assert not is_in_process(beam_options([f"--runner={runner}"]))


def test_runner_in_this_process_takes_turns_unless_it_has_several_workers() -> None:
    assert takes_turns(beam_options([]))
    assert not takes_turns(beam_options(["--direct_running_mode=multi_threading", "--direct_num_workers=4"]))
    assert not takes_turns(beam_options(["--runner=FlinkRunner"]))


def test_options_of_flinks_job_server_pass_with_it_and_are_unknown_without() -> None:
    words = ["--checkpointing_interval=30000", "--finish_bundle_before_checkpointing", "--max_bundle_time_mills", "100"]
    beam_options(["--runner=FlinkRunner", *words])
    beam_options(["--runner=PortableRunner", "--job_endpoint=127.0.0.1:1", *words])
    with pytest.raises(UsageError, match="--checkpointing_interval"):
        beam_options(words)
    with pytest.raises(UsageError, match="--checkpoint_interval"):
        beam_options(["--runner=FlinkRunner", "--checkpoint_interval=30000"])


def test_template_and_submitted_job_are_not_waited_for() -> None:
    assert is_waited_for(beam_options([]))
    assert not is_waited_for(beam_options(["--no_wait_until_finish"]))
    assert not is_waited_for(beam_options(["--template_location=gs://bucket/template"]))


def test_job_server_that_does_not_answer_is_one_sentence_and_exit_1(tmp_path: Path) -> None:
    with running(count=10) as emu:
        words = ("--lake", "lake", "--start", "-1d", "--runner=PortableRunner", "--job_endpoint=127.0.0.1:9")
        done = auditlake("backfill", *words, "--job_server_timeout=1", env=environment(emu), cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PortableRunner cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_and_lake_are_named_as_a_worker_elsewhere_must_know_them(tmp_path: Path) -> None:

    from o365.connection import Connection
    from pipeline.plan import Wish, make_plans

    with running(count=10) as emu:
        tenant = emu.tenants[0]
        (tmp_path / "secret").write_text(tenant.client_secret)
        (tmp_path / "ca.pem").write_bytes(emu.ca_file.read_bytes())
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            connection = Connection(
                "t",
                tenant.tenant_id,
                tenant.client_id,
                api_root=emu.api_root,
                authority=emu.authority,
                ca_file="ca.pem",
                client_secret_file="secret",
            )
            (plan,) = make_plans([connection], "lake", Wish("-1d", "now"), "run")
    assert plan.feeds
    for feed in plan.feeds:
        assert feed.lake == str(tmp_path / "lake")
        assert feed.connection.ca_file == str(tmp_path / "ca.pem")
        assert feed.connection.client_secret_file == str(tmp_path / "secret")


@pytest.mark.parametrize("words", [["--runner=NoSuchRunner"], ["--runner=DataflowRunner", "--dry_run=True"]])
def test_runner_that_cannot_run_is_wrong_use(words: list[str]) -> None:
    places = ["--temp_location=gs://a-bucket/temp", "--region=europe-west1"]
    with pytest.raises(UsageError, match="cannot run"):
        new_pipeline([*words, *places, "--project=p"])


def test_pipeline_that_fails_stops_no_other(tmp_path: Path) -> None:
    failing, well = new_pipeline([]), new_pipeline([])
    failing | "One" >> beam.Create(["one"]) | "Fail" >> beam.Map(int)
    well | "Two" >> beam.Create(["two"]) | "Write" >> beam.Map(lambda name: (tmp_path / name).touch())
    with pytest.raises(ValueError, match="invalid literal"):
        run_together([failing, well])
    assert (tmp_path / "two").exists()


HELD = """
import atexit, sys, threading
from pipeline import cli

class Call:
    def __del__(self):
        lock.acquire()

def interrupted(_args):
    raise KeyboardInterrupt

lock, call = threading.Lock(), Call()
lock.acquire()
atexit.register(print, "cleared up", flush=True)
cli._COMMANDS["status"] = interrupted
sys.exit(cli.main(["status", "--lake", "x"]))
"""


def test_ctrl_c_ends_the_process_though_a_client_of_a_runner_holds_a_lock_of_its_own(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", HELD], env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout) == (130, "cleared up\n"), run.stderr
    assert "stopped; what was committed stays" in run.stderr
