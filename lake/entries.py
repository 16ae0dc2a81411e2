"""Ledger entries, and the state that they add up to.

An entry, once written, never changes. A landing entry is the commit of one unit: outcomes of its blobs and the files it
adds. A listing entry says which slices of available time were listed, what they held, and which of them are closed. A
rewrite entry puts files in the place of others.
"""

from datetime import datetime
from typing import Annotated

import msgspec

LANDED, EXPIRED, FAILED, REJECTED = "landed", "expired", "failed", "rejected"
LISTED, UNLISTED, LOST = "listed", "unlisted", "lost"
REPLAY, COMPACTION = "replay", "compaction"
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class FileRef(msgspec.Struct, frozen=True, gc=False):
    """A file that an entry adds: final key, staged key, rows, size in bytes, SHA-256 in hex."""

    key: str
    staged: str
    rows: int
    size: int
    sha256: str


class BlobOutcome(msgspec.Struct, frozen=True, gc=False):
    """What became of a blob; for a landed one `records` = `rows` + `duplicates` + `rejects`.

    `conflicts` of the rejects are repeats that differ from the record that came first under their Id. A rejected blob
    could not be read as records: its whole body is in the file `kept`, and it is asked for again while it can be had. A
    landed blob with an `error` broke off and can be had no more: what it held up to there is in the lake.
    """

    content_id: str
    created: Time
    status: str
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
    conflicts: int = 0
    error: str | None = None
    kept: str | None = None


class DriftCount(msgspec.Struct, frozen=True, gc=False):
    """How often a member was seen as a JSON type that its table does not declare."""

    table: str
    member: str
    json_type: str
    count: int


class ListedBlob(msgspec.Struct, frozen=True, gc=False):
    """A blob as a listing named it; `uri` is where it is fetched."""

    content_id: str
    created: Time
    expiration: Time
    uri: str | None = None


class Slice(msgspec.Struct, frozen=True, gc=False):
    """A stretch `[start, end)` of available time and how listing it went.

    `outcome` is listed, unlisted (the listing failed: `cause`) or lost (the service no longer lists it: `cause`); `at`
    is when, by the service's clock, and nothing is known of what became available later. `blobs` counts what the
    listing held, known blobs too. `closed` says that nothing more is expected: the settle horizon has passed, and this
    listing found nothing new.
    """

    start: Time
    end: Time
    outcome: str
    at: Time
    blobs: int = 0
    cause: str | None = None
    closed: bool = False


class Listing(msgspec.Struct, frozen=True, tag="listing", tag_field="kind"):
    """Entry: slices of one feed that were listed, and the blobs in them that were not known before.

    `asked` is from when on a run was asked to make the feed complete, written before it lists.
    """

    run: str
    at: Time
    content_type: str
    slices: list[Slice]
    blobs: list[ListedBlob]
    asked: Time | None = None


class Landing(msgspec.Struct, frozen=True, tag="landing", tag_field="kind"):
    """Entry: the commit of one unit of blobs of one feed. `removed` are files whose content it brings anew."""

    run: str
    at: Time
    content_type: str
    blobs: list[BlobOutcome]
    files: list[FileRef]
    drift: list[DriftCount]
    removed: list[str] = []


class Rewrite(msgspec.Struct, frozen=True, tag="rewrite", tag_field="kind"):
    """Entry: files in the place of others, for `cause`. `blobs` are the new outcomes of blobs that it changes."""

    run: str
    at: Time
    cause: str
    removed: list[str]
    files: list[FileRef]
    blobs: list[BlobOutcome]
    drift: list[DriftCount]


Entry = Listing | Landing | Rewrite
_DECODER: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def decode_entry(data: bytes) -> Entry:
    """Reads an entry.

    Raises:
      msgspec.MsgspecError: The bytes are no entry.
    """
    try:
        return _DECODER.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


