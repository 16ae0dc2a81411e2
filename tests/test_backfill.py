"""The whole job against the emulator, as a user runs it."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from emulator.filling import Shape
from emulator.server import running
from tests.commands import ROOT, SAMPLES, auditlake, auditlake_here, backfill, environment, rows, succeed
from tests.runners.landed import records

FEW_BLOBS = Shape(max_records=400)


def canonical(line: str | bytes) -> str:
    return json.dumps(json.loads(line), sort_keys=True)


def lines_of(path: Path) -> list[bytes]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [line for line in data.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ["attack-simulation-2021.ndjson.gz", "plaso.ndjson", "pnp-teams.ndjson"])
def test_every_record_of_the_samples_lands_once_and_comes_back_equal(name: str, tmp_path: Path) -> None:
    source = SAMPLES / name
    if not source.exists():
        pytest.skip(f"the samples are not here: {source.name} is not in ../shared/samples")
    by_id = {json.loads(line)["Id"]: canonical(line) for line in lines_of(source)}
    lake = tmp_path / "lake"
    with running(records=[source]) as emu:
        summary = backfill(lake, environment(emu))
    assert summary["complete"]
    assert summary["records"] == sum(summary["rows"].values()) + summary["duplicates"]
    (counted,) = rows(lake, "select count(*) as n, count(distinct Id) as ids from audit")
    assert counted == {"n": len(by_id), "ids": len(by_id)}
    exported = succeed("export", "--lake", lake, env=environment(), cwd=tmp_path).splitlines()
    assert Counter(map(canonical, exported)) == Counter(by_id.values())
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_overlapping_and_repeated_backfills_add_nothing_twice(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=3000, shape=FEW_BLOBS) as emu:
        env = environment(emu)
        words = ("--lake", lake, "--json")
        succeed("backfill", *words, "--start", "-5d", "--end", "-2d", env=env, cwd=tmp_path)
        succeed("backfill", *words, "--start", "-4d", "--end", "-1d", env=env, cwd=tmp_path)
        backfill(lake, env)
        again = backfill(lake, env)
        auto = json.loads(succeed("backfill", *words, "--start", "auto", env=env, cwd=tmp_path))
    assert again["rows"] == auto["rows"] == {}
    assert again["blobs_listed"] > 0
    assert rows(lake, "select count(*) as n, count(distinct Id) as ids from audit") == [{"n": 3000, "ids": 3000}]
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_several_threads_of_the_runner_land_what_one_lands(tmp_path: Path) -> None:
    words = ("--direct_running_mode=multi_threading", "--direct_num_workers=4")
    with running(count=1500) as emu:
        one = backfill(tmp_path / "one", environment(emu))
        four = backfill(tmp_path / "four", environment(emu), *words)
    assert four["rows"] == one["rows"]
    assert records(tmp_path / "four") == records(tmp_path / "one")
    succeed("verify", "--lake", tmp_path / "four", env=environment(), cwd=tmp_path)


def test_second_run_says_that_there_is_nothing_new(tmp_path: Path) -> None:
    with running(count=200, shape=FEW_BLOBS) as emu:
        words = ("backfill", "--lake", tmp_path / "lake", "--start", "-7d")
        first = succeed(*words, env=environment(emu), cwd=tmp_path)
        assert "started subscriptions" in first
        assert "may take up to 12 hours" in first
        second = succeed(*words, env=environment(emu), cwd=tmp_path)
    assert "nothing new" in second
    assert "started subscriptions" not in second


def test_backfill_ended_by_sigkill_and_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=20_000) as emu:
        env = environment(emu)
        command = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(lake), "--start", "-7d"]
        for entries in (40, 55):
            with subprocess.Popen(
                command, env=env, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL
            ) as run:
                folder = lake / "_ledger" / f"tenant={emu.tenants[0].tenant_id}" / "entries"
                deadline = time.monotonic() + 120
                while len(list(folder.glob("*.json"))) < entries and run.poll() is None:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                assert run.poll() is None, "it must still be at work to be killed"
                os.killpg(run.pid, signal.SIGKILL)
        assert auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 1
        backfill(lake, env)
    assert rows(lake, "select count(*) as n, count(distinct Id) as ids from audit") == [{"n": 20_000, "ids": 20_000}]
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


@pytest.mark.parametrize("words", [[], ["--direct_running_mode=multi_threading", "--direct_num_workers=4"]])
def test_ctrl_c_ends_a_backfill_with_a_sentence(words: list[str], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=20_000) as emu:
        command = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(lake), "--start", "-7d", *words]
        with subprocess.Popen(
            command, env=environment(emu), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run:
            deadline = time.monotonic() + 120
            while len(list(lake.rglob("entries/*.json"))) < 40:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            run.send_signal(signal.SIGINT)
            _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "stopped; what was committed stays" in said
    assert "Traceback" not in said


def test_one_bad_tenant_does_not_stop_the_others(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(tenants=3, count=300, shape=FEW_BLOBS) as emu:
        good, bad, dlp_less = emu.tenants
        dlp_less.app.roles.remove("ActivityFeed.ReadDlp")
        config = [f'lake = "{lake}"', f'api_root = "{emu.api_root}"', f'authority = "{emu.authority}"']
        config.append(f'ca_file = "{emu.ca_file}"')
        for name, tenant in (("good", good), ("bad", bad), ("dlp-less", dlp_less)):
            config += ["[[tenant]]", f'name = "{name}"', f'tenant_id = "{tenant.tenant_id}"']
            config += [f'client_id = "{tenant.client_id}"', f'client_secret_env = "{name.upper().replace("-", "_")}"']
        (tmp_path / "auditlake.toml").write_text("\n".join(config))
        env = environment(GOOD=good.client_secret, BAD="wrong", DLP_LESS=dlp_less.client_secret)
        done = auditlake("backfill", "--start", "-7d", env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "tenant bad: " in done.stdout
    assert "dlp-less DLP.All: " in done.stdout
    assert "ActivityFeed.ReadDlp" in done.stdout
    landed = {r["tenant"]: r["n"] for r in rows(lake, "select tenant, count(*) as n from audit group by all")}
    assert landed[good.tenant_id] == 300
    assert set(landed) == {good.tenant_id, dlp_less.tenant_id}


def test_start_older_than_the_service_keeps_is_named_and_recorded(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=200, shape=FEW_BLOBS) as emu:
        done = auditlake("backfill", "--lake", lake, "--start", "-10d", env=environment(emu), cwd=tmp_path)
    assert done.returncode == 1
    assert "lost" in done.stdout
    assert "older than the service keeps" in done.stdout
    lost = rows(lake, "select count(*) as n from ledger_slices where outcome = 'lost'")
    assert lost == [{"n": 5}]


@pytest.mark.parametrize(
    "script", ["flaky-blobs", "mangled-pages", "html-pages", "expired-token", "truncated", "wrong-shapes"]
)
def test_backfill_survives_faults_and_lands_everything(script: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    # Few slices: each fault costs a real wait.
    with running(count=3000, shape=Shape(max_records=30), page_size=2, faults=Path(script)) as emu:
        words = ("backfill", "--lake", lake, "--start", "-4h", "--json")
        summary = json.loads(succeed(*words, env=environment(emu), cwd=tmp_path))
        since = emu.clock.now() - timedelta(hours=4)
        wanted = {b.content_id for blobs in emu.tenants[0].blobs.values() for b in blobs if b.created >= since}
    assert summary["complete"]
    landed = rows(lake, "select content_id from ledger_blobs where status = 'landed'")
    assert wanted
    assert wanted <= {r["content_id"] for r in landed}
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_blobs_that_expire_before_they_are_fetched_are_named(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    statuses = "select content_id, status from ledger_blobs where status <> 'landed'"
    with running(count=300, shape=FEW_BLOBS, faults=Path("expiring")) as emu:
        words = ("backfill", "--lake", lake, "--start", "-7d", "--json")
        done = auditlake(*words, env=environment(emu), cwd=tmp_path)
        early = rows(lake, statuses)
        emu.clock.advance(timedelta(days=7).total_seconds())
        again = auditlake("backfill", "--lake", lake, "--start", "auto", env=environment(emu), cwd=tmp_path)
    expired = rows(lake, statuses)
    assert {r["status"] for r in early} == {"failed"}, "it is asked for again until its time is up"
    assert {r["status"] for r in expired} == {"expired"}
    assert {r["content_id"] for r in expired} >= {r["content_id"] for r in early}
    assert (done.returncode, again.returncode) == (1, 1)
    missing = json.loads(done.stdout)["missing"]
    assert all(any(r["content_id"] in sentence for sentence in missing) for r in early)
    succeed("verify", "--lake", lake, env=environment(), cwd=tmp_path)


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=100) as emu:
        words = ("backfill", "--lake", lake, "--start", "-7d", "--dry-run")
        said = succeed(*words, env=environment(emu), cwd=tmp_path)
        assert emu.tenants[0].app.subscriptions == {}
    assert "dry run: nothing was started" in said
    assert not [p for p in lake.rglob("*") if p.is_file()]


def test_no_secret_of_a_run_stands_in_its_lake_or_output(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=300, shape=FEW_BLOBS) as emu:
        done = auditlake("backfill", "--lake", lake, "--start", "-7d", env=environment(emu), cwd=tmp_path)
        secret = emu.tenants[0].client_secret
    texts = [done.stdout.encode(), done.stderr.encode(), *(p.read_bytes() for p in lake.rglob("*") if p.is_file())]
    assert not any(secret.encode() in text or b"eyJ0" in text for text in texts)


@pytest.mark.parametrize("how", ["change", "delete", "add"])
def test_tampering_with_a_file_makes_verify_fail_and_name_it(how: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=100, shape=FEW_BLOBS) as emu:
        backfill(lake, environment(emu))
    file = sorted(lake.rglob("audit/**/*.parquet"))[0]
    if how == "change":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif how == "delete":
        file.unlink()
    else:
        file = file.with_name("stranger.parquet")
        file.write_bytes(b"PAR1")
    done = auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path)
    assert done.returncode == 1
    assert file.name in done.stdout


WRONG = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"


@pytest.mark.parametrize(
    ("change", "words", "code", "sentence"),
    [
        ({"AUDITLAKE_CLIENT_SECRET": "wrong"}, (), 2, "secret"),
        ({"AUDITLAKE_TENANT_ID": WRONG}, (), 2, "tenant"),
        ({"AUDITLAKE_CLIENT_ID": WRONG}, (), 2, "application"),
        ({"AUDITLAKE_CLIENT_SECRET": ""}, (), 2, "no credential is given"),
        ({"AUDITLAKE_CA_FILE": "missing.pem"}, (), 2, "missing.pem"),
        ({}, ("--no-such-option",), 2, "unknown option '--no-such-option'"),
        ({}, ("--client-secret=hush",), 2, "a secret is no option"),
        ({}, ("--direct_num_workers=many",), 2, "direct_num_workers"),
        ({}, ("--start", "-1d", "--end", "-2d"), 2, "is not before --end"),
        ({}, ("--end", "2099-01-01"), 2, "lies in the future"),
        ({}, ("--lake", "file.txt"), 2, "cannot be written"),
        ({}, ("--lake", "ftp://somewhere"), 2, "not supported"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(
    change: dict[str, str], words: tuple[str, ...], code: int, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "file.txt").write_text("not a folder")
    with running(count=10) as emu:
        env = environment(emu, None, **change)
        done = auditlake("backfill", "--lake", "lake", "--start", "-7d", *words, env=env, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert sentence in said
    assert "Traceback" not in said
    assert "hush" not in said
    assert not list(tmp_path.rglob("*.parquet"))


def test_missing_role_and_switched_off_auditing_are_named(tmp_path: Path) -> None:
    with running(tenants=2, count=10) as emu:
        no_role, no_audit = emu.tenants
        no_role.app.roles.clear()
        no_audit.auditing = False
        said = []
        for tenant in (no_role, no_audit):
            words = ("backfill", "--lake", tmp_path / "lake", "--start", "-7d")
            done = auditlake(*words, env=environment(emu, tenant), cwd=tmp_path)
            assert done.returncode == 1, done.stdout + done.stderr
            assert "Traceback" not in done.stdout + done.stderr
            said.append(done.stdout)
    assert "ActivityFeed.Read" in said[0]
    assert "audit" in said[1]


def test_unreachable_host_is_named(tmp_path: Path) -> None:
    with running(count=10) as emu:
        env = environment(emu) | {"AUDITLAKE_CA_FILE": str(tmp_path / "ca.pem")}
        (tmp_path / "ca.pem").write_bytes(emu.ca_file.read_bytes())
    done = auditlake("backfill", "--lake", tmp_path / "lake", "--start", "-7d", env=env, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "localhost" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_nothing_is_downloaded_and_no_runner_is_tried_but_the_one_in_this_process(tmp_path: Path) -> None:
    with running(count=10) as emu:
        words = ("backfill", "--lake", tmp_path / "lake", "--start", "-1d", "--runner=DirectRunner")
        done = auditlake(*words, env=environment(emu), cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""


def test_emulate_runs_a_command_and_returns_its_exit_code(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    inner = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(lake), "--start", "-7d", "--json"]
    words = ("emulate", "--count", "50", "--", *inner)
    assert json.loads(succeed(*words, env=environment(), cwd=tmp_path))["rows"]
    failing = auditlake(
        "emulate", "--count", "5", "--", sys.executable, "-c", "raise SystemExit(7)", env=environment(), cwd=ROOT
    )
    assert failing.returncode == 7


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("verify", "--lake", "nowhere"), "no lake at"),
        (("status", "--lake", "nowhere"), "no lake at"),
        (("query", "--lake", "nowhere", "select 1"), "no lake at"),
        (("verify",), "no lake is given"),
        (("verify", "--lake", "ftp://somewhere"), "not supported"),
        (("verify", "--lake", "nowhere", "--jsn"), "unknown option '--jsn'"),
        (("schema", "nope"), "there is no table 'nope'"),
        (("verify", "--lake", "nowhere", "--", "echo"), "of use only with emulate"),
        (("sing",), "invalid choice: 'sing'"),
        ((), "required: COMMAND"),
    ],
)
def test_wrong_use_of_the_other_commands_is_one_sentence_and_exit_2(
    words: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = auditlake(*words, env=environment(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_unusable_folder_of_temporary_files_is_one_sentence_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(count=20, shape=FEW_BLOBS) as emu:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
        words = ("backfill", "--lake", tmp_path / "lake", "--start", "-1d")
        done = auditlake_here(*words, env=environment(emu), cwd=tmp_path)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("auditlake: ")
    assert f"No such file or directory: '{tmp_path}/gone/" in sentence
    assert "TMPDIR" in sentence
