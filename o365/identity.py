"""Access tokens of the Microsoft identity platform, by client secret or certificate.

token() ─▶ held and young? ─▶ it
             └─ no ─▶ one thread signs in, those that wait share its token or its error
refresh(rejected) ─▶ still the held one? ─▶ sign in ; else the newer one
"""

import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from re import compile as regex
from typing import Protocol
from urllib.parse import urlsplit

import msal

from o365.answers import by_action, quoted, retry_after_s
from o365.connection import Connection
from o365.credential import Credential, read_credential
from o365.errors import ActivityError, FatalError, RetryableError
from o365.transport import Answer, Transport
from schemas.contract import api_errors, clouds, limits

_AADSTS = regex(r"AADSTS(\d+)")
_MAX_BYTES = 1 << 20
_ASSUMED_LIFE_S = 600  # as MSAL assumes where the answer names none
_OLD_PART = 0.75  # of its life, after which a short-lived token is renewed
_SPARE_S = 60.0  # a token with less life left is not sent any more


@dataclass(frozen=True, slots=True)
class _Held:
    token: str
    renew_at: float
    ends_at: float


class Tokens(Protocol):
    """What gives access tokens."""

    def token(self) -> str:
        """A token that is good for now."""
        ...

    def refresh(self, rejected: str) -> str:
        """A newer token than the one the service rejected."""
        ...


