"""Growth: what a record costs to land as the lake grows, and a commit, a start and `verify` as the ledger grows.

*Landing* is the landing stage alone, in this process, on bodies made beforehand: one lake, records of one week over
and over under new Ids, so that the days' Ids and files become more and more. Processor time counts, and is summed up to
each size. A unit of each feed is landed in another lake first: what only the start costs is in none of the figures.

*Ledger*: a listing, a file and a landing for each unit of 100 blobs of one record, written as landing writes them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import log
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import report
from benchmarks.blobs import ANCHOR, TENANT, UNIT_BLOBS, with_number
from benchmarks.correct import versions
from emulator.content import Blob
from emulator.filling import Shape, blobs_of_generated
from lake.entries import LANDED, BlobOutcome, Landing, ListedBlob, Listing, Slice
from lake.landing import Unit
from lake.ledger import Ledger
from lake.rows import write_parquet
from lake.stage import Stage
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from lake.verify import verify
from schemas.columns import TIMESTAMP, arrow_schema
from schemas.feed import ContentBlob
from schemas.model import tables

RECORDS = (10_000, 100_000, 1_000_000, 10_000_000)
BLOBS = (10_000, 100_000, 1_000_000)
BASE_RECORDS = 200_000
SMALL_RECORDS, SMALL_BLOBS = (300, 1_000, 3_000), (300, 3_000)
FEED = "Audit.General"
START = datetime(2026, 6, 1, tzinfo=UTC)


def run(work: Path, *, small: bool = False) -> dict[str, Any]:
    """Measures; gives the figures."""
    records, blobs = (SMALL_RECORDS, SMALL_BLOBS) if small else (RECORDS, BLOBS)
    landing = _measure_landing(work, records)
    return {
        "machine": report.machine(),
        "versions": versions(),
        "landing": landing,
        "landing_exponent": exponent([f["records"] for f in landing], [f["cpu_s"] for f in landing]),
        "ledger": _measure_ledger(LocalStorage(work / "ledger"), blobs),
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fits cost = c * size ** exponent."""
    slope, _ = np.polyfit([log(s) for s in sizes], [log(c) for c in costs], 1)
    return float(slope)


