"""What a backfill will ask for: feeds, their ranges, and what can no longer be had.

Each tenant is prepared on its own: one that cannot be reached, or lacks a role, does not stop the others.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lake.entries import LISTED, LOST, Listing, Slice, State
from lake.status import frontier
from lake.tenant import TenantLake, open_tenant
from o365.clients import client_for
from o365.connection import Connection
from o365.errors import ActivityError, ConfigError, RetryableError
from pipeline.errors import UsageError
from pipeline.when import parse_when
from schemas.contract import limits
from schemas.times import TimeRange, format_utc
from transforms.elements import Feed
from transforms.list_content import TOO_OLD, oldest_listable

AUTO = "auto"
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
    """One tenant's part of a backfill. `base` is the number of the last ledger entry before it."""

    connection: Connection
    base: int = 0
    feeds: list[Feed] = field(default_factory=list)
    subscribe: list[str] = field(default_factory=list)
    lost: dict[str, list[TimeRange]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """What the command asks for: start (None for `auto`) and end."""

    start: datetime | None
    end: datetime


def parse_span(start: str, end: str, now: datetime) -> Span:
    """Reads `--start` and `--end`.

    Raises:
      UsageError: A time cannot be read, the end lies in the future, or the start is not before the end.
    """
    stop = parse_when(end, now, "--end")
    if stop > now:
        raise UsageError(f"--end {end!r} lies in the future ({format_utc(stop)}): expected now at the latest")
    if start == AUTO:
        return Span(None, stop)
    begin = parse_when(start, now, "--start")
    if begin >= stop:
        raise UsageError(
            f"--start {start!r} ({format_utc(begin)}) is not before --end {end!r} ({format_utc(stop)}): swap them?"
        )
    return Span(begin, stop)


def make_plans(connections: Iterable[Connection], lake: str, span: Span, run: str, now: datetime) -> list[TenantPlan]:
    """Prepares every tenant; asks the service what is subscribed, and changes nothing."""

    def plan(connection: Connection) -> TenantPlan:
        return _plan_tenant(connection, lake, span, run, now)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(plan, connections))


def _plan_tenant(connection: Connection, lake: str, span: Span, run: str, now: datetime) -> TenantPlan:
    tenant = open_tenant(lake, connection.tenant_id)
    plan = TenantPlan(connection, tenant.ledger.state.version)
    try:
        subscriptions = client_for(connection).list_subscriptions(deadline_s=_FIRST_CONTACT_S)
    except ActivityError as error:
        plan.failures.append(_failure(connection, None, error))
        return plan
    enabled = {s.content_type.lower() for s in subscriptions if s.is_enabled}
    plan.subscribe = [t for t in connection.content_types if t.lower() not in enabled]
    oldest = oldest_listable(now)
    for content_type in connection.content_types:
        start = span.start or _left_off(tenant.ledger.state, content_type, now)
        if start < oldest:
            lost = uncovered(tenant.ledger.state, content_type, TimeRange(start, min(oldest, span.end)))
            plan.lost[content_type] = lost
        if max(start, oldest) < span.end:
            time_range = TimeRange(max(start, oldest), span.end)
            plan.feeds.append(Feed(connection, content_type, time_range, lake, run))
    return plan


def _failure(connection: Connection, content_type: str | None, error: ActivityError) -> Failure:
    return Failure(connection.name, content_type, error.message, isinstance(error, ConfigError))


def _left_off(state: State, content_type: str, now: datetime) -> datetime:
    """Gives where to go on: behind the frontier by as long as blobs may come late; all that is kept at first."""
    reached = frontier(state, content_type)
    if reached is None:
        return now - timedelta(seconds=limits()["retention"])
    first = min(s.start for s in state.slices.values() if s.content_type == content_type)
    return max(first, reached - timedelta(seconds=limits()["late_arrival"]))


def uncovered(state: State, content_type: str, wanted: TimeRange) -> list[TimeRange]:
    """Gives the stretches of a range that no listing in the ledger covers."""
    known = sorted(
        (s.start, s.end) for s in state.slices.values() if s.content_type == content_type and s.outcome == LISTED
    )
    found = []
    at = wanted.start
    for start, end in known:
        if at < min(start, wanted.end):
            found.append(TimeRange(at, min(start, wanted.end)))
        at = max(at, end)
    if at < wanted.end:
        found.append(TimeRange(at, wanted.end))
    return found


def prepare(plan: TenantPlan, now: datetime) -> None:
    """Carries out what a plan asks for before the graph runs: starts subscriptions, records what is lost."""
    client = client_for(plan.connection)
    for content_type in list(plan.subscribe):
        try:
            client.start_subscription(content_type)
        except ActivityError as error:
            plan.subscribe.remove(content_type)
            plan.failures.append(_failure(plan.connection, content_type, error))
            if not isinstance(error, RetryableError):
                plan.feeds = [f for f in plan.feeds if f.content_type != content_type]
    for feed in plan.feeds:
        if stretches := plan.lost.get(feed.content_type):
            record_lost(open_tenant(feed.lake, plan.connection.tenant_id), feed, stretches, now)


def record_lost(lake: TenantLake, feed: Feed, stretches: list[TimeRange], now: datetime) -> None:
    """Writes into the ledger which stretches the service no longer lists."""
    slices = [Slice(s.start, s.end, LOST, cause=TOO_OLD) for s in stretches]
    lake.ledger.append(lambda _: Listing(feed.run, now, feed.content_type, slices, []))
