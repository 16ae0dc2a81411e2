"""Landing a unit: decode, stage, check, commit, publish.

add blob ── decode ── drop known Ids ── rows by table and date ── staged files
commit ──── check again against the newest ledger ── entry n+1 ── staged files move to their final names

A crash before the entry leaves staged files, which are swept; a crash after it is rolled forward by whoever comes next.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import layout
from lake.committed import CommittedIds, read_committed
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
from lake.ledger import Ledger
from lake.rejected import RejectedRecord, write_rejected
from lake.storage import Storage, open_storage
from schemas.columns import TIMESTAMP, arrow_schema
from schemas.decode import Decoded, Drift, decode_blob
from schemas.feed import ContentBlob
from schemas.model import tables

ROW_GROUP_ROWS = 128 * 1024
HELD_BYTES = 96 * 1024 * 1024
SWEEP_AGE = timedelta(hours=12)
_DAY_MICROS = 86_400_000_000


class TenantLake:
    """One tenant's part of a lake, as this process knows it; shared by its threads."""

    def __init__(self, storage: Storage, tenant: str) -> None:
        self.storage = storage
        self.tenant = tenant
        self.ledger = Ledger(storage, tenant)
        self.committed = CommittedIds(storage)

    def recover(self) -> None:
        """Finishes what a crash left committed but not published, and sweeps what can no longer be committed."""
        refs = {f.ref.staged: f.ref for f in self.ledger.state.files.values()}
        too_old = datetime.now(UTC) - SWEEP_AGE
        for stored in list(self.storage.list(layout.staged(self.tenant, ""))):
            if stored.key in refs:
                self.storage.move(stored.key, refs[stored.key].key)
            elif stored.modified < too_old:
                self.storage.delete(stored.key)


_LAKES: dict[tuple[str, str], TenantLake] = {}
_LOCK = Lock()


def open_tenant(uri: str, tenant: str) -> TenantLake:
    """Opens a tenant's part of a lake, once a process, and finishes what an earlier run left unfinished."""
    with _LOCK:
        if (uri, tenant) not in _LAKES:
            lake = TenantLake(open_storage(uri), tenant)
            lake.recover()
            _LAKES[uri, tenant] = lake
        return _LAKES[uri, tenant]


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
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: list[RejectedRecord] = field(default_factory=list)
    drift: Counter[Drift] = field(default_factory=Counter)


