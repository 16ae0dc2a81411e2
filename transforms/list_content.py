"""Lists what the feed has and the lake does not: the custom splittable source.

Feed ── tick ── claim ── list all its pages ── blobs not yet landed ── units of at most UNIT_BLOBS
                                                     └─ every slice listed, and every blob named, is in the ledger first
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from logging import getLogger
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from lake.entries import LISTED, LOST, UNLISTED, Entry, ListedBlob, Listing, Slice, State
from lake.tenant import TenantLake, open_tenant
from o365.activity import ActivityClient
from o365.clients import client_for
from o365.errors import ActivityError, ListingChangedError, NotSubscribedError, WindowError
from schemas.contract import limits
from schemas.feed import ContentBlob
from schemas.times import TimeRange
from transforms.elements import ContentUnit, Feed
from transforms.grid import OPEN, GridProvider, StartWatermark, tick_range, ticks_of
from transforms.tally import count

UNIT_BLOBS = 100
LISTING_TRIES = 4
TOO_OLD = "older than the service keeps"
_EDGE = timedelta(minutes=1)
_WHILE_RUNNING = timedelta(minutes=10)
_LOGGER = getLogger(__name__)


def utc_now() -> datetime:
    """Reads the clock."""
    return datetime.now(UTC)


class ListContent(beam.PTransform[beam.PCollection[Feed], beam.PCollection[ContentUnit]]):
    """Lists the content of feeds and cuts it into units.

    Input: PCollection[Feed]. Output: PCollection[ContentUnit], stamped with available time; unbounded where a feed has
    no end. Delivery: a blob that the ledger calls landed or expired is not emitted again; one that is emitted twice is
    landed once all the same. A tick that cannot be listed is recorded with its cause and does not stop other feeds.

    Source: Management Activity API reference, "List available content".
    """

    def expand(self, feeds: beam.PCollection[Feed]) -> beam.PCollection[ContentUnit]:
        """Wires the stage."""
        # Inferred, the type would be that of the stamped value.
        listing = beam.ParDo(_ListContentFn()).with_output_types(ContentUnit)
        units: beam.PCollection[ContentUnit] = feeds | "List ticks" >> listing
        return units


class _ListContentFn(beam.DoFn):
    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._blobs_listed = Metrics.counter("auditlake", "blobs_listed")
        self._slices_listed = Metrics.counter("auditlake", "slices_listed")
        self._slices_failed = Metrics.counter("auditlake", "slices_failed")

    def process(
        self,
        feed: Feed,
        tracker: Any = beam.DoFn.RestrictionParam(GridProvider()),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(StartWatermark()),
    ) -> Iterator[TimestampedValue[ContentUnit]]:
        """Lists ticks as long as they can be claimed and are due."""
        lister = Lister(feed, self._clock)
        tick = tracker.current_restriction().start
        is_open = tracker.current_restriction().stop >= OPEN
        while True:
            wait = tick_range(tick).end - self._clock() if is_open else timedelta(0)
            if wait > timedelta(0):  # look at the clock before any call: runners wake early
                tracker.defer_remainder(Duration(int(wait.total_seconds()) + 2))
                break
            if not tracker.try_claim(tick):
                break
            lister.list_tick(tick)
            if len(lister.blobs) >= UNIT_BLOBS:
                yield from self._units(lister, tick)
                self._advance(watermark, tick)
            tick += 1
        yield from self._units(lister, tick - 1)
        self._advance(watermark, tick - 1)

    def _units(self, lister: "Lister", tick: int) -> Iterator[TimestampedValue[ContentUnit]]:
        self._blobs_listed.inc(len(lister.blobs))
        self._slices_listed.inc(sum(s.outcome == LISTED for s in lister.slices))
        self._slices_failed.inc(sum(s.outcome != LISTED for s in lister.slices))
        stamp = Timestamp.of(tick_range(tick).start.timestamp())
        for unit in lister.hand_on():
            yield TimestampedValue(unit, stamp)

    def _advance(self, watermark: Any, tick: int) -> None:
        """Raises the watermark over what was handed on, and never moves it back."""
        reached = Timestamp.of(tick_range(tick).end.timestamp())
        if reached > watermark.current_watermark():
            watermark.set_watermark(reached)


class Lister:
    """Lists ticks of one feed and holds what was found until it is handed on."""

    def __init__(self, feed: Feed, clock: Callable[[], datetime]) -> None:
        self._feed = feed
        self._clock = clock
        self._client: ActivityClient = client_for(feed.connection)
        self._lake: TenantLake = open_tenant(feed.lake, feed.connection.tenant_id)
        self._seen: set[str] = set()
        self._failure: str | None = None
        self.slices: list[Slice] = []
        self.blobs: list[ContentBlob] = []

    def list_tick(self, tick: int) -> None:
        """Lists a tick, and notes how that went; what a feed refuses once it is not asked again."""
        stretch = tick_range(tick)
        if self._failure is None:
            try:
                self._list_stretch(stretch)
            except ActivityError as error:
                self._failure = error.message
        if self._failure is not None:
            self._note(stretch, UNLISTED, cause=self._failure)
        count(self._feed.run, slices=1)

    def _list_stretch(self, stretch: TimeRange) -> None:
        try:
            self._keep(stretch, self._list(stretch))
        except WindowError:
            # The oldest tick may have aged out in part; what is left of it is still to be had.
            edge = self._clock() - timedelta(seconds=limits()["retention"]) + _EDGE
            cut = min(max(edge.replace(microsecond=0), stretch.start), stretch.end)
            if cut == stretch.start:
                raise
            if cut < stretch.end:
                rest = TimeRange(cut, stretch.end)
                self._keep(rest, self._list(rest))
            self._note_lost(TimeRange(stretch.start, cut))

    def _note_lost(self, stretch: TimeRange) -> None:
        """Notes what was asked for and has aged out, unless an earlier run listed it, or it aged out while we ran."""
        known = self._lake.ledger.state.slices.get((self._feed.content_type, stretch.start))
        asked = max(stretch.start, self._feed.time_range.start)
        if (known is None or known.outcome != LISTED) and stretch.end - asked > _WHILE_RUNNING:
            self._note(TimeRange(asked, stretch.end), LOST, cause=TOO_OLD)

    def _list(self, stretch: TimeRange) -> list[ContentBlob]:
        for _ in range(LISTING_TRIES - 1):
            try:
                return list(self._client.list_content(self._feed.content_type, stretch))
            except NotSubscribedError:
                self._client.ensure_subscribed([self._feed.content_type])
            except ListingChangedError:
                _LOGGER.debug("listing %s again from its first page", stretch)
        return list(self._client.list_content(self._feed.content_type, stretch))

    def _keep(self, stretch: TimeRange, listed: Iterable[ContentBlob]) -> None:
        held = list(listed)
        state = self._lake.ledger.state
        fresh = [b for b in held if b.content_id not in self._seen and not state.is_settled(b.content_id)]
        self._seen.update(b.content_id for b in fresh)
        self.blobs += fresh
        self._note(stretch, LISTED, blobs=len(held))
        count(self._feed.run, listed=len(held), found=len(fresh))

    def _note(self, stretch: TimeRange, outcome: str, *, blobs: int = 0, cause: str | None = None) -> None:
        self.slices.append(Slice(stretch.start, stretch.end, outcome, blobs, cause))

    def hand_on(self) -> Iterator[ContentUnit]:
        """Records what was listed, then gives it as units."""
        if self.slices:
            self._lake.ledger.append(self._entry)
        blobs, self.blobs, self.slices = self.blobs, [], []
        for start in range(0, len(blobs), UNIT_BLOBS):
            yield ContentUnit(self._feed, tuple(blobs[start : start + UNIT_BLOBS]))

    def _entry(self, state: State) -> Entry:
        return Listing(
            run=self._feed.run,
            at=self._clock(),
            content_type=self._feed.content_type,
            slices=self.slices,
            blobs=[
                ListedBlob(b.content_id, b.content_created, b.content_expiration)
                for b in self.blobs
                if b.content_id not in state.blobs
            ],
        )


def oldest_listable(now: datetime) -> datetime:
    """Gives the start of the oldest tick that the service may still list."""
    kept = timedelta(seconds=limits()["retention"] + limits()["retention_grace"])
    return tick_range(ticks_of(TimeRange(now - kept, now)).start + 1).start
