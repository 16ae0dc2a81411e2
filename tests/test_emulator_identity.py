import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import msal
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from emulator.assertion import new_certificate
from tests.emulator_visitor import SCOPE, Visitor, visiting


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with visiting() as visitor:
        yield visitor


@pytest.fixture(scope="module")
def certificate() -> tuple[bytes, bytes]:
    return new_certificate()


@pytest.fixture(autouse=True)
def _only_our_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    # requests lets these override the session that MSAL uses.
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


def sign_in(visitor: Visitor, credential: object, **options: Any) -> dict[str, Any]:
    app = msal.ConfidentialClientApplication(
        visitor.tenant.client_id,
        authority=f"{visitor.emu.authority}/{visitor.tenant.tenant_id}",
        client_credential=credential,
        verify=str(visitor.emu.ca_file),
        **({"instance_discovery": False} | options),
    )
    answer: dict[str, Any] = app.acquire_token_for_client([SCOPE])
    return answer


def works(visitor: Visitor, token: str) -> bool:
    answer = visitor.ask("/subscriptions/list", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == 200


def test_msal_signs_in_with_a_secret_and_the_feed_takes_the_token(visitor: Visitor) -> None:
    answer = sign_in(visitor, visitor.tenant.client_secret)
    assert answer["expires_in"] == 3599
    assert works(visitor, answer["access_token"])


def test_msal_follows_instance_discovery(visitor: Visitor) -> None:
    where = f"{visitor.emu.authority}/common/discovery/instance"
    answer = sign_in(visitor, visitor.tenant.client_secret, instance_discovery=where)
    assert answer["token_type"] == "Bearer"


@pytest.mark.parametrize("named_by", ["sha1", "sha256"])
def test_msal_signs_in_with_a_certificate(visitor: Visitor, certificate: tuple[bytes, bytes], named_by: str) -> None:
    key, public = (part.decode() for part in certificate)
    thumbprint = visitor.tenant.register_certificate(certificate[1])
    named = {"thumbprint": thumbprint} if named_by == "sha1" else {"public_certificate": public}
    answer = sign_in(visitor, {"private_key": key, **named})
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert claims["appidacr"] == "2"
    assert works(visitor, answer["access_token"])


def test_token_has_the_claims_of_an_app_only_token(visitor: Visitor) -> None:
    keys = visitor.send("GET", f"/{visitor.tenant.tenant_id}/discovery/v2.0/keys").json()["keys"]
    key = jwt.PyJWK(keys[0]).key
    unchecked: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    claims = jwt.decode(
        visitor.bearer(), key, algorithms=["RS256"], audience="https://manage.office.com", options=unchecked
    )
    tenant = visitor.tenant
    assert claims["iss"] == f"https://sts.windows.net/{tenant.tenant_id}/"
    assert (claims["tid"], claims["appid"], claims["ver"]) == (tenant.tenant_id, tenant.client_id, "1.0")
    assert claims["roles"] == ["ActivityFeed.Read", "ActivityFeed.ReadDlp", "ServiceHealth.Read"]
    assert claims["exp"] - claims["nbf"] == 3899


def test_version_1_endpoint_answers_numbers_as_strings(visitor: Visitor) -> None:
    answer = visitor.token("oauth2/token", scope=None, resource="https://manage.office.com").json()
    assert (answer["expires_in"], answer["resource"]) == ("3599", "https://manage.office.com")
    assert int(answer["expires_on"]) - int(answer["not_before"]) == 3899
    assert works(visitor, answer["access_token"])


def test_version_2_endpoint_answers_numbers(visitor: Visitor) -> None:
    answer = visitor.token().json()
    assert (answer["expires_in"], answer["ext_expires_in"]) == (3599, 3599)


def test_tenant_may_be_named_by_its_domain(visitor: Visitor) -> None:
    url = f"/{visitor.tenant.domain}/v2.0/.well-known/openid-configuration"
    assert visitor.tenant.tenant_id in visitor.send("GET", url).json()["token_endpoint"]


def test_client_may_sign_in_with_http_basic(visitor: Visitor) -> None:
    tenant = visitor.tenant
    form = {"grant_type": "client_credentials", "scope": SCOPE}
    url, auth = f"/{tenant.tenant_id}/oauth2/v2.0/token", (tenant.client_id, tenant.client_secret)
    assert visitor.send("POST", url, data=form, auth=auth).status_code == 200


UNKNOWN = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    ("form", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000216),
        ({"client_secret": ""}, 401, "invalid_client", 7000218),
        ({"client_id": UNKNOWN}, 400, "unauthorized_client", 700016),
        ({"client_id": None}, 400, "invalid_request", 900144),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"scope": None}, 400, "invalid_request", 900144),
        ({"scope": "https://manage.office.com/ActivityFeed.Read"}, 400, "invalid_scope", 1002012),
        ({"scope": f"{SCOPE} https://graph.microsoft.com/.default"}, 400, "invalid_scope", 70011),
        ({"scope": "https://nowhere.example.org/.default"}, 400, "invalid_resource", 500011),
        ({"client_assertion": "no.jwt.here"}, 401, "invalid_client", 50027),
    ],
)
def test_bad_token_request_is_refused_as_entra_does(
    visitor: Visitor, form: dict[str, Any], status: int, error: str, code: int
) -> None:
    answer = visitor.token(**form)
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [code])
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= body.keys()