class Unit:
    """The landing of one unit of blobs of one feed. Not shared between threads."""

    def __init__(self, lake: TenantLake, run: str, content_type: str) -> None:
        self._lake = lake
        self._run = run
        self._content_type = content_type
        self._checked = lake.ledger.state.version
        self._landed: dict[str, _Counts] = {}
        self._lost: dict[str, BlobOutcome] = {}
        self._ids = IdSet()
        self._rows: defaultdict[tuple[str, date], list[pa.RecordBatch]] = defaultdict(list)
        self._held_bytes = 0
        self._parts: list[_Part] = []

    def add(self, blob: ContentBlob, body: bytes) -> int:
        """Decodes a blob and keeps its rows; returns how many records it held.

        Raises:
          NotAnArrayError: The body is no array of records; nothing of it was kept.
        """
        counts = _Counts(blob)
        for decoded in decode_blob(body):
            self._add_piece(counts, decoded)
        self._landed[blob.content_id] = counts
        return counts.records

    def add_failed(self, blob: ContentBlob, error: str, *, expired: bool = False) -> None:
        """Notes a blob that could not be had."""
        status = EXPIRED if expired else FAILED
        self._lost[blob.content_id] = BlobOutcome(blob.content_id, blob.content_created, status, error=error)

    def _add_piece(self, counts: _Counts, decoded: Decoded) -> None:
        counts.records += decoded.records
        counts.drift += decoded.drift
        counts.rejects += [RejectedRecord.of(self._lake.tenant, counts.blob, r) for r in decoded.rejects]
        for table, batch in decoded.batches:
            fresh = self._fresh(table, batch)
            counts.rows += len(fresh)
            counts.duplicates += len(batch) - len(fresh)
            for day, rows in _by_day(_with_content(table, fresh, counts.blob)):
                self._rows[table, day].append(rows)
                self._held_bytes += rows.nbytes
        if self._held_bytes > HELD_BYTES:
            self._stage()

    def _fresh(self, table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Gives the rows whose Ids neither the lake nor this unit has yet."""
        keys = keys_of(batch["Id"])
        with self._lake.ledger.lock:
            days = {(table, d.isoformat()) for d in _days(batch)}
            self._lake.committed.cover(self._lake.ledger.state, days)
            known = self._lake.committed.holds(keys)
        known |= self._ids.holds(keys) | ~first_of_each(keys)
        self._ids.add(keys)
        return batch.filter(pa.array(~known)) if known.any() else batch

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
        ref = self._put(key, f"{name}.parquet", _parquet(rows), len(rows))
        return _Part(table, day, ref, keys_of(rows["Id"].combine_chunks()))

    def _put(self, key: str, name: str, data: bytes | memoryview, rows: int) -> FileRef:
        staged = layout.staged(self._lake.tenant, name)
        self._lake.storage.put(staged, data)
        return FileRef(key, staged, rows, len(data), sha256(data).hexdigest())

    def commit(self) -> Landing | None:
        """Commits the unit and publishes its files; None where others had landed all of it before."""
        self._stage()
        with self._lake.ledger.lock:
            entry = self._lake.ledger.append(self._entry)
            if not isinstance(entry, Landing):
                return None
            for part in self._parts:
                self._lake.committed.add(part.keys)
        for ref in entry.files:
            self._lake.storage.move(ref.staged, ref.key)
        return entry

    def _entry(self, state: State) -> Entry | None:
        """Makes the entry that is right after `state`."""
        if state.version != self._checked:
            self._check_again(state)
            self._checked = state.version
        lost = [b for b in self._lost.values() if not state.is_settled(b.content_id)]
        if not self._landed and not lost:
            return None
        drift = sum((c.drift for c in self._landed.values()), Counter())
        return Landing(
            run=self._run,
            at=datetime.now(UTC),
            content_type=self._content_type,
            blobs=[_outcome(c) for c in self._landed.values()] + lost,
            files=[p.ref for p in self._parts] + self._put_rejects(),
            drift=[DriftCount(*d, count) for d, count in sorted(drift.items())],
        )

    def _put_rejects(self) -> list[FileRef]:
        rejects = [r for c in self._landed.values() for r in c.rejects]
        if not rejects:
            return []
        name = layout.new_name()
        key = layout.rejected_file(self._lake.tenant, name)
        return [self._put(key, f"{name}.avro", write_rejected(rejects), len(rejects))]

    def _check_again(self, state: State) -> None:
        """Drops blobs and rows that others have committed since this unit looked."""
        others = [c for c in self._landed if state.is_settled(c)]
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


def _with_content(table: str, batch: pa.RecordBatch, blob: ContentBlob) -> pa.RecordBatch:
    """Adds the columns that tell which blob a row came from."""
    ours = {
        "_content_id": pa.scalar(blob.content_id),
        "_content_created": pa.scalar(blob.content_created, TIMESTAMP),
        "_content_type": pa.scalar(blob.content_type),
    }
    schema = arrow_schema(tables()[table])
    columns = [pa.repeat(ours[f.name], len(batch)) if f.name in ours else batch[f.name] for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _day_numbers(batch: pa.RecordBatch) -> np.ndarray:
    micros: np.ndarray = batch["CreationTime"].cast(pa.int64()).to_numpy()
    return micros // _DAY_MICROS


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=int(number))


def _days(batch: pa.RecordBatch) -> list[date]:
    return [_day(n) for n in np.unique(_day_numbers(batch))]


def _by_day(batch: pa.RecordBatch) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Splits rows by the UTC date of their CreationTime."""
    numbers = _day_numbers(batch)
    for number in np.unique(numbers):
        chosen = numbers == number
        yield _day(number), batch if chosen.all() else batch.filter(pa.array(chosen))


def _parquet(rows: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP_ROWS,
        sorting_columns=[pq.SortingColumn(rows.schema.get_field_index("CreationTime"))],
        bloom_filter_options={"Id": {"ndv": len(rows), "fpp": 0.01}},
    )
    return memoryview(sink.getvalue())
