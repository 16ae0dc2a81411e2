"""A connection: what it accepts, what it shows, what a worker gets."""

import pickle

import pytest

from o365.connection import Connection
from o365.errors import ConfigError

TENANT = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
CLIENT = "0d0b5f60-4c3d-4a7e-8f43-1f8c2d5b7e21"
GOOD = {"name": "contoso", "tenant_id": TENANT, "client_id": CLIENT, "client_secret_env": "SECRET"}


def connection(**changes: object) -> Connection:
    return Connection(**{**GOOD, **changes})  # type: ignore[arg-type]


def test_defaults_come_from_the_cloud_and_the_tenant() -> None:
    made = connection(cloud="gcc-high")
    assert made.api_address == "https://manage.office365.us"
    assert made.authority_address == f"https://login.microsoftonline.us/{TENANT}"
    assert made.scope == "https://manage.office365.us/.default"
    assert made.publisher_id == TENANT
    assert len(made.content_types) == 5


def test_connection_survives_pickling_and_is_a_key() -> None:
    made = connection(api_root="http://127.0.0.1:8080", workers=4)
    assert pickle.loads(pickle.dumps(made)) == made
    assert len({made, connection(api_root="http://127.0.0.1:8080", workers=4)}) == 1


def test_spelling_is_made_one() -> None:
    made = connection(
        tenant_id=TENANT.upper(), content_types=("audit.sharepoint", "Audit.SharePoint"), api_root="https://Gate:8443/"
    )
    assert made.tenant_id == TENANT
    assert made.content_types == ("Audit.SharePoint",)
    assert made.api_root == "https://gate:8443"


@pytest.mark.parametrize("root", ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9:5", "http://[::1]:5"])
def test_this_machine_may_be_spoken_to_without_tls(root: str) -> None:
    assert connection(api_root=root).api_address == root


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tenant_id": "contoso.onmicrosoft.com"}, "tenant_id is 'contoso.onmicrosoft.com', expected a GUID"),
        ({"client_id": ""}, "client_id is '', expected a GUID"),
        ({"publisher_id": "me"}, "publisher_id is 'me'"),
        ({"cloud": "mars"}, "expected one of enterprise, gcc, gcc-high, dod, china"),
        ({"api_root": "http://example.org"}, "api_root is 'http://example.org', expected an https"),
        ({"api_root": "http://127.0.0.1.example.org"}, "expected an https"),
        ({"api_root": "https://example.org/path"}, "scheme, host and port only"),
        ({"api_root": "https://example.org:port"}, "scheme, host and port only"),
        ({"api_root": "manage.office.com"}, "expected an https address"),
        ({"authority": "http://127.0.0.1:80"}, "authority is"),
        ({"content_types": ()}, "content_types is ()"),
        ({"content_types": ("Audit.Mars",)}, "content_types is 'Audit.Mars', expected some of Audit."),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"workers": 0}, "workers is 0, expected a whole number"),
        ({"workers": 0.5}, "workers is 0.5"),
        ({"workers": "x"}, "workers is 'x'"),
        ({"client_secret_env": None}, "has no credential: give exactly one of client_secret_env"),
        ({"client_secret_file": "f"}, "has client_secret_env and client_secret_file: give exactly one"),
        ({"certificate_password_env": "P"}, "needs a certificate_file"),
        ({"client_secret_env": None, "client_secret_ref": "hush"}, "client_secret_ref must name a secret"),
        ({"client_secret_env": None, "client_secret_ref": "https://evil.test/secrets/a"}, "must name a secret"),
    ],
)
def test_wrong_setting_is_refused_with_what_was_expected(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connection(**changes)
    assert says in str(caught.value)
    assert "'contoso'" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret_env": "hu8~Q~hush.hush"},
        {"api_root": "https://user:hush@example.org"},
        {"client_secret_ref": "hush", "client_secret_env": None},
        {"certificate_password_env": "hu~hush", "certificate_file": "c.pem", "client_secret_env": None},
    ],
)
def test_a_secret_given_in_the_wrong_place_is_not_repeated(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        connection(**changes)
    assert "hush" not in str(caught.value)
