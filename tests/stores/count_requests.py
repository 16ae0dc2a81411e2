"""Counts what a backfill of a demo tenant, about 1,000 blobs, asks of each kind of store, and how long it takes.

Run it as `python -m tests.stores.count_requests [gcs] [s3] [azure]`. The time is that of a run without the proxy.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from emulator.server import running
from tests.commands import environment, succeed
from tests.stores.proxy import Asked, between
from tests.stores.servers import KINDS, serving

RECORDS = 50_000


def kind_of(asked: Asked) -> str:
    """Names a request by what it costs as: writes, copies, lists, reads and deletes."""
    target, _, query = asked.target.partition("?")
    if asked.method == "DELETE":
        return "delete"
    if asked.method == "GET" and any(w in query for w in ("prefix=", "list-type", "comp=list")):
        return "list"
    if asked.method == "HEAD" or (
        asked.method == "GET" and target.startswith("/storage/") and "alt=media" not in query
    ):
        return "head"
    if asked.method in ("PUT", "POST"):
        return "copy" if "rewriteTo" in target or (asked.size == 0 and "probe" not in target) else "put"
    return "get"


def backfill(uri: str, **more: str) -> tuple[float, dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder, running(count=RECORDS, anchor=datetime.now(UTC)) as emu:
        started = time.monotonic()
        words = ("backfill", "--lake", uri, "--start", "-7d", "--json")
        done = json.loads(succeed(*words, env=environment(emu, **more), cwd=Path(folder)))
        return time.monotonic() - started, done


def show(name: str, seconds: float, done: dict[str, object], asked: Counter[str]) -> None:
    said = {"store": name, "seconds": round(seconds, 1), "blobs": done["blobs_listed"], "files": done["files"]}
    sys.stdout.write(json.dumps(said | dict(asked)) + "\n")
    sys.stdout.flush()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        show("local", *backfill(f"{folder}/lake"), Counter())
    for name in sys.argv[1:] or KINDS:
        with serving(name) as server:
            seconds, _ = backfill(f"{server.root}/timed", **server.environ)
            with between(server.port) as proxy:
                uri = f"{server.root}/counted"
                _, done = backfill(uri, **server.kind.environ(proxy.port))
                show(name, seconds, done, Counter(map(kind_of, proxy.asked)))
                proxy.asked.clear()
                sql = "select count(*), count(distinct UserId) from audit"
                env = environment(**server.kind.environ(proxy.port))
                started = time.monotonic()
                succeed("query", "--lake", uri, sql, env=env, cwd=Path(tempfile.gettempdir()))
                show(f"{name} query", time.monotonic() - started, done, Counter(map(kind_of, proxy.asked)))


if __name__ == "__main__":
    main()
