"""The wire: `auditlake backfill` against the emulator, each in a process of its own.

serve ── blobs made and packed beforehand ── a latency, a quota ──▶ notes each request: when, and whether refused
backfill ── as a user runs it ──▶ its lake, its CPU seconds

Without a quota: blobs and records a second, CPU seconds per million records of both sides, and how many cores the whole
run kept busy, start and end included. With one: the time on the wire over the least that the quota allows, and how many
requests were refused, in all and from a minute after a tenant's first refusal.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from emulator.cli import environment
from emulator.content import Blob, content_type_of, make_blob
from emulator.generate import generate
from emulator.server import running
from emulator.tenant import Answer, Tenant

_ROOT = Path(__file__).parents[1]
_DAYS = 6.9
_HOUR = timedelta(hours=1)
_PERIOD_S = 60


@dataclass(frozen=True, slots=True)
class Case:
    """One run: tenants, blobs of each and their size, the latency of an answer, and requests a minute."""

    blobs: int
    blob_bytes: int
    latency_ms: int = 0
    quota: int | None = None
    tenants: int = 1


SMALL = (Case(20, 20_000, 5), Case(10, 20_000, quota=2_000, tenants=2))
FREE = tuple(
    Case(blobs, size, latency)
    # Fewer than the client lets out in its first minute, which is the documented quota.
    for size, blobs in ((20_000, 1_000), (200_000, 1_000), (2_000_000, 500))
    for latency in (5, 50, 300)
)
# With listing, just over a whole number of minutes' quotas.
LIMITED = (
    Case(970, 20_000, 50, quota=600),
    Case(3_300, 20_000, 20, quota=2_000),
    Case(970, 20_000, 50, quota=600, tenants=10),
)


def main(small: bool = False) -> list[dict[str, Any]]:
    """Runs the cases and prints them; returns one row a case."""
    rows = []
    for case in SMALL if small else FREE + LIMITED:
        rows.append(measure(case))
        print(_line(rows[-1]), flush=True)  # noqa: T201
    return rows


def measure(case: Case) -> dict[str, Any]:
    """Runs one case.

    Raises:
      RuntimeError: The backfill failed, or not every record came once.
    """
    with TemporaryDirectory(prefix="auditlake-wire-") as folder:
        service = [sys.executable, "-m", "benchmarks.wire", "--serve", json.dumps(asdict(case))]
        with subprocess.Popen(service, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:  # noqa: S603
            requests, answers = cast(IO[str], serving.stdin), cast(IO[str], serving.stdout)
            told = json.loads(answers.readline())
            started = time.monotonic()
            summary, cpu_s = _backfill(told["tenants"], Path(folder))
            seconds = time.monotonic() - started
            requests.close()
            noted = json.loads(answers.readline())
    landed = sum(summary["rows"].values())
    if landed != told["ids"]:
        raise RuntimeError(f"{case}: {landed} rows, expected the {told['ids']} records of the service")
    busy = {"cores_busy": round((cpu_s + noted["cpu_s"]) / seconds, 2)}
    return asdict(case) | _figures(case, summary, cpu_s, noted) | busy


def _backfill(tenants: list[dict[str, str]], folder: Path) -> tuple[dict[str, Any], float]:
    """Runs the command; returns its summary and its CPU seconds."""
    (folder / "auditlake.toml").write_text("".join(map(_tenant_table, enumerate(tenants))))
    shared = {key: value for key, value in tenants[0].items() if key in ("AUDITLAKE_API_ROOT", "AUDITLAKE_AUTHORITY")}
    secrets = {f"SECRET_{number}": env["AUDITLAKE_CLIENT_SECRET"] for number, env in enumerate(tenants)}
    env = os.environ | shared | secrets | {"AUDITLAKE_CA_FILE": tenants[0]["AUDITLAKE_CA_FILE"]}
    command = [sys.executable, "-m", "pipeline", "backfill", "--lake", str(folder / "lake"), "--start", "-7d", "--json"]
    with (folder / "out").open("w+") as out:
        process = subprocess.Popen(command, cwd=folder, env=env | {"PYTHONPATH": str(_ROOT)}, stdout=out)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read()
    if process.returncode != 0:
        raise RuntimeError(f"the backfill ended with {process.returncode}: {printed}")
    return json.loads(printed), usage.ru_utime + usage.ru_stime


def _tenant_table(numbered: tuple[int, dict[str, str]]) -> str:
    number, env = numbered
    return (
        f'[[tenant]]\nname = "{number}"\ntenant_id = "{env["AUDITLAKE_TENANT_ID"]}"\n'
        f'client_id = "{env["AUDITLAKE_CLIENT_ID"]}"\nclient_secret_env = "SECRET_{number}"\n'
    )


def _figures(case: Case, summary: dict[str, Any], cpu_s: float, noted: dict[str, Any]) -> dict[str, Any]:
    times: list[list[float]] = list(noted["times"].values())
    refused: list[list[float]] = list(noted["refused"].values())
    begin = min(t[0] for t in times)
    wall_s = max(t[-1] for t in times) - begin
    asked = sum(len(t) for t in times) + sum(len(r) for r in refused)
    late = sum(at > r[0] + _PERIOD_S for r in refused for at in r)  # by then a tenant's quota is learned
    found = {
        "requests": asked,
        "wall_s": round(wall_s, 2),
        "blobs_s": round(noted["blobs"] / wall_s, 1),
        "records_s": round(summary["records"] / wall_s),
        "mb_s": round(noted["bytes"] / wall_s / 1e6, 1),
        "cpu_s_per_million": round(cpu_s / summary["records"] * 1e6, 1),
        "emulator_cpu_s_per_million": round(noted["cpu_s"] / summary["records"] * 1e6, 1),
        "refused": sum(len(r) for r in refused),
        "refused_after_a_minute": late,
    }
    if case.quota:
        least_s = max((len(t) - 1) // case.quota for t in times) * _PERIOD_S
        found |= {"least_s": least_s, "over_least": round(wall_s / least_s, 3) if least_s else None}
    return found


def _line(row: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value}" for key, value in row.items() if value is not None)


def _blobs(case: Case, seed: int, tenant: Tenant, anchor: datetime) -> Iterator[Blob]:
    """Makes blobs of the size asked for, evenly over the days that are kept; the types as they come.

    The records of a blob are of the hour before it, or somewhat older where their type is rare.
    """
    start = anchor - timedelta(days=_DAYS)
    created = start
    some = 20_000_000 // case.blob_bytes + 2000  # records at a time
    lines: dict[str, list[bytes]] = {}
    sizes: Counter[str] = Counter()
    made = 0
    while made < case.blobs:
        seed += 1000
        for record in generate(seed, some, start=created - _HOUR, end=created, tenant_id=tenant.tenant_id):
            content_type = content_type_of(record.get("RecordType"), record.get("Workload"))
            line = msgspec.json.encode(record)
            lines.setdefault(content_type, []).append(line)
            sizes[content_type] += len(line) + 1
            if sizes[content_type] >= case.blob_bytes and made < case.blobs:
                created = start + timedelta(days=_DAYS - 0.01) * (made / case.blobs)
                yield make_blob(
                    content_type, lines.pop(content_type), created, number=made, datacentre=tenant.datacentre
                )
                sizes[content_type] = 0
                made += 1


def serve(case: Case) -> None:
    """Runs the service until its input ends; tells the way to it before, and what it noted after."""
    with running(tenants=case.tenants, count=0, quota=case.quota) as emu:
        for number, tenant in enumerate(emu.tenants):
            tenant.add(list(_blobs(case, number, tenant, emu.state.anchor)))
        blobs = [blob for tenant in emu.tenants for blob in tenant.by_id.values()]
        for blob in blobs:
            blob.gzipped()
        ids = sum(len({i for b in t.by_id.values() for i in b.record_ids() if i}) for t in emu.tenants)
        noted: dict[str, dict[str, list[float]]] = {
            kind: {t.tenant_id: [] for t in emu.tenants} for kind in ("times", "refused")
        }
        fetched = [0]

        async def note(request: Request, answer: Answer) -> Response:
            tenant = request.path_params.get("tenant_id")
            response = await answer(request)
            if tenant in noted["times"]:
                # Reckoned when the service counted it, which is before the latency of its answer.
                kind = "refused" if response.status_code in (403, 429) else "times"
                noted[kind][tenant].append(time.monotonic())
                fetched[0] += "content_id" in request.path_params and kind == "times"
            if case.latency_ms:
                await asyncio.sleep(case.latency_ms / 1000)
            return response

        emu.state.hook = note
        print(json.dumps({"tenants": [environment(emu, t) for t in emu.tenants], "ids": ids}), flush=True)  # noqa: T201
        cpu_s = time.process_time()
        sys.stdin.read()
        sizes = sum(len(b.body()) for b in blobs)
        told = noted | {"cpu_s": time.process_time() - cpu_s, "blobs": fetched[0], "bytes": sizes}
        print(json.dumps(told), flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = ArgumentParser(description="Measures the wire.")
    parser.add_argument("--small", action="store_true", help="a few small runs that show that it works")
    parser.add_argument("--serve", metavar="JSON", help="run the service of a case")
    args = parser.parse_args()
    if args.serve:
        serve(Case(**json.loads(args.serve)))
    else:
        main(args.small)
