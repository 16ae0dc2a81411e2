"""Reads a connection's credential, at the moment it is used and where it is used."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from logging import getLogger
from pathlib import Path
from re import DOTALL
from re import compile as regex
from stat import S_IROTH

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import Certificate, load_pem_x509_certificate

from o365.connection import Connection
from o365.errors import ConfigError
from o365.secret_store import read_secret

_LOGGER = getLogger(__name__)
_PEM_CERTIFICATE = regex(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", DOTALL)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as MSAL takes it, and the texts that no message may quote. Neither is shown by repr."""

    for_msal: str | Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def read_credential(connection: Connection) -> Credential:
    """Reads the secret or certificate that a connection names.

    Raises:
      ConfigError: It is missing, empty or unreadable.
      RetryableError: The store that keeps it did not answer.
    """
    if connection.certificate_file is not None:
        return _certificate(connection, connection.certificate_file)
    if connection.client_secret_env is not None:
        secret = _environment(connection, connection.client_secret_env, "client secret")
    elif connection.client_secret_ref is not None:
        secret = read_secret(connection.client_secret_ref)
        if not secret:
            raise ConfigError(f"connection {connection.name!r}: the secret {connection.client_secret_ref!r} is empty")
    else:
        path = connection.client_secret_file or ""
        secret = _file(connection, path, "client secret").decode("utf-8-sig", errors="replace").strip()
        if not secret:
            raise ConfigError(f"connection {connection.name!r}: the client secret file {path!r} is empty")
    return Credential(secret, (secret,))


def _environment(connection: Connection, name: str, what: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(
            f"connection {connection.name!r}: the environment variable {name!r} is not set, expected the {what} in it"
        )
    return value


def _file(connection: Connection, path: str, what: str) -> bytes:
    try:
        if os.name == "posix" and Path(path).stat().st_mode & S_IROTH:
            _warn_of_readers(what, path)
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"connection {connection.name!r}: the {what} file {path!r} cannot be read ({why})") from error


@cache
def _warn_of_readers(what: str, path: str) -> None:
    """Warns once of a file: it is read again at every sign-in."""
    _LOGGER.warning("every user of this machine can read the %s file %r: chmod 600 it", what, path)


def _certificate(connection: Connection, path: str) -> Credential:
    content = _file(connection, path, "certificate")
    name = connection.certificate_password_env
    password = None if name is None else _environment(connection, name, "password of the certificate").encode()
    try:
        if Path(path).suffix.lower() in (".pfx", ".p12"):
            key, certificate, _ = pkcs12.load_key_and_certificates(content, password)
        else:
            key = serialization.load_pem_private_key(content, password)
            certificate = _own_certificate(content, key)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"connection {connection.name!r}: the certificate file {path!r} cannot be opened; expected a certificate"
            " and its private key, PFX if it ends in .pfx or .p12, else PEM, with certificate_password_env if encrypted"
        ) from error
    if key is not None and not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"connection {connection.name!r}: the key in {path!r} is no RSA key, which Entra needs")
    if key is None or certificate is None:
        raise ConfigError(
            f"connection {connection.name!r}: the certificate file {path!r} must hold both a certificate and its key"
        )
    return Credential(
        {
            "private_key": key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "public_certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        },
        () if password is None else (password.decode(),),
    )


def _own_certificate(content: bytes, key: PrivateKeyTypes) -> Certificate | None:
    """The certificate of the key, wherever in a chain it stands."""
    public = key.public_key()
    chain = [load_pem_x509_certificate(pem) for pem in _PEM_CERTIFICATE.findall(content)]
    return next((certificate for certificate in chain if certificate.public_key() == public), None)
