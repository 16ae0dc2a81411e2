"""Lists what the feed has and the lake does not: the custom splittable source.

Feed ── ticks ── claim ── list all their pages, some at a time ── blobs not yet landed ── units of at most UNIT_BLOBS
            │                                                           ├─ every slice listed, and every blob named,
            └─ blobs of them that the ledger knows and the lake lacks ──┘  is in the ledger first
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from transforms.elements import ALL, GAPS, ContentUnit, Feed
from transforms.grid import OPEN as OPEN_END
from transforms.grid import GridProvider, StartWatermark, tick_of, tick_range, ticks_of
from transforms.tally import count

UNIT_BLOBS = 100
LISTINGS_AT_ONCE = 8
LISTING_TRIES = 4
TOO_OLD = "older than the service keeps"
_EDGE = timedelta(minutes=1)
_LAST_LOOK = timedelta(days=1)
_WHILE_RUNNING = timedelta(minutes=10)
_LOGGER = getLogger(__name__)


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
    def __init__(self, clock: Callable[[], datetime] | None = None) -> None:
        self._clock = clock  # the service's by default
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
        is_open = tracker.current_restriction().stop >= OPEN_END
        while True:
            claimed: list[int] = []
            while len(claimed) < LISTINGS_AT_ONCE:
                wait = tick_range(tick).end - lister.now() if is_open else timedelta(0)
                if wait > timedelta(0):  # look at the clock before any call: runners wake early
                    break
                if not tracker.try_claim(tick):
                    break
                claimed.append(tick)
                tick += 1
            lister.list_ticks(claimed)
            if len(claimed) < LISTINGS_AT_ONCE:
                break
            if len(lister.blobs) >= UNIT_BLOBS:
                yield from self._units(lister, tick - 1)
                self._advance(watermark, tick - 1)
        yield from self._units(lister, tick - 1)
        self._advance(watermark, tick - 1)
        if is_open and wait > timedelta(0):
            tracker.defer_remainder(Duration(int(wait.total_seconds()) + 2))

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


@dataclass(frozen=True, slots=True)
class _Listed:
    """How listing a stretch went; `at` is when, by the service's clock."""

    stretch: TimeRange
    outcome: str
    at: datetime
    blobs: tuple[ContentBlob, ...] = ()
    cause: str | None = None


