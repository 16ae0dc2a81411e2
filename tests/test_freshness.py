"""The benchmark of freshness, in small."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.freshness import measure
from emulator.clock import Clock
from emulator.server import running
from tests.commands import forget


def test_benchmark_counts_every_blob_and_holds_the_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    monkeypatch.setattr("os.environ", {})
    start = (datetime.now(UTC) - timedelta(days=20)).replace(microsecond=0)
    with running(count=0, clock=Clock(start)) as emu:
        found = measure(emu, tmp_path / "lake", hours=0.02, every_s=36, interval="30s")
    assert found["blobs"] == found["landed"] == 10
    assert found["problems"] == 0
    freshness = found["freshness_s"]
    assert isinstance(freshness, dict)
    assert freshness["p95"] <= 60
