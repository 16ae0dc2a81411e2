import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from emulator.content import Blob, make_blob
from emulator.errors import MESSAGES
from emulator.filling import Shape
from emulator.tenant import Answer
from schemas.contract import api_errors, content_types
from tests.emulator_visitor import NOW, Visitor, code_of, visiting

WINDOW = {"startTime": "2026-11-20T00:00:00", "endTime": "2026-11-20T12:00:00"}


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with visiting() as visitor:
        visitor.start()
        yield visitor


def put(visitor: Visitor, created: str, number: int = 1, available_at: str | None = None) -> Blob:
    """Puts a blob of one record into Audit.General."""
    blob = make_blob(
        "Audit.General",
        [b'{"Id":"r%d"}' % number],
        datetime.fromisoformat(created).replace(tzinfo=UTC),
        number=number,
        datacentre="na0022",
        available_at=datetime.fromisoformat(available_at).replace(tzinfo=UTC) if available_at else None,
    )
    visitor.tenant.add([blob])
    return blob


def ids(answer: requests.Response) -> list[str]:
    return [blob["contentId"] for blob in answer.json()]


def test_every_error_code_has_a_message_and_every_message_a_code() -> None:
    assert MESSAGES.keys() == {code for code in api_errors() if not code.startswith("AADSTS")}


def test_window_takes_its_start_and_leaves_its_end(visitor: Visitor) -> None:
    first = put(visitor, "2026-11-20T08:00:00", 1)
    put(visitor, "2026-11-20T09:00:00", 2)
    answer = visitor.content(startTime="2026-11-20T08:00:00", endTime="2026-11-20T09:00:00")
    assert ids(answer) == [first.content_id]


def test_listing_describes_a_blob_in_five_members(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T08:15:31.204518", 1)
    assert visitor.content(**WINDOW).json() == [
        {
            "contentUri": f"{visitor.feed}/audit/{blob.content_id}",
            "contentId": blob.content_id,
            "contentType": "Audit.General",
            "contentCreated": "2026-11-20T08:15:31.204Z",
            "contentExpiration": "2026-11-27T08:15:31.204Z",
        }
    ]
    assert blob.content_id.split("$")[2:] == ["audit_general", "Audit_General", "na0022"]
    assert blob.content_id.split("$")[1].startswith("20261120081531204")


def test_no_window_means_the_last_24_hours(visitor: Visitor) -> None:
    put(visitor, "2026-11-19T11:59:59", 1)
    inside = put(visitor, "2026-11-19T13:00:00", 2)
    assert ids(visitor.content()) == [inside.content_id]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-11-20", "2026-11-20T12:00"),
        ("2026-11-20T00:00:00Z", "2026-11-20T12:00:00.000Z"),
        ("2026-11-20T01:00:00.0000000+01:00", "2026-11-20T12:00:00.123456789Z"),
        ("2026-11-19T12:00:00", "2026-11-20T12:00:00"),
        ("2026-11-20T11:00:00", "2026-11-21T11:00:00"),
        ("2026-11-13T11:00:01", "2026-11-13T12:00:00"),
    ],
)
def test_accepted_windows(visitor: Visitor, start: str, end: str) -> None:
    assert visitor.content(startTime=start, endTime=end).status_code == 200


@pytest.mark.parametrize(
    "window",
    [
        {"startTime": "2026-11-20T00:00:00"},
        {"endTime": "2026-11-20T00:00:00"},
        {"startTime": "2026-11-19T11:59:59", "endTime": "2026-11-20T12:00:00"},
        {"startTime": "2026-11-20T08:00:00", "endTime": "2026-11-20T08:00:00"},
        {"startTime": "2026-11-20T09:00:00", "endTime": "2026-11-20T08:00:00"},
        {"startTime": "2026-11-13T10:59:00", "endTime": "2026-11-13T12:00:00"},
    ],
)
def test_window_that_breaks_a_rule_is_af20055(visitor: Visitor, window: dict[str, str]) -> None:
    assert code_of(visitor.content(**window)) == (400, "AF20055")


