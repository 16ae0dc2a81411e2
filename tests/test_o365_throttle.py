"""The governor's laws, against a simulated service that counts in fixed windows."""

import random
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o365.throttle import Governor
from tests.scripted_server import FakeTime


class FixedWindowService:
    """Accepts `quota` requests in each minute of its own clock, and counts what it refuses."""

    def __init__(self, quota: int, offset_s: float) -> None:
        self.quota, self.offset_s = quota, offset_s
        self.window, self.in_window = -1, 0
        self.accepted = 0
        self.refused_at: list[float] = []

    def accepts(self, now: float) -> bool:
        window = int((now + self.offset_s) // 60)
        if window != self.window:
            self.window, self.in_window = window, 0
        if self.in_window >= self.quota:
            self.refused_at.append(now)
            return False
        self.in_window += 1
        self.accepted += 1
        return True


def governor(times: FakeTime, **more: float) -> Governor:
    return Governor(clock=times.clock, sleep=times.sleep, jitter=random.Random(1).random, **more)


def run(service: FixedWindowService, budget: Governor, times: FakeTime, minutes: float, latency_s: float) -> None:
    end = times.now + minutes * 60
    while times.now < end:
        grant = budget.acquire()
        times.now += latency_s
        if not service.accepts(times.now):
            budget.throttled(grant)


def test_documented_quota_is_the_start_and_share_a_part_of_it() -> None:
    assert governor(FakeTime()).quota == 2000
    assert governor(FakeTime(), share=0.25).quota == 500


def test_nobody_sleeps_while_there_is_budget() -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=50)
    for _ in range(50):
        budget.acquire()
    assert (times.slept, budget.used()) == ([], 50)


def test_budget_comes_back_when_the_first_grant_is_a_period_old() -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=2)
    budget.acquire()
    times.now += 10
    for _ in range(2):
        budget.acquire()
    assert times.slept == pytest.approx([50.0])
    assert budget.used() == 2


@settings(max_examples=60, deadline=None)
@given(quota=st.integers(1, 40), gaps=st.lists(st.floats(0, 40), max_size=150))
def test_no_period_ever_holds_more_grants_than_the_quota(quota: int, gaps: list[float]) -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=quota)
    granted = []
    for gap in gaps:
        times.now += gap
        budget.acquire()
        granted.append(times.now)
    for first, later in zip(granted, granted[quota:], strict=False):
        assert later - first >= 60 - 1e-5


@settings(max_examples=40, deadline=None)
@given(quota=st.integers(30, 1990), offset_s=st.floats(0, 59.9), latency_s=st.floats(0.001, 0.02))
def test_real_quota_is_learned_with_few_refusals_and_then_used(quota: int, offset_s: float, latency_s: float) -> None:
    times = FakeTime()
    service, budget = FixedWindowService(quota, offset_s), governor(times)
    run(service, budget, times, 3, latency_s)
    assert len(service.refused_at) <= 8
    accepted, refused = service.accepted, len(service.refused_at)
    run(service, budget, times, 60, latency_s)
    assert len(service.refused_at) - refused <= 20
    possible = min(quota, 60 / latency_s) * 60
    assert service.accepted - accepted >= 0.93 * possible


def test_quota_at_its_documented_value_is_never_refused() -> None:
    times = FakeTime()
    service, budget = FixedWindowService(2000, 17.0), governor(times)
    run(service, budget, times, 30, 0.005)
    assert service.refused_at == []
    assert service.accepted >= 0.95 * 30 * 2000


def test_retry_after_is_waited_for_by_everyone() -> None:
    times = FakeTime()
    budget = governor(times)
    grant = budget.acquire()
    assert 30 <= budget.throttled(grant, retry_after_s=30) <= 31
    before = times.now
    budget.acquire()
    assert 30 <= times.now - before <= 31


def test_requests_under_way_at_a_refusal_do_not_lengthen_the_wait() -> None:
    times = FakeTime()
    budget = governor(times)
    grants = [budget.acquire() for _ in range(116)]
    first = budget.throttled(grants[100])
    for grant in grants[101:]:
        assert budget.throttled(grant) <= first
    assert first <= 1
    assert budget.quota == 98  # of 116 granted 100 were accepted


def test_pause_grows_with_refusals_in_a_row() -> None:
    times = FakeTime()
    budget = governor(times)
    pauses = [budget.throttled(budget.acquire()) for _ in range(5)]
    assert all(later > earlier for earlier, later in pairwise(pauses))


def test_refusal_with_nothing_accepted_teaches_nothing() -> None:
    budget = governor(FakeTime())
    budget.throttled(budget.acquire())
    assert budget.quota == 2000


def test_quota_stays_after_a_refusal_and_comes_back_slowly() -> None:
    times = FakeTime()
    budget = governor(times)
    grants = [budget.acquire() for _ in range(1001)]
    budget.throttled(grants[-1])
    seen = []
    for _ in range(20):
        seen.append(budget.quota)
        times.now += 60
    assert seen[:6] == [980] * 6
    assert seen[6:9] == [1000, 1040, 1100]
    assert seen == sorted(seen)
    assert seen[-1] == 2000


def test_threads_together_stay_within_the_quota_and_are_served_in_turn() -> None:
    budget = Governor(quota_requests=40, period_s=0.5)
    granted: list[tuple[float, int]] = []

    def work(number: int) -> None:
        for _ in range(10):
            budget.acquire()
            granted.append((time.monotonic(), number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(moment for moment, _ in granted)
    assert len(times) == 80
    assert times[40] - times[0] >= 0.45
    assert {number for _, number in granted[-8:]} | {number for _, number in granted[:40]} == set(range(8))
