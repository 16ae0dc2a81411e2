"""Operations on content: list, fetch, notifications, friendly names (contract 5.4 to 5.7)."""

import gzip
from collections.abc import Mapping
from re import compile as regex

import msgspec
from starlette.responses import JSONResponse, Response

from emulator import webhook
from emulator.call import Call
from emulator.content import type_in_id, wire_time
from emulator.errors import af
from emulator.parts import part_of
from emulator.webhook import listed
from emulator.window import next_page_uri, page_of
from schemas.contract import content_types
from schemas.times import TimeRange

_JSON = "application/json; charset=utf-8"
_LANGUAGE = regex(r"\s*(\*|[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*)\s*(;\s*q=[01](\.\d{1,3})?)?\s*")
_SMALLEST_GZIP = 1024
# Three of the built-in types, as the names that DLP records refer to. Source: Purview, sensitive information types.
SENSITIVE_TYPES = (
    {"id": "50842eb7-edc8-4019-85dd-5a5c1f2bb085", "name": "Credit Card Number"},
    {"id": "a44669fe-0d48-453d-a9b1-2cc83f2cba77", "name": "U.S. Social Security Number (SSN)"},
    {"id": "cb353f78-2b72-4c3c-8827-92ebe4f69fdf", "name": "ABA Routing Number"},
)


async def list_content(call: Call) -> Response:
    """Lists blobs of a window of `contentCreated`, in the order in which they appeared."""
    content_type = call.content_type()
    subscription = call.subscription(content_type)
    page, now = page_of(call.params, call.state), call.state.clock.now()
    found = [
        blob
        for blob in call.tenant.blobs[content_type]
        if page.window.start <= blob.created < page.window.end
        and blob.order > page.after
        and subscription.serves(blob, now)
    ]
    shown = found[: call.state.page_size]
    if call.state.parts:
        shown = [part_of(call.tenant, blob, page.window.start) for blob in shown]
    for blob in shown:
        blob.listed += 1
    answer = _json(call, [listed(blob, call.feed) for blob in shown])
    if len(found) > len(shown):
        _set_next_page(call, answer, content_type, page.window, shown[-1].order)
    return answer


async def get_content(call: Call) -> Response:
    """Answers the records of a blob."""
    content_id = call.request.path_params["content_id"]
    content_type = type_in_id(content_id)
    if content_type is None:
        raise af("AF20052", content_id=content_id)
    call.need_role(content_types()[content_type].role)
    subscription, now = call.subscription(content_type), call.state.clock.now()
    blob = call.tenant.by_id.get(content_id)
    if blob is None or not subscription.serves(blob, now):
        raise af("AF20050", content_id=content_id)
    if blob.expiration <= now:
        raise af("AF20051", content_id=content_id)
    blob.fetched += 1
    if takes_gzip(call.request.headers):
        return Response(blob.gzipped(), media_type=_JSON, headers={"Content-Encoding": "gzip"})
    return Response(blob.body(), media_type=_JSON)


async def list_notifications(call: Call) -> Response:
    """Lists the attempts to tell the webhook, for blobs of a window of `contentCreated`, in the order of sending."""
    content_type = call.content_type()
    subscription = call.subscription(content_type)
    page = page_of(call.params, call.state)
    await webhook.notify(call.state, call.tenant, call.app, subscription)
    found = [
        note
        for note in subscription.notifications
        if page.window.start <= note.blob.created < page.window.end and note.order > page.after
    ]
    shown = found[: call.state.page_size]
    answer = _json(
        call,
        [
            listed(note.blob, call.feed) | {"notificationSent": wire_time(note.sent), "notificationStatus": note.status}
            for note in shown
        ],
    )
    if len(found) > len(shown):
        _set_next_page(call, answer, content_type, page.window, shown[-1].order)
    return answer


async def friendly_names(call: Call) -> Response:
    """Answers the names of sensitive information types."""
    languages = call.request.headers.get("accept-language", "en-US").split(",")
    if not all(_LANGUAGE.fullmatch(language) for language in languages):
        raise af("AF20054")
    if len(languages) > 1:
        raise af("AF20053")
    return JSONResponse(list(SENSITIVE_TYPES))


def takes_gzip(headers: Mapping[str, str]) -> bool:
    """Tells whether Accept-Encoding names gzip and does not refuse it."""
    for part in headers.get("accept-encoding", "").lower().split(","):
        name, _, quality = part.replace(" ", "").partition(";q=")
        if name in ("gzip", "*"):
            return quality.strip("0.") != "" or not quality
    return False


def _json(call: Call, body: object) -> Response:
    raw = msgspec.json.encode(body)
    if len(raw) < _SMALLEST_GZIP or not takes_gzip(call.request.headers):
        return Response(raw, media_type=_JSON)
    return Response(gzip.compress(raw, 1), media_type=_JSON, headers={"Content-Encoding": "gzip"})


def _set_next_page(call: Call, answer: Response, content_type: str, window: TimeRange, last: str) -> None:
    operation = call.request.url.path.rpartition("/")[2]
    address = f"{call.feed}/subscriptions/{operation}"
    answer.headers["NextPageUri"] = next_page_uri(address, content_type, window, last, call.tenant.datacentre)
