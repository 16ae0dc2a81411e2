"""The service's own requests to a webhook: the handshake and the notifications (contract section 8).

Notifications go out when something looks: at a listing of them, or when the control clock moves. A timer of its own
would make runs differ.
"""

import asyncio
import json
import ssl
from http.client import HTTPException, HTTPSConnection
from urllib.parse import urlsplit
from uuid import uuid4

from emulator.content import Blob, stamp, wire_time
from emulator.errors import af
from emulator.tenant import App, Notification, State, Subscription, Tenant, Webhook

_TIMEOUT_S = 5
_MOST_AT_ONCE = 50


async def shake_hands(state: State, hook: Webhook) -> None:
    """Checks a webhook: it must be HTTPS and answer exactly 200 to a validation code.

    Raises:
      Refusal: AF20021.
    """
    if not hook.address.lower().startswith("https://"):
        raise af("AF20021", address=hook.address, reason="The address must begin with HTTPS.")
    code = str(uuid4())
    headers = {"Content-Type": "application/json; charset=utf-8", "Webhook-ValidationCode": code}
    if await _post(state, hook, {"validationCode": code}, headers) != 200:
        raise af("AF20021", address=hook.address, reason="The endpoint did not return HTTP 200.")


async def notify(state: State, tenant: Tenant, app: App, known: Subscription) -> None:
    """Tells a webhook of the blobs that it has not yet taken, and notes each attempt."""
    hook, now = known.webhook, state.clock.now()
    if hook is None or not known.enabled or hook.status(now) != "enabled":
        return
    taken = {note.blob.content_id for note in known.notifications if note.status == "success"}
    due = [
        blob
        for blob in tenant.blobs[known.content_type]
        if hook.since < blob.available_at <= now and blob.content_id not in taken
    ][:_MOST_AT_ONCE]
    if not due:
        return
    address = f"{state.api_root}/api/v1.0/{tenant.tenant_id}/activity/feed"
    ids = {"tenantId": tenant.tenant_id, "clientId": app.client_id}
    body = [ids | listed(blob, address) for blob in due]
    status = (
        "success" if await _post(state, hook, body, {"Content-Type": "application/json; utf-8"}) == 200 else "failed"
    )
    hook.failures = 0 if status == "success" else hook.failures + 1
    for blob in due:
        order = f"{stamp(now)}{len(known.notifications) % 1_000_000:06d}"
        known.notifications.append(Notification(order, blob, now, status))


def listed(blob: Blob, feed: str) -> dict[str, str]:
    """Describes a blob as listings and notifications do."""
    return {
        "contentUri": f"{feed}/audit/{blob.content_id}",
        "contentId": blob.content_id,
        "contentType": blob.content_type,
        "contentCreated": wire_time(blob.created),
        "contentExpiration": wire_time(blob.expiration),
    }


async def _post(state: State, hook: Webhook, body: object, headers: dict[str, str]) -> int | None:
    if hook.auth_id:
        headers = headers | {"Webhook-AuthID": hook.auth_id}
    return await asyncio.to_thread(_post_and_wait, hook.address, json.dumps(body), headers, state.ca_pem)


def _post_and_wait(address: str, body: str, headers: dict[str, str], ca_pem: str) -> int | None:
    context = ssl.create_default_context()
    if ca_pem:
        # A receiver in a test has its certificate from the emulator's own CA.
        context.load_verify_locations(cadata=ca_pem)
    try:
        url = urlsplit(address)
        connection = HTTPSConnection(url.hostname or "", url.port, timeout=_TIMEOUT_S, context=context)
        try:
            connection.request("POST", url._replace(scheme="", netloc="").geturl() or "/", body, headers)
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, ValueError, HTTPException):
        return None
