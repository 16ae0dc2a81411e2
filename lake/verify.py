"""Proves from the lake alone that nothing is missing, doubled or changed. Reads, and writes nothing.

objects ── each named by the ledger
entries ── numbered without a gap, and what the checkpoints say
   └─ what they add up to
        ├─ slices ── their blobs are named
        ├─ blobs ── each has an outcome, and records = rows + duplicates + rejects
        └─ files ── size, SHA-256, rows and rejects of each blob, every Id once
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count as numbers

import msgspec

from lake import checkpoint, layout, ledger
from lake.entries import (
    EXPIRED,
    FAILED,
    LANDED,
    LISTED,
    LOST,
    REJECTED,
    UNLISTED,
    BlobState,
    Landing,
    Listing,
    Rewrite,
    SliceState,
    State,
    decode_entry,
)
from lake.file_check import FileCheck
from lake.ledger import read_entries, require_tenants
from lake.storage import LakeError, Storage
from lake.verification import FeedCounts, Problem, Verification, describe, to_json
from schemas.times import format_utc

__all__ = ["FeedCounts", "Problem", "Verification", "describe", "to_json", "verify"]

_EDGE = timedelta(minutes=1)


def verify(storage: Storage, tenants: Iterable[str] | None = None) -> Verification:
    """Verifies the tenants of a lake, all of them by default.

    Memory: one file, the ledger of one tenant and 16 bytes for each of its records.

    Raises:
      LakeError: There is no lake, or no ledger of a tenant, or it cannot be read.
    """
    known = require_tenants(storage)
    chosen = known if tenants is None else sorted(set(tenants))
    if unknown := [t for t in chosen if t not in known]:
        raise LakeError(f"the lake {storage.uri!r} has no ledger of tenant {unknown[0]!r}: it has {', '.join(known)}")
    found = Verification(storage.uri, chosen)
    # Before the ledgers are read: files get their final names only after their entry is written.
    stored = [o.key for top in (layout.AUDIT, layout.REJECTED, layout.LEDGER) for o in storage.list(top)]
    scope = None if tenants is None else set(chosen)
    strangers = _Strangers([k for k in stored if scope is None or layout.tenant_of(k) in scope])
    for tenant in chosen:
        while (attempt := _verify_tenant(storage, tenant, strangers)) is None:
            pass
        found.add(attempt)
    for key in strangers.left():
        found.problems.append(Problem(key, "no ledger entry names it: move it out of the lake, or delete it"))
    return found


class _Strangers:
    """Keys that nothing has named yet."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = set(keys)

    def name(self, key: str) -> bool:
        """Takes a key out; tells whether it was among them."""
        was_there = key in self._keys
        self._keys.discard(key)
        return was_there

    def left(self) -> list[str]:
        return sorted(self._keys)


def _verify_tenant(storage: Storage, tenant: str, strangers: _Strangers) -> Verification | None:
    """Verifies a tenant; None where files that it was to read were replaced meanwhile."""
    found = Verification(storage.uri, [])
    state = State()
    origins: dict[str, list[str] | None] = {}
    removed: set[str] = set()
    checkpoints = {layout.number_of(key): key for key in ledger.checkpoints(storage, tenant)}
    whole = True
    for number, entry in read_entries(storage, tenant):
        key = layout.entry(tenant, number)
        strangers.name(key)
        if entry is None or isinstance(entry, msgspec.MsgspecError):
            why = "is missing, though later entries exist" if entry is None else f"cannot be read ({entry})"
            found.problems.append(Problem(key, f"{why}: restore it before anything else runs"))
            whole = False
            continue
        if not isinstance(entry, Listing):
            found.problems += [Problem(key, what) for what in _entry_problems(entry, state)]
            ids = [b.content_id for b in entry.blobs] if isinstance(entry, Landing) else None
            origins |= dict.fromkeys((ref.key for ref in entry.files), ids)
            removed.update(entry.removed)
        state.apply(entry)
        state.version = number
        if number in checkpoints:
            stored = checkpoints.pop(number)
            strangers.name(stored)
            if whole and (what := _compare(storage, stored, state)):
                found.problems.append(Problem(stored, what))
    for number, key in checkpoints.items():
        strangers.name(key)
        what = f"stands for {number:,} entries, but the ledger ends at {state.version:,}: restore the entries"
        found.problems.append(Problem(key, what))
    for key in sorted(removed - state.files.keys()):
        if strangers.name(key) and _is_there(storage, key):
            found.problems.append(Problem(key, "was put out of the ledger but lies there yet; any next run removes it"))
    files = _check_files(storage, tenant, state, origins, strangers, found)
    if files.missing and files.missing & _removed_after(storage, tenant, state.version):
        return None
    if files.unsure is not None:
        for content_id in sorted((files.rows.keys() | files.rejects.keys() | files.bodies.keys()) - state.blobs.keys()):
            what = f"files hold records of blob {content_id!r}, but no entry names it"
            found.problems.append(Problem(f"tenant {tenant}", what))
    for counts, problems in _feeds(tenant, state, files):
        found.feeds.append(counts)
        found.problems += problems
    return found


def _is_there(storage: Storage, key: str) -> bool:
    try:
        storage.open(key).close()
    except FileNotFoundError:
        return False
    return True


def _removed_after(storage: Storage, tenant: str, number: int) -> set[str]:
    """Gives the files that were put out of the ledger after an entry."""
    found: set[str] = set()
    for later in numbers(number + 1):
        try:
            entry = decode_entry(storage.get(layout.entry(tenant, later)))
        except (FileNotFoundError, msgspec.MsgspecError):
            break
        found.update([] if isinstance(entry, Listing) else entry.removed)
    return found


