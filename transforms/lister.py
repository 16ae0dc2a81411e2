"""Lists stretches of a feed and holds what was found until it is handed on.

stretches ── all their pages, some at a time ── slices for the ledger ── blobs not yet landed ── units of UNIT_BLOBS
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger

from lake.entries import LISTED, LOST, UNLISTED, Entry, ListedBlob, Listing, Slice, State
from lake.gaps import expiration_of
from lake.tenant import TenantLake, open_tenant
from o365.activity import ActivityClient
from o365.clients import client_for
from o365.errors import ActivityError, ListingChangedError, NotSubscribedError, WindowError
from schemas.contract import time_limit
from schemas.feed import ContentBlob
from schemas.times import TimeRange
from transforms.elements import ALL, GAPS, ContentUnit, Feed
from transforms.grid import tick_of, tick_range, ticks_of
from transforms.tally import count

UNIT_BLOBS = 100
LISTINGS_AT_ONCE = 12
LISTING_TRIES = 4
TOO_OLD = "older than the service keeps"
_EDGE = timedelta(minutes=1)
_LAST_LOOK = timedelta(days=1)
_WHILE_RUNNING = timedelta(minutes=10)
_LOGGER = getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Listed:
    """How listing a stretch went; `at` is when, by the service's clock."""

    stretch: TimeRange
    outcome: str
    at: datetime
    blobs: tuple[ContentBlob, ...] = ()
    cause: str | None = None


