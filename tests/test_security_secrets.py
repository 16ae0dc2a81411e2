"""Secrets stand in the environment or a file, and nowhere else."""

import json
import pickle
import re
import subprocess
import sys
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.transforms.display import DisplayData

from emulator.filling import Shape
from emulator.server import running
from o365.connection import Connection
from o365.credential import read_credential
from o365.errors import ActivityError
from o365.identity import TokenSource
from o365.transport import Answer
from pipeline.config import SETTINGS
from pipeline.graph import land_feeds
from pipeline.runners import beam_options
from schemas.times import TimeRange
from tests.commands import ROOT, auditlake, environment
from transforms.elements import Feed
from transforms.land_content import LandContent, _LandContentFn
from transforms.list_content import ListContent, _ListContentFn

SECRET = "hu8~Q~hush.hush"
TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("AUDITLAKE_CLIENT_SECRET", SECRET)
    return Connection("contoso", TENANT, TENANT, client_secret_env="AUDITLAKE_CLIENT_SECRET")


def test_pipeline_and_its_options_hold_no_secret(connection: Connection) -> None:
    assert read_credential(connection).for_msal == SECRET
    options = beam_options(["--runner=DirectRunner"])
    feed = Feed(connection, "Audit.General", TimeRange(NOW - timedelta(hours=1), NOW), "lake", "run")
    p = beam.Pipeline(options=options)
    land_feeds(p, [feed])
    shown = [p.to_runner_api().SerializeToString(), json.dumps(options.get_all_options(), default=str).encode()]
    shown += [pickle.dumps(one) for one in (feed, connection)]
    shown += [str(DisplayData.create_from(one).items).encode() for one in (options, ListContent(), LandContent())]
    shown += [str(vars(fn)).encode() for fn in (_ListContentFn(), _LandContentFn())]
    assert b"AUDITLAKE_CLIENT_SECRET" in b"".join(shown)  # its name is there
    assert SECRET.encode() not in b"".join(shown)


def test_no_flag_takes_a_secret(tmp_path: Path) -> None:
    assert not [s.flag for s in SETTINGS if s.flag in ("--client-secret", "--certificate-password", "--secret")]
    for words in (["--client-secret", SECRET], [f"--client-secret={SECRET}"], ["--client-secret-env", SECRET]):
        done = auditlake("backfill", "--lake", tmp_path / "lake", "--tenant-id", TENANT, "--client-id", TENANT, *words,
                         env=environment(), cwd=tmp_path)  # fmt: skip
        assert done.returncode == 2
        assert SECRET not in done.stdout + done.stderr


def test_credential_shows_itself_nowhere(connection: Connection) -> None:
    credential = read_credential(connection)
    assert SECRET not in repr(credential) + str(credential) + repr(connection)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("body", ["{}", '{"error":"x","error_description":"AADSTS7000215: %s"}', "<%s>", '["%s"'])
def test_no_traceback_of_a_refused_sign_in_shows_the_secret(connection: Connection, status: int, body: str) -> None:
    class Refusing:
        def send(self, method: str, url: str, **_: object) -> Answer:
            return Answer(status, {}, body.replace("%s", SECRET).encode(), is_whole=True)

    with pytest.raises(ActivityError) as caught:
        TokenSource(connection, Refusing()).token()  # type: ignore[arg-type]
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET.encode() not in pickle.dumps(caught.value)


def test_secret_file_that_others_can_read_is_warned_of(
    connection: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    by_file = replace(connection, client_secret_env=None, client_secret_file=str(file))
    for mode, warned in ((0o600, False), (0o640, False), (0o644, True)):
        file.chmod(mode)
        caplog.clear()
        assert read_credential(by_file).for_msal == SECRET
        assert [r.getMessage() for r in caplog.records] == (
            [f"every user of this machine can read the client secret file {str(file)!r}: chmod 600 it"]
            if warned
            else []
        )


def test_secret_stands_in_no_file_no_output_and_no_argument_of_a_run(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with running(count=300, shape=Shape(max_records=30)) as emu:
        env = environment(emu)
        secret = env["AUDITLAKE_CLIENT_SECRET"]
        words = ["backfill", "--lake", str(lake), "--start", "-7d", "--json"]
        command = [sys.executable, "-X", "dev", "-m", "pipeline", *words]
        run = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        arguments = Path(f"/proc/{run.pid}/cmdline")
        shown = arguments.read_bytes() if arguments.exists() else b""
        out, err = run.communicate(timeout=200)
        wrong = auditlake(*words, env=env | {"AUDITLAKE_CLIENT_SECRET": f"{secret}-wrong"}, cwd=tmp_path)
    assert run.returncode == 0, err.decode()
    assert wrong.returncode in (1, 2)
    held = [shown, out, err, wrong.stdout.encode(), wrong.stderr.encode()]
    held += [path.read_bytes() for path in lake.rglob("*") if path.is_file()]
    assert secret.encode() not in b"".join(held)
    assert b"eyJ" not in b"".join(held)  # how every token begins


def test_every_test_that_the_security_document_names_is_there() -> None:

    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(test_\w+)\.py(?:::(test_\w+))?`", text)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(), (file, test)
    for folder in re.findall(r"`(tests/[\w/]+)`", text):
        assert (ROOT / folder).is_dir()
