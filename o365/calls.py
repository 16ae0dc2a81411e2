"""Sends requests to the activity API until they are answered.

service down? ─ no ─▶ quota ─▶ token ─▶ request ─▶ refused? ─ no ─▶ read the answer ─▶ result
     ▲  └ yes ─▶ error                                │ yes               │ odd
     └──── wait, up to a deadline ────────────────────┴───────────────────┘
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from logging import getLogger
from math import inf
from typing import TypeVar

from o365.answers import http_date, refusal
from o365.breaker import COOL_DOWN_S, Breaker
from o365.errors import (
    ActivityError,
    DownError,
    FatalError,
    ListingChangedError,
    RetryableError,
    SkippableError,
    ThrottledError,
)
from o365.identity import Tokens
from o365.throttle import Governor
from o365.transport import Answer, TooLargeError, Transport

_LOGGER = getLogger(__name__)
_T = TypeVar("_T")
_MAX_BACKOFF_S = 60.0
_CLOCK_TOLERANCE = timedelta(seconds=2)  # the service tells whole seconds
_CLOCK_WARNING = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and what to call it in messages.

    Args:
      method: HTTP method.
      url: Address on the service.
      what: What it does, such as "listing 'Audit.General'".
      content_type: The content type it is about, if any.
      is_blob: Whether it fetches a blob.
      headers: Headers of its own.
      max_bytes: Most bytes of the answer after decompression.
      deadline_s: Seconds after its first failure at which it is given up; the client's by default.
      on_large: Called where the body of the answer grows large, before more of it is read; it may wait.
    """

    method: str
    url: str
    what: str
    content_type: str | None = None
    is_blob: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = 64 << 20
    deadline_s: float | None = None
    on_large: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What has been done so far: requests sent, of these refused for the quota, and requests sent again."""

    requests: int = 0
    throttled: int = 0
    retries: int = 0


class Calls:
    """Sends requests with token, within the quota, and again where that can help.

    Args:
      transport: Sends one request.
      tokens: Gives access tokens.
      governor: Keeps the quota.
      clock: Monotonic seconds.
      sleep: Waits for seconds.
      jitter: A number from 0 to 1, new at each call.
      deadline_s: Seconds after its first failure at which a call is given up.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        tokens: Tokens,
        governor: Governor,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
        deadline_s: float,
    ) -> None:
        self._transport, self._tokens, self._governor = transport, tokens, governor
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._deadline_s = deadline_s
        self._breaker = Breaker(clock=clock, deadline_s=deadline_s)
        self._lock = threading.Lock()
        self._requests = self._throttled = self._retries = 0
        self._clock_error = timedelta()

    def send(self, request: Request, read: Callable[[Answer], _T]) -> _T:
        """Sends a request until its answer can be read, an error is final, or the deadline is near.

        Args:
          request: What to send.
          read: Makes the result of an answer; a RetryableError of it sends the request again.

        Raises:
          ActivityError: The last failure, or that the service is down.
        """
        deadline_s = self._deadline_s if request.deadline_s is None else request.deadline_s
        last: RetryableError | None = None
        give_up_at = inf
        failures = 0
        while True:
            is_try = self._breaker.enter(request.what)
            grant = self._governor.acquire(self._clock() + COOL_DOWN_S if is_try else give_up_at)
            if grant is None:
                self._breaker.check(request.what)
                if is_try:
                    continue  # another has found the service up
                assert last is not None, "only a request that has failed has a deadline"  # noqa: S101
                self._breaker.gave_up(last, give_up_at - self._clock())
                raise last
            try:
                result = read(self._exchange(request, grant, is_try))
            except DownError:
                raise
            except ListingChangedError:
                self._breaker.succeeded()
                raise
            except RetryableError as error:
                self._breaker.failed()
                wait_s = self._wait_s(error, failures)
                give_up_at = min(give_up_at, self._clock() + deadline_s)
                if is_try or self._clock() + wait_s > give_up_at:
                    self._breaker.gave_up(error, min(wait_s, _MAX_BACKOFF_S))
                    if wait_s > deadline_s:
                        raise _too_long_a_wait(error, wait_s, deadline_s) from error
                    raise
                last = error
            except ActivityError:
                self._breaker.succeeded()
                raise
            else:
                self._breaker.succeeded()
                return result
            _LOGGER.debug("again in %.1f s: %s", wait_s, last.message)
            if wait_s > 0:
                self._sleep(wait_s)
            failures += 1
            self._count(retries=1)

    def counts(self) -> Counts:
        """What has been done so far."""
        with self._lock:
            return Counts(self._requests, self._throttled, self._retries)

    def _exchange(self, request: Request, grant: int, is_try: bool) -> Answer:
        """Sends a request, once more with a new token where the service rejects the first."""
        try:
            if not is_try:
                # It may have waited for its grant since before the service went down.
                self._breaker.check(request.what)
            token = self._tokens.token()
            answer, error = self._once(request, token, grant)
            if error is not None and _is_token_rejected(error):
                # On the same grant: what is refused for its token does not reach the quota.
                answer, error = self._once(request, self._tokens.refresh(token), grant)
        finally:
            self._governor.release(grant)
        if error is not None:
            raise error
        return answer

    def _once(self, request: Request, token: str, grant: int) -> tuple[Answer, ActivityError | None]:
        self._count(requests=1)
        try:
            answer = self._transport.send(
                request.method,
                request.url,
                headers={"Accept": "application/json", **request.headers},
                token=token,
                max_bytes=request.max_bytes,
                on_large=request.on_large,
            )
        except TooLargeError as large:
            if not request.is_blob:
                raise
            raise SkippableError(f"{request.what} failed: {large.message}") from large
        self._note_date(answer.headers)
        error = refusal(
            answer.status,
            answer.headers,
            answer.body,
            what=request.what,
            content_type=request.content_type,
            is_blob=request.is_blob,
            hide=(token,),
        )
        if isinstance(error, ThrottledError):
            self._governor.throttled(grant, error.retry_after_s)
            self._count(throttled=1)
        return answer, error

    def now(self) -> datetime:
        """The service's time, by its last answer; where this machine's clock is about right, by that."""
        return datetime.now(UTC) + self._clock_error

    def _note_date(self, headers: Mapping[str, str]) -> None:
        date = http_date(headers.get("Date", ""))
        if date is None:
            return
        error = date - datetime.now(UTC)
        if abs(error) < _CLOCK_TOLERANCE:
            error = timedelta()
        elif abs(error) > _CLOCK_WARNING > abs(self._clock_error):
            way = "behind" if error > timedelta() else "ahead of"
            _LOGGER.warning(
                "this machine's clock is %s %s the service's, which counts from now on",
                timedelta(seconds=round(abs(error).total_seconds())),
                way,
            )
        self._clock_error = error

    def _wait_s(self, error: RetryableError, failures: int) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s + min(1.0, error.retry_after_s / 10) * self._jitter()
        if isinstance(error, ThrottledError):
            return 0.0  # the governor knows better: a quota wants a long wait, a stray refusal none
        return min(_MAX_BACKOFF_S, 2.0**failures) * (0.5 + self._jitter() / 2)

    def _count(self, *, requests: int = 0, throttled: int = 0, retries: int = 0) -> None:
        with self._lock:
            self._requests += requests
            self._throttled += throttled
            self._retries += retries


def _too_long_a_wait(error: RetryableError, wait_s: float, deadline_s: float) -> RetryableError:
    return type(error)(
        f"{error.message}; a wait of {wait_s:.0f} seconds was asked for, more than the {deadline_s:.0f} that a request"
        " is tried",
        code=error.code,
        status=error.status,
        retry_after_s=error.retry_after_s,
    )


def _is_token_rejected(error: ActivityError) -> bool:
    # A 401 with a code is about a missing role, which a new token of the same tenant does not bring.
    return isinstance(error, FatalError) and error.status == 401 and not error.code
