"""Landing a unit: decode, stage, check, commit, publish.

add blobs ── decode many records at once ── drop known Ids ── rows by table and date ── staged files
commit ──── check again against the newest ledger ── entry n+1 ── staged files move to their final names

A crash before the entry leaves staged files, which are swept; a crash after it is rolled forward by whoever comes next.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import layout
from lake.committed import read_committed
from lake.entries import (
    EXPIRED,
    FAILED,
    LANDED,
    BlobOutcome,
    DriftCount,
    Entry,
    FileRef,
    Landing,
    State,
)
from lake.ids import IdSet, first_of_each, keys_of
from lake.rejected import RejectedRecord, write_rejected
from lake.rows import by_day, days_of, with_content, write_parquet
from lake.tenant import TenantLake
from schemas.decode import Drift, RawRecord, decode_records, split_blob
from schemas.feed import ContentBlob

CHUNK_RECORDS = 8192
CHUNK_BYTES = 16 * 1024 * 1024
HELD_BYTES = 96 * 1024 * 1024


@dataclass(slots=True)
class _Part:
    """A staged Parquet file and the keys of its rows, in their order."""

    table: str
    day: date
    ref: FileRef
    keys: np.ndarray


@dataclass(slots=True)
class _Counts:
    """Counts of one blob while its unit lands."""

    blob: ContentBlob
    records: int
    rows: int = 0
    duplicates: int = 0
    rejects: list[RejectedRecord] = field(default_factory=list)


@dataclass(slots=True)
class _Waiting:
    """Records that wait to be decoded together: whose blob they are of, and where in it each piece begins."""

    blobs: list[_Counts] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    pieces: list[Sequence[RawRecord]] = field(default_factory=list)
    records: int = 0
    size_bytes: int = 0


class Unit:
    """The landing of one unit of blobs of one feed. Not shared between threads."""

    def __init__(self, lake: TenantLake, run: str, content_type: str) -> None:
        self._lake = lake
        self._run = run
        self._content_type = content_type
        self._checked = -1  # its blobs may have been chosen by an older state than the one now
        self._landed: dict[str, _Counts] = {}
        self._lost: dict[str, BlobOutcome] = {}
        self._waiting = _Waiting()
        self._drift: Counter[Drift] = Counter()
        self._ids = IdSet()
        self._rows: defaultdict[tuple[str, date], list[pa.RecordBatch]] = defaultdict(list)
        self._held_bytes = 0
        self._parts: list[_Part] = []
        self._rejects: FileRef | None = None

    def add(self, blob: ContentBlob, body: bytes) -> int:
        """Takes a blob's records; returns how many there are. A blob counts once in a unit.

        Raises:
          NotAnArrayError: The body is no array of records; nothing of it was kept.
        """
        if blob.content_id in self._landed:
            return self._landed[blob.content_id].records
        raws = split_blob(body)
        counts = self._landed[blob.content_id] = _Counts(blob, len(raws))
        self._lost.pop(blob.content_id, None)
        for start in range(0, len(raws), CHUNK_RECORDS):
            piece = raws[start : start + CHUNK_RECORDS]
            self._waiting.blobs.append(counts)
            self._waiting.starts.append(start)
            self._waiting.pieces.append(piece)
            self._waiting.records += len(piece)
            self._waiting.size_bytes += len(body) * len(piece) // len(raws)
            if self._waiting.records >= CHUNK_RECORDS or self._waiting.size_bytes >= CHUNK_BYTES:
                self._decode()
        return len(raws)

    def add_failed(self, blob: ContentBlob, error: str, *, expired: bool = False) -> None:
        """Notes a blob that could not be had."""
        if blob.content_id in self._landed:
            return
        status = EXPIRED if expired else FAILED
        self._lost[blob.content_id] = BlobOutcome(blob.content_id, blob.content_created, status, error=error)

    def _decode(self) -> None:
        """Decodes what waits, and keeps the rows that are new."""
        waiting, self._waiting = self._waiting, _Waiting()
        lengths = [len(p) for p in waiting.pieces]
        owners = np.repeat(np.arange(len(lengths)), lengths)
        decoded = decode_records([r for p in waiting.pieces for r in p])
        self._drift += decoded.drift
        first_rows = np.cumsum([0, *lengths])
        for reject in decoded.rejects:
            owner = owners[reject.position]
            position = int(reject.position - first_rows[owner]) + waiting.starts[owner]
            counts = waiting.blobs[owner]
            counts.rejects.append(RejectedRecord.of(self._lake.tenant, counts.blob, replace(reject, position=position)))
        for table, batch, positions in decoded.batches:
            self._keep(table, batch, owners[positions], waiting.blobs)
        if self._held_bytes > HELD_BYTES:
            self._stage()

    def _keep(self, table: str, batch: pa.RecordBatch, owners: np.ndarray, blobs: list[_Counts]) -> None:
        fresh = self._fresh(table, batch)
        for counts, rows, records in zip(
            blobs,
            np.bincount(owners[fresh], minlength=len(blobs)),
            np.bincount(owners, minlength=len(blobs)),
            strict=True,
        ):
            counts.rows += int(rows)
            counts.duplicates += int(records - rows)
        batch, owners = (batch, owners) if fresh.all() else (batch.filter(pa.array(fresh)), owners[fresh])
        for day, rows in by_day(with_content(table, batch, owners, [c.blob for c in blobs])):
            self._rows[table, day].append(rows)
            self._held_bytes += rows.nbytes

    def _fresh(self, table: str, batch: pa.RecordBatch) -> np.ndarray:
        """Marks the rows whose Ids neither the lake nor this unit has yet."""
        keys = keys_of(batch["Id"])
        with self._lake.ledger.lock:
            days = {(table, d.isoformat()) for d in days_of(batch)}
            self._lake.committed.cover(self._lake.ledger.state, days)
            known = self._lake.committed.holds(keys)
        known |= self._ids.holds(keys) | ~first_of_each(keys)
        self._ids.add(keys)
        return ~known

    def _stage(self) -> None:
        """Writes the held rows as staged files."""
        for (table, day), batches in self._rows.items():
            rows = pa.Table.from_batches(batches)
            rows = rows.take(pc.sort_indices(rows, [("CreationTime", "ascending")]))
            self._parts.append(self._put_part(table, day, rows))
        self._rows.clear()
        self._held_bytes = 0

    def _put_part(self, table: str, day: date, rows: pa.Table) -> _Part:
        name = layout.new_name()
        key = layout.audit_file(table, self._lake.tenant, day, name)
        ref = self._put(key, f"{name}.parquet", write_parquet(rows), len(rows))
        return _Part(table, day, ref, keys_of(rows["Id"].combine_chunks()))

    def _put(self, key: str, name: str, data: bytes | memoryview, rows: int) -> FileRef:
        staged = layout.staged(self._lake.tenant, name)
        self._lake.storage.put(staged, data)
        return FileRef(key, staged, rows, len(data), sha256(data).hexdigest())

    def commit(self) -> Landing | None:
        """Commits the unit and publishes its files; None where others had landed all of it before."""
        if self._waiting.records:
            self._decode()
        self._stage()
        with self._lake.ledger.lock:
            entry = self._lake.ledger.append(self._entry)
            if not isinstance(entry, Landing):
                return None
            for part in self._parts:
                self._lake.committed.add(part.keys)
        self._lake.publish(entry.files)
        return entry

    def _entry(self, state: State) -> Entry | None:
        """Makes the entry that is right after `state`."""
        if state.version != self._checked:
            self._check_again(state)
            self._checked = state.version
        rejected = self._put_rejects()
        lost = [b for b in self._lost.values() if not state.is_settled(b.content_id)]
        if not self._landed and not lost:
            return None
        return Landing(
            run=self._run,
            at=datetime.now(UTC),
            content_type=self._content_type,
            blobs=[_outcome(c) for c in self._landed.values()] + lost,
            files=[p.ref for p in self._parts] + rejected,
            drift=[DriftCount(*d, count) for d, count in sorted(self._drift.items())],
        )

    def _put_rejects(self) -> list[FileRef]:
        """Stages the rejected records, anew where blobs were dropped since the last time."""
        rejects = [r for c in self._landed.values() for r in c.rejects]
        if self._rejects and self._rejects.rows != len(rejects):
            self._lake.storage.delete(self._rejects.staged)
            self._rejects = None
        if rejects and self._rejects is None:
            name = layout.new_name()
            key = layout.rejected_file(self._lake.tenant, name)
            self._rejects = self._put(key, f"{name}.avro", write_rejected(rejects), len(rejects))
        return [self._rejects] if self._rejects else []

    def _check_again(self, state: State) -> None:
        """Drops blobs and rows that others have committed since this unit looked."""
        others = [c for c in self._landed if state.has_landed(c)]  # what expired for others is still ours to land
        for content_id in others:
            del self._landed[content_id]
        self._lake.committed.cover(state, {(p.table, p.day.isoformat()) for p in self._parts})
        checked = []
        for part in self._parts:
            known = self._lake.committed.holds(part.keys)
            checked += self._rewrite(part, known, others) if others or known.any() else [part]
        self._parts = checked

    def _rewrite(self, part: _Part, known: np.ndarray, others: list[str]) -> list[_Part]:
        """Stages a part anew without the rows that others have; no part where none is left."""
        rows = read_committed(self._lake.storage, part.ref)
        theirs = pc.is_in(rows["_content_id"], pa.array(others, pa.string())).to_numpy()
        for content_id in rows["_content_id"].filter(pa.array(known & ~theirs)).to_pylist():
            self._landed[content_id].rows -= 1
            self._landed[content_id].duplicates += 1
        kept = rows.filter(pa.array(~known & ~theirs))
        if len(kept) == len(rows):
            return [part]
        self._lake.storage.delete(part.ref.staged)
        return [self._put_part(part.table, part.day, kept)] if len(kept) else []


def _outcome(counts: _Counts) -> BlobOutcome:
    return BlobOutcome(
        content_id=counts.blob.content_id,
        created=counts.blob.content_created,
        status=LANDED,
        records=counts.records,
        rows=counts.rows,
        duplicates=counts.duplicates,
        rejects=len(counts.rejects),
    )
