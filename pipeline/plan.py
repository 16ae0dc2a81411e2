"""What a backfill will ask for: feeds, their ranges, and what can no longer be had.

Each tenant is prepared on its own: one that cannot be reached, or lacks a role, does not stop the others.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lake.entries import LOST, UNLISTED, Listing, Slice, State
from lake.gaps import listed_ranges, without
from lake.storage import open_storage
from lake.tenant import open_tenant
from o365.clients import client_for
from o365.connection import Connection
from o365.errors import ActivityError, ConfigError, RetryableError
from pipeline.errors import UsageError
from pipeline.when import parse_when
from schemas.contract import time_limit
from schemas.times import EPOCH, TimeRange, format_utc
from transforms.elements import ALL, GAPS, OPEN, Feed
from transforms.lister import TOO_OLD, oldest_listable

AUTO = "auto"
_DAY = timedelta(days=1)
_THREADS = 8
_FIRST_CONTACT_S = 10.0  # an operator waits for this answer


@dataclass(frozen=True, slots=True)
class Failure:
    """A tenant, or one content type of it, that could not be prepared, and why in one sentence."""

    tenant: str
    content_type: str | None
    message: str
    is_config: bool


@dataclass(slots=True)
class TenantPlan:
    """One tenant's part of a backfill: `base` is the last ledger entry before it, `now` the service's time.

    `given_up` are feeds that cannot be asked, and why. Connection and lake name files and folders as
    any worker must know them.
    """

    connection: Connection
    lake: str
    base: int = 0
    now: datetime = EPOCH
    feeds: list[Feed] = field(default_factory=list)
    subscribe: list[str] = field(default_factory=list)
    lost: dict[str, list[TimeRange]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    given_up: list[tuple[Feed, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """What the command asks for: start (None for `auto`), end, and which slices in between."""

    start: datetime | None
    end: datetime
    listing: str = ALL


@dataclass(frozen=True, slots=True)
class Wish:
    """What a backfill is asked for, in the words of the command, and how long slices of each content type settle."""

    start: str
    end: str
    only_gaps: bool = False
    settle: Mapping[str, timedelta] = field(default_factory=dict)

    def span(self, now: datetime) -> Span:
        """Reads it at a time."""
        span = parse_span(self.start, self.end, now)
        return replace(span, listing=GAPS if self.only_gaps else OPEN if span.start is None else ALL)


def parse_span(start: str, end: str, now: datetime) -> Span:
    """Reads `--start` and `--end`.

    Raises:
      UsageError: A time cannot be read, the end lies in the future, or the start is not before the end.
    """
    stop = parse_when(end, now, "--end")
    if stop > max(now, datetime.now(UTC)):
        raise UsageError(f"--end {end!r} lies in the future ({format_utc(stop)}): expected now at the latest")
    if start == AUTO:
        return Span(None, stop)
    begin = parse_when(start, now, "--start")
    if begin >= stop:
        raise UsageError(
            f"--start {start!r} ({format_utc(begin)}) is not before --end {end!r} ({format_utc(stop)}): swap them?"
        )
    return Span(begin, stop)


def make_plans(connections: Iterable[Connection], lake: str, wish: Wish, run: str) -> list[TenantPlan]:
    """Prepares every tenant; asks the service what is subscribed, and changes nothing."""
    address = open_storage(lake).uri

    def plan(connection: Connection) -> TenantPlan:
        return _plan_tenant(_with_full_paths(connection), address, wish, run)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(plan, connections))


def _with_full_paths(connection: Connection) -> Connection:
    """Names files as a worker must know them, whose working folder is another."""

    def full(path: str | None) -> str | None:
        return path and str(Path(path).absolute())

    return replace(
        connection,
        client_secret_file=full(connection.client_secret_file),
        certificate_file=full(connection.certificate_file),
        ca_file=full(connection.ca_file),
    )


def _plan_tenant(connection: Connection, lake: str, wish: Wish, run: str) -> TenantPlan:
    tenant = open_tenant(lake, connection.tenant_id)
    plan = TenantPlan(connection, lake, tenant.ledger.state.version)
    client = client_for(connection)
    try:
        subscriptions = client.list_subscriptions(deadline_s=_FIRST_CONTACT_S)
    except ActivityError as error:
        plan.failures.append(_failure(connection, None, error))
        plan.now = client.now()
        if plan.base or not isinstance(error, ConfigError):  # wrong use leaves no trace in a new lake
            _plan_feeds(plan, lake, wish, run)
            _give_up(plan, plan.feeds, error)
        return plan
    enabled = {s.content_type.lower() for s in subscriptions if s.is_enabled}
    plan.subscribe = [t for t in connection.content_types if t.lower() not in enabled]
    plan.now = client.now()  # the answer has told the service's time
    _plan_feeds(plan, lake, wish, run)
    return plan


def _plan_feeds(plan: TenantPlan, lake: str, wish: Wish, run: str) -> None:
    connection = plan.connection
    tenant = open_tenant(lake, connection.tenant_id)
    span = wish.span(plan.now)
    oldest = oldest_listable(plan.now)
    for content_type in connection.content_types:
        start = span.start or first_asked(tenant.ledger.state, content_type, plan.now)
        if start < oldest:
            stretch = TimeRange(start, max(start, min(oldest, span.end)))
            plan.lost[content_type] = _not_covered(tenant.ledger.state, content_type, stretch, span)
        time_range = TimeRange(min(max(start, oldest), span.end), span.end)
        retry_from = _oldest_unsettled(tenant.ledger.state, content_type)
        if time_range.start < time_range.end or retry_from is not None:
            settle = wish.settle.get(content_type, time_limit("late_arrival"))
            plan.feeds.append(Feed(connection, content_type, time_range, lake, run, span.listing, settle, retry_from))


def _give_up(plan: TenantPlan, feeds: Iterable[Feed], error: ActivityError) -> None:
    """Takes feeds that cannot be asked out of a plan; what they would have listed is to be recorded as not listed."""
    given_up = list(feeds)
    plan.feeds = [f for f in plan.feeds if f not in given_up]
    plan.given_up += [(feed, error.message) for feed in given_up]


def _failure(connection: Connection, content_type: str | None, error: ActivityError) -> Failure:
    return Failure(connection.name, content_type, error.message, isinstance(error, ConfigError))


def first_asked(state: State, content_type: str, now: datetime) -> datetime:
    """Gives from when on a feed was ever asked for; all that the service keeps where it never was."""
    return state.asked.get(content_type, now - time_limit("retention"))


def _oldest_unsettled(state: State, content_type: str) -> datetime | None:
    blobs = (state.blobs[content_id] for content_id in state.unsettled)
    return min((b.created for b in blobs if b.content_type == content_type), default=None)


def _not_covered(state: State, content_type: str, wanted: TimeRange, span: Span) -> list[TimeRange]:
    """Gives the stretches of a range that were never listed; those that the ledger calls lost only where asked for."""
    slices = [s for s in state.slices.values() if s.content_type == content_type]
    known = listed_ranges(slices)
    if span.start is None:
        known += [TimeRange(s.start, s.end) for s in slices if s.outcome == LOST]
    return list(without(wanted, known))


def by_age(feeds: Iterable[Feed]) -> list[Feed]:
    """Cuts feeds into days, the oldest first: what ages out first is landed first, and all feeds get their turn."""
    days = []
    for feed in feeds:
        start = feed.time_range.start
        first = True
        while first or start < feed.time_range.end:
            end = min(EPOCH + ((start - EPOCH) // _DAY + 1) * _DAY, feed.time_range.end)
            time_range = TimeRange(start, max(start, end))
            days.append(replace(feed, time_range=time_range, retry_from=feed.retry_from if first else None))
            start, first = end, False
    return sorted(days, key=lambda f: f.time_range.start)


def prepare(plans: Iterable[TenantPlan]) -> None:
    """Carries out what plans ask for before the graph runs: starts subscriptions, records what is lost."""
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(_prepare_tenant, plans))


def _prepare_tenant(plan: TenantPlan) -> None:
    client = client_for(plan.connection)
    for content_type in list(plan.subscribe):
        try:
            client.start_subscription(content_type)
        except ActivityError as error:
            plan.subscribe.remove(content_type)
            plan.failures.append(_failure(plan.connection, content_type, error))
            if not isinstance(error, RetryableError):
                _give_up(plan, (f for f in plan.feeds if f.content_type == content_type), error)
    for feed in plan.feeds:
        _record_asked(feed, plan.now)
        _record(feed, plan.lost.get(feed.content_type, []), LOST, TOO_OLD, plan.now)
    for feed, cause in plan.given_up:
        state = open_tenant(feed.lake, plan.connection.tenant_id).ledger.state
        listed = listed_ranges(s for s in state.slices.values() if s.content_type == feed.content_type)
        _record(feed, list(without(feed.time_range, listed)), UNLISTED, cause, plan.now)


def _record_asked(feed: Feed, now: datetime) -> None:
    """Writes into the ledger what is asked for before it is listed: a run that dies before that must leave a gap."""
    start = feed.time_range.start
    ledger = open_tenant(feed.lake, feed.connection.tenant_id).ledger
    if start < min(ledger.state.asked.get(feed.content_type, feed.time_range.end), feed.time_range.end):
        ledger.append(lambda _: Listing(feed.run, now, feed.content_type, [], [], asked=start))


def _record(feed: Feed, stretches: list[TimeRange], outcome: str, cause: str, now: datetime) -> None:
    """Writes into the ledger which stretches were not listed, and why."""
    slices = [Slice(s.start, s.end, outcome, now, cause=cause) for s in stretches]
    if slices:
        lake = open_tenant(feed.lake, feed.connection.tenant_id)
        lake.ledger.append(lambda _: Listing(feed.run, now, feed.content_type, slices, []))
