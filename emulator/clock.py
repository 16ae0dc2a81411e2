"""The service's clock: real time, or a set time that ticks on from there."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Tells the service's time, in UTC.

    Args:
      now: The time it shows at first; none for real time.
    """

    def __init__(self, now: datetime | None = None):
        self._ahead = timedelta()
        if now is not None:
            self.set(now)

    def now(self) -> datetime:
        """Tells the time, to the millisecond: as fine as the feed writes times, so that all of them compare."""
        now = datetime.now(UTC) + self._ahead
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def set(self, now: datetime) -> None:
        """Makes it `now`; a naive time is a mistake of the caller."""
        if now.tzinfo is None:
            raise ValueError(f"the clock needs a time with a zone, got {now!r}")
        self._ahead = now - datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        """Moves the clock forward, or back where seconds are negative."""
        self._ahead += timedelta(seconds=seconds)
