"""What this process remembers of a feed that it follows: when a slice was listed, when a blob was handed on.

The ledger holds all that counts. Without this memory, after a restart say, some of it is looked at once more.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from lake.entries import LOST, UNLISTED, SliceState, State
from schemas.feed import ContentBlob
from schemas.times import TimeRange
from transforms.elements import Feed
from transforms.lister import last_look

FRESH = timedelta(hours=2)
"""Slices that ended less than this ago are listed at every poll."""
LOOKS_IN_A_LIFE = 20
"""An older open slice is listed again when this part of its age has passed."""
IN_FLIGHT = timedelta(minutes=10)
"""How long a blob that was handed on may be without an outcome, where landing goes on beside the polls."""
MOST_OLDER = 200
"""Blobs of older slices that are handed on and not landed yet, at most, so that fresh ones need not wait for them."""
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)


@dataclass(slots=True)
class _Tries:
    count: int
    last: datetime


@dataclass(slots=True)
class Recall:
    """The memory of one feed. While the service refuses it, `failure` says why, and it rests until `rest_until`."""

    looked: dict[datetime, datetime] = field(default_factory=dict)
    tries: dict[str, _Tries] = field(default_factory=dict)
    refusals: int = 0
    failure: str | None = None
    rest_until: datetime | None = None
    aged_up_to: datetime | None = None

    def is_due(self, stretch: TimeRange, known: SliceState | None, now: datetime) -> bool:
        """Tells whether a slice is to be listed now."""
        if known is None or known.outcome == UNLISTED:
            return True
        if known.outcome == LOST:
            return False
        last = self.looked.get(stretch.start, known.at)
        if now < last:
            return True  # a clock was set back
        if known.closed:
            return last < last_look(stretch) <= now
        age = now - stretch.end
        return age < FRESH or now - last >= age / LOOKS_IN_A_LIFE

    def choose(
        self, blobs: Iterable[ContentBlob], state: State, now: datetime, in_flight: timedelta
    ) -> list[ContentBlob]:
        """Picks the blobs to hand on now: the fresh ones, then the first of the older ones to expire."""
        flying, fresh, older = 0, [], []
        for blob in sorted(blobs, key=lambda b: (b.content_expiration, b.content_created)):
            known = state.blobs.get(blob.content_id)
            is_pending = known is None or known.status is None
            if now < self._next_try(blob.content_id, now, in_flight if is_pending else None):
                flying += is_pending
            elif blob.content_created >= now - FRESH:
                fresh.append(blob)
            else:
                older.append(blob)
        chosen = [*fresh, *older[: max(0, MOST_OLDER - flying)]]
        for blob in chosen:
            before = self.tries.get(blob.content_id)
            self.tries[blob.content_id] = _Tries(before.count + 1 if before else 1, now)
        return chosen

    def _next_try(self, content_id: str, now: datetime, wait: timedelta | None) -> datetime:
        """Tells when a blob is handed on again: after `wait`, or after more with every failure."""
        tries = self.tries.get(content_id)
        if tries is None or now < tries.last:
            return now
        if wait is None:
            wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(tries.count - 1, 10))
        return tries.last + wait

    def note_listing(self, failure: str | None, now: datetime, interval: timedelta) -> None:
        """Notes how a poll went: a feed that is refused rests for a while, longer each time."""
        self.failure = failure
        self.refusals = self.refusals + 1 if failure else 0
        rest = min(_LONGEST_WAIT / 4, interval * 2 ** min(self.refusals, 10))
        self.rest_until = now + rest if failure else None

    def is_resting(self, now: datetime) -> bool:
        """Tells whether the feed is left alone for now."""
        if self.rest_until is None:
            return False
        # A rest that seems to be longer than any is one from before a clock was set back.
        return now < self.rest_until <= now + _LONGEST_WAIT

    def forget(self, state: State, oldest: datetime) -> None:
        """Drops what is settled or has aged out."""
        self.tries = {i: t for i, t in self.tries.items() if not state.is_settled(i) and i in state.blobs}
        self.looked = {start: at for start, at in self.looked.items() if start >= oldest}


_RECALLS: dict[tuple[str, str, str], Recall] = {}
_LOCK = Lock()


def recall_of(feed: Feed) -> Recall:
    """Gives this process's memory of a feed."""
    with _LOCK:
        return _RECALLS.setdefault((feed.lake, feed.connection.tenant_id, feed.content_type), Recall())
