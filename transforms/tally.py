"""Counts of the runs of this process, for whoever watches: `result.metrics()` is silent until a local run ends."""

from collections import Counter, defaultdict
from threading import Lock

_LOCK = Lock()
_TALLIES: defaultdict[str, Counter[str]] = defaultdict(Counter)


def count(run: str, **counts: int) -> None:
    """Adds to a run's counts."""
    with _LOCK:
        _TALLIES[run].update(counts)


def tally(run: str) -> Counter[str]:
    """Gives a copy of a run's counts so far."""
    with _LOCK:
        return Counter(_TALLIES[run])
