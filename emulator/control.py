"""Control endpoints: what the service really holds and did, its clock, and the switches of a tenant. JSON both ways."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator import webhook
from emulator.content import Blob, make_blob, wire_time
from emulator.tenant import State, Subscription, Tenant
from emulator.window import parse_time
from schemas.contract import content_types
from schemas.times import format_utc

# Blobs that are added are numbered from here, apart from files and generated ones (see filling.py).
_FIRST_ADDED = 900_000


class AddedBlob(msgspec.Struct, forbid_unknown_fields=True):
    """A blob to add: its records, and its times if they are not now."""

    content_type: str
    records: list[msgspec.Raw]
    created: str | None = None
    available_at: str | None = None


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """What a POST to a tenant may change; what is left out stays. `quota` 0 takes the quota away."""

    roles: list[str] | None = None
    auditing: bool | None = None
    status: str | None = None
    secret_expired: bool | None = None
    quota: int | None = None
    expire: list[str] = []
    add: list[AddedBlob] = []
    subscriptions: dict[str, str] = {}


class ClockChange(msgspec.Struct, forbid_unknown_fields=True):
    """What a POST to the clock may hold: a time to set, seconds to advance, or both in this order."""

    set: str | None = None
    advance: float = 0


def truth(state: State) -> dict[str, Any]:
    """Returns what every tenant holds and has been asked."""
    return {
        "anchor": format_utc(state.anchor),
        "tenants": {
            tenant.tenant_id: {
                "requests": dict(tenant.requests),
                "subscriptions": {name: known.enabled for name, known in tenant.app.subscriptions.items()},
                "blobs": [_described(blob) for listing in tenant.blobs.values() for blob in listing],
            }
            for tenant in state.tenants.values()
        },
    }


def change(tenant: Tenant, wanted: Change, now: datetime) -> list[Blob]:
    """Changes a tenant; returns the blobs that it added.

    Raises:
      ValueError: A content type, content id, status or time is none that exists; nothing has been changed then.
    """
    added = [_added(tenant, blob, number, now) for number, blob in enumerate(wanted.add, _added_so_far(tenant))]
    _check(tenant, wanted)
    app = tenant.app
    app.roles = app.roles if wanted.roles is None else wanted.roles
    tenant.auditing = tenant.auditing if wanted.auditing is None else wanted.auditing
    tenant.status = wanted.status or tenant.status
    app.secret_expired = app.secret_expired if wanted.secret_expired is None else wanted.secret_expired
    tenant.quota = tenant.quota if wanted.quota is None else wanted.quota or None
    for content_id in wanted.expire:
        tenant.by_id[content_id].expiration = now
    for name, status in wanted.subscriptions.items():
        _set_subscription(tenant, name, status, now)
    tenant.add(added)
    return added


def routes(state: State) -> list[Route]:
    """Returns the routes below /control/."""

    async def get_truth(_: Request) -> Response:
        return Response(msgspec.json.encode(truth(state)), media_type="application/json")

    async def clock(request: Request) -> Response:
        if request.method == "POST":
            wanted = msgspec.json.decode(await request.body(), type=ClockChange)
            if wanted.set is not None:
                state.clock.set(_time(wanted.set))
            state.clock.advance(wanted.advance)
            for tenant in state.tenants.values():
                for known in tenant.app.subscriptions.values():
                    await webhook.notify(state, tenant, tenant.app, known)
        return JSONResponse({"now": format_utc(state.clock.now())})

    async def tenants(request: Request) -> Response:
        tenant = state.tenant(request.path_params["tenant"])
        if tenant is None:
            return JSONResponse({"error": f"no tenant {request.path_params['tenant']!r}"}, 404)
        wanted = msgspec.json.decode(await request.body(), type=Change)
        added = change(tenant, wanted, state.clock.now())
        return JSONResponse({"added": [blob.content_id for blob in added]})

    return [
        Route("/control/truth", _said_plainly(get_truth)),
        Route("/control/clock", _said_plainly(clock), methods=["GET", "POST"]),
        Route("/control/tenants/{tenant}", _said_plainly(tenants), methods=["POST"]),
    ]


def _said_plainly(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except (ValueError, msgspec.DecodeError) as error:
            return JSONResponse({"error": str(error)}, 400)

    return endpoint


def _described(blob: Blob) -> dict[str, Any]:
    return {
        "id": blob.content_id,
        "type": blob.content_type,
        "created": wire_time(blob.created),
        "expiration": wire_time(blob.expiration),
        "available_at": wire_time(blob.available_at),
        "record_ids": blob.record_ids(),
        "listed": blob.listed,
        "fetched": blob.fetched,
    }


def _check(tenant: Tenant, wanted: Change) -> None:
    if wanted.status not in (None, "active", "deleted", "misconfigured"):
        raise ValueError(f"status is active, deleted or misconfigured, not {wanted.status!r}")
    for content_id in wanted.expire:
        if content_id not in tenant.by_id:
            raise ValueError(f"no blob {content_id!r}")
    for name, status in wanted.subscriptions.items():
        if name not in content_types() or status not in ("enabled", "disabled", "none"):
            raise ValueError(
                f"a subscription is a content type and enabled, disabled or none, not {name!r}: {status!r}"
            )


def _set_subscription(tenant: Tenant, name: str, status: str, now: datetime) -> None:
    known = tenant.app.subscriptions
    if status == "none":
        known.pop(name, None)
        return
    if name not in known:
        known[name] = Subscription(name, now)
    elif status == "enabled" and not known[name].enabled:
        known[name].start(now, known[name].webhook)
    if status == "disabled":
        known[name].stop(now)


def _added_so_far(tenant: Tenant) -> int:
    return _FIRST_ADDED + len(tenant.by_id)


def _added(tenant: Tenant, blob: AddedBlob, number: int, now: datetime) -> Blob:
    if blob.content_type not in content_types():
        raise ValueError(f"no content type {blob.content_type!r}")
    return make_blob(
        blob.content_type,
        [bytes(record) for record in blob.records],
        _time(blob.created) if blob.created else now,
        number=number,
        datacentre=tenant.datacentre,
        available_at=_time(blob.available_at) if blob.available_at else None,
    )


def _time(text: str) -> datetime:
    time = parse_time(text)
    if time is None:
        raise ValueError(f"not a time: {text!r}; expected one like 2026-11-20T08:00:00Z")
    return time
