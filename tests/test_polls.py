"""The restriction and the watermark of a followed feed, and what a process remembers of it."""

from datetime import UTC, datetime, timedelta

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import given
from hypothesis import strategies as st

from lake.entries import LISTED, LOST, Landing, Listing, Slice, SliceState, State
from o365.connection import Connection
from schemas.feed import ContentBlob
from schemas.times import EPOCH, TimeRange
from transforms.elements import Feed, Follow
from transforms.follow_content import FollowContent
from transforms.grid import TICK, tick_of, tick_range
from transforms.polls import (
    OPEN,
    FollowWatermark,
    PollProvider,
    PollTracker,
    poll_of,
    poll_time,
    settled_up_to,
    timestamp,
)
from transforms.recall import MOST_OLDER, Recall

NOW = datetime(2026, 11, 24, 12, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
HALF_MINUTE = timedelta(seconds=30)
TYPE = "Audit.General"
INSTANTS = st.integers(0, 70 * 365 * 86400 * 10**6).map(lambda micros: EPOCH + timedelta(microseconds=micros))


def follow(start: datetime = NOW - 48 * HOUR) -> Follow:
    guid = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
    connection = Connection("contoso", guid, guid, client_secret_env="SECRET")
    feed = Feed(connection, TYPE, TimeRange(start, NOW), "lake", "run")
    return Follow(feed, HALF_MINUTE, poll_of(NOW, HALF_MINUTE), OPEN)


def state_of(*slices: Slice) -> State:
    state = State()
    state.apply(Listing("run", NOW, TYPE, list(slices), []))
    return state


def blob(number: int, created: datetime) -> ContentBlob:
    return ContentBlob(f"id-{number}", "https://localhost/x", TYPE, created, created + timedelta(days=7))


@given(INSTANTS, st.timedeltas(timedelta(seconds=1), HOUR))
def test_poll_that_is_due_began_less_than_an_interval_ago(time: datetime, interval: timedelta) -> None:
    poll = poll_of(time, interval)
    assert poll_time(poll, interval) <= time < poll_time(poll + 1, interval)


def test_open_range_defers_but_never_splits_at_a_fraction() -> None:
    tracker = PollTracker(OffsetRange(0, OPEN))
    tracker.try_claim(7)
    assert not tracker.is_bounded()
    assert tracker.try_split(0.5) is None
    primary, residual = tracker.try_split(0)
    assert (primary.stop, residual.start, residual.stop) == (8, 8, OPEN)
    assert PollTracker(OffsetRange(0, 9)).is_bounded()


def test_open_range_is_not_split_and_ends_when_the_job_drains() -> None:
    provider, range_ = PollProvider(), OffsetRange(0, OPEN)
    assert list(provider.split(follow(), range_)) == [range_]
    assert provider.truncate(follow(), range_) is None
    assert provider.truncate(follow(), OffsetRange(0, 5)) == OffsetRange(0, 5)


def test_idle_restriction_has_no_size() -> None:
    provider, now = PollProvider(), poll_of(datetime.now(UTC), HALF_MINUTE)
    assert provider.restriction_size(follow(), OffsetRange(now - 5, OPEN)) == 1
    assert provider.restriction_size(follow(), OffsetRange(now + 100, OPEN)) == 0


def test_bytes_of_saved_state_do_not_change() -> None:
    provider, watermark = PollProvider(), FollowWatermark()
    restriction = provider.initial_restriction(follow())
    assert provider.restriction_coder().encode(restriction).hex() == "8880c51c808080808020"
    state = watermark.initial_estimator_state(follow(), restriction)
    assert state.to_utc_datetime(has_tz=True) == tick_range(tick_of(NOW - 48 * HOUR)).start
    coder = watermark.estimator_state_coder()
    assert coder.encode(state).hex() == "800001a20320a200"
    assert coder.decode(coder.encode(state)) == state


def test_only_the_open_form_is_unbounded() -> None:
    for is_open in (True, False):
        p = beam.Pipeline("FnApiRunner", options=PipelineOptions([]))
        units = p | beam.Create([follow()]) | FollowContent(is_open=is_open)
        assert units.is_bounded is not is_open


SLICES = st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.sampled_from([LISTED, LOST])), max_size=70)


@given(SLICES, st.integers(0, 60), st.integers(0, 3600 * 60))
def test_watermark_passes_no_slice_that_may_still_be_listed(
    drawn: list[tuple[int, bool, str]], start: int, until_s: int
) -> None:
    first = tick_of(NOW) - 60
    slices = [
        Slice(tick_range(first + n).start, tick_range(first + n).end, outcome, NOW, closed=closed and outcome == LISTED)
        for n, closed, outcome in drawn
    ]
    state, begin = state_of(*slices), tick_range(first + start).start
    until = tick_range(first).start + timedelta(seconds=until_s)
    reached = settled_up_to(state, TYPE, begin, until)
    assert reached >= begin
    assert reached == begin or reached <= until
    for tick in range(tick_of(begin), tick_of(reached)):
        known = state.slices[TYPE, tick_range(tick).start]
        assert known.closed or known.outcome == LOST


