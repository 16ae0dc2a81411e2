"""What moves between the stages: references, never records."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from o365.connection import Connection
from schemas.contract import time_limit
from schemas.feed import ContentBlob
from schemas.times import TimeRange

ALL, OPEN, GAPS = "all", "open", "gaps"


@dataclass(frozen=True, slots=True)
class Feed:
    """One content type of one tenant, over a range of available time, and the lake that it goes to.

    `run` names the run in the ledger. `listing` says which slices are listed: all of the range, those that are not
    closed, or only those that never were. `settle` after its end a slice is expected to get no more blobs. Blobs that
    the ledger knows and the lake lacks are tried again from `retry_from` on, where that lies before the range. A
    request that fails is given up after `deadline_s` seconds; by default as late as the client does.
    """

    connection: Connection
    content_type: str
    time_range: TimeRange
    lake: str
    run: str
    listing: str = ALL
    settle: timedelta = field(default_factory=lambda: time_limit("late_arrival"))
    retry_from: datetime | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """A feed that is polled: position n of the poll grid is the stretch of `interval` that begins at n times it.

    Polls go from position `start` to `stop`, with no end where that is OPEN of `transforms.polls`. Of the feed's range
    only the start counts.
    """

    feed: Feed
    interval: timedelta
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ContentUnit:
    """A bounded list of blobs of one feed: what is landed, and committed, at once."""

    feed: Feed
    blobs: tuple[ContentBlob, ...]


@dataclass(frozen=True, slots=True)
class UnitOutcome:
    """What became of a unit's blobs and of their records, in counts."""

    tenant_id: str
    content_type: str
    landed: int = 0
    expired: int = 0
    failed: int = 0
    rejected: int = 0
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
    conflicts: int = 0
