"""Reads what the feed lists: subscriptions, content blobs, notifications, friendly names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from re import compile as regex

from o365.answers import is_html
from o365.errors import RetryableError
from schemas.feed import ContentBlob
from schemas.times import parse_wire

_HALF = regex(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as the service lists it; `status` is empty where the service names none."""

    content_type: str
    status: str
    webhook_address: str | None = None
    webhook_status: str | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether the service says that it is enabled."""
        return self.status.lower() == "enabled"


@dataclass(frozen=True, slots=True)
class Notification:
    """One attempt of the service to tell a webhook of a blob."""

    blob: ContentBlob
    sent: datetime
    status: str


def objects(body: bytes, what: str) -> list[Mapping[str, object]]:
    """Reads a JSON array of objects; an answer of any other shape is an error, never an empty list.

    Raises:
      RetryableError: The body is not such an array.
    """
    answer = _parsed(body, what)
    if not isinstance(answer, list):
        raise _odd(what, f"the answer is {_kind(answer)}, expected an array")
    for position, item in enumerate(answer):
        if not isinstance(item, dict):
            raise _odd(what, f"item {position} of the answer is {_kind(item)}, expected an object")
    return answer


def started(body: bytes, what: str) -> Subscription:
    """Reads the answer of `/subscriptions/start`; a success without one is none.

    Raises:
      RetryableError: The body is not a subscription.
    """
    answer = _parsed(body, what)
    if not isinstance(answer, dict):
        raise _odd(what, f"the answer is {_kind(answer)}, expected an object")
    return subscription(answer, what)


def _parsed(body: bytes, what: str) -> object:
    if is_html(body):
        raise _odd(what, "the answer is markup of some gateway, expected JSON")
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _odd(what, f"the answer of {len(body)} bytes is not JSON") from error


def subscription(item: Mapping[str, object], what: str) -> Subscription:
    """Reads one item of `/subscriptions/list` or the answer of `/subscriptions/start`."""
    webhook = item.get("webhook")
    hook = webhook if isinstance(webhook, dict) else {}
    return Subscription(
        content_type=_text(item, "contentType", what),
        status=_optional(item, "status") or "",
        webhook_address=_optional(hook, "address"),
        webhook_status=_optional(hook, "status"),
    )


def content_blob(item: Mapping[str, object], content_type: str, what: str) -> ContentBlob:
    """Reads one item of `/subscriptions/content`.

    Raises:
      RetryableError: A member is missing or odd, or the blob is of another content type.
    """
    listed = _text(item, "contentType", what)
    if listed.lower() != content_type.lower():
        raise _odd(what, f"the answer holds a blob of {listed!r}")
    return ContentBlob(
        content_id=_text(item, "contentId", what),
        content_uri=_text(item, "contentUri", what),
        content_type=content_type,
        content_created=_time(item, "contentCreated", what),
        content_expiration=_time(item, "contentExpiration", what),
    )


def notification(item: Mapping[str, object], content_type: str, what: str) -> Notification:
    """Reads one item of `/subscriptions/notifications`."""
    return Notification(
        blob=content_blob(item, content_type, what),
        sent=_time(item, "notificationSent", what),
        status=_text(item, "notificationStatus", what),
    )


def _text(item: Mapping[str, object], member: str, what: str) -> str:
    value = item.get(member)
    if not isinstance(value, str) or not value:
        raise _odd(what, f"an item's {member} is {_kind(value)}, expected a text")
    if _HALF.search(value):
        raise _odd(what, f"an item's {member} holds half a character, which no file can hold, expected a text")
    return value


def _optional(item: Mapping[str, object], member: str) -> str | None:
    value = item.get(member)
    return value if isinstance(value, str) and value else None


def _time(item: Mapping[str, object], member: str, what: str) -> datetime:
    text = _text(item, member, what)
    time = parse_wire(text)
    if time is None:
        raise _odd(what, f"an item's {member} is {text[:40]!r}, expected a time such as 2026-11-20T08:15:31.204Z")
    return time


def _kind(value: object) -> str:
    """A value's JSON kind, for messages that must not show the value."""
    if value is None:
        return "missing or null"
    kinds = {str: "a text", bool: "a boolean", dict: "an object", list: "an array"}
    return "an empty text" if value == "" else kinds.get(type(value), "a number")


def _odd(what: str, why: str) -> RetryableError:
    return RetryableError(f"{what} failed: {why}; try again later")
