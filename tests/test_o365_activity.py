"""The client against a scripted service: paging, refusals, retries, guard and bodies."""

import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from o365.activity import ActivityClient, first_content_note
from o365.clients import client_for
from o365.connection import Connection
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
from schemas.feed import ContentBlob
from schemas.times import TimeRange
from tests.scripted_server import (
    Asked,
    FakeTime,
    Reply,
    Script,
    ScriptedServer,
    gzip_reply,
    in_turn,
    json_reply,
    refusal_reply,
    serving,
)

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
CLIENT = "0d0b5f60-4c3d-4a7e-8f43-1f8c2d5b7e21"
BASE = f"/api/v1.0/{TENANT}/activity/feed"
HOUR = TimeRange(datetime(2026, 11, 20, 8, tzinfo=UTC), datetime(2026, 11, 20, 9, tzinfo=UTC))
GENERAL = "Audit.General"
TOKEN = "hush-token"
REJECTED = json_reply({"Message": "Authorization has been denied for this request."}, 401)


class FakeTokens:
    """Counts the renewals; a renewal gives the next number."""

    def __init__(self) -> None:
        self.refreshed = 0
        self.lock = threading.Lock()

    def token(self) -> str:
        return f"{TOKEN}-{self.refreshed}"

    def refresh(self, rejected: str) -> str:
        with self.lock:
            if rejected == self.token():
                self.refreshed += 1
            return self.token()


class Stage:
    def __init__(self, server: ScriptedServer) -> None:
        self.server, self.times, self.tokens = server, FakeTime(), FakeTokens()
        self.client = self.make()

    def make(self, **more: object) -> ActivityClient:
        connection = Connection(
            "contoso", TENANT, CLIENT, client_secret_env="S", api_root=self.server.root, timeout_s=5
        )
        fakes = {"tokens": self.tokens, "clock": self.times.clock, "sleep": self.times.sleep, "jitter": lambda: 0.5}
        return ActivityClient(connection, **{**fakes, **more})  # type: ignore[arg-type]

    def blobs(self) -> list[ContentBlob]:
        return list(self.client.list_content(GENERAL, HOUR))


@contextmanager
def stage(script: Script) -> Iterator[Stage]:
    with serving(script) as server:
        made = Stage(server)
        yield made
        made.client.close()


def item(root: str, number: int, **changes: object) -> dict[str, object]:
    return {
        "contentUri": f"{root}{BASE}/audit/2026${number}$audit_general$emea0036",
        "contentId": f"2026${number}$audit_general$emea0036",
        "contentType": GENERAL,
        "contentCreated": "2026-11-20T08:15:31.204Z",
        "contentExpiration": "2026-11-27T08:15:31.204Z",
        **changes,
    }


@contextmanager
def pages(*pages: tuple[list[int], Callable[[str], str | None]]) -> Iterator[Stage]:
    """Serves pages of blobs, each with the NextPageUri that a function makes of the root; asked for by nextPage."""
    with serving(lambda asked: script(asked)) as server:

        def script(asked: Asked) -> Reply:
            query = {name.lower(): value for name, value in asked.query.items()}
            numbers, following = pages[int(query.get("nextpage", "0"))]
            uri = following(f"{server.root}{BASE}/subscriptions/content")
            headers = {} if uri is None else {"Nextpageuri": uri}
            return json_reply([item(server.root, number) for number in numbers], **headers)

        made = Stage(server)
        yield made
        made.client.close()


def next_page(number: int) -> Callable[[str], str]:
    return lambda url: f"{url}?contenttype={GENERAL}&starttime=a&endtime=b&nextpage={number}"


def end(_: str) -> None:
    return None


def ids(blobs: list[ContentBlob]) -> list[int]:
    return [int(blob.content_id.split("$")[1]) for blob in blobs]


def test_listing_asks_for_the_range_as_publisher_with_the_token() -> None:
    with pages(([1], end)) as on:
        blob = on.blobs()[0]
        asked = on.server.asked[0]
    assert asked.path == f"{BASE}/subscriptions/content"
    assert asked.query == {
        "contentType": GENERAL,
        "startTime": "2026-11-20T08:00:00",
        "endTime": "2026-11-20T09:00:00",
        "PublisherIdentifier": TENANT,
    }
    assert asked.headers["Authorization"] == f"Bearer {TOKEN}-0"
    assert asked.headers["Accept-Encoding"] == "gzip"
    assert blob.content_created == datetime(2026, 11, 20, 8, 15, 31, 204000, tzinfo=UTC)
    assert blob.content_expiration == blob.content_created + timedelta(days=7)


