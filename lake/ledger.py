"""The ledger: one append-only log a tenant, under `_ledger/`, and the proof of what the lake holds.

append ── make the entry ── put-if-absent at n+1 ── won: it is committed
               └─────────── read what came in between ── lost
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import RLock

import msgspec

from lake import checkpoint, layout
from lake.entries import Entry, State, decode_entry
from lake.storage import LakeError, Storage, WrongRequestError

CHECKPOINT_EVERY = 256
READS_AT_ONCE = 8
CHECKPOINTS_KEPT = 3
_SHARE = 32  # at most a sixteenth of the entries is to be read after a checkpoint


class Ledger:
    """One tenant's log. Shared by the threads of a process; other processes meet it in the store.

    With `files_only` the state holds the files and not all of the blobs, slices and drift, which is fast to read.
    """

    def __init__(self, storage: Storage, tenant: str, *, files_only: bool = False) -> None:
        self.storage = storage
        self.tenant = tenant
        self.lock = RLock()
        self.state = State()
        self._load_checkpoint(files_only=files_only)
        self.refresh()

    def _load_checkpoint(self, *, files_only: bool) -> None:
        for key in reversed(checkpoints(self.storage, self.tenant)):
            try:
                data = self.storage.get(key)
                self.state = checkpoint.read(data, layout.number_of(key), files_only=files_only)
            except checkpoint.UNREADABLE:
                continue  # it only saves reading entries; verify names the damage
            return

    def refresh(self) -> None:
        """Reads the entries that came since the last look: one, one more, and then more and more at a time."""
        with self.lock, _readers() as pool:
            base = first = self.state.version + 1
            while self._apply(pool, range(first, first + min(READS_AT_ONCE, max(1, first - base)))):
                first = self.state.version + 1

    def _apply(self, pool: ThreadPoolExecutor, numbers: range) -> bool:
        """Reads entries and applies them up to the first that is missing; tells whether none is."""
        for entry in (pool.map if len(numbers) > 1 else map)(self._read, numbers):
            if entry is None:
                return False
            self.state.apply(entry)
        return True

    def _read(self, number: int) -> Entry | None:
        try:
            return decode_entry(self.storage.get(layout.entry(self.tenant, number)))
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            key = layout.entry(self.tenant, number)
            raise LakeError(
                f"ledger entry {key!r} in {self.storage.uri!r} cannot be read ({error}): "
                "it was damaged or written by a newer auditlake; restore it before anything else runs"
            ) from error

    def entries_after(self, number: int) -> Iterator[Entry]:
        """Yields the entries from `number` + 1 to the newest one."""
        self.refresh()
        last = self.state.version
        with _readers() as pool:
            for first in range(number + 1, last + 1, READS_AT_ONCE):
                found = pool.map(self._read, range(first, min(first + READS_AT_ONCE, last + 1)))
                yield from (entry for entry in found if entry is not None)

    def append(self, make: Callable[[State], Entry | None]) -> Entry | None:
        """Commits the entry that `make` gives for the newest state, and returns it; None where it gives none.

        `make` is asked again whenever somebody else's entry came first.
        """
        with self.lock:
            while True:
                self.refresh()
                entry = make(self.state)
                if entry is None:
                    return None
                number = self.state.version + 1
                if self.storage.put_if_absent(layout.entry(self.tenant, number), msgspec.json.encode(entry)):
                    self.state.apply(entry)
                    self._checkpoint()
                    return entry

    def _checkpoint(self) -> None:
        if is_checkpoint(self.state.version):
            key = layout.checkpoint(self.tenant, self.state.version)
            self.storage.put_if_absent(key, checkpoint.write(self.state))
            for older in checkpoints(self.storage, self.tenant)[:-CHECKPOINTS_KEPT]:
                self.storage.delete(older)


def _readers() -> ThreadPoolExecutor:
    """Gives threads that read entries; none is started before there is something to read."""
    return ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="ledger")


def is_checkpoint(number: int) -> bool:
    """Tells whether a checkpoint follows an entry; the longer the log, the rarer, as each holds all of the state."""
    every = CHECKPOINT_EVERY
    while every * _SHARE <= number:
        every *= 2
    return number % every == 0


def checkpoints(storage: Storage, tenant: str) -> list[str]:
    """Lists the keys of a tenant's checkpoints, the oldest first."""
    keys = (o.key for o in storage.list(layout.checkpoints(tenant)))
    return [k for k in keys if (n := layout.number_of(k)) > 0 and k == layout.checkpoint(tenant, n)]


def read_entries(storage: Storage, tenant: str) -> Iterator[tuple[int, Entry | msgspec.MsgspecError | None]]:
    """Yields every entry of a tenant with its number, in order; an unreadable one as its error.

    None stands for the first missing entry of a gap. Entries that are written meanwhile are read too.
    """
    expected = 1
    for stored in storage.list(layout.entries(tenant)):
        number = layout.number_of(stored.key)
        if number < expected or stored.key != layout.entry(tenant, number):
            continue
        while expected <= number:  # a listing may leave out what is written while it goes on
            entry = _read_entry(storage, tenant, expected)
            yield expected, entry
            expected = number if entry is None else expected + 1
    for number in count(expected):
        if (entry := _read_entry(storage, tenant, number)) is None:
            return
        yield number, entry


def _read_entry(storage: Storage, tenant: str, number: int) -> Entry | msgspec.MsgspecError | None:
    try:
        return decode_entry(storage.get(layout.entry(tenant, number)))
    except msgspec.MsgspecError as error:
        return error
    except FileNotFoundError:
        return None


def tenants(storage: Storage) -> list[str]:
    """Lists the tenants that have a ledger in a lake."""
    return sorted({t for name in storage.folders(layout.LEDGER) if (t := layout.tenant_of(name))})


def require_tenants(storage: Storage) -> list[str]:
    """Lists the tenants that have a ledger in a lake that is to be read.

    Raises:
      WrongRequestError: There is none.
    """
    if found := tenants(storage):
        return found
    raise WrongRequestError(
        f"no lake at {storage.uri!r}: expected a folder that `auditlake backfill` has written (there is no "
        f"{layout.LEDGER}/tenant=… in it); check --lake"
    )


def read_states(storage: Storage, *, files_only: bool = False) -> dict[str, State]:
    """Reads what the ledgers of a lake add up to, by tenant; with `files_only` what files stand.

    Raises:
      WrongRequestError: There is no lake.
    """
    return {tenant: Ledger(storage, tenant, files_only=files_only).state for tenant in require_tenants(storage)}