class Lister:
    """Lists stretches of one feed and holds what was found until it is handed on.

    `known` are the blobs that the ledger knows and the lake lacks, by their ticks; `failure` is why the feed was given
    up for this time.
    """

    def __init__(self, feed: Feed, clock: Callable[[], datetime] | None = None) -> None:
        self._feed = feed
        self._client: ActivityClient = client_for(feed.connection)
        self.now = clock or self._client.now
        self._lake: TenantLake = open_tenant(feed.lake, feed.connection.tenant_id)
        self._lake.ledger.refresh()
        self.state: State = self._lake.ledger.state
        self.known = self._known_blobs()
        self._seen: set[str] = set()
        self.failure: str | None = None
        self.slices: list[Slice] = []
        self.blobs: list[ContentBlob] = []

    def _known_blobs(self) -> dict[int, list[ContentBlob]]:
        """Gives the blobs that the ledger knows and the lake lacks, by their ticks."""
        found: defaultdict[int, list[ContentBlob]] = defaultdict(list)
        state, now = self.state, self.now()
        with self._lake.ledger.lock:  # others add entries meanwhile
            waiting = list(state.unsettled)
        for content_id in waiting:
            blob = state.blobs[content_id]
            if blob.content_type != self._feed.content_type or (
                blob.kept and blob.expiration and blob.expiration < now
            ):
                continue
            uri = blob.uri or self._client.content_uri(content_id)
            found[tick_of(blob.created)].append(
                ContentBlob(content_id, uri, blob.content_type, blob.created, expiration_of(blob))
            )
        return found

    def list_ticks(self, ticks: Sequence[int]) -> None:
        """Lists those of the ticks that are due, and takes what the ledger knows of all of them."""
        self.list_stretches([t for t in map(tick_range, ticks) if self._is_due(t)])
        for tick in ticks:
            self._take(self.known.pop(tick, ()))
        count(self._feed.run, slices=len(ticks))

    def list_stretches(self, due: Sequence[TimeRange]) -> None:
        """Lists stretches, all at once, and notes how that went. What a feed refuses is not asked again."""
        if due and self.failure is None:
            with ThreadPoolExecutor(len(due), thread_name_prefix="list") as pool:
                for found in pool.map(self._ask, due):
                    for one in found:
                        self._keep(one)
        elif due:
            for stretch in due:
                self._keep(_Listed(stretch, UNLISTED, self.now(), cause=self.failure))

    def _is_due(self, stretch: TimeRange) -> bool:
        if stretch.end <= self._feed.time_range.start:
            return False  # only its known blobs are tried again
        known = self.state.slices.get((self._feed.content_type, stretch.start))
        if known is None or known.outcome != LISTED or self._feed.listing == ALL:
            return True
        if self._feed.listing == GAPS:
            return known.at < stretch.end
        # A closed slice gets a last look before it ages out: blobs have come later than anybody expected.
        return not known.closed or known.at < last_look(stretch) <= self.now()

    def _ask(self, stretch: TimeRange) -> list[_Listed]:
        """Lists a stretch; a listing that fails is noted, and the feed given up for this time."""
        at = self.now()
        try:
            try:
                return [_Listed(stretch, LISTED, at, self._list(stretch))]
            except WindowError:
                # The oldest tick may have aged out in part; what is left of it is still to be had.
                edge = self.now() - time_limit("retention") + _EDGE
                cut = min(max(edge.replace(microsecond=0), stretch.start), stretch.end)
                if cut == stretch.start:
                    raise
                rest = TimeRange(cut, stretch.end)
                listed = [_Listed(rest, LISTED, at, self._list(rest))] if cut < stretch.end else []
                return [*listed, _Listed(TimeRange(stretch.start, cut), LOST, at, cause=TOO_OLD)]
        except ActivityError as error:
            self.failure = error.message
            return [_Listed(stretch, UNLISTED, at, cause=error.message)]

    def _list(self, stretch: TimeRange) -> tuple[ContentBlob, ...]:
        for _ in range(LISTING_TRIES - 1):
            try:
                return self._pages(stretch)
            except NotSubscribedError:
                self._client.ensure_subscribed([self._feed.content_type])
            except ListingChangedError:
                _LOGGER.debug("listing %s again from its first page", stretch)
        return self._pages(stretch)

    def _pages(self, stretch: TimeRange) -> tuple[ContentBlob, ...]:
        feed = self._feed
        return tuple(self._client.list_content(feed.content_type, stretch, deadline_s=feed.deadline_s))

    def _keep(self, found: _Listed) -> None:
        if found.outcome == LOST:
            self._note_lost(found)
            return
        state = self.state
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
        known = self.state.slices.get((self._feed.content_type, found.stretch.start))
        asked = max(found.stretch.start, self._feed.time_range.start)
        if (known is None or known.outcome == UNLISTED) and found.stretch.end - asked > _WHILE_RUNNING:
            self.slices.append(Slice(asked, found.stretch.end, LOST, found.at, cause=TOO_OLD))

    def _take(self, blobs: Iterable[ContentBlob]) -> None:
        """Keeps the blobs that are still to be landed, each once."""
        state = self.state
        fresh = [b for b in blobs if b.content_id not in self._seen and not state.is_settled(b.content_id)]
        self._seen.update(b.content_id for b in fresh)
        self.blobs += fresh
        count(self._feed.run, found=len(fresh))

    def hand_on(self) -> Iterator[ContentUnit]:
        """Records what was listed, then gives it as units, the first to expire first."""
        blobs = sorted(self.blobs, key=lambda b: (b.content_expiration, b.content_created))
        self.record()
        yield from units_of(self._feed, blobs)

    def record(self) -> None:
        """Writes what was listed into the ledger, and holds it no longer."""
        if self.slices:
            self._lake.ledger.append(self._entry)
        self.blobs, self.slices = [], []

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


def units_of(feed: Feed, blobs: Sequence[ContentBlob]) -> Iterator[ContentUnit]:
    """Cuts blobs into units, in their order."""
    for start in range(0, len(blobs), UNIT_BLOBS):
        yield ContentUnit(feed, tuple(blobs[start : start + UNIT_BLOBS]))


def last_look(stretch: TimeRange) -> datetime:
    """Gives when a closed slice is listed once more, before it ages out."""
    return stretch.end + time_limit("retention") - _LAST_LOOK


def oldest_listable(now: datetime) -> datetime:
    """Gives the start of the oldest tick that the service may still list."""
    kept = time_limit("retention") + time_limit("retention_grace")
    return tick_range(ticks_of(TimeRange(now - kept, now)).start + 1).start
