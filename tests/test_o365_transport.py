"""One exchange over a real socket: bodies whole or refused, causes named, TLS verified."""

import gzip
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from o365.errors import ConfigError, RetryableError
from o365.transport import Answer, TooLargeError, Transport
from tests.scripted_server import Reply, gzip_reply, in_turn, serving

BODY = b'[{"Id":"1"}]' * 1000
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport(ca_file=None, timeout_s=5.0)
    yield made
    made.close()


Get = Callable[[Reply], Answer]


@pytest.fixture
def get(transport: Transport) -> Get:
    def exchange(reply: Reply) -> Answer:
        with serving(in_turn(reply)) as server:
            return transport.send("GET", server.root, max_bytes=100_000)

    return exchange


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, BODY),
        gzip_reply(BODY),
        Reply(200, gzip.compress(BODY[:500]) + gzip.compress(BODY[500:]) + b"\0\0", GZIP),
        Reply(200, gzip.compress(BODY), {"Content-Encoding": "X-GZip"}),
        Reply(200, gzip.compress(BODY), GZIP, claimed_length=-1),
    ],
)
def test_body_comes_whole(reply: Reply, get: Get) -> None:
    answer = get(reply)
    assert (answer.status, answer.body, answer.is_whole) == (200, BODY, True)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, gzip.compress(BODY)[:-20], GZIP),
        Reply(200, gzip.compress(BODY)[:-20], GZIP, claimed_length=-1),
        Reply(200, gzip.compress(BODY)[:-1], GZIP),
        Reply(200, gzip.compress(BODY)[:-8] + b"\1" * 8, GZIP),
        Reply(200, gzip.compress(BODY) + b"garbage", GZIP),
        Reply(200, BODY, GZIP),
        Reply(200, BODY[:50], claimed_length=len(BODY)),
        Reply(200, gzip.compress(BODY), {"Content-Encoding": "br"}),
        Reply(200, b"5\r\nhello\r\n", {"Transfer-Encoding": "chunked"}, claimed_length=-1),
    ],
)
def test_short_or_corrupt_body_is_retryable(reply: Reply, get: Get) -> None:
    with pytest.raises(RetryableError):
        get(reply)


def test_body_without_length_or_checksum_is_not_called_whole(get: Get) -> None:
    assert not get(Reply(200, BODY, claimed_length=-1)).is_whole


@pytest.mark.parametrize("reply", [Reply(200, b"x" * 100_001), gzip_reply(b"x" * 100_001)])
def test_body_above_the_limit_is_given_up(reply: Reply, get: Get) -> None:
    with pytest.raises(TooLargeError, match="larger than 100000 bytes"):
        get(reply)


def test_redirect_is_not_followed(transport: Transport) -> None:
    with (
        serving(in_turn(Reply(200))) as elsewhere,
        serving(in_turn(Reply(302, b"", {"Location": elsewhere.root}))) as here,
    ):
        assert transport.send("GET", here.root, token="hush", max_bytes=10).status == 302
        assert elsewhere.asked == []


def test_no_credentials_come_from_netrc(transport: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("default login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving(in_turn(Reply(200))) as server:
        transport.send("GET", server.root, max_bytes=10)
        transport.send("GET", server.root, token="t", max_bytes=10)
        assert [asked.headers.get("Authorization") for asked in server.asked] == [None, "Bearer t"]


def test_this_machine_is_reached_past_any_proxy(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:hush@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(in_turn(Reply(204))) as server:
        assert transport.send("GET", server.root, max_bytes=10).status == 204


def test_failed_proxy_is_named_without_its_password(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:hush@127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://user:hush@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(RetryableError) as caught:
        transport.send("GET", "http://far.example/", max_bytes=10)
    assert str(caught.value) == "no whole answer from far.example: the proxy failed; try again later"


def test_refused_connection_names_host_and_cause(transport: Transport) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RetryableError) as caught:
        transport.send("GET", f"http://127.0.0.1:{port}/", max_bytes=10)
    assert str(caught.value) == f"no whole answer from 127.0.0.1:{port}: the connection was refused; try again later"


def test_connection_closed_without_an_answer_is_named(transport: Transport) -> None:
    def hang_up(_: object) -> Reply:
        raise ConnectionAbortedError

    with serving(hang_up) as server, pytest.raises(RetryableError, match="closed before an answer"):
        transport.send("GET", server.root, max_bytes=10)


def test_silence_is_given_up_after_the_timeout() -> None:
    impatient = Transport(ca_file=None, timeout_s=0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(RetryableError, match=r"nothing came within 0\.05 seconds"):
            impatient.send("GET", url, max_bytes=10)
    impatient.close()


def test_unknown_name_is_named() -> None:
    transport = Transport(ca_file=None, timeout_s=5)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
            patch.delenv(name, raising=False)
        with pytest.raises(RetryableError, match=r"no-such-host\.invalid: its name does not resolve"):
            transport.send("GET", "http://no-such-host.invalid/", max_bytes=10)
    transport.close()


@pytest.mark.parametrize(("name", "why"), [("missing.pem", "No such file or directory"), ("text.pem", "X509")])
def test_ca_file_that_cannot_be_used_is_a_wrong_setting(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ConfigError) as caught:
        Transport(ca_file=str(tmp_path / name), timeout_s=5)
    assert why in str(caught.value)
    assert f"/{name}' cannot be used" in str(caught.value)


def test_missing_bundle_of_the_environment_is_a_wrong_setting(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/bundle.pem")
    with pytest.raises(ConfigError, match="check REQUESTS_CA_BUNDLE"):
        transport.send("GET", "https://127.0.0.1:9/", max_bytes=10)


@pytest.mark.parametrize("bundle", ["own", "none", "empty"])
def test_ca_file_counts_whatever_bundle_the_environment_names(
    bundle: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle == "none":
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(tmp_path / "other.pem") if bundle == "own" else "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    right = Transport(ca_file=str(tmp_path / "ca.pem"), timeout_s=5)
    wrong = Transport(ca_file=str(tmp_path / "other.pem"), timeout_s=5)
    with serving(in_turn(Reply(204)), context) as server:
        assert right.send("GET", server.root, max_bytes=10).status == 204
        with pytest.raises(ConfigError, match=r"the TLS certificate of 127\.0\.0\.1:\d+ is not trusted"):
            wrong.send("GET", server.root, max_bytes=10)
        assert len(server.asked) == 1
    right.close()
    wrong.close()
