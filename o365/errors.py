"""Errors of the services, sorted by what the caller must do.

ActivityError
├─ ConfigError              the operator must change a flag        → exit 2
├─ FatalError               the tenant must change something       → the job fails
│  └─ NotSubscribedError    start or enable the subscription
├─ RetryableError           the same request may succeed later     → wait retry_after_s, then again
│  ├─ ThrottledError        the tenant's quota is used up          → everyone waits
│  ├─ DownError             the service answers nothing, not asked → go on with another tenant
│  └─ ListingChangedError   the pages do not hold together         → list the same range again
└─ SkippableError           this input can never succeed           → keep its code, and on
   └─ WindowError           the service no longer lists this range
"""

from collections.abc import Callable, Mapping
from typing import Any


class ActivityError(Exception):
    """A call that failed, said in one sentence.

    Args:
      message: What failed, the value, what was expected and what to do. Never a token, a secret or a record.
      code: The service's error code, such as `AF20022` or `AADSTS7000215`; empty where there was none.
      status: The HTTP status; 0 where there was no answer.
    """

    def __init__(self, message: str, *, code: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status

    def __reduce__(self) -> tuple[Callable[..., "ActivityError"], tuple[object, ...]]:
        # The inherited one passes args only, and keyword-only fields would not reach another worker.
        fields = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "message"}
        return _rebuild, (type(self), self.message, fields)


class ConfigError(ActivityError):
    """The operator must change a setting."""


class FatalError(ActivityError):
    """The tenant or a permission must change; no retry can help."""


class NotSubscribedError(FatalError):
    """No enabled subscription exists for the content type."""


class RetryableError(ActivityError):
    """The same request may succeed later.

    Args:
      message: As in `ActivityError`.
      code: As in `ActivityError`.
      status: As in `ActivityError`.
      retry_after_s: Seconds the service asks to wait; None where it names none.
    """

    def __init__(self, message: str, *, code: str = "", status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code, status=status)
        self.retry_after_s = retry_after_s


class ThrottledError(RetryableError):
    """The tenant's request quota is used up."""


class DownError(RetryableError):
    """The request was not sent, because the service has answered none for long."""


class ListingChangedError(RetryableError):
    """The pages of one listing do not hold together; only a listing from its first page can be complete."""


class SkippableError(ActivityError):
    """This input can never succeed.

    Args:
      message: As in `ActivityError`.
      code: As in `ActivityError`.
      status: As in `ActivityError`.
      expired: Whether the service held the content once and has deleted it since.
    """

    def __init__(self, message: str, *, code: str = "", status: int = 0, expired: bool = False) -> None:
        super().__init__(message, code=code, status=status)
        self.expired = expired


class WindowError(SkippableError):
    """The service does not list this time range: too wide, too old or upside down."""


def _rebuild(kind: type[ActivityError], message: str, fields: Mapping[str, Any]) -> ActivityError:
    error = kind(message)
    vars(error).update(fields)
    return error
