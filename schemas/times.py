"""Times of the feed: UTC instants, half-open ranges and the ways records and requests write them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from re import compile as regex

_WIRE = regex(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|z|[+-](?:[01]\d|2[0-3]):[0-5]\d)?")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """A half-open stretch `[start, end)` of UTC time.

    Raises:
      ValueError: A bound is naive, or end lies before start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"a range needs UTC bounds, got {self.start!r} and {self.end!r}")
        if self.end < self.start:
            raise ValueError(f"a range must not end before it starts: {self.start!r} to {self.end!r}")


def parse_wire(text: str) -> datetime | None:
    """Reads a time as the service writes it, or None where it is none.

    No zone means UTC. Digits past microseconds are cut. The service writes `2026-11-20T08:15:31`; a blank for the T, a
    zone, fractions and missing seconds are read too. Source: Management Activity API schema, `CreationTime`.
    """
    match = _WIRE.fullmatch(text)
    if match is None or not text.isascii():
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    microsecond = int((match[7] or "0").ljust(6, "0")[:6])
    try:
        naive = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)
        if match[8] in (None, "Z", "z"):
            return naive
        sign = -1 if match[8][0] == "-" else 1
        return naive - sign * timedelta(hours=int(match[8][1:3]), minutes=int(match[8][4:6]))
    except (ValueError, OverflowError):
        return None


def format_wire(time: datetime) -> str:
    """Writes a time as records and requests do: whole seconds, no zone, UTC."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def format_utc(time: datetime) -> str:
    """Writes a time for people and files: ISO 8601 with Z, with fractions only where there are any."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_micros(time: datetime) -> int:
    """Counts microseconds since 1970-01-01 UTC."""
    return (time - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Is the inverse of `to_micros`."""
    return EPOCH + timedelta(microseconds=micros)
