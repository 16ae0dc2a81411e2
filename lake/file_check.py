"""Checks the files that ledger entries name: present, unchanged, and holding what the entry counts."""

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout
from lake.entries import LANDED, FileRef, Landing
from lake.ids import IdSet, first_of_each, keys_of
from lake.rejected import read_rejected
from lake.storage import Storage
from lake.verification import Problem

SHOWN_IDS = 10


class FileCheck:
    """Checks one tenant's files, entry after entry. Every file is read once and let go."""

    def __init__(self, storage: Storage, tenant: str) -> None:
        self._storage = storage
        self._tenant = tenant
        self._ids = IdSet()
        self._repeated: list[str] = []
        self._repeats = 0
        self.files = 0
        self.bytes = 0

    def check(self, where: str, entry: Landing) -> Iterator[Problem]:
        """Yields what is wrong with the files and the counts of the entry that stands at `where`."""
        held: dict[str, Counter[str]] = {"rows": Counter(), "rejects": Counter()}
        whole = True
        for ref in entry.files:
            problems = list(self._check_file(ref, held))
            whole = whole and not any(p.what != UNPUBLISHED for p in problems)
            yield from problems
        for blob in entry.blobs:
            told = blob.rows + blob.duplicates + blob.rejects
            if blob.records != told:
                what = f"blob {blob.content_id!r} held {blob.records:,} records, but {told:,} are accounted for"
                yield Problem(where, what)
        if whole:
            yield from (Problem(where, what) for what in _miscounts(entry, held))

    def _check_file(self, ref: FileRef, held: dict[str, Counter[str]]) -> Iterator[Problem]:
        data, published = self._read(ref)
        if data is None:
            yield Problem(ref.key, "is missing: restore it, the ledger says that it was committed")
            return
        self.files += 1
        self.bytes += len(data)
        if not published:
            yield Problem(ref.key, UNPUBLISHED)
        if len(data) != ref.size:
            yield Problem(ref.key, f"has {len(data):,} bytes, the ledger says {ref.size:,}: restore it")
        elif sha256(data).hexdigest() != ref.sha256:
            yield Problem(ref.key, "was changed: its SHA-256 is not the one in the ledger; restore it")
        else:
            yield from self._count(ref, data, held)

    def _read(self, ref: FileRef) -> tuple[bytes | None, bool]:
        for key in (ref.key, ref.staged, ref.key):  # it may be published between the first look and the second
            try:
                return self._storage.get(key), key == ref.key
            except FileNotFoundError:
                continue
        return None, False

    def _count(self, ref: FileRef, data: bytes, held: dict[str, Counter[str]]) -> Iterator[Problem]:
        where = layout.partition_of(ref.key)
        try:
            counts = self._count_rows(data) if where else Counter(r.content_id for r in read_rejected(data))
        except (pa.ArrowException, ValueError, KeyError, OSError) as error:
            yield Problem(ref.key, f"cannot be read: {error}")
            return
        if counts.total() != ref.rows:
            yield Problem(ref.key, f"holds {counts.total():,} rows, the ledger says {ref.rows:,}")
        if layout.tenant_of(ref.key) != self._tenant:
            yield Problem(ref.key, f"lies in another tenant's folder, but the ledger of {self._tenant} names it")
        held["rows" if where else "rejects"].update(counts)

    def _count_rows(self, data: bytes) -> Counter[str]:
        rows = pq.ParquetFile(pa.BufferReader(data)).read(["Id", "_content_id"])
        ids = rows["Id"].combine_chunks()
        keys = keys_of(ids)
        again = np.flatnonzero(self._ids.holds(keys) | ~first_of_each(keys))
        self._ids.add(keys)
        self._repeats += len(again)
        names = [*self._repeated, *ids.take(pa.array(again[:SHOWN_IDS])).to_pylist()]
        self._repeated = list(dict.fromkeys(names))[:SHOWN_IDS]
        tally = rows["_content_id"].value_counts().to_pylist()
        return Counter({row["values"]: row["counts"] for row in tally})

    def repeated(self) -> Iterator[Problem]:
        """Yields the Ids that more than one row has."""
        if self._repeats:
            what = f"{self._repeats:,} rows repeat an Id that stands before them, such as {', '.join(self._repeated)}"
            yield Problem(f"tenant {self._tenant}", what)


UNPUBLISHED = "is committed but not yet published; any next run finishes it"


def _miscounts(entry: Landing, held: dict[str, Counter[str]]) -> Iterator[str]:
    """Compares what the files of an entry hold of each blob with what its outcome says."""
    for name, counts in held.items():
        told = {b.content_id: getattr(b, name) for b in entry.blobs if b.status == LANDED}
        for content_id in sorted(told.keys() | counts.keys()):
            if counts[content_id] != told.get(content_id, 0):
                yield (
                    f"blob {content_id!r}: its files hold {counts[content_id]:,} {name}, "
                    f"the entry says {told.get(content_id, 0):,}"
                )
