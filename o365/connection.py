"""A connection to one tenant: names and addresses, never a secret."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from re import compile as regex
from urllib.parse import urlsplit
from uuid import UUID

from o365.errors import ConfigError
from schemas.contract import Cloud, clouds, content_types

_ENV_NAME = regex(r"[A-Za-z_][A-Za-z0-9_]*")
GOOGLE_SECRET = regex(r"projects/[\w:.-]+/secrets/[\w-]+/versions/\w+")
AZURE_SECRET = regex(
    r"https://[\w-]+\.(vault\.azure\.net|vault\.usgovcloudapi\.net|vault\.azure\.cn)/secrets/[\w-]+(/\w+)?"
)
_CREDENTIALS = ("client_secret_env", "client_secret_file", "client_secret_ref", "certificate_file")


@dataclass(frozen=True, slots=True)
class Connection:
    """What is needed to reach one tenant's audit feed. Workers receive it, so it holds names of secrets only.

    Args:
      name: What the operator calls this connection.
      tenant_id: The tenant's GUID; a domain name will not do.
      client_id: The application's (client) id, a GUID.
      cloud: One of the clouds of `clouds.csv`.
      api_root: Address of the activity API in place of the cloud's: scheme, host and port.
      authority: Address of the sign-in service in place of the cloud's, https, without the tenant.
      ca_file: PEM file of the certificate authorities to trust in place of the usual ones.
      client_secret_env: Name of the environment variable that holds the client secret.
      client_secret_file: File that holds the client secret.
      client_secret_ref: Name of the client secret in Google Secret Manager or Azure Key Vault.
      certificate_file: Certificate with its key: PFX where it ends in .pfx or .p12, else PEM.
      certificate_password_env: Name of the environment variable that holds the certificate's password.
      publisher_id: GUID of the tenant of the company that runs this collector; the tenant's own by default.
      timeout_s: Seconds without a byte after which a request is given up, above 0.
      content_types: Content types to collect.
      workers: Processes that collect this tenant at once; each keeps to its part of the request quota.

    Raises:
      ConfigError: A setting is missing or wrong.
    """

    name: str
    tenant_id: str
    client_id: str
    cloud: str = "enterprise"
    api_root: str | None = None
    authority: str | None = None
    ca_file: str | None = None
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    client_secret_ref: str | None = None
    certificate_file: str | None = None
    certificate_password_env: str | None = None
    publisher_id: str | None = None
    timeout_s: float = 60.0
    content_types: tuple[str, ...] = field(default_factory=lambda: tuple(content_types()))
    workers: int = 1

    def __post_init__(self) -> None:
        self._set("tenant_id", self._guid("tenant_id", self.tenant_id))
        self._set("client_id", self._guid("client_id", self.client_id))
        self._set("publisher_id", self._guid("publisher_id", self.publisher_id or self.tenant_id))
        if self.cloud not in clouds():
            raise self._wrong("cloud", self.cloud, f"one of {', '.join(clouds())}")
        if self.api_root is not None:
            self._set("api_root", self._root("api_root", self.api_root, allow_loopback=True))
        if self.authority is not None:
            # MSAL refuses http here, even for this machine.
            self._set("authority", self._root("authority", self.authority, allow_loopback=False))
        self._set("content_types", self._known_content_types())
        if not self.timeout_s > 0:
            raise self._wrong("timeout_s", self.timeout_s, "seconds above 0")
        if not isinstance(self.workers, int) or self.workers < 1:
            raise self._wrong("workers", self.workers, "a whole number of processes, 1 or more")
        self._check_credentials()

    @property
    def api_address(self) -> str:
        """Scheme, host and port of the activity API."""
        return self.api_root or self._cloud.api_root

    @property
    def authority_address(self) -> str:
        """Address of the tenant at the sign-in service."""
        return f"{self.authority or self._cloud.authority}/{self.tenant_id}"

    @property
    def scope(self) -> str:
        """What the access token is asked for."""
        return f"{self._cloud.audience}/.default"

    @property
    def _cloud(self) -> Cloud:
        return clouds()[self.cloud]

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _wrong(self, setting: str, value: object, expected: str) -> ConfigError:
        return ConfigError(f"connection {self.name!r}: {setting} is {value!r}, expected {expected}")

    def _guid(self, setting: str, value: str) -> str:
        try:
            return str(UUID(value))
        except (ValueError, AttributeError, TypeError) as error:
            raise self._wrong(setting, value, "a GUID such as 5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11") from error

    def _root(self, setting: str, value: str, *, allow_loopback: bool) -> str:
        expected = "an https address of scheme, host and port only"
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise self._wrong(setting, value, expected) from error
        plain = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in parts.netloc)
        safe = parts.scheme == "https" or (parts.scheme == "http" and allow_loopback and is_loopback(host))
        if not (host and plain and safe):
            also = " (http only for this machine: localhost, 127.0.0.1, ::1)" if allow_loopback else ""
            # An address with user and password in it would put them into the message.
            raise self._wrong(setting, value if "@" not in value else "one with credentials", expected + also)
        return f"{parts.scheme}://{parts.netloc.lower()}"

    def _known_content_types(self) -> tuple[str, ...]:
        by_lower = {name.lower(): name for name in content_types()}
        for name in self.content_types:
            if name.lower() not in by_lower:
                raise self._wrong("content_types", name, f"some of {', '.join(content_types())}")
        known = tuple(dict.fromkeys(by_lower[name.lower()] for name in self.content_types))
        if not known:
            raise self._wrong("content_types", (), f"some of {', '.join(content_types())}")
        return known

    def _check_credentials(self) -> None:
        given = [name for name in _CREDENTIALS if getattr(self, name)]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has no credential"
            raise ConfigError(
                f"connection {self.name!r} {found}: give exactly one of client_secret_env (name of an environment"
                " variable), client_secret_file, client_secret_ref or certificate_file"
            )
        for name in ("client_secret_env", "certificate_password_env"):
            value = getattr(self, name)
            if value is not None and not _ENV_NAME.fullmatch(value):
                # The value is not shown: it is most likely the secret itself.
                raise ConfigError(
                    f"connection {self.name!r}: {name} must be the name of an environment variable, not the secret"
                )
        ref = self.client_secret_ref
        if ref is not None and not (GOOGLE_SECRET.fullmatch(ref) or AZURE_SECRET.fullmatch(ref)):
            # The value is not shown, for the same reason.
            raise ConfigError(
                f"connection {self.name!r}: client_secret_ref must name a secret:"
                " projects/P/secrets/S/versions/latest or https://VAULT.vault.azure.net/secrets/S"
            )
        if self.certificate_password_env and not self.certificate_file:
            raise ConfigError(f"connection {self.name!r}: certificate_password_env needs a certificate_file")


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
