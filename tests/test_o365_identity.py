"""Sign-in through MSAL against a TLS server of our own."""

import ssl
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificate

from o365.connection import Connection
from o365.errors import ActivityError, ConfigError, FatalError, RetryableError
from o365.identity import TokenSource
from o365.transport import Transport
from tests.scripted_server import Asked, FakeTime, Reply, ScriptedServer, json_reply, serving

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
CLIENT = "0d0b5f60-4c3d-4a7e-8f43-1f8c2d5b7e21"
SECRET = "hu8~Q~hush"


class Entra:
    """The script of a sign-in service: counts, and answers what the test sets."""

    def __init__(self) -> None:
        self.life_s: object = 3599
        self.token_reply: Reply | None = None
        self.discovery_reply: Reply | None = None
        self.issued = 0
        self.slow_s = 0.0
        self.root = ""

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            base = f"{self.root}/{TENANT}/oauth2/v2.0"
            document = {"authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token"}
            return self.discovery_reply or json_reply(document)
        assert asked.path == f"/{TENANT}/oauth2/v2.0/token"
        time.sleep(self.slow_s)
        if self.token_reply is not None:
            return self.token_reply
        self.issued += 1
        return json_reply({"token_type": "Bearer", "expires_in": self.life_s, "access_token": f"token-{self.issued}"})


class Stage:
    """A sign-in service with a connection to it."""

    ca: ClassVar[trustme.CA] = trustme.CA()

    def __init__(self, entra: Entra, server: ScriptedServer, ca_file: Path) -> None:
        self.entra, self.server, self.ca_file = entra, server, ca_file
        self.times = FakeTime()
        self.transports: list[Transport] = []

    def tokens(self, **changes: object) -> TokenSource:
        settings = {
            "client_secret_env": "O365_TEST_SECRET",
            "authority": self.server.root,
            "ca_file": str(self.ca_file),
        }
        connection = Connection("contoso", TENANT, CLIENT, **{**settings, **changes})  # type: ignore[arg-type]
        self.transports.append(Transport(ca_file=connection.ca_file, timeout_s=5))
        return TokenSource(connection, self.transports[-1], clock=self.times.clock)

    def posts(self) -> list[Asked]:
        return [asked for asked in self.server.asked if asked.method == "POST"]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "other.pem"))
    monkeypatch.setenv("O365_TEST_SECRET", f"{SECRET}\n")
    Stage.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Stage.ca.issue_cert("127.0.0.1").configure_cert(context)
    entra = Entra()
    with serving(entra, context) as server:
        entra.root = server.root
        made = Stage(entra, server, tmp_path / "ca.pem")
        yield made
        for transport in made.transports:
            transport.close()


def aadsts(code: int, status: int, text: str = "…", error: str = "invalid_client") -> Reply:
    return json_reply({"error": error, "error_description": f"AADSTS{code}: {text}", "error_codes": [code]}, status)


def test_secret_of_the_environment_buys_a_token(stage: Stage) -> None:
    assert stage.tokens().token() == "token-1"
    form = parse_qs(stage.posts()[0].body)
    assert form["client_secret"] == [SECRET]
    assert form["client_id"] == [CLIENT]
    assert form["scope"] == ["https://manage.office.com/.default"]


def test_token_comes_with_no_bundle_in_the_environment_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name)
    assert stage.tokens().token() == "token-1"


def test_secret_of_a_file_is_stripped(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\r\n")
    stage.tokens(client_secret_env=None, client_secret_file=str(tmp_path / "secret")).token()
    assert parse_qs(stage.posts()[0].body)["client_secret"] == [SECRET]


@pytest.mark.parametrize("form", ["pem", "chain", "encrypted pem", "pfx", "encrypted pfx"])
def test_certificate_signs_an_assertion(
    form: str, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = Stage.ca.issue_cert("client.example", key_type=trustme.KeyType.RSA)
    pem = issued.cert_chain_pems[0].bytes()
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    lock = serialization.BestAvailableEncryption(b"pass") if "encrypted" in form else serialization.NoEncryption()
    if "pfx" in form:
        path = tmp_path / "own.pfx"
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"n", key, load_pem_x509_certificate(pem), None, lock))  # type: ignore[arg-type]
    else:
        path = tmp_path / "own.pem"
        key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        first = Stage.ca.cert_pem.bytes() if form == "chain" else b""
        path.write_bytes(first + pem + key_pem)
    monkeypatch.setenv("O365_TEST_PASSWORD", "pass")
    password = "O365_TEST_PASSWORD" if "encrypted" in form else None
    source = stage.tokens(client_secret_env=None, certificate_file=str(path), certificate_password_env=password)
    assert source.token() == "token-1"
    assertion = parse_qs(stage.posts()[0].body)["client_assertion"][0]
    audience = f"{stage.server.root}/{TENANT}/oauth2/v2.0/token"
    assert jwt.decode(assertion, key.public_key(), ["PS256"], audience=audience)["iss"] == CLIENT  # type: ignore[arg-type]


