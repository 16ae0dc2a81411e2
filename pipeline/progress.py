"""Live progress of a run in this process, on a terminal; silent anywhere else."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

from o365.clients import client_for
from o365.connection import Connection
from transforms.tally import tally

_EVERY_S = 0.2
CLEAR_LINE = "\r\x1b[K"


@contextmanager
def live_progress(run: str, slices: int, connections: Sequence[Connection]) -> Iterator[None]:
    """Shows blobs, records, rate, quota in use and time left until the block ends."""
    if not sys.stderr.isatty():
        yield
        return
    stop = Event()
    thread = Thread(target=_show, args=(run, slices, connections, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.stderr.write(CLEAR_LINE)
        sys.stderr.flush()


def _show(run: str, slices: int, connections: Sequence[Connection], stop: Event) -> None:
    started = time.monotonic()
    landing_since: float | None = None
    while not stop.wait(_EVERY_S):
        now = time.monotonic()
        counts = tally(run)
        if landing_since is None and counts["settled"]:
            landing_since = now
        governors = [client_for(c).governor for c in connections]
        used, quota = sum(g.used() for g in governors), sum(g.quota for g in governors)
        sys.stderr.write(CLEAR_LINE + line(counts, slices, now - started, now - (landing_since or now), used, quota))
        sys.stderr.flush()


def line(counts: dict[str, int], slices: int, elapsed_s: float, landing_s: float, used: int, quota: int) -> str:
    """Gives one line of progress."""
    found, settled = counts.get("found", 0), counts.get("settled", 0)
    parts = [f"{elapsed_s:4.0f} s", f"slices {counts.get('slices', 0):,}/{slices:,}", f"blobs {settled:,}/{found:,}"]
    records = counts.get("records", 0)
    parts.append(f"records {records:,}")
    if landing_s > 1:
        parts.append(f"{records / landing_s:,.0f}/s")
    parts.append(f"quota {100 * used // max(quota, 1)} %")
    if settled and landing_s > 1 and found > settled:
        parts.append(f"left {_clock(landing_s * (found - settled) / settled)}")
    if counts.get("failed"):
        parts.append(f"failed {counts['failed']:,}")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
