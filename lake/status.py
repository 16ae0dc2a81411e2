"""How far each feed of a lake is landed: what is complete up to when, and what is still missing."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime

from lake import layout
from lake.entries import EXPIRED, FAILED, LANDED, LISTED, LOST, REJECTED, UNLISTED, BlobState, State
from lake.ledger import Ledger, require_tenants
from lake.storage import Storage
from lake.text_table import one_line, size_text, text_table
from schemas.times import format_utc


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob that has not landed and may still be had until it expires."""

    content_id: str
    created: datetime
    expiration: datetime | None


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How far one feed is.

    Up to `frontier` it was listed without a hole, up to `closed` nothing more is expected. `oldest_open` is the oldest
    blob that is pending, has failed or cannot be read.
    """

    content_type: str
    frontier: datetime | None
    closed: datetime | None
    last_listed: datetime | None
    landed: int
    pending: int
    failed: int
    rejected: int
    expired: int
    records: int
    rows: int
    duplicates: int
    rejects: int
    conflicts: int
    oldest_open: OpenBlob | None


@dataclass(frozen=True, slots=True)
class TableStatus:
    """What one table holds of a tenant."""

    table: str
    files: int
    bytes: int
    rows: int


@dataclass(slots=True)
class TenantStatus:
    """One tenant's feeds and tables; `drift` counts members of records that no schema declares."""

    tenant: str
    drift: int
    feeds: list[FeedStatus] = field(default_factory=list)
    tables: list[TableStatus] = field(default_factory=list)


@dataclass(slots=True)
class Status:
    """The status of a lake."""

    lake: str
    tenants: list[TenantStatus]


def status(storage: Storage) -> Status:
    """Reads the status of every tenant from its ledger.

    Raises:
      LakeError: There is no lake, or it cannot be read.
    """
    return Status(storage.uri, [_tenant(t, Ledger(storage, t).state) for t in require_tenants(storage)])


def frontier(state: State, content_type: str) -> datetime | None:
    """Gives the available time up to which a feed was listed without a hole, from its first listed slice on.

    None where nothing was listed, or where the first slice could not be. A slice that the service no longer lists
    counts as done: asking again would not bring it back.
    """
    reached: datetime | None = None
    slices = (s for s in state.slices.values() if s.content_type == content_type)
    for one in sorted(slices, key=lambda s: (s.start, s.end)):
        if reached is not None and one.start > reached:
            break
        if one.outcome == UNLISTED:
            # It ends the run, unless slices cut otherwise have covered it.
            if reached is None or one.end > reached:
                break
            continue
        # A slice that was not over when it was listed is known only up to then.
        end = min(one.end, one.at) if one.outcome == LISTED else one.end
        reached = end if reached is None else max(reached, end)
    return reached


def closed_up_to(state: State, content_type: str) -> datetime | None:
    """Gives the end of the closed slices that follow on each other, from a feed's first on; None where it is open."""
    reached: datetime | None = None
    slices = (s for s in state.slices.values() if s.content_type == content_type and s.outcome != LOST)
    for one in sorted(slices, key=lambda s: s.start):
        if not one.closed or (reached is not None and one.start > reached):
            break
        reached = one.end
    return reached


def _tenant(tenant: str, state: State) -> TenantStatus:
    found = TenantStatus(tenant, sum(seen.count for seen in state.drift.values()))
    feeds = {b.content_type for b in state.blobs.values()} | {s.content_type for s in state.slices.values()}
    found.feeds = [_feed(content_type, state) for content_type in sorted(feeds)]
    found.tables = _tables(state)
    return found


def _feed(content_type: str, state: State) -> FeedStatus:
    blobs = {i: b for i, b in state.blobs.items() if b.content_type == content_type}
    counts = Counter(b.status for b in blobs.values())
    listed = (s.at for s in state.slices.values() if s.content_type == content_type and s.outcome == LISTED)
    return FeedStatus(
        content_type=content_type,
        frontier=frontier(state, content_type),
        closed=closed_up_to(state, content_type),
        last_listed=max(listed, default=None),
        landed=counts[LANDED],
        pending=counts[None],
        failed=counts[FAILED],
        rejected=counts[REJECTED],
        expired=counts[EXPIRED],
        records=sum(b.records for b in blobs.values()),
        rows=sum(b.rows for b in blobs.values()),
        duplicates=sum(b.duplicates for b in blobs.values()),
        rejects=sum(b.rejects for b in blobs.values()),
        conflicts=sum(b.conflicts for b in blobs.values()),
        oldest_open=_oldest_open(blobs.items()),
    )


def _oldest_open(blobs: Iterable[tuple[str, BlobState]]) -> OpenBlob | None:
    waiting = [OpenBlob(i, b.created, b.expiration) for i, b in blobs if not b.is_settled]
    return min(waiting, key=lambda b: (b.created, b.content_id), default=None)


def _tables(state: State) -> list[TableStatus]:
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for file in state.files.values():
        if where := layout.partition_of(file.ref.key):
            files[where[0]] += 1
            sizes[where[0]] += file.ref.size
            rows[where[0]] += file.ref.rows
    return [TableStatus(t, files[t], sizes[t], rows[t]) for t in sorted(files)]


def to_json(found: Status) -> dict[str, object]:
    """Gives a status as one JSON object; times are ISO 8601."""
    return {name: _plain(value) for name, value in asdict(found).items()}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return format_utc(value)
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def describe(found: Status) -> str:
    """Gives a status as a person reads it."""
    return "\n\n".join("\n".join(_describe_tenant(t)) for t in found.tenants)


def _describe_tenant(tenant: TenantStatus) -> list[str]:
    counts = ["landed", "pending", "failed", "expired", "records", "rows", "duplicates", "rejects"]
    # Rare ones are shown where they are.
    counts += [n for n in ("rejected", "conflicts") if any(getattr(f, n) for f in tenant.feeds)]
    feeds = [
        (f.content_type, _time(f.frontier), _time(f.closed), _time(f.last_listed), *(getattr(f, n) for n in counts))
        for f in tenant.feeds
    ]
    lines = [f"tenant {tenant.tenant}"]
    lines += text_table(("content type", "listed up to", "closed up to", "last listed", *counts), feeds)
    for feed in tenant.feeds:
        if blob := feed.oldest_open:
            until = f", expires {format_utc(blob.expiration)}" if blob.expiration else ""
            name = one_line(blob.content_id)
            lines.append(f"{feed.content_type}: oldest blob not landed is {name} of {_time(blob.created)}{until}")
    if tenant.tables:
        tables = [(t.table, t.files, size_text(t.bytes), t.rows) for t in tenant.tables]
        lines += ["", *text_table(("table", "files", "size", "rows"), tables)]
    if tenant.drift:
        lines.append(f"{tenant.drift:,} members kept in _extra that no schema declares: see ledger_drift in a query")
    return lines


def _time(time: datetime | None) -> str:
    return "-" if time is None else format_utc(time.replace(microsecond=0))
