"""Dataflow: not run, but built: the job as its runner would send it, and the Flex Template."""

import bz2
import json
import re
import runpy
import zlib
from argparse import _StoreTrueAction
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from emulator.server import running
from o365.connection import Connection
from pipeline.arguments import options_of, parse
from pipeline.errors import UsageError
from pipeline.graph import follow_feeds, land_feeds
from pipeline.runners import new_pipeline
from pipeline.template import metadata, to_flags
from schemas.times import TimeRange
from tests.commands import ROOT, environment, forget
from transforms.elements import Feed, Follow
from transforms.polls import OPEN

ID = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
SECRET = "hush~hush~hush"
TEMPLATES = ("backfill", "stream")
IMAGE = "europe-docker.pkg.dev/a-project/auditlake/worker:1"
WORDS = [
    "--runner=DataflowRunner",
    "--project=a-project",
    "--region=europe-west1",
    "--job_name=auditlake",
    "--temp_location=gs://a-bucket/temp",
    f"--sdk_container_image={IMAGE}",
    "--sdk_location=container",
    "--dry_run=True",
]


CONNECTION = Connection("contoso", ID, ID, client_secret_env="AUDITLAKE_CLIENT_SECRET")
NOW = datetime.now(UTC)
FEED = Feed(CONNECTION, "Audit.General", TimeRange(NOW - timedelta(days=1), NOW), "gs://a-bucket/lake", "r")


def batch_job() -> Any:
    """The job of a backfill as DataflowRunner makes it just before it is sent."""
    p = new_pipeline(WORDS)
    land_feeds(p, [FEED])
    return p.run().job


def stream_job() -> Any:
    """The job of a stream."""
    p = new_pipeline(WORDS, streaming=True)
    follow_feeds(p, [Follow(FEED, timedelta(seconds=30), 0, OPEN)], is_open=True)
    return p.run().job


@pytest.mark.parametrize(("make", "kind"), [(batch_job, "BATCH"), (stream_job, "STREAMING")], ids=TEMPLATES)
def test_job_for_dataflow_is_built_with_our_image_and_no_secret(
    make: Callable[[], Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLAKE_CLIENT_SECRET", SECRET)
    built = make()
    (environment,) = built.proto_pipeline.components.environments.values()
    assert environment.urn == "beam:env:docker:v1"
    assert IMAGE.encode() in environment.payload
    assert json.loads(built.json())["type"] == f"JOB_TYPE_{kind}"
    sent = [*opened(built.proto_pipeline.SerializeToString())]
    sent += [built.json().encode(), json.dumps(built.options.get_all_options(), default=str).encode()]
    assert all(SECRET.encode() not in text for text in sent)
    assert any(b"AUDITLAKE_CLIENT_SECRET" in text for text in sent), "its name is what a worker needs"


def test_job_of_a_stream_polls_without_end_on_streaming_engine() -> None:
    built = stream_job()
    bounded = {name: p.is_bounded for name, p in built.proto_pipeline.components.pcollections.items()}
    steps = built.proto_pipeline.components.transforms.values()
    (polls,) = (step for step in steps if step.unique_name.endswith("Poll feeds"))
    assert [bounded[name] for name in polls.inputs.values()] == [beam_runner_api_pb2.IsBounded.BOUNDED]
    assert [bounded[name] for name in polls.outputs.values()] == [beam_runner_api_pb2.IsBounded.UNBOUNDED]
    assert beam_runner_api_pb2.ParDoPayload.FromString(polls.spec.payload).restriction_coder_id
    assert "enable_streaming_engine" in built.options.get_all_options()["experiments"]


def test_launcher_of_a_stream_makes_the_job_and_does_not_wait_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "--lake=lake", "--json=true", "--template_location=gs://a-bucket/staging/template"]
    with running(count=0) as emu:
        for name, value in environment(emu).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["stream.py", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "deploy/dataflow/stream.py"))
    forget()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["submitted"] is True


def opened(text: bytes) -> Iterator[bytes]:
    """A text, and what Beam has pickled and packed into it."""
    yield text
    for packed in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", text):
        for unpack in (bz2.decompress, zlib.decompress):
            with suppress(ValueError, OSError, zlib.error):
                yield from opened(unpack(b64decode(packed)))


def template(command: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / f"deploy/dataflow/{command}.json").read_text()))


@pytest.mark.parametrize("command", TEMPLATES)
def test_template_has_every_option_of_its_command_and_no_other(command: str) -> None:
    parameters = {p["name"]: p for p in template(command)["parameters"]}
    options = {o.dest: o for o in options_of(command)}
    renew = f"python -m pipeline.template {command} > deploy/dataflow/{command}.json renews it"
    assert list(parameters) == list(options), renew
    for name, option in options.items():
        assert parameters[name]["helpText"].lower() == str(option.help).lower(), renew
        assert bool(parameters[name].get("regexes")) == isinstance(option, _StoreTrueAction)
    assert template(command) == metadata(command), renew


@pytest.mark.parametrize("command", TEMPLATES)
def test_template_says_only_what_dataflow_knows(command: str) -> None:
    found = template(command)
    modes = {"supportsAtLeastOnce", "supportsExactlyOnce"} if command == "stream" else set()
    assert set(found) == {"name", "description", "streaming", "parameters"} | modes
    assert found["streaming"] == (command == "stream")
    for p in found["parameters"]:
        assert set(p) <= {"name", "label", "helpText", "paramType", "isOptional", "regexes"}
        assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]*", p["name"])


def test_parameters_of_a_template_become_flags_and_beams_options_stay() -> None:
    words = [
        "--lake=gs://b/lake",
        "--tenant_id=t",
        "--gaps=true",
        "--dry_run=false",
        "--end=",
        "--temp_location=gs://b/t",
    ]
    flags = list(to_flags("backfill", words))
    assert flags == ["--lake=gs://b/lake", "--tenant-id=t", "--gaps", "--temp_location=gs://b/t"]
    args = parse(["backfill", *flags], [])
    assert (args.tenant_id, args.gaps, args.dry_run, args.end) == ("t", True, False, "now")
    assert args.rest == ["--temp_location=gs://b/t"]
    with pytest.raises(UsageError, match="expected true or false"):
        list(to_flags("backfill", ["--gaps=perhaps"]))


def test_image_holds_every_package_and_starts_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    for package in ("schemas", "o365", "lake", "transforms", "pipeline", "emulator"):
        assert f"COPY {package} {package}\n" in text
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())
    (default,) = re.findall(r"^ARG COMMAND=(\w+)$", text, re.MULTILINE)
    assert default == "backfill"
    (entry,) = re.findall(r"^ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/auditlake/(\S+)$", text, re.MULTILINE)
    for command in TEMPLATES:
        assert f'main("{command}", sys.argv[1:])' in (ROOT / entry.replace("${COMMAND}", command)).read_text()
    version = re.search(r"FROM apache/beam_python3.11_sdk:(\S+)", text)
    assert version
    assert f"apache-beam=={version[1]}\n" in (ROOT / "deploy/requirements.lock").read_text()
