"""Ledger entries, and the state that they add up to.

An entry, once written, never changes. A landing entry is the commit of one unit: outcomes of its blobs and the files it
adds. A listing entry says which slices of available time were listed and what they held.
"""

from collections import Counter
from datetime import datetime

import msgspec

LANDED, EXPIRED, FAILED = "landed", "expired", "failed"
LISTED, UNLISTED, LOST = "listed", "unlisted", "lost"


class FileRef(msgspec.Struct, frozen=True):
    """A file that an entry adds: final key, staged key, rows, size in bytes, SHA-256 in hex."""

    key: str
    staged: str
    rows: int
    size: int
    sha256: str


class BlobOutcome(msgspec.Struct, frozen=True):
    """What became of a blob; for a landed one `records` = `rows` + `duplicates` + `rejects`."""

    content_id: str
    created: datetime
    status: str
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
    error: str | None = None


class DriftCount(msgspec.Struct, frozen=True):
    """How often a member was seen as a JSON type that its table does not declare."""

    table: str
    member: str
    json_type: str
    count: int


class ListedBlob(msgspec.Struct, frozen=True):
    """A blob as a listing named it."""

    content_id: str
    created: datetime
    expiration: datetime


class Slice(msgspec.Struct, frozen=True):
    """A stretch `[start, end)` of available time and how listing it went.

    `outcome` is listed, unlisted (the listing failed: `cause`) or lost (the service no longer lists it: `cause`).
    `blobs` counts what the listing held, known blobs too.
    """

    start: datetime
    end: datetime
    outcome: str
    blobs: int = 0
    cause: str | None = None


class Listing(msgspec.Struct, frozen=True, tag="listing", tag_field="kind"):
    """Entry: slices of one feed that were listed, and the blobs in them that were not known before."""

    run: str
    at: datetime
    content_type: str
    slices: list[Slice]
    blobs: list[ListedBlob]


class Landing(msgspec.Struct, frozen=True, tag="landing", tag_field="kind"):
    """Entry: the commit of one unit of blobs of one feed."""

    run: str
    at: datetime
    content_type: str
    blobs: list[BlobOutcome]
    files: list[FileRef]
    drift: list[DriftCount]


Entry = Listing | Landing
_DECODER: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def decode_entry(data: bytes) -> Entry:
    """Reads an entry.

    Raises:
      msgspec.MsgspecError: The bytes are no entry.
    """
    return _DECODER.decode(data)


class BlobState(msgspec.Struct):
    """All that the ledger knows of a blob. `status` is None while it has no outcome."""

    content_type: str
    created: datetime
    expiration: datetime | None = None
    status: str | None = None
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
    error: str | None = None


class SliceState(msgspec.Struct):
    """The newest word on a slice."""

    content_type: str
    start: datetime
    end: datetime
    outcome: str
    at: datetime
    blobs: int = 0
    cause: str | None = None


class FileState(msgspec.Struct, frozen=True):
    """A committed file and when it was committed."""

    at: datetime
    ref: FileRef


class State:
    """What all entries up to `version` add up to."""

    def __init__(self) -> None:
        self.version = 0
        self.blobs: dict[str, BlobState] = {}
        self.slices: dict[tuple[str, datetime], SliceState] = {}
        self.files: dict[str, FileState] = {}
        self.drift: Counter[tuple[str, str, str]] = Counter()

    def apply(self, entry: Entry) -> None:
        """Adds the next entry."""
        if isinstance(entry, Listing):
            self._apply_listing(entry)
        else:
            self._apply_landing(entry)
        self.version += 1

    def _apply_listing(self, entry: Listing) -> None:
        for s in entry.slices:
            known = self.slices.get((entry.content_type, s.start))
            if known is None or known.outcome != LISTED or s.outcome == LISTED:
                word = SliceState(entry.content_type, s.start, s.end, s.outcome, entry.at, s.blobs, s.cause)
                self.slices[entry.content_type, s.start] = word
        for b in entry.blobs:
            state = self.blobs.setdefault(b.content_id, BlobState(entry.content_type, b.created))
            state.expiration = b.expiration

    def _apply_landing(self, entry: Landing) -> None:
        for b in entry.blobs:
            state = self.blobs.setdefault(b.content_id, BlobState(entry.content_type, b.created))
            if state.status == LANDED:
                continue
            state.status, state.error = b.status, b.error
            state.records, state.rows = b.records, b.rows
            state.duplicates, state.rejects = b.duplicates, b.rejects
        for ref in entry.files:
            self.files[ref.key] = FileState(entry.at, ref)
        for d in entry.drift:
            self.drift[d.table, d.member, d.json_type] += d.count

    def has_landed(self, content_id: str) -> bool:
        """Tells whether the records of a blob are in the lake."""
        state = self.blobs.get(content_id)
        return state is not None and state.status == LANDED

    def is_settled(self, content_id: str) -> bool:
        """Tells whether a blob needs no further fetch: it has landed, or has expired for good."""
        state = self.blobs.get(content_id)
        return state is not None and state.status in (LANDED, EXPIRED)