def test_all_pages_are_listed_each_with_the_publisher() -> None:
    with pages(([1, 2], next_page(1)), ([3], next_page(2)), ([4, 5], end)) as on:
        assert ids(on.blobs()) == [1, 2, 3, 4, 5]
        assert [asked.query["PublisherIdentifier"] for asked in on.server.asked] == [TENANT] * 3


@pytest.mark.parametrize("blank", ["", "   "])
def test_blank_next_page_is_the_end(blank: str) -> None:
    with pages(([1], lambda _: blank)) as on:
        assert ids(on.blobs()) == [1]


def test_empty_page_in_the_middle_is_not_the_end() -> None:
    with pages(([1], next_page(1)), ([], next_page(2)), ([2], end)) as on:
        assert ids(on.blobs()) == [1, 2]


def test_blob_repeated_on_the_next_page_is_listed_once() -> None:
    with pages(([1, 2], next_page(1)), ([2, 3, 3], end)) as on:
        assert ids(on.blobs()) == [1, 2, 3]


def test_window_lost_by_the_next_page_is_put_back() -> None:
    with pages(([1], lambda url: f"{url}?contenttype={GENERAL}&nextpage=1"), ([2], end)) as on:
        assert ids(on.blobs()) == [1, 2]
        assert on.server.asked[1].query["startTime"] == "2026-11-20T08:00:00"
        assert on.server.asked[1].query["endTime"] == "2026-11-20T09:00:00"


@pytest.mark.parametrize("following", [next_page(1), next_page(0), lambda url: url])
def test_page_that_leads_back_is_an_error_and_not_an_end(following: Callable[[str], str]) -> None:
    with pages(([1], next_page(1)), ([2], following)) as on, pytest.raises(ListingChangedError, match="leads back"):
        on.blobs()


def test_invalid_page_mark_asks_for_the_listing_again_at_once() -> None:
    with stage(in_turn(refusal_reply("AF20031", 400))) as on:
        with pytest.raises(ListingChangedError):
            on.blobs()
        assert on.times.slept == []


def test_foreign_next_page_receives_no_request() -> None:
    with serving(in_turn(json_reply([]))) as evil:
        foreign = pages(([1], lambda url: evil.root + url[url.index("/api") :]))
        with foreign as on, pytest.raises(FatalError, match="a NextPageUri leads to"):
            on.blobs()
        assert evil.asked == []


def test_foreign_content_uri_receives_no_request() -> None:
    with serving(in_turn(json_reply([]))) as evil, stage(in_turn(json_reply([]))) as on:
        uri = f"{evil.root}{BASE}/audit/1"
        for odd in (uri, f"{on.server.root}@{uri.removeprefix('http://')}", f"http://localhost:1{BASE}/audit/1"):
            with pytest.raises(FatalError, match="a contentUri leads to"):
                on.client.retrieve(odd)
        assert (evil.asked, on.server.asked) == ([], [])


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_is_no_fault(bom: bytes) -> None:
    with stage(in_turn(Reply(200, bom + b"[]"))) as on:
        assert on.blobs() == []
        assert on.client.list_subscriptions() == []


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(200, b"<html>down</html>"), "markup"),
        (Reply(200, b""), "the answer of 0 bytes is not JSON"),
        (Reply(200, b'[{"contentId":'), "is not JSON"),
        (Reply(204, b""), "HTTP 204, expected 200"),
        (json_reply(None), "the answer is missing or null, expected an array"),
        (json_reply({"value": []}), "the answer is an object, expected an array"),
        (json_reply(["x"]), "item 0 of the answer is a text"),
        (json_reply([item("", 1, contentUri=None)]), "an item's contentUri is missing or null"),
        (json_reply([item("", 1, contentId="")]), "an item's contentId is an empty text"),
        (json_reply([item("", 1, contentCreated=5)]), "an item's contentCreated is a number"),
        (json_reply([item("", 1, contentCreated="today")]), "an item's contentCreated is 'today', expected a time"),
        (json_reply([item("", 1, contentType="DLP.All")]), "holds a blob of 'DLP.All'"),
    ],
)
def test_listing_of_another_shape_is_never_an_empty_one(reply: Reply, says: str) -> None:
    with stage(in_turn(reply)) as on:
        with pytest.raises(RetryableError) as caught:
            on.blobs()
        assert says in str(caught.value)
        assert "listing 'Audit.General' from 2026-11-20T08:00:00 to 2026-11-20T09:00:00 failed" in str(caught.value)
        assert len(on.server.asked) > 5


