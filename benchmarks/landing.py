"""Landing: the same blobs to Parquet, by auditlake and by what one would write instead, on one core.

Rounds are interleaved, so that what else the machine does hits all alike; the median of CPU seconds counts.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import blobs as blob_files
from benchmarks import report
from benchmarks.contenders import CONTENDERS, columns_of, modules_of
from benchmarks.correct import count_right, versions

ROUNDS = 5
SIZES = {"generated": 200_000, "samples": 100_000}
SMALL = 3_000


def run(work: Path, *, small: bool = False) -> dict[str, Any]:
    """Measures all contenders on generated records and on the samples where they are; gives the figures."""
    names = [n for n in CONTENDERS if all(find_spec(m.partition(".")[0]) for m in modules_of(n))]
    figures: dict[str, Any] = {"machine": report.machine(), "versions": versions(), "sets": {}}
    for source in ("generated", "samples"):
        records = SMALL if small else SIZES[source]
        folder = work / source
        if source == "generated":
            blob_files.generated(folder, records)
        elif any(blob_files.SAMPLES.glob("*.ndjson*")):
            blob_files.samples(folder, records)
        else:
            continue
        figures["sets"][source] = measure(folder, work / f"out-{source}", names, 1 if small else ROUNDS)
    return figures


def measure(folder: Path, out: Path, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Runs contenders on a folder of blobs, round after round."""
    truth = blob_files.truth(folder)
    (folder / "columns").write_text(json.dumps(columns_of(truth)))
    items = blob_files.index(folder)
    size = sum((folder / item.file).stat().st_size for item in items)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in (*names, "limit")}
    counted: dict[str, dict[str, int]] = {}
    for _ in range(rounds):
        for name, runs in taken.items():
            if runs and "failed" in runs[0]:
                continue
            # Nothing is removed between runs: ext4 makes files slowly for a minute after that.
            runs.append(_run(name, folder, out / f"{name}-{len(runs)}", warm=rounds > 1))
            if name not in counted and name in names and "failed" not in runs[0]:
                counted[name] = count_right(name, out / f"{name}-0", truth)
    records = sum(item.records for item in items)
    about = {"records": records, "distinct": len(truth), "blobs": len(items), "bytes": size}
    results = {name: _result(runs, records, size) | counted.get(name, {}) for name, runs in taken.items()}
    return about | {"contenders": results}


def _run(name: str, folder: Path, out: Path, *, warm: bool) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.child", name, str(folder), str(out)]
    command += ["warm"] if warm else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])  # noqa: S603
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"failed": f"exit {done.returncode}: {lines[-1] if lines else ''}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _result(runs: Sequence[Mapping[str, Any]], records: int, size: int) -> dict[str, Any]:
    if "failed" in runs[0]:
        return {"failed": runs[0]["failed"]}
    figures = {key: median(r[key] for r in runs) for key in runs[0]}
    cpu_s = figures["cpu_s"]
    return figures | {
        "records_per_cpu_s": records / cpu_s,
        "mb_per_cpu_s": size / cpu_s / 1e6,
        "all_cpu_s": [r["cpu_s"] for r in runs],
    }


def show(figures: Mapping[str, Any]) -> str:
    """Lays the figures out as tables."""
    return "\n\n".join(_show(source, found) for source, found in figures["sets"].items())


def _show(source: str, found: Mapping[str, Any]) -> str:
    headers = ["contender", "records/CPU s", "MB/CPU s", "peak MB", "output MB", "right", "rows repeated"]
    rows = []
    for name, r in found["contenders"].items():
        if "failed" in r:
            rows.append([name, "fails", "", "", "", "", ""])
            continue
        rate = [name, f"{r['records_per_cpu_s']:,.0f}", f"{r['mb_per_cpu_s']:.0f}"]
        if name == "limit":
            rows.append(["parse + encode alone", *rate[1:], "", "", "", ""])
            continue
        right = f"{100 * r['right'] / found['distinct']:.2f} %"
        rows.append([*rate, f"{r['peak_mb']:.0f}", f"{r['bytes'] / 1e6:.1f}", right, f"{r['repeated']:,}"])
    title = (
        f"{source}: {found['records']:,} records ({found['distinct']:,} distinct), {found['bytes'] / 1e6:,.0f} MB "
        f"in {found['blobs']:,} blobs, one core"
    )
    return title + "\n" + report.table(headers, rows)


def plots(figures: Mapping[str, Any]) -> dict[str, str]:
    """Draws the figures."""
    return {
        f"landing-{source}": report.bars(
            f"JSON blobs to Parquet, thousand records a CPU second ({source})",
            {n: r["records_per_cpu_s"] / 1000 for n, r in found["contenders"].items() if "records_per_cpu_s" in r},
            "k",
        )
        for source, found in figures["sets"].items()
    }
