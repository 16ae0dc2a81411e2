"""Times as people give them to a command: ISO 8601, `-7d`, `now`, `auto`."""

from datetime import UTC, datetime, timedelta
from re import compile as regex

from pipeline.errors import UsageError

_BACK = regex(r"-(\d{1,6})(m|h|d)")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_FORMS = "expected ISO 8601 such as 2026-11-20T08:00:00Z or 2026-11-20, a time back such as -7d, -12h or -90m, or now"


def parse_when(text: str, now: datetime, option: str) -> datetime:
    """Reads a time; one without a zone is UTC.

    Raises:
      UsageError: The text is no time.
    """
    if text == "now":
        return now
    if back := _BACK.fullmatch(text):
        try:
            return now - int(back[1]) * _UNITS[back[2]]
        except OverflowError as error:
            raise UsageError(f"{option} {text!r} lies before all time: {_FORMS}") from error
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is no time: {_FORMS}") from error
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f"{option} {text!r} lies outside all time: {_FORMS}") from error