def test_range_with_parts_of_seconds_is_refused_because_requests_cannot_say_it() -> None:
    odd = TimeRange(HOUR.start, HOUR.end + timedelta(microseconds=1))
    with stage(in_turn(json_reply([]))) as on, pytest.raises(ValueError, match="whole seconds"):
        list(on.client.list_content(GENERAL, odd))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal_reply("AF20022", 404), NotSubscribedError),
        (refusal_reply("AF20023", 400, "The subscription was disabled."), NotSubscribedError),
        (refusal_reply("AF20055", 400), WindowError),
        (refusal_reply("AF20010", 400), ConfigError),
        (refusal_reply("AF10001", 401), FatalError),
        (Reply(302, b"", {"Location": "https://evil.example"}), ConfigError),
    ],
)
def test_final_refusal_is_raised_at_once(reply: Reply, kind: type[ActivityError]) -> None:
    with stage(in_turn(reply)) as on:
        with pytest.raises(kind):
            on.blobs()
        assert (len(on.server.asked), on.times.slept, on.tokens.refreshed) == (1, [], 0)


def test_trouble_that_passes_is_waited_out_with_growing_waits() -> None:
    trouble = [Reply(503, b"<html>"), refusal_reply("AF50000", 500), Reply(408), Reply(200, b"[")]
    with stage(in_turn(*trouble, json_reply([]))) as on:
        assert on.blobs() == []
        assert on.times.slept == [0.75, 1.5, 3.0, 6.0]
        assert on.client.counts().retries == 4
        assert on.client.counts().requests == 5


def test_call_is_given_up_at_its_deadline() -> None:
    with stage(in_turn(Reply(503))) as on:
        begin = on.times.now
        with pytest.raises(RetryableError) as caught:
            on.blobs()
        assert caught.value.status == 503
        assert 200 < on.times.now - begin <= 300


def test_first_contact_can_be_given_up_sooner() -> None:
    with stage(in_turn(Reply(503))) as on:
        begin = on.times.now
        with pytest.raises(RetryableError):
            on.client.list_subscriptions(deadline_s=10)
        assert on.times.now - begin <= 10


def test_wait_beyond_the_deadline_is_the_callers() -> None:
    with stage(in_turn(Reply(503, b"", {"Retry-After": "3600"}))) as on:
        with pytest.raises(RetryableError) as caught:
            on.blobs()
        assert (caught.value.retry_after_s, on.times.slept) == (3600, [])


@pytest.mark.parametrize("reply", [refusal_reply("AF429", 403, "Too many requests."), Reply(429)])
def test_one_throttled_request_is_sent_again_at_once_and_proves_no_quota(reply: Reply) -> None:
    with stage(in_turn(json_reply([]), reply, json_reply([]))) as on:
        on.blobs()
        assert on.blobs() == []
        assert on.times.slept == []
        assert on.client.counts().throttled == 1
        for _ in range(40):
            on.blobs()
        assert on.client.governor.quota == 2000


@pytest.mark.parametrize("as_date", [False, True])
@pytest.mark.parametrize("status", [403, 429, 503])
def test_retry_after_is_kept_to_as_seconds_and_as_date(status: int, as_date: bool) -> None:
    wait = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True) if as_date else "100"
    code = "AF50000" if status == 503 else "AF429"
    with stage(in_turn(refusal_reply(code, status, **{"Retry-After": wait}), json_reply([]))) as on:
        assert on.blobs() == []
        assert len(on.server.asked) == 2
        assert 95 <= sum(on.times.slept) <= 101


