"""A proxy between a client and a real server of a store: it counts requests, and fails those that a test picks."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DROP = "drop"
"""The connection is closed before the server hears of the request."""
LOST = "lost"
"""The server does what it is asked, and its answer is lost."""
CUT_BODY = "cut_body"
"""The connection breaks in the middle of the request's body."""
CUT_ANSWER = "cut_answer"
"""The connection breaks in the middle of the answer's body."""


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    size: int

    @property
    def writes(self) -> bool:
        """Whether it brings an object to the store."""
        return self.method in ("PUT", "POST") and self.size > 0

    @property
    def reads(self) -> bool:
        """Whether it asks for an object's bytes."""
        return self.method == "GET" and not any(w in self.target for w in ("prefix=", "list-type", "comp=list"))


@dataclass(frozen=True)
class Refusal:
    """An answer in place of the server's, which hears nothing."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


BUSY = Refusal(503, b"busy", (("Retry-After", "0"),))


Fault = Callable[[Asked], str | Refusal | None]


@dataclass
class Proxy:
    port: int
    fault: Fault
    asked: list[Asked] = field(default_factory=list)
    failed: list[str | Refusal] = field(default_factory=list)


def times(count: int, kind: str | Refusal, which: Callable[[Asked], bool]) -> Fault:
    """Fails the first requests that `which` picks."""
    left = [kind] * count
    lock = threading.Lock()

    def fault(asked: Asked) -> str | Refusal | None:
        with lock:
            return left.pop() if which(asked) and left else None

    return fault


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        body = self._body()
        asked = Asked(self.command, self.path, len(body))
        proxy = self.server.proxy
        proxy.asked.append(asked)
        kind = proxy.fault(asked)
        if kind:
            proxy.failed.append(kind)
        if kind == DROP:
            self._break()
        elif isinstance(kind, Refusal):
            self._answer(kind.status, list(kind.headers), kind.body)
        elif kind == CUT_BODY:
            self._ask(body, len(body) // 2)
            self._break()
        else:
            self._relay(self._ask(body, len(body)), kind)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_one  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _ask(self, body: bytes, sent: int) -> http.client.HTTPConnection:
        way = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        way.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "transfer-encoding", "content-length", "connection"):
                way.putheader(name, value)
        if body or self.command in ("PUT", "POST", "PATCH"):
            way.putheader("Content-Length", str(len(body)))
        way.putheader("Connection", "close")
        way.endheaders(body[:sent])
        if sent < len(body):
            way.close()
        return way

    def _relay(self, way: http.client.HTTPConnection, kind: str | None) -> None:
        answer = way.getresponse()
        data = answer.read()
        way.close()
        if kind == LOST:
            self._break()
            return
        headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in ("transfer-encoding", "connection")]
        self._answer(answer.status, headers, data, cut=kind == CUT_ANSWER)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        known = {n.lower() for n, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in known and status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """Listens for a proxy; `behind` is the port of the server that it stands in front of."""

    daemon_threads = True

    def __init__(self, behind: int, fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.proxy = Proxy(self.server_address[1], fault)

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def between(server_port: int, fault: Fault = lambda _: None) -> Iterator[Proxy]:
    """Runs a proxy in front of a server."""
    server = _Server(server_port, fault)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
