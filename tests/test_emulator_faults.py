"""Faults by script: each seen by a plain client, the same for a seed, refused in one sentence, survived by ours."""

import errno
import gzip
import http.client
import json
import re
import socket
import ssl
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from emulator.cli import add_arguments, run
from emulator.errors import MESSAGES
from emulator.fault_answers import FOREIGN_HOST, KINDS
from emulator.fault_script import read_script
from emulator.filling import Shape
from schemas.contract import api_errors
from tests.emulator_visitor import NOW, Visitor, code_of, complaints, visiting

WINDOW = {"startTime": "2026-11-20T00:00:00", "endTime": "2026-11-20T12:00:00"}
GENERAL = "Audit.General"
ENDED = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script.toml"


@pytest.fixture(autouse=True)
def no_complaint(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Checks that the server takes no fault for a mistake of its own."""
    yield
    assert complaints(caplog) == []


@contextmanager
def faulty(script: Path, text: str, **options: object) -> Iterator[Visitor]:
    """Runs a service of 400 records, two blobs to a page, with the faults of a text."""
    script.write_text(text, encoding="utf-8")
    usual: dict[str, object] = {"count": 400, "page_size": 2, "shape": Shape(days=0.4, max_records=8, late=0)}
    with visiting(**usual | {"faults": script} | options) as visitor:
        visitor.start()
        yield visitor


def fault(what: str, **keys: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in ({"what": what} | keys).items()]
    return "\n".join(["[[fault]]", *lines, ""])


def blob_uri(visitor: Visitor) -> str:
    blob = visitor.tenant.blobs[GENERAL][0]
    return f"{visitor.feed}/audit/{blob.content_id}"


def packed(visitor: Visitor, uri: str) -> bytes:
    answer = visitor.ask(uri, headers={"Accept-Encoding": "gzip"}, stream=True)
    assert answer.headers["Content-Encoding"] == "gzip"
    return answer.raw.read(decode_content=False)


def test_latency_delays_an_answer_and_nothing_else(script: Path) -> None:
    with faulty(script, fault("latency", where="list", seconds=0.8)) as visitor:
        began = time.monotonic()
        assert visitor.ask("/subscriptions/list").json()[0]["contentType"] == GENERAL
        assert 0.8 <= time.monotonic() - began < 5
        began = time.monotonic()
        assert visitor.content(**WINDOW).ok
        assert time.monotonic() - began < 0.8


def test_client_that_leaves_does_not_hold_up_the_end(script: Path) -> None:
    with faulty(script, fault("latency", where="list", seconds=3000)) as visitor:
        bearer = {"Authorization": f"Bearer {visitor.bearer()}"}
        with pytest.raises(requests.ReadTimeout):
            requests.get(
                f"{visitor.feed}/subscriptions/list", headers=bearer, verify=str(visitor.emu.ca_file), timeout=0.2
            )
        began = time.monotonic()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [429, 403])
@pytest.mark.parametrize("retry_after", [None, 7])
def test_throttled_with_and_without_a_wait(script: Path, status: int, retry_after: int | None) -> None:
    keys = {"status": status} | ({} if retry_after is None else {"retry_after": retry_after})
    with faulty(script, fault("throttled", where="content", first=1, **keys)) as visitor:
        answer = visitor.content(**WINDOW)
        assert code_of(answer) == (status, "AF429")
        assert answer.headers.get("Retry-After") == (None if retry_after is None else "7")
        assert visitor.content(**WINDOW).status_code == 200


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_status_and_page(script: Path, status: int) -> None:
    text = fault("status", where="content", status=status, retry_after=2) + fault("html", where="list", status=status)
    with faulty(script, text + fault("html", where="blob")) as visitor:
        answer = visitor.content(**WINDOW)
        assert (answer.status_code, answer.headers["Retry-After"]) == (status, "2")
        page = visitor.ask("/subscriptions/list")
        assert (page.status_code, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        page = visitor.ask(blob_uri(visitor))
        assert page.status_code == 200
        assert page.text.startswith("<!DOCTYPE html>")


def test_each_error_code(script: Path) -> None:
    text = "".join(fault("af", where="list", code=code, first=n) for n, code in enumerate(MESSAGES, 1))
    with faulty(script, text) as visitor:
        for code in MESSAGES:
            assert code_of(visitor.ask("/subscriptions/list")) == (api_errors()[code].http, code)
        assert visitor.ask("/subscriptions/list").status_code == 200


def test_unauthorized_is_a_401_without_code(script: Path) -> None:
    with faulty(script, fault("unauthorized", where="content", every=2)) as visitor:
        assert [visitor.content(**WINDOW).status_code for _ in range(4)] == [200, 401, 200, 401]
        answer = visitor.content(startTime="2026-11-20T01:00", endTime="2026-11-20T02:00")
        assert answer.status_code == 200
        again = visitor.content(starttime="2026-11-20T01:00", ENDTIME="2026-11-20T02:00", PublisherIdentifier="x")
        assert again.status_code == 401
        assert again.headers["WWW-Authenticate"] == "Bearer"
        assert "error" not in again.json()


def test_expired_blob_stays_listed_and_is_refused_from_then_on(script: Path) -> None:
    with faulty(script, fault("expired", first=1, content_type=GENERAL)) as visitor:
        uri, listed = blob_uri(visitor), visitor.content(**WINDOW).json()
        assert [code_of(visitor.ask(uri)) for _ in range(2)] == [(400, "AF20051")] * 2
        assert [item["contentId"] for item in visitor.content(**WINDOW).json()] == [i["contentId"] for i in listed]
        assert visitor.tenant.blobs[GENERAL][0].expiration < NOW + timedelta(minutes=5)


@contextmanager
def asked(visitor: Visitor, uri: str, wait_s: float = 5) -> Iterator[ssl.SSLSocket]:
    """A connection on which a request has been sent."""
    parts = urlsplit(uri)
    context = ssl.create_default_context(cafile=visitor.emu.ca_file)
    with (
        socket.create_connection((parts.hostname, parts.port), timeout=wait_s) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as sock,
    ):
        head = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {visitor.bearer()}\r\n\r\n"
        sock.sendall(head.encode())
        yield sock


def raw_answer(visitor: Visitor, uri: str, wait_s: float = 5) -> bytes:
    """All that comes until the connection ends."""
    with asked(visitor, uri, wait_s) as sock:
        found = b""
        while piece := sock.recv(1 << 16):
            found += piece
        return found


def is_reset(visitor: Visitor, uri: str) -> bool:
    # Asked of the socket: TLS tells a reset as an end.
    with asked(visitor, uri) as sock:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return error == errno.ECONNRESET
            time.sleep(0.01)
    return False


def test_hangup_and_reset_end_the_connection_before_an_answer(script: Path) -> None:
    text = fault("hangup", where="list", first=1) + fault("reset", where="blob", first=1)
    with faulty(script, text) as visitor:
        uri = blob_uri(visitor)
        assert raw_answer(visitor, f"{visitor.feed}/subscriptions/list") == b""
        assert is_reset(visitor, uri)
        assert visitor.ask("/subscriptions/list").ok
        assert visitor.ask(uri).ok


def test_hangup_and_reset_in_the_words_of_a_library(script: Path) -> None:
    text = fault("hangup", where="list") + fault("reset", where="token", every=2)
    with faulty(script, text) as visitor:
        with pytest.raises(requests.ConnectionError) as hung_up:
            visitor.ask("/subscriptions/list")
        assert isinstance(hung_up.value.args[0].args[1], http.client.RemoteDisconnected)
        with pytest.raises(requests.ConnectionError):
            visitor.token()
        assert visitor.token().ok


def test_cut_answer_announces_more_than_it_brings(script: Path) -> None:
    with faulty(script, fault("cut", where="blob", first=2)) as visitor:
        uri, whole = blob_uri(visitor), visitor.tenant.blobs[GENERAL][0].body()
        head, _, body = raw_answer(visitor, uri).partition(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % len(whole) in head
        assert body == whole[: len(whole) // 2]
        with pytest.raises(ENDED):
            visitor.ask(uri)
        assert visitor.ask(uri).content == whole


def test_stalled_answer_stands_still_before_it_ends(script: Path) -> None:
    text = fault("stalled", where="blob", seconds=0.5, first=1) + fault("stalled", where="list", seconds=3000)
    with faulty(script, text) as visitor:
        began = time.monotonic()
        assert raw_answer(visitor, blob_uri(visitor)).startswith(b"HTTP/1.1 200")
        assert 0.5 <= time.monotonic() - began < 4
        with pytest.raises(TimeoutError):
            raw_answer(visitor, f"{visitor.feed}/subscriptions/list", wait_s=0.3)


def test_truncated_and_corrupt_gzip(script: Path) -> None:
    text = fault("truncated_gzip", where="blob", first=1) + fault("corrupt_gzip", where=["list", "blob"], every=2)
    with faulty(script, text) as visitor:
        uri, whole = blob_uri(visitor), visitor.tenant.blobs[GENERAL][0].gzipped()
        assert packed(visitor, uri) == whole[: len(whole) // 2]
        with pytest.raises(gzip.BadGzipFile, match="CRC"):
            gzip.decompress(packed(visitor, uri))
        assert packed(visitor, uri) == whole
        visitor.ask("/subscriptions/list")
        with pytest.raises(requests.exceptions.ContentDecodingError):
            visitor.ask("/subscriptions/list")


def test_bodies_that_are_not_what_is_expected(script: Path) -> None:
    text = fault("invalid_json", where="list", first=1) + fault("wrong_shape", where=["list", "token"], every=2)
    text += fault("empty", where="blob", first=1) + fault("no_records", every=2)
    with faulty(script, text) as visitor:
        assert visitor.token().json()[0]["token_type"] == "Bearer"
        with pytest.raises(requests.JSONDecodeError):
            visitor.ask("/subscriptions/list").json()
        assert visitor.ask("/subscriptions/list").json()["value"][0]["contentType"] == GENERAL
        uri = blob_uri(visitor)
        empty, none, whole = (visitor.ask(uri) for _ in range(3))
        assert (empty.status_code, empty.content, none.content) == (200, b"", b"[]")
        assert whole.content == visitor.tenant.blobs[GENERAL][0].body()


def test_faults_of_bodies_leave_refusals_alone(script: Path) -> None:
    with faulty(script, fault("empty", where="list") + fault("next_blank")) as visitor:
        for operation in ("list", "content"):
            answer = visitor.send("GET", f"{visitor.feed}/subscriptions/{operation}")
            assert answer.json() == {"Message": "Authorization has been denied for this request."}
            assert "NextPageUri" not in answer.headers


def links(script: Path, what: str) -> tuple[str, str, str]:
    """The link of the first page without and with a fault, and the last page's header."""
    found = []
    for text in (fault("latency", seconds=0, where="names"), fault(what)):
        with faulty(script, text) as visitor:
            *_, last = visitor.pages(GENERAL, *WINDOW.values()) if what == "next_blank" else [visitor.content(**WINDOW)]
            link = visitor.content(**WINDOW).headers["NextPageUri"]
            found.append(link.replace(visitor.emu.api_root, "ROOT"))
    return found[0], found[1], last.headers.get("NextPageUri", "missing")


def test_links_to_the_next_page_mangled(script: Path) -> None:
    plain, mangled, _ = links(script, "next_encoded")
    assert "$" in plain
    assert mangled == plain.replace("$", "%24")
    _, mangled, _ = links(script, "next_capitals")
    assert mangled != plain
    assert "?CONTENTTYPE=Audit.General&ENDTIME=" in mangled
    assert mangled.lower() == plain.lower()
    _, mangled, _ = links(script, "next_http")
    assert mangled.startswith("http://localhost:")
    _, mangled, _ = links(script, "next_foreign")
    assert mangled == plain.replace("ROOT", f"https://{FOREIGN_HOST}")
    _, mangled, _ = links(script, "next_self")
    assert mangled.startswith("ROOT")
    assert "nextpage" not in mangled.lower()
    _, mangled, last = links(script, "next_blank")
    assert (mangled, last) == (plain, "")


def test_self_referring_link_leads_to_the_same_page(script: Path) -> None:
    with faulty(script, fault("next_self")) as visitor:
        answer = visitor.content(**WINDOW)
        assert visitor.ask(answer.headers["NextPageUri"]).json() == answer.json()


def test_every_fault_is_described() -> None:
    text = read_script.__globals__["__doc__"]
    assert [what for what in KINDS if not re.search(rf"\b{what}\b", text)] == []


def test_faults_of_a_type_and_a_tenant_only(script: Path) -> None:
    text = fault("status", status=500, tenant=1, where=["token", "list"])
    text += fault("status", status=503, content_type="Audit.Exchange")
    with faulty(script, text, tenants=2) as visitor:
        other = Visitor(visitor.emu, visitor.emu.tenants[1])
        assert other.token().status_code == 500
        assert visitor.ask("/subscriptions/list").status_code == 200
        assert visitor.start("Audit.Exchange").status_code == 503
        assert visitor.content("audit.exchange").status_code == 503
        assert visitor.content().status_code == 200


def outcomes(script: Path, seed: int, *, backwards: bool) -> dict[str, list[int]]:
    with faulty(script, script.read_text(), seed=1) as visitor:
        visitor.emu.state.hook = read_script(script).hook(visitor.emu.state, seed)
        ids = [blob.content_id for blob in visitor.tenant.blobs[GENERAL]][:20]
        found: dict[str, list[int]] = {content_id: [] for content_id in ids}
        for _ in range(3):
            for content_id in reversed(ids) if backwards else ids:
                found[content_id].append(visitor.ask(f"/audit/{content_id}").status_code)
        return found


def test_draws_hang_on_seed_address_and_count_and_not_on_order(script: Path) -> None:
    script.write_text(fault("status", where="blob", share=0.3, status=503))
    first = outcomes(script, 1, backwards=False)
    assert first == outcomes(script, 1, backwards=True)
    assert first != outcomes(script, 2, backwards=False)
    hits = sum(statuses.count(503) for statuses in first.values())
    assert 0.1 < hits / sum(map(len, first.values())) < 0.5
    script.write_text("seed = 9\n" + script.read_text())
    assert outcomes(script, 1, backwards=False) == outcomes(script, 2, backwards=False)


def test_times_limits_the_hits_of_an_address(script: Path) -> None:
    with faulty(script, fault("status", where="blob", times=2, status=500)) as visitor:
        for blob in visitor.tenant.blobs[GENERAL][:2]:
            answers = [visitor.ask(f"/audit/{blob.content_id}").status_code for _ in range(4)]
            assert answers == [500, 500, 200, 200]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "fault is missing, expected [[fault]] tables, at least one"),
        ("[fault]\nwhat = 'hangup'", "fault is {'what': 'hangup'}, expected [[fault]] tables"),
        ("fault = [1]", "fault is [1], expected [[fault]] tables"),
        ("[[fault]\n", "not a TOML file of faults ("),
        ("faults = 1", "faults is unknown, expected seed, [content], [service] or [[fault]] tables"),
        ("seed = 'x'\n[[fault]]\nwhat = 'hangup'", "seed is 'x', expected a whole number"),
        (fault("hangup") + "[[fault]]", "fault 2: what is missing, expected one of latency, throttled"),
        (fault("hickup"), "fault 1: what is 'hickup', expected one of latency"),
        (fault("hangup", seconds=1), "fault 1: seconds is unknown for hangup, expected some of what, where"),
        (fault("latency"), "fault 1: seconds is missing, expected seconds from 0 to 3600 for latency"),
        (fault("latency", seconds="1"), "fault 1: seconds is '1', expected seconds"),
        (fault("latency", seconds=-1), "fault 1: seconds is -1, expected seconds"),
        (fault("hangup", share=1.5), "fault 1: share is 1.5, expected a number from 0 to 1"),
        (fault("hangup", share=True), "fault 1: share is True, expected a number from 0 to 1"),
        (fault("hangup", every=0), "fault 1: every is 0, expected a whole number of 1 or more"),
        (
            fault("hangup", first=1, share=0.1),
            "fault 1: first stands beside share, expected one of share, every, first",
        ),
        (fault("hangup", times=0.5), "fault 1: times is 0.5, expected a whole number of 1 or more"),
        (fault("hangup", where="blobs"), "fault 1: where is 'blobs', expected some of token, list"),
        (fault("hangup", where=[]), "fault 1: where is [], expected some of token"),
        (fault("next_self", where=["blob"]), "fault 1: where is ['blob'], expected some of content, notifications"),
        (fault("af", code="AF1"), "fault 1: code is 'AF1', expected one of AF10001"),
        (fault("status", status=204), "fault 1: status is 204, expected an HTTP status"),
        (fault("throttled", retry_after=1.5), "fault 1: retry_after is 1.5, expected whole seconds"),
        (fault("hangup", addresses=2), "fault 1: addresses is 2, expected a number from 0 to 1"),
        (fault("hangup", next_page=1), "fault 1: next_page is 1, expected true or false"),
        (fault("hangup", from_hours="1"), "fault 1: from_hours is '1', expected hours after the anchor"),
        (fault("hangup", from_hours=3, until_hours=2), "fault 1: from_hours is 3, expected no more than until_hours"),
        (fault("refused", where="blob"), "fault 1: where is unknown for refused, expected some of what, share, every"),
        (fault("refused", times=1), "fault 1: times is unknown for refused"),
        (fault("page_gaps"), "fault 1: items is missing, expected a number from 0 to 1 for page_gaps"),
        ("content = 1", "content is 1, expected a table"),
        ("[content]\nlater = 1", "content: later is unknown, expected some of days, ahead_days, max_records"),
        ("[content]\nlate = 2", "content: late is 2, expected a number from 0 to 1"),
        ("[content]\nlate_hours = [0, 1]", "content: late_hours is [0, 1], expected two numbers of hours above 0"),
        ("[content]\nlate_hours = [2, 1]", "content: late_hours is [2, 1], expected two numbers of hours"),
        ("[content]\nbroken_kinds = ['bad']", "content: broken_kinds is ['bad'], expected some of not_object, no_id"),
        ("[content]\noversized_mb = 68", "content: oversized_mb is 68, expected sizes in megabytes up to 1024"),
        ("[service]\npage_size = 0", "service: page_size is 0, expected a whole number of 1 or more"),
        ("[service]\nparts = 'no'", "service: parts is 'no', expected true or false"),
        ("[service]\nquota = 1", "service: quota is unknown, expected some of page_size, token_lifetime_s"),
        (fault("hangup", tenant=-1), "fault 1: tenant is -1, expected a tenant's number from 0"),
        (fault("hangup", content_type="General"), "fault 1: content_type is 'General', expected one of Audit."),
    ],
)
def test_bad_script_is_refused_in_one_sentence(script: Path, text: str, expected: str) -> None:
    script.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{script}: {expected}")) as refused:
        read_script(script)
    assert "\n" not in str(refused.value)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    parser = ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([*words, "--count", "0"]), json_output=True) == 2
    return capsys.readouterr().err


def test_command_refuses_a_bad_or_missing_script(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_bytes(b"\xff")
    assert refused(capsys, "--faults", str(script)).startswith(f"auditlake emulate: {script}: not a TOML file")
    error = refused(capsys, "--faults", "latencies")
    assert error.startswith("auditlake emulate: latencies: cannot be read (No such file or directory), expected a TOML")
    assert "latency" in error
    assert error.count("\n") == 1


def test_faults_that_spoil_one_body_get_along(script: Path) -> None:
    spoiling = ("truncated_gzip", "corrupt_gzip", "invalid_json", "broken_off", "empty", "page_backwards", "cut")
    with faulty(script, fault("latency", seconds=0)) as visitor:
        for pair in permutations(spoiling, 2):
            script.write_text("".join(fault(kind, where="content") for kind in pair))
            visitor.emu.state.hook = read_script(script).hook(visitor.emu.state, 1)
            with suppress(requests.RequestException):  # what a client must make of it is asked elsewhere
                assert visitor.content(**WINDOW).status_code == 200, pair