def test_expired_secret_is_told_from_a_wrong_one(visitor: Visitor) -> None:
    visitor.tenant.app.secret_expired = True
    assert visitor.token().json()["error_codes"] == [7000222]
    assert visitor.token(client_secret="wrong").json()["error_codes"] == [7000215]


@pytest.mark.parametrize(("name", "code"), [(UNKNOWN, 90002), ("nowhere.example.org", 90002), ("no tenant!", 900023)])
def test_unknown_tenant_fails_in_token_and_discovery(visitor: Visitor, name: str, code: int) -> None:
    answers = (
        visitor.send("POST", f"/{name}/oauth2/v2.0/token", data={"grant_type": "client_credentials"}),
        visitor.send("GET", f"/{name}/v2.0/.well-known/openid-configuration"),
    )
    assert [(a.status_code, a.json()["error_codes"]) for a in answers] == [(400, [code])] * 2
    assert answers[1].json()["error"] == ("invalid_tenant" if code == 90002 else "invalid_request")


def assertion(visitor: Visitor, key: bytes, public: bytes, **changes: Any) -> str:
    now = time.time()
    client_id = visitor.tenant.client_id
    audience = f"{visitor.emu.authority}/{visitor.tenant.tenant_id}/oauth2/v2.0/token"
    claims = {"aud": audience, "iss": client_id, "sub": client_id, "exp": now + 600, "iat": now, "jti": "1"} | changes
    digest = x509.load_pem_x509_certificate(public).fingerprint(hashes.SHA1())
    x5t = jwt.utils.base64url_encode(digest).decode()
    return jwt.encode(claims, key, algorithm="RS256", headers={"x5t": x5t})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"aud": "https://login.example.org/"}, 700023),
        ({"exp": 1_000_000_000}, 700024),
        ({"exp": "soon"}, 50027),
        ({"sub": "somebody else"}, 700021),
    ],
)
def test_assertion_is_checked_claim_by_claim(
    visitor: Visitor, certificate: tuple[bytes, bytes], changes: dict[str, Any], code: int | None
) -> None:
    visitor.tenant.register_certificate(certificate[1])
    signed = assertion(visitor, *certificate, **changes)
    answer = visitor.token(client_secret=None, client_assertion=signed).json()
    assert answer.get("error_codes") == ([code] if code else None)


def test_assertion_under_an_unregistered_or_foreign_key_is_refused(
    visitor: Visitor, certificate: tuple[bytes, bytes]
) -> None:
    key, public = certificate
    unregistered = visitor.token(client_secret=None, client_assertion=assertion(visitor, key, public))
    visitor.tenant.register_certificate(public)
    forged = visitor.token(client_secret=None, client_assertion=assertion(visitor, new_certificate()[0], public))
    assert [answer.json()["error_codes"] for answer in (unregistered, forged)] == [[700027], [700027]]


def test_feed_refuses_what_is_no_token_of_its_own(visitor: Visitor) -> None:
    graph = visitor.token(scope="https://graph.microsoft.com/.default").json()["access_token"]
    head, body, signature = visitor.bearer().split(".")
    claims = json.loads(jwt.utils.base64url_decode(body)) | {"roles": ["ActivityFeed.Read", "More"]}
    changed = jwt.utils.base64url_encode(json.dumps(claims).encode()).decode()
    for token in (graph, f"{head}.{changed}.{signature}", "nonsense", ""):
        answer = visitor.ask("/subscriptions/list", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert answer.json() == {"Message": "Authorization has been denied for this request."}
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_token_expires_by_the_service_clock(visitor: Visitor) -> None:
    visitor.emu.state.token_lifetime_s = 60
    token = visitor.bearer()
    assert works(visitor, token)
    visitor.emu.clock.advance(61)
    assert not works(visitor, token)


def test_app_without_roles_gets_a_token_that_opens_nothing(visitor: Visitor) -> None:
    visitor.tenant.app.roles = []
    assert "roles" not in jwt.decode(visitor.bearer(), options={"verify_signature": False})
    answer = visitor.ask("/subscriptions/list")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "AF10001")
