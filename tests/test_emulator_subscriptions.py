import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from emulator.content import make_blob
from schemas.contract import content_types
from tests.emulator_visitor import NOW, Visitor, code_of, visiting


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with visiting() as visitor:
        yield visitor


@contextmanager
def receiver(visitor: Visitor, status: int = 200) -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    """Runs an HTTPS webhook receiver; yields its address and what it was sent."""
    got: list[tuple[dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.append((dict(self.headers), body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    visitor.emu.ca.issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}/hook", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def appear(visitor: Visitor, number: int) -> str:
    """Puts a blob into the feed that becomes available now."""
    now = visitor.emu.clock.now()
    blob = make_blob("Audit.General", [b'{"Id":"1"}'], now, number=number, datacentre="na0020")
    visitor.tenant.add([blob])
    visitor.emu.clock.advance(2)
    return blob.content_id


def listed(visitor: Visitor) -> list[str]:
    # The default window ends with the second that has begun.
    visitor.emu.clock.advance(2)
    return [blob["contentId"] for blob in visitor.content().json()]


def test_start_answers_the_subscription_in_the_callers_spelling(visitor: Visitor) -> None:
    answer = visitor.start("audit.SHAREPOINT")
    assert answer.status_code == 200
    assert answer.json() == {"contentType": "audit.SHAREPOINT", "status": "enabled", "webhook": None}


def test_all_types_start_one_after_the_other_and_are_listed(visitor: Visitor) -> None:
    assert visitor.ask("/subscriptions/list").json() == []
    assert [visitor.start(name).status_code for name in content_types()] == [200] * 5
    listing = visitor.ask("/subscriptions/list").json()
    assert listing == [{"contentType": name, "status": "enabled", "webhook": None} for name in content_types()]


def test_unchanged_start_is_af20024(visitor: Visitor) -> None:
    visitor.start()
    assert code_of(visitor.start()) == (400, "AF20024")


def test_stop_answers_204_without_a_body_and_may_be_repeated(visitor: Visitor) -> None:
    visitor.start()
    assert [(a.status_code, a.content) for a in (visitor.stop(), visitor.stop())] == [(204, b"")] * 2
    assert visitor.ask("/subscriptions/list").json()[0]["status"] == "disabled"
    assert code_of(visitor.content()) == (400, "AF20023")


def test_early_second_start_tells_its_wait(visitor: Visitor) -> None:
    visitor.start()
    visitor.emu.clock.set(NOW + timedelta(minutes=6, seconds=14))
    visitor.stop()
    answer = visitor.start()
    assert code_of(answer) == (403, "429")
    assert answer.json()["error"]["message"].startswith("Too many frequent subscription start requests. Please retry")
    assert "after 8m 4" in answer.json()["error"]["message"]
    visitor.emu.clock.advance(9 * 60)
    assert visitor.start().status_code == 200


def test_start_wait_can_be_taken_away(visitor: Visitor) -> None:
    visitor.emu.state.start_wait_s = 0
    visitor.start()
    visitor.stop()
    assert visitor.start().status_code == 200


def test_what_appears_between_stop_and_start_is_never_served(visitor: Visitor) -> None:
    visitor.emu.state.start_wait_s = 0
    visitor.start()
    before = appear(visitor, 1)
    visitor.stop()
    missed = appear(visitor, 2)
    visitor.start()
    after = appear(visitor, 3)
    assert listed(visitor) == [before, after]
    assert code_of(visitor.ask(f"/audit/{missed}")) == (404, "AF20050")
    assert visitor.ask(f"/audit/{after}").status_code == 200


def test_another_application_does_not_see_the_subscription(visitor: Visitor) -> None:
    visitor.start()
    other = type(visitor.tenant.app)("aaaaaaaa-0000-4000-8000-000000000000", "s", "oid", ["ActivityFeed.Read"])
    visitor.tenant.apps[other.client_id] = other
    token = visitor.token(client_id=other.client_id, client_secret="s").json()["access_token"]
    answer = visitor.ask("/subscriptions/list", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == []


@pytest.mark.parametrize("operation", ["start", "stop"])
def test_content_type_is_checked(visitor: Visitor, operation: str) -> None:
    path = f"/subscriptions/{operation}"
    assert code_of(visitor.ask(path, "POST")) == (400, "AF20001")
    assert code_of(visitor.ask(path, "POST", params={"contentType": "Audit.Nothing"})) == (400, "AF20020")


def test_stop_of_what_never_started_is_af20022(visitor: Visitor) -> None:
    assert code_of(visitor.stop()) == (400, "AF20022")


def test_webhook_is_validated_with_a_code_and_shown(visitor: Visitor) -> None:
    with receiver(visitor) as (address, got):
        answer = visitor.start(json={"webhook": {"address": address, "authId": "k1", "expiration": ""}})
    hook = {"status": "enabled", "address": address, "authId": "k1", "expiration": ""}
    assert answer.json()["webhook"] == hook
    assert visitor.ask("/subscriptions/list").json()[0]["webhook"] == hook
    headers, body = got[0]
    assert body == {"validationCode": headers["Webhook-ValidationCode"]}
    assert headers["Webhook-AuthID"] == "k1"
    assert headers["Content-Type"] == "application/json; charset=utf-8"


def test_webhook_that_does_not_answer_200_starts_nothing(visitor: Visitor) -> None:
    with receiver(visitor, status=202) as (address, _):
        answer = visitor.start(json={"webhook": {"address": address}})
    assert code_of(answer) == (400, "AF20021")
    assert visitor.ask("/subscriptions/list").json() == []


@pytest.mark.parametrize(
    ("webhook", "code"),
    [
        ({"address": "http://localhost/hook"}, "AF20021"),
        ({"address": "https://localhost:1/hook"}, "AF20021"),
        ({"address": "https://[broken/hook"}, "AF20021"),
        ({"authId": "k1"}, "AF20001"),
        ({"address": 7}, "AF20002"),
        ("address", "AF20002"),
        ({"address": "https://localhost/", "expiration": "yesterday"}, "AF20002"),
        ({"address": "https://localhost/", "expiration": "2026-11-19T00:00:00"}, "AF20003"),
    ],
)
def test_bad_webhook_is_refused(visitor: Visitor, webhook: object, code: str) -> None:
    assert code_of(visitor.start(json={"webhook": webhook})) == (400, code)


def test_body_that_is_no_json_object_is_refused(visitor: Visitor) -> None:
    assert code_of(visitor.start(data=b"[")) == (400, "AF20002")


def test_webhook_expires_by_the_clock(visitor: Visitor) -> None:
    with receiver(visitor) as (address, _):
        visitor.start(json={"webhook": {"address": address, "expiration": "2026-11-20T12:30"}})
    visitor.emu.clock.advance(3000)
    assert visitor.ask("/subscriptions/list").json()[0]["webhook"]["status"] == "expired"


def notifications(visitor: Visitor) -> Any:
    return visitor.ask("/subscriptions/notifications", params={"contentType": "Audit.General"}).json()


def test_notifications_tell_the_webhook_of_new_blobs_once(visitor: Visitor) -> None:
    appear(visitor, 1)
    with receiver(visitor) as (address, got):
        visitor.start(json={"webhook": {"address": address}})
        new = appear(visitor, 2)
        first, second = notifications(visitor), notifications(visitor)
    assert first == second
    assert [(note["contentId"], note["notificationStatus"]) for note in first] == [(new, "success")]
    (told,) = got[1][1]
    assert (told["tenantId"], told["clientId"]) == (visitor.tenant.tenant_id, visitor.tenant.client_id)
    assert told["contentUri"] == f"{visitor.feed}/audit/{new}"


def test_failed_notifications_are_repeated_until_the_webhook_is_disabled(visitor: Visitor) -> None:
    with receiver(visitor) as (address, _):
        visitor.start(json={"webhook": {"address": address}})
    appear(visitor, 1)
    for _ in range(6):
        entries = notifications(visitor)
    assert [note["notificationStatus"] for note in entries] == ["failed"] * 5
    assert visitor.ask("/subscriptions/list").json()[0]["webhook"]["status"] == "disabled"


def test_no_webhook_no_notifications(visitor: Visitor) -> None:
    assert code_of(visitor.ask("/subscriptions/notifications?contentType=Audit.General")) == (400, "AF20022")
    visitor.start()
    appear(visitor, 1)
    assert notifications(visitor) == []