def _check_files(
    storage: Storage,
    tenant: str,
    state: State,
    origins: dict[str, list[str] | None],
    strangers: _Strangers,
    found: Verification,
) -> FileCheck:
    files = FileCheck(storage, tenant)
    for key, file in state.files.items():
        strangers.name(key)
        found.problems += files.check(file.ref, origins.get(key))
    found.problems += files.repeated()
    found.files += files.files
    found.bytes += files.bytes
    return files


def _entry_problems(entry: Landing | Rewrite, state: State) -> Iterator[str]:
    for blob in entry.blobs:
        told = blob.rows + blob.duplicates + blob.rejects
        if blob.records != told:
            yield f"blob {blob.content_id!r} held {blob.records:,} records, but {told:,} are accounted for"
        if isinstance(entry, Rewrite):
            if blob.content_id not in state.blobs:
                yield f"blob {blob.content_id!r} has another outcome here, but no entry before gives it one"
        elif blob.status == LANDED and state.has_landed(blob.content_id):
            yield f"blob {blob.content_id!r} has landed in an earlier entry already: its records may stand twice"


def _compare(storage: Storage, key: str, state: State) -> str | None:
    """Compares a checkpoint with what the entries before it add up to."""
    try:
        kept = checkpoint.read(storage.get(key), state.version)
    except FileNotFoundError:
        return None  # a newer one has taken its place
    except checkpoint.UNREADABLE as error:
        return f"cannot be read ({error}): delete it, the entries hold all of it"
    if all(getattr(kept, part) == getattr(state, part) for part in ("asked", "blobs", "slices", "files", "drift")):
        return None
    return "differs from the entries that it stands for: delete it if the entries are right"


def _feeds(tenant: str, state: State, files: FileCheck) -> Iterator[tuple[FeedCounts, list[Problem]]]:
    blobs: defaultdict[str, dict[str, BlobState]] = defaultdict(dict)
    slices: defaultdict[str, list[SliceState]] = defaultdict(list)
    for content_id, blob in state.blobs.items():
        blobs[blob.content_type][content_id] = blob
    for one in state.slices.values():
        slices[one.content_type].append(one)
    for content_type in sorted(blobs.keys() | slices.keys()):
        where = f"tenant {tenant} {content_type}"
        counts = _count(tenant, content_type, blobs[content_type], slices[content_type])
        problems = [
            *_blob_problems(where, blobs[content_type]),
            *_slice_problems(where, blobs[content_type], slices[content_type]),
            *_miscounts(where, blobs[content_type], files),
        ]
        yield counts, problems


def _count(tenant: str, content_type: str, blobs: dict[str, BlobState], slices: list[SliceState]) -> FeedCounts:
    outcomes = Counter(b.status for b in blobs.values())
    words = Counter(s.outcome for s in slices)
    return FeedCounts(
        tenant,
        content_type,
        listed_slices=words[LISTED],
        unlisted_slices=words[UNLISTED],
        lost_slices=words[LOST],
        listed=sum(b.expiration is not None for b in blobs.values()),
        landed=outcomes[LANDED],
        expired=outcomes[EXPIRED],
        failed=outcomes[FAILED],
        rejected=outcomes[REJECTED],
        pending=outcomes[None],
        records=sum(b.records for b in blobs.values()),
        rows=sum(b.rows for b in blobs.values()),
        duplicates=sum(b.duplicates for b in blobs.values()),
        rejects=sum(b.rejects for b in blobs.values()),
        conflicts=sum(b.conflicts for b in blobs.values()),
    )


def _blob_problems(where: str, blobs: dict[str, BlobState]) -> Iterator[Problem]:
    for content_id, blob in sorted(blobs.items(), key=lambda b: (b[1].created, b[0])):
        if blob.expiration is None:
            yield Problem(where, f"blob {content_id!r} has the outcome {blob.status}, but no listing names it")
        elif blob.status is None:
            times = f"available since {format_utc(blob.created)}, expires {format_utc(blob.expiration)}"
            what = f"blob {content_id!r} ({times}) was listed and has no outcome: run `auditlake backfill` again"
            yield Problem(where, what)


def _slice_problems(where: str, blobs: dict[str, BlobState], slices: list[SliceState]) -> Iterator[Problem]:
    """Yields slices whose listing held more blobs than the ledger names."""
    created = sorted(b.created for b in blobs.values())
    for one in sorted(slices, key=lambda s: s.start):
        # The service need not cut to the millisecond where the request does.
        named = _within(created, one.start - _EDGE, one.end + _EDGE)
        if one.outcome == LISTED and one.blobs > named:
            stretch = f"{format_utc(one.start)} to {format_utc(one.end)}"
            yield Problem(where, f"the listing of {stretch} held {one.blobs:,} blobs, the ledger names {named:,}")


def _miscounts(where: str, blobs: dict[str, BlobState], files: FileCheck) -> Iterator[Problem]:
    """Compares what the files hold of each blob with its outcome."""
    for content_id, blob in blobs.items():
        if files.unsure is None or content_id in files.unsure:
            continue
        told = {"rows": blob.rows, "rejects": blob.rejects, "whole bodies": int(blob.status == REJECTED)}
        held = {"rows": files.rows, "rejects": files.rejects, "whole bodies": files.bodies}
        for name, count in told.items():
            if held[name][content_id] != count:
                what = (
                    f"blob {content_id!r}: the files hold {held[name][content_id]:,} {name}, the ledger says {count:,}"
                )
                yield Problem(where, what)


def _within(times: list[datetime], start: datetime, end: datetime) -> int:
    return bisect_left(times, end) - bisect_left(times, start)
