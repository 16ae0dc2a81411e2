"""Two hundred tenants in one backfill: each whole, but for those that are sick themselves."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from emulator.server import running
from o365.activity import ActivityClient
from tests.commands import auditlake_here, environment, rows_here

TENANTS = 200
WRONG_SECRET, THROTTLED, UNSUBSCRIBED = 17, 99, 150
GENERAL = "Audit.General"
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
        config = [f'lake = "{lake}"', f'api_root = "{emu.api_root}"', f'authority = "{emu.authority}"']
        config += [f'ca_file = "{emu.ca_file}"', f'content_types = ["{GENERAL}"]']
        secrets = {}
        for number, tenant in enumerate(emu.tenants):
            secrets[f"SECRET_{number}"] = "wrong" if number == WRONG_SECRET else tenant.client_secret
            config += ["[[tenant]]", f'name = "no{number}"', f'tenant_id = "{tenant.tenant_id}"']
            config += [f'client_id = "{tenant.client_id}"', f'client_secret_env = "SECRET_{number}"']
        (tmp_path / "auditlake.toml").write_text("\n".join(config))
        done = auditlake_here("backfill", "--start", "-2d", "--json", env=environment(**secrets), cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    sick = {WRONG_SECRET, THROTTLED, UNSUBSCRIBED}
    assert {m.removeprefix("tenant ").split(":")[0].split(" ")[0] for m in told["missing"]} == {f"no{n}" for n in sick}
    sql = "select tenant, content_id from ledger_blobs where status = 'landed'"
    landed = {(r["tenant"], r["content_id"]) for r in rows_here(lake, sql)}
    well = [t for number, t in enumerate(emu.tenants) if number not in sick]
    since = emu.state.anchor - timedelta(days=2)
    assert landed == {(t.tenant_id, b.content_id) for t in well for b in t.blobs[GENERAL] if b.created >= since}
    assert auditlake_here("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0
