"""What a tenant really holds, record by record: what a lake is checked against."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from emulator.content import Blob
from emulator.tenant import Tenant
from schemas.contract import time_limit
from schemas.times import parse_wire


@dataclass(frozen=True, slots=True)
class BlobTruth:
    """A blob as it really is.

    Attributes:
      content_id: Its id.
      content_type: Its content type.
      created: Its `contentCreated`.
      available_at: From when on listings show it.
      expiration: From when on it cannot be fetched; a fault may bring it forward while the service runs.
      state: At the time that was asked about: `pending` (not yet listed), `available`, `unlisted` (too old for any
        listing, yet still to be fetched by who knows it) or `expired` (never to be had again).
      listed: How many listings showed it.
      fetched: How often its body was answered, whole or spoilt by a fault.
      records: Its whole records by Id, each Id's bodies in their order; most Ids have one.
      broken: What is no record: not a JSON object, no text as Id, no time as CreationTime.
    """

    content_id: str
    content_type: str
    created: datetime
    available_at: datetime
    expiration: datetime
    state: str
    listed: int
    fetched: int
    records: dict[str, list[bytes]]
    broken: list[bytes]


def truth(tenant: Tenant, now: datetime) -> dict[str, BlobTruth]:
    """Tells what each blob of a tenant holds and whether it can be had, by content id."""
    return {content_id: _truth_of(blob, now) for content_id, blob in tenant.by_id.items()}


def bodies(blobs: Iterable[BlobTruth]) -> dict[str, set[bytes]]:
    """Collects the records of blobs by Id; more than one body is a conflict, of which any may land."""
    found: dict[str, set[bytes]] = {}
    for blob in blobs:
        for record_id, lines in blob.records.items():
            found.setdefault(record_id, set()).update(lines)
    return found


def _truth_of(blob: Blob, now: datetime) -> BlobTruth:
    records: dict[str, list[bytes]] = {}
    broken: list[bytes] = []
    for line in blob.lines:
        record_id = _usable_id(line)
        (broken if record_id is None else records.setdefault(record_id, [])).append(line)
    return BlobTruth(
        blob.content_id,
        blob.content_type,
        blob.created,
        blob.available_at,
        blob.expiration,
        _state(blob, now),
        blob.listed,
        blob.fetched,
        records,
        broken,
    )


def _state(blob: Blob, now: datetime) -> str:
    if blob.available_at > now:
        return "pending"
    if blob.expiration <= now:
        return "expired"
    kept = time_limit("retention") + time_limit("retention_grace")
    return "available" if blob.created >= now - kept else "unlisted"


def _usable_id(line: bytes) -> str | None:
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    record_id, time = record.get("Id"), record.get("CreationTime")
    if not isinstance(record_id, str) or not record_id or not isinstance(time, str) or parse_wire(time) is None:
        return None
    return record_id
