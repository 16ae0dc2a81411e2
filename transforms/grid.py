"""The restriction of `ListContent`: ticks of a fixed UTC grid over available time.

Every run asks the service for the same stretches, because it may cut a blob differently for another start. A position
is a tick's index, so a residual begins exactly where the primary ends.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from apache_beam import coders
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.utils.timestamp import Timestamp

from schemas.times import EPOCH, TimeRange
from transforms.elements import Feed

TICK = timedelta(hours=1)
TICKS_PER_SPLIT = 24


def tick_range(tick: int) -> TimeRange:
    """Gives the stretch of available time that a tick stands for."""
    return TimeRange(EPOCH + tick * TICK, EPOCH + (tick + 1) * TICK)


def tick_of(time: datetime) -> int:
    """Gives the tick that an instant lies in."""
    return (time - EPOCH) // TICK


def ticks_of(time_range: TimeRange) -> OffsetRange:
    """Gives the ticks that touch a range."""
    start = tick_of(time_range.start)
    return OffsetRange(start, max(start, -((EPOCH - time_range.end) // TICK)))


class GridTracker(OffsetRestrictionTracker):
    """Claims positions in order."""

    def check_done(self) -> bool:
        """Raises ValueError where a position was left unclaimed."""
        super().check_done()  # type: ignore[no-untyped-call]
        return True


class OffsetRangeCoder(coders.Coder):
    """Encodes a range as two varints, so that saved positions outlive changes of this code."""

    _parts = coders.TupleCoder((coders.VarIntCoder(), coders.VarIntCoder()))

    def encode(self, value: OffsetRange) -> bytes:
        """Encodes a range."""
        return bytes(self._parts.encode((value.start, value.stop)))

    def decode(self, encoded: bytes) -> OffsetRange:
        """Decodes a range."""
        return OffsetRange(*self._parts.decode(encoded))

    def is_deterministic(self) -> bool:
        """Equal ranges have equal bytes."""
        return True


class GridProvider(RestrictionProvider):
    """Makes, splits and sizes the restriction of a feed."""

    def initial_restriction(self, element: Feed) -> OffsetRange:
        """Covers the feed's range, and the blobs before it that are to be tried again, to the borders of the grid."""
        start = min(element.time_range.start, element.retry_from or element.time_range.start)
        return ticks_of(TimeRange(start, element.time_range.end))

    def create_tracker(self, restriction: OffsetRange) -> GridTracker:
        """Tracks a restriction."""
        return GridTracker(restriction)

    def restriction_coder(self) -> OffsetRangeCoder:
        """Pins the bytes of a saved restriction."""
        return OffsetRangeCoder()

    def restriction_size(self, element: Feed, restriction: OffsetRange) -> int:
        """Counts the ticks that can be listed by now."""
        due = (datetime.now(UTC) - EPOCH) // TICK + 1
        return max(0, int(min(restriction.stop, due) - restriction.start))

    def split(self, element: Feed, restriction: OffsetRange) -> Iterator[OffsetRange]:
        """Splits a range into days."""
        yield from restriction.split(TICKS_PER_SPLIT)


class StartWatermark(WatermarkEstimatorProvider):
    """A watermark in available time that starts at the restriction and is raised by hand, tick by tick."""

    def initial_estimator_state(self, element: Feed, restriction: OffsetRange) -> Timestamp:
        """Starts where the restriction does; the default would pin the output at the minimum."""
        return Timestamp.of(tick_range(restriction.start).start.timestamp())

    def create_watermark_estimator(self, state: Timestamp) -> ManualWatermarkEstimator:
        """Tracks a watermark."""
        return ManualWatermarkEstimator(state)

    def estimator_state_coder(self) -> coders.Coder:
        """Pins the bytes of a saved watermark."""
        return coders.TimestampCoder()
