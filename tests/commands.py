"""Runs the command line as a user does: in a process of its own."""

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from emulator.cli import environment as emulated
from emulator.server import Emulator
from emulator.tenant import Tenant
from lake.tenant import _LAKES
from o365.clients import _CLIENTS, _GOVERNORS, _TRANSPORTS
from pipeline.cli import main
from transforms.recall import _RECALLS

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT.parent / "shared" / "samples"


def environment(emu: Emulator | None = None, tenant: Tenant | None = None, **more: str) -> dict[str, str]:
    """The environment of a command: that of the tests, and the way to a tenant of the emulator."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("AUDITLAKE_")} | {"PYTHONPATH": str(ROOT)}
    if emu is not None:
        env |= emulated(emu, tenant)
    return env | more


def all_tenants(emu: Emulator, folder: Path, *settings: str) -> dict[str, str]:
    """Writes an `auditlake.toml` of all tenants of the emulator, `no0` and so on; gives the environment for it."""
    config = [*settings, f'api_root = "{emu.api_root}"', f'authority = "{emu.authority}"', f'ca_file = "{emu.ca_file}"']
    for number, tenant in enumerate(emu.tenants):
        config += ["[[tenant]]", f'name = "no{number}"', f'tenant_id = "{tenant.tenant_id}"']
        config += [f'client_id = "{tenant.client_id}"', f'client_secret_env = "SECRET_{number}"']
    (folder / "auditlake.toml").write_text("\n".join(config))
    return environment(**{f"SECRET_{number}": tenant.client_secret for number, tenant in enumerate(emu.tenants)})


def auditlake(*words: str | Path, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def forget() -> None:
    """Drops what this process holds in memory, as its end would."""
    for transport in _TRANSPORTS.values():
        transport.close()
    for cache in (_CLIENTS, _GOVERNORS, _TRANSPORTS, _LAKES, _RECALLS):
        cache.clear()


def auditlake_here(*words: str | Path, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in this process, which saves its start, and forgets what it held in memory as a new one would."""
    forget()
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        for name in [n for n in os.environ if n.startswith("AUDITLAKE_")]:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        code = main([str(word) for word in words])
    return subprocess.CompletedProcess([*map(str, words)], code, out.getvalue(), err.getvalue())


def succeed(*words: str | Path, env: dict[str, str], cwd: Path) -> str:
    """Runs a command that must exit 0; returns what it printed."""
    done = auditlake(*words, env=env, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def succeed_here(*words: str | Path, env: dict[str, str], cwd: Path) -> str:
    """Runs a command in this process that must exit 0; returns what it printed."""
    done = auditlake_here(*words, env=env, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def backfill(lake: Path, env: dict[str, str], *more: str) -> dict[str, Any]:
    """Runs a backfill of all that the service keeps; returns its summary."""
    return dict(
        json.loads(succeed("backfill", "--lake", lake, "--start", "-7d", "--json", *more, env=env, cwd=lake.parent))
    )


def rows_here(lake: Path, sql: str) -> list[dict[str, Any]]:
    """Asks a lake, in this process."""
    printed = succeed_here("query", "--lake", lake, "--json", sql, env=environment(), cwd=lake.parent)
    return [json.loads(line) for line in printed.splitlines()]


def rows(lake: Path, sql: str) -> list[dict[str, Any]]:
    """Asks a lake."""
    printed = succeed("query", "--lake", lake, "--json", sql, env=environment(), cwd=lake.parent)
    return [json.loads(line) for line in printed.splitlines()]