class TokenSource:
    """Gives access tokens of one connection to all threads of a process.

    Args:
      connection: Whose tokens.
      transport: What sends the requests.
      clock: Monotonic seconds.
    """

    def __init__(
        self, connection: Connection, transport: Transport, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._failure: ActivityError | None = None
        self._attempts = 0

    def token(self) -> str:
        """A token that is good for now.

        Raises:
          ConfigError: The credential or the application is wrong.
          FatalError: The tenant refuses the application.
          RetryableError: The sign-in service cannot answer now.
        """
        held = self._held
        if held is not None and self._clock() < held.renew_at:
            return held.token
        return self._renewed(held)

    def refresh(self, rejected: str) -> str:
        """A newer token than the one the service rejected; many threads at once cause one request."""
        held = self._held
        if held is not None and held.token != rejected:
            return held.token
        return self._renewed(held, rejected)

    def _renewed(self, seen: _Held | None, rejected: str | None = None) -> str:
        attempts = self._attempts
        with self._lock:
            if self._held is not None and self._held is not seen and self._held.token != rejected:
                return self._held.token
            if self._attempts != attempts and self._failure is not None:
                # A copy, because raising writes into the error.
                raise copy.copy(self._failure)
            try:
                self._held, self._failure = self._sign_in(), None
            except RetryableError as error:
                now = self._clock()
                if seen is not None and rejected is None and now < seen.ends_at - _SPARE_S:
                    # Renewal comes well before the end, so that a sign-in service at rest stops nobody.
                    self._held = replace(seen, renew_at=now + _SPARE_S)
                    return seen.token
                self._failure = error
                raise
            except ActivityError as error:
                self._failure = error
                raise
            finally:
                self._attempts += 1
            return self._held.token

    def _sign_in(self) -> _Held:
        asked_at = self._clock()
        credential = read_credential(self._connection)
        # A new application each time: MSAL keeps tokens and refusals in it, and a rotated secret is taken up so.
        # Instance discovery would ask a public host about an authority that is ours or in clouds.csv.
        try:
            application = msal.ConfidentialClientApplication(
                self._connection.client_id,
                authority=self._connection.authority_address,
                client_credential=credential.for_msal,
                instance_discovery=False,
                azure_region=msal.ConfidentialClientApplication.DISABLE_MSAL_FORCE_REGION,
                http_client=_SignInHttp(self._transport, credential, self._connection.authority_address),
            )
            answer = application.acquire_token_for_client([self._connection.scope])
            life_s = float(answer["expires_in"])
        except ValueError as error:
            # MSAL's word for an odd answer, such as a token endpoint without TLS.
            host = urlsplit(self._connection.authority_address).netloc
            raise RetryableError(f"sign-in at {host} failed: MSAL cannot use its answers; try again later") from error
        renew_s = min(float(limits()["token_refresh_age"]), life_s * _OLD_PART)
        return _Held(answer["access_token"], asked_at + renew_s, asked_at + life_s)


class _SignInHttp:
    """The HTTP client MSAL is given: ours, because MSAL's own lets REQUESTS_CA_BUNDLE override `verify`.

    It raises on every refusal, before MSAL remembers it for up to an hour or hides its code.
    """

    def __init__(self, transport: Transport, credential: Credential, authority: str) -> None:
        self._transport = transport
        self._credential = credential
        # Where the discovery document may send the secret; it names another cloud's host for a tenant of that cloud.
        self._hosts = {urlsplit(address).netloc for address in (authority, *(c.authority for c in clouds().values()))}

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> "_MsalResponse":
        """Reads the authority's discovery document."""
        answer = self._transport.send("GET", url, params=params, headers=headers, max_bytes=_MAX_BYTES)
        needed = ("authorization_endpoint", "token_endpoint")
        members = self._checked(url, answer, needed)
        return _MsalResponse(answer.status, json.dumps({name: members[name] for name in needed}), answer.headers)

    def post(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> "_MsalResponse":
        """Asks for a token."""
        host = urlsplit(url).netloc
        if host not in self._hosts:
            raise FatalError(
                f"sign-in failed: its token endpoint is at {host[:100]!r}, expected {' or '.join(sorted(self._hosts))};"
                " no secret was sent there, check the connection's cloud and authority"
            )
        answer = self._transport.send("POST", url, params=params, data=data, headers=headers, max_bytes=_MAX_BYTES)
        members = self._checked(url, answer, ("access_token",))
        # No more than is used: MSAL reads other members too, and fails on odd values in ways of its own.
        told = {"access_token": members["access_token"], "token_type": "Bearer", "expires_in": _life_s(members)}
        return _MsalResponse(answer.status, json.dumps(told), answer.headers)

    def close(self) -> None:
        """Leaves the transport open, which is its owner's to close."""

    def _checked(self, url: str, answer: Answer, needed: tuple[str, ...]) -> Mapping[str, object]:
        host = urlsplit(url).netloc
        try:
            members = json.loads(answer.body.decode("utf-8-sig", errors="replace"))
        except (ValueError, RecursionError):
            members = None
        members = members if isinstance(members, dict) else {}
        if answer.status != 200:
            raise _refused(host, answer, members, self._credential)
        for name in needed:
            if not isinstance(members.get(name), str):
                raise RetryableError(
                    f"sign-in at {host} failed: the answer has no {name}, expected JSON with it; try again later",
                    status=answer.status,
                )
        return members


@dataclass(frozen=True)
class _MsalResponse:
    status_code: int
    text: str
    headers: Mapping[str, str]


def _life_s(members: Mapping[str, object]) -> int:
    """Reads how long a token lives; whatever is no number of seconds means the shortest life that is usual."""
    try:
        life_s = int(float(str(members.get("expires_in"))))
    except (ValueError, OverflowError):
        return _ASSUMED_LIFE_S
    return life_s if life_s > 0 else _ASSUMED_LIFE_S


def _refused(host: str, answer: Answer, members: Mapping[str, object], credential: Credential) -> ActivityError:
    """Names the error of a refusal by its AADSTS code, else by its status."""
    text = str(members.get("error_description") or members.get("error") or "")
    said = f"; the service said {quoted(text, credential.secrets)}" if text else ""
    wait_s = retry_after_s(answer.headers)
    match = _AADSTS.search(text)
    code = f"AADSTS{match[1]}" if match else ""
    row = api_errors().get(code)
    if row is not None:
        message = f"sign-in at {host} failed: {row.meaning} ({code}, HTTP {answer.status}){said}"
        named = by_action(row.action, message, code=code, status=answer.status, wait_s=wait_s)
        if named is not None:
            return named
    message = f"sign-in at {host} failed with HTTP {answer.status}{said}"
    if answer.status in (408, 429) or answer.status >= 500:
        return RetryableError(f"{message}; try again later", code=code, status=answer.status, retry_after_s=wait_s)
    return FatalError(message, code=code, status=answer.status)
