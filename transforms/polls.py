"""The restriction of `FollowContent`: positions of a grid of polls, and the watermark of a followed feed.

A position is a moment to look, not a piece of the data: polls that were missed are skipped, because the ledger says
what is missing.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from apache_beam import coders
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.utils.timestamp import Timestamp

from lake.entries import LOST, State
from schemas.times import EPOCH
from transforms.elements import Follow
from transforms.grid import TICK, GridTracker, OffsetRangeCoder, tick_of, tick_range

OPEN = 2**40
"""A stop from here on means: no end."""


def poll_of(time: datetime, interval: timedelta) -> int:
    """Gives the poll that is due at an instant."""
    return (time - EPOCH) // interval


def poll_time(poll: int, interval: timedelta) -> datetime:
    """Gives the instant from which on a poll is due."""
    return EPOCH + poll * interval


class PollTracker(GridTracker):
    """Claims polls in order, some left out. An open range defers its rest, and is never split at a fraction."""

    def is_bounded(self) -> bool:
        """Tells whether the range ends."""
        return bool(self._range.stop < OPEN)

    def try_split(self, fraction_of_remainder: float) -> Any:
        """Gives the rest away; a fraction of an open range would lie thousands of years ahead."""
        if fraction_of_remainder:
            return None
        return super().try_split(fraction_of_remainder)  # type: ignore[no-untyped-call]


class PollProvider(RestrictionProvider):
    """Makes and sizes the restriction of a followed feed. It is never split: one poll looks at all of the feed."""

    def initial_restriction(self, element: Follow) -> OffsetRange:
        """Covers the polls that are asked for."""
        return OffsetRange(element.start, element.stop)

    def create_tracker(self, restriction: OffsetRange) -> PollTracker:
        """Tracks a restriction."""
        return PollTracker(restriction)

    def restriction_coder(self) -> OffsetRangeCoder:
        """Pins the bytes of a saved restriction."""
        return OffsetRangeCoder()

    def restriction_size(self, element: Follow, restriction: OffsetRange) -> int:
        """Tells whether a poll is due: 1 or 0."""
        return int(
            restriction.start < restriction.stop and restriction.start <= poll_of(datetime.now(UTC), element.interval)
        )

    def split(self, element: Follow, restriction: OffsetRange) -> Iterator[OffsetRange]:
        """Leaves it whole."""
        yield restriction

    def truncate(self, element: Follow, restriction: OffsetRange) -> OffsetRange | None:
        """Ends an open range when the job drains; a bounded one is finished."""
        return None if restriction.stop >= OPEN else restriction


class FollowWatermark(WatermarkEstimatorProvider):
    """A watermark in available time that starts where the feed does and is raised by hand, poll by poll."""

    def initial_estimator_state(self, element: Follow, restriction: OffsetRange) -> Timestamp:
        """Starts where the feed does; the default would pin the output at the minimum."""
        return timestamp(tick_range(tick_of(element.feed.time_range.start)).start)

    def create_watermark_estimator(self, state: Timestamp) -> ManualWatermarkEstimator:
        """Tracks a watermark."""
        return ManualWatermarkEstimator(state)

    def estimator_state_coder(self) -> coders.Coder:
        """Pins the bytes of a saved watermark."""
        return coders.TimestampCoder()


def timestamp(time: datetime) -> Timestamp:
    """Gives an instant as Beam does, to the microsecond."""
    return Timestamp(micros=(time - EPOCH) // timedelta(microseconds=1))


def settled_up_to(state: State, content_type: str, start: datetime, until: datetime) -> datetime:
    """Gives the instant up to which nothing more is expected of a feed: the start of its oldest slice that is open.

    Args:
      state: What the ledger says.
      content_type: The feed.
      start: Where to begin; what lies before it is not looked at.
      until: The end of the last slice that may be over.
    """
    tick = tick_of(start)
    while tick_range(tick).end <= until:
        known = state.slices.get((content_type, tick_range(tick).start))
        if known is None or not (known.closed or known.outcome == LOST):
            break
        tick += 1
    return max(start, EPOCH + tick * TICK)
