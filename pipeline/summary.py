"""What a run did, from its entries in the ledger: numbers, what is missing, what to run next."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta

from lake import layout
from lake.entries import EXPIRED, FAILED, LANDED, LISTED, REJECTED, Entry, Listing
from lake.gaps import SOON, Gap, joined, without
from lake.text_table import one_line
from pipeline.plan import Failure
from schemas.times import TimeRange, format_utc

SHOWN = 5
RELISTING = "not listed again"
_NOW = timedelta(seconds=2)  # the service tells whole seconds: two looks at its clock may differ by as much


@dataclass(slots=True)
class Summary:
    """The figures of a run.

    `missing` names, one sentence each, what is not complete of what it was asked for, `expiring` what ages out soon.
    """

    lake: str
    run: str
    seconds: float = 0.0
    slices: int = 0
    blobs_listed: int = 0
    blobs: Counter[str] = field(default_factory=Counter)
    records: int = 0
    duplicates: int = 0
    rejects: int = 0
    conflicts: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    drift: Counter[str] = field(default_factory=Counter)
    files: int = 0
    file_bytes: int = 0
    subscribed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    expiring: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 for a complete run, 1 where something is missing."""
        return 1 if self.missing else 0


@dataclass(slots=True)
class Vain:
    """What a run asked for and did not get: slices of each content type with the causes, and ids of blobs."""

    slices: defaultdict[str, dict[TimeRange, str]] = field(default_factory=lambda: defaultdict(dict))
    blobs: set[str] = field(default_factory=set)


def add_failures(summary: Summary, failures: Iterable[Failure]) -> None:
    """Adds tenants and feeds that could not be prepared."""
    for f in failures:
        what = f"{f.tenant} {f.content_type}" if f.content_type else f"tenant {f.tenant}"
        summary.missing.append(f"{what}: {f.message}")


def add_entries(summary: Summary, entries: Iterable[Entry]) -> Vain:
    """Adds a tenant's entries of the run; returns what it asked for in vain."""
    vain = Vain()
    for entry in entries:
        if entry.run != summary.run:
            continue
        if isinstance(entry, Listing):
            summary.slices += sum(s.outcome == LISTED for s in entry.slices)
            summary.blobs_listed += sum(s.blobs for s in entry.slices)
            for s in entry.slices:
                if s.outcome == LISTED:
                    vain.slices[entry.content_type].pop(TimeRange(s.start, s.end), None)
                else:
                    vain.slices[entry.content_type][TimeRange(s.start, s.end)] = s.cause or ""
            continue
        vain.blobs.update(b.content_id for b in entry.blobs if b.status != LANDED)
        for b in entry.blobs:
            summary.blobs[b.status] += 1
            summary.records += b.records
            summary.duplicates += b.duplicates
            summary.rejects += b.rejects
            summary.conflicts += b.conflicts
        for ref in entry.files:
            where = layout.partition_of(ref.key)
            summary.files += 1
            summary.file_bytes += ref.size
            if where:
                summary.rows[where[0]] += ref.rows
        summary.drift.update({f"{d.table}.{d.member} ({d.json_type})": d.count for d in entry.drift})
    return vain


