"""The README and the other documents say what is so."""

import re
import shlex
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emulator.fault_script import script_names
from emulator.server import running
from pipeline.arguments import make_parser, parse
from pipeline.runners import beam_options
from tests.commands import ROOT, auditlake, environment, succeed

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = DOCUMENTS[0].read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", text, re.DOTALL)


def commands() -> list[str]:
    shown = [block.replace("\\\n", " ") for d in DOCUMENTS for block in blocks(d.read_text(), "console")]
    lines = [line for block in shown for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("auditlake")])
def test_every_auditlake_command_in_the_documents_is_one(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    own, inner = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    beam_options(parse(own, inner).rest)  # raises where a word is neither ours nor Beam's
    assert not inner or parse(inner[1:], []).rest == []


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("./")])
def test_every_script_in_the_documents_is_there(command: str) -> None:
    assert (ROOT / command.split()[0]).stat().st_mode & 0o100


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named += re.findall(r"`((?:docs|tests|schemas|transforms|pipeline|lake|o365|emulator|deploy)/[\w./-]*\w)`", text)
    for name in named:
        assert (document.parent / name).exists() or (ROOT / name).exists(), name
    for name in re.findall(r"`(test_\w+\.py)(?:::(\w+))?", text):
        tests = (ROOT / "tests" / name[0]).read_text()
        assert f"def {name[1]}" in tests


def test_commands_of_the_readme_are_those_of_the_program() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.MULTILINE)
    helped = make_parser().format_help()
    assert [name for name, _ in listed] == re.findall(r"^    (\w+) +\w", helped, re.MULTILINE)


def test_configuration_in_the_readme_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.config import load_config

    (text,) = blocks(README, "toml")
    assert tomllib.loads(text)["lake"] == "./data"
    (tmp_path / "auditlake.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert [c.name for c in load_config({}, {}).connections] == ["contoso", "fabrikam"]


def shape(line: str) -> str:
    """A line without its figures, and without the widths that hang on them."""
    return re.sub(r"[ -]{2,}", "  ", re.sub(r"[\d,.]*\d", "0", line))


def test_output_in_the_readme_is_what_run_local_prints(tmp_path: Path) -> None:
    (shown,) = blocks(README, "text")
    stand_in = tmp_path / "auditlake"
    stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
    stand_in.chmod(0o755)
    lake = tmp_path / "lake"
    with running(count=50_000, anchor=datetime.now(UTC)) as emu:
        env = environment(emu) | {"PATH": f"{tmp_path}:{environment()['PATH']}"}
        command = [str(ROOT / "run_local.sh"), "--land", str(lake)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    printed = iter(done.stdout.replace(str(lake), "./demo/lake").splitlines())
    for line in shown.splitlines():
        assert line.strip() == "…" or shape(line) in map(shape, printed), line


@pytest.mark.parametrize("sql", re.findall(r'auditlake query [^"]*"(.+?)"$', README, re.MULTILINE))
def test_queries_of_the_readme_run(sql: str, tmp_path: Path) -> None:
    with running(count=500) as emu:
        succeed("backfill", "--lake", tmp_path / "lake", "--start", "-7d", env=environment(emu), cwd=tmp_path)
    done = auditlake("query", "--lake", tmp_path / "lake", sql, env=environment(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_guarantees_name_tests_and_scripts_that_exist() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    for file, test in re.findall(r"`(test_\w+\.py)(?:::(\w+))?", text):
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, (file, test)
    modes = text.partition("## Ways to lose records")[2].partition("## Chaos")[0]
    named = {name for row in modes.splitlines() for name in re.findall(r"`([a-z0-9-]+)`", row)}
    assert named == set(script_names()) - {"latency"}
