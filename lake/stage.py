"""Records on their way into the lake: decode, drop what is known, stage files, and keep what does not fit.

records ── decode many at once ── drop known Ids ── rows by table and date ── staged files
                  │                     └─ compare with what came first: a duplicate, or a conflict ┐
                  └─ broken ────────────────────────────────────────────────────────────────────────┴─ rejects
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import sha256
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import layout
from lake.committed import GoneError, read_committed, read_rows_of
from lake.entries import LANDED, BlobOutcome, DriftCount, FileRef
from lake.ids import IdSet, first_of_each, keys_of
from lake.rejected import RejectedRecord, write_rejected
from lake.repeats import differing
from lake.rows import cut_by_day, days_in, micros_of, taken, with_content, write_parquet
from lake.tenant import CHANGES_AT_ONCE, TenantLake
from schemas.decode import Drift, RawRecord, RawRecords, Reject, decode_records
from schemas.feed import ContentBlob

CHUNK_RECORDS = 32768
CHUNK_BYTES = 48 * 1024 * 1024
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
class _Held:
    """Decoded rows of one table that wait to be staged: their keys, times, and the numbers of their blobs.

    The rows of a stage are numbered as they come; the first here is `start`.
    """

    table: str
    start: int
    rows: pa.RecordBatch
    keys: np.ndarray
    micros: np.ndarray
    owners: np.ndarray
    fresh: np.ndarray


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
    """Records that wait to be decoded together: whose each piece is, and where in its blob it begins and ends."""

    records: RawRecords = field(default_factory=RawRecords)
    blobs: list[BlobCounts] = field(default_factory=list)
    places: list[np.ndarray] = field(default_factory=list)


class Stage:
    """Records that are to be committed together. Not shared between threads."""

    def __init__(self, lake: TenantLake) -> None:
        self._lake = lake
        self._waiting = _Waiting()
        self._drift: Counter[Drift] = Counter()
        self._ids = IdSet()
        self._blobs: list[BlobCounts] = []  # as often as there were pieces of them
        self._held: list[_Held] = []
        self._numbered = 0
        self._repeats: list[_Repeats] = []
        self._held_bytes = 0
        self._parts: list[_Part] = []
        self._rejects: tuple[Sequence[RejectedRecord], FileRef] | None = None

    def add(self, counts: BlobCounts, raws: Sequence[RawRecord], start: int = 0) -> None:
        """Takes records of a blob; the first of them stands at `start` in it."""
        for first in range(0, len(raws), CHUNK_RECORDS):
            waiting = self._waiting
            piece = raws[first : first + CHUNK_RECORDS] if len(raws) > CHUNK_RECORDS else raws
            waiting.records.add(piece)
            waiting.blobs.append(counts)
            waiting.places.append(np.arange(len(piece)) + start + first)
            if len(waiting.records) >= CHUNK_RECORDS or waiting.records.text.size_bytes >= CHUNK_BYTES:
                self._decode()

    def _decode(self) -> None:
        """Decodes what waits, and keeps the rows that are new."""
        waiting, self._waiting = self._waiting, _Waiting()
        owners = np.repeat(np.arange(len(waiting.places)), [len(p) for p in waiting.places]) + len(self._blobs)
        self._blobs += waiting.blobs
        places = np.concatenate(waiting.places)
        decoded = decode_records(waiting.records)
        self._drift += decoded.drift
        for reject in decoded.rejects:
            counts = self._blobs[owners[reject.position]]
            self._reject(counts, replace(reject, position=int(places[reject.position])))
        copies = np.flatnonzero(decoded.firsts != np.arange(len(owners)))
        for table, batch, own in decoded.batches:
            rows = np.full(len(owners), -1)
            rows[own] = np.arange(len(own))
            at = np.concatenate([own, copies[rows[decoded.firsts[copies]] >= 0]])
            self._keep(table, batch, rows[decoded.firsts[at]], owners[at], places[at])
        if self._held_bytes > HELD_BYTES:
            self._put_parts()

    def _reject(self, counts: BlobCounts, reject: Reject) -> None:
        counts.rejects.append(RejectedRecord.of(self._lake.tenant, counts.blob, reject))

    def _keep(
        self, table: str, batch: pa.RecordBatch, rows: np.ndarray, owners: np.ndarray, places: np.ndarray
    ) -> None:
        """Keeps the new rows of a batch: `rows` names the row of each record, those with one of their own first."""
        keys, micros = keys_of(batch["Id"]), micros_of(batch)
        own = len(keys)
        fresh = self._fresh(table, keys, micros)
        lands = fresh[rows]
        lands[own:] = False
        for numbers, name in ((owners[lands], "rows"), (owners[~lands], "duplicates")):
            for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
                counts = self._blobs[number]
                setattr(counts, name, getattr(counts, name) + int(count))
        held = _Held(table, self._numbered, batch, keys, micros, owners[:own], fresh)
        self._ids.add(keys[fresh], held.start + np.flatnonzero(fresh))
        self._held.append(held)
        self._held_bytes += batch.nbytes
        self._numbered += len(keys)
        if not fresh.all():
            again = np.flatnonzero(~fresh[rows])  # what copies a new row need not be compared with it
            whose = [self._blobs[n] for n in owners[again]]
            repeated = pa.Table.from_batches([batch]).take(rows[again])
            self._compare_with_held(_Repeats(table, repeated, keys[rows[again]], places[again], whose))

    def _fresh(self, table: str, keys: np.ndarray, micros: np.ndarray) -> np.ndarray:
        """Marks the rows whose Ids neither the lake nor this stage has yet."""
        with self._lake.ledger.lock:
            self._lake.committed.cover(self._lake.ledger, {(table, d.isoformat()) for d in days_in(micros)})
            known = self._lake.committed.holds(keys)
        fresh: np.ndarray = first_of_each(keys) & ~known & ~self._ids.holds(keys)
        return fresh

    def flush(self) -> None:
        """Decodes and stages all that was added."""
        if len(self._waiting.records):
            self._decode()
        self._put_parts()

    def _put_parts(self) -> None:
        """Writes the held rows as staged files, and compares the repeats of rows that are no longer held."""
        held: defaultdict[str, list[_Held]] = defaultdict(list)
        for one in self._held:
            held[one.table].append(one)
        self._held, self._held_bytes = [], 0
        pieces = chain.from_iterable(self._pieces(*held.popitem()) for _ in range(len(held)))
        with ThreadPoolExecutor(CHANGES_AT_ONCE, thread_name_prefix="put") as pool:
            # Where one fails, those that have not begun are not begun.
            self._parts += pool.map(lambda piece: self._put_part(*piece), pieces)
        repeats, self._repeats = self._repeats, []
        for some in repeats:
            self._compare_with_files(some)

    def _pieces(self, table: str, held: Sequence[_Held]) -> Iterator[tuple[str, date, pa.Table, np.ndarray]]:
        """Yields the new rows of a table in the order of their times, day by day, with their keys."""
        fresh = np.flatnonzero(np.concatenate([h.fresh for h in held]))
        micros = np.concatenate([h.micros for h in held])[fresh]
        order = np.argsort(micros, kind="stable")
        chosen = fresh[order]
        keys = np.concatenate([h.keys for h in held])[chosen]
        owners = np.concatenate([h.owners for h in held])[chosen]
        rows = taken(pa.Table.from_batches([h.rows for h in held]), chosen)
        rows = with_content(table, rows, owners, [c.blob for c in self._blobs])
        for day, some in cut_by_day(micros[order]):
            yield table, day, rows[some], keys[some]

    def _put_part(self, table: str, day: date, rows: pa.Table, keys: np.ndarray) -> _Part:
        """Writes rows as a staged file."""
        name = layout.new_name()
        key = layout.audit_file(table, self._lake.tenant, day, name)
        return _Part(table, day, self.put(key, f"{name}.parquet", write_parquet(rows), len(rows)), keys)

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

    def _compare_with_held(self, repeats: _Repeats) -> None:
        """Compares repeats with the held rows that came first; those of other rows wait for a look at files."""
        numbers = self._ids.owners(repeats.keys)
        where = np.searchsorted([h.start for h in self._held], numbers, "right") - 1
        found = np.unique(where)
        for n in found:
            places = np.flatnonzero(where == n)
            some = repeats if len(found) == 1 else repeats.take(places)
            if n < 0:
                self._repeats.append(some)
                self._held_bytes += some.rows.nbytes
            else:
                held = self._held[n]
                first = pa.Table.from_batches([held.rows]).take(numbers[places] - held.start)
                self._compare(some, held.table, first)

    def _compare_with_files(self, repeats: _Repeats) -> None:
        """Compares repeats with rows of the lake, or of files that were staged before."""
        with self._lake.ledger.lock:
            files = self._lake.committed.files_of(repeats.keys)
        for ref, places in files.values():
            try:
                self._compare_with_file(repeats.take(places), ref)
            except GoneError:
                with self._lake.ledger.lock:
                    if not self._lake.committed.replaced(self._lake.ledger, ref, repeats.keys[places]):
                        raise
                self._compare_with_files(repeats.take(places))
        held = np.concatenate([places for _, places in files.values()]) if files else np.array([], int)
        rest = repeats.take(np.setdiff1d(np.arange(len(repeats.keys)), held))
        if not len(rest.keys):
            return
        for part in self._parts:
            if (places := np.flatnonzero(np.isin(rest.keys, part.keys))).size:
                self._compare_with_file(rest.take(places), part.ref)

    def _compare_with_file(self, repeats: _Repeats, ref: FileRef) -> None:
        where = layout.partition_of(ref.key)
        assert where is not None, "only rows have Ids"  # noqa: S101
        rows = read_rows_of(self._lake.storage, ref, repeats.keys)
        keys = keys_of(rows["Id"].combine_chunks())
        order = np.argsort(keys)
        at = np.minimum(np.searchsorted(keys, repeats.keys, sorter=order), len(keys) - 1)
        hit = keys[order[at]] == repeats.keys
        self._compare(repeats.take(np.flatnonzero(hit)), where[0], rows.take(order[at[hit]]))

    def _compare(self, repeats: _Repeats, table: str, first: pa.Table) -> None:
        """Makes conflicts of the repeats that differ from the row that came first under their Id."""
        for place, text in differing(repeats.table, repeats.rows, table, first):
            counts = repeats.owners[place]
            counts.duplicates -= 1
            counts.conflicts += 1
            self._reject(counts, Reject(int(repeats.positions[place]), CONFLICT, text.encode()))

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
        return [self._put_part(part.table, part.day, kept, part.keys[~known & ~theirs])] if len(kept) else []

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
