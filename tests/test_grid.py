"""The restriction of ListContent."""

from datetime import UTC, datetime, timedelta

import pytest
from apache_beam.io.restriction_trackers import OffsetRange
from hypothesis import given
from hypothesis import strategies as st

from o365.connection import Connection
from schemas.times import EPOCH, TimeRange
from transforms.elements import Feed
from transforms.grid import (
    TICK,
    GridProvider,
    GridTracker,
    OffsetRangeCoder,
    StartWatermark,
    tick_range,
    ticks_of,
)

START = datetime(2026, 11, 20, tzinfo=UTC)
RANGES = st.tuples(st.integers(0, 500_000), st.integers(0, 400)).map(lambda p: OffsetRange(p[0], p[0] + p[1]))


def feed(hours: float = 48) -> Feed:
    guid = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
    connection = Connection("contoso", guid, guid, client_secret_env="SECRET")
    return Feed(connection, "Audit.General", TimeRange(START, START + timedelta(hours=hours)), "lake", "run")


def claimed(tracker: GridTracker, at_most: int = 10**9) -> list[int]:
    start, ticks = tracker.current_restriction().start, []
    while len(ticks) < at_most and tracker.try_claim(start + len(ticks)):
        ticks.append(start + len(ticks))
    return ticks


@given(st.timedeltas(timedelta(0), timedelta(days=9999)), st.timedeltas(timedelta(0), timedelta(days=30)))
def test_ticks_cover_the_whole_range_and_touch_it(since: timedelta, length: timedelta) -> None:
    wanted = TimeRange(EPOCH + since, EPOCH + since + length)
    ticks = ticks_of(wanted)
    if length:
        assert tick_range(ticks.start).start <= wanted.start < tick_range(ticks.start).end
        assert tick_range(ticks.stop - 1).start < wanted.end <= tick_range(ticks.stop - 1).end
    else:
        assert ticks.size() in (0, 1)


@given(st.integers(0, 10**6))
def test_ticks_tile_the_time_line(tick: int) -> None:
    assert tick_range(tick).end == tick_range(tick + 1).start == EPOCH + (tick + 1) * TICK


@given(RANGES, st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=8))
def test_any_claims_and_splits_cover_the_range_exactly_once(
    range_: OffsetRange, steps: list[tuple[int, float]]
) -> None:
    done: list[int] = []
    waiting = list(GridProvider().split(feed(), range_))
    while waiting:
        tracker = GridTracker(waiting.pop())
        split_after, fraction = steps.pop() if steps else (0, 0.0)
        tick = tracker.current_restriction().start
        while tracker.try_claim(tick):
            done.append(tick)
            tick += 1
            split_after -= 1
            if split_after == 0 and (split := tracker.try_split(fraction)) is not None:
                waiting.append(split[1])
        tracker.check_done()
    assert sorted(done) == list(range(range_.start, range_.stop))


def test_residual_begins_at_the_next_tick() -> None:
    tracker = GridTracker(OffsetRange(100, 200))
    assert claimed(tracker, 3) == [100, 101, 102]
    primary, residual = tracker.try_split(0)
    assert (primary.stop, residual.start, residual.stop) == (103, 103, 200)


def test_unclaimed_ticks_are_an_error() -> None:
    tracker = GridTracker(OffsetRange(0, 5))
    tracker.try_claim(0)
    with pytest.raises(ValueError, match="has not been claimed"):
        tracker.check_done()


def test_bounded_range_is_split_into_days() -> None:
    assert [r.size() for r in GridProvider().split(feed(), OffsetRange(0, 60))] == [24, 24, 12]


@given(RANGES)
def test_coder_round_trips(range_: OffsetRange) -> None:
    coder = OffsetRangeCoder()
    assert coder.decode(coder.encode(range_)) == range_


def test_bytes_of_a_saved_restriction_do_not_change() -> None:
    assert OffsetRangeCoder().encode(OffsetRange(498_000, 498_024)).hex() == "d0b21ee8b21e"


def test_size_counts_only_ticks_that_are_due() -> None:
    provider = GridProvider()
    now = (datetime.now(UTC) - EPOCH) // TICK
    assert provider.restriction_size(feed(), OffsetRange(now - 9, now + 100)) == 10
    assert provider.restriction_size(feed(), OffsetRange(now + 100, now + 200)) == 0


def test_watermark_starts_with_the_restriction() -> None:
    provider = StartWatermark()
    state = provider.initial_estimator_state(feed(), GridProvider().initial_restriction(feed()))
    assert state.to_utc_datetime(has_tz=True) == START
    assert provider.estimator_state_coder().decode(provider.estimator_state_coder().encode(state)) == state