def _measure_landing(work: Path, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Lands records up to each size, and verifies the lake at the end."""
    base = _units(min(BASE_RECORDS, sizes[-1]))
    first = TenantLake(LocalStorage(work / "start"), TENANT)
    for content_type, blobs in dict(base).items():
        _land(first, content_type, _bodies(blobs, 0))
    storage = LocalStorage(work / "landing")
    lake = TenantLake(storage, TENANT)
    found: list[dict[str, float]] = []
    records, cpu_s = 0, 0.0
    for content_type, bodies in _rounds(base):
        landed, seconds = _land(lake, content_type, bodies)
        records, cpu_s = records + landed, cpu_s + seconds
        if records >= sizes[len(found)]:
            found.append({"records": records, "cpu_s": cpu_s, "cpu_s_per_million": cpu_s / records * 1e6})
            if len(found) == len(sizes):
                break
    before = process_time()
    proof = verify(storage)
    found[-1]["verify_cpu_s"] = process_time() - before
    if proof.problems or sum(f.records for f in proof.feeds) != records:
        raise RuntimeError(f"what was landed is not right: {proof.problems[:3]}")
    return found


def _units(records: int) -> list[tuple[str, list[Blob]]]:
    """Gives generated blobs as the listing cuts them."""
    by_type: dict[str, list[Blob]] = {}
    for blob in blobs_of_generated(records, Shape(max_records=1_500), ANCHOR, "benchmark", (TENANT, "na")):
        by_type.setdefault(blob.content_type, []).append(blob)
    cut = ((t, blobs[n : n + UNIT_BLOBS]) for t, blobs in by_type.items() for n in range(0, len(blobs), UNIT_BLOBS))
    return list(cut)


def _rounds(base: Sequence[tuple[str, list[Blob]]]) -> Iterator[tuple[str, list[tuple[ContentBlob, bytes]]]]:
    number = 0
    while True:
        for content_type, blobs in base:
            yield content_type, _bodies(blobs, number)
        number += 1


def _bodies(blobs: Sequence[Blob], number: int) -> list[tuple[ContentBlob, bytes]]:
    """Gives blobs and their bodies, with other Ids for every number."""
    return [
        (
            ContentBlob(f"{b.content_id}-{number}", "", b.content_type, b.created, b.created),
            b"[" + b",".join(with_number(line, number) for line in b.lines) + b"]",
        )
        for b in blobs
    ]


def _land(lake: TenantLake, content_type: str, bodies: Sequence[tuple[ContentBlob, bytes]]) -> tuple[int, float]:
    """Names blobs as a listing does and lands them; gives the number of records and the processor time."""
    listed = [ListedBlob(b.content_id, b.content_created, b.content_created) for b, _ in bodies]
    before = process_time()
    lake.ledger.append(lambda _: Listing("benchmark", ANCHOR, content_type, [], listed))
    unit = Unit(lake, "benchmark", content_type)
    records = sum(unit.add(blob, body) for blob, body in bodies)
    unit.commit()
    return records, process_time() - before


def _measure_ledger(storage: LocalStorage, sizes: Sequence[int]) -> list[dict[str, float]]:
    """Grows a ledger; at each size gives the processor time of a commit so far, of a start, and of `verify`."""
    lake = TenantLake(storage, TENANT)
    found: list[dict[str, float]] = []
    cpu_s = 0.0
    for number in range(sizes[-1] // UNIT_BLOBS):
        cpu_s += _commit(lake, number)
        blobs = (number + 1) * UNIT_BLOBS
        if blobs in sizes:
            began = process_time()
            Ledger(storage, TENANT)
            opened = process_time()
            proof = verify(storage)
            verify_s = process_time() - opened
            if proof.problems or [f.landed for f in proof.feeds] != [blobs]:
                raise RuntimeError(f"the ledger is not right: {proof.problems[:3]}")
            commits = {"commit_cpu_s": cpu_s, "commit_cpu_ms": cpu_s / (number + 1) * 1000}
            found.append({"blobs": blobs, **commits, "start_cpu_s": opened - began, "verify_cpu_s": verify_s})
    return found


def _commit(lake: TenantLake, number: int) -> float:
    """Commits a listing and a landing of a unit; gives the processor time without that of the file's rows."""
    start = START + timedelta(minutes=number)
    times = [start + timedelta(milliseconds=n) for n in range(UNIT_BLOBS)]
    names = [f"{number:08}{n:04}$audit_general$na0001" for n in range(UNIT_BLOBS)]
    name = f"{number:08}"
    key = f"audit/table=generic/tenant={TENANT}/date={start:%Y-%m-%d}/{name}.parquet"
    file = Stage(lake).put(key, f"{name}.parquet", _rows(names, times, number), UNIT_BLOBS)
    listed = [ListedBlob(b, t, t + timedelta(days=7), f"https://x/{b}") for b, t in zip(names, times, strict=True)]
    outcomes = [BlobOutcome(b, t, LANDED, records=1, rows=1) for b, t in zip(names, times, strict=True)]
    stretch = Slice(start, start + timedelta(minutes=1), "listed", start, UNIT_BLOBS, closed=True)
    before = process_time()
    lake.ledger.append(lambda _: Listing("benchmark", start, FEED, [stretch], listed))
    lake.commit(lambda _: Landing("benchmark", start, FEED, outcomes, [file], []))
    return process_time() - before


def _rows(names: Sequence[str], times: Sequence[datetime], number: int) -> memoryview:
    """Makes a file with a row of each blob."""
    held = {
        "Id": pa.array([f"{number:08x}-0000-4000-8000-{n:012x}" for n in range(len(names))]),
        "CreationTime": pa.array(times, TIMESTAMP),
        "_content_id": pa.array(names),
        "_content_created": pa.array(times, TIMESTAMP),
        "_content_type": pa.array([FEED] * len(names)),
    }
    schema = arrow_schema(tables()["generic"])
    columns = [held[f.name] if f.name in held else pa.nulls(len(names), f.type) for f in schema]
    return write_parquet(pa.table(columns, schema=schema))


def show(figures: Mapping[str, Any]) -> str:
    """Lays the figures out as tables."""
    landing = [[f"{f['records']:,}", f"{f['cpu_s']:.2f}", f"{f['cpu_s_per_million']:.1f}"] for f in figures["landing"]]
    ledger = [
        [f"{f['blobs']:,}", f"{f['commit_cpu_ms']:.2f}", f"{f['start_cpu_s']:.2f}", f"{f['verify_cpu_s']:.2f}"]
        for f in figures["ledger"]
    ]
    power, verify_s = figures["landing_exponent"], figures["landing"][-1]["verify_cpu_s"]
    return "\n".join(
        (
            report.table(["records landed", "CPU s", "CPU s/1M records"], landing),
            f"CPU time grows as records to the power of {power:.3f}; verify takes {verify_s:.1f} CPU s",
            "",
            report.table(["blobs in the ledger", "CPU ms/commit", "CPU s to open", "CPU s to verify"], ledger),
        )
    )


def plots(figures: Mapping[str, Any]) -> dict[str, str]:
    """Draws the figures."""
    rates = {f"{f['records']:,} records": f["cpu_s_per_million"] for f in figures["landing"]}
    return {"growth": report.bars("CPU seconds to land a million records, in a lake that grows", rates, "s")}
