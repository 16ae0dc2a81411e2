"""What `verify` found, as counts and problems, and how it reads."""

from dataclasses import asdict, dataclass, field

from lake.text_table import one_line, size_text, text_table

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the ledger says: where, and what is wrong and what to do."""

    where: str
    what: str


@dataclass(slots=True)
class FeedCounts:
    """Counts of one feed.

    `listed` = landed + expired + failed + rejected + pending; `records` = rows + duplicates + rejects, of which
    `conflicts` are repeats that differ from the record that came first.

    Slices of available time were `listed_slices`, `unlisted_slices` (the listing failed) or `lost_slices` (older than
    the service keeps).
    """

    tenant: str
    content_type: str
    listed_slices: int = 0
    unlisted_slices: int = 0
    lost_slices: int = 0
    listed: int = 0
    landed: int = 0
    expired: int = 0
    failed: int = 0
    rejected: int = 0
    pending: int = 0
    records: int = 0
    rows: int = 0
    duplicates: int = 0
    rejects: int = 0
    conflicts: int = 0


@dataclass(slots=True)
class Verification:
    """The result of verifying a lake: what was counted, and every problem."""

    lake: str
    tenants: list[str]
    feeds: list[FeedCounts] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: "Verification") -> None:
        """Adds what another one found."""
        self.feeds += other.feeds
        self.files += other.files
        self.bytes += other.bytes
        self.problems += other.problems


def to_json(verification: Verification) -> dict[str, object]:
    """Gives a verification as one JSON object."""
    return asdict(verification) | {"verified": not verification.problems}


def describe(verification: Verification) -> str:
    """Gives a verification as a person reads it."""
    names = ["listed", "landed", "expired", "failed", "pending", "records", "rows", "duplicates", "rejects"]
    # Rare ones are shown where they are.
    names += [n for n in ("rejected", "conflicts") if any(getattr(f, n) for f in verification.feeds)]
    rows = [(f.tenant, f.content_type, *(getattr(f, n) for n in names)) for f in verification.feeds]
    lines = text_table(("tenant", "content type", *names), rows) if rows else []
    lines.append(f"{verification.files:,} files, {size_text(verification.bytes)}")
    if absent := _absent(verification.feeds):
        lines.append(f"accounted for, but not in the lake: {absent}")
    if not verification.problems:
        lines.append(
            "verified: every listed blob has an outcome, every record of a landed blob is a row, a duplicate or a "
            "reject, every Id stands once, and every file is as it was committed"
        )
        return "\n".join(lines)
    count = len(verification.problems)
    lines.append(f"NOT verified: {count:,} {'problem' if count == 1 else 'problems'}")
    lines += [f"  {one_line(p.where)}: {one_line(p.what)}" for p in verification.problems[:SHOWN]]
    if count > SHOWN:
        lines.append(f"  and {count - SHOWN:,} more: --json lists them all")
    return "\n".join(lines)


def _absent(feeds: list[FeedCounts]) -> str:
    """Tells what has an outcome that is a loss; a later run may still have some of it."""
    words = (
        ("blobs that failed (run `auditlake backfill` again)", sum(f.failed for f in feeds)),
        (
            "blobs that cannot be read, kept whole under rejected/ (run `auditlake backfill` or `auditlake replay`)",
            sum(f.rejected for f in feeds),
        ),
        ("expired blobs", sum(f.expired for f in feeds)),
        ("slices that could not be listed (run `auditlake backfill` again)", sum(f.unlisted_slices for f in feeds)),
        ("slices older than the service keeps", sum(f.lost_slices for f in feeds)),
    )
    return ", ".join(f"{count:,} {what}" for what, count in words if count)
