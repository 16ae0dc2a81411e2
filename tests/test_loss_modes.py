"""Every way in which collectors are known to lose records, played by a named script of the emulator, and survived.

What can be had is in the lake once, as it was; what cannot is named by `gaps`; the exit code is 0 only where nothing is
missing. `docs/guarantees.md` shows the table.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emulator.fault_script import script_names
from emulator.server import Emulator, running
from emulator.truth import BlobTruth, truth
from o365.activity import ActivityClient
from tests.commands import auditlake_here, environment

TYPES = ("Audit.AzureActiveDirectory", "DLP.All")


@dataclass(frozen=True)
class Course:
    """Runs at hours after the anchor with their exit codes (None: either), and whether all content lands in the end.

    The first asks for `start_days`; a request is tried for `deadline_s`, briefly where an outage is longer anyway.
    """

    runs: tuple[tuple[float, int | None], ...] = ((0, 0),)
    is_whole: bool = True
    start_days: int = 6
    deadline_s: float = 60.0


ONCE = Course()
LATER = {
    "slow-blobs": Course(((0, 0), (4, 0))),
    "flickering-listings": Course(((0, 0), (0.1, 0))),
    "late-blobs": Course(tuple((hours, 0) for hours in range(0, 193, 24))),
    "redelivered": Course(tuple((hours, 0) for hours in range(0, 121, 60))),
    "failing-for-hours": Course(((0, 1), (4, 0)), deadline_s=3),
    "outage-26-hours": Course(((0, 0), (10, 1), (28, 0), (48, 0)), deadline_s=3),
    "outage-4-hours": Course(((0, 0), (2, 1), (6, 0), (30, 0)), deadline_s=3),
    "outage-of-blobs": Course(((0, 0), (24, 1), (28, 0), (50, 0)), deadline_s=3),
    "error-codes": Course(((0, 1), (2, 1), (3, 0)), deadline_s=3),
    "past-retention": Course(((0, 1), (9 * 24, 1), (9 * 24 + 1, None)), is_whole=False, start_days=9),
    "expired-blobs": Course(((0, 1), (0.1, 1)), is_whole=False),
    "expiring": Course(((0, 1), (0.1, 1)), is_whole=False),
    "gone-blobs": Course(((0, 1), (0.1, 1)), is_whole=False),
    "foreign-pages": Course(((0, 1),), is_whole=False),
}
ELSEWHERE = {
    "huge-blob": "its memory is measured by benchmarks",
    "oversized-blobs": "test_oversized_blob_lands_whole",
    "latency": "nothing fails in it",
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries as always, but with short waits and an early end: the scripts' outages last for hours."""
    monkeypatch.setattr("o365.calls._MAX_BACKOFF_S", 0.05)


def backfill(emu: Emulator, lake: Path, start: str, expected: int | None) -> None:
    words = ("backfill", "--lake", lake, "--start", start, "--content-types", ",".join(TYPES), "--json")
    done = auditlake_here(*words, env=environment(emu), cwd=lake.parent)
    assert expected is None or done.returncode == expected, done.stdout + done.stderr
    if done.returncode == 0:
        assert json.loads(done.stdout)["missing"] == []


def read(lake: Path, *words: str) -> Any:
    return auditlake_here(*words, "--lake", lake, env=environment(), cwd=lake.parent)


def exported(lake: Path) -> dict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for line in read(lake, "export").stdout.splitlines():
        record = json.loads(line)
        found[record["Id"]].append(record)
    return found


def statuses(lake: Path) -> dict[str, str]:
    sql = "select content_id, status from ledger_blobs"
    return {
        r["content_id"]: r["status"] for r in map(json.loads, read(lake, "query", sql, "--json").stdout.splitlines())
    }


def check(emu: Emulator, lake: Path, *, is_whole: bool, since: datetime) -> None:
    """Compares a lake with what the service really holds since a time, record by record."""
    everything = truth(emu.tenants[0], emu.clock.now())
    blobs = {i: b for i, b in everything.items() if b.content_type in TYPES and b.state != "pending"}
    outcome = statuses(lake)
    landed = {i: b for i, b in blobs.items() if outcome.get(i) == "landed"}
    bodies: defaultdict[str, list[Any]] = defaultdict(list)
    for blob in blobs.values():
        for record_id, lines in blob.records.items():
            bodies[record_id] += map(json.loads, lines)
    held = exported(lake)
    assert {i for i, records in held.items() if len(records) > 1} == set()
    assert {i for i, records in held.items() if records[0] not in bodies[i]} == set()
    assert {i for blob in landed.values() for i in blob.records} <= set(held), "what has landed is there"
    gaps = json.loads(read(lake, "gaps", "--json").stdout)
    missing = {i: b for i, b in blobs.items() if i not in landed and b.created >= since}
    assert {i: (b.state, outcome.get(i)) for i, b in missing.items() if not is_named(b, gaps)} == {}
    if is_whole:
        assert missing == {}
        assert {i for blob in blobs.values() if blob.created >= since for i in blob.records} <= set(held)
    assert read(lake, "verify").returncode == 0, read(lake, "verify").stdout


def is_named(blob: BlobTruth, gaps: list[dict[str, Any]]) -> bool:
    """Whether a gap names the blob, or the time in which it became available."""
    created = blob.created.isoformat().replace("+00:00", "Z")
    return any(
        blob.content_id in gap["blobs"] or (not gap["blobs"] and gap["start"] <= created < gap["end"])
        for gap in gaps
        if gap["content_type"] == blob.content_type
    )


@pytest.mark.parametrize("script", [name for name in script_names() if name not in ELSEWHERE])
def test_loss_mode_is_survived(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    course, lake = LATER.get(script, ONCE), tmp_path / "lake"
    monkeypatch.setitem(ActivityClient.__init__.__kwdefaults__, "deadline_s", course.deadline_s)
    with running(count=1500, seed=3, faults=Path(script), page_size=1) as emu:
        at = 0.0
        for number, (hours, expected) in enumerate(course.runs):
            emu.clock.advance((hours - at) * 3600)
            at = hours
            backfill(emu, lake, "auto" if number else f"-{course.start_days}d", expected)
        check(emu, lake, is_whole=course.is_whole, since=emu.state.anchor - timedelta(days=course.start_days))


def test_oversized_blob_lands_whole(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    script = tmp_path / "script.toml"
    script.write_text("[content]\noversized_mb = [1.5, 12]\n")
    with running(count=100, faults=script) as emu:
        backfill(emu, lake, "-6d", 0)
        check(emu, lake, is_whole=True, since=emu.state.anchor - timedelta(days=6))
