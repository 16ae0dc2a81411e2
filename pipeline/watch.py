"""What a person watches of a stream, from the ledgers alone, so that it is the same on every runner.

ledgers ── new entries ── totals, lags ─┐
        └─ state ── backlog ────────────┴─ figures ── metrics, /healthz, a line for a terminal or a script
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from lake.entries import FAILED, LANDED, REJECTED, Entry, Listing, State
from lake.gaps import expiration_of
from lake.ledger import Ledger
from lake.tenant import open_tenant
from o365.clients import client_for
from pipeline.summary import Summary, add_entries
from schemas.times import format_utc
from transforms.backlog import Lags, backlog_of, behind_s
from transforms.elements import Feed, Follow

BEHIND_AFTER = timedelta(minutes=15)
"""A feed that was not listed, or a blob that was not landed, for so long is behind."""
_BEHIND_POLLS = 10


@dataclass(slots=True)
class FeedFigures:
    """How a feed stands. Lags are seconds from `contentCreated` to the commit, None where nothing landed lately."""

    tenant: str
    content_type: str
    listed_up_to: datetime
    last_listed: datetime | None
    backlog_blobs: int = 0
    failed_blobs: int = 0
    oldest: str | None = None
    oldest_created: datetime | None = None
    oldest_expires: datetime | None = None
    waiting_since: datetime | None = None
    lag_p50_s: float | None = None
    lag_p95_s: float | None = None


@dataclass(slots=True)
class Figures:
    """How a stream stands at an instant."""

    at: datetime
    feeds: list[FeedFigures]
    summary: Summary
    quota: dict[str, float] | None

    @property
    def backlog_blobs(self) -> int:
        """Blobs that were listed and have not landed."""
        return sum(f.backlog_blobs for f in self.feeds)

    @property
    def backlog_s(self) -> float:
        """Seconds by which the feed that is worst is behind: of time not listed, or of blobs not landed."""
        return max((behind_s(self.at, f.listed_up_to, f.oldest_created) for f in self.feeds), default=0.0)


@dataclass(slots=True)
class _Tenant:
    ledger: Ledger
    seen: int
    feeds: list[Feed] = field(default_factory=list)
    waiting: dict[str, datetime] = field(default_factory=dict)
    lags: dict[str, Lags] = field(default_factory=dict)


class Watch:
    """Watches the ledgers of a stream; any thread may look.

    Args:
      follows: What is followed.
      summary: Gets the figures of the stream's run.
      is_here: Whether the calls are made by this process, so that the quota in use can be told.
    """

    def __init__(self, follows: Sequence[Follow], summary: Summary, *, is_here: bool) -> None:
        self._lock = Lock()
        self._summary = summary
        self._is_here = is_here
        self._interval = max(f.interval for f in follows)
        self._connections = list(dict.fromkeys(f.feed.connection for f in follows))
        self._tenants: dict[str, _Tenant] = {}
        for follow in follows:
            feed, name = follow.feed, follow.feed.connection.tenant_id
            if name not in self._tenants:
                ledger = open_tenant(feed.lake, name).ledger
                self._tenants[name] = _Tenant(ledger, ledger.state.version)
            self._tenants[name].feeds.append(feed)

    def now(self) -> datetime:
        """The service's time."""
        return client_for(self._connections[0]).now()

    def look(self) -> Figures:
        """Reads what is new in the ledgers and tells how all feeds stand.

        Raises:
          LakeError: A ledger cannot be read.
        """
        with self._lock:
            now = self.now()
            feeds = [found for tenant in self._tenants.values() for found in _look(tenant, self._summary, now)]
            return Figures(now, feeds, self._summary, self._quota() if self._is_here else None)

    def _quota(self) -> dict[str, float]:
        governors = {c.tenant_id: client_for(c).governor for c in self._connections}
        return {tenant: g.used() / max(g.quota, 1) for tenant, g in governors.items()}

    def behind(self, figures: Figures) -> str | None:
        """Says in a sentence why the stream is behind; None where it is not."""
        limit = max(BEHIND_AFTER, _BEHIND_POLLS * self._interval)
        for f in figures.feeds:
            where = f"tenant {f.tenant} {f.content_type}"
            if f.last_listed is None:
                return f"{where} was never listed"
            if figures.at - f.last_listed > limit:
                return f"{where} was last listed at {_second(f.last_listed)}"
            if f.waiting_since and figures.at - f.waiting_since > limit:
                return f"{where} has blob {f.oldest!r} not landed since {_second(f.waiting_since)}"
        return None


