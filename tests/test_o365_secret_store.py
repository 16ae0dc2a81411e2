"""Secrets kept by a cloud, against a stand-in written from the published protocols: no such store runs on a desk."""

from base64 import b64encode

import pytest
import requests

from o365.connection import Connection
from o365.credential import read_credential
from o365.errors import ConfigError, RetryableError
from o365.secret_store import from_azure, from_google
from tests.scripted_server import Reply, json_reply, serving

NAME = "projects/p/secrets/audit/versions/latest"
ID = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"


def test_secret_manager_gives_the_payload_of_a_version() -> None:
    payload = b64encode(b"hush~hush\n").decode()
    with serving(lambda _: json_reply({"name": NAME, "payload": {"data": payload}})) as store:
        assert from_google(NAME, requests.Session(), store.root) == "hush~hush"
    assert store.asked[0].target == f"/v1/{NAME}:access"


def test_key_vault_gives_the_value_of_a_secret() -> None:
    with serving(lambda _: json_reply({"value": "hush~hush", "id": "x"})) as store:
        assert from_azure(f"{store.root}/secrets/audit", requests.Session()) == "hush~hush"
    assert store.asked[0].target == "/secrets/audit?api-version=7.4"


@pytest.mark.parametrize(
    ("status", "error"), [(403, ConfigError), (404, ConfigError), (429, RetryableError), (503, RetryableError)]
)
def test_refused_secret_is_named_and_sorted_by_what_can_be_done(status: int, error: type[Exception]) -> None:
    with serving(lambda _: Reply(status)) as store, pytest.raises(error, match=f"{NAME}.*status {status}"):
        from_google(NAME, requests.Session(), store.root)


def test_token_is_not_carried_where_a_store_redirects_to() -> None:
    with (
        serving(lambda _: Reply(200)) as elsewhere,
        serving(lambda _: Reply(302, b"", {"Location": elsewhere.root})) as store,
        pytest.raises(ConfigError),
    ):
        from_google(NAME, requests.Session(), store.root)
    assert elsewhere.asked == []


def test_machine_without_google_credentials_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/credentials.json")
    with pytest.raises(ConfigError, match="there are no Google credentials"):
        read_credential(Connection("t", ID, ID, client_secret_ref=NAME))
