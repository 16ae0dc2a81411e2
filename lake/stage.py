"""Records on their way into the lake: decode, drop what is known, stage files, and keep what does not fit.

records ── decode many at once ── drop known Ids ── rows by table and date ── staged files
                  │                     └─ compare with what came first: a duplicate, or a conflict ┐
                  └─ broken ────────────────────────────────────────────────────────────────────────┴─ rejects
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import layout
from lake.committed import read_committed
from lake.entries import LANDED, BlobOutcome, DriftCount, FileRef
from lake.ids import IdSet, first_of_each, keys_of
from lake.rejected import RejectedRecord, write_rejected
from lake.repeats import differing, record_text
from lake.rows import by_day, days_of, with_content, write_parquet
from lake.tenant import TenantLake
from schemas.decode import Drift, RawRecord, Reject, decode_records
from schemas.feed import ContentBlob
from schemas.model import tables

CHUNK_RECORDS = 8192
CHUNK_BYTES = 16 * 1024 * 1024
HELD_BYTES = 96 * 1024 * 1024
CONFLICT = "conflict"


@dataclass(slots=True)
class BlobCounts:
    """Counts of one blob while its records are staged, and those of its records that did not fit."""

    blob: ContentBlob
    records: int
    rows: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejects: list[RejectedRecord] = field(default_factory=list)

    def outcome(self) -> BlobOutcome:
        """Gives them as an entry tells them."""
        return BlobOutcome(
            content_id=self.blob.content_id,
            created=self.blob.content_created,
            status=LANDED,
            records=self.records,
            rows=self.rows,
            duplicates=self.duplicates,
            rejects=len(self.rejects),
            conflicts=self.conflicts,
        )


@dataclass(slots=True)
class _Part:
    """A staged Parquet file and the keys of its rows, in their order."""

    table: str
    day: date
    ref: FileRef
    keys: np.ndarray


@dataclass(slots=True)
class _Repeats:
    """Rows of one table that repeat an Id, their places in their blobs, and whose they are."""

    table: str
    rows: pa.Table
    keys: np.ndarray
    positions: np.ndarray
    owners: list[BlobCounts]

    def take(self, places: np.ndarray) -> "_Repeats":
        """Gives some of them."""
        owners = [self.owners[n] for n in places]
        return _Repeats(self.table, self.rows.take(places), self.keys[places], self.positions[places], owners)


@dataclass(slots=True)
class _Waiting:
    """Records that wait to be decoded together: whose they are, and where in its blob each piece begins."""

    blobs: list[BlobCounts] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    pieces: list[Sequence[RawRecord]] = field(default_factory=list)
    records: int = 0
    size_bytes: int = 0


class Stage:
    """Records that are to be committed together. Not shared between threads."""

    def __init__(self, lake: TenantLake) -> None:
        self._lake = lake
        self._waiting = _Waiting()
        self._drift: Counter[Drift] = Counter()
        self._ids = IdSet()
        self._rows: defaultdict[tuple[str, date], list[pa.RecordBatch]] = defaultdict(list)
        self._repeats: list[_Repeats] = []
        self._held_bytes = 0
        self._parts: list[_Part] = []
        self._rejects: tuple[Sequence[RejectedRecord], FileRef] | None = None

    def add(self, counts: BlobCounts, raws: Sequence[RawRecord], size_bytes: int, start: int = 0) -> None:
        """Takes records of a blob; the first of them stands at `start` in it."""
        for first in range(0, len(raws), CHUNK_RECORDS):
            piece = raws[first : first + CHUNK_RECORDS]
            self._waiting.blobs.append(counts)
            self._waiting.starts.append(start + first)
            self._waiting.pieces.append(piece)
            self._waiting.records += len(piece)
            self._waiting.size_bytes += size_bytes * len(piece) // len(raws)
            if self._waiting.records >= CHUNK_RECORDS or self._waiting.size_bytes >= CHUNK_BYTES:
                self._decode()

    def _decode(self) -> None:
        """Decodes what waits, and keeps the rows that are new."""
        waiting, self._waiting = self._waiting, _Waiting()
        lengths = [len(p) for p in waiting.pieces]
        owners = np.repeat(np.arange(len(lengths)), lengths)
        places = np.concatenate([np.arange(n) + s for n, s in zip(lengths, waiting.starts, strict=True)])
        decoded = decode_records([r for p in waiting.pieces for r in p])
        self._drift += decoded.drift
        for reject in decoded.rejects:
            counts = waiting.blobs[owners[reject.position]]
            self._reject(counts, replace(reject, position=int(places[reject.position])))
        for table, batch, at in decoded.batches:
            self._keep(table, batch, owners[at], places[at], waiting.blobs)
        if self._held_bytes > HELD_BYTES:
            self._put_parts()

    def _reject(self, counts: BlobCounts, reject: Reject) -> None:
        counts.rejects.append(RejectedRecord.of(self._lake.tenant, counts.blob, reject))

    def _keep(
        self, table: str, batch: pa.RecordBatch, owners: np.ndarray, places: np.ndarray, blobs: list[BlobCounts]
    ) -> None:
        keys = keys_of(batch["Id"])
        fresh = self._fresh(table, batch, keys)
        for counts, rows, records in zip(
            blobs,
            np.bincount(owners[fresh], minlength=len(blobs)),
            np.bincount(owners, minlength=len(blobs)),
            strict=True,
        ):
            counts.rows += int(rows)
            counts.duplicates += int(records - rows)
        batch = with_content(table, batch, owners, [c.blob for c in blobs])
        if not fresh.all():
            again = batch.filter(pa.array(~fresh))
            whose = [blobs[n] for n in owners[~fresh]]
            self._hold_repeats(_Repeats(table, pa.table(again), keys[~fresh], places[~fresh], whose))
            batch = batch.filter(pa.array(fresh))
        for day, rows in by_day(batch):
            self._rows[table, day].append(rows)
            self._held_bytes += rows.nbytes

    def _hold_repeats(self, repeats: _Repeats) -> None:
        self._repeats.append(repeats)
        self._held_bytes += repeats.rows.nbytes

    def _fresh(self, table: str, batch: pa.RecordBatch, keys: np.ndarray) -> np.ndarray:
        """Marks the rows whose Ids neither the lake nor this stage has yet."""
        with self._lake.ledger.lock:
            days = {(table, d.isoformat()) for d in days_of(batch)}
            self._lake.committed.cover(self._lake.ledger, days)
            known = self._lake.committed.holds(keys)
        known |= self._ids.holds(keys) | ~first_of_each(keys)
        self._ids.add(keys)
        return ~known

    def flush(self) -> None:
        """Decodes and stages all that was added."""
        if self._waiting.records:
            self._decode()
        self._put_parts()

    def _put_parts(self) -> None:
        """Writes the held rows as staged files, and compares the held repeats."""
        repeats, self._repeats = self._repeats, []
        for (table, day), batches in self._rows.items():
            rows = pa.Table.from_batches(batches)
            rows = rows.take(pc.sort_indices(rows, [("CreationTime", "ascending")]))
            part = self._put_part(table, day, rows)
            self._parts.append(part)
            repeats = [left for r in repeats for left in self._compare(r, table, rows, part.keys)]
        self._rows.clear()
        self._held_bytes = 0
        for left in repeats:
            self._compare_with_files(left)

    def _put_part(self, table: str, day: date, rows: pa.Table) -> _Part:
        name = layout.new_name()
        key = layout.audit_file(table, self._lake.tenant, day, name)
        ref = self.put(key, f"{name}.parquet", write_parquet(rows), len(rows))
        return _Part(table, day, ref, keys_of(rows["Id"].combine_chunks()))

    def put(self, key: str, name: str, data: bytes | memoryview, rows: int) -> FileRef:
        """Stages a file that is to be `key`."""
        staged = layout.staged(self._lake.tenant, name)
        self._lake.storage.put(staged, data)
        return FileRef(key, staged, rows, len(data), sha256(data).hexdigest())

    def put_rejects(self, rejects: Sequence[RejectedRecord]) -> FileRef:
        """Stages records that did not fit."""
        name = layout.new_name()
        key = layout.rejected_file(self._lake.tenant, name)
        return self.put(key, f"{name}.avro", write_rejected(rejects), len(rejects))

    def rejects_file(self, rejects: Sequence[RejectedRecord]) -> list[FileRef]:
        """Gives the staged file of all that did not fit; staged anew where that is not what it was the last time."""
        if self._rejects is None or self._rejects[0] != rejects:
            if self._rejects is not None:
                self._lake.storage.delete(self._rejects[1].staged)
            self._rejects = (rejects, self.put_rejects(rejects)) if rejects else None
        return [self._rejects[1]] if self._rejects else []

    def discard(self) -> None:
        """Takes back what was staged."""
        for ref in (*self.files, *self.rejects_file([])):
            self._lake.storage.delete(ref.staged)

    def _compare_with_files(self, repeats: _Repeats) -> None:
        """Compares repeats with rows of the lake, or of files that were staged before."""
        with self._lake.ledger.lock:
            files = self._lake.committed.files_of(repeats.keys)
        for ref, places in files.values():
            self._compare_with_file(repeats.take(places), ref)
        held = np.concatenate([places for _, places in files.values()]) if files else np.array([], int)
        rest = repeats.take(np.setdiff1d(np.arange(len(repeats.keys)), held))
        for part in self._parts:
            if (places := np.flatnonzero(np.isin(rest.keys, part.keys))).size:
                self._compare_with_file(rest.take(places), part.ref)

    def _compare_with_file(self, repeats: _Repeats, ref: FileRef) -> None:
        where = layout.partition_of(ref.key)
        assert where is not None, "only rows have Ids"  # noqa: S101
        rows = read_committed(self._lake.storage, ref)
        list(self._compare(repeats, where[0], rows, keys_of(rows["Id"].combine_chunks())))

    def _compare(self, repeats: _Repeats, table: str, rows: pa.Table, keys: np.ndarray) -> Iterator[_Repeats]:
        """Makes conflicts of the repeats that differ from their row in `rows`; yields those that have none there."""
        order = np.argsort(keys, kind="stable")
        at = np.minimum(np.searchsorted(keys, repeats.keys, sorter=order), len(keys) - 1)
        hit = keys[order[at]] == repeats.keys
        mine = repeats.take(np.flatnonzero(hit))
        for place in differing(mine.table, mine.rows, table, rows.take(order[at[hit]])):
            counts = mine.owners[place]
            text = record_text(tables()[mine.table], mine.rows.slice(place, 1))
            counts.duplicates -= 1
            counts.conflicts += 1
            self._reject(counts, Reject(int(mine.positions[place]), CONFLICT, text.encode()))
        if not hit.all():
            yield repeats.take(np.flatnonzero(~hit))

    def cover(self) -> None:
        """Makes sure that all committed Ids that the staged rows could repeat are known."""
        self._lake.committed.cover(self._lake.ledger, {(p.table, p.day.isoformat()) for p in self._parts})

    def check_again(self, dropped: Collection[str], counts: dict[str, BlobCounts]) -> None:
        """Drops the blobs that others have landed meanwhile, and makes duplicates of rows that others have committed.

        Args:
          dropped: Content ids of the blobs to drop.
          counts: Those of the blobs that stay.
        """
        checked = []
        for part in self._parts:
            known = self._lake.committed.holds(part.keys)
            checked += self._rewrite(part, known, dropped, counts) if dropped or known.any() else [part]
        self._parts = checked

    def _rewrite(
        self, part: _Part, known: np.ndarray, dropped: Collection[str], counts: dict[str, BlobCounts]
    ) -> list[_Part]:
        """Stages a part anew without the rows that others have; no part where none is left."""
        rows = read_committed(self._lake.storage, part.ref)
        theirs = pc.is_in(rows["_content_id"], pa.array(list(dropped), pa.string())).to_numpy()
        kept = rows.filter(pa.array(~known & ~theirs))
        if len(kept) == len(rows):
            return [part]
        again = np.flatnonzero(known & ~theirs)
        owners = [counts[i] for i in rows["_content_id"].take(again).to_pylist()]
        for owner in owners:
            owner.rows -= 1
            owner.duplicates += 1
        # Where in its blob a staged row stood is not known any more.
        self._compare_with_files(
            _Repeats(part.table, rows.take(again), part.keys[again], np.zeros(len(again), int), owners)
        )
        self._lake.storage.delete(part.ref.staged)
        return [self._put_part(part.table, part.day, kept)] if len(kept) else []

    @property
    def files(self) -> list[FileRef]:
        """The staged files of rows."""
        return [p.ref for p in self._parts]

    @property
    def keys(self) -> list[tuple[FileRef, np.ndarray]]:
        """The staged files of rows with the keys of their Ids."""
        return [(p.ref, p.keys) for p in self._parts]

    @property
    def drift(self) -> list[DriftCount]:
        """What was seen that the schemas do not declare."""
        return [DriftCount(*d, count) for d, count in sorted(self._drift.items())]
