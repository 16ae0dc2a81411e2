"""Stretches of available time that are not proven complete: where, why, and until when they can still be healed.

slices ── never listed, not listed, lost, unsettled ─┐
blobs ─── pending, failed, unreadable, expired, cut ─┴─ gaps, the most urgent first
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from lake.entries import EXPIRED, FAILED, LANDED, LISTED, LOST, REJECTED, BlobState, SliceState, State
from lake.ledger import Ledger, require_tenants
from lake.storage import Storage
from lake.text_table import text_table
from schemas.contract import time_limit
from schemas.times import TimeRange, format_utc

NEVER_LISTED, NOT_LISTED, UNSETTLED = "never listed", "not listed", "unsettled"
PENDING, UNREADABLE, CUT_OFF = "pending", "unreadable", "cut off"
_KINDS = {None: PENDING, FAILED: FAILED, REJECTED: UNREADABLE, EXPIRED: EXPIRED}
_NOT_DUE = timedelta(hours=2)  # what became available so lately is not missed yet
_TOGETHER = timedelta(hours=1)
_INSTANT = timedelta(milliseconds=1)  # the resolution of contentCreated
SOON = timedelta(hours=24)
SHOWN = 40


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch `[start, end)` of available time of one feed that is not proven complete.

    `kind` is never listed, not listed (the listing failed), lost (older than the service keeps), unsettled (listed
    before late content had come, and never again while the service kept it), or of the named blobs in it pending,
    failed, unreadable (kept whole under rejected/), expired or cut off (landed as far as it went). `until` is when the
    first of it can no longer be had, None where nothing can.
    """

    tenant: str
    content_type: str
    start: datetime
    end: datetime
    kind: str
    cause: str
    blobs: tuple[str, ...] = ()
    until: datetime | None = None


def find_gaps(tenant: str, state: State, now: datetime, within: TimeRange | None = None) -> list[Gap]:
    """Finds the gaps of a tenant's feeds, the most urgent first; those that touch `within`, if given."""
    slices: defaultdict[str, list[SliceState]] = defaultdict(list)
    for one in state.slices.values():
        slices[one.content_type].append(one)
    found = [*_blob_gaps(tenant, state, now)]
    for content_type, asked in state.asked.items():
        found += _listing_gaps(tenant, content_type, asked, slices[content_type], now)
    if within is not None:
        found = [g for g in found if g.start < within.end and g.end > within.start]
    return sorted(found, key=lambda g: (g.until is None, g.until or g.start, g.content_type, g.start))


def _listing_gaps(
    tenant: str, content_type: str, asked: datetime, slices: list[SliceState], now: datetime
) -> Iterator[Gap]:
    covered = listed_ranges(slices)
    told: list[TimeRange] = []
    for one in sorted(slices, key=lambda s: s.start):
        if one.outcome == LISTED:
            continue
        told.append(TimeRange(one.start, one.end))
        kind = LOST if one.outcome == LOST else NOT_LISTED
        for rest in without(told[-1], covered):
            yield from _timed(Gap(tenant, content_type, rest.start, rest.end, kind, one.cause or ""), now)
    for early in _unsettled(slices, now):
        yield Gap(tenant, content_type, early.start, early.end, UNSETTLED, "listed before late content had come")
    known = [*covered, *told]
    last = max((r.end for r in known), default=asked)
    stretch = TimeRange(asked, max(asked, now if now - last > _NOT_DUE else last))
    for rest in without(stretch, known):
        yield from _timed(Gap(tenant, content_type, rest.start, rest.end, NEVER_LISTED, "no run has asked for it"), now)


def _unsettled(slices: Iterable[SliceState], now: datetime) -> list[TimeRange]:
    """Gives the stretches that were listed too early and have aged out since."""
    oldest = now - time_limit("retention")
    settle = time_limit("late_arrival")
    return joined(
        TimeRange(s.start, s.end)
        for s in slices
        if s.outcome == LISTED and not s.closed and s.at < s.end + settle and s.end <= oldest
    )


def _timed(gap: Gap, now: datetime) -> Iterator[Gap]:
    """Cuts a gap where the service's memory ends, and says until when its later part can be listed."""
    kept = time_limit("retention")
    oldest = now - kept
    if gap.kind == LOST or gap.end <= oldest:
        yield gap
    elif gap.start >= oldest:
        yield replace(gap, until=gap.start + kept)
    else:
        yield replace(gap, end=oldest)
        yield replace(gap, start=oldest, until=now)


