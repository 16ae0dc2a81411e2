"""One tenant's part of a lake in this process: its ledger, the Ids it holds, and the moves that finish a commit."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Lock, Semaphore

import msgspec
import numpy as np

from lake import layout
from lake.committed import CommittedIds
from lake.entries import FileRef, Landing, Rewrite, State
from lake.ledger import Ledger
from lake.storage import LakeError, Storage, StoredObject, open_storage

SWEEP_AGE = timedelta(hours=12)
CHANGES_AT_ONCE = 8
"""Files that are written, moved or removed at a time: each waits for the disk or the network, not for this process."""


class TenantLake:
    """One tenant's part of a lake, as this process knows it; shared by its threads.

    `large` is held by whoever has a large blob in memory.
    """

    def __init__(self, storage: Storage, tenant: str) -> None:
        self.storage = storage
        self.tenant = tenant
        self.ledger = Ledger(storage, tenant)
        self.committed = CommittedIds(storage)
        self.large = Semaphore()
        self._unpublished: deque[FileRef] = deque()

    def recover(self) -> None:
        """Finishes what a crash left committed but not published, and sweeps what can no longer be committed."""
        too_old = datetime.now(UTC) - SWEEP_AGE
        found = self._staged()
        if removals := [o for o in found if layout.is_removal(o.key)]:
            # Listed after them: all that is to stand in the place of what they remove.
            found = [*(o for o in self._staged() if not layout.is_removal(o.key)), *removals]
        self.ledger.refresh()  # after the listing: what another commits meanwhile must not be taken for a leftover
        refs = {f.ref.staged: f.ref for f in self.ledger.state.files.values()}
        moved = []
        for stored in found:
            if stored.key in refs:
                moved.append(refs[stored.key].key)
                self._move(refs[stored.key])
            elif self._finish_removal(stored.key) or stored.modified < too_old:
                self.storage.delete(stored.key)
        if moved:
            self.ledger.refresh()  # others may have moved a file too, and put it out of the ledger since
            for key in set(moved) - self.ledger.state.files.keys():
                self.storage.delete(key)

    def _staged(self) -> list[StoredObject]:
        return [o for folder in (layout.staging(self.tenant), layout.ASIDE) for o in self.storage.list(folder)]

    def _move(self, ref: FileRef) -> None:
        """Gives a committed file its final name, unless others have moved it, and put it out of the ledger since."""
        try:
            self.storage.move(ref.staged, ref.key)
        except LakeError:
            self.ledger.refresh()
            state = self.ledger.state
            if ref.key in state.files or all(file.ref.key != ref.key for file in state.added):
                raise

    def _finish_removal(self, key: str) -> bool:
        """Removes the files that an announced removal has put out of the ledger; tells whether all of them."""
        if not layout.is_removal(key):
            return False
        try:
            announced = msgspec.json.decode(self.storage.get(key), type=list[str])
        except (FileNotFoundError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError):
            return False
        taken_out = [k for k in announced if k not in self.ledger.state.files]
        self._delete([one for one in taken_out if layout.is_file(one, self.tenant)])
        return len(taken_out) == len(announced)

    def commit(
        self,
        make: Callable[[State], Landing | Rewrite | None],
        keys: Callable[[], Sequence[tuple[FileRef, np.ndarray]]] | None = None,
    ) -> Landing | Rewrite | None:
        """Commits the entry that `make` gives for the newest state, and carries it out; None where it gives none.

        Args:
          make: Makes the entry; asked again whenever somebody else's came first.
          keys: Gives the entry's files of rows, with the keys of their Ids; then `make` has covered all others.
        """
        removal = layout.removal(self.tenant)
        is_announced = False

        def announced(state: State) -> Landing | Rewrite | None:
            nonlocal is_announced
            entry = make(state)
            if entry is not None and entry.removed:
                # Before the commit, so that whoever comes after a crash knows what is to go.
                self.storage.put(removal, msgspec.json.encode(entry.removed))
                is_announced = True
            return entry

        with self.ledger.lock:
            entry = self.ledger.append(announced)
            if isinstance(entry, Landing | Rewrite) and keys is not None:
                self.committed.add(self.ledger.state, keys())
        if isinstance(entry, Landing | Rewrite):
            self.publish(entry.files)
            self._delete(entry.removed)
        if is_announced:
            self.storage.delete(removal)
        return entry if isinstance(entry, Landing | Rewrite) else None

    def _delete(self, keys: Sequence[str]) -> None:
        """Removes files, several at a time: until all are gone, a reader who only lists files sees rows twice."""
        with ThreadPoolExecutor(CHANGES_AT_ONCE) as pool:
            list(pool.map(self.storage.delete, keys))

    def publish(self, files: Iterable[FileRef]) -> None:
        """Moves committed files to their final names, and those that an earlier try could not move."""
        self._unpublished.extend(files)
        with ThreadPoolExecutor(CHANGES_AT_ONCE, thread_name_prefix="publish") as pool:
            moving = [pool.submit(self._publish_waiting) for _ in range(min(CHANGES_AT_ONCE, len(self._unpublished)))]
        for done in moving:
            done.result()

    def _publish_waiting(self) -> None:
        while self._unpublished:
            try:
                ref = self._unpublished.popleft()
            except IndexError:
                return  # another thread was faster
            try:
                self._move(ref)
            except LakeError:
                self._unpublished.append(ref)
                raise


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
