"""Memory: the peak of whole `backfill` runs against the number of blobs and against the size of one blob.

The emulator serves in this process, the backfill runs in another. What counts is the peak above the idle process, which
has Beam imported and nothing done.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import report
from benchmarks.blobs import with_number
from benchmarks.correct import versions
from emulator.cli import environment
from emulator.content import Blob, content_type_of, make_blob
from emulator.generate import generate
from emulator.server import running

FEED = "Audit.SharePoint"
SIZES_MB = (0.1, 1, 8, 32, 68, 128)
COUNTS = (100, 1_000, 10_000, 20_000, 100_000)
RECORDS_A_BLOB = 5
SMALL_SIZES_MB, SMALL_COUNTS = (0.1, 1), (20, 100)


def run(work: Path, *, small: bool = False) -> dict[str, Any]:
    """Measures; gives the figures."""
    sizes, counts = (SMALL_SIZES_MB, SMALL_COUNTS) if small else (SIZES_MB, COUNTS)
    figures: dict[str, Any] = {"machine": report.machine(), "versions": versions()}
    figures["sizes"] = [_run(work / f"size-{mb}", 1, int(mb * 1e6)) | {"blob_mb": mb} for mb in sizes]
    figures["counts"] = [_run(work / f"count-{n}", n, 0) | {"blobs": n} for n in counts]
    return figures


def _run(work: Path, blobs: int, size_bytes: int) -> dict[str, Any]:
    """Lands blobs of one size, or of a few records where none is given."""
    work.mkdir()
    with running() as emu:
        (tenant,) = emu.tenants
        lines = _lines(tenant.tenant_id, emu.clock.now() - timedelta(days=3))
        start = emu.clock.now() - timedelta(days=6)
        step = timedelta(days=5) / blobs
        tenant.add([_blob(lines, size_bytes, start + n * step, n) for n in range(blobs)])
        words = ["backfill", "--lake", str(work / "lake"), "--start", "-7d"]
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peak", *words]
        root = Path(__file__).parents[1]
        env = environment(emu) | {"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, env=env)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"the backfill of {blobs} blobs failed:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["code"]:
        raise RuntimeError(f"the backfill of {blobs} blobs exited {found['code']}:\n{done.stdout}{done.stderr}")
    return found | {"above_idle_mb": found["peak_mb"] - found["idle_mb"]}


def _lines(tenant: str, start: Any) -> Iterator[bytes]:
    """Yields records without end, each with an Id of its own."""
    records = generate(1, 5_000, start=start, end=start + timedelta(hours=1), tenant_id=tenant)
    ours = [r for r in records if content_type_of(r.get("RecordType"), r.get("Workload")) == FEED]
    texts = [msgspec.json.encode(r) for r in ours]
    return (with_number(text, n) for n in count() for text in texts)


def _blob(lines: Iterator[bytes], size_bytes: int, created: Any, number: int) -> Blob:
    taken = list(islice(lines, RECORDS_A_BLOB))
    size = sum(map(len, taken))
    while size < size_bytes:
        taken.append(next(lines))
        size += len(taken[-1]) + 1
    return make_blob(FEED, taken, created, number=number, datacentre="na")


def show(figures: Mapping[str, Any]) -> str:
    """Lays the figures out as tables."""
    return "\n\n".join(
        report.table([name, "idle MB", "peak MB", "above idle MB"], _rows(figures[key], name.partition(" ")[0]))
        for key, name in (("sizes", "blob_mb of one blob"), ("counts", "blobs of 5 records"))
    )


def _rows(found: Sequence[Mapping[str, Any]], key: str) -> list[list[str]]:
    return [[f"{f[key]:,}", *(f"{f[k]:.0f}" for k in ("idle_mb", "peak_mb", "above_idle_mb"))] for f in found]


def plots(figures: Mapping[str, Any]) -> dict[str, str]:
    """Draws the figures."""
    sizes = {f"one blob of {f['blob_mb']} MB": f["above_idle_mb"] for f in figures["sizes"]}
    counts = {f"{f['blobs']:,} blobs": f["above_idle_mb"] for f in figures["counts"]}
    return {"memory": report.bars("Peak memory of a backfill above the idle process", sizes | counts, "MB")}
