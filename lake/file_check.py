"""Checks the files that a ledger names: present, unchanged, and what they hold of each blob."""

from collections import Counter
from collections.abc import Collection, Iterator
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout
from lake.entries import FileRef
from lake.ids import IdSet, first_of_each, keys_of
from lake.rejected import WHOLE_BODY, read_rejected
from lake.storage import Storage
from lake.verification import Problem

SHOWN_IDS = 10


class FileCheck:
    """Checks one tenant's files. Every file is read once and let go.

    `rows`, `rejects` and `bodies` count what the files hold of each blob; of blobs in `unsure` something could not be
    read, or of all of them where it is None. `missing` are files that are not there.
    """

    def __init__(self, storage: Storage, tenant: str) -> None:
        self._storage = storage
        self._tenant = tenant
        self._ids = IdSet()
        self._repeated: list[str] = []
        self._repeats = 0
        self.files = 0
        self.bytes = 0
        self.rows: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        self.unsure: set[str] | None = set()
        self.missing: set[str] = set()

    def check(self, ref: FileRef, blobs: Collection[str] | None) -> Iterator[Problem]:
        """Yields what is wrong with a file; `blobs` are the content ids it may hold rows of, None where any."""
        data, published = self._read(ref)
        problems = list(self._check_data(ref, data))
        if problems and self.unsure is not None:
            self.unsure = None if blobs is None else self.unsure.union(blobs)
        yield from problems
        if data is not None and not published:
            yield Problem(ref.key, "is committed but not yet published; any next run finishes it")

    def _check_data(self, ref: FileRef, data: bytes | None) -> Iterator[Problem]:
        if data is None:
            self.missing.add(ref.key)
            yield Problem(ref.key, "is missing: restore it, the ledger says that it was committed")
            return
        self.files += 1
        self.bytes += len(data)
        if layout.tenant_of(ref.key) != self._tenant:
            yield Problem(ref.key, f"lies in another tenant's folder, but the ledger of {self._tenant} names it")
        elif len(data) != ref.size:
            yield Problem(ref.key, f"has {len(data):,} bytes, the ledger says {ref.size:,}: restore it")
        elif sha256(data).hexdigest() != ref.sha256:
            yield Problem(ref.key, "was changed: its SHA-256 is not the one in the ledger; restore it")
        else:
            yield from self._count(ref, data)

    def _read(self, ref: FileRef) -> tuple[bytes | None, bool]:
        for key in (ref.key, ref.staged, ref.key):  # it may be published between the first look and the second
            try:
                return self._storage.get(key), key == ref.key
            except FileNotFoundError:
                continue
        return None, False

    def _count(self, ref: FileRef, data: bytes) -> Iterator[Problem]:
        try:
            held = self._count_rows(data) if layout.partition_of(ref.key) else self._count_rejects(data)
        except (pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            yield Problem(ref.key, f"cannot be read: {error}")
            return
        if held != ref.rows:
            yield Problem(ref.key, f"holds {held:,} rows, the ledger says {ref.rows:,}")

    def _count_rejects(self, data: bytes) -> int:
        held = 0
        for record in read_rejected(data):
            (self.bodies if record.position == WHOLE_BODY else self.rejects)[record.content_id] += 1
            held += 1
        return held

    def _count_rows(self, data: bytes) -> int:
        rows = pq.ParquetFile(pa.BufferReader(data)).read(["Id", "_content_id"], use_threads=False)
        ids = rows["Id"].combine_chunks()
        keys = keys_of(ids)
        again = np.flatnonzero(self._ids.holds(keys) | ~first_of_each(keys))
        self._ids.add(keys)
        self._repeats += len(again)
        names = [*self._repeated, *ids.take(pa.array(again[:SHOWN_IDS])).to_pylist()]
        self._repeated = list(dict.fromkeys(names))[:SHOWN_IDS]
        for tally in rows["_content_id"].value_counts().to_pylist():
            self.rows[tally["values"]] += tally["counts"]
        return len(rows)

    def repeated(self) -> Iterator[Problem]:
        """Yields the Ids that more than one row has."""
        if self._repeats:
            what = f"{self._repeats:,} rows repeat an Id that stands before them, such as {', '.join(self._repeated)}"
            yield Problem(f"tenant {self._tenant}", what)
