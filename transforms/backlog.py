"""What a feed lacks, and how long what landed was on its way: figures for Beam's metrics and for whoever watches."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lake.entries import LOST, UNLISTED, BlobState, State
from lake.gaps import expiration_of
from schemas.contract import time_limit
from transforms.elements import Feed
from transforms.grid import tick_of, tick_range
from transforms.lister import oldest_listable

LAG_OVER = timedelta(hours=1)
"""Lags are of the blobs that landed in this time,"""
LAGS_KEPT = 10_000
"""and of so many of them at most, the newest: a backfill lands hundreds of thousands an hour."""


def namespace_of(feed: Feed) -> str:
    """Gives the namespace of a feed's own metrics: a gauge holds one value, and must not be another feed's."""
    return f"auditlake.{feed.connection.tenant_id}.{feed.content_type}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a feed lacks at an instant: blobs that were listed and have not landed, and time that was not listed."""

    at: datetime
    listed_up_to: datetime
    last_listed: datetime | None
    waiting: dict[str, BlobState]

    @property
    def oldest(self) -> tuple[str, BlobState] | None:
        """The oldest blob that has not landed."""
        return min(self.waiting.items(), key=lambda w: (w[1].created, w[0]), default=None)

    def gauges(self) -> dict[str, int]:
        """Gives its figures by the names of metrics; where nothing waits, the oldest blob is a new one."""
        created = self.oldest[1].created if self.oldest else self.at
        expires = expiration_of(self.oldest[1]) if self.oldest else self.at + time_limit("retention")
        return {
            "backlog_blobs": len(self.waiting),
            "backlog_seconds": round(behind_s(self.at, self.listed_up_to, created)),
            "oldest_unfetched_age_seconds": round((self.at - created).total_seconds()),
            "oldest_unfetched_expires_seconds": round((expires - self.at).total_seconds()),
        }


def backlog_of(feed: Feed, state: State, now: datetime) -> Backlog:
    """Tells what a feed lacks. What was kept unreadable and has expired is not waited for any more."""
    of_feed = {i: b for i in state.unsettled if (b := state.blobs[i]).content_type == feed.content_type}
    waiting = {i: b for i, b in of_feed.items() if not (b.kept and expiration_of(b) < now)}
    return Backlog(now, *_listed(feed, state, now), waiting)


def behind_s(at: datetime, listed_up_to: datetime, oldest_created: datetime | None) -> float:
    """Gives the seconds from the first thing that a feed lacks to now."""
    return max(0.0, (at - min(listed_up_to, oldest_created or listed_up_to)).total_seconds())


def _listed(feed: Feed, state: State, now: datetime) -> tuple[datetime, datetime | None]:
    """Gives the instant up to which a feed was listed without a hole, and when it was listed last."""
    start = max(feed.time_range.start, oldest_listable(now))
    up_to, last = now, None
    for tick in range(tick_of(now), tick_of(start) - 1, -1):
        stretch = tick_range(tick)
        known = state.slices.get((feed.content_type, stretch.start))
        if known is None or known.outcome == UNLISTED:
            up_to = stretch.start
        elif known.outcome != LOST:
            last = max(last or known.at, known.at)
            if known.at < stretch.end:
                up_to = min(up_to, max(known.at, stretch.start)) if up_to > known.at else up_to
    return max(start, up_to), last


class Lags:
    """Seconds from `contentCreated` to the commit, of what landed lately."""

    def __init__(self) -> None:
        self._kept: deque[tuple[datetime, float]] = deque(maxlen=LAGS_KEPT)

    def add(self, at: datetime, created: Iterable[datetime]) -> None:
        """Notes the blobs of a commit."""
        self._kept.extend((at, (at - one).total_seconds()) for one in created)

    def quantiles(self, now: datetime) -> tuple[float, float] | None:
        """Gives p50 and p95; None where nothing landed lately."""
        while self._kept and self._kept[0][0] < now - LAG_OVER:
            self._kept.popleft()
        lags = sorted(lag for _, lag in self._kept)
        return (quantile(lags, 0.5), quantile(lags, 0.95)) if lags else None


def quantile(values: Sequence[float], part: float) -> float:
    """Gives the smallest of sorted values that at least this part of them does not exceed."""
    return values[max(0, -int(-part * len(values) // 1) - 1)]
