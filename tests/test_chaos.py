"""The chaos harness: a few runs of it, and that it finds what is wrong with a lake."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lake.entries import LANDED
from tests.chaos.mutations import MUTATIONS, VARIABLE
from tests.chaos.plan import draw_plan
from tests.chaos.run import Run
from tests.chaos.zygote import Zygote
from tests.commands import ROOT

SEED = 4


def test_every_record_survives_faults_kills_and_restarts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--runs", "25", "--seed", "1", "--jobs", "2", "--json"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] > 5


def test_plan_of_a_seed_is_always_the_same() -> None:
    assert draw_plan(SEED) == draw_plan(SEED)
    assert draw_plan(SEED) != draw_plan(SEED + 1)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def played(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has ended well, with rows and rejects."""
    for seed in count(SEED):
        run = Run(draw_plan(seed), tmp_path_factory.mktemp("chaos"), zygote)
        assert run.play().problems == []
        if len(files(run)) > 2 and list((run.lake / "rejected").rglob("*.avro")):
            return run
    raise AssertionError("unreachable")


@pytest.fixture
def run(played: Run, tmp_path: Path) -> Iterator[Run]:
    """The run that has ended well; what a test does to its lake is undone."""
    aside = tmp_path / "lake"
    shutil.copytree(played.lake, aside)
    yield played
    shutil.rmtree(played.lake)
    shutil.copytree(aside, played.lake)


def files(run: Run) -> list[Path]:
    return sorted((run.lake / "audit").rglob("*.parquet"))


def drop_a_row(run: Run) -> None:
    file = files(run)[0]
    pq.write_table(pq.read_table(file, partitioning=None).slice(1), file)


def double_a_row(run: Run) -> None:
    file = files(run)[0]
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.slice(0, 1), file.with_name("another.parquet"))


def change_a_value(run: Run) -> None:
    file = files(run)[0]
    table = pq.read_table(file, partitioning=None)
    at = table.column_names.index("Operation")
    pq.write_table(table.set_column(at, table.schema.field(at), [["Altered"] * len(table)]), file)


def entries(run: Run) -> Iterator[tuple[Path, dict[str, list[dict[str, object]]]]]:
    for file in sorted((run.lake / "_ledger").rglob("entries/*.json")):
        yield file, json.loads(file.read_text())


def forget_an_outcome(run: Run) -> None:
    for file, entry in entries(run):
        if any(b.get("status") == LANDED and b.get("rows") for b in entry["blobs"]):
            entry["blobs"] = [b for b in entry["blobs"] if not (b.get("status") == LANDED and b.get("rows"))]
            file.write_text(json.dumps(entry))
            return


def miscount(run: Run) -> None:
    for file, entry in entries(run):
        for blob in entry["blobs"]:
            if blob.get("status") == LANDED and blob.get("rows"):
                blob["rows"], blob["records"] = int(str(blob["rows"])) - 1, int(str(blob["records"])) - 1
                file.write_text(json.dumps(entry))
                return


def lose_rejects(run: Run) -> None:
    for file in (run.lake / "rejected").rglob("*.avro"):
        file.unlink()


@pytest.mark.parametrize(
    "sabotage", [drop_a_row, double_a_row, change_a_value, forget_an_outcome, miscount, lose_rejects]
)
def test_harness_finds_what_is_wrong_by_itself_and_not_only_by_verify(
    sabotage: Callable[[Run], None], run: Run
) -> None:
    sabotage(run)
    found = list(run.problems())
    assert [p for p in found if not p.startswith("verify: ")], found


# Seeds with two collectors, but for what only faults bring forth; each is enough alone, a second gives room to move.
PLANTED = {
    "lands_what_others_have_landed": ((20027, 2), (20003, 2)),
    "drops_blobs_of_others_but_no_rows": ((22118, 2), (21094, 2)),
    "writes_over_entries_of_others": ((20027, 2), (20238, 2)),
    "recovers_nothing": ((20193, 2), (20272, 2)),
    "sweeps_what_others_stage": ((20319, 2), (20182, 2)),
    "forgets_blobs": ((20027, 2), (20003, 2)),
    "takes_failed_for_settled": ((57, None), (205, None)),
    "drops_conflicts": ((20027, 2), (20319, 2)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_harness_finds_a_bug_that_is_planted_in_the_commands(
    name: str, zygote: Zygote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    for seed, collectors in PLANTED[name]:
        folder = tmp_path / str(seed)
        folder.mkdir()
        if Run(draw_plan(seed, collectors), folder, zygote).play().problems:
            return
    raise AssertionError(f"{name} was not found by the seeds {PLANTED[name]}")


def test_two_collectors_meet_at_a_commit_and_one_of_them_goes_first(zygote: Zygote, tmp_path: Path) -> None:
    outcome = Run(draw_plan(20027, 2), tmp_path, zygote).play()
    assert outcome.problems == []
    assert outcome.races == 1
