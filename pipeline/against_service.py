"""`auditlake verify --against-service`: lists the feeds again and names every blob that the ledger does not know.

connections ── hours that the service still lists, some at a time ── blobs ── less the ledger's ── unknown
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from lake.ledger import Ledger, tenants
from lake.storage import Storage
from lake.verify import Problem
from o365.clients import client_for
from o365.connection import Connection
from o365.errors import ActivityError
from schemas.feed import ContentBlob
from schemas.times import TimeRange, format_utc
from transforms.grid import tick_range, ticks_of
from transforms.lister import oldest_listable

_THREADS = 8


@dataclass(slots=True)
class Comparison:
    """What the service lists and the ledgers do not know.

    `newer` counts the unknown blobs that became available after a feed was listed last: the next run gets them.
    """

    listed: int = 0
    newer: int = 0
    problems: list[Problem] = field(default_factory=list)


def compare(storage: Storage, connections: Iterable[Connection]) -> Comparison:
    """Compares ledgers with what the service lists now; changes neither.

    Raises:
      LakeError: The lake cannot be read.
    """
    found = Comparison()
    known = set(tenants(storage))
    for connection in connections:
        if connection.tenant_id in known:
            _compare_tenant(storage, connection, found)
        else:
            where = f"tenant {connection.name}"
            found.problems.append(Problem(where, f"has no ledger in {storage.uri!r}: run `auditlake backfill`"))
    return found


def _compare_tenant(storage: Storage, connection: Connection, found: Comparison) -> None:
    client = client_for(connection)
    try:
        client.list_subscriptions()  # tells the service's time, too
    except ActivityError as error:
        found.problems.append(Problem(f"tenant {connection.name}", error.message))
        return
    now = client.now()
    grid = ticks_of(TimeRange(oldest_listable(now), now))
    stretches = [(t, tick_range(n)) for t in connection.content_types for n in range(grid.start, grid.stop)]

    def ask(stretch: tuple[str, TimeRange]) -> list[ContentBlob] | ActivityError:
        try:
            return list(client.list_content(*stretch))
        except ActivityError as error:
            return error

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="list") as pool:
        answers = list(pool.map(ask, stretches))
    # After the listing: what a collector at work meanwhile has got is no gap.
    state = Ledger(storage, connection.tenant_id).state
    last: dict[str, datetime] = {}
    for one in state.slices.values():
        last[one.content_type] = max(one.at, last.get(one.content_type, one.at))
    for (content_type, stretch), answer in zip(stretches, answers, strict=True):
        where = f"tenant {connection.name} {content_type}"
        if isinstance(answer, ActivityError):
            what = f"{format_utc(stretch.start)} to {format_utc(stretch.end)} could not be compared: {answer.message}"
            found.problems.append(Problem(where, what))
            continue
        found.listed += len(answer)
        for blob in answer:
            if blob.content_id in state.blobs:
                continue
            if content_type in last and blob.content_created >= last[content_type]:
                found.newer += 1
            else:
                since = format_utc(blob.content_created)
                what = f"blob {blob.content_id!r}, available since {since}, is listed by the service, but not known"
                found.problems.append(Problem(where, f"{what} to the ledger: run `auditlake backfill --start -7d`"))


def describe(found: Comparison) -> str:
    """Gives a comparison as a person reads it, its problems aside."""
    newer = f", {found.newer:,} more since the last listing" if found.newer else ""
    if found.problems:
        return f"the service lists {found.listed:,} blobs{newer}"
    return f"the service lists {found.listed:,} blobs, and the ledger knows each of them{newer}"
