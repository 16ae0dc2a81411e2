"""Reads answers of the activity API: which of them are refusals, and which error each refusal is."""

import json
import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from re import IGNORECASE
from re import compile as regex

from o365.errors import (
    ActivityError,
    ConfigError,
    FatalError,
    ListingChangedError,
    NotSubscribedError,
    RetryableError,
    SkippableError,
    ThrottledError,
    WindowError,
)
from schemas.contract import ApiError, api_errors, content_types, limits

_QUOTED_CHARS = 200
_READ_CHARS = 4000
_CREDENTIAL = regex(r"(?i:bearer\s+\S+)|eyJ[\w-]+\.[\w.-]*")
_SPELT_WAIT = regex(r"(?<!\d)(\d{1,6})\s*([hms])\b", IGNORECASE)
_UNIT_S = {"h": 3600, "m": 60, "s": 1}
_READ_ROLE = "ActivityFeed.Read"

_ADVICE = {
    "config": "check the connection's tenant, cloud and content types",
    "fatal": "the tenant's administrator must change this",
    "subscribe": "start the subscription of this content type, then list again",
    "window": "ask for at most {max_window} hours of the last {retention} days, with the start before the end",
    "relist": "list the same time range again from its first page",
    "skip": "no retry can help",
    "expired": "no retry can help",
    "throttle": "the request is sent again when the tenant's quota allows",
    "start_wait": "wait before the subscription is started again",
    "retry": "try again later",
}


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    what: str,
    content_type: str | None = None,
    is_blob: bool = False,
    hide: Collection[str] = (),
) -> ActivityError | None:
    """Names the error that an answer of the activity API is, or None where it is a success.

    Args:
      status: HTTP status of the answer.
      headers: Headers of the answer, by any case of name.
      body: Body of the answer, decoded from its content encoding.
      what: What was asked for, to begin the message with.
      content_type: Content type asked for, which decides the role that may be missing.
      is_blob: Whether a blob was asked for, so that an unknown refusal costs that blob only.
      hide: Texts that must not be quoted: the token that was sent.
    """
    if 200 <= status < 300:
        return None
    code, text = _error_object(body)
    said = f"; the service said {quoted(text, hide)}" if text else ""
    if "tenant" in text.lower() and "does not exist" in text.lower() and code not in api_errors():
        return FatalError(
            f"{what} failed: unified audit logging is off in this tenant or not active yet (HTTP {status}); turn it on"
            f" in Microsoft Purview (Audit) and allow it some hours{said}",
            status=status,
        )
    row = api_errors().get(code)
    if row is not None:
        return _by_row(row, status, headers, text, f"{what} failed: ", said, content_type)
    return _by_status(status, headers, f"{what} failed: ", said, is_blob)


def by_action(
    action: str, message: str, *, code: str, status: int, wait_s: float | None = None
) -> ActivityError | None:
    """Makes the error that an `action` of `api_errors.csv` asks for, or None where the action is ok."""
    match action:
        case "ok":
            return None
        case "config":
            return ConfigError(message, code=code, status=status)
        case "subscribe":
            return NotSubscribedError(message, code=code, status=status)
        case "window":
            return WindowError(message, code=code, status=status)
        case "relist":
            return ListingChangedError(message, code=code, status=status)
        case "skip" | "expired":
            return SkippableError(message, code=code, status=status, expired=action == "expired")
        case "throttle":
            return ThrottledError(message, code=code, status=status, retry_after_s=wait_s)
        case "start_wait" | "retry":
            return RetryableError(message, code=code, status=status, retry_after_s=wait_s)
    return FatalError(message, code=code, status=status)


