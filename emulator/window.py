"""Time windows of the listings, and the page tokens that go with them (contract section 7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from re import compile as regex

from emulator.content import stamp
from emulator.errors import af
from emulator.tenant import State
from schemas.contract import time_limit
from schemas.times import TimeRange, parse_wire

_DAY = regex(r"\d{4}-\d\d-\d\d")
_TOKEN = regex(r"(\d{23})\$(\d{17})\d{6}\$\w+")


@dataclass(frozen=True, slots=True)
class Page:
    """What a listing asks for: a window, and the order that the page begins behind."""

    window: TimeRange
    after: str


def parse_time(text: str) -> datetime | None:
    """Reads a request's time: a day, minutes, seconds or any fraction of them; no zone means UTC."""
    return parse_wire(f"{text}T00:00" if _DAY.fullmatch(text) else text)


def page_of(params: Mapping[str, str], state: State) -> Page:
    """Reads window and page token of a listing.

    Raises:
      Refusal: AF20002, AF20031, or AF20055 where the window breaks a rule.
    """
    after, token_start = _token(params["nextpage"]) if params.get("nextpage") else ("", None)
    start, end = _time(params, "startTime"), _time(params, "endTime")
    if start is None and token_start is not None:
        start = token_start
    now = state.clock.now().replace(microsecond=0)
    if start is None and end is None:
        return Page(TimeRange(now - time_limit("max_window"), now), after)
    if start is None or end is None or not _allowed(start, end, now, state):
        raise af(state.window_code, start=params.get("starttime", ""), end=params.get("endtime", ""))
    return Page(TimeRange(start, end), after)


def next_page_uri(address: str, content_type: str, window: TimeRange, last: str, datacentre: str) -> str:
    """Writes the `NextPageUri` as the service does: lower-case names, seven digits, no PublisherIdentifier."""
    return (
        f"{address}?contenttype={content_type}&endtime={_seven_digits(window.end)}"
        f"&starttime={_seven_digits(window.start)}&nextpage={last}${stamp(window.start)}000000${datacentre}"
    )


def _token(text: str) -> tuple[str, datetime]:
    match = _TOKEN.fullmatch(text)
    start = parse_stamp(match[2]) if match else None
    if match is None or start is None or parse_stamp(match[1][:17]) is None:
        raise af("AF20031", token=text)
    return match[1], start


def parse_stamp(text: str) -> datetime | None:
    """Is the inverse of `content.stamp`, None where the digits are no time."""
    try:
        return datetime.strptime(text + "000", "%Y%m%d%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def _time(params: Mapping[str, str], name: str) -> datetime | None:
    text = params.get(name.lower())
    if not text:
        return None
    time = parse_time(text)
    if time is None:
        raise af("AF20002", name=name, expected="datetime")
    return time


def _allowed(start: datetime, end: datetime, now: datetime, state: State) -> bool:
    widest = time_limit("max_window")
    oldest = now - (time_limit("retention") + time_limit("retention_grace"))
    narrow = end - start < widest if state.strict_day else end - start <= widest
    return start < end and narrow and start >= oldest


def _seven_digits(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"
