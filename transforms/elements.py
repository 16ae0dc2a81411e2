"""What moves between the stages: references, never records."""

from dataclasses import dataclass

from o365.connection import Connection
from schemas.feed import ContentBlob
from schemas.times import TimeRange


@dataclass(frozen=True, slots=True)
class Feed:
    """One content type of one tenant, over a range of available time, and the lake that it goes to.

    `run` names the run in the ledger.
    """

    connection: Connection
    content_type: str
    time_range: TimeRange
    lake: str
    run: str


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
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