def quoted(text: str, hide: Collection[str] = ()) -> str:
    """Quotes a service's text for a message: one line, bounded, without credentials."""
    for credential in filter(None, hide):
        text = text.replace(credential, "…")
    # Looking for credentials in megabytes of a hostile text could take for ever.
    line = " ".join(_CREDENTIAL.sub("…", text[:_READ_CHARS]).split())
    return repr(line if len(line) <= _QUOTED_CHARS else line[: _QUOTED_CHARS - 1] + "…")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Reads `Retry-After`, seconds or date, as seconds; None where it is missing or unreadable."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    value = lower.get("retry-after", "")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        # Measured against the answer's own Date, so that a wrong local clock does not matter.
        until, now = http_date(value), http_date(lower.get("date", "")) or datetime.now(UTC)
        return None if until is None else max(0.0, (until - now).total_seconds())
    return max(0.0, seconds) if math.isfinite(seconds) else None


def is_html(body: bytes) -> bool:
    """Whether a body is markup of some gateway; JSON never begins so."""
    return body[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _by_row(
    row: ApiError,
    status: int,
    headers: Mapping[str, str],
    text: str,
    begin: str,
    said: str,
    content_type: str | None,
) -> ActivityError | None:
    if row.action == "ok":
        return None
    advice = _role_advice(content_type) if row.code == "AF10001" else _advice(row.action)
    wait_s = retry_after_s(headers)
    if row.action == "start_wait" and wait_s is None:
        wait_s = _spelt_wait_s(text) or float(limits()["start_wait"])
    message = f"{begin}{row.meaning} ({row.code}, HTTP {status}); {advice}{said}"
    return by_action(row.action, message, code=row.code, status=status, wait_s=wait_s)


def _by_status(status: int, headers: Mapping[str, str], begin: str, said: str, is_blob: bool) -> ActivityError | None:
    action, why = _unnamed(status, is_blob)
    return by_action(
        action,
        f"{begin}{why} (HTTP {status}){said}",
        code="",
        status=status,
        wait_s=retry_after_s(headers),
    )


def _unnamed(status: int, is_blob: bool) -> tuple[str, str]:
    """What to do about a refusal without a known error code, and why."""
    if status == 401:
        return "fatal", "the service rejects a new access token; check that the connection's cloud is the tenant's"
    if status == 429:
        return "throttle", f"too many requests; {_ADVICE['throttle']}"
    if 300 <= status < 400:
        return (
            "config",
            "the answer is a redirect, which is never followed; check the cloud, the API root and the proxy",
        )
    if is_blob and status in (404, 410):
        return "skip", f"the blob does not exist; {_ADVICE['skip']}"
    if is_blob and status == 400:
        return "skip", f"the service cannot answer for this blob; {_ADVICE['skip']}"
    if status == 404:
        # Gateways answer 404 for moments, so this is no proof of a wrong address.
        return "retry", "nothing answers at this address; try again later, and check the cloud and the API root"
    if status in (408, 425) or status >= 500:
        return "retry", f"the service cannot answer now; {_ADVICE['retry']}"
    return "fatal", "the service refuses this request for a reason that auditlake does not know"


def _advice(action: str) -> str:
    days, hours = limits()["retention"] // 86400, limits()["max_window"] // 3600
    return _ADVICE[action].format(retention=days, max_window=hours)


def _role_advice(content_type: str | None) -> str:
    known = content_types().get(content_type or "")
    return (
        f"grant the application role {known.role if known else _READ_ROLE!r} of 'Office 365 Management APIs' with admin"
        " consent (Entra admin center, App registrations, API permissions)"
    )


def _error_object(body: bytes) -> tuple[str, str]:
    """The code and text of an error answer; a text only where the body has another shape that names one."""
    try:
        answer = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(answer, dict):
        return "", ""
    error = answer.get("error")
    if isinstance(error, dict):
        return str(error.get("code") or "").strip(), str(error.get("message") or "")
    return "", str(answer.get("Message") or answer.get("message") or "")


def _spelt_wait_s(text: str) -> float | None:
    """Reads 'Please retry again after 8m 46s.'."""
    parts = _SPELT_WAIT.findall(text.partition("after")[2])
    return float(sum(int(count) * _UNIT_S[unit.lower()] for count, unit in parts)) if parts else None


def http_date(text: str) -> datetime | None:
    """Reads a date of a header; None where it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
