"""The Ids of records that a tenant's lake already holds, read from its committed files as they are needed."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout
from lake.entries import FileRef, FileState, State
from lake.ids import IdSet, keys_of
from lake.storage import LakeError, Storage
from schemas.contract import limits

Partition = tuple[str, str]
"""Table name and date (ISO)."""


class CommittedIds:
    """Ids of the committed rows that a new record could repeat.

    A repeat has the same CreationTime, so the same table and date; files of that partition are looked at. All files
    that were committed while the service may still hold their blobs are looked at too, whatever their partition.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._ids = IdSet()
        self._seen = 0
        self._older: defaultdict[Partition, list[FileRef]] = defaultdict(list)

    def cover(self, state: State, partitions: Iterable[Partition]) -> None:
        """Reads what is still missing for records of these partitions."""
        recent = datetime.now(UTC) - timedelta(seconds=2 * limits()["retention"])
        for file in islice(state.files.values(), self._seen, None):
            self._sort_in(file, recent)
        self._seen = len(state.files)
        for partition in partitions:
            for ref in self._older.get(partition, ()):
                self._ids.add(read_keys(self._storage, ref))
            self._older.pop(partition, None)  # only now: a read that failed must be tried again

    def _sort_in(self, file: FileState, recent: datetime) -> None:
        where = layout.partition_of(file.ref.key)
        if where is None:
            return
        if file.at >= recent:
            self._ids.add(read_keys(self._storage, file.ref))
        else:
            self._older[where[0], where[2]].append(file.ref)

    def add(self, keys: np.ndarray) -> None:
        """Adds the keys of a file that was just committed here, in the order of the ledger."""
        self._ids.add(keys)
        self._seen += 1

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Tells of each key whether a committed row has it."""
        return self._ids.holds(keys)


def read_keys(storage: Storage, ref: FileRef) -> np.ndarray:
    """Reads the Id keys of a committed file, wherever its publishing stands."""
    return keys_of(read_committed(storage, ref, ["Id"])["Id"].combine_chunks())


def read_committed(storage: Storage, ref: FileRef, columns: list[str] | None = None) -> pa.Table:
    """Reads a committed file under its final name, or under its staged one while it is not yet published.

    Raises:
      LakeError: It is under neither.
    """
    for key in (ref.key, ref.staged, ref.key):  # it may be published between the first look and the second
        try:
            source = storage.open(key)
        except FileNotFoundError:
            continue
        with source:
            try:
                return pq.ParquetFile(source).read(columns)
            except (pa.ArrowException, OSError) as error:
                raise LakeError(f"committed file {key!r} in {storage.uri!r} cannot be read: {error}") from error
    raise LakeError(f"committed file {ref.key!r} is gone from the lake {storage.uri!r}: restore it before going on")
