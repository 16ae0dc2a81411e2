"""Gaps: every stretch of available time that is not proven complete is named, with its cause, and nothing else is."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.entries import (
    EXPIRED,
    FAILED,
    LANDED,
    LISTED,
    LOST,
    REJECTED,
    UNLISTED,
    BlobOutcome,
    Landing,
    ListedBlob,
    Listing,
    Slice,
    State,
)
from lake.gaps import Gap, describe, find_gaps, gaps, to_json, without
from lake.storage import LakeError
from schemas.times import TimeRange
from tests.lake_records import FEED, HOUR, START, TENANT, blob, body, land, list_blobs, new_lake, record, storage_at

NOW = START + 10 * HOUR


def hour(number: float) -> datetime:
    return START + number * HOUR


def state_of(*slices: tuple[float, float, str], at: datetime = NOW, cause: str | None = None) -> State:
    state = State()
    told = [Slice(hour(a), hour(b), outcome, at, cause=cause) for a, b, outcome in slices]
    state.apply(Listing("run", at, FEED, told, []))
    return state


def found(state: State, now: datetime = NOW) -> list[tuple[float, float, str]]:
    return [((g.start - START) / HOUR, (g.end - START) / HOUR, g.kind) for g in find_gaps(TENANT, state, now)]


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        ([(0, 10, LISTED)], []),
        ([(0, 8.5, LISTED)], []),
        ([(0, 7, LISTED)], [(7, 10, "never listed")]),
        ([(0, 2, LISTED), (4, 10, LISTED)], [(2, 4, "never listed")]),
        ([(0, 2, LISTED), (2, 3, UNLISTED), (3, 10, LISTED)], [(2, 3, "not listed")]),
        ([(0, 2, LISTED), (2, 3, LOST), (3, 10, LISTED)], [(2, 3, "lost")]),
        ([(0, 4, UNLISTED), (1, 3, LISTED), (4, 10, LISTED)], [(0, 1, "not listed"), (3, 4, "not listed")]),
    ],
)
def test_what_no_listing_covers_is_a_gap(
    slices: list[tuple[float, float, str]], expected: list[tuple[float, float, str]]
) -> None:
    assert found(state_of(*slices)) == expected


def test_slice_is_known_only_up_to_its_listing() -> None:
    assert found(state_of((0, 1, LISTED), at=hour(0.5)), hour(2.75)) == [(0.5, 2.75, "never listed")]


def test_gap_says_until_when_it_can_be_healed_and_is_cut_where_the_memory_ends() -> None:
    state = state_of((0, 2, UNLISTED), (2, 200, LISTED), at=hour(300), cause="HTTP 500")
    (one,) = find_gaps(TENANT, state, hour(10))
    assert (one.until, one.cause) == (hour(7 * 24), "HTTP 500")
    rest, gone = find_gaps(TENANT, state, hour(7 * 24 + 1))
    assert (gone.start, gone.end, gone.until) == (hour(0), hour(1), None)
    assert (rest.start, rest.end, rest.until) == (hour(1), hour(2), hour(7 * 24 + 1))


def test_lost_stretch_cannot_be_healed() -> None:
    (one,) = find_gaps(TENANT, state_of((0, 2, LOST), (2, 10, LISTED)), NOW)
    assert one.until is None


def with_blobs(**outcomes: str | None) -> State:
    state = state_of((0, 10, LISTED))
    listed = [ListedBlob(name, hour(n), hour(n + 24)) for n, name in enumerate(outcomes)]
    state.apply(Listing("run", NOW, FEED, [], listed))
    told = [
        BlobOutcome(
            name, hour(n), status, error=None if status == LANDED else f"fetching blob {name!r} failed: HTTP 500"
        )
        for n, (name, status) in enumerate(outcomes.items())
        if status
    ]
    state.apply(Landing("run", NOW, FEED, told, [], []))
    return state


def test_every_blob_that_has_not_landed_is_named_with_its_cause() -> None:
    state = with_blobs(a=None, b=FAILED, c=FAILED, d=LANDED, e=EXPIRED, f=REJECTED)
    told = {g.blobs: (g.kind, g.cause, g.until) for g in find_gaps(TENANT, state, NOW)}
    assert told == {
        ("a",): ("pending", "no run has finished it yet", hour(24)),
        ("b", "c"): ("failed", "fetching blob failed: HTTP 500", hour(25)),
        ("e",): ("expired", "fetching blob failed: HTTP 500", None),
        ("f",): ("unreadable", "fetching blob failed: HTTP 500", hour(29)),
    }


def test_blob_past_its_expiration_cannot_be_healed() -> None:
    (one,) = find_gaps(TENANT, with_blobs(a=None), hour(25), TimeRange(hour(0), hour(1)))
    assert one.until is None


def test_blobs_far_apart_are_gaps_apart() -> None:
    assert len(find_gaps(TENANT, with_blobs(a=FAILED, b=LANDED, c=FAILED), NOW)) == 2


def test_most_urgent_gap_comes_first_and_a_range_can_be_asked_for() -> None:
    state = with_blobs(a=EXPIRED, b=FAILED)
    assert [g.kind for g in find_gaps(TENANT, state, NOW)] == ["failed", "expired"]
    assert [g.kind for g in find_gaps(TENANT, state, NOW, TimeRange(hour(0), hour(1)))] == ["expired"]


ranges = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: TimeRange(hour(min(p)), hour(max(p)))), max_size=8
)


@given(st.integers(0, 40), st.integers(0, 40), ranges)
def test_rest_and_covered_together_are_the_range(a: int, b: int, covered: list[TimeRange]) -> None:
    wanted = TimeRange(hour(min(a, b)), hour(max(a, b)))
    rest = list(without(wanted, covered))
    for number in range(41):
        inside = wanted.start <= hour(number) < wanted.end
        is_covered = any(c.start <= hour(number) < c.end for c in covered)
        assert any(r.start <= hour(number) < r.end for r in rest) == (inside and not is_covered)


def test_gaps_of_a_lake_read_well_and_are_json(tmp_path: Path) -> None:
    lake = new_lake(storage_at(tmp_path))
    land(lake, {"a": body([record(1)])})
    assert describe(gaps(lake.storage, START + HOUR)).startswith("no gaps")
    list_blobs(lake, [blob("late", created=hour(1))], start=hour(1))
    told = gaps(lake.storage, START + 2 * HOUR)
    assert [g.blobs for g in told] == [("late",)]
    text = describe(told)
    assert "pending" in text
    assert "1 gap, 1 of them can still be healed" in text
    (one,) = json.loads(json.dumps(to_json(told)))
    assert (one["start"], one["until"], one["healable"]) == ("2026-11-20T09:00:00Z", "2026-11-27T09:00:00Z", True)


def test_gaps_of_nothing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        gaps(storage_at(tmp_path), NOW)


def test_long_list_is_cut_and_says_so() -> None:
    many = [Gap(TENANT, FEED, hour(n), hour(n + 1), "lost", "") for n in range(50)]
    assert "and 10 more" in describe(many)


def test_hour_of_grace_is_not_a_gap() -> None:
    assert found(state_of((0, 1, LISTED)), hour(1) + timedelta(minutes=90)) == []


def test_slice_listed_before_late_content_had_come_is_a_gap_once_it_has_aged_out() -> None:
    state = state_of((0, 2, LISTED), (2, 3, LISTED), at=hour(3))
    state.apply(Listing("run", hour(60), FEED, [Slice(hour(3), hour(4), LISTED, hour(60))], []))
    state.apply(Listing("run", hour(60), FEED, [Slice(hour(4), hour(20), LISTED, hour(60), closed=True)], []))
    assert "unsettled" not in {g.kind for g in find_gaps(TENANT, state, hour(7 * 24 + 1))}
    gone = [g for g in find_gaps(TENANT, state, hour(9 * 24)) if g.kind == "unsettled"]
    assert [(g.start, g.end, g.until) for g in gone] == [(hour(0), hour(3), None)]