@given(SLICES, SLICES, st.integers(0, 3600 * 60))
def test_watermark_does_not_fall_while_slices_close(
    before: list[tuple[int, bool, str]], after: list[tuple[int, bool, str]], until_s: int
) -> None:
    first = tick_of(NOW) - 60
    begin = tick_range(first).start
    until = begin + timedelta(seconds=until_s)
    state, reached = State(), begin
    for drawn in (before, after):
        slices = [
            Slice(tick_range(first + n).start, tick_range(first + n).end, o, NOW, closed=True) for n, _, o in drawn
        ]
        state.apply(Listing("run", NOW, TYPE, slices, []))
        later = settled_up_to(state, TYPE, reached, until)
        assert later >= reached
        reached = later


def known(end: datetime, at: datetime, **more: bool) -> SliceState:
    return SliceState(TYPE, end - TICK, end, LISTED, at, **more)


def test_fresh_slices_are_due_at_every_poll_and_older_ones_the_less_often_the_older_they_are() -> None:
    recall = Recall()
    for age, interval in ((HOUR, timedelta(0)), (20 * HOUR, HOUR), (40 * HOUR, 2 * HOUR)):
        end = NOW - age
        stretch = TimeRange(end - TICK, end)
        assert recall.is_due(stretch, known(end, NOW - interval), NOW)
        if interval:
            assert not recall.is_due(stretch, known(end, NOW - interval * 0.9), NOW)


def test_two_days_of_open_slices_cost_few_listings_a_poll() -> None:
    recall, listings, polls = Recall(), 0, 240
    slices = {n: known(tick_range(tick_of(NOW) - n).end, NOW) for n in range(49)}
    for poll in range(polls):
        now = NOW + poll * HALF_MINUTE
        for one in slices.values():
            stretch = TimeRange(one.start, one.end)
            if recall.is_due(stretch, one, now):
                listings += 1
                recall.looked[one.start] = now
    assert listings / polls < 4


def test_closed_slice_gets_a_last_look_and_a_lost_one_none() -> None:
    recall, end = Recall(), NOW - timedelta(days=6, hours=1)
    stretch = TimeRange(end - TICK, end)
    assert recall.is_due(stretch, known(end, end + 48 * HOUR, closed=True), NOW)
    assert not recall.is_due(stretch, known(end, NOW - HOUR, closed=True), NOW)
    assert not recall.is_due(stretch, SliceState(TYPE, stretch.start, end, LOST, NOW), NOW)
    assert recall.is_due(stretch, None, NOW)


def test_clock_that_was_set_back_makes_slices_due_at_once() -> None:
    recall, end = Recall(), NOW - 30 * HOUR
    stretch = TimeRange(end - TICK, end)
    recall.looked[stretch.start] = NOW + HOUR
    assert recall.is_due(stretch, known(end, NOW + HOUR), NOW)


def test_blob_that_failed_is_tried_again_after_ever_longer_waits() -> None:
    recall, state, one = Recall(), state_of(), blob(1, NOW - 3 * HOUR)
    state.apply(Landing("run", NOW, TYPE, [], [], []))
    state._blob(one.content_id, TYPE, one.content_created).status = "failed"
    tried = []
    for minute in range(120):
        now = NOW + timedelta(minutes=minute)
        if recall.choose([one], state, now, timedelta(0)):
            tried.append(minute)
    assert tried == [0, 1, 3, 7, 15, 31, 63]


def test_blob_in_flight_is_not_handed_on_again_until_it_must_be_lost() -> None:
    recall, state, one = Recall(), state_of(), blob(1, NOW)
    assert recall.choose([one], state, NOW, timedelta(minutes=10)) == [one]
    assert recall.choose([one], state, NOW + timedelta(minutes=9), timedelta(minutes=10)) == []
    assert recall.choose([one], state, NOW + timedelta(minutes=10), timedelta(minutes=10)) == [one]
    assert recall.choose([one], state, NOW + timedelta(minutes=11), timedelta(0)) == [one]


def test_fresh_blobs_do_not_wait_for_a_backlog() -> None:
    recall, state = Recall(), state_of()
    old = [blob(n, NOW - 40 * HOUR + timedelta(seconds=n)) for n in range(3 * MOST_OLDER)]
    fresh = [blob(-n, NOW - n * HALF_MINUTE) for n in range(1, 4)]
    chosen = recall.choose([*old, *fresh], state, NOW, timedelta(minutes=10))
    assert set(chosen[:3]) == set(fresh)
    assert chosen[3:] == old[:MOST_OLDER], "the first to expire"
    assert recall.choose(old, state, NOW + HALF_MINUTE, timedelta(minutes=10)) == [], "as many as are in flight"


def test_refused_feed_rests_longer_each_time_and_a_clock_set_back_does_not_make_it_rest_for_hours() -> None:
    recall, rests = Recall(), []
    for _ in range(8):
        recall.note_listing("refused", NOW, HALF_MINUTE)
        assert recall.rest_until is not None
        rests.append((recall.rest_until - NOW).total_seconds())
    assert rests == [60, 120, 240, 480, 900, 900, 900, 900]
    assert recall.is_resting(NOW + timedelta(minutes=14))
    assert not recall.is_resting(NOW + timedelta(minutes=15))
    assert not recall.is_resting(NOW - 3 * HOUR)
    recall.note_listing(None, NOW, HALF_MINUTE)
    assert not recall.is_resting(NOW)


@given(INSTANTS)
def test_beam_keeps_instants_to_the_microsecond(time: datetime) -> None:
    assert EPOCH + timedelta(microseconds=timestamp(time).micros) == time