def _look(tenant: _Tenant, summary: Summary, now: datetime) -> list[FeedFigures]:
    entries = list(tenant.ledger.entries_after(tenant.seen))
    tenant.seen += len(entries)
    add_entries(summary, entries)
    _note_lags(tenant, entries)
    with tenant.ledger.lock:  # others add entries meanwhile
        feeds = [_feed(feed, tenant, tenant.ledger.state, now) for feed in tenant.feeds]
        tenant.waiting = {i: since for i, since in tenant.waiting.items() if i in tenant.ledger.state.unsettled}
        return feeds


def _note_lags(tenant: _Tenant, entries: list[Entry]) -> None:
    for entry in entries:
        if not isinstance(entry, Listing):
            lags = tenant.lags.setdefault(getattr(entry, "content_type", ""), Lags())
            lags.add(entry.at, (b.created for b in entry.blobs if b.status == LANDED))


def _feed(feed: Feed, tenant: _Tenant, state: State, now: datetime) -> FeedFigures:
    backlog = backlog_of(feed, state, now)
    found = FeedFigures(
        feed.connection.tenant_id, feed.content_type, backlog.listed_up_to, backlog.last_listed, len(backlog.waiting)
    )
    found.failed_blobs = sum(b.status in (FAILED, REJECTED) for b in backlog.waiting.values())
    for content_id in backlog.waiting:
        tenant.waiting[content_id] = min(now, tenant.waiting.get(content_id, now))
    if backlog.oldest:
        found.oldest, blob = backlog.oldest
        found.oldest_created = blob.created
        found.oldest_expires = expiration_of(blob)
        found.waiting_since = min(tenant.waiting[i] for i in backlog.waiting)
    if feed.content_type in tenant.lags and (lags := tenant.lags[feed.content_type].quantiles(now)):
        found.lag_p50_s, found.lag_p95_s = lags
    return found


def _second(time: datetime) -> str:
    return format_utc(time.replace(microsecond=0))


def to_json(figures: Figures) -> dict[str, object]:
    """Gives figures as one JSON object; counts are since the start of the stream."""
    blobs: Counter[str] = figures.summary.blobs
    lag = worst_lag(figures)
    expires = min((f.oldest_expires for f in figures.feeds if f.oldest_expires), default=None)
    return {
        "at": format_utc(figures.at),
        "blobs": dict(blobs),
        "records": figures.summary.records,
        "rows": sum(figures.summary.rows.values()),
        "backlog_blobs": figures.backlog_blobs,
        "backlog_hours": round(figures.backlog_s / 3600, 2),
        "oldest_unfetched_expires": format_utc(expires) if expires else None,
        "lag_p50_s": lag[0],
        "lag_p95_s": lag[1],
        "quota_used": {t: round(q, 3) for t, q in figures.quota.items()} if figures.quota is not None else None,
    }


def worst_lag(figures: Figures) -> tuple[float | None, float | None]:
    """Gives the largest p50 and p95 of the feeds, in whole seconds."""
    p50 = [f.lag_p50_s for f in figures.feeds if f.lag_p50_s is not None]
    p95 = [f.lag_p95_s for f in figures.feeds if f.lag_p95_s is not None]
    return (round(max(p50)) if p50 else None), (round(max(p95)) if p95 else None)


def line(figures: Figures) -> str:
    """Gives figures as one line for a terminal."""
    p50, p95 = worst_lag(figures)
    lag = f"lag p50 {p50} s p95 {p95} s" if p50 is not None else "lag -"
    parts = [
        f"{figures.at:%H:%M:%S} UTC",
        f"blobs {figures.summary.blobs[LANDED]:,}",
        f"rows {sum(figures.summary.rows.values()):,}",
        f"backlog {figures.backlog_blobs:,} blobs, {figures.backlog_s / 3600:.1f} h",
        lag,
    ]
    if figures.quota:
        parts.append(f"quota {100 * max(figures.quota.values()):.0f} %")
    if failed := sum(f.failed_blobs for f in figures.feeds):
        parts.append(f"failed {failed:,}")
    return "  ".join(parts)