def test_throttling_without_end_is_given_up_too() -> None:
    with stage(in_turn(refusal_reply("AF429", 403))) as on:
        with pytest.raises(ThrottledError):
            on.blobs()
        assert len(on.server.asked) < 20


def test_rejected_token_is_renewed_once_by_many_threads() -> None:
    def script(asked: Asked) -> Reply:
        return REJECTED if asked.headers["Authorization"].endswith("-0") else json_reply([])

    with stage(script) as on:
        start = threading.Barrier(8)

        def work() -> None:
            start.wait()
            on.blobs()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert on.tokens.refreshed == 1
        assert len([asked for asked in on.server.asked if asked.headers["Authorization"].endswith("-1")]) == 8


def test_new_token_that_is_rejected_too_is_fatal() -> None:
    with stage(in_turn(REJECTED)) as on:
        with pytest.raises(FatalError, match="check that the connection's cloud is the tenant's"):
            on.blobs()
        assert len(on.server.asked) == 2


def test_no_error_shows_the_token() -> None:
    replies = [
        refusal_reply("AF20010", 400, f"Bearer {TOKEN}-0 is wrong"),
        refusal_reply("X", 403, f"{TOKEN}-0"),
        Reply(500, f"{TOKEN}-0".encode()),
        Reply(200, f"{TOKEN}-0".encode()),
    ]
    for reply in replies:
        with stage(in_turn(reply)) as on:
            with pytest.raises(ActivityError) as caught:
                on.blobs()
            error = caught.value
            assert TOKEN not in "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


RECORDS = b'\xef\xbb\xbf[{"Id":"1"}]\n'


@pytest.mark.parametrize(
    "reply", [Reply(200, RECORDS), gzip_reply(RECORDS), Reply(200, RECORDS, {}, claimed_length=-1)]
)
def test_blob_comes_byte_for_byte(reply: Reply) -> None:
    with stage(in_turn(reply)) as on:
        uri = f"{on.server.root}{BASE}/audit/1$2$audit_general$emea0036"
        assert on.client.retrieve(uri) == RECORDS
        asked = on.server.asked[0]
        assert asked.target == f"{BASE}/audit/1$2$audit_general$emea0036?PublisherIdentifier={TENANT}"


@pytest.mark.parametrize(
    "odd",
    [
        Reply(200, gzip_reply(RECORDS).body[:-9], {"Content-Encoding": "gzip"}),
        Reply(200, RECORDS[:6], claimed_length=len(RECORDS)),
        Reply(200, RECORDS[:6], claimed_length=-1),
        Reply(200, b"  "),
        Reply(200, b"<!DOCTYPE html>"),
        Reply(206, RECORDS),
    ],
)
def test_blob_that_comes_short_is_fetched_again(odd: Reply) -> None:
    with stage(in_turn(odd, Reply(200, RECORDS))) as on:
        assert on.client.retrieve(f"{on.server.root}{BASE}/audit/1") == RECORDS
        assert len(on.server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "expired"),
    [
        (refusal_reply("AF20050", 404), False),
        (refusal_reply("AF20051", 400), True),
        (refusal_reply("AF20052", 400), False),
        (Reply(404, b"<html>"), False),
    ],
)
def test_blob_that_is_gone_is_skippable(reply: Reply, expired: bool) -> None:
    with stage(in_turn(reply)) as on:
        with pytest.raises(SkippableError, match=r"fetching blob '1\$2' failed: ") as caught:
            on.client.retrieve(f"{on.server.root}{BASE}/audit/1$2")
        assert caught.value.expired is expired


def test_blob_above_the_limit_is_skippable_but_a_listing_is_not() -> None:
    with stage(in_turn(gzip_reply(b"[" + b" " * 5000 + b"]"))) as on:
        small = on.make(max_blob_bytes=4000)
        with pytest.raises(SkippableError, match="larger than 4000 bytes"):
            small.retrieve(f"{on.server.root}{BASE}/audit/1")
        small.close()
        assert on.blobs() == []


