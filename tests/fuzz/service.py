"""Targets: whatever the services answer is read, or is one of our own errors."""

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import unquote

import msgspec
from hypothesis import strategies as st

from lake.entries import ListedBlob, Listing, decode_entry
from o365.address import FeedAddress
from o365.answers import refusal, retry_after_s
from o365.connection import Connection
from o365.errors import ActivityError
from o365.identity import TokenSource
from o365.listing import content_blob, notification, objects, started, subscription
from o365.transport import Answer
from schemas.contract import api_errors
from tests.fuzz.mutations import mutated

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
ROOT = "https://manage.office.com"
BASE = f"/api/v1.0/{TENANT}/activity/feed/"
WHAT = "listing 'Audit.General'"
NOW = datetime(2026, 11, 24, tzinfo=UTC)

_TIMES = st.sampled_from(["2026-11-20T08:15:31.204Z", "2026-11-27T08:15:31Z", "0001-01-01T00:00:00+14:00", "now"])
_BLOBS = st.fixed_dictionaries(
    {
        "contentUri": st.just(f"{ROOT}{BASE}audit/2026$1$audit_general$Audit_General$emea0036") | st.text(max_size=8),
        "contentId": st.sampled_from(["\ud800", "../../x", "\0", "\x1b[2J\n"])
        | st.just("2026$1$audit_general$Audit_General$emea0036"),
        "contentType": st.sampled_from(["Audit.General", "audit.general", "DLP.All"]),
        "contentCreated": _TIMES,
        "contentExpiration": _TIMES,
    },
    optional={
        "notificationStatus": st.just("success"),
        "notificationSent": _TIMES,
        "status": st.sampled_from(["enabled", None, 5]),
        "webhook": st.sampled_from([None, {"address": "https://x", "status": "enabled"}, []]),
    },
)
_LISTED = st.lists(_BLOBS, max_size=3) | _BLOBS
listings = mutated(_LISTED.map(lambda value: json.dumps(value).encode()))


def check_listing(data: bytes) -> None:
    """A listing is read as blobs that the ledger can hold, or is an error of ours."""
    for read in (content_blob, notification, lambda item, _, what: subscription(item, what)):
        try:
            items = [read(item, "Audit.General", WHAT) for item in objects(data, WHAT)]
        except ActivityError as error:
            _check_message(error)
            continue
        for item in items:
            repr(item).encode()
        if read is content_blob:
            listed = [ListedBlob(b.content_id, b.content_created, b.content_expiration) for b in items]
            entry = Listing("run", NOW, "Audit.General", [], listed)
            assert decode_entry(msgspec.json.encode(entry)) == entry
    try:
        assert started(data, WHAT).content_type
    except ActivityError as error:
        _check_message(error)


def _check_message(error: ActivityError) -> None:
    assert str(error)
    assert str(error).isprintable(), str(error)
    assert len(str(error)) < 1000


_CODES = st.sampled_from(sorted(api_errors())) | st.text(max_size=6)
_WAITS = st.sampled_from(["5", "-1", "nan", "1e400", "9" * 400, "Fri, 20 Nov 2026 08:15:31 GMT", ""]) | st.text(
    max_size=9
)
_DATES = st.sampled_from(["Fri, 20 Nov 2026 08:15:00 GMT", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", ""])
_SAYS = st.sampled_from(["Please retry again after 8m 46s.", "tenant does not exist", "eyJ0.abc", "Bearer hush-token"])
_REFUSALS = st.fixed_dictionaries(
    {
        "status": st.sampled_from([200, 204, 302, 400, 401, 403, 404, 408, 410, 429, 500, 503, 599]),
        "headers": st.fixed_dictionaries({}, optional={"Retry-After": _WAITS, "Date": _DATES | _WAITS}),
        "body": st.fixed_dictionaries(
            {}, optional={"error": st.fixed_dictionaries({"code": _CODES, "message": _SAYS})}
        ),
    }
)
refusals = mutated(_REFUSALS.map(lambda value: json.dumps(value).encode()))


def check_refusal(data: bytes) -> None:
    """Every refusal of the service is an error of ours, with a wait that is none or a number, and without the token."""
    status, headers, body = _as_answer(data)
    error = refusal(status, headers, body, what=WHAT, content_type="Audit.General", hide=("hush-token",))
    if error is not None:
        _check_message(error)
        assert "hush-token" not in str(error)
    wait_s = retry_after_s(headers)
    assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)
    wait_s = getattr(error, "retry_after_s", None)
    assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)


