"""Compaction: what it reads, writes and takes, and what it does to the number of files and to queries.

One lake is landed a blob at a time, as a stream does; another has a single day of one table in files that each hold
times of all of the day, which is the dearest to merge. Processor time, so that neighbours on the machine count less.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from time import process_time
from typing import Any

import msgspec

from benchmarks import blobs, report
from benchmarks.rss import current_mb
from emulator.content import content_type_of
from emulator.generate import generate
from lake.compact import compact_tenant
from lake.landing import Unit
from lake.query import run_query
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from schemas.feed import ContentBlob

NOW = datetime(2036, 1, 1, tzinfo=UTC)
DAY = datetime(2026, 11, 20, tzinfo=UTC)
FEED = "Audit.SharePoint"
QUERY = "select UserId, count(*) from audit group by all order by 2 desc limit 10"
ROUNDS = 3


class CountingStorage(LocalStorage):
    """A lake on a local disk that counts the bytes of whole objects that are read and written."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.bytes_read = 0
        self.bytes_written = 0

    def get(self, key: str) -> bytes:
        """See Storage."""
        data = super().get(key)
        self.bytes_read += len(data)
        return data

    def put(self, key: str, data: bytes | memoryview) -> None:
        """See Storage."""
        super().put(key, data)
        self.bytes_written += len(data)


def run(work: Path, *, small: bool = False) -> dict[str, Any]:
    """Measures; gives the figures."""
    figures: dict[str, Any] = {"machine": report.machine(), "cases": {}}
    for name, land in (("stream", _land_stream), ("one day", _land_day)):
        storage = CountingStorage(work / name / "lake")
        lake = TenantLake(storage, blobs.TENANT)
        land(lake, work / name, 8_000 if small else 20_000 if name == "stream" else 300_000)
        figures["cases"][name] = _measure(storage)
    return figures


def _land_stream(lake: TenantLake, work: Path, records: int) -> None:
    """Lands records of all tables over a week, a hundred a blob and a blob a unit."""
    blobs.generated(work / "blobs", records, max_records=100)
    for content_type, listed in blobs.units(work / "blobs"):
        for blob, path in listed:
            unit = Unit(lake, "benchmark", content_type)
            unit.add(blob, path.read_bytes())
            unit.commit()


def _land_day(lake: TenantLake, _: Path, records: int) -> None:
    """Lands records of one day and table; every file holds times of all of the day."""
    made = generate(1, 5_000, start=DAY, end=DAY + timedelta(days=1), tenant_id=blobs.TENANT)
    ours = [r for r in made if content_type_of(r.get("RecordType"), r.get("Workload")) == FEED]
    lines = [msgspec.json.encode(r) for r in ours if r["CreationTime"].startswith("2026-11-20")]
    for number in range(records // 4_000):
        picked = (lines[n % len(lines)] for n in range(4_000))
        texts = [blobs.with_number(line, number * 4_000 + n) for n, line in enumerate(picked)]
        unit = Unit(lake, "benchmark", FEED)
        unit.add(ContentBlob(f"b{number}", "", FEED, DAY, DAY), b"[" + b",".join(texts) + b"]")
        unit.commit()


def _measure(storage: CountingStorage) -> dict[str, Any]:
    lake = TenantLake(storage, blobs.TENANT)
    before = _query_ms(storage)
    storage.bytes_read = storage.bytes_written = 0
    began, idle_mb = process_time(), current_mb()
    done, peak_mb = _watched(lambda: compact_tenant(lake, "benchmark", NOW, timedelta()))
    seconds = process_time() - began
    return {
        "rows": done.rows,
        "days": done.days,
        "files": [done.files_before, done.files_after],
        "mb": [done.bytes_before / 1e6, done.bytes_after / 1e6],
        "read_per_byte": storage.bytes_read / done.bytes_before,
        "written_per_byte": storage.bytes_written / done.bytes_before,
        "cpu_s_per_million_rows": seconds / done.rows * 1e6,
        "above_idle_mb": peak_mb - idle_mb,
        "query_cpu_ms": [before, _query_ms(storage)],
    }


def _query_ms(storage: LocalStorage) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = process_time()
        list(run_query(storage, QUERY).batches)
        best = min(best, process_time() - began)
    return best * 1000


def _watched(work: Callable[[], Any]) -> tuple[Any, float]:
    """Does work, and watches how much memory this process holds meanwhile."""
    over, held = Event(), [current_mb()]

    def watch() -> None:
        while not over.wait(0.02):
            held.append(current_mb())

    watcher = Thread(target=watch)
    watcher.start()
    try:
        return work(), max(held)
    finally:
        over.set()
        watcher.join()


def show(figures: Mapping[str, Any]) -> str:
    """Lays the figures out as a table."""
    headers = ["lake", "rows", "files", "MB", "read/byte", "written/byte", "CPU s/1M rows", "MB above idle", "query ms"]
    rows = [
        [
            name,
            f"{f['rows']:,}",
            f"{f['files'][0]:,} to {f['files'][1]:,}",
            f"{f['mb'][0]:.1f} to {f['mb'][1]:.1f}",
            f"{f['read_per_byte']:.2f}",
            f"{f['written_per_byte']:.2f}",
            f"{f['cpu_s_per_million_rows']:.1f}",
            f"{f['above_idle_mb']:.0f}",
            f"{f['query_cpu_ms'][0]:.0f} to {f['query_cpu_ms'][1]:.0f}",
        ]
        for name, f in figures["cases"].items()
    ]
    return report.table(headers, rows)


def plots(figures: Mapping[str, Any]) -> dict[str, str]:
    """Draws the figures."""
    before, after = figures["cases"]["stream"]["files"]
    return {"compaction": report.bars("Files of a streamed week", {"landed": before, "compacted": after}, "files")}
