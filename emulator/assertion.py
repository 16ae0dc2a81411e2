"""Signing in with a certificate: the checks of a client assertion, and certificates for tests."""

from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.x509.oid import NameOID

from emulator.tenant import App

_DAY_S = 86400
_HASHES = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}  # noqa: S303 - Entra's names for a certificate


class BadAssertion(Exception):  # noqa: N818 - an answer to the client, not a failure of the service
    """A client assertion that Entra would refuse, with the AADSTS code and text."""

    def __init__(self, code: int, text: str):
        super().__init__(code, text)
        self.code = code
        self.text = text


def check(assertion: str, app: App, audiences: set[str], now: datetime) -> None:
    """Checks an assertion: certificate, signature, audience, times, issuer and subject.

    Raises:
      BadAssertion: One of them is wrong.
    """
    try:
        header = jwt.get_unverified_header(assertion)
    except jwt.InvalidTokenError as error:
        raise BadAssertion(50027, "JWT token is invalid or malformed.") from error
    key = _registered_key(header, app)
    try:
        unchecked = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        claims = jwt.decode(assertion, key, algorithms=["RS256", "PS256"], options=unchecked)  # type: ignore[arg-type]
    except jwt.InvalidTokenError as error:
        raise BadAssertion(700027, "Client assertion failed signature validation.") from error
    _check_claims(claims, app, audiences, now.timestamp())


def new_certificate(common_name: str = "auditlake-test") -> tuple[bytes, bytes]:
    """Makes a self-signed certificate for tests; returns private key and certificate as PEM."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    begin = datetime(2020, 1, 1)  # noqa: DTZ001 - x509 takes naive UTC
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=36500))
    certificate = builder.sign(key, hashes.SHA256())
    encoding, encryption = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, encryption)
    return private, certificate.public_bytes(encoding)


def _registered_key(header: dict[str, Any], app: App) -> RSAPublicKey:
    for member, algorithm in _HASHES.items():
        # With padding from MSAL, without by RFC 7515: both are right.
        wanted = str(header.get(member, "")).rstrip("=")
        for certificate in app.certificates:
            key = certificate.public_key()
            if wanted == _digest(certificate.fingerprint(algorithm)) and isinstance(key, RSAPublicKey):
                return key
    raise BadAssertion(700027, "The certificate used to sign the client assertion is not registered on application.")


def _digest(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _check_claims(claims: dict[str, Any], app: App, audiences: set[str], now: float) -> None:
    if claims.get("aud") not in audiences:
        raise BadAssertion(700023, "Client assertion audience claim does not match Realm issuer.")
    expires, begins = claims.get("exp"), claims.get("nbf", now)
    if not isinstance(expires, int | float) or not isinstance(begins, int | float):
        raise BadAssertion(50027, "JWT token is invalid or malformed: no expiration.")
    # Clients may be five minutes off.
    if not begins - 300 <= now < expires + 300 or expires - now > _DAY_S:
        raise BadAssertion(700024, "Client assertion is not within its valid time range.")
    if not claims.get("iss") == claims.get("sub") == app.client_id:
        raise BadAssertion(700021, "Client assertion application identifier does not match 'client_id' parameter.")
