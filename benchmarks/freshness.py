"""How long a blob takes from being listed to being queryable, in a stream by the emulator's clock.

    python -m benchmarks.freshness --hours 6

Runs `auditlake stream` in this process against the emulator. Where the stream would wait for its next poll, the
service's clock is moved on instead; all that it does in between takes real time on that clock. One blob in ten is
listed late, by up to 90 minutes, and counts from then; one request in a hundred is refused with 429 and
`Retry-After: 2`. A blob counts as queryable at the end of the round that landed it.
"""

import json
import os
import platform
import resource
import signal
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event

from emulator.cli import environment
from emulator.clock import Clock
from emulator.content import make_blob
from emulator.server import Emulator, running
from lake.storage import open_storage
from lake.tenant import open_tenant
from lake.verify import verify
from o365.clients import _CLIENTS
from pipeline.arguments import parse
from pipeline.stream import run
from schemas.contract import content_types
from transforms.backlog import quantile

FAULTS = '[[fault]]\nwhat = "throttled"\nretry_after = 2\nshare = 0.01\nwhere = ["content", "blob"]\n'
RECORDS = 20
LATE, LATEST_S = 0.1, 90 * 60


def main() -> None:
    """Runs the benchmark and prints its figures as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.freshness", description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=6.0, help="how long, by the service's clock (6)")
    parser.add_argument("--every", type=float, default=40.0, help="seconds from blob to blob of a feed (40)")
    parser.add_argument("--poll-interval", default="30s", help="as of auditlake stream (30s)")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        script = Path(folder) / "faults.toml"
        script.write_text(FAULTS)
        start = (datetime.now(UTC) - timedelta(days=20)).replace(minute=0, second=0, microsecond=0)
        with running(count=0, clock=Clock(start), faults=script) as emu:
            found = measure(emu, Path(folder) / "lake", args.hours, args.every, args.poll_interval)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def measure(emu: Emulator, lake: Path, hours: float, every_s: float, interval: str) -> dict[str, object]:
    """Streams for hours of the service's time; gives the figures."""
    start, began = emu.clock.now(), time.monotonic()
    available = _fill(emu, start, hours, every_s)
    end = start + timedelta(hours=hours, minutes=2)
    seen: dict[str, datetime] = {}
    rounds: list[float] = []
    memory: list[int] = []

    def pause(stop: Event, seconds: float) -> None:
        now = emu.clock.now()
        state = open_tenant(str(lake), emu.tenants[0].tenant_id).ledger.state
        for content_id in available.keys() - seen.keys():
            if state.has_landed(content_id):
                seen[content_id] = now
        rounds.append(time.monotonic())
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        emu.clock.advance(seconds)
        for client in list(_CLIENTS.values()):
            client.list_subscriptions()  # its answer tells the time
        if emu.clock.now() >= end and not stop.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    os.environ.update({k: v for k, v in environment(emu).items() if k.startswith("AUDITLAKE_")})
    args = parse(["stream", "--lake", str(lake), "--poll-interval", interval], [])
    code = run(args, [], os.environ, StringIO(), pause)
    fresh = sorted((seen[i] - at).total_seconds() for i, at in available.items() if i in seen)
    found = verify(open_storage(str(lake)))
    entries = len(list(lake.glob("_ledger/*/entries/*.json")))
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "exit_code": code,
        "emulated_hours": hours,
        "poll_interval": interval,
        "blobs": len(available),
        "landed": len(seen),
        "freshness_s": {p: round(quantile(fresh, q), 1) for p, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
        "freshness_worst_s": round(fresh[-1], 1),
        "rounds": len(rounds),
        "requests": sum(c.counts().requests for c in _CLIENTS.values()),
        "throttled": sum(c.counts().throttled for c in _CLIENTS.values()),
        "ledger_entries": entries,
        "files": len(list(lake.glob("audit/**/*.parquet"))),
        "real_s": round(time.monotonic() - began),
        "peak_memory_mb_after_a_tenth": memory[len(memory) // 10] // 1024,
        "peak_memory_mb": memory[-1] // 1024,
        "problems": len(found.problems),
    }


def _fill(emu: Emulator, start: datetime, hours: float, every_s: float) -> dict[str, datetime]:
    """Puts blobs into the time to come; gives when each is listed first."""
    tenant, available = emu.tenants[0], {}
    random = Random(1)  # noqa: S311 - the same content each time
    for place, content_type in enumerate(content_types()):
        blobs = []
        for number in range(int(hours * 3600 / every_s)):
            created = start + timedelta(seconds=number * every_s + random.random() * every_s)
            late_s = random.random() * LATEST_S if random.random() < LATE else 0.0
            appears = min(created + timedelta(seconds=late_s), max(created, start + timedelta(hours=hours)))
            lines = [_record(f"{place:02}{number:06}{n:04}", created) for n in range(RECORDS)]
            blob = make_blob(
                content_type, lines, created, number=number, datacentre=tenant.datacentre, available_at=appears
            )
            blobs.append(blob)
            available[blob.content_id] = blob.available_at
        tenant.add(blobs)
    return available


def _record(number: str, created: datetime) -> bytes:
    record = {
        "Id": f"00000000-0000-4000-8000-{number}",
        "CreationTime": (created - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%S"),
        "RecordType": 6,
        "Operation": "FileAccessed",
        "OrganizationId": "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11",
        "UserId": "adele@contoso.com",
        "UserKey": "adele",
        "UserType": 0,
        "Version": 1,
        "Workload": "SharePoint",
    }
    return json.dumps(record).encode()


if __name__ == "__main__":
    main()
