"""What a hostile service can send: it costs an answer, never the token or the process."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lake.entries import FAILED
from lake.tenant import TenantLake
from o365.activity import ActivityClient
from o365.address import FeedAddress
from o365.answers import quoted, refusal
from o365.connection import Connection
from o365.errors import ActivityError, FatalError, RetryableError
from o365.identity import TokenSource
from o365.transport import Answer, TooLargeError, _gunzip
from schemas.feed import ContentBlob
from schemas.times import TimeRange
from tests.commands import ROOT
from tests.lake_records import storage_at
from tests.scripted_server import FakeTime, Reply, in_turn, json_reply, serving
from transforms.elements import ContentUnit, Feed
from transforms.land_content import land_unit

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
OTHER = "0d0b5f60-4c3d-4a7e-8f43-1f8c2d5b7e21"
BASE = f"/api/v1.0/{TENANT}/activity/feed/"
SERVICE = "https://manage.office.com"
ADDRESS = FeedAddress(SERVICE, TENANT, "p-1")
START = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOUR = TimeRange(START, START + timedelta(hours=1))
DEEP = b"[" * 100_000 + b"]" * 100_000


class FakeTokens:
    def token(self) -> str:
        return "hush-token"

    def refresh(self, rejected: str) -> str:
        return rejected


def client_of(root: str, **more: int) -> ActivityClient:
    connection = Connection("contoso", TENANT, OTHER, client_secret_env="S", api_root=root, timeout_s=5)
    times = FakeTime()
    return ActivityClient(connection, tokens=FakeTokens(), clock=times.clock, sleep=times.sleep, deadline_s=1, **more)


@pytest.mark.parametrize(
    "uri",
    [
        f"https://evil.example{BASE}audit/1",
        f"https://manage.office.com.{BASE}audit/1",
        f"https://manage.office.com.evil.example{BASE}audit/1",
        f"https://manage.office.com:8443{BASE}audit/1",
        f"https://manage.office.com:80{BASE}audit/1",
        f"https://token@manage.office.com{BASE}audit/1",
        f"https://manage.office.com:@evil.example{BASE}audit/1",
        f"https://[::1]{BASE}audit/1",
        f"https://[::ffff:127.0.0.1]{BASE}audit/1",
        f"https://[fe80::1%25eth0]{BASE}audit/1",
        f"https://127.0.0.1{BASE}audit/1",
        f"https://0x7f000001{BASE}audit/1",
        f"https://evil.example\\@manage.office.com{BASE}audit/1",
        f"https:\\\\manage.office.com{BASE}audit/1",
        f"https://manage.office.com\\{BASE}audit/1",
        f"https://manage.ⓞffice.com{BASE}audit/1",
        f"https://manage.оffice.com{BASE}audit/1",  # noqa: RUF001 (a Cyrillic o)
        f"https://manage.office.com\uff0f.evil.example{BASE}audit/1",
        f"https://manage.office。com{BASE}audit/1",
        f"https://manage.office.com%2eevil.example{BASE}audit/1",
        f"file://manage.office.com{BASE}audit/1",
        f"gopher://manage.office.com{BASE}audit/1",
        f"{SERVICE}/api/v1.0/{OTHER}/activity/feed/audit/1",
        f"{SERVICE}{BASE}audit/../../../../{OTHER}/activity/feed/audit/1",
        f"{SERVICE}{BASE}audit/%2e%2e/%2e%2e/x",
        f"{SERVICE}{BASE}audit/.%2e/x",
        f"{SERVICE}{BASE}audit/%252e%252e/x",
        f"{SERVICE}{BASE}audit/%25252e%25252e%25252fx",
        f"{SERVICE}{BASE}audit/..;/..;/x",
        f"{SERVICE}{BASE}audit/%2e%2e%3bx/y",
        f"{SERVICE}{BASE}audit%2f..%2f..%2fx",
        f"{SERVICE}{BASE}audit/..%5cx",
        f"{SERVICE}{BASE}audit/1%00",
        f"{SERVICE}{BASE}audit/1%0d%0aHost:%20evil.example",
        f"{SERVICE}{BASE}audit/1\tx",
        f"{SERVICE}{BASE}auditor/1",
        f"{SERVICE}{BASE}subscriptions/stop?contentType=DLP.All",
    ],
)
def test_no_content_uri_takes_the_token_elsewhere(uri: str) -> None:
    with pytest.raises(FatalError, match="no token was sent there"):
        ADDRESS.blob(uri)


@pytest.mark.parametrize("operation", ["subscriptions/contents", "subscriptions/content/%2e%2e/stop", "audit/1"])
def test_no_next_page_takes_the_token_to_another_operation(operation: str) -> None:
    with pytest.raises(FatalError, match="no token was sent there"):
        ADDRESS.next_page(f"{SERVICE}{BASE}{operation}", "subscriptions/content", {})


@pytest.mark.parametrize(
    "uri", [f"HTTPS://MANAGE.OFFICE.COM{BASE}audit/1", f"https://Manage.Office.com:443{BASE}audit/1"]
)
def test_host_in_upper_case_is_ours_and_called_as_configured(uri: str) -> None:
    assert ADDRESS.blob(uri).startswith(f"{SERVICE}{BASE}audit/1?")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_gets_no_request_and_so_no_token(status: int) -> None:
    with serving(in_turn(Reply(200, b"[]"))) as elsewhere:
        with serving(in_turn(Reply(status, b"", {"Location": f"{elsewhere.root}{BASE}audit/1"}))) as here:
            with pytest.raises(ActivityError, match="redirect"):
                client_of(here.root).retrieve(f"{here.root}{BASE}audit/1")
            with pytest.raises(ActivityError, match="redirect"):
                list(client_of(here.root).list_content("Audit.General", HOUR))
        assert elsewhere.asked == []


def test_discovery_that_names_another_host_gets_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush")
    asked = []

    class Discovery:
        def send(self, method: str, url: str, **_: object) -> Answer:
            asked.append((method, url))
            found = dict.fromkeys(("authorization_endpoint", "token_endpoint"), "https://evil.example/x")
            return Answer(200, {}, json.dumps(found).encode(), is_whole=True)

    secret_file = str(tmp_path / "secret")
    connection = Connection("contoso", TENANT, OTHER, client_secret_file=secret_file, authority="https://login.example")
    with pytest.raises(FatalError, match=r"token endpoint is at 'evil\.example'.*no secret was sent"):
        TokenSource(connection, Discovery()).token()  # type: ignore[arg-type]
    assert [method for method, _ in asked] == ["GET"]


BOMB = gzip.compress(gzip.compress(b"\0" * (64 << 20)))  # gzip in gzip: only the outer one is ever unpacked


def test_blob_that_is_a_bomb_is_recorded_as_failed_in_a_sentence(tmp_path: Path) -> None:
    bomb = Reply(200, gzip.compress(b"[" + b" " * (64 << 20) + b"]"), {"Content-Encoding": "gzip"})
    lake = TenantLake(storage_at(tmp_path), TENANT)
    with serving(in_turn(bomb)) as server, ThreadPoolExecutor(2) as pool:
        client = client_of(server.root, max_blob_bytes=1 << 20)
        blob = ContentBlob("1", f"{server.root}{BASE}audit/1", "Audit.General", START, START + timedelta(days=7))
        feed = Feed(client.connection, "Audit.General", HOUR, str(tmp_path / "lake"), "run")
        land_unit(ContentUnit(feed, (blob,)), client, lake, pool)
    told = lake.ledger.state.blobs["1"]
    assert told.status == FAILED
    assert told.error is not None
    assert "is larger than 1048576 bytes, the most accepted" in told.error


def test_bomb_takes_no_more_memory_than_the_limit() -> None:
    code = """
