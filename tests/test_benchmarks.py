"""The benchmarks in small: every contender runs, and what comes out of it is right. No time is measured here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import blobs, compaction, landing
from benchmarks.contenders import CONTENDERS, modules_of
from benchmarks.correct import count_right

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("landing")
    blobs.generated(folder / "blobs", 1500)
    return landing.measure(folder / "blobs", folder / "out", list(CONTENDERS), 1)


@pytest.mark.parametrize("name", ["auditlake", "duckdb", "orjson", "dlt", "beam"])
def test_every_record_comes_out_right(small: dict[str, Any], name: str) -> None:
    result = small["contenders"][name]
    assert result["right"] == small["distinct"]
    if name == "auditlake":
        assert result["rows"] == small["distinct"] < small["records"]
    else:
        assert result["rows"] == small["records"]  # they land repeats again


@pytest.mark.parametrize("name", ["polars", "duckdb, guessing"])
def test_what_refuses_some_records_has_nothing_wrong_among_the_others(small: dict[str, Any], name: str) -> None:
    result = small["contenders"][name]
    if "failed" in result:
        assert "JSON transform error" in result["failed"]  # a later record is not as the first ones were
    else:
        assert 0 < result["rows"] == result["right"] + result["repeated"] < small["records"]


def test_figures_can_be_shown(small: dict[str, Any]) -> None:
    shown = landing.show({"sets": {"generated": small}})
    assert "auditlake" in shown
    assert "parse + encode alone" in shown
    assert landing.plots({"sets": {"generated": small}})["landing-generated"].startswith("<svg ")


def test_record_that_lost_a_member_is_not_right(tmp_path: Path) -> None:
    blobs.generated(tmp_path / "blobs", 200)
    truth = blobs.truth(tmp_path / "blobs")
    (tmp_path / "out").mkdir()
    CONTENDERS["auditlake"](tmp_path / "blobs", tmp_path / "out", {})
    changed = dict(truth)
    changed[next(iter(truth))] = next(iter(truth.values())) | {"More": None}
    assert count_right("auditlake", tmp_path / "out", truth)["right"] == len(truth)
    assert count_right("auditlake", tmp_path / "out", changed)["right"] == len(truth) - 1


def test_peers_are_named_with_what_they_need() -> None:
    assert set(CONTENDERS) >= {"auditlake", "duckdb", "polars", "orjson", "dlt", "beam"}
    assert modules_of("polars") == ["polars"]


def test_unknown_benchmark_is_wrong_use() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no benchmark is named speed" in done.stderr


def test_compaction_can_be_measured(tmp_path: Path) -> None:
    figures = compaction.run(tmp_path, small=True)
    assert figures["cases"]["stream"]["files"][0] > figures["cases"]["stream"]["files"][1]
    assert "one day" in compaction.show(figures)
    assert compaction.plots(figures)["compaction"].startswith("<svg ")