def test_only_what_is_not_enabled_is_started() -> None:
    listed = [
        {"contentType": "audit.general", "status": "enabled", "webhook": None},
        {"contentType": "Audit.Exchange", "status": "disabled"},
        {"contentType": "DLP.All"},
    ]

    def script(asked: Asked) -> Reply:
        if asked.path.endswith("/list"):
            return json_reply(listed)
        if asked.query["contentType"] == "DLP.All":
            return refusal_reply("AF20024", 400, "The subscription is already enabled. No property change.")
        return json_reply({"contentType": asked.query["contentType"], "status": "enabled", "webhook": None})

    with stage(script) as on:
        wanted = ["Audit.General", "Audit.Exchange", "DLP.All", "Audit.SharePoint"]
        assert on.client.ensure_subscribed(wanted) == ("Audit.Exchange", "Audit.SharePoint")
        posts = [asked for asked in on.server.asked if asked.method == "POST"]
        assert [asked.query["contentType"] for asked in posts] == wanted[1:]
        assert all(asked.headers["Content-Length"] == "0" for asked in posts)


def test_start_that_comes_too_soon_tells_the_wait_instead_of_sleeping_it() -> None:
    reply = refusal_reply("429", 403, "Too many frequent subscription start requests. Please retry again after 8m 46s.")
    with stage(in_turn(json_reply([]), reply)) as on:
        with pytest.raises(RetryableError) as caught:
            on.client.ensure_subscribed([GENERAL])
        assert (caught.value.retry_after_s, on.times.slept) == (526, [])
        assert on.client.governor.quota == 2000


@pytest.mark.parametrize("body", [b"<html><body>busy</body></html>", b"", b"[]", b"{}"])
def test_start_is_believed_only_with_the_subscription_in_the_answer(body: bytes) -> None:
    fine = json_reply({"contentType": GENERAL, "status": "enabled", "webhook": None})
    with stage(in_turn(Reply(200, body=body), fine)) as on:
        assert on.client.start_subscription(GENERAL)
        assert len(on.server.asked) == 2


@pytest.mark.parametrize("status", [200, 204])
def test_stop_takes_any_success(status: int) -> None:
    with stage(in_turn(Reply(status))) as on:
        on.client.stop_subscription(GENERAL)
        assert on.server.asked[0].path == f"{BASE}/subscriptions/stop"


def test_subscriptions_keep_what_is_said_of_the_webhook() -> None:
    hook = {"status": "disabled", "address": "https://hook.example/", "authId": "a", "expiration": ""}
    with stage(in_turn(json_reply([{"contentType": GENERAL, "status": "enabled", "webhook": hook}]))) as on:
        (found,) = on.client.list_subscriptions()
        assert (found.is_enabled, found.webhook_status, found.webhook_address) == (
            True,
            "disabled",
            "https://hook.example/",
        )


def test_notifications_are_listed_with_their_attempts() -> None:
    sent = {"notificationSent": "2026-11-20T08:16:00.000Z", "notificationStatus": "success"}
    with stage(in_turn(json_reply([item("https://x", 1, **sent), item("https://x", 1, **sent)]))) as on:
        found = list(on.client.list_notifications(GENERAL, HOUR))
        assert on.server.asked[0].path == f"{BASE}/subscriptions/notifications"
    assert [(one.status, one.sent.minute) for one in found] == [("success", 16)] * 2


def test_friendly_names_ask_for_one_language_and_pass_over_empty_items() -> None:
    with stage(in_turn(json_reply([{"id": "g", "name": "Kreditkarte"}, {}]))) as on:
        assert on.client.friendly_names("de-DE") == {"g": "Kreditkarte"}
        assert on.server.asked[0].headers["Accept-Language"] == "de-DE"


def test_service_that_is_gone_is_retryable_and_named() -> None:
    with serving(in_turn(Reply())) as server:
        gone = Stage(server)
    with pytest.raises(RetryableError, match="the connection was refused"):
        gone.blobs()
    gone.client.close()


def test_process_has_one_client_a_connection_and_one_budget_a_tenant() -> None:
    one = Connection("a", TENANT, CLIENT, client_secret_env="S")
    other = Connection("b", TENANT, TENANT, client_secret_env="S")
    assert client_for(one) is client_for(Connection("a", TENANT, CLIENT, client_secret_env="S"))
    assert client_for(one) is not client_for(other)
    assert client_for(one).governor is client_for(other).governor


def test_first_content_note_is_one_sentence() -> None:
    assert "up to 12 hours" in first_content_note()
