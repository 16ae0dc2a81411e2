"""Addresses of the feed, and the guard of those the service sends: a token goes to the configured service only."""

from collections.abc import Mapping
from dataclasses import dataclass
from re import compile as regex
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from o365.errors import FatalError

_PUBLISHER = "PublisherIdentifier"
_ODD = regex(r"[^\x21-\x5b\x5d-\x7e]")
_MOST_ENCODINGS = 5
_PORTS = {"http": 80, "https": 443}
_SHOWN_CHARS = 120


@dataclass(frozen=True, slots=True)
class FeedAddress:
    """Builds the addresses of one tenant's feed.

    Args:
      root: Scheme, host and port of the service.
      tenant_id: The tenant's GUID.
      publisher_id: Whose share of the quota the calls use; on every call.
    """

    root: str
    tenant_id: str
    publisher_id: str

    @property
    def _base(self) -> str:
        return f"/api/v1.0/{self.tenant_id}/activity/feed/"

    def operation(self, name: str, params: Mapping[str, str] | None = None) -> str:
        """The address of an operation such as `subscriptions/list`."""
        query = urlencode({**(params or {}), _PUBLISHER: self.publisher_id}, safe="$:", quote_via=quote)
        return f"{self.root}{self._base}{name}?{query}"

    def blob(self, uri: str) -> str:
        """The address to call for a listed `contentUri`.

        Raises:
          FatalError: The URI leads elsewhere.
        """
        return self._guarded("contentUri", uri, "audit/", {})

    def next_page(self, uri: str, operation: str, params: Mapping[str, str]) -> str:
        """The address to call for a `NextPageUri`; what it lost of the first call's parameters is put back.

        Raises:
          FatalError: The URI leads elsewhere.
        """
        return self._guarded("NextPageUri", uri, operation, params)

    def _guarded(self, what: str, uri: str, operation: str, params: Mapping[str, str]) -> str:
        try:
            parts, root = urlsplit(uri), urlsplit(self.root)
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError as error:
            raise self._elsewhere(what, uri) from error
        # http is let through for our own host, because what is called is the configured root anyway.
        downgraded = parts.scheme == "http" and root.scheme == "https" and port in (80, root.port or 443)
        same_origin = parts.scheme == root.scheme and port == (root.port or _PORTS[root.scheme])
        if not (
            (same_origin or downgraded)
            and parts.hostname == root.hostname
            and "@" not in parts.netloc
            and not _ODD.search(uri)
            and self._holds(parts.path, operation)
        ):
            raise self._elsewhere(what, uri)
        given = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        missing = {
            name: value
            for name, value in {**params, _PUBLISHER: self.publisher_id}.items()
            if name.lower() not in given
        }
        # The service's own query is kept as it is written: page marks are opaque.
        query = "&".join(filter(None, [parts.query, urlencode(missing, safe="$:", quote_via=quote)]))
        # Built on the configured root, so that two readings of one odd URI cannot disagree about the host.
        return f"{self.root}{parts.path}?{query}"

    def _holds(self, path: str, operation: str) -> bool:
        """Whether a path is the operation's in this tenant's feed, with no way out of it."""
        plain = _decoded(path).lower()
        rest = plain.removeprefix(self._base.lower())
        # Some servers drop what follows a semicolon, and then see the dots.
        steps = {step.partition(";")[0] for step in plain.split("/")}
        return (
            rest != plain
            and f"{rest.strip('/')}/".startswith(f"{operation.rstrip('/')}/")
            and not {".", ".."} & steps
            and not _ODD.search(plain)
        )

    def _elsewhere(self, what: str, uri: str) -> FatalError:
        shown = uri if len(uri) <= _SHOWN_CHARS else uri[:_SHOWN_CHARS] + "…"
        return FatalError(
            f"a {what} leads to {shown!r}, expected an address below {self.root}{self._base}; no token was sent there,"
            " check that the connection's cloud and tenant are right"
        )


def _decoded(path: str) -> str:
    """A path as the last of many servers may read it, each of which decodes it once."""
    for _ in range(_MOST_ENCODINGS):
        path = unquote(path)
    return path
