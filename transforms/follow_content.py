"""Follows feeds, poll by poll: the unbounded form of `ListContent`.

Follow ── poll ── claim ── list the slices that are due ── name what is new in the ledger ── blobs not landed ── units
  ▲                                                                                                               │
  └── defer to the next poll ◀── raise the watermark over what can no longer appear ◀─────────────────────────────┘
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration

from lake.entries import LISTED, LOST, Slice, State
from lake.gaps import listed_ranges, without
from lake.tenant import open_tenant
from o365.clients import client_for
from o365.errors import ActivityError
from schemas.times import TimeRange
from transforms.backlog import Backlog, backlog_of, namespace_of
from transforms.elements import ContentUnit, Feed, Follow
from transforms.grid import tick_of, tick_range
from transforms.lister import LISTINGS_AT_ONCE, TOO_OLD, Lister, oldest_listable, units_of
from transforms.polls import FollowWatermark, PollProvider, poll_of, poll_time, settled_up_to, timestamp
from transforms.recall import FRESH, IN_FLIGHT, Recall, recall_of
from transforms.unit_coder import register_unit_coder

HEARTBEAT = timedelta(minutes=5)
"""How often the ledger is told of a fresh slice that holds nothing new."""


class FollowContent(beam.PTransform[beam.PCollection[Follow], beam.PCollection[ContentUnit]]):
    """Follows feeds and cuts what appears in them into units.

    Input: PCollection[Follow]. Output: PCollection[ContentUnit], stamped with available time; unbounded where
    `is_open`. Delivery: a blob that the ledger calls landed or expired is not emitted again; one that is emitted twice
    is landed once all the same. Watermark: never passes the start of a slice that is open. A feed that cannot be listed
    is recorded with its cause, and asked again after a rest.

    Args:
      is_open: Whether polls go on and are waited for; else each feed is polled once, now.
    """

    def __init__(self, *, is_open: bool) -> None:
        super().__init__()
        self._fn = _OpenFollowFn() if is_open else _FollowFn()

    def expand(self, feeds: beam.PCollection[Follow]) -> beam.PCollection[ContentUnit]:
        """Wires the stage."""
        register_unit_coder()
        # Inferred, the type would be that of the stamped value.
        polls = beam.ParDo(self._fn).with_output_types(ContentUnit)
        units: beam.PCollection[ContentUnit] = feeds | "Poll feeds" >> polls
        return units


class _FollowFn(beam.DoFn):
    """Polls each feed once."""

    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock  # the service's by default
        self._blobs_listed = Metrics.counter("auditlake", "blobs_listed")
        self._slices_listed = Metrics.counter("auditlake", "slices_listed")
        self._slices_failed = Metrics.counter("auditlake", "slices_failed")

    def process(
        self,
        follow: Follow,
        tracker: Any = beam.DoFn.RestrictionParam(PollProvider()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(FollowWatermark()),
    ) -> Iterator[TimestampedValue[ContentUnit]]:
        """Polls once."""
        if tracker.try_claim(tracker.current_restriction().stop - 1):
            yield from self._poll(follow, watermark, timedelta(0))

    def _poll(self, follow: Follow, watermark: Any, in_flight: timedelta) -> Iterator[TimestampedValue[ContentUnit]]:
        polled = poll(follow, in_flight, self._clock)
        self._blobs_listed.inc(polled.blobs_listed)
        self._slices_listed.inc(polled.slices_listed)
        self._slices_failed.inc(polled.slices_failed)
        for name, value in polled.backlog.gauges().items():
            Metrics.gauge(namespace_of(follow.feed), name).set(value)
        reached = watermark.current_watermark()
        for unit in polled.units:
            oldest = timestamp(min(b.content_created for b in unit.blobs))
            # One that is tried again, or came later than anybody expected, may lie behind.
            yield TimestampedValue(unit, max(oldest, reached))
        if timestamp(polled.settled_up_to) > reached:
            watermark.set_watermark(timestamp(polled.settled_up_to))


class _OpenFollowFn(_FollowFn):
    """Polls each feed for ever, or as often as its restriction says."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        follow: Follow,
        tracker: Any = beam.DoFn.RestrictionParam(PollProvider()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(FollowWatermark()),
    ) -> Iterator[TimestampedValue[ContentUnit]]:
        """Polls once, if it is time, and defers the rest."""
        position = tracker.current_restriction()
        now = self._now(follow)
        # Runners wake early: look at the clock before any call.
        if timedelta(0) < (wait := poll_time(position.start, follow.interval) - now) <= follow.interval:
            tracker.defer_remainder(_whole_seconds(wait))
            return
        # Polls that were missed are skipped. Where a clock was set back, the next position stands for the poll of now.
        due = max(position.start, min(poll_of(now, follow.interval), position.stop - 1))
        if not tracker.try_claim(due):
            return
        yield from self._poll(follow, watermark, IN_FLIGHT)
        if due + 1 < position.stop:
            wait = poll_time(due + 1, follow.interval) - self._now(follow)
            tracker.defer_remainder(_whole_seconds(min(max(wait, timedelta(0)), follow.interval)))

    def _now(self, follow: Follow) -> datetime:
        return self._clock() if self._clock else _service_time(follow.feed)


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll of a feed found. `backlog` is what the feed lacks, `units` the blobs of it to land now."""

    units: list[ContentUnit]
    settled_up_to: datetime
    slices_listed: int
    slices_failed: int
    blobs_listed: int
    backlog: Backlog


def poll(follow: Follow, in_flight: timedelta, clock: Callable[[], datetime] | None = None) -> Polled:
    """Looks at a feed once: lists the slices that are due, records what is new, gives what is to be landed now.

    Args:
      follow: The feed.
      in_flight: How long a blob that was handed on may be without an outcome before it is handed on again.
      clock: Tells the time; the service's by default.

    Raises:
      LakeError: The ledger cannot be read or written; nothing is handed on.
    """
    feed, recall = follow.feed, recall_of(follow.feed)
    _service_time(feed)
    lister = Lister(feed, clock)
    ledger = open_tenant(feed.lake, feed.connection.tenant_id).ledger
    state, now = lister.state, lister.now()
    first = tick_range(tick_of(feed.time_range.start)).start
    if not recall.is_resting(now):
        due = [
            t
            for t in _ticks(max(oldest_listable(now), first), now)
            if recall.is_due(t, state.slices.get((feed.content_type, t.start)), now)
        ]
        for n in range(0, len(due), LISTINGS_AT_ONCE):
            lister.list_stretches(due[n : n + LISTINGS_AT_ONCE])
        recall.note_listing(lister.failure, now, follow.interval)
    listed = [s for s in lister.slices if s.outcome == LISTED]
    failed = len(lister.slices) - len(listed)
    reached = first
    blobs = {b.content_id: b for b in (*(b for known in lister.known.values() for b in known), *lister.blobs)}
    if listed:
        # Only where the service has told its time: a machine's clock must not make anything lost or settled.
        oldest = max(oldest_listable(lister.now()), first)
        with ledger.lock:  # landing adds entries meanwhile
            lister.slices += _aged_out(feed, recall, state, oldest, lister.now())
        recall.aged_up_to = oldest
        recall.forget(state, oldest)
    if not all(b.content_id in state.blobs for b in lister.blobs) or any(
        _is_news(s, state, feed.content_type) for s in lister.slices
    ):
        lister.record()
    if listed:
        recall.looked.update({s.start: s.at for s in listed})
        reached = settled_up_to(state, feed.content_type, oldest, lister.now())
    units = list(units_of(feed, recall.choose(blobs.values(), state, now, in_flight)))
    with ledger.lock:
        backlog = backlog_of(feed, state, lister.now())
    return Polled(units, reached, len(listed), failed, sum(s.blobs for s in listed), backlog)


def _service_time(feed: Feed) -> datetime:
    """Gives the service's time, and asks for it first where it has not told any: a worker's own clock may be wrong."""
    client = client_for(feed.connection)
    if not client.counts().requests:
        with suppress(ActivityError):  # its refusals tell the time as well
            client.list_subscriptions(deadline_s=feed.deadline_s)
    return client.now()


def _ticks(oldest: datetime, now: datetime) -> list[TimeRange]:
    return [tick_range(tick) for tick in range(tick_of(oldest), tick_of(now) + 1)]


def _is_news(one: Slice, state: State, content_type: str) -> bool:
    """Tells whether a slice says more than the ledger knows, or what it knows has grown old."""
    known = state.slices.get((content_type, one.start))
    if known is None:
        return True
    if one.outcome != LISTED:
        return one.outcome != known.outcome and known.outcome != LISTED
    is_over = known.at < one.end <= one.at
    is_fresh = one.end > one.at - FRESH
    return (
        known.outcome != LISTED
        or one.closed != known.closed
        or is_over
        or (is_fresh and one.at - known.at >= HEARTBEAT)
    )


def _aged_out(feed: Feed, recall: Recall, state: State, oldest: datetime, now: datetime) -> list[Slice]:
    """Gives the stretches that the service no longer lists and nobody has listed: they are lost, and named."""
    start = feed.time_range.start
    if recall.aged_up_to == oldest or start >= oldest:
        return []
    slices = [s for s in state.slices.values() if s.content_type == feed.content_type]
    known = [*listed_ranges(slices), *(TimeRange(s.start, s.end) for s in slices if s.outcome == LOST)]
    rest = without(TimeRange(start, oldest), known)
    return [Slice(r.start, r.end, LOST, now, cause=TOO_OLD) for r in rest]


def _whole_seconds(wait: timedelta) -> Duration:
    """Rounds up by more than a second: Flink cuts what is left of a delay to whole ones, and would wake early."""
    return Duration(seconds=ceil(wait.total_seconds()) + 1)
