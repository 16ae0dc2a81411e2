"""What a backfill asks for."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from lake.entries import LISTED, LOST, Listing, Slice, State
from o365.connection import Connection
from pipeline.errors import UsageError
from pipeline.plan import Span, _not_covered, by_age, first_asked, parse_span
from schemas.times import TimeRange
from transforms.elements import Feed

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
FEED = "Audit.General"
TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"


def hour(back: float) -> datetime:
    return NOW - timedelta(hours=back)


def state(*slices: tuple[float, float, str]) -> State:
    """A state that knows slices, each as hours back from now."""
    known = State()
    known.apply(Listing("run", NOW, FEED, [Slice(hour(a), hour(b), outcome, NOW) for a, b, outcome in slices], []))
    return known


def test_auto_takes_all_that_is_kept_on_an_empty_lake() -> None:
    assert first_asked(State(), FEED, NOW) == NOW - timedelta(days=7)


def test_auto_does_not_go_back_behind_what_was_ever_asked_for() -> None:
    assert first_asked(state((3, 1, LISTED)), FEED, NOW) == hour(3)


def test_only_listed_slices_cover_a_range_that_is_asked_for() -> None:
    known = state((10, 8, LISTED), (8, 6, LOST), (6, 4, LISTED))
    found = _not_covered(known, FEED, TimeRange(hour(12), hour(3)), Span(hour(12), NOW))
    assert found == [TimeRange(hour(12), hour(10)), TimeRange(hour(8), hour(6)), TimeRange(hour(4), hour(3))]


def test_auto_does_not_tell_again_of_what_was_lost_before() -> None:
    known = state((10, 8, LISTED), (8, 6, LOST), (6, 4, LISTED))
    found = _not_covered(known, FEED, TimeRange(hour(10), hour(3)), Span(None, NOW))
    assert found == [TimeRange(hour(4), hour(3))]


def test_feeds_are_cut_into_days_and_the_oldest_days_of_all_come_first() -> None:
    connection = Connection("contoso", TENANT, TENANT, client_secret_env="S")
    retry = hour(200)
    feeds = [
        Feed(connection, "Audit.General", TimeRange(hour(50), NOW), "lake", "run", retry_from=retry),
        Feed(connection, "DLP.All", TimeRange(hour(26), NOW), "lake", "run"),
    ]
    days = by_age(feeds)
    assert [d.content_type for d in days] == ["Audit.General", "Audit.General", "DLP.All", "Audit.General", "DLP.All"]
    for feed in feeds:
        own = [d for d in days if d.content_type == feed.content_type]
        assert own[0].time_range.start == feed.time_range.start
        assert own[-1].time_range.end == NOW
        assert all(a.time_range.end == b.time_range.start for a, b in pairwise(own))
        assert [d.retry_from for d in own] == [feed.retry_from] + [None] * (len(own) - 1)


def test_feed_with_nothing_to_list_still_tries_its_blobs_again() -> None:
    connection = Connection("contoso", TENANT, TENANT, client_secret_env="S")
    feed = Feed(connection, "DLP.All", TimeRange(NOW, NOW), "lake", "run", retry_from=hour(3))
    assert by_age([feed]) == [feed]


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