def listed_ranges(slices: Iterable[SliceState]) -> list[TimeRange]:
    """Gives the stretches that were listed, in order; a slice that was not over then is known only up to then."""
    return [
        TimeRange(s.start, min(s.end, s.at))
        for s in sorted(slices, key=lambda s: s.start)
        if s.outcome == LISTED and s.at > s.start
    ]


def joined(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """Gives ranges in order, those that touch as one."""
    found: list[TimeRange] = []
    for one in sorted(ranges):
        if found and one.start <= found[-1].end:
            one = TimeRange(found[-1].start, max(found.pop().end, one.end))
        found.append(one)
    return found


def without(wanted: TimeRange, covered: Iterable[TimeRange]) -> Iterator[TimeRange]:
    """Yields what is left of a range without others."""
    at = wanted.start
    for one in sorted(covered):
        if at < min(one.start, wanted.end):
            yield TimeRange(at, min(one.start, wanted.end))
        at = max(at, one.end)
    if at < wanted.end:
        yield TimeRange(at, wanted.end)


def _blob_gaps(tenant: str, state: State, now: datetime) -> Iterator[Gap]:
    groups: defaultdict[tuple[str, str, str], list[tuple[str, BlobState]]] = defaultdict(list)
    for content_id, blob in sorted(state.blobs.items(), key=lambda b: b[1].created):
        if kind := _kind(blob):
            cause = _cause(blob.error, content_id) if blob.error else "no run has finished it yet"
            together = groups[blob.content_type, kind, cause]
            if together and blob.created - together[-1][1].created > _TOGETHER:
                yield _blob_gap(tenant, together, kind, cause, now)
                together.clear()
            together.append((content_id, blob))
    for (_, kind, cause), blobs in groups.items():
        yield _blob_gap(tenant, blobs, kind, cause, now)


def _kind(blob: BlobState) -> str | None:
    if blob.status == LANDED:
        return CUT_OFF if blob.error else None
    return _KINDS[blob.status]


def _cause(error: str, content_id: str) -> str:
    """Gives an error without the blob's own name, so that blobs of one cause stand together."""
    return error.replace(f" {content_id!r}", "")


def _blob_gap(tenant: str, blobs: list[tuple[str, BlobState]], kind: str, cause: str, now: datetime) -> Gap:
    first, last = blobs[0][1], blobs[-1][1]
    ends = [expiration_of(b) for _, b in blobs]
    until = min((e for e in ends if e > now), default=None) if kind not in (EXPIRED, CUT_OFF) else None
    ids = tuple(content_id for content_id, _ in blobs)
    return Gap(tenant, first.content_type, first.created, last.created + _INSTANT, kind, cause, ids, until)


def expiration_of(blob: BlobState) -> datetime:
    """Tells until when a blob can be had."""
    return blob.expiration or blob.created + time_limit("retention")


def gaps(storage: Storage, now: datetime) -> list[Gap]:
    """Finds the gaps of a lake from its ledgers alone.

    Raises:
      LakeError: There is no lake, or it cannot be read.
    """
    return [g for t in require_tenants(storage) for g in find_gaps(t, Ledger(storage, t).state, now)]


def to_json(found: Iterable[Gap]) -> list[dict[str, object]]:
    """Gives gaps as JSON objects; times are ISO 8601."""
    return [
        {n: format_utc(v) if isinstance(v, datetime) else v for n, v in asdict(gap).items()}
        | {"healable": gap.until is not None}
        for gap in found
    ]


def describe(found: list[Gap]) -> str:
    """Gives gaps as a person reads them."""
    if not found:
        return "no gaps: every slice from the first listed one on was listed, and every blob in them has landed"
    rows = [
        (g.tenant, g.content_type, _time(g.start), _time(g.end), g.kind, len(g.blobs) or "", _time(g.until), g.cause)
        for g in found[:SHOWN]
    ]
    lines = text_table(("tenant", "content type", "from", "to", "gap", "blobs", "can be had until", "cause"), rows)
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN:,} more: --json lists them all")
    healable = sum(g.until is not None for g in found)
    word = "gap" if len(found) == 1 else "gaps"
    lines.append(f"{len(found):,} {word}, {healable:,} of them can still be healed")
    if healable:
        lines.append("next       auditlake backfill --gaps")
    return "\n".join(lines)


def _time(time: datetime | None) -> str:
    return "-" if time is None else format_utc(time.replace(microsecond=0))
