"""Tries what was rejected again with today's schemas: what fits now lands once, and leaves the rejects.

rejected file ── records ── stage.py ── rewrite entry: rows and what is still rejected, in the place of the file
             └── whole bodies ── split ──┘
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

import msgspec

from lake import layout
from lake.entries import REPLAY, BlobOutcome, Rewrite, State
from lake.rejected import WHOLE_BODY, RejectedRecord, read_rejected
from lake.stage import CONFLICT, BlobCounts, Stage
from lake.storage import LakeError
from lake.tenant import TenantLake
from schemas.decode import NotAnArrayError, RawRecord, raw_record, split_blob, whole_records
from schemas.feed import ContentBlob

_CUT_OFF = "its body broke off, and the service has it no more: what stood before the break is in the lake"


@dataclass(slots=True)
class ReplayCounts:
    """What became of rejected records: `tried` = rows + duplicates + conflicts + still rejected. Bodies count apart."""

    tried: int = 0
    rows: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    bodies_tried: int = 0
    bodies_landed: int = 0

    def add(self, other: "ReplayCounts") -> None:
        """Adds other counts."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


def replay(lake: TenantLake, run: str, now: datetime) -> ReplayCounts:
    """Tries all rejects of a tenant again, file by file; each file's outcome is committed on its own.

    Conflicts stay as they are. A body that breaks off is read as far as it goes only when the service, at `now`, no
    longer has the blob: until then a backfill may still get all of it.

    Raises:
      LakeError: The lake cannot be read or written.
    """
    found = ReplayCounts()
    for key in [k for k in lake.ledger.state.files if layout.partition_of(k) is None]:
        try:
            records = list(read_rejected(lake.storage.get(key)))
        except FileNotFoundError:
            continue  # another has replayed it
        except ValueError as error:
            raise LakeError(f"rejected file {key!r} in {lake.storage.uri!r} cannot be read: {error}") from error
        found.add(_Replay(lake, run, key, records, now).commit())
    return found


class _Replay:
    """The replay of one file."""

    def __init__(self, lake: TenantLake, run: str, key: str, records: Sequence[RejectedRecord], now: datetime) -> None:
        self._lake = lake
        self._run = run
        self._key = key
        self._stage = Stage(lake)
        self._checked = -1
        self._kept: list[RejectedRecord] = []
        self._tried: dict[str, BlobCounts] = {}
        self._bodies: dict[str, BlobCounts] = {}
        self._cut_off: set[str] = set()
        self.counts = ReplayCounts()
        for record in records:
            self._take(record, now)
        self._stage.flush()

    def _take(self, record: RejectedRecord, now: datetime) -> None:
        if record.reason == CONFLICT:
            self._kept.append(record)
        elif record.position == WHOLE_BODY:
            self.counts.bodies_tried += 1
            raws = self._read_body(record, now)
            if raws is None:
                self._kept.append(record)
                return
            counts = self._bodies[record.content_id] = BlobCounts(_blob(record), len(raws))
            self._stage.add(counts, raws)
        else:
            counts = self._tried.setdefault(record.content_id, BlobCounts(_blob(record), 0))
            counts.records += 1
            self._stage.add(counts, [raw_record(record.data)], record.position)

    def _read_body(self, record: RejectedRecord, now: datetime) -> Sequence[RawRecord] | None:
        raws = whole_records(record.data)
        state = self._lake.ledger.state.blobs.get(record.content_id)
        if raws is not None or state is None or state.expiration is None or state.expiration > now:
            return raws
        try:
            raws = split_blob(record.data)
        except NotAnArrayError:
            return None
        self._cut_off.add(record.content_id)
        return raws

    def commit(self) -> ReplayCounts:
        """Commits what fits now, if anything does."""
        tried = list(self._tried.values())
        if not self._bodies and not any(c.rows + c.duplicates + c.conflicts for c in tried):
            self._stage.discard()
            self.counts.tried = self.counts.rejected = sum(c.records for c in tried)
            return self.counts
        entry = self._lake.commit(self._entry, lambda: self._stage.keys)
        if entry is None:
            self._stage.discard()
            return ReplayCounts()
        for c in (*tried, *self._bodies.values()):
            self.counts.tried += c.records
            self.counts.rows += c.rows
            self.counts.duplicates += c.duplicates
            self.counts.conflicts += c.conflicts
            self.counts.rejected += len(c.rejects) - c.conflicts
        self.counts.bodies_landed = len(self._bodies)
        return self.counts

    def _entry(self, state: State) -> Rewrite | None:
        if state.version != self._checked:
            self._stage.cover()
            self._stage.check_again([], self._tried | self._bodies)
            self._checked = state.version
        if self._key not in state.files:
            return None  # another has replayed it
        return Rewrite(
            run=self._run,
            at=datetime.now(UTC),
            cause=REPLAY,
            removed=[self._key],
            files=self._stage.files + self._stage.rejects_file(self._rejects()),
            blobs=[*self._outcomes(state), *self._body_outcomes()],
            drift=self._stage.drift,
        )

    def _outcomes(self, state: State) -> Iterator[BlobOutcome]:
        """Moves what fits now from the rejects of its blob to rows and duplicates."""
        for content_id, counts in self._tried.items():
            known = state.blobs[content_id]
            yield BlobOutcome(
                content_id=content_id,
                created=known.created,
                status=known.status or "",
                records=known.records,
                rows=known.rows + counts.rows,
                duplicates=known.duplicates + counts.duplicates,
                rejects=known.rejects - counts.records + len(counts.rejects),
                conflicts=known.conflicts + counts.conflicts,
                error=known.error,
            )

    def _body_outcomes(self) -> Iterator[BlobOutcome]:
        for content_id, counts in self._bodies.items():
            error = _CUT_OFF if content_id in self._cut_off else None
            yield msgspec.structs.replace(counts.outcome(), error=error)

    def _rejects(self) -> list[RejectedRecord]:
        return [*self._kept, *(r for c in (*self._tried.values(), *self._bodies.values()) for r in c.rejects)]


def _blob(record: RejectedRecord) -> ContentBlob:
    # A replay has no use for the expiration.
    created = record.content_created
    return ContentBlob(record.content_id, record.content_uri, record.content_type, created, created)