def test_token_is_kept_until_its_renewal_age(stage: Stage) -> None:
    source = stage.tokens()
    assert source.token() == "token-1"
    stage.times.now += 2690
    assert source.token() == "token-1"
    stage.times.now += 20
    assert source.token() == "token-2"


def test_short_lived_token_is_renewed_before_it_ends(stage: Stage) -> None:
    stage.entra.life_s = 200
    source = stage.tokens()
    assert source.token() == "token-1"
    stage.times.now += 140
    assert source.token() == "token-1"
    stage.times.now += 20
    assert source.token() == "token-2"


def test_many_threads_with_one_rejected_token_cause_one_sign_in(stage: Stage) -> None:
    source = stage.tokens()
    rejected = source.token()
    stage.entra.slow_s = 0.05
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(source.refresh(rejected))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["token-2"] * 16
    assert source.refresh(rejected) == "token-2"
    assert len(stage.posts()) == 2


def test_threads_that_wait_share_one_failure(stage: Stage) -> None:
    source = stage.tokens()
    stage.entra.slow_s = 0.2
    stage.entra.token_reply = aadsts(7000215, 401)
    start = threading.Barrier(8)
    got: list[str] = []

    def ask() -> None:
        start.wait()
        with pytest.raises(ConfigError) as caught:
            source.token()
        got.append(caught.value.code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["AADSTS7000215"] * 8
    assert len(stage.posts()) == 1


def test_old_token_serves_while_the_sign_in_service_is_down(stage: Stage) -> None:
    source = stage.tokens()
    source.token()
    stage.entra.token_reply = Reply(503, b"<html>")
    stage.times.now += 2800
    assert [source.token(), source.token()] == ["token-1"] * 2
    assert len(stage.posts()) == 2  # not asked again at each call
    stage.times.now += 780
    with pytest.raises(RetryableError):
        source.token()


def test_rejected_token_is_never_given_again(stage: Stage) -> None:
    source = stage.tokens()
    rejected = source.token()
    stage.entra.token_reply = Reply(503, b"")
    with pytest.raises(RetryableError):
        source.refresh(rejected)


@pytest.mark.parametrize(
    ("code", "status", "kind", "says"),
    [
        (7000215, 401, ConfigError, "the client secret is wrong; give the secret's value and not its id"),
        (7000222, 401, FatalError, "the client secret has expired"),
        (700016, 400, ConfigError, "the tenant does not know the application"),
        (700027, 401, ConfigError, "the certificate is not registered"),
        (500014, 400, FatalError, "the tenant needs an Exchange licence"),
        (90033, 503, RetryableError, "cannot answer now"),
        (123456, 400, FatalError, "HTTP 400; the service said 'AADSTS123456: …'"),
    ],
)
def test_refusal_is_named_by_its_code(
    code: int, status: int, kind: type[ActivityError], says: str, stage: Stage
) -> None:
    stage.entra.token_reply = aadsts(code, status)
    with pytest.raises(kind) as caught:
        stage.tokens().token()
    assert type(caught.value) is kind
    assert says in str(caught.value)
    assert "sign-in at 127.0.0.1:" in str(caught.value)
    assert (caught.value.code, caught.value.status) == (f"AADSTS{code}", status)


def test_unknown_tenant_is_named_though_msal_reads_the_discovery_first(stage: Stage) -> None:
    stage.entra.discovery_reply = aadsts(90002, 400, "Tenant not found.", "invalid_tenant")
    with pytest.raises(ConfigError, match="the tenant is unknown in this cloud"):
        stage.tokens().token()


def test_refusal_is_not_remembered_once_it_is_mended(stage: Stage) -> None:
    source = stage.tokens()
    for reply in (aadsts(700016, 400), Reply(429, b"", {"Retry-After": "3000"}), Reply(503)):
        stage.entra.token_reply = reply
        with pytest.raises(ActivityError):
            source.token()
    stage.entra.token_reply = None
    assert source.token() == "token-1"


def test_wait_that_the_sign_in_service_asks_for_is_passed_on(stage: Stage) -> None:
    stage.entra.token_reply = Reply(429, b"", {"Retry-After": "17"})
    with pytest.raises(RetryableError) as caught:
        stage.tokens().token()
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"access_token": 5}', b""])
def test_odd_answer_is_retryable(body: bytes, stage: Stage) -> None:
    stage.entra.token_reply = Reply(200, body)
    with pytest.raises(RetryableError, match="sign-in at 127"):
        stage.tokens().token()
    stage.entra.discovery_reply = Reply(200, body)
    with pytest.raises(RetryableError, match="sign-in at 127"):
        stage.tokens().token()


