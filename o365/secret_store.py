"""Reads a secret where a cloud keeps it, with the identity of the machine that asks: no secret travels to a worker.

    projects/P/secrets/S/versions/V                     Google Secret Manager
    https://VAULT.vault.azure.net/secrets/S[/VERSION]   Azure Key Vault

Source: REST references of Secret Manager (projects.secrets.versions.access) and of Key Vault (Get Secret, 7.4).
"""

import os
from base64 import b64decode
from typing import Any

import google.auth
import msal
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from o365.connection import GOOGLE_SECRET
from o365.errors import ConfigError, RetryableError

_GOOGLE_ROOT = "https://secretmanager.googleapis.com"
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT_S = 30.0


def read_secret(reference: str) -> str:
    """Reads the secret that a reference names.

    Raises:
      ConfigError: This machine has no identity for the store, or may not read the secret, or there is none.
      RetryableError: The store did not answer.
    """
    if GOOGLE_SECRET.fullmatch(reference):
        return from_google(reference, _google_session())
    return from_azure(reference, _azure_session(reference))


def from_google(reference: str, session: requests.Session, root: str = _GOOGLE_ROOT) -> str:
    """Reads a version of a secret of Secret Manager."""
    answer = _get(session, f"{root}/v1/{reference}:access", reference)
    return b64decode(answer["payload"]["data"]).decode("utf-8-sig").strip()


def from_azure(reference: str, session: requests.Session) -> str:
    """Reads a secret of Key Vault."""
    return str(_get(session, f"{reference}?api-version=7.4", reference)["value"]).strip()


def _get(session: requests.Session, url: str, reference: str) -> dict[str, Any]:
    try:
        answer = session.get(url, timeout=_TIMEOUT_S, allow_redirects=False)
    except (requests.RequestException, GoogleAuthError) as error:
        raise RetryableError(f"the secret {reference!r} cannot be read: {type(error).__name__}") from error
    if answer.status_code == 200:
        return dict(answer.json())
    message = f"the secret {reference!r} cannot be read: status {answer.status_code}"
    if answer.status_code == 429 or answer.status_code >= 500:
        raise RetryableError(message, status=answer.status_code)
    raise ConfigError(
        f"{message}; expected it to be there and this machine's identity to have the role to read it"
        " (Secret Manager Secret Accessor, or Key Vault Secrets User)",
        status=answer.status_code,
    )


def _google_session() -> requests.Session:
    try:
        credentials, _ = google.auth.default(scopes=[_GOOGLE_SCOPE])
    except GoogleAuthError as error:
        raise ConfigError(f"Secret Manager cannot be asked: there are no Google credentials ({error})") from error
    session: requests.Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return session


def _azure_session(reference: str) -> requests.Session:
    session = requests.Session()
    user_assigned = os.environ.get("AZURE_CLIENT_ID")
    identity = msal.UserAssignedManagedIdentity(client_id=user_assigned) if user_assigned else None
    client = msal.ManagedIdentityClient(identity or msal.SystemAssignedManagedIdentity(), http_client=session)
    host = reference.split("/")[2]
    try:
        answer = client.acquire_token_for_client(resource=f"https://{host.partition('.')[2]}")
    except (requests.RequestException, msal.ManagedIdentityError) as error:
        raise ConfigError(
            f"Key Vault cannot be asked: this machine has no managed identity ({type(error).__name__})"
        ) from error
    if "access_token" not in answer:
        raise ConfigError(f"Key Vault cannot be asked: the managed identity got no token ({answer.get('error')})")
    session.headers["Authorization"] = f"Bearer {answer['access_token']}"
    return session
