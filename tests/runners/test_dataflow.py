"""Dataflow: not run, but built: the job as its runner would send it, and the Flex Template."""

import bz2
import json
import re
import zlib
from argparse import _StoreTrueAction
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from o365.connection import Connection
from pipeline.arguments import options_of, parse
from pipeline.errors import UsageError
from pipeline.graph import land_feeds
from pipeline.runners import new_pipeline
from pipeline.template import to_flags
from schemas.times import TimeRange
from tests.commands import ROOT
from transforms.elements import Feed

ID = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
SECRET = "hush~hush~hush"
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


def job(words: list[str]) -> Any:
    """The job as DataflowRunner makes it just before it is sent."""
    now = datetime.now(UTC)
    connection = Connection("contoso", ID, ID, client_secret_env="AUDITLAKE_CLIENT_SECRET")
    p = new_pipeline([*WORDS, *words])
    land_feeds(
        p, [Feed(connection, "Audit.General", TimeRange(now - timedelta(days=1), now), "gs://a-bucket/lake", "r")]
    )
    return p.run().job


def test_job_for_dataflow_is_built_with_our_image_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITLAKE_CLIENT_SECRET", SECRET)
    built = job([])
    (environment,) = built.proto_pipeline.components.environments.values()
    assert environment.urn == "beam:env:docker:v1"
    assert IMAGE.encode() in environment.payload
    assert json.loads(built.json())["type"] == "JOB_TYPE_BATCH"
    sent = [*opened(built.proto_pipeline.SerializeToString())]
    sent += [built.json().encode(), json.dumps(built.options.get_all_options(), default=str).encode()]
    assert all(SECRET.encode() not in text for text in sent)
    assert any(b"AUDITLAKE_CLIENT_SECRET" in text for text in sent), "its name is what a worker needs"


def opened(text: bytes) -> Iterator[bytes]:
    """A text, and what Beam has pickled and packed into it."""
    yield text
    for packed in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", text):
        for unpack in (bz2.decompress, zlib.decompress):
            with suppress(ValueError, OSError, zlib.error):
                yield from opened(unpack(b64decode(packed)))


def template() -> dict[str, Any]:
    return dict(json.loads((ROOT / "deploy/dataflow/backfill.json").read_text()))


def test_template_has_every_option_of_backfill_and_no_other() -> None:
    parameters = {p["name"]: p for p in template()["parameters"]}
    options = {o.dest: o for o in options_of("backfill")}
    renew = "python -m pipeline.template > deploy/dataflow/backfill.json renews it"
    assert list(parameters) == list(options), renew
    for name, option in options.items():
        assert parameters[name]["helpText"].lower() == str(option.help).lower(), renew
        assert bool(parameters[name].get("regexes")) == isinstance(option, _StoreTrueAction)


def test_template_says_only_what_dataflow_knows() -> None:
    known = {"name", "label", "helpText", "paramType", "isOptional", "regexes"}
    assert set(template()) == {"name", "description", "streaming", "parameters"}
    for p in template()["parameters"]:
        assert set(p) <= known
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
    (entry,) = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=/auditlake/(\S+)", text)
    assert (ROOT / entry).is_file()
    version = re.search(r"FROM apache/beam_python3.11_sdk:(\S+)", text)
    assert version
    assert f"apache-beam=={version[1]}\n" in (ROOT / "deploy/requirements.lock").read_text()
