"""`--metrics-port`: figures for Prometheus on /metrics, and on /healthz whether the stream is live or behind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from lake.storage import LakeError
from pipeline.errors import UsageError
from pipeline.watch import Figures, Watch
from transforms.backlog import behind_s

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_Sample = tuple[dict[str, str], float]


def render(figures: Figures, reason: str | None) -> str:
    """Writes figures as Prometheus reads them; `reason` says why the stream is behind."""
    return "".join(_family(*family) for family in _families(figures, reason))


def _families(figures: Figures, reason: str | None) -> Iterator[tuple[str, str, str, list[_Sample]]]:
    feeds = [({"tenant": f.tenant, "content_type": f.content_type}, f) for f in figures.feeds]
    at = figures.at
    yield "behind", "gauge", "1 where /healthz says behind", [({}, float(reason is not None))]
    waiting = [(labels, float(f.backlog_blobs)) for labels, f in feeds]
    yield "backlog_blobs", "gauge", "Blobs that were listed and have not landed", waiting
    behind = [(labels, behind_s(at, f.listed_up_to, f.oldest_created)) for labels, f in feeds]
    yield "backlog_seconds", "gauge", "From the first thing that a feed lacks to now", behind
    failed = [(labels, float(f.failed_blobs)) for labels, f in feeds]
    yield "failed_blobs", "gauge", "Blobs that failed, and are tried again until they expire", failed
    age = [(labels, (at - f.oldest_created).total_seconds()) for labels, f in feeds if f.oldest_created]
    yield "oldest_unfetched_age_seconds", "gauge", "Age of the oldest blob that has not landed", age
    left = [(labels, (f.oldest_expires - at).total_seconds()) for labels, f in feeds if f.oldest_expires]
    yield "oldest_unfetched_expires_seconds", "gauge", "Seconds until it can no longer be had", left
    listed = [(labels, f.last_listed.timestamp()) for labels, f in feeds if f.last_listed]
    yield "last_listed_timestamp_seconds", "gauge", "When the ledger last noted a listing", listed
    lags = [
        (labels | {"quantile": part}, lag)
        for labels, f in feeds
        for part, lag in (("0.5", f.lag_p50_s), ("0.95", f.lag_p95_s))
        if lag is not None
    ]
    yield "lag_seconds", "gauge", "From contentCreated to the commit, of what landed in the last hour", lags
    quota = [({"tenant": tenant}, used) for tenant, used in (figures.quota or {}).items()]
    yield "quota_used_ratio", "gauge", "Part of the tenant's requests a minute in use", quota
    summary = figures.summary
    blobs = [({"outcome": outcome}, float(n)) for outcome, n in sorted(summary.blobs.items())]
    yield "blobs_total", "counter", "Outcomes of blobs since the start of the stream", blobs
    rows = [({"table": table}, float(n)) for table, n in sorted(summary.rows.items())]
    yield "rows_total", "counter", "Rows landed", rows
    for name, count in (("duplicates", summary.duplicates), ("rejects", summary.rejects), ("files", summary.files)):
        yield f"{name}_total", "counter", f"Count of {name}", [({}, float(count))]


def _family(name: str, kind: str, text: str, samples: list[_Sample]) -> str:
    lines = [f"# HELP auditlake_{name} {text}.\n", f"# TYPE auditlake_{name} {kind}\n"]
    for labels, value in samples:
        named = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"auditlake_{name}{{{named}}} {value:.12g}\n" if named else f"auditlake_{name} {value:.12g}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _answer(watch: Watch, path: str) -> tuple[int, str]:
    if path not in ("/metrics", "/healthz"):
        return 404, "expected /metrics or /healthz\n"
    try:
        figures = watch.look()
    except LakeError as error:
        return 503, f"behind: {error}\n"
    reason = watch.behind(figures)
    if path == "/metrics":
        return 200, render(figures, reason)
    return (503, f"behind: {reason}\n") if reason else (200, "live\n")


@contextmanager
def serving(watch: Watch, address: str | None) -> Iterator[str | None]:
    """Serves until the block ends; gives the address, None where none is asked for.

    Raises:
      UsageError: The address cannot be used.
    """
    if address is None:
        yield None
        return
    host, _, port = address.rpartition(":")
    try:
        server = ThreadingHTTPServer((host or "127.0.0.1", int(port)), _handler(lambda path: _answer(watch, path)))
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(f"--metrics-port {address!r} cannot be used: {error}; expected a port or HOST:PORT") from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{server.server_address[0]!s}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(answer: Callable[[str], tuple[int, str]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, text = answer(self.path.partition("?")[0])
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", _TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stays quiet."""

    return Handler
