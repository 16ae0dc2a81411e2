"""Knows when a service is down, so that this costs a run one deadline and not one for each request.

closed ── given up after a whole deadline, in which nothing succeeded ──▶ open ── cool-down ──▶ one request tries
   ▲                                                                        ▲                        │
   └──────────────────────────────── it succeeds ◀──────────────────────────┴── it fails ◀───────────┘
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from o365.errors import DownError, RetryableError
from schemas.times import format_utc

COOL_DOWN_S = 30.0  # from one try to the next


class Breaker:
    """Refuses requests while the service is down; any number of threads may share it.

    Args:
      clock: Monotonic seconds.
      deadline_s: Seconds without a success after which a request that is given up proves the service down.
    """

    def __init__(self, *, clock: Callable[[], float], deadline_s: float) -> None:
        self._clock, self._deadline_s = clock, deadline_s
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._cause: str | None = None  # why it is open; none where it is closed
        self._status = 0
        self._try_at = 0.0

    def enter(self, what: str) -> bool:
        """Lets a request in.

        Returns:
          Whether it is the one that tries whether the service is back: then it is sent once and not again.

        Raises:
          DownError: The service is down.
        """
        with self._lock:
            if self._cause is None:
                return False
            now = self._clock()
            if now < self._try_at:
                raise self._down(what, now)
            # Whoever is next waits for another cool-down, even if this try never ends.
            self._try_at = now + COOL_DOWN_S
            return True

    def check(self, what: str) -> None:
        """Turns back a request that was let in before the service was found to be down.

        Raises:
          DownError: The service is down.
        """
        with self._lock:
            if self._cause is not None:
                raise self._down(what, self._clock())

    def succeeded(self) -> None:
        """Notes that the service has answered; what it answered does not matter."""
        with self._lock:
            self._failing_since = self._cause = None

    def failed(self) -> None:
        """Notes a failure that may pass."""
        with self._lock:
            if self._failing_since is None:
                self._failing_since = self._clock()

    def gave_up(self, error: RetryableError, spare_s: float) -> None:
        """Notes that a request was given up.

        Args:
          error: Its last failure.
          spare_s: Seconds by which it was given up early, because the next try would have come too late.
        """
        with self._lock:
            now = self._clock()
            since = now if self._failing_since is None else self._failing_since
            if self._cause is None and now + spare_s - since >= self._deadline_s:
                began = datetime.now(UTC) - timedelta(seconds=now - since)
                self._cause = f"no request of this tenant has succeeded since {format_utc(began)}: {error.message}"
                self._status = error.status
                self._try_at = now

    def _down(self, what: str, now: float) -> DownError:
        return DownError(
            f"{what} was not tried: {self._cause}",
            status=self._status,
            retry_after_s=max(0.0, self._try_at - now),
        )
