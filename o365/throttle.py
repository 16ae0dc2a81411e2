"""Keeps a process within its part of a tenant's request quota.

    acquire() ──▶ request ──▶ release()
       ▲             └─ refused ─▶ throttled(): learned from, and where it asks for a wait, everyone waits

What the quota is, is `o365/quota.py`'s to learn.
Source: Management Activity API reference, "API throttling": 2,000 requests a minute; the real figure grows with seats.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from logging import getLogger
from math import inf

from o365.quota import Quota
from schemas.contract import limits

_LOGGER = getLogger(__name__)
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
        limit = max(1.0, share * (quota_requests or limits()["quota_requests"]))
        self._quota = Quota(limit, self._period_s, jitter)
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._turn = _Turn()

    @property
    def quota(self) -> int:
        """Requests a period that are granted now."""
        with self._lock:
            return max(1, int(self._quota.limit))

    def used(self) -> int:
        """Requests under way, and those accepted in the period that ends now."""
        with self._lock:
            return self._quota.used(self._clock())

    def acquire(self, until: float = inf) -> int | None:
        """Waits until one request may be sent, and grants it.

        Args:
          until: When, on the clock, to wait no longer.

        Returns:
          The number of the grant, which `release` or `throttled` wants back; None where there was none in time.
        """
        with self._turn:
            while True:
                with self._lock:
                    now = self._clock()
                    wait_s = self._quota.wait_s(now)
                    if wait_s < _SOON_S:
                        return self._quota.grant(now)
                if now + wait_s > until:
                    return None
                self._sleep(wait_s)

    def release(self, grant: int) -> None:
        """Says that the request of a grant is over; after `throttled` it changes nothing."""
        with self._lock:
            self._quota.accepted(grant, self._clock())

    def throttled(self, grant: int, retry_after_s: float | None = None) -> None:
        """Learns from the refusal of a granted request, and makes everyone wait where that is called for.

        Args:
          grant: What `acquire` returned for the request.
          retry_after_s: Seconds the service asks to wait, if it does.
        """
        with self._lock:
            self._quota.refused(grant, self._clock(), retry_after_s)
            _LOGGER.debug("quota learned: %.0f requests in %.0f s", self._quota.limit, self._period_s)


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