def test_older_window_code_and_strict_day_can_be_chosen(visitor: Visitor) -> None:
    visitor.emu.state.window_code, visitor.emu.state.strict_day = "AF20030", True
    whole_day = {"startTime": "2026-11-19T12:00:00", "endTime": "2026-11-20T12:00:00"}
    assert code_of(visitor.content(**whole_day)) == (400, "AF20030")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-20T08"])
def test_time_that_is_none_is_af20002(visitor: Visitor, text: str) -> None:
    assert code_of(visitor.content(startTime=text, endTime="2026-11-20T12:00:00")) == (400, "AF20002")


def test_names_and_types_are_taken_in_any_case_and_slashes_doubled(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T08:00:00")
    query = "CONTENTTYPE=audit.general&starttime=2026-11-20&EndTime=2026-11-20T12:00"
    assert ids(visitor.ask(f"//subscriptions/content?{query}")) == [blob.content_id]


def test_pages_hold_every_blob_once_in_the_order_of_availability(visitor: Visitor) -> None:
    visitor.emu.state.page_size = 3
    blobs = [put(visitor, f"2026-11-20T{hour:02}:00:00", hour) for hour in range(10)]
    late = put(visitor, "2026-11-20T00:30:00", 20, available_at="2026-11-20T11:30:00")
    answers = list(visitor.pages("Audit.General", *WINDOW.values()))
    assert [len(answer.json()) for answer in answers] == [3, 3, 3, 2]
    assert [i for answer in answers for i in ids(answer)] == [blob.content_id for blob in [*blobs, late]]


def test_next_page_uri_is_written_as_the_service_writes_it(visitor: Visitor) -> None:
    visitor.emu.state.page_size = 1
    first = put(visitor, "2026-11-20T08:00:00", 1)
    put(visitor, "2026-11-20T09:00:00", 2)
    publisher = "46b472a7-c68e-4adf-8ade-3db49497518e"
    uri = visitor.content(**WINDOW, PublisherIdentifier=publisher).headers["NextPageUri"]
    assert uri.startswith(f"{visitor.feed}/subscriptions/content?contenttype=Audit.General&endtime=2026-11-20T12:00:00")
    assert parse_qsl(urlsplit(uri).query) == [
        ("contenttype", "Audit.General"),
        ("endtime", "2026-11-20T12:00:00.0000000Z"),
        ("starttime", "2026-11-20T00:00:00.0000000Z"),
        ("nextpage", f"{first.content_id.split('$')[1]}$20261120000000000000000${visitor.tenant.datacentre}"),
    ]


def test_page_after_a_call_without_window_carries_the_24_hours_that_were_used(visitor: Visitor) -> None:
    visitor.emu.state.page_size = 1
    for number in (1, 2):
        put(visitor, f"2026-11-20T0{number}:00:00", number)
    uri = visitor.content().headers["NextPageUri"]
    assert "starttime=2026-11-19T12:00:0" in uri
    assert len(visitor.ask(uri).json()) == 1


@pytest.mark.parametrize("token", ["nonsense", "1$2$x", f"{'9' * 23}${'0' * 23}$na0022"])
def test_bad_page_token_is_af20031(visitor: Visitor, token: str) -> None:
    assert code_of(visitor.content(**WINDOW, nextPage=token)) == (400, "AF20031")


def test_late_blob_is_listed_by_its_time_but_only_once_it_has_appeared(visitor: Visitor) -> None:
    late = put(visitor, "2026-11-20T01:00:00", available_at="2026-11-20T13:00:00")
    assert ids(visitor.content(**WINDOW)) == []
    assert code_of(visitor.ask(f"/audit/{late.content_id}")) == (404, "AF20050")
    visitor.emu.clock.advance(3600)
    visitor.renew()
    assert ids(visitor.content(**WINDOW)) == [late.content_id]


def test_listing_needs_a_subscription(visitor: Visitor) -> None:
    assert code_of(visitor.content("Audit.Exchange")) == (400, "AF20022")
    assert code_of(visitor.ask("/subscriptions/content")) == (400, "AF20001")
    assert code_of(visitor.content("Audit.Nothing")) == (400, "AF20020")


def test_blob_is_served_plain_or_gzip_as_asked(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T08:00:00")
    url = f"{visitor.feed}/audit/{blob.content_id}"
    plain = visitor.ask(url, headers={"Accept-Encoding": "identity"})
    packed = visitor.ask(url, headers={"Accept-Encoding": "deflate, gzip;q=0.5"}, stream=True)
    refused = visitor.ask(url, headers={"Accept-Encoding": "gzip;q=0"})
    assert plain.content == refused.content == b'[{"Id":"r1"}]'
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.raw.read(decode_content=False)) == plain.content
    assert blob.fetched == 3


def test_dollar_signs_may_be_escaped(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T08:00:00")
    assert visitor.ask(f"/audit/{blob.content_id.replace('$', '%24')}").status_code == 200


def test_blob_that_is_unknown_expired_or_no_id(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T08:00:00")
    unknown = blob.content_id.replace("na0022", "na0099")
    assert code_of(visitor.ask(f"/audit/{unknown}")) == (404, "AF20050")
    assert code_of(visitor.ask("/audit/1$2$3")) == (400, "AF20052")
    blob.expiration = NOW
    assert code_of(visitor.ask(f"/audit/{blob.content_id}")) == (400, "AF20051")
    assert ids(visitor.content(**WINDOW)) == [blob.content_id]


def test_blob_expires_seven_days_after_its_time(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T11:00:00")
    visitor.emu.clock.set(NOW + timedelta(days=7))
    visitor.renew()
    assert code_of(visitor.ask(f"/audit/{blob.content_id}")) == (400, "AF20051")


def test_blob_of_a_stopped_or_unknown_subscription_is_not_served(visitor: Visitor) -> None:
    blob = put(visitor, "2026-11-20T08:00:00")
    visitor.stop()
    assert code_of(visitor.ask(f"/audit/{blob.content_id}")) == (400, "AF20023")
    other = blob.content_id.replace("general", "exchange").replace("General", "Exchange")
    assert code_of(visitor.ask(f"/audit/{other}")) == (400, "AF20022")


def test_wrong_tenant_in_the_address(visitor: Visitor) -> None:
    blob, tenant = put(visitor, "2026-11-20T08:00:00"), visitor.tenant.tenant_id
    other = visitor.feed.replace(tenant, "11111111-2222-4333-8444-555555555555")
    no_guid = visitor.feed.replace(tenant, "contoso.onmicrosoft.com")
    assert code_of(visitor.ask(f"{other}/subscriptions/list")) == (400, "AF20010")
    assert code_of(visitor.ask(f"{no_guid}/subscriptions/list")) == (400, "AF20013")
    assert code_of(visitor.ask(f"{other}/audit/{blob.content_id}")) == (400, "AF20052")
    assert visitor.ask(f"{visitor.feed.replace(tenant, tenant.upper())}/subscriptions/list").status_code == 200


@pytest.mark.parametrize(("status", "code"), [("deleted", "AF20011"), ("misconfigured", "AF20012")])
def test_tenant_that_is_gone_or_broken(visitor: Visitor, status: str, code: str) -> None:
    visitor.tenant.status = status
    assert code_of(visitor.ask("/subscriptions/list")) == (400, code)


def test_dlp_needs_a_role_of_its_own(visitor: Visitor) -> None:
    visitor.start("DLP.All")
    visitor.tenant.app.roles = ["ActivityFeed.Read", "ServiceHealth.Read"]
    visitor.renew()
    answer = visitor.content("DLP.All")
    assert code_of(answer) == (401, "AF10001")
    assert "(ActivityFeed.Read ServiceHealth.Read)" in answer.json()["error"]["message"]
    assert visitor.content(**WINDOW).status_code == 200


def test_auditing_off_looks_like_an_unknown_tenant(visitor: Visitor) -> None:
    visitor.tenant.auditing = False
    answer = visitor.content()
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["code"].startswith("ListContent [CorrId=")
    assert f"Tenant {visitor.tenant.tenant_id} does not exist" in error["message"]


def test_quota_counts_the_requests_of_a_sliding_minute(visitor: Visitor) -> None:
    visitor.emu.clock.advance(60)
    visitor.tenant.quota = 2
    answers = [visitor.content(PublisherIdentifier="46b472a7-c68e-4adf-8ade-3db49497518e") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 403]
    text = "Too many requests. Method=ListContent, PublisherId=46b472a7-c68e-4adf-8ade-3db49497518e"
    assert answers[2].json() == {"error": {"code": "AF429", "message": text}}
    assert "Retry-After" not in answers[2].headers
    visitor.emu.clock.advance(60)
    assert visitor.content().status_code == 200


def test_publisher_identifier_must_be_a_guid(visitor: Visitor) -> None:
    assert code_of(visitor.content(PublisherIdentifier="me")) == (400, "AF20002")


def test_headers_are_those_of_the_service(visitor: Visitor) -> None:
    for answer in (visitor.content(), visitor.content("Audit.Nothing")):
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["Server"] == "Microsoft-IIS/10.0"
        assert answer.headers["Date"].startswith("Fri, 20 Nov 2026 12:00:")
        assert not {"ETag", "Retry-After", "RateLimit-Limit"} & set(answer.headers)


@pytest.mark.parametrize(
    ("language", "code"), [("de-DE, en", "AF20053"), ("!!", "AF20054"), ("de-DE", None), ("en;q=0.8", None)]
)
def test_friendly_names_take_one_language(visitor: Visitor, language: str, code: str | None) -> None:
    answer = visitor.ask("/resources/dlpSensitiveTypes", headers={"Accept-Language": language})
    if code is None:
        assert answer.json()[0] == {"id": "50842eb7-edc8-4019-85dd-5a5c1f2bb085", "name": "Credit Card Number"}
    else:
        assert code_of(answer) == (400, code)


def test_unknown_address_and_method_are_plain_404_and_405(visitor: Visitor) -> None:
    assert visitor.ask("/nothing").status_code == 404
    assert visitor.ask("/subscriptions/start").status_code == 405


def test_hook_may_answer_instead_of_the_service(visitor: Visitor) -> None:
    async def hook(request: Request, answer: Answer) -> Response:
        if request.url.path.endswith("/list"):
            return PlainTextResponse("gateway", 503)
        return await answer(request)

    visitor.emu.state.hook = hook
    assert visitor.ask("/subscriptions/list").text == "gateway"
    assert visitor.content().status_code == 200


def test_walking_every_page_of_every_day_finds_the_records_that_were_given(tmp_path: Path) -> None:
    lines = [json.dumps({"Id": f"r{n}", "RecordType": n % 60, "Workload": "Exchange"}) for n in range(3000)]
    with visiting(lines, tmp_path, page_size=2, shape=Shape(max_records=60)) as visitor:
        found, uris = [], []
        for content_type in content_types():
            visitor.start(content_type)
            for hours in range(0, 168, 12):
                start, end = (NOW - timedelta(hours=168 - hours - h) for h in (0, 12))
                for answer in visitor.pages(content_type, f"{start:%Y-%m-%dT%H:%M:%S}", f"{end:%Y-%m-%dT%H:%M:%S}"):
                    uris += [blob["contentUri"] for blob in answer.json()]
        for uri in uris:
            found += [record["Id"] for record in visitor.ask(uri).json()]
        assert len(uris) == len(set(uris)) == len(visitor.tenant.by_id)
        assert set(found) == {f"r{n}" for n in range(3000)}
        assert len(found) > 3000
