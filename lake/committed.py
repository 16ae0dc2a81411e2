"""The Ids of records that a tenant's lake already holds, read from its committed files as they are needed."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lake import layout
from lake.entries import FileRef, State
from lake.ids import IdSet, keys_of
from lake.ledger import Ledger
from lake.storage import LakeError, Storage
from schemas.contract import limits

T = TypeVar("T")
Partition = tuple[str, str]
"""Table name and date (ISO)."""


class GoneError(LakeError):
    """A committed file is not there: somebody has put another in its place, or it was lost."""


class CommittedIds:
    """Ids of the committed rows that a new record could repeat, and the files that these rows are in.

    A repeat has the same CreationTime, so the same table and date; files of that partition are looked at. All files
    that were committed while the service may still hold their blobs are looked at too, whatever their partition.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._ids = IdSet()
        self._files: list[FileRef] = []
        self._seen = 0
        self._older: defaultdict[Partition, list[FileRef]] = defaultdict(list)

    def cover(self, ledger: Ledger, partitions: Iterable[Partition]) -> None:
        """Reads what is still missing for records of these partitions; may read newer entries of the ledger."""
        wanted = set(partitions)
        while True:
            version = ledger.state.version
            try:
                self._read_missing(ledger.state, wanted)
            except GoneError:
                ledger.refresh()
                if ledger.state.version == version:
                    raise
            else:
                return

    def replaced(self, ledger: Ledger, ref: FileRef, keys: np.ndarray) -> bool:
        """Tells whether other files stand in the place of one that is gone; then `files_of` these keys gives them."""
        where = layout.partition_of(ref.key)
        ledger.refresh()
        if where is None or ref.key in ledger.state.files:
            return False
        self.cover(ledger, [(where[0], where[2])])
        return ref.key not in self.files_of(keys)

    def _read_missing(self, state: State, partitions: Iterable[Partition]) -> None:
        recent = datetime.now(UTC) - timedelta(seconds=2 * limits()["retention"])
        for file in islice(state.added, self._seen, None):
            where = layout.partition_of(file.ref.key)
            if where is not None and file.ref.key in state.files:
                if file.at >= recent:
                    self._read(file.ref)
                else:
                    self._older[where[0], where[2]].append(file.ref)
            self._seen += 1  # only now: a read that failed must be tried again
        for partition in partitions:
            for ref in self._older.get(partition, ()):
                if ref.key in state.files:
                    self._read(ref)
            self._older.pop(partition, None)

    def _read(self, ref: FileRef) -> None:
        rows = read_committed(self._storage, ref, ["Id"])
        try:
            keys = keys_of(rows["Id"].combine_chunks())
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LakeError(f"committed file {ref.key!r} in {self._storage.uri!r} has no Ids: restore it") from error
        self._add([(ref, keys)])

    def add(self, state: State, staged: Sequence[tuple[FileRef, np.ndarray]]) -> None:
        """Adds the files of an entry that was just committed here, with their keys in place of a look at them."""
        if staged:
            self._add(staged)
        self._seen = len(state.added)

    def _add(self, files: Sequence[tuple[FileRef, np.ndarray]]) -> None:
        """Adds files of which no two hold the same key."""
        numbers = np.arange(len(files)) + len(self._files)
        self._ids.add(np.concatenate([k for _, k in files]), np.repeat(numbers, [len(k) for _, k in files]))
        self._files += [ref for ref, _ in files]

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Tells of each key whether a committed row has it."""
        return self._ids.holds(keys)

    def files_of(self, keys: np.ndarray) -> dict[str, tuple[FileRef, np.ndarray]]:
        """Gives the files that hold some of the keys, by their names, each with the places of those keys."""
        owners = self._ids.owners(keys)
        found = {}
        for owner in np.unique(owners[owners >= 0]):
            ref = self._files[owner]
            found[ref.key] = ref, np.flatnonzero(owners == owner)
        return found


def read_wherever(storage: Storage, ref: FileRef, read: Callable[[str], T]) -> T:
    """Reads a committed file by `read`, under its final name, or under its staged one while it is not yet published.

    Raises:
      GoneError: It is under neither.
    """
    for key in (ref.key, ref.staged, ref.key):  # it may be published between the first look and the second
        try:
            return read(key)
        except FileNotFoundError:
            continue
    raise GoneError(f"committed file {ref.key!r} is gone from the lake {storage.uri!r}: restore it before going on")


def read_steadily(states: Callable[[], dict[str, State]], read: Callable[[dict[str, State]], T]) -> T:
    """Reads a lake by what its ledgers say, and again by what they say then where files were replaced meanwhile.

    Raises:
      GoneError: A file is not there, though the ledger names it yet.
    """
    found = states()
    while True:
        try:
            return read(found)
        except GoneError:
            newer = states()
            if {t: s.version for t, s in newer.items()} == {t: s.version for t, s in found.items()}:
                raise
            found = newer


def read_committed(storage: Storage, ref: FileRef, columns: list[str] | None = None) -> pa.Table:
    """Reads a committed file, published or not.

    Raises:
      GoneError: It is not there.
      LakeError: It cannot be read.
    """
    with _open(storage, ref) as file:
        return file.read(columns, use_threads=False)


def read_rows_of(storage: Storage, ref: FileRef, keys: np.ndarray) -> pa.Table:
    """Reads the rows of a committed file whose Ids have these keys. Memory: a row group, and what is found.

    Raises:
      GoneError: It is not there.
      LakeError: It cannot be read.
    """
    with _open(storage, ref) as file:
        found = [file.schema_arrow.empty_table()]
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, ["Id"], use_threads=False)["Id"].combine_chunks()
            if (hits := np.flatnonzero(np.isin(keys_of(ids), keys))).size:
                found.append(file.read_row_group(group).take(hits))
        return pa.concat_tables(found)


@contextmanager
def _open(storage: Storage, ref: FileRef) -> Iterator[pq.ParquetFile]:
    with read_wherever(storage, ref, storage.open) as source:
        try:
            yield pq.ParquetFile(source)
        except (pa.ArrowException, OSError) as error:
            raise LakeError(f"committed file {ref.key!r} in {storage.uri!r} cannot be read: {error}") from error
