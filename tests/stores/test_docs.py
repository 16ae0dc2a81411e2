"""docs/stores.md: its commands run, its policies parse, and what it names is there."""

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from emulator.server import running as emulating
from tests.commands import ROOT, environment, succeed_here
from tests.stores.servers import KINDS, Server

PAGE = (ROOT / "docs/stores.md").read_text()
COMMANDS = re.findall(r"^\$ (auditlake .*)$", PAGE, re.MULTILINE)
SCHEMES = {kind.scheme: name for name, kind in KINDS.items()}


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_commands_of_the_page_run(running: Callable[[str], Server], tmp_path: Path, scheme: str) -> None:
    lines = [line for line in COMMANDS if f"{scheme}://" in line]
    assert len(lines) == 2
    lake = f"{running(SCHEMES[scheme]).root}/docs/{uuid4().hex}"
    with emulating(count=50) as emu:
        for line in lines:
            words = shlex.split(re.sub(rf"{scheme}://\S+", lake, line))[1:]
            # One feed is enough to see that a command works, and a fifth of the listings.
            env = environment(emu, AUDITLAKE_CONTENT_TYPES="Audit.Exchange")
            succeed_here(*words, env=env, cwd=tmp_path)


def test_policies_of_the_page_parse_and_name_what_the_code_asks() -> None:
    (policy,) = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    objects = policy["Statement"][1]["Action"]
    made = re.findall(r"_client\.(\w+)_object\(", (ROOT / "lake/storage_s3.py").read_text())
    granted = {
        "put": "PutObject",
        "get": "GetObject",
        "head": "GetObject",
        "copy": "PutObject",
        "delete": "DeleteObject",
    }
    assert {f"s3:{granted[name]}" for name in made} == set(objects)


def test_variables_of_the_page_are_ones_that_clients_read() -> None:
    source = "".join(path.read_text() for path in (ROOT / "lake").glob("storage_*.py"))
    for name in re.findall(r"`(AZURE_STORAGE_\w+|STORAGE_\w+)`", PAGE):
        assert name in source
    assert not any(name in source for name in os.environ if "SECRET" in name and name.startswith("AUDITLAKE"))
