"""Processes that share a tenant's quota without a server, by the emulator's count; its minute lasts three seconds."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from emulator.clock import Clock
from emulator.server import running
from tests.commands import ROOT, environment

FASTER = 20
QUOTA = 120
OPERATION = "ListSubscriptions"
WORKER = f"""
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from o365.activity import ActivityClient
from o365.connection import Connection
from o365.throttle import Governor

given = json.loads(sys.argv[1])
clock, sleep = lambda: time.monotonic() * {FASTER}, lambda seconds: time.sleep(seconds / {FASTER})
connection = Connection("contoso", client_secret_env="AUDITLAKE_CLIENT_SECRET", **given["connection"])
governor = Governor(share=1 / connection.workers, quota_requests=given["documented"], clock=clock, sleep=sleep)
client = ActivityClient(connection, governor=governor, clock=clock, sleep=sleep)
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: client.list_subscriptions(), range(given["requests"])))
counts = client.counts()
print(json.dumps([counts.requests, counts.throttled]))
"""


class FastClock(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.began, self.began_s = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        return self.began + timedelta(seconds=(time.monotonic() - self.began_s) * FASTER)


def collect(workers: int, documented: int, requests: int) -> tuple[list[int], list[int], int]:
    """Starts processes at once; returns the requests and refusals of each, and the requests the emulator counted."""
    with running(count=0, quota=QUOTA, clock=FastClock()) as emu:
        tenant = emu.tenants[0]
        connection = {
            "tenant_id": tenant.tenant_id,
            "client_id": tenant.client_id,
            "api_root": emu.api_root,
            "authority": emu.authority,
            "ca_file": str(emu.ca_file),
            "workers": workers,
        }
        given = json.dumps({"connection": connection, "documented": documented, "requests": requests})
        started = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, given],
                env=environment(emu),
                cwd=Path(ROOT),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(workers)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        printed = [json.loads(process.communicate(timeout=120)[0]) for process in started]
        return [one[0] for one in printed], [one[1] for one in printed], tenant.requests[OPERATION]


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_that_know_their_number_are_never_refused(workers: int) -> None:
    share = QUOTA // workers
    requests, refused, counted = collect(workers, QUOTA, 2 * share + 5)
    assert refused == [0] * workers
    assert requests == [2 * share + 5] * workers
    assert counted == sum(requests)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_find_a_quota_that_is_lower_than_documented_together(workers: int) -> None:
    each = 3 * QUOTA // workers
    requests, refused, counted = collect(workers, 2000, each)
    assert counted == sum(requests)
    assert sum(requests) - sum(refused) == each * workers
    assert sum(refused) <= 30 * workers
