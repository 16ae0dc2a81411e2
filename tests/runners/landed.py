"""What a lake holds, for comparison."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.commands import environment, succeed
from tests.runners.processes import wait_for


def entries(lake: Path) -> int:
    """How many ledger entries there are."""
    return len(list(lake.glob("_ledger/*/entries/*.json")))


def records(lake: Path) -> list[str]:
    """Every record, rebuilt, in an order of its own."""
    printed = succeed("export", "--lake", lake, env=environment(), cwd=lake.parent)
    return sorted(json.dumps(json.loads(line), sort_keys=True) for line in printed.splitlines())


def at_work(run: "subprocess.Popen[Any]", lake: Path, wanted: int) -> None:
    """Waits until a run's lake has so many ledger entries; the run must not be over by then."""
    wait_for(f"{wanted} entries", lambda: entries(lake) >= wanted or run.poll() is not None)
    assert run.poll() is None, "it must still be at work to be disturbed"