def add_gaps(
    summary: Summary, tenant: str, gaps: Sequence[Gap], asked: Mapping[str, TimeRange], now: datetime, vain: Vain
) -> None:
    """Adds what is missing of the stretches that were asked for or asked in vain, and what is about to age out."""
    gaps = [g for g in gaps if g.blobs or g.start < now - _NOW]
    for gap in gaps:
        wanted = asked.get(gap.content_type)
        if gap.until is not None and gap.until - now < SOON:
            summary.expiring.append(f"{_sentence(tenant, gap)}; it can be had until {format_utc(gap.until)}")
        is_wanted = wanted is not None and gap.start < wanted.end and gap.end > wanted.start
        if not gap.blobs and is_wanted:
            summary.missing.append(_sentence(tenant, gap))
        where = f"{tenant} {gap.content_type}: blob"
        blobs = [i for i in gap.blobs if is_wanted or i in vain.blobs]
        summary.missing += [f"{where} {content_id} {gap.kind}: {gap.cause}" for content_id in blobs]
    for content_type, slices in vain.slices.items():
        known = [TimeRange(g.start, g.end) for g in gaps if g.content_type == content_type and not g.blobs]
        for rest in joined(r for one in slices for r in without(one, known)):
            cause = next(c for one, c in slices.items() if one.start < rest.end and one.end > rest.start)
            summary.missing.append(_sentence(tenant, Gap(tenant, content_type, rest.start, rest.end, RELISTING, cause)))


def _sentence(tenant: str, gap: Gap) -> str:
    count = f", {len(gap.blobs):,} blobs" if gap.blobs else ""
    return (
        f"{tenant} {gap.content_type}: {gap.kind} {format_utc(gap.start)} to {format_utc(gap.end)}{count}: {gap.cause}"
    )


def to_json(summary: Summary) -> dict[str, object]:
    """Gives the summary as one JSON object."""
    figures = {f.name: getattr(summary, f.name) for f in fields(summary)}
    return figures | {"complete": not summary.missing}


def describe(summary: Summary) -> str:
    """Gives the summary as a person reads it."""
    rows = sum(summary.rows.values())
    lines = [f"{summary.slices:,} slices listed, {summary.blobs_listed:,} blobs in them"]
    if not summary.blobs:
        lines.append(
            "nothing new: the lake has every blob that was listed" if not summary.missing else "nothing landed"
        )
    else:
        outcomes = ", ".join(
            f"{summary.blobs[s]:,} {s}" for s in (LANDED, EXPIRED, FAILED, REJECTED) if summary.blobs[s]
        )
        rate = summary.records / summary.seconds if summary.seconds else 0
        lines += [
            f"blobs      {outcomes}",
            f"records    {summary.records:,} = {rows:,} new rows + {summary.duplicates:,} duplicates"
            f" + {summary.rejects:,} rejected",
            f"files      {summary.files:,}, {_size(summary.file_bytes)}, in {summary.seconds:.1f} s"
            f" ({rate:,.0f} records/s)",
        ]
        width = max((len(t) for t in summary.rows), default=0)
        lines += [f"  {table:<{width}}  {count:>10,} rows" for table, count in sorted(summary.rows.items()) if count]
    if summary.drift:
        lines.append(f"drift      {sum(summary.drift.values()):,} members kept in _extra, most of all:")
        lines += [f"  {one_line(what)}  {count:,}" for what, count in summary.drift.most_common(SHOWN)]
    if summary.rejects:
        conflicts = f", {summary.conflicts:,} of them conflicts" if summary.conflicts else ""
        lines.append(f"rejected   {summary.rejects:,} records{conflicts}, whole, under {summary.lake}/rejected/")
    if summary.missing:
        lines.append("missing")
        lines += [f"  {one_line(sentence)}" for sentence in summary.missing[: 4 * SHOWN]]
        if len(summary.missing) > 4 * SHOWN:
            lines.append(f"  and {len(summary.missing) - 4 * SHOWN:,} more: --json lists them all")
    if summary.expiring:
        lines.append("WARNING    ages out within a day:")
        lines += [f"  {one_line(sentence)}" for sentence in summary.expiring[:SHOWN]]
        if len(summary.expiring) > SHOWN:
            lines.append(f"  and {len(summary.expiring) - SHOWN:,} more: auditlake gaps lists them all")
    lines.append(f"lake       {summary.lake}")
    again = "run the same command again for what is missing; " if summary.missing else ""
    lines.append(f"next       {again}auditlake verify --lake {summary.lake}")
    return "\n".join(lines)


def _size(size: int) -> str:
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
