"""A tenant that answers nothing costs a run one deadline; one bad blob costs nobody else anything."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from o365.activity import ActivityClient
from o365.connection import Connection
from o365.errors import DownError, RetryableError, SkippableError, ThrottledError
from tests.scripted_server import Asked, FakeTime, Reply, Script, ScriptedServer, refusal_reply, serving

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
FINE = Reply(200, b"[]")
DOWN = Reply(503)
_FASTER = 150  # a deadline of 300 s takes two


class FixedTokens:
    def token(self) -> str:
        return "hush"

    def refresh(self, rejected: str) -> str:
        return rejected


class Stage:
    def __init__(self, server: ScriptedServer, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.server = server
        connection = Connection("contoso", TENANT, TENANT, client_secret_env="S", api_root=server.root, timeout_s=5)
        self.client = ActivityClient(connection, tokens=FixedTokens(), clock=clock, sleep=sleep, jitter=lambda: 0.5)

    def fetch(self, name: str) -> bytes:
        return self.client.retrieve(f"{self.server.root}/api/v1.0/{TENANT}/activity/feed/audit/{name}")

    def fails(self, name: str) -> RetryableError:
        with pytest.raises(RetryableError) as caught:
            self.fetch(name)
        return caught.value


@contextmanager
def stage(script: Script, times: FakeTime) -> Iterator[Stage]:
    with serving(script) as server:
        made = Stage(server, times.clock, times.sleep)
        yield made
        made.client.close()


@contextmanager
def real_stage(script: Script) -> Iterator[Stage]:
    with serving(script) as server:
        made = Stage(server, lambda: time.monotonic() * _FASTER, lambda seconds: time.sleep(seconds / _FASTER))
        yield made
        made.client.close()


def fetch_all(on: Stage, names: list[str], threads: int = 8) -> tuple[dict[str, object], float]:
    """Fetches in threads; returns what came of each, and the seconds it took on the faster clock."""
    waiting = list(reversed(names))
    results: dict[str, object] = {}

    def work() -> None:
        while True:
            try:
                name = waiting.pop()
            except IndexError:
                return
            try:
                results[name] = on.fetch(name)
            except RetryableError as error:
                results[name] = error

    started = time.monotonic()
    pool = [threading.Thread(target=work) for _ in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return results, (time.monotonic() - started) * _FASTER


def test_a_tenant_that_is_down_costs_one_deadline_and_then_says_so_at_once() -> None:
    times = FakeTime()
    with stage(lambda _: DOWN, times) as on:
        first = on.fails("1")
        assert not isinstance(first, DownError)
        assert 200 < times.now - 1000 <= 300
        on.fails("2")  # tries, once
        asked, now = len(on.server.asked), times.now
        errors = [on.fails(str(number)) for number in range(3, 60)]
        assert (len(on.server.asked), times.now) == (asked, now)
    assert {type(error) for error in errors} == {DownError}
    assert len({error.message.partition(" was not tried: ")[2] for error in errors}) == 1
    assert errors[0].message.startswith(
        "fetching blob '3' was not tried: no request of this tenant has succeeded since"
    )
    assert first.message in errors[0].message
    assert errors[0].status == 503
    assert errors[0].retry_after_s == pytest.approx(30)


def test_one_request_tries_once_after_each_cool_down() -> None:
    times = FakeTime()
    with stage(lambda _: DOWN, times) as on:
        on.fails("1")
        on.fails("2")
        for _ in range(3):
            times.now += 31
            before, asked = times.now, len(on.server.asked)
            assert not isinstance(on.fails("try"), DownError)
            assert isinstance(on.fails("other"), DownError)
            assert (times.now, len(on.server.asked)) == (before, asked + 1)


def test_a_try_that_succeeds_lets_everyone_in_again() -> None:
    times = FakeTime()
    is_down = [True]
    with stage(lambda _: DOWN if is_down[0] else FINE, times) as on:
        on.fails("1")
        on.fails("2")
        is_down[0] = False
        times.now += 31
        assert [on.fetch(str(number)) for number in range(5)] == [b"[]"] * 5


@pytest.mark.parametrize("answer", [refusal_reply("AF20050", 404), refusal_reply("AF20051", 400)])
def test_a_refusal_of_a_blob_is_an_answer_of_a_service_that_is_up(answer: Reply) -> None:
    times = FakeTime()
    with stage(lambda asked: answer if asked.path.endswith("gone") else DOWN, times) as on:
        on.fails("1")
        with pytest.raises(SkippableError):
            on.fetch("gone")
        assert not isinstance(on.fails("2"), DownError)
        assert times.now - 1000 > 400


def test_a_single_bad_blob_costs_nobody_else_anything() -> None:
    times = FakeTime()
    with stage(lambda asked: Reply(500) if asked.path.endswith("bad") else FINE, times) as on:
        for _ in range(3):
            assert not isinstance(on.fails("bad"), DownError)
            assert [on.fetch(str(number)) for number in range(5)] == [b"[]"] * 5


def test_a_first_contact_that_is_given_up_soon_proves_nothing() -> None:
    times = FakeTime()
    with stage(lambda _: DOWN, times) as on:
        with pytest.raises(RetryableError):
            on.client.list_subscriptions(deadline_s=10)
        assert not isinstance(on.fails("1"), DownError)
        assert times.now - 1000 > 200


def test_a_wait_of_a_day_is_named_and_not_waited_for() -> None:
    times = FakeTime()
    answer = refusal_reply("AF429", 403, **{"Retry-After": "86400"})
    with stage(lambda _: answer, times) as on:
        first = on.fails("1")
        assert isinstance(first, ThrottledError)
        assert first.retry_after_s == 86400
        assert "a wait of 86400 seconds was asked for, more than the 300 that a request is tried" in first.message
        assert times.slept == []
        for number in range(50):
            on.fails(str(number))
        assert times.now - 1000 <= 700
        assert len(on.server.asked) < 5


def test_a_stray_wait_of_a_day_costs_its_request_and_a_pause() -> None:
    times = FakeTime()
    answers = iter([Reply(429, b"", {"Retry-After": "86400"})])
    with stage(lambda _: next(answers, FINE), times) as on:
        on.fails("1")
        assert [on.fetch(str(number)) for number in range(50)] == [b"[]"] * 50
        assert times.now - 1000 <= 302


@pytest.mark.parametrize(
    "answer",
    [
        DOWN,
        Reply(429),
        refusal_reply("AF429", 403),
        refusal_reply("AF429", 403, **{"Retry-After": "20"}),
        refusal_reply("AF429", 403, **{"Retry-After": "86400"}),
    ],
)
def test_eight_threads_share_one_deadline(answer: Reply) -> None:
    with real_stage(lambda _: answer) as on:
        results, seconds = fetch_all(on, [str(number) for number in range(400)])
    assert all(isinstance(result, RetryableError) for result in results.values())
    assert sum(isinstance(result, DownError) for result in results.values()) > 380
    assert seconds < 300 + 300 + 120  # a wait of a day is honoured for one deadline, too
    assert len(on.server.asked) < 150


def test_eight_threads_and_a_bad_blob_lose_only_that() -> None:
    def script(asked: Asked) -> Reply:
        return Reply(500) if asked.path.endswith("/7") else FINE

    with real_stage(script) as on:
        results, _ = fetch_all(on, [str(number) for number in range(400)])
    assert [name for name, result in results.items() if result != b"[]"] == ["7"]


def test_eight_threads_go_on_when_the_service_comes_back() -> None:
    since = time.monotonic()

    def script(_: Asked) -> Reply:
        return DOWN if (time.monotonic() - since) * _FASTER < 150 else FINE

    with real_stage(script) as on:
        results, _ = fetch_all(on, [str(number) for number in range(100)])
    assert set(results.values()) == {b"[]"}
