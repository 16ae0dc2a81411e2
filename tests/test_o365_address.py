"""The guard: a token goes to the configured service only."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o365.address import FeedAddress
from o365.errors import FatalError

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
BASE = f"/api/v1.0/{TENANT}/activity/feed/"
ROOT = "https://manage.office.com"
ADDRESS = FeedAddress(ROOT, TENANT, "p-1")
PARAMS = {"contentType": "Audit.General", "startTime": "2026-11-20T00:00:00", "endTime": "2026-11-20T01:00:00"}
CONTENT = "subscriptions/content"


def test_operation_carries_the_publisher() -> None:
    assert ADDRESS.operation("subscriptions/list") == f"{ROOT}{BASE}subscriptions/list?PublisherIdentifier=p-1"


def test_blob_uri_keeps_its_dollar_signs_and_gets_the_publisher() -> None:
    uri = f"{ROOT}{BASE}audit/2026$2027$audit_general$Audit_General$emea0036"
    assert ADDRESS.blob(uri) == uri + "?PublisherIdentifier=p-1"


@pytest.mark.parametrize(
    "uri",
    [
        f"http://manage.office.com{BASE}audit/1",
        f"https://manage.office.com:443{BASE}audit/1",
        f"https://MANAGE.OFFICE.COM{BASE}audit/1",
        f"{ROOT}{BASE}audit/1#fragment",
    ],
)
def test_other_spellings_of_our_host_are_called_at_the_configured_root(uri: str) -> None:
    assert ADDRESS.blob(uri) == f"{ROOT}{BASE}audit/1?PublisherIdentifier=p-1"


@pytest.mark.parametrize(
    "uri",
    [
        f"https://evil.example{BASE}audit/1",
        f"https://manage.office.com.evil.example{BASE}audit/1",
        f"https://manage.office.com@evil.example{BASE}audit/1",
        f"https://user:pass@manage.office.com{BASE}audit/1",
        f"https://manage.office.com:8443{BASE}audit/1",
        f"https://evil.example\\@manage.office.com{BASE}audit/1",
        f"https://manage.office.com:port{BASE}audit/1",
        f"ftp://manage.office.com{BASE}audit/1",
        f"//evil.example{BASE}audit/1",
        f"{BASE}audit/1",
        "",
        "https://[::1",
        f"{ROOT}/api/v1.0/{TENANT[::-1]}/activity/feed/audit/1",
        f"{ROOT}{BASE}subscriptions/stop",
        f"{ROOT}{BASE}audit/../../../other",
        f"{ROOT}{BASE}audit/%2e%2e/%2E%2E/other",
        f"{ROOT}{BASE}audit/..%5c..%5cother",
        f"{ROOT}{BASE}audit/1\r\nHost: evil.example",
        f"{ROOT}{BASE}audit/1 2",
    ],
)
def test_uri_that_leads_elsewhere_is_refused(uri: str) -> None:
    with pytest.raises(FatalError, match="no token was sent there"):
        ADDRESS.blob(uri)


def test_next_page_gets_back_what_it_lost() -> None:
    uri = f"{ROOT}{BASE}{CONTENT}?contenttype=Audit.General&endtime=2026-11-20T01:00:00.0000000Z&nextpage=1$2$na0022"
    assert ADDRESS.next_page(uri, CONTENT, PARAMS) == (uri + "&startTime=2026-11-20T00:00:00&PublisherIdentifier=p-1")


def test_next_page_of_another_operation_is_refused() -> None:
    with pytest.raises(FatalError, match="NextPageUri"):
        ADDRESS.next_page(f"{ROOT}{BASE}audit/1", CONTENT, PARAMS)


def test_loopback_port_is_part_of_the_root() -> None:
    local = FeedAddress("http://127.0.0.1:8080", TENANT, "p-1")
    assert local.blob(f"http://127.0.0.1:8080{BASE}audit/1").startswith("http://127.0.0.1:8080/")
    for uri in (f"http://127.0.0.1{BASE}audit/1", f"https://127.0.0.1:8080{BASE}audit/1"):
        with pytest.raises(FatalError):
            local.blob(uri)


@given(st.text(max_size=60))
def test_whatever_comes_is_refused_or_stays_on_the_root(text: str) -> None:
    for uri in (text, f"https://{text}{BASE}audit/1", f"{ROOT}{text}{BASE}audit/1", f"{ROOT}{BASE}audit/{text}"):
        try:
            url = ADDRESS.blob(uri)
        except FatalError:
            continue
        assert (urlsplit(url).scheme, urlsplit(url).netloc) == ("https", "manage.office.com")
        assert urlsplit(url).path.startswith(BASE + "audit/")
