"""Small records, blobs and landings for the tests of the lake."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from lake.entries import LISTED, Landing, ListedBlob, Listing, Slice
from lake.landing import Unit
from lake.storage import Storage
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from schemas.feed import ContentBlob

TENANT = "11111111-2222-4333-8444-555555555555"
FEED = "Audit.Exchange"
START = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def guid(number: int) -> str:
    return str(UUID(int=number))


def record(number: int, **members: Any) -> dict[str, Any]:
    """A mailbox record; its day changes every tenth number."""
    day = 20 + number // 10 % 5
    base = {
        "Id": guid(number),
        "CreationTime": f"2026-11-{day}T08:15:{number % 60:02}",
        "RecordType": 2,
        "Operation": "Update",
        "Workload": "Exchange",
        "UserId": f"user{number % 3}@contoso.com",
    }
    return base | members


def blob(name: str, *, feed: str = FEED, created: datetime = START) -> ContentBlob:
    uri = f"https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{name}"
    return ContentBlob(name, uri, feed, created, created + timedelta(days=7))


def body(records: Iterable[Any]) -> bytes:
    return json.dumps(list(records)).encode()


def storage_at(folder: Path) -> LocalStorage:
    return LocalStorage(folder / "lake")


def list_blobs(
    lake: TenantLake, blobs: Sequence[ContentBlob], *, start: datetime = START, outcome: str = LISTED
) -> None:
    """Writes the listing of one slice, an hour long, that held these blobs."""
    one = Slice(start, start + HOUR, outcome, start + HOUR, len(blobs), None if outcome == LISTED else "HTTP 500")
    listed = [ListedBlob(b.content_id, b.content_created, b.content_expiration, b.content_uri) for b in blobs]
    feed = blobs[0].content_type if blobs else FEED
    lake.ledger.append(lambda _: Listing("run", start + HOUR, feed, [one], listed))


def unit_of(lake: TenantLake, bodies: dict[str, bytes]) -> Unit:
    """A unit with these blobs, not yet committed."""
    unit = Unit(lake, "run", FEED)
    for name, data in bodies.items():
        unit.add(blob(name), data)
    return unit


def land(lake: TenantLake, bodies: dict[str, bytes]) -> Landing | None:
    """Lists and lands blobs as one unit."""
    list_blobs(lake, [blob(name) for name in bodies])
    return unit_of(lake, bodies).commit()


def new_lake(storage: Storage) -> TenantLake:
    """What a new process makes of a lake."""
    lake = TenantLake(storage, TENANT)
    lake.recover()
    return lake
