"""What each fault does: answers instead of the service, spoils its answer, or ends the connection."""

import asyncio
import socket
import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from emulator import fault_bodies as bodies
from emulator.errors import MESSAGES, denied
from emulator.fault_bodies import FOREIGN_HOST, Fault, Items
from emulator.tenant import Answer, State
from schemas.contract import api_errors

FEED = ("list", "start", "stop", "content", "blob", "notifications", "names")
PLACES = ("token", *FEED)
_PAGES = ("content", "notifications")
_GOODBYE_S = 5.0
_HTML = (
    "<!DOCTYPE html>\r\n<html><head><title>{0} - Service</title></head>\r\n"
    "<body><h2>Our services aren't available right now</h2><p>We're working to restore all services as soon as"
    " possible. Please check back soon.</p></body></html>"
)


Action = Callable[[Fault, State, Request, Answer], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it does, where it can, and which parameters it takes; those in `needs` it must have.

    `instead` says that the service does not see the request, so that a start starts nothing.
    """

    action: Action
    places: tuple[str, ...] = PLACES
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    instead: bool = False


async def _latency(fault: Fault, _: State, request: Request, answer: Answer) -> Response:
    # Read first: what comes after the body is that the client has gone, and then nobody has to wait.
    await request.body()
    await _gone(request.receive, fault.seconds or 0)
    return await answer(request)


async def _throttled(fault: Fault, _: State, request: Request, __: Answer) -> Response:
    text = MESSAGES["AF429"].format(method=request.method, publisher="00000000-0000-0000-0000-000000000000")
    return _retry_after(fault, JSONResponse({"error": {"code": "AF429", "message": text}}, fault.status or 429))


async def _status(fault: Fault, _: State, __: Request, ___: Answer) -> Response:
    return _retry_after(fault, PlainTextResponse("The service is unavailable.", fault.status or 503))


async def _html(fault: Fault, _: State, __: Request, ___: Answer) -> Response:
    status = fault.status or 200
    return _retry_after(fault, Response(_HTML.format(status), status, media_type="text/html"))


async def _af(fault: Fault, _: State, request: Request, __: Answer) -> Response:
    code = fault.code or "AF50000"
    known = {"content_id": request.path_params.get("content_id", ""), "minutes": "8", "seconds": "46"}
    text = MESSAGES[code].format_map(defaultdict(lambda: "none", known))
    body = {"error": {"code": code, "message": text}}
    return _retry_after(fault, JSONResponse(body, fault.status or api_errors()[code].http))


async def _unauthorized(_: Fault, __: State, ___: Request, ____: Answer) -> Response:
    return denied().response()


async def _expired(_: Fault, state: State, request: Request, answer: Answer) -> Response:
    tenant = state.tenant(request.path_params["tenant_id"])
    blob = tenant.by_id.get(request.path_params["content_id"]) if tenant else None
    if blob is not None:
        blob.expiration = min(blob.expiration, state.clock.now())
    return await answer(request)


async def _drop(_: Fault, __: State, ___: Request, ____: Answer, *, reset: bool) -> Response:
    return _Dropped(reset=reset)


async def _stop_halfway(fault: Fault, _: State, request: Request, answer: Answer) -> Response:
    return _Half(await answer(request), fault.seconds or 0)


def _retry_after(fault: Fault, response: Response) -> Response:
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


class _Dropped(Response):
    """No answer: the connection ends in order, or by a reset of TCP."""

    def __init__(self, *, reset: bool):
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["state"]["transport"]
        if self._reset:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        await _end(transport, receive)


class _Half(Response):
    """The head of an answer and half of its body, then silence, then the end of the connection."""

    def __init__(self, whole: Response, silence_s: float):
        super().__init__(bytes(whole.body), whole.status_code)
        self.raw_headers = whole.raw_headers
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        if self._silence_s:
            await _gone(receive, self._silence_s)
        await _end(scope["state"]["transport"], receive)


async def _end(transport: asyncio.Transport, receive: Receive) -> None:
    """Closes a connection; returns when the server has seen that, as it else takes a missing answer for a mistake."""
    transport.close()
    if not await _gone(receive, _GOODBYE_S):
        transport.abort()
        await _gone(receive, _GOODBYE_S)


async def _gone(receive: Receive, seconds: float) -> bool:
    """Waits until the connection has ended, but no longer than this; tells whether it has."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


def _spoils(spoil: Callable[[bytes], bytes], *, packed: bool = False) -> Kind:
    return Kind(partial(bodies.spoil_body, spoil=spoil, packed=packed))


def _mangles(mangle: Callable[[str, Request], str]) -> Kind:
    return Kind(partial(bodies.mangle_link, mangle=mangle), _PAGES)


def _lists(change: Callable[[Items, Fault, State, Request], Items], *needs: str) -> Kind:
    return Kind(partial(bodies.change_items, change=change), ("content",), needs=needs)


KINDS: dict[str, Kind] = {
    "latency": Kind(_latency, needs=("seconds",)),
    "throttled": Kind(_throttled, takes=("status", "retry_after"), instead=True),
    "status": Kind(_status, takes=("retry_after",), needs=("status",), instead=True),
    "html": Kind(_html, takes=("status", "retry_after"), instead=True),
    "af": Kind(_af, FEED, takes=("status", "retry_after"), needs=("code",), instead=True),
    "unauthorized": Kind(_unauthorized, FEED, instead=True),
    "expired": Kind(_expired, ("blob",)),
    "refused": Kind(partial(_drop, reset=True), (), instead=True),
    "hangup": Kind(partial(_drop, reset=False), instead=True),
    "reset": Kind(partial(_drop, reset=True), instead=True),
    "cut": Kind(_stop_halfway),
    "stalled": Kind(_stop_halfway, needs=("seconds",)),
    "truncated_gzip": _spoils(lambda packed: packed[: len(packed) // 2], packed=True),
    "corrupt_gzip": _spoils(bodies.corrupt, packed=True),
    "invalid_json": _spoils(lambda body: body.rstrip()[:-1]),
    "broken_off": _spoils(lambda body: body[: len(body) // 2]),
    "wrong_shape": _spoils(bodies.misshapen),
    "empty": _spoils(lambda _: b""),
    "no_records": Kind(partial(bodies.spoil_body, spoil=lambda _: b"[]"), ("blob",)),
    "next_encoded": _mangles(lambda uri, _: uri.replace("$", "%24")),
    "next_capitals": _mangles(bodies.in_capitals),
    "next_http": _mangles(lambda uri, _: uri.replace("https://", "http://", 1)),
    "next_self": _mangles(lambda _, request: str(request.url)),
    "next_foreign": _mangles(lambda uri, _: urlsplit(uri)._replace(netloc=FOREIGN_HOST).geturl()),
    "next_blank": Kind(bodies.blank_link, _PAGES),
    "page_gaps": _lists(bodies.without_some, "items"),
    "page_overlap": _lists(bodies.with_last_of_page_before),
    "page_backwards": _lists(bodies.backwards),
}
