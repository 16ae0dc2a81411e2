"""Operations on subscriptions: start, stop, list (contract 5.1 to 5.3)."""

from datetime import datetime, timedelta

import msgspec
from starlette.responses import JSONResponse, Response

from emulator import webhook
from emulator.call import Call
from emulator.errors import af
from emulator.tenant import Subscription, Webhook
from emulator.window import parse_time


async def start(call: Call) -> Response:
    """Starts a subscription, or changes the webhook of one."""
    content_type = call.content_type()
    now = call.state.clock.now()
    hook = _webhook_in(await call.request.body(), now)
    known = call.app.subscriptions.get(content_type)
    if known is not None:
        _refuse_without_change(known, hook, now)
        _refuse_too_soon(known, now, call.state.start_wait_s)
    if hook is not None:
        await webhook.shake_hands(call.state, hook)
    if known is None:
        known = call.app.subscriptions[content_type] = Subscription(content_type, now)
    known.start(now, hook)
    # The caller's spelling comes back (contract section 4).
    return JSONResponse(_described(known, now) | {"contentType": call.params["contenttype"]})


async def stop(call: Call) -> Response:
    """Stops a subscription; stopping a stopped one is fine."""
    content_type = call.content_type()
    known = call.app.subscriptions.get(content_type)
    if known is None:
        raise af("AF20022")
    known.stop(call.state.clock.now())
    return Response(status_code=call.state.stop_status)


async def list_subscriptions(call: Call) -> Response:
    """Lists the types that this application ever started."""
    now = call.state.clock.now()
    return JSONResponse([_described(known, now) for known in call.app.subscriptions.values()])


def _described(known: Subscription, now: datetime) -> dict[str, object]:
    hook = known.webhook
    shown = hook and {
        "status": hook.status(now),
        "address": hook.address,
        "authId": hook.auth_id,
        "expiration": hook.expiration,
    }
    return {
        "contentType": known.content_type,
        "status": "enabled" if known.enabled else "disabled",
        "webhook": shown,
    }


def _refuse_without_change(known: Subscription, hook: Webhook | None, now: datetime) -> None:
    same = _properties(known.webhook) == _properties(hook)
    alive = known.webhook is None or known.webhook.status(now) == "enabled"
    if known.enabled and same and alive:
        raise af("AF20024")


def _properties(hook: Webhook | None) -> tuple[object, ...]:
    return () if hook is None else (hook.address, hook.auth_id, hook.expires)


def _refuse_too_soon(known: Subscription, now: datetime, wait_s: int) -> None:
    wait = known.started + timedelta(seconds=wait_s) - now
    if wait > timedelta():
        minutes, seconds = divmod(int(wait.total_seconds()) + 1, 60)
        raise af("429", minutes=minutes, seconds=seconds)


def _webhook_in(body: bytes, now: datetime) -> Webhook | None:
    given = _object(body, "body").get("webhook") if body.strip() else None
    if given is None:
        return None
    if not isinstance(given, dict):
        raise af("AF20002", name="webhook", expected="object")
    if not given.get("address"):
        raise af("AF20001", name="webhook.address")
    for name in ("address", "authId", "expiration"):
        if not isinstance(given.get(name), str | None):
            raise af("AF20002", name=f"webhook.{name}", expected="string")
    return Webhook(
        given["address"],
        given.get("authId"),
        given.get("expiration"),
        _expiration(given.get("expiration"), now),
        since=now,
    )


def _object(body: bytes, name: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise af("AF20002", name=name, expected="object") from error


def _expiration(text: str | None, now: datetime) -> datetime | None:
    if not text:
        return None
    expires = parse_time(text)
    if expires is None:
        raise af("AF20002", name="webhook.expiration", expected="datetime")
    if expires <= now:
        raise af("AF20003", time=text)
    return expires