class BlobState(msgspec.Struct, gc=False):
    """All that the ledger knows of a blob. `status` is None while it has no outcome, `uri` where it needs no fetch."""

    content_type: str
    created: Time
    expiration: Time | None = None
    uri: str | None = None
    status: str | None = None
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
    conflicts: int = 0
    error: str | None = None
    kept: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it needs no further fetch: it has landed, or has expired for good."""
        return self.status in (LANDED, EXPIRED)


class SliceState(msgspec.Struct, gc=False):
    """The newest word on a slice."""

    content_type: str
    start: Time
    end: Time
    outcome: str
    at: Time
    blobs: int = 0
    cause: str | None = None
    closed: bool = False


class FileState(msgspec.Struct, frozen=True, gc=False):
    """A committed file and when its rows were committed, the last of them."""

    at: Time
    ref: FileRef


class DriftState(msgspec.Struct, gc=False):
    """How often something that no schema declares was landed, first and last when."""

    count: int
    first: Time
    last: Time


class State:
    """What all entries up to `version` add up to.

    `files` are those that stand, `added` all that were added since this state was loaded, also those removed again.
    `unsettled` are the ids of the blobs that are still to be fetched, `asked` from when on each feed is to be complete.
    """

    def __init__(self) -> None:
        self.version = 0
        self.asked: dict[str, datetime] = {}
        self.blobs: dict[str, BlobState] = {}
        self.unsettled: dict[str, None] = {}
        self.slices: dict[tuple[str, datetime], SliceState] = {}
        self.files: dict[str, FileState] = {}
        self.added: list[FileState] = []
        self.drift: dict[tuple[str, str, str], DriftState] = {}

    def apply(self, entry: Entry) -> None:
        """Adds the next entry."""
        if isinstance(entry, Listing):
            self._apply_listing(entry)
        else:
            self._apply_files(entry)
        self.version += 1

    def _apply_listing(self, entry: Listing) -> None:
        for start in (entry.asked, *(s.start for s in entry.slices)):
            if start is not None:
                self.asked[entry.content_type] = min(start, self.asked.get(entry.content_type, start))
        for s in entry.slices:
            known = self.slices.get((entry.content_type, s.start))
            if known is None or known.outcome != LISTED or s.outcome == LISTED:
                word = SliceState(
                    entry.content_type, s.start, s.end, s.outcome, s.at, s.blobs, s.cause, closed=s.closed
                )
                self.slices[entry.content_type, s.start] = word
        for b in entry.blobs:
            state = self._blob(b.content_id, entry.content_type, b.created)
            state.expiration = b.expiration
            state.uri = None if state.is_settled else b.uri

    def _apply_files(self, entry: Landing | Rewrite) -> None:
        for b in entry.blobs:
            if isinstance(entry, Rewrite):
                if b.content_id in self.blobs:
                    self._settle(self.blobs[b.content_id], b)
            elif not self.has_landed(b.content_id):
                self._settle(self._blob(b.content_id, entry.content_type, b.created), b)
        gone = [file for key in entry.removed if (file := self.files.pop(key, None))]
        at = entry.at
        if isinstance(entry, Rewrite) and entry.cause == COMPACTION:
            at = max((file.at for file in gone), default=at)  # old rows in a new file are no news to a collector
        for ref in entry.files:
            self.add_file(FileState(at, ref))
        for d in entry.drift:
            seen = self.drift.setdefault((d.table, d.member, d.json_type), DriftState(0, entry.at, entry.at))
            seen.count += d.count
            seen.first, seen.last = min(seen.first, entry.at), max(seen.last, entry.at)

    def _blob(self, content_id: str, content_type: str, created: datetime) -> BlobState:
        if content_id not in self.blobs:
            self.blobs[content_id] = BlobState(content_type, created)
            self.unsettled[content_id] = None
        return self.blobs[content_id]

    def _settle(self, state: BlobState, told: BlobOutcome) -> None:
        state.status, state.error, state.kept = told.status, told.error, told.kept
        state.records, state.rows, state.duplicates = told.records, told.rows, told.duplicates
        state.rejects, state.conflicts = told.rejects, told.conflicts
        if state.is_settled:
            self.unsettled.pop(told.content_id, None)
            state.uri = None  # the longest of its parts

    def add_file(self, file: FileState) -> None:
        """Adds a file that stands."""
        self.files[file.ref.key] = file
        self.added.append(file)

    def has_landed(self, content_id: str) -> bool:
        """Tells whether the records of a blob are in the lake."""
        state = self.blobs.get(content_id)
        return state is not None and state.status == LANDED

    def is_settled(self, content_id: str) -> bool:
        """Tells whether a blob needs no further fetch: it has landed, or has expired for good."""
        state = self.blobs.get(content_id)
        return state is not None and state.is_settled
