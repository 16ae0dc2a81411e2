"""Runs the command line as a user does: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from emulator.cli import environment as emulated
from emulator.server import Emulator
from emulator.tenant import Tenant

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT.parent / "shared" / "samples"


def environment(emu: Emulator | None = None, tenant: Tenant | None = None, **more: str) -> dict[str, str]:
    """The environment of a command: that of the tests, and the way to a tenant of the emulator."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("AUDITLAKE_")} | {"PYTHONPATH": str(ROOT)}
    if emu is not None:
        env |= emulated(emu, tenant)
    return env | more


def auditlake(*words: str | Path, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def succeed(*words: str | Path, env: dict[str, str], cwd: Path) -> str:
    """Runs a command that must exit 0; returns what it printed."""
    done = auditlake(*words, env=env, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def backfill(lake: Path, env: dict[str, str], *more: str) -> dict[str, Any]:
    """Runs a backfill of all that the service keeps; returns its summary."""
    return dict(
        json.loads(succeed("backfill", "--lake", lake, "--start", "-7d", "--json", *more, env=env, cwd=lake.parent))
    )


def rows(lake: Path, sql: str) -> list[dict[str, Any]]:
    """Asks a lake."""
    printed = succeed("query", "--lake", lake, "--json", sql, env=environment(), cwd=lake.parent)
    return [json.loads(line) for line in printed.splitlines()]