import gzip, resource
from o365.transport import TooLargeError, _gunzip
bomb = gzip.compress(b"\\0" * (16 << 20)) * 64
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for wire in (bomb, gzip.compress(bomb)):
    try:
        _gunzip(wire, "host", 1 << 20)
    except TooLargeError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 1024


def test_gzip_in_gzip_is_unpacked_once() -> None:
    assert gzip.decompress(_gunzip(BOMB, "host", 1 << 20)) == b"\0" * (64 << 20)
    with pytest.raises(TooLargeError):
        _gunzip(gzip.decompress(BOMB), "host", 1 << 20)


def test_gzip_of_very_many_members_is_unpacked_in_linear_time() -> None:
    # A copy of the rest for each member would take hours.
    assert _gunzip(gzip.compress(b"x") * 200_000 + b"\0" * (8 << 20), "host", 1 << 20) == b"x" * 200_000


@pytest.mark.parametrize(
    "body", [DEEP, b'[{"a":' + DEEP + b"}]", b"[" + b"9" * 100_000 + b"]"], ids=["deep", "in", "long"]
)
def test_listing_of_hostile_json_is_an_error_of_ours(body: bytes) -> None:
    with serving(in_turn(Reply(200, body))) as server, pytest.raises(RetryableError):
        list(client_of(server.root).list_content("Audit.General", HOUR))


@pytest.mark.parametrize(
    "body",
    [DEEP, b'{"error":{"code":' + DEEP + b"}}", b'{"error":' + b"9" * 100_000 + b"}"],
    ids=["deep", "in", "long"],
)
def test_refusal_of_hostile_json_is_an_error_of_ours(body: bytes) -> None:
    assert isinstance(refusal(403, {}, body, what="listing"), FatalError)


LISTED = {
    "contentUri": f"{SERVICE}{BASE}audit/1",
    "contentType": "Audit.General",
    "contentCreated": "2026-11-20T08:00:00Z",
    "contentExpiration": "2026-11-27T08:00:00Z",
}


def test_content_id_that_no_file_can_hold_is_refused_where_it_is_listed() -> None:
    odd = in_turn(json_reply([LISTED | {"contentId": "\ud800"}]))
    with serving(odd) as server, pytest.raises(RetryableError, match="contentId holds half a character"):
        list(client_of(server.root).list_content("Audit.General", HOUR))


@pytest.mark.parametrize("life", ["1e999", "NaN", "-1", "[1]", "{}", "null", '"soon"', "9" * 5000, "0"])
@pytest.mark.parametrize("more", ["", '"id_token":"","refresh_in":[],"scope":5,"client_info":"?",'])
def test_token_answer_with_odd_members_is_read_or_an_error_of_ours(life: str, more: str, tmp_path: Path) -> None:
    from tests.fuzz.service import check_token

    check_token(f'{{{more}"access_token":"hush-token","expires_in":{life}}}'.encode())
    check_token(b'{"access_token":"hush-token","x":' + DEEP + b"}")


@pytest.mark.parametrize(
    "make", [lambda: "eyJ" * 3_000_000, lambda: "bearer " * 1_000_000, lambda: "retry after " + "9" * 9_000_000]
)
def test_text_of_megabytes_is_quoted_in_linear_time(make: Callable[[], str]) -> None:
    text = make()
    assert len(quoted(text)) < 300
    assert refusal(429, {}, json.dumps({"error": {"code": "AF429", "message": text}}).encode(), what="x") is not None