def test_token_endpoint_without_tls_gets_no_secret(stage: Stage) -> None:
    stage.entra.discovery_reply = json_reply(
        {"authorization_endpoint": "https://x.example/a", "token_endpoint": "http://x.example/t"}
    )
    with pytest.raises(RetryableError, match="MSAL cannot use its answers"):
        stage.tokens().token()


def test_redirected_sign_in_sends_the_secret_nowhere_else(stage: Stage) -> None:
    with serving(lambda _: Reply(200)) as elsewhere:
        stage.entra.token_reply = Reply(307, b"", {"Location": elsewhere.root})
        with pytest.raises(FatalError, match="HTTP 307"):
            stage.tokens().token()
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"client_secret_env": "O365_TEST_UNSET"}, "the environment variable 'O365_TEST_UNSET' is not set"),
        ({"client_secret_env": "O365_TEST_EMPTY"}, "the environment variable 'O365_TEST_EMPTY' is not set"),
        ({"client_secret_env": None, "client_secret_file": "/no/secret"}, "file '/no/secret' cannot be read"),
        ({"client_secret_env": None, "client_secret_file": "/dev/null"}, "file '/dev/null' is empty"),
        ({"client_secret_env": None, "certificate_file": "/no/c.pem"}, "file '/no/c.pem' cannot be read"),
        ({"client_secret_env": None, "certificate_file": "/dev/null"}, "file '/dev/null' cannot be opened"),
    ],
)
def test_missing_credential_is_named(
    changes: dict[str, object], says: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("O365_TEST_EMPTY", "\n")
    with pytest.raises(ConfigError) as caught:
        stage.tokens(**changes).token()
    assert says in str(caught.value)


def test_certificate_of_another_key_is_a_wrong_setting(stage: Stage, tmp_path: Path) -> None:
    one, other = (Stage.ca.issue_cert(name, key_type=trustme.KeyType.RSA) for name in ("a.example", "b.example"))
    path = tmp_path / "own.pem"
    path.write_bytes(one.cert_chain_pems[0].bytes() + other.private_key_pem.bytes())
    with pytest.raises(ConfigError, match="must hold both a certificate and its key"):
        stage.tokens(client_secret_env=None, certificate_file=str(path)).token()


def test_key_that_entra_cannot_use_is_a_wrong_setting(stage: Stage, tmp_path: Path) -> None:
    Stage.ca.issue_cert("a.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "ec.pem"))
    with pytest.raises(ConfigError, match="is no RSA key"):
        stage.tokens(client_secret_env=None, certificate_file=str(tmp_path / "ec.pem")).token()


def test_no_error_shows_the_secret(stage: Stage) -> None:
    for reply in (aadsts(7000215, 401, f"you sent {SECRET}"), Reply(500, SECRET.encode()), Reply(200, SECRET.encode())):
        stage.entra.token_reply = reply
        with pytest.raises(ActivityError) as caught:
            stage.tokens().token()
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
        assert SECRET not in shown


def test_sign_in_service_that_is_gone_is_retryable(stage: Stage) -> None:
    source = stage.tokens(authority="https://127.0.0.1:9")
    with pytest.raises(RetryableError, match=r"no whole answer from 127\.0\.0\.1:9: the connection was refused"):
        source.token()
