"""`auditlake compact`, as a user runs it."""

import json
from pathlib import Path

import pytest

from tests.commands import auditlake_here, environment
from tests.lake_records import body, land, new_lake, record, storage_at


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    lake = new_lake(storage_at(tmp_path))
    for name, number in {"a": 1, "b": 2}.items():
        land(lake, {name: body([record(number, CreationTime=f"2024-11-20T08:15:0{number}")])})
    return tmp_path / "lake"


def compact(lake: Path, *words: str) -> tuple[int, str, str]:
    done = auditlake_here("compact", "--lake", lake, *words, env=environment(), cwd=lake.parent)
    return done.returncode, done.stdout, done.stderr


def test_summary_is_in_plain_numbers(lake: Path) -> None:
    code, out, _ = compact(lake, "--dry-run")
    assert code == 0
    assert out.startswith("would compact 1 days of tables: 2 small files, ")
    code, out, _ = compact(lake)
    assert code == 0
    assert out.startswith("1 days of tables, 2 rows: 2 files, ")
    assert ", are now 1, " in out
    assert compact(lake) == (0, "nothing to compact: no day that is over has more than one small file\n", "")


def test_json_is_for_scripts(lake: Path) -> None:
    code, out, _ = compact(lake, "--json", "--dry-run")
    told = json.loads(out)
    assert (code, told["days"], told["files"], told["rows"]) == (0, 1, 2, 2)
    code, out, _ = compact(lake, "--json")
    done = json.loads(out)
    assert (code, done["days"], done["files_before"], done["files_after"], done["rows"]) == (0, 1, 2, 1, 2)
    assert done["bytes_before"] == told["bytes"]
    assert {"bytes_after", "seconds", "busy", "problems"} < done.keys()


def test_days_that_are_not_over_long_enough_are_left(lake: Path) -> None:
    assert compact(lake, "--older-than", "99999d")[1].startswith("nothing to compact")


@pytest.mark.parametrize("text", ["2", "2 days", "-2d", "1w", ""])
def test_wrong_time_is_refused(lake: Path, text: str) -> None:
    code, _, error = compact(lake, f"--older-than={text}")
    assert code == 2
    assert "expected hours or days such as 48h or 7d" in error


def test_what_cannot_be_compacted_is_named_and_exits_1(lake: Path) -> None:
    file = next(lake.rglob("audit/**/*.parquet"))
    file.write_bytes(b"damaged")
    code, out, _ = compact(lake)
    assert code == 1
    assert out.startswith("left as it is: ")
    assert "its SHA-256 is not the one in the ledger" in out


def test_nothing_is_no_lake(tmp_path: Path) -> None:
    assert compact(tmp_path / "none")[0] == 2
