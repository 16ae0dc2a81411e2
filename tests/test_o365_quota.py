"""The laws of learning a quota, against simulated services and clients of eight threads."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o365.quota import Quota
from tests.quota_world import PERIOD_S, Client, FixedService, SlidingService, World


def client(limit: float = 2000, **more: float) -> Client:
    return Client(Quota(limit, PERIOD_S, random.Random(3).random), **more)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 40), gaps=st.lists(st.floats(0, 40), max_size=150), latency_s=st.floats(0, 5))
def test_no_period_of_any_clock_between_grant_and_answer_holds_more_than_the_limit(
    limit: int, gaps: list[float], latency_s: float
) -> None:
    now, counted = 0.0, []
    draw = random.Random(1)
    quota = Quota(limit, PERIOD_S, random.Random(3).random)
    for gap in gaps:
        now += gap
        if now > 290:
            break  # from 300 s on it tries for more
        if quota.wait_s(now) > 0:
            continue
        grant = quota.grant(now)
        counted.append(now + latency_s * draw.random())
        now += latency_s
        quota.accepted(grant, now)
    counted.sort()
    for first, later in zip(counted, counted[limit:], strict=False):
        assert later - first >= PERIOD_S - 1e-5


def test_documented_quota_is_used_whole_from_the_first_second() -> None:
    world, one = World(SlidingService(2000).accepts), client(wanted=6000)
    assert world.run(one) < 120 + 2000 * one.latency_s / one.threads + 1
    assert one.refused == []


@pytest.mark.parametrize("real", [60, 333, 600, 1200, 1990])
@pytest.mark.parametrize("latency_s", [0.005, 0.05])
def test_a_lower_quota_is_learned_in_a_minute_and_kept(real: int, latency_s: float) -> None:
    world, one = World(SlidingService(real).accepts), client(wanted=real * 4, latency_s=latency_s)
    at_full_speed_s = real * latency_s / one.threads
    assert world.run(one) <= 1.03 * (180 + at_full_speed_s)
    assert len(one.refused) <= 24
    assert one.refused_after(61) == 0


@pytest.mark.parametrize("latency_s", [0.05, 0.3])
@pytest.mark.parametrize("real", [600, 1200])
def test_an_hour_at_the_quota_has_hardly_a_refusal(real: int, latency_s: float) -> None:
    world, one = World(SlidingService(real).accepts), client(latency_s=latency_s)
    world.run(one)
    assert len(one.accepted) >= 0.99 * 60 * real
    assert one.refused_after(61) < 0.0005 * len(one.accepted)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(real=st.integers(30, 1990), offset_s=st.floats(0, 59.9), latency_s=st.floats(0.005, 0.3))
def test_a_service_that_counts_by_the_minute_is_used_too(real: int, offset_s: float, latency_s: float) -> None:
    world, one = World(FixedService(real, offset_s).accepts), client(latency_s=latency_s)
    world.run(one)
    possible = min(real, 60 * one.threads / latency_s)
    assert len(one.accepted) >= 0.95 * 60 * possible
    assert one.refused_after(180) < 0.01 * len(one.accepted) + 60


@pytest.mark.parametrize("real", [60, 600])
def test_a_service_that_counts_what_it_refuses_does_not_lock_out(real: int) -> None:
    world, one = World(SlidingService(real, counts_refused=True).accepts), client()
    world.run(one)
    assert len(one.accepted) >= 0.7 * 60 * real


@pytest.mark.parametrize("number", [1, 5, 100])
def test_a_stray_refusal_costs_its_pause_and_little_more(number: int) -> None:
    asked = iter(range(1, 10**9))
    world = World(SlidingService(2000).accepts, lambda _: next(asked) == number)
    one = client(wanted=1900)
    assert world.run(one) <= 1900 * one.latency_s / one.threads + 2
    assert one.quota.limit == 2000


@pytest.mark.parametrize(("share", "most_s"), [(0.01, 15), (0.1, 20), (0.3, 30), (0.5, 60)])
@pytest.mark.parametrize("seed", range(4))
def test_refusals_at_random_do_not_make_it_slow_for_minutes(share: float, most_s: float, seed: int) -> None:
    draw = random.Random(seed)
    world, one = World(SlidingService(2000).accepts, lambda _: draw.random() < share), client(wanted=1000)
    assert world.run(one) <= most_s


def test_refusals_for_a_while_are_over_when_they_are_over() -> None:
    world, one = World(SlidingService(2000).accepts, lambda now: 5 < now < 35), client(wanted=1900)
    assert world.run(one) <= 35 + 12 + 17
    assert one.quota.limit == 2000


def test_nothing_is_learned_while_everything_is_refused_for_long() -> None:
    world, one = World(SlidingService(600).accepts, lambda now: now < 600), client(wanted=1800)
    assert world.run(one) <= 600 + 60 + 120 + 10


@pytest.mark.parametrize("used_before", [300, 600])
def test_what_an_earlier_process_used_is_not_taken_for_the_quota(used_before: int) -> None:
    service = SlidingService(600)
    for _ in range(used_before):
        service.accepts(-10.0)
    one = client(wanted=1800)
    assert World(service.accepts).run(one) <= 185
    assert one.quota.limit >= 590


def test_a_quota_that_grows_is_followed() -> None:
    service = SlidingService(600)
    one = client()

    def accepts(now: float) -> bool:
        service.quota = 600 if now < 300 else 1800
        return service.accepts(now)

    World(accepts).run(one, until_s=1500)
    assert one.accepted_between(1200, 1500) >= 5 * 1800 * 0.9


def test_a_quota_beyond_the_documented_one_is_found() -> None:
    one = client(latency_s=0.02)
    World(SlidingService(4000).accepts).run(one, until_s=1200)
    assert one.accepted_between(900, 1200) >= 5 * 4000 * 0.9


def test_a_quota_that_shrinks_is_followed() -> None:
    service = SlidingService(1800)
    one = client()

    def accepts(now: float) -> bool:
        service.quota = 1800 if now < 300 else 600
        return service.accepts(now)

    World(accepts).run(one, until_s=1200)
    assert one.accepted_between(600, 1200) >= 10 * 600 * 0.95
    assert one.refused_after(480) < 0.002 * one.accepted_between(480, 1200)


@pytest.mark.parametrize("real", [600, 2000])
@pytest.mark.parametrize("workers", [2, 4, 10])
def test_workers_that_know_nothing_of_each_other_share_the_quota(real: int, workers: int) -> None:
    some = [client() for _ in range(workers)]
    World(SlidingService(real).accepts).run(*some, until_s=600)
    assert sum(len(c.accepted) for c in some) >= 10 * real * 0.97
    # Each of them asks now and then whether the quota has grown.
    assert sum(c.refused_after(120) for c in some) <= max(workers, 0.001 * 8 * real)
    assert min(len(c.accepted) for c in some) >= 0.5 * max(len(c.accepted) for c in some)


@pytest.mark.parametrize("within_s", [0, 1, 10, 60])
@pytest.mark.parametrize("seed", range(5))
def test_workers_that_start_late_are_not_left_with_next_to_nothing(within_s: float, seed: int) -> None:
    draw = random.Random(seed)
    some = [client(500, wanted=90, starts_s=within_s * draw.random(), latency_s=0.2 + draw.random()) for _ in range(4)]
    assert World(SlidingService(120).accepts).run(*some) <= 60 + 180 + 12
    assert sum(len(c.refused) for c in some) <= 4 * 40


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_with_their_part_of_the_documented_quota_are_never_refused(workers: int) -> None:
    some = [client(2000 / workers) for _ in range(workers)]
    World(SlidingService(2000).accepts).run(*some, until_s=290)
    assert [c.refused for c in some] == [[]] * workers
    assert sum(len(c.accepted) for c in some) == 5 * 2000


def test_what_others_use_is_left_to_them() -> None:
    service = SlidingService(2000)
    others_at = [0.0]

    def accepts(now: float) -> bool:
        while others_at[0] <= now:
            service.accepts(others_at[0])
            others_at[0] += 0.1
        return service.accepts(now)

    one = client()
    World(accepts).run(one, until_s=1800)
    assert one.accepted_between(60, 1800) >= 29 * 1400 * 0.97
    assert one.refused_after(66) < 0.002 * len(one.accepted)
