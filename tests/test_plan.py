"""What a backfill asks for."""

from datetime import UTC, datetime, timedelta

import pytest

from lake.entries import LISTED, LOST, UNLISTED, Listing, Slice, State
from pipeline.errors import UsageError
from pipeline.plan import _left_off, parse_span, uncovered
from schemas.times import TimeRange

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
FEED = "Audit.General"


def hour(back: float) -> datetime:
    return NOW - timedelta(hours=back)


def state(*slices: tuple[float, float, str]) -> State:
    """A state that knows slices, each as hours back from now."""
    known = State()
    known.apply(Listing("run", NOW, FEED, [Slice(hour(a), hour(b), outcome) for a, b, outcome in slices], []))
    return known


def test_auto_takes_all_that_is_kept_on_an_empty_lake() -> None:
    assert _left_off(State(), FEED, NOW) == NOW - timedelta(days=7)


def test_auto_goes_back_behind_the_frontier_because_blobs_come_late() -> None:
    assert _left_off(state((100, 50, LISTED), (50, 1, LISTED)), FEED, NOW) == hour(49)


def test_auto_does_not_go_back_behind_what_was_ever_asked_for() -> None:
    assert _left_off(state((3, 1, LISTED)), FEED, NOW) == hour(3)


def test_auto_comes_back_to_a_slice_that_could_not_be_listed() -> None:
    assert _left_off(state((100, 80, LISTED), (80, 70, UNLISTED), (70, 1, LISTED)), FEED, NOW) == hour(100)


def test_only_listed_slices_cover_a_range() -> None:
    known = state((10, 8, LISTED), (8, 6, LOST), (6, 4, LISTED))
    found = uncovered(known, FEED, TimeRange(hour(12), hour(3)))
    assert found == [TimeRange(hour(12), hour(10)), TimeRange(hour(8), hour(6)), TimeRange(hour(4), hour(3))]
    assert uncovered(known, "DLP.All", TimeRange(hour(2), hour(1))) == [TimeRange(hour(2), hour(1))]


def test_span_is_read_and_auto_has_no_start() -> None:
    assert parse_span("auto", "now", NOW).start is None
    assert parse_span("-7d", "-1d", NOW).end == NOW - timedelta(days=1)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [("-1d", "-2d", "is not before --end"), ("now", "now", "is not before"), ("-1d", "2030-01-01", "in the future")],
)
def test_span_that_makes_no_sense_is_refused(start: str, end: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_span(start, end, NOW)
