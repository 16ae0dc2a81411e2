"""Times of the feed: which texts are times, and that writing and reading agree."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.times import TimeRange, format_utc, format_wire, from_micros, parse_wire, to_micros

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
instants = st.datetimes(timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("text", "shift"),
    [
        ("2026-11-20T12:00:00", timedelta()),
        ("2026-11-20T12:00:00Z", timedelta()),
        ("2026-11-20t12:00:00z", timedelta()),
        ("2026-11-20 12:00:00", timedelta()),
        ("2026-11-20T12:00", timedelta()),
        ("2026-11-20T12:00Z", timedelta()),
        ("2026-11-20T12:00:00.5", timedelta(microseconds=500_000)),
        ("2026-11-20T12:00:00.000001Z", timedelta(microseconds=1)),
        ("2026-11-20T12:00:00.1234567Z", timedelta(microseconds=123_456)),
        ("2026-11-20T12:00:00.999999999", timedelta(microseconds=999_999)),
        ("2026-11-20T17:30:00+05:30", timedelta()),
        ("2026-11-20T04:00:00-08:00", timedelta()),
        ("2026-11-20T12:00:00-00:00", timedelta()),
        ("2026-11-21T02:00:00.25+14:00", timedelta(microseconds=250_000)),
    ],
)
def test_every_form_of_the_service_is_read_as_utc(text, shift):
    assert parse_wire(text) == NOON + shift


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-20",
        "12:00:00",
        "2026-11-20T12",
        "2026-11-20T12:00:",
        "2026-11-20T12:00:00.",
        "2026-11-20T12:00:00 Z",
        " 2026-11-20T12:00:00",
        "2026-11-20T12:00:00\n",
        "2026-11-20T24:00:00",
        "2026-11-20T12:60:00",
        "2026-11-20T12:00:60",
        "2026-02-29T12:00:00",
        "2026-13-01T12:00:00",
        "2026-00-01T12:00:00",
        "0000-01-01T00:00:00",
        "10000-01-01T00:00:00",
        "-2026-11-20T12:00:00",
        "2026-11-20T12:00:00+0530",
        "2026-11-20T12:00:00+24:00",
        "2026-11-20T12:00:00+05:60",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-00:01",
        "٢٠٢٦-11-20T12:00:00",
        "/Date(1763640000000)/",
        "1763640000",
    ],
)
def test_what_is_no_time_is_not_guessed(text):
    assert parse_wire(text) is None


@given(instants)
def test_a_written_time_is_read_back_to_the_second(time):
    assert parse_wire(format_wire(time)) == time.replace(microsecond=0)
    assert parse_wire(format_utc(time)) == time


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-23 * 60 - 59, 23 * 60 + 59))  # noqa: DTZ001
def test_an_offset_tells_the_same_instant(naive, minutes):
    local = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_wire(local.isoformat()) == local


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,9})?(Z|[+-]\d\d:\d\d)?"))
def test_any_text_is_a_time_or_none(text):
    time = parse_wire(text)
    assert time is None or time.utcoffset() == timedelta()


@given(instants)
def test_microseconds_count_every_instant(time):
    assert from_micros(to_micros(time)) == time
    assert to_micros(time) - to_micros(time - timedelta(seconds=time.second)) == 1_000_000 * time.second


def test_a_range_needs_utc_bounds_in_order():
    with pytest.raises(ValueError, match="UTC"):
        TimeRange(NOON.replace(tzinfo=None), NOON)
    with pytest.raises(ValueError, match="end before"):
        TimeRange(NOON, NOON - timedelta(seconds=1))
    assert TimeRange(NOON, NOON).start == NOON
