"""Several processes and one tenant's quota, by the service's own count."""

import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from emulator.server import running
from schemas.contract import limits
from tests.commands import environment

# One worker: asks as fast as it may, until it would have to wait for its part of the quota.
WORKER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from o365.clients import client_for
from pipeline.config import load_config

(connection,) = load_config({"lake": "none", "workers": sys.argv[1]}, os.environ).connections
client = client_for(connection)
with ThreadPoolExecutor(8) as pool:
    while (left := client.governor.quota - client.governor.used()) > 0:
        list(pool.map(lambda _: client.list_subscriptions(), range(min(left, 64))))
"""


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_keep_together_to_the_quota_of_their_tenant(workers: int, tmp_path: Path) -> None:
    quota = int(limits()["quota_requests"])
    answered: Counter[int] = Counter()

    async def counting(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        if "/activity/feed/" in request.url.path:
            answered[response.status_code] += 1
        return response

    with running(count=10, quota=quota) as emu:
        emu.state.hook = counting
        command = [sys.executable, "-c", WORKER, str(workers)]
        env = environment(emu)
        processes = [
            subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(workers)
        ]
        complaints = [process.communicate(timeout=120)[1] for process in processes]
    assert complaints == [""] * workers
    assert set(answered) == {200}
    assert answered[200] >= quota
