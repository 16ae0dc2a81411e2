"""Many tenants in one backfill, or many days of one: each whole but for what is sick, and none waits for another."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from emulator.server import running
from emulator.tenant import Answer, Hook
from o365.activity import ActivityClient
from tests.commands import all_tenants, auditlake_here, environment, rows_here
from transforms.grid import tick_of, tick_range

TENANTS = 200
WRONG_SECRET, THROTTLED, UNSUBSCRIBED = 17, 99, 150
EXCHANGE, GENERAL = "Audit.Exchange", "Audit.General"
RECORDS = 20
_SICK = f"""
[[fault]]
what = "throttled"
tenant = {THROTTLED}
where = ["list", "content", "blob"]

[[fault]]
what = "af"
tenant = {UNSUBSCRIBED}
where = "start"
code = "AF20024"
"""


def test_sick_tenants_are_named_and_all_others_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, lake = tmp_path / "faults.toml", tmp_path / "lake"
    script.write_text(_SICK)
    monkeypatch.setitem(ActivityClient.__init__.__kwdefaults__, "deadline_s", 5.0)
    with running(tenants=TENANTS, count=RECORDS, faults=script) as emu:
        env = all_tenants(emu, tmp_path, f'lake = "{lake}"', f'content_types = ["{GENERAL}"]')
        env[f"SECRET_{WRONG_SECRET}"] = "wrong"
        since = tick_range(tick_of(emu.state.anchor - timedelta(days=2))).start  # all of a tick is listed
        done = auditlake_here("backfill", "--start", since.isoformat(), "--json", env=env, cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    sick = {WRONG_SECRET, THROTTLED, UNSUBSCRIBED}
    assert {m.removeprefix("tenant ").split(":")[0].split(" ")[0] for m in told["missing"]} == {f"no{n}" for n in sick}
    sql = "select tenant, content_id from ledger_blobs where status = 'landed'"
    landed = {(r["tenant"], r["content_id"]) for r in rows_here(lake, sql)}
    well = [t for number, t in enumerate(emu.tenants) if number not in sick]
    assert landed == {(t.tenant_id, b.content_id) for t in well for b in t.blobs[GENERAL] if b.created >= since}
    assert auditlake_here("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0


def test_tenant_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    with running(tenants=3, count=RECORDS) as emu:
        first, *others = emu.tenants
        wanted = {b.content_id for t in others for b in t.by_id.values()}
        emu.state.hook = _listing_after(wanted, lambda r: r.path_params.get("tenant_id") == first.tenant_id)
        env = all_tenants(emu, tmp_path, 'lake = "lake"')
        done = auditlake_here("backfill", "--start", "-7d", "--json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not wanted
    assert json.loads(done.stdout)["blobs"]["landed"] == sum(len(t.by_id) for t in emu.tenants)


def test_one_tenant_lists_and_lands_at_the_same_time(tmp_path: Path) -> None:
    with running(count=400) as emu:
        (tenant,) = emu.tenants
        wanted = {b.content_id for b in tenant.blobs[GENERAL]}
        emu.state.hook = _listing_after(wanted, lambda r: r.query_params.get("contentType") == EXCHANGE)
        env = all_tenants(emu, tmp_path, 'lake = "lake"', f'content_types = ["{EXCHANGE}", "{GENERAL}"]')
        done = auditlake_here("backfill", "--start", "-7d", "--json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not wanted
    landed = json.loads(done.stdout)["blobs"]["landed"]
    assert landed == sum(len(tenant.blobs[content_type]) for content_type in (EXCHANGE, GENERAL))


def _listing_after(wanted: set[str], waits: Callable[[Request], bool]) -> Hook:
    """Lets those who list wait until the wanted blobs have been fetched, which are crossed out then."""

    async def hook(request: Request, answer: Answer) -> Response:
        if waits(request) and "startTime" in request.query_params:
            async with asyncio.timeout(60):
                while wanted:
                    await asyncio.sleep(0.05)
        response = await answer(request)
        wanted.discard(request.path_params.get("content_id", ""))
        return response

    return hook


names_threads = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux names threads so")


@pytest.mark.parametrize(
    "is_main", [True, pytest.param(False, marks=names_threads)], ids=["in the main thread", "in another one"]
)
@pytest.mark.parametrize(("tenants", "asked"), [(3, "startTime"), (1, "content_id")], ids=["listing", "fetching"])
def test_ctrl_c_is_heard_while_all_tenants_wait(tmp_path: Path, tenants: int, asked: str, is_main: bool) -> None:
    with running(tenants=tenants, count=RECORDS) as emu:

        async def never_answer(request: Request, answer: Answer) -> Response:
            if asked in (*request.query_params, *request.path_params):
                (tmp_path / "asked").touch()
                while not (tmp_path / "ended").exists():
                    await asyncio.sleep(0.05)
            return await answer(request)

        emu.state.hook = never_answer
        env = all_tenants(emu, tmp_path, 'lake = "lake"')
        command = [sys.executable, "-m", "pipeline", "backfill", "--start", "-7d"]
        with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as run:
            try:
                while not (tmp_path / "asked").exists():
                    assert run.poll() is None
                # The system may give it to any thread.
                os.kill(run.pid if is_main else _another_thread(run.pid), signal.SIGINT)
                _, said = run.communicate(timeout=60)
            finally:
                (tmp_path / "ended").touch()
    assert run.returncode == 130
    assert said == "auditlake: stopped; what was committed stays, run the same command again to go on\n"


def _another_thread(pid: int) -> int:
    return max({int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()} - {pid})
