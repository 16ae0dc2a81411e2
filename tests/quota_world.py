"""A simulated service and its clients: events in the order of their time, nothing waits for real."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from o365.quota import Quota

PERIOD_S = 60.0


class SlidingService:
    """Accepts `quota` requests in any minute."""

    def __init__(self, quota: int, *, counts_refused: bool = False) -> None:
        self.quota, self.counts_refused = quota, counts_refused
        self.recent: deque[float] = deque()

    def accepts(self, now: float) -> bool:
        while self.recent and self.recent[0] <= now - PERIOD_S:
            self.recent.popleft()
        is_accepted = len(self.recent) < self.quota
        if is_accepted or self.counts_refused:
            self.recent.append(now)
        return is_accepted


class FixedService:
    """Accepts `quota` requests in each minute of its own clock."""

    def __init__(self, quota: int, offset_s: float) -> None:
        self.quota, self.offset_s = quota, offset_s
        self.minute, self.in_minute = -1, 0

    def accepts(self, now: float) -> bool:
        minute = int((now + self.offset_s) // PERIOD_S)
        if minute != self.minute:
            self.minute, self.in_minute = minute, 0
        self.in_minute += 1
        return self.in_minute <= self.quota


@dataclass
class Client:
    """Eight threads that send as fast as the quota lets them, and a refused request again."""

    quota: Quota
    wanted: int = 10**9
    latency_s: float = 0.05
    threads: int = 8
    starts_s: float = 0.0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def refused_after(self, seconds: float) -> int:
        return sum(at >= seconds for at in self.refused)

    def accepted_between(self, start_s: float, end_s: float) -> int:
        return sum(start_s <= at < end_s for at in self.accepted)


class World:
    """Runs clients against a service; `is_stray` may refuse a request before the service sees it."""

    def __init__(self, accepts: Callable[[float], bool], is_stray: Callable[[float], bool] | None = None) -> None:
        self.now = 0.0
        self._accepts, self._is_stray = accepts, is_stray or (lambda _: False)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._random = random.Random(1)

    def run(self, *clients: Client, until_s: float = 3600) -> float:
        """Returns when the last request that was wanted is answered, or `until_s`."""
        for client in clients:
            self.after(client.starts_s, _Threads(self, client).ask)
        while self._events and self._events[0][0] <= until_s:
            self.now, _, act = heapq.heappop(self._events)
            act()
            if all(len(c.accepted) >= c.wanted for c in clients):
                return self.now
        return until_s

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act))

    def accepts(self) -> bool:
        return not self._is_stray(self.now) and self._accepts(self.now)

    def draw(self) -> float:
        return self._random.random()


class _Threads:
    def __init__(self, world: World, client: Client) -> None:
        self.world, self.client = world, client
        self.idle, self.to_send, self.is_waiting = client.threads, client.wanted, False

    def ask(self) -> None:
        """Sends what may be sent, and asks again when the quota says so."""
        quota = self.client.quota
        while self.idle and self.to_send and not self.is_waiting:
            wait_s = quota.wait_s(self.world.now)
            if wait_s > 0:
                self.is_waiting = True
                self.world.after(wait_s, self._asked_long_enough_ago)
                return
            self.idle, self.to_send = self.idle - 1, self.to_send - 1
            self._send(quota.grant(self.world.now))

    def _asked_long_enough_ago(self) -> None:
        self.is_waiting = False
        self.ask()

    def _send(self, grant: int) -> None:
        there_s = self.client.latency_s * (0.3 + 0.4 * self.world.draw())
        self.world.after(there_s, lambda: self._arrive(grant, self.client.latency_s - there_s))

    def _arrive(self, grant: int, back_s: float) -> None:
        is_accepted = self.world.accepts()
        self.world.after(back_s, lambda: self._answered(grant, is_accepted))

    def _answered(self, grant: int, is_accepted: bool) -> None:
        client, now = self.client, self.world.now
        if is_accepted:
            client.accepted.append(now)
            client.quota.accepted(grant, now)
        else:
            client.refused.append(now)
            client.quota.refused(grant, now)
            self.to_send += 1
        self.idle += 1
        self.ask()
