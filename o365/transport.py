"""One HTTP exchange: TLS always verified, no redirect followed, a short or corrupt body never accepted."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from re import compile as regex
from ssl import SSLCertVerificationError, SSLError, create_default_context
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, NameResolutionError
from urllib3.response import BaseHTTPResponse

from o365.connection import is_loopback
from o365.errors import ActivityError, ConfigError, RetryableError

_PIECE_BYTES = 1 << 20
_LARGE_BYTES = 1 << 20  # on the wire, where records shrink to a fifth and less
_FIRST_BYTES = 256
_PADDING = regex(rb"\0*+")
_CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its whole body, decoded from its content encoding.

    `is_whole` tells whether length, chunks or checksum proved that nothing of the body is missing.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool


class TooLargeError(RetryableError):
    """The body is larger than accepted: some gateway's fault, unless it is a blob."""


class Transport:
    """Sends requests over pooled connections; any number of threads may share it.

    Args:
      ca_file: PEM file of authorities to trust in place of the usual ones.
      timeout_s: Seconds without a byte after which a request is given up.
      pool_size: Connections kept open to a host; the number of threads that share it.

    Raises:
      ConfigError: The CA file cannot be used.
    """

    def __init__(self, *, ca_file: str | None, timeout_s: float, pool_size: int = 256) -> None:
        if ca_file is not None:
            _check_ca_file(ca_file)
        self._verify: str | bool = ca_file or True
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update({"User-Agent": "auditlake", "Accept-Encoding": "gzip"})
        # Retries are the caller's: it knows quota, token and deadline.
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=pool_size, max_retries=0))

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        token: str | None = None,
        max_bytes: int,
        on_large: Callable[[], None] | None = None,
    ) -> Answer:
        """Sends one request and reads the whole answer.

        Args:
          method: HTTP method.
          url: Address.
          headers: Headers.
          params: Parameters of the query.
          data: Fields of a form.
          token: Access token.
          max_bytes: Most bytes of the body, on the wire and after decompression.
          on_large: Called once where the body grows large, before more of it is read; it may wait.

        Raises:
          ConfigError: The host's certificate is not trusted.
          RetryableError: No answer came, or not all of it.
          TooLargeError: The body is larger than `max_bytes`, on the wire or after decompression.
        """
        parts = urlsplit(url)
        try:
            with self._session.request(
                method,
                url,
                headers=dict(headers or {}),
                params=params,
                data=data,
                auth=_Bearer(token),
                timeout=(min(_CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s),
                allow_redirects=False,
                stream=True,
                # Per request, because REQUESTS_CA_BUNDLE overrides what a session says.
                verify=self._verify,
                # A proxy is for far hosts; it could not reach this machine's own.
                proxies={"no_proxy": parts.hostname or ""} if is_loopback(parts.hostname) else None,
            ) as response:
                return _read(response, parts.netloc, max_bytes, on_large or _go_on)
        except (requests.RequestException, HTTPError) as error:
            raise _no_answer(error, parts.netloc, self._timeout_s) from error
        except OSError as error:
            # requests says so where the bundle does not exist; its own errors are caught above.
            raise ConfigError(
                f"no TLS to {parts.netloc}: the bundle of certificate authorities cannot be read; check"
                " REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and ca_file"
            ) from error

    def close(self) -> None:
        """Closes the pooled connections."""
        self._session.close()


def _check_ca_file(path: str) -> None:
    try:
        create_default_context(cafile=path)
    except OSError as error:
        raise ConfigError(
            f"the CA file {path!r} cannot be used ({error.strerror or 'no certificate in it'}); ca_file must name a PEM"
            " file of certificates on every worker"
        ) from error


class _Bearer(requests.auth.AuthBase):
    """Sets the token. Also given without one, because requests takes credentials from ~/.netrc where auth is None."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _go_on() -> None:
    """Waits for nothing."""


def _read(response: requests.Response, host: str, max_bytes: int, on_large: Callable[[], None]) -> Answer:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    wire = _read_wire(response.raw, host, max_bytes, on_large)
    is_framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    if encoding in ("gzip", "x-gzip") and wire:
        return Answer(response.status_code, response.headers, _gunzip(wire, host, max_bytes), is_whole=True)
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise RetryableError(f"{host} answered in the content encoding {encoding!r}, expected gzip; try again later")
    return Answer(response.status_code, response.headers, wire, is_whole=is_framed)


def _read_wire(raw: BaseHTTPResponse, host: str, max_bytes: int, on_large: Callable[[], None]) -> bytes:
    pieces: list[bytes] = []
    size_bytes = 0
    is_large = False
    # urllib3 raises here where fewer bytes come than announced. Decoding is ours: its gzip accepts a cut stream.
    while piece := raw.read(_PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise _too_large(host, max_bytes)
        if size_bytes > _LARGE_BYTES and not is_large:
            is_large = True
            on_large()
    return b"".join(pieces)


def _gunzip(wire: bytes, host: str, max_bytes: int) -> bytes:
    """Decompresses all members of a gzip body, each proved whole by its end mark and checksum."""
    body = bytearray()
    view, at = memoryview(wire), 0
    while at < len(wire):
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        size = _FIRST_BYTES
        while not member.eof:
            if at == len(wire):
                raise _broken(host, "ends before its gzip stream does")
            # Ever larger pieces: what is left over is copied, and a body may be of a million members.
            piece = view[at : at + size]
            try:
                body += member.decompress(piece, max_bytes + 1 - len(body))
            except zlib.error as error:
                raise _broken(host, "is corrupt") from error
            if len(body) > max_bytes:
                raise _too_large(host, max_bytes)
            at += len(piece)
            size = min(2 * size, _PIECE_BYTES)
        at -= len(member.unused_data)
        at = _PADDING.match(wire, at).end()  # type: ignore[union-attr]
    return bytes(body)


def _broken(host: str, how: str) -> RetryableError:
    return RetryableError(f"the body of an answer of {host} {how}; the request has to be sent again")


def _too_large(host: str, max_bytes: int) -> TooLargeError:
    return TooLargeError(f"the body of an answer of {host} is larger than {max_bytes} bytes, the most accepted")


def _no_answer(error: Exception, host: str, timeout_s: float) -> ActivityError:
    """Names the cause in words of ours: the library's text may hold addresses of proxies with their passwords."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, SSLCertVerificationError):
            return ConfigError(
                f"the TLS certificate of {host} is not trusted ({cause.verify_message or 'no reason given'}); check"
                " the address, or name the PEM file of its certificate authority as ca_file"
            )
    why = next((text for test, text in _CAUSES if any(test(cause) for cause in causes)), "the connection failed")
    return RetryableError(f"no whole answer from {host}: {why.format(timeout_s=timeout_s)}; try again later")


def _is(*kinds: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda cause: isinstance(cause, kinds)


_CAUSES: tuple[tuple[Callable[[BaseException], bool], str], ...] = (
    (_is(requests.exceptions.ProxyError), "the proxy failed"),
    (_is(SSLError, requests.exceptions.SSLError), "the TLS handshake or stream failed"),
    (_is(NameResolutionError), "its name does not resolve"),
    (_is(ConnectionRefusedError), "the connection was refused"),
    (_is(RemoteDisconnected), "the connection was closed before an answer"),
    (_is(ConnectionResetError, BrokenPipeError), "the connection was reset"),
    (
        lambda cause: isinstance(cause, TimeoutError | requests.Timeout) or "Timeout" in type(cause).__name__,
        "nothing came within {timeout_s:g} seconds",
    ),
    (lambda cause: "Incomplete" in type(cause).__name__, "the body ended early"),
)


def _causes(error: BaseException) -> list[BaseException]:
    """The error with everything it was raised from or wraps."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and not any(cause is seen for seen in found):
            found.append(cause)
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return found
