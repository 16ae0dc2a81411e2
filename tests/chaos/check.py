"""The lake against the truth, record by record, and the ledger against both. Every function yields what is wrong."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq

from lake import layout
from lake.entries import EXPIRED, LANDED, LISTED, BlobState, State
from lake.export import export
from lake.gaps import find_gaps
from lake.ledger import Ledger
from lake.rejected import read_rejected
from lake.stage import CONFLICT
from lake.storage_local import LocalStorage
from lake.verify import verify
from tests.chaos.truth import BlobTruth, Truth, canonical

_SHOWN = 5


@dataclass(slots=True)
class Row:
    """A row as its file and its place say: its Id, the blob it came from, and its day."""

    id: str
    content_id: str
    day: str
    partition_day: str


@dataclass(slots=True)
class Held:
    """What a lake holds of one tenant, read past the ledger."""

    rows: list[Row] = field(default_factory=list)
    rejects: defaultdict[str, list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))


def read_held(storage: LocalStorage, tenant: str) -> Held:
    """Reads all rows and rejects of a tenant from their files."""
    held = Held()
    for stored in storage.list(layout.AUDIT):
        where = layout.partition_of(stored.key)
        if where is None or where[1] != tenant:
            continue
        with storage.open(stored.key) as source:
            table = pq.ParquetFile(source).read(["Id", "_content_id", "CreationTime"])
        for row in table.to_pylist():
            day = row["CreationTime"].date().isoformat()
            held.rows.append(Row(row["Id"], row["_content_id"], day, where[2]))
    for stored in storage.list(f"{layout.REJECTED}/tenant={tenant}"):
        for reject in read_rejected(storage.get(stored.key)):
            held.rejects[reject.content_id].append((reject.reason, reject.data))
    return held


def check_lake(folder: Path, truths: Sequence[Truth]) -> Iterator[str]:
    """Checks all that must hold of a lake at rest, whatever it could have: nothing doubled, altered, invented."""
    storage = LocalStorage(folder)
    for problem in verify(storage).problems:
        yield f"verify: {problem.where}: {problem.what}"
    exported: defaultdict[str, list[str]] = defaultdict(list)
    for text in export(storage):
        value = json.loads(text)
        exported[value["Id"]].append(canonical(value))
    ids: Counter[str] = Counter()
    for truth in truths:
        held = read_held(storage, truth.tenant_id)
        ids.update(row.id for row in held.rows)
        state = Ledger(storage, truth.tenant_id).state
        yield from (f"tenant {truth.tenant_id}: {what}" for what in _check_tenant(held, truth, state, exported))
    if ids != Counter({i: len(texts) for i, texts in exported.items()}):
        yield "export gives other Ids than the files hold"


def _check_tenant(held: Held, truth: Truth, state: State, exported: dict[str, list[str]]) -> Iterator[str]:
    rows = {row.id: row for row in held.rows}
    yield from _few("rows that repeat an Id", [i for i, n in Counter(r.id for r in held.rows).items() if n > 1])
    yield from _few("rows in the folder of another day", [r.id for r in held.rows if r.day != r.partition_day])
    landed = {i: b for i, b in state.blobs.items() if b.status == LANDED}
    yield from _few("landed blobs that were never served", [i for i in landed if i not in truth.blobs])
    yield from _few(
        "rows of blobs that have not landed", [r.content_id for r in held.rows if r.content_id not in landed]
    )
    rows_of = Counter(r.content_id for r in held.rows)
    for content_id in landed.keys() & truth.blobs.keys():
        blob = truth.blobs[content_id]
        for what in _check_blob(
            blob, landed[content_id], rows, rows_of[content_id], exported, held.rejects[content_id]
        ):
            yield f"blob {content_id}: {what}"
    for content_id in held.rejects.keys() - landed.keys():
        if {reason for reason, _ in held.rejects[content_id]} - {"unreadable"}:
            yield f"blob {content_id}: has rejected records, but has not landed"


def _check_blob(
    blob: BlobTruth,
    state: BlobState,
    rows: dict[str, Row],
    row_count: int,
    exported: dict[str, list[str]],
    rejects: list[tuple[str, bytes]],
) -> Iterator[str]:
    """Checks a landed blob: each record is in the lake, and the counts of the ledger are those of the truth.

    Of one that broke off, and is named for it, the records before the break are.
    """
    good = blob.good
    if state.records != state.rows + state.duplicates + state.rejects:
        yield f"{state.records} records are not {state.rows} + {state.duplicates} + {state.rejects}"
    if not state.error:
        yield from _few("good records that are not in the lake", [r.id for r in good if r.id not in rows])
    here = {r.id for r in rows.values() if r.content_id == blob.blob.content_id}
    values = {r.value for r in good}
    yield from _few("rows it never held", sorted(here - {r.id for r in good}))
    yield from _few("rows that differ from it", [i for i in sorted(here) if not values & set(exported.get(i, []))])
    if state.error:
        return
    conflicts = Counter(r.value for r in good if r.id in rows and r.value not in exported.get(r.id, []))
    kept = Counter(canonical(json.loads(data)) for reason, data in rejects if reason == CONFLICT)
    if kept != conflicts:
        yield f"{conflicts.total()} of its records conflict with a row, {kept.total()} are kept as conflicts, or others"
    broken = Counter(data for reason, data in rejects if reason not in (CONFLICT, "unreadable"))
    if broken != blob.broken:
        yield f"{blob.broken.total()} of its records are broken, {broken.total()} are rejected, or others"
    told = (state.records, state.rows, state.rejects, state.conflicts)
    true = (len(blob.good) + blob.broken.total(), row_count, conflicts.total() + blob.broken.total(), conflicts.total())
    if told != true:
        yield f"the ledger counts (records, rows, rejects, conflicts) {told}, true are {true}"


def check_had(
    folder: Path, truth: Truth, span: tuple[datetime, datetime], seen: tuple[datetime, datetime]
) -> Iterator[str]:
    """Checks that every blob of a stretch that could be had in a healthy look has landed.

    Args:
      folder: The lake.
      truth: The tenant's content.
      span: The stretch of available time that was asked for.
      seen: When the look began and ended.
    """
    state = Ledger(LocalStorage(folder), truth.tenant_id).state
    for content_id, blob in truth.blobs.items():
        if span[0] <= blob.blob.created < span[1] and blob.is_to_be_had(*seen) and not state.has_landed(content_id):
            known = state.blobs.get(content_id)
            what = "is not in the ledger" if known is None else f"is {known.status or 'pending'} ({known.error})"
            yield f"blob {content_id} of {len(blob.good)} records could be had and {what}"


def check_named(folder: Path, truth: Truth, now: datetime, *, hidden: bool) -> Iterator[str]:
    """Checks that whatever was told to a collector, or lies in what it was to cover, is landed or named as missing.

    Where blobs were `hidden` from listings of their slices, nobody can name them once they have aged out.
    """
    state = Ledger(LocalStorage(folder), truth.tenant_id).state
    gaps = find_gaps(truth.tenant_id, state, now)
    named = {i for gap in gaps for i in gap.blobs}
    stretches = [(g.content_type, g.start, g.end) for g in gaps if not g.blobs]
    first = {c: min(s.start for s in state.slices.values() if s.content_type == c) for c, _ in state.slices}
    listed = _listed_at(state)
    for content_id, true in truth.blobs.items():
        blob = true.blob
        if content_id in named or (hidden and content_id not in state.blobs):
            continue
        if state.has_landed(content_id):
            if state.blobs[content_id].error:
                yield f"blob {content_id} landed as far as it went, and is not named"
            continue
        if any(c == blob.content_type and start <= blob.created < end for c, start, end in stretches):
            continue
        if blob.content_type not in first or blob.created < first[blob.content_type]:
            continue
        at = listed.get((blob.content_type, blob.created.replace(minute=0, second=0, microsecond=0)))
        looked = at - timedelta(seconds=2) if at is not None else None
        if looked is not None and blob.created < looked and true.is_served(looked):
            yield f"blob {content_id} was listed at {at} with its slice, and neither landed nor is it named"
    for content_id, known in state.blobs.items():
        true = truth.blobs.get(content_id)
        if known.status == EXPIRED and true is not None and true.blob.expiration > now:
            yield f"blob {content_id} is called expired, and is not"


def _listed_at(state: State) -> dict[tuple[str, datetime], datetime]:
    return {
        (s.content_type, s.start.replace(minute=0, second=0, microsecond=0)): s.at
        for s in state.slices.values()
        if s.outcome == LISTED
    }


def check_entries(folder: Path, tenant: str) -> Iterator[str]:
    """Checks that the ledger's numbers have no hole."""
    storage = LocalStorage(folder)
    numbers = [layout.number_of(o.key) for o in storage.list(layout.entries(tenant))]
    if (numbers and numbers[0] != 1) or any(b != a + 1 for a, b in pairwise(numbers)):
        yield f"ledger entries have holes: {numbers}"


def check_secrets(folder: Path, secrets: Sequence[str]) -> Iterator[str]:
    """Checks that no file below a folder holds a secret."""
    for file in folder.rglob("*"):
        if file.is_file() and any(s.encode() in file.read_bytes() for s in secrets):
            yield f"{file} holds a secret"


def _few(what: str, names: Sequence[object]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"{what}: {', '.join(map(str, names[:_SHOWN]))}{more}"


def absent(folder: Path, truth: Truth) -> bool:
    """Tells whether anything that the ledger knows of, or time that it should, is not in the lake."""
    state = Ledger(LocalStorage(folder), truth.tenant_id).state
    return any(b.status != LANDED or b.error for b in state.blobs.values()) or any(
        s.outcome != LISTED for s in state.slices.values()
    )