def _as_answer(data: bytes) -> tuple[int, Mapping[str, str], bytes]:
    try:
        told = json.loads(data)
        status, headers = int(told["status"]), {str(k): str(v) for k, v in told["headers"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return 400, {}, data
    start = data.find(b'"body":') + len(b'"body":')
    return status, headers, data[start : data.rfind(b"}")]


_PATHS = st.lists(
    st.sampled_from(
        ["..", ".", "/", "//", "%2e%2e", "%252e%252e", "%5c", "\\", ";", "@", ":443", "#", "?", "%00", "%0d%0a"]
    )
    | st.sampled_from([ROOT, BASE, TENANT, "audit/", "1$2$x", "evil.example", "[::1]", "\u212a", "ⓞ", ROOT.upper()]),
    max_size=7,
)
addresses = mutated(
    _PATHS.map("".join).map(str.encode) | _PATHS.map(lambda parts: f"{ROOT}{BASE}audit/{''.join(parts)}".encode())
)


def check_address(data: bytes) -> None:
    """An address of the service is refused, or is below the tenant's feed at the configured root."""
    uri = data.decode("utf-8", "surrogateescape")
    address = FeedAddress(ROOT, TENANT, "p-1")
    for call in (address.blob, lambda uri: address.next_page(uri, "subscriptions/content", {"startTime": "x"})):
        try:
            url = call(uri)
        except ActivityError as error:
            _check_message(error)
            continue
        assert url.startswith(ROOT + "/")
        assert url.isascii()
        path = url.removeprefix(ROOT).partition("?")[0].lower()
        assert not {"..", "."} & set(unquote(unquote(path)).split("/"))
        assert not any(odd in unquote(path) for odd in "\\\0\r\n")


_ANSWERS = st.fixed_dictionaries(
    {"access_token": st.just("hush-token"), "token_type": st.just("Bearer"), "expires_in": st.integers(0, 4000)},
    optional={
        "refresh_in": st.integers(),
        "id_token": st.text(max_size=9) | st.just("a.b.c"),
        "client_info": st.text(max_size=9),
        "scope": st.sampled_from(["a b", None, 5, ["x"]]),
        "foci": st.just("1"),
        "refresh_token": st.just("r") | st.integers(),
        "error": st.just("invalid_client"),
    },
)
tokens = mutated(_ANSWERS.map(lambda value: json.dumps(value).encode()))
_DISCOVERED = {
    "authorization_endpoint": f"https://login.example/{TENANT}/oauth2/v2.0/authorize",
    "token_endpoint": f"https://login.example/{TENANT}/oauth2/v2.0/token",
    "issuer": f"https://login.example/{TENANT}/v2.0",
}


class _Answers:
    """Answers every POST with the same body, and the discovery as it should be."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def send(self, method: str, url: str, **_: object) -> Answer:
        body = self._body if method == "POST" else json.dumps(_DISCOVERED).encode()
        return Answer(200, {}, body, is_whole=True)


_CONNECTION = Connection(
    "contoso", TENANT, TENANT, authority="https://login.example", client_secret_env="AUDITLAKE_FUZZ_SECRET"
)


def check_token(data: bytes) -> None:
    """A sign-in gives a token that lives for a time, or is an error of ours."""
    os.environ["AUDITLAKE_FUZZ_SECRET"] = "not-a-secret"
    source = TokenSource(_CONNECTION, _Answers(data), clock=lambda: 1000.0)  # type: ignore[arg-type]
    try:
        assert isinstance(source.token(), str)
    except ActivityError as error:
        _check_message(error)
        assert "hush" not in str(error)
        return
    assert math.isfinite(source._held.renew_at)  # type: ignore[union-attr]
