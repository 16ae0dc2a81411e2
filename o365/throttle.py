"""Keeps a process within its part of a tenant's request quota.

    acquire() ──▶ request ──▶ accepted
       ▲             └──────▶ refused ──▶ throttled(): everyone waits, and the quota is what was accepted

The window slides: no `period_s` holds more grants than the quota, so neither does any window the service may count in.
Source: Management Activity API reference, "API throttling": 2,000 requests a minute; the real figure grows with seats.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from logging import getLogger

from schemas.contract import limits

_LOGGER = getLogger(__name__)
_MARGIN = 0.98  # below what was accepted, because the service's window and ours do not begin together
_HOLD_PERIODS = 5  # periods without refusal before the quota grows again
_GROWTH = 0.01  # of the first quota: 1 % in the first such period, 2 % more in the second, 3 % more …
_FIRST_PAUSE_S = 1.0
_SOON_S = 1e-6  # waits below this are rounding


class Governor:
    """A request budget shared by the threads of a process; who comes first is served first.

    Args:
      share: This process's part of the tenant's quota, above 0 and at most 1.
      quota_requests: Requests of the tenant in a period; the documented number by default.
      period_s: Seconds of a period; the documented number by default.
      clock: Monotonic seconds.
      sleep: Waits for seconds.
      jitter: A number from 0 to 1, new at each call.
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        quota_requests: float | None = None,
        period_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._period_s = period_s or float(limits()["quota_period"])
        self._ceiling = max(1.0, share * (quota_requests or limits()["quota_requests"]))
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._lock = threading.Lock()
        self._turn = _Turn()
        self._granted: deque[float] = deque()
        self._refused: deque[float] = deque()
        self._serial = 0
        self._learned = self._before_episode = self._ceiling
        self._refused_at: float | None = None
        self._episode_ends_with = 0  # grants up to this serial were made before the refusal was known
        self._refusals_in_a_row = 0
        self._paused_until = float("-inf")

    @property
    def quota(self) -> int:
        """Requests a period that are granted now."""
        with self._lock:
            return self._quota(self._clock())

    def used(self) -> int:
        """Requests granted in the period that ends now."""
        with self._lock:
            self._forget(self._clock())
            return len(self._granted)

    def acquire(self) -> int:
        """Waits until one request may be sent, and grants it.

        Returns:
          The number of the grant, which `throttled` wants back.
        """
        with self._turn:
            while True:
                with self._lock:
                    now = self._clock()
                    wait_s = self._wait_s(now)
                    if wait_s < _SOON_S:
                        self._granted.append(now)
                        self._serial += 1
                        return self._serial
                self._sleep(wait_s)

    def throttled(self, grant: int, retry_after_s: float | None = None) -> float:
        """Learns from a refusal of a granted request, and makes everyone wait.

        Args:
          grant: What `acquire` returned for the request.
          retry_after_s: Seconds the service asks to wait, if it does.

        Returns:
          Seconds until the next request is sent at the earliest.
        """
        with self._lock:
            now = self._clock()
            if grant > self._episode_ends_with:
                self._begin_episode(now)
            self._refused.append(now)
            self._refused_at = now
            self._learn(now)
            # Requests under way at the first refusal are refused too; they tell of nothing new but the count.
            pause_s = min(self._period_s, _FIRST_PAUSE_S * 2 ** (self._refusals_in_a_row - 1))
            pause_s = pause_s * (0.5 + self._jitter() / 2) if retry_after_s is None else retry_after_s + self._jitter()
            if grant > self._episode_ends_with or retry_after_s is not None:
                self._paused_until = max(self._paused_until, now + pause_s)
            self._episode_ends_with = max(self._episode_ends_with, self._serial)
            return max(0.0, self._paused_until - now)

    def _begin_episode(self, now: float) -> None:
        is_row = self._refused_at is not None and now - self._refused_at < self._period_s
        self._refusals_in_a_row = self._refusals_in_a_row + 1 if is_row else 1
        self._before_episode = self._quota(now)

    def _learn(self, now: float) -> None:
        self._forget(now)
        accepted = len(self._granted) - len(self._refused)
        # Nothing accepted tells nothing: somebody else used the window, perhaps this process before a restart.
        self._learned = max(1.0, accepted * _MARGIN) if accepted > 0 else self._before_episode
        _LOGGER.debug("quota learned: %.0f requests in %.0f s", self._learned, self._period_s)

    def _quota(self, now: float) -> int:
        if self._refused_at is None:
            return int(self._ceiling)
        quiet = max(0, int((now - self._refused_at) / self._period_s) - _HOLD_PERIODS)
        return max(1, int(min(self._ceiling, self._learned + self._ceiling * _GROWTH * quiet * (quiet + 1) / 2)))

    def _wait_s(self, now: float) -> float:
        self._forget(now)
        quota = self._quota(now)
        wait_s = self._paused_until - now
        if len(self._granted) >= quota:
            wait_s = max(wait_s, self._granted[len(self._granted) - quota] + self._period_s - now)
        if self._granted and self._refused_at is not None and now - self._refused_at < self._period_s:
            # Evenly spaced after a refusal, so that the next one, if it comes, hits few requests.
            wait_s = max(wait_s, self._granted[-1] + self._period_s / quota - now)
        return wait_s

    def _forget(self, now: float) -> None:
        for times in (self._granted, self._refused):
            while times and times[0] + self._period_s < now + _SOON_S:
                times.popleft()


class _Turn:
    """A lock that serves threads in the order of their coming, which `threading.Lock` does not promise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._queue: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._queue.append(gate)
        gate.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._is_taken = False
