"""The governor: waits, turns and pauses. What it learns is in test_o365_quota.py."""

import threading
import time
from itertools import pairwise

import pytest

from o365.throttle import Governor
from tests.scripted_server import FakeTime


def governor(times: FakeTime, **more: float) -> Governor:
    return Governor(clock=times.clock, sleep=times.sleep, jitter=lambda: 0.5, **more)


def grant(budget: Governor) -> int:
    number = budget.acquire()
    assert number is not None
    return number


def use(budget: Governor) -> int:
    number = grant(budget)
    budget.release(number)
    return number


def test_documented_quota_is_the_start_and_share_a_part_of_it() -> None:
    assert governor(FakeTime()).quota == 2000
    assert governor(FakeTime(), share=0.25).quota == 500


def test_nobody_sleeps_while_there_is_budget() -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=50)
    for _ in range(50):
        use(budget)
    assert (times.slept, budget.used()) == ([], 50)


def test_budget_comes_back_when_the_first_answer_is_a_period_old() -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=2)
    first = grant(budget)
    times.now += 10
    budget.release(first)
    for _ in range(2):
        use(budget)
    assert times.slept == pytest.approx([60.0])
    assert times.now == pytest.approx(1070)


def test_request_under_way_is_used_budget_however_long_it_takes() -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=2)
    grant(budget)
    times.now += 200
    use(budget)
    assert budget.used() == 2
    assert budget.acquire(until=times.now + 59) is None


def test_release_after_a_refusal_counts_nothing() -> None:
    budget = governor(FakeTime())
    refused = grant(budget)
    budget.throttled(refused)
    budget.release(refused)
    budget.release(refused)
    assert budget.used() == 0


@pytest.mark.parametrize("asked_s", [30, 250])
def test_retry_after_is_waited_for_by_everyone(asked_s: float) -> None:
    times = FakeTime()
    budget = governor(times)
    budget.throttled(grant(budget), retry_after_s=asked_s)
    before = times.now
    use(budget)
    assert asked_s <= times.now - before <= asked_s + 1


def test_nobody_waits_for_more_than_five_minutes_whatever_is_asked() -> None:
    times = FakeTime()
    budget = governor(times)
    budget.throttled(grant(budget), retry_after_s=86400)
    before = times.now
    use(budget)
    assert times.now - before <= 301


def test_first_refusal_makes_nobody_else_wait() -> None:
    times = FakeTime()
    budget = governor(times)
    budget.throttled(grant(budget))
    use(budget)
    assert times.slept == []


def test_requests_under_way_at_a_refusal_only_make_the_count_exact() -> None:
    times = FakeTime()
    budget = governor(times)
    grants = [grant(budget) for _ in range(116)]
    for number in grants[:100]:
        budget.release(number)
    for number in grants[100:]:
        budget.throttled(number)
    assert budget.quota == 100
    budget.throttled(grant(budget))  # the trial, at once
    assert times.slept == []
    grant(budget)
    assert sum(times.slept) == pytest.approx(1)


def test_waits_grow_while_everything_is_refused() -> None:
    times = FakeTime()
    budget = governor(times)
    for _ in range(12):
        budget.throttled(grant(budget))
    waits = [wait for wait in times.slept if wait > 0.1]
    assert all(later >= earlier * 0.99 for earlier, later in pairwise(waits[:5]))
    assert max(waits) <= 60
    assert times.now - 1000 >= 250


def test_refusal_with_nothing_accepted_teaches_nothing() -> None:
    budget = governor(FakeTime())
    budget.throttled(grant(budget))
    for _ in range(100):
        use(budget)
    assert budget.quota == 2000


def test_who_has_no_time_to_wait_is_told_so_without_waiting() -> None:
    times = FakeTime()
    budget = governor(times, quota_requests=1)
    use(budget)
    assert budget.acquire(until=times.now + 30) is None
    assert times.slept == []
    assert budget.acquire(until=times.now + 61) is not None


def test_threads_together_stay_within_the_quota_and_are_served_in_turn() -> None:
    budget = Governor(quota_requests=40, period_s=0.5)
    granted: list[tuple[float, int]] = []

    def work(number: int) -> None:
        for _ in range(10):
            use(budget)
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
