"""The service as one Starlette application: every route, and the one way that requests go through.

request ─▶ state.hook (faults) ─▶ sign-in, or checks and operation ─▶ headers of the service ─▶ answer
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import format_datetime
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator import control, feed, identity, subscriptions
from emulator.call import Call, open_call
from emulator.errors import Refusal
from emulator.tenant import State

FEED = "/api/v1.0/{tenant_id}/activity/feed"
_HEADERS = {
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "Expires": "-1",
    "Server": "Microsoft-IIS/10.0",
    "X-AspNet-Version": "4.0.30319",
    "X-Powered-By": "ASP.NET",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the feed; `name` is the service's own, as its texts show it."""

    method: str
    path: str
    name: str
    answer: Callable[[Call], Awaitable[Response]]


OPERATIONS = (
    Operation("POST", "/subscriptions/start", "StartSubscription", subscriptions.start),
    Operation("POST", "/subscriptions/stop", "StopSubscription", subscriptions.stop),
    Operation("GET", "/subscriptions/list", "ListSubscriptions", subscriptions.list_subscriptions),
    Operation("GET", "/subscriptions/content", "ListContent", feed.list_content),
    Operation("GET", "/subscriptions/notifications", "ListNotifications", feed.list_notifications),
    Operation("GET", "/audit/{content_id}", "GetBlob", feed.get_content),
    Operation("GET", "/resources/dlpSensitiveTypes", "GetFriendlyNames", feed.friendly_names),
)
_V2 = "/{tenant}/v2.0/.well-known/openid-configuration"
_SIGN_IN = (
    ("GET", "/common/discovery/instance", identity.instance_discovery),
    ("GET", "/common/discovery/keys", identity.keys),
    ("GET", "/{tenant}/discovery/v2.0/keys", identity.keys),
    ("GET", _V2, identity.openid_configuration),
    ("GET", "/{tenant}/.well-known/openid-configuration", identity.openid_configuration),
    ("POST", "/{tenant}/oauth2/v2.0/token", identity.token),
    ("POST", "/{tenant}/oauth2/token", identity.token),
)


def make_app(state: State, *, with_control: bool = False) -> ASGIApp:
    """Makes the application that serves a state.

    Args:
      state: What it serves; may change while it runs.
      with_control: Whether the control endpoints are there.
    """
    routes = [Route(FEED + op.path, _feed_endpoint(state, op), methods=[op.method]) for op in OPERATIONS]
    routes += [Route(path, _sign_in_endpoint(state, answer), methods=[method]) for method, path, answer in _SIGN_IN]
    routes.append(Route("/openapi.json", _openapi))
    if with_control:
        routes += control.routes(state)
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_resource})
    app.router.redirect_slashes = False
    return _SingleSlashes(app)


class _SingleSlashes:
    """Takes `feed//subscriptions` for `feed/subscriptions`, as the service does (contract section 4)."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "//" in scope.get("path", ""):
            scope["path"] = scope["path"].replace("//", "/")
        await self._app(scope, receive, send)


def _feed_endpoint(state: State, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            response = await operation.answer(open_call(state, request, operation.name))
        except Refusal as refusal:
            response = refusal.response()
        for name, value in _HEADERS.items():
            response.headers[name] = value
        if response.headers.get("content-type") == "application/json":
            response.headers["content-type"] = "application/json; charset=utf-8"
        return response

    return _hooked(state, answer)


def _sign_in_endpoint(
    state: State, answer: Callable[[State, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        try:
            return await answer(state, request)
        except Refusal as refusal:
            return refusal.response()

    return _hooked(state, answered)


def _hooked(state: State, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        response = await (state.hook(request, answer) if state.hook else answer(request))
        response.headers["Date"] = format_datetime(state.clock.now(), usegmt=True)
        return response

    return endpoint


async def _openapi(_: Request) -> Response:
    return Response((files("emulator") / "data" / "openapi.json").read_bytes(), media_type="application/json")


async def _no_such_resource(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "No HTTP resource was found that matches the request."
    if status == 405:
        text = f"The requested resource does not support http method '{request.method}'."
    return JSONResponse({"Message": text}, status)
