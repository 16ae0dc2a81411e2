"""The benchmarks of growth and of reading, in their small forms: that what they measure is right, not how fast."""

from pathlib import Path

import pytest

from benchmarks import growth, reading
from benchmarks.reading_lakes import write_naive


def test_growth_can_be_measured(tmp_path: Path) -> None:
    figures = growth.run(tmp_path, small=True)
    assert [f["records"] >= size for f, size in zip(figures["landing"], growth.SMALL_RECORDS, strict=True)] == [
        True
    ] * 3
    assert [f["blobs"] for f in figures["ledger"]] == list(growth.SMALL_BLOBS)
    assert "CPU ms/commit" in growth.show(figures)
    assert growth.plots(figures)["growth"].startswith("<svg ")


def test_exponent_is_that_of_the_law() -> None:
    assert growth.exponent([10, 100, 1_000], [3 * n**1.5 for n in (10, 100, 1_000)]) == pytest.approx(1.5)


def test_both_lakes_and_all_forms_answer_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_user = "by user, row groups of 16 K"
    monkeypatch.setattr(reading, "FORMS", {by_user: reading.FORMS[by_user]})
    figures = reading.run(tmp_path, small=True)
    assert set(figures["lakes"]) == {"as landed", "naive", "naive, columns given", "auditlake"}
    assert set(figures["forms"][by_user]) > set(figures["lakes"]["naive"])
    shown = reading.show(figures)
    assert "one IP over all tables" in shown
    assert by_user in shown
    assert all(svg.startswith("<svg ") for svg in reading.plots(figures).values())


def test_answers_that_differ_are_no_figures(tmp_path: Path) -> None:
    record = {"Id": "a", "CreationTime": "2026-11-20T08:00:00"}
    ways = {}
    for number, records in enumerate(([record], [record, record | {"Id": "b"}])):
        folder = tmp_path / str(number) / "Audit.General"
        folder.mkdir(parents=True)
        write_naive(records, folder / "0.parquet")
        ways[str(number)] = reading.naive_way(folder.parent, given=True)
    with pytest.raises(ValueError, match="'count' has no one answer in 0, 1"):
        reading.measure(ways, {"count": "SELECT count(*) FROM audit"}, 1)