class Lister:
    """Lists ticks of one feed and holds what was found until it is handed on."""

    def __init__(self, feed: Feed, clock: Callable[[], datetime] | None = None) -> None:
        self._feed = feed
        self._client: ActivityClient = client_for(feed.connection)
        self.now = clock or self._client.now
        self._lake: TenantLake = open_tenant(feed.lake, feed.connection.tenant_id)
        self._lake.ledger.refresh()
        self._known = self._known_blobs()
        self._seen: set[str] = set()
        self._failure: str | None = None
        self.slices: list[Slice] = []
        self.blobs: list[ContentBlob] = []

    def _known_blobs(self) -> dict[int, list[ContentBlob]]:
        """Gives the blobs that the ledger knows and the lake lacks, by their ticks."""
        found: defaultdict[int, list[ContentBlob]] = defaultdict(list)
        state, now = self._lake.ledger.state, self.now()
        for content_id in state.unsettled:
            blob = state.blobs[content_id]
            if blob.content_type != self._feed.content_type or (
                blob.kept and blob.expiration and blob.expiration < now
            ):
                continue
            expiration = blob.expiration or blob.created + timedelta(seconds=limits()["retention"])
            uri = blob.uri or self._client.content_uri(content_id)
            found[tick_of(blob.created)].append(
                ContentBlob(content_id, uri, blob.content_type, blob.created, expiration)
            )
        return found

    def list_ticks(self, ticks: Sequence[int]) -> None:
        """Lists those of the ticks that are due, at once, and notes how that went.

        What a feed refuses is not asked again.
        """
        due = [t for t in map(tick_range, ticks) if self._is_due(t)]
        if due and self._failure is None:
            with ThreadPoolExecutor(len(due), thread_name_prefix="list") as pool:
                for found in pool.map(self._ask, due):
                    for one in found:
                        self._keep(one)
        elif due:
            for stretch in due:
                self._keep(_Listed(stretch, UNLISTED, self.now(), cause=self._failure))
        for tick in ticks:
            self._take(self._known.pop(tick, ()))
        count(self._feed.run, slices=len(ticks))

    def _is_due(self, stretch: TimeRange) -> bool:
        if stretch.end <= self._feed.time_range.start:
            return False  # only its known blobs are tried again
        known = self._lake.ledger.state.slices.get((self._feed.content_type, stretch.start))
        if known is None or known.outcome != LISTED or self._feed.listing == ALL:
            return True
        if self._feed.listing == GAPS:
            return known.at < stretch.end
        # A closed slice gets a last look before it ages out: blobs have come later than anybody expected.
        last_look = stretch.end + timedelta(seconds=limits()["retention"]) - _LAST_LOOK
        return not known.closed or known.at < last_look <= self.now()

    def _ask(self, stretch: TimeRange) -> list[_Listed]:
        """Lists a stretch; a listing that fails is noted, and the feed given up for this time."""
        at = self.now()
        try:
            try:
                return [_Listed(stretch, LISTED, at, self._list(stretch))]
            except WindowError:
                # The oldest tick may have aged out in part; what is left of it is still to be had.
                edge = self.now() - timedelta(seconds=limits()["retention"]) + _EDGE
                cut = min(max(edge.replace(microsecond=0), stretch.start), stretch.end)
                if cut == stretch.start:
                    raise
                rest = TimeRange(cut, stretch.end)
                listed = [_Listed(rest, LISTED, at, self._list(rest))] if cut < stretch.end else []
                return [*listed, _Listed(TimeRange(stretch.start, cut), LOST, at, cause=TOO_OLD)]
        except ActivityError as error:
            self._failure = error.message
            return [_Listed(stretch, UNLISTED, at, cause=error.message)]

    def _list(self, stretch: TimeRange) -> tuple[ContentBlob, ...]:
        for _ in range(LISTING_TRIES - 1):
            try:
                return tuple(self._client.list_content(self._feed.content_type, stretch))
            except NotSubscribedError:
                self._client.ensure_subscribed([self._feed.content_type])
            except ListingChangedError:
                _LOGGER.debug("listing %s again from its first page", stretch)
        return tuple(self._client.list_content(self._feed.content_type, stretch))

    def _keep(self, found: _Listed) -> None:
        if found.outcome == LOST:
            self._note_lost(found)
            return
        state = self._lake.ledger.state
        before = state.slices.get((self._feed.content_type, found.stretch.start))
        # Not after the first listing, however late: there must be one to compare with.
        is_settled = (
            found.at >= found.stretch.end + self._feed.settle
            and (before is not None and before.outcome == LISTED)
            and all(b.content_id in state.blobs for b in found.blobs)
        )
        self.slices.append(
            Slice(
                found.stretch.start,
                found.stretch.end,
                found.outcome,
                found.at,
                len(found.blobs),
                found.cause,
                closed=found.outcome == LISTED and is_settled,
            )
        )
        self._take(found.blobs)
        count(self._feed.run, listed=len(found.blobs))

    def _note_lost(self, found: _Listed) -> None:
        """Notes what was asked for and has aged out, unless an earlier run listed it, or it aged out while we ran."""
        known = self._lake.ledger.state.slices.get((self._feed.content_type, found.stretch.start))
        asked = max(found.stretch.start, self._feed.time_range.start)
        if (known is None or known.outcome == UNLISTED) and found.stretch.end - asked > _WHILE_RUNNING:
            self.slices.append(Slice(asked, found.stretch.end, LOST, found.at, cause=TOO_OLD))

    def _take(self, blobs: Iterable[ContentBlob]) -> None:
        """Keeps the blobs that are still to be landed, each once."""
        state = self._lake.ledger.state
        fresh = [b for b in blobs if b.content_id not in self._seen and not state.is_settled(b.content_id)]
        self._seen.update(b.content_id for b in fresh)
        self.blobs += fresh
        count(self._feed.run, found=len(fresh))

    def hand_on(self) -> Iterator[ContentUnit]:
        """Records what was listed, then gives it as units."""
        if self.slices:
            self._lake.ledger.append(self._entry)
        # The first to expire is the first to be fetched.
        blobs = sorted(self.blobs, key=lambda b: (b.content_expiration, b.content_created))
        self.blobs, self.slices = [], []
        for start in range(0, len(blobs), UNIT_BLOBS):
            yield ContentUnit(self._feed, tuple(blobs[start : start + UNIT_BLOBS]))

    def _entry(self, state: State) -> Entry:
        return Listing(
            run=self._feed.run,
            at=self.now(),
            content_type=self._feed.content_type,
            slices=self.slices,
            blobs=[
                ListedBlob(b.content_id, b.content_created, b.content_expiration, b.content_uri)
                for b in self.blobs
                if b.content_id not in state.blobs
            ],
        )


def oldest_listable(now: datetime) -> datetime:
    """Gives the start of the oldest tick that the service may still list."""
    kept = timedelta(seconds=limits()["retention"] + limits()["retention_grace"])
    return tick_range(ticks_of(TimeRange(now - kept, now)).start + 1).start
