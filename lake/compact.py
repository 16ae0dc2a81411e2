"""Compaction: the many small files of a day of a table become few large ones with the same rows.

ledger ── days that are over ── their small files ── lake/merge.py ── staged files
                                                                          │
   old files go ── new files appear ── one rewrite entry, if every old file still stands

Between the last two steps a reader who only lists files sees rows twice, and at no time none.
"""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from time import monotonic
from typing import Any

from lake import layout
from lake.committed import GoneError
from lake.entries import COMPACTION, FileRef, Rewrite, State
from lake.merge import TARGET_BYTES, TARGET_ROWS, UnmergeableError, UnpublishedError, merge
from lake.stage import Stage
from lake.storage import LakeError
from lake.tenant import TenantLake


@dataclass(frozen=True, slots=True)
class Pile:
    """Small files of a day of a table, two at least."""

    table: str
    day: date
    files: list[FileRef]

    @property
    def size_bytes(self) -> int:
        """Their size."""
        return sum(ref.size for ref in self.files)

    @property
    def rows(self) -> int:
        """Their rows."""
        return sum(ref.rows for ref in self.files)


@dataclass(slots=True)
class Compaction:
    """What compaction did: days, their small files before and all of them after, in bytes too, and the rows in them.

    `busy` days were left because another process had changed their files meanwhile, `later` ones because the time was
    over; `problems` say why others were.
    """

    days: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    busy: int = 0
    later: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Compaction") -> None:
        """Adds another one's counts."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, Any]:
        """Gives the counts as a JSON object."""
        return asdict(self)


def find_piles(state: State, tenant: str, over_by: datetime) -> list[Pile]:
    """Finds the days (of CreationTime, UTC) that were over by a time and have small files, in the order of days.

    A file is small below half of the size that compaction makes, so that what it has made is not taken again.
    """
    small: defaultdict[tuple[str, str], list[FileRef]] = defaultdict(list)
    for file in state.files.values():
        where = layout.partition_of(file.ref.key)
        if where and where[1] == tenant and file.ref.size < TARGET_BYTES // 2 and file.ref.rows < TARGET_ROWS // 2:
            small[where[2], where[0]].append(file.ref)
    last = over_by.astimezone(UTC).date()
    return [
        Pile(table, day, files)
        for (text, table), files in sorted(small.items())
        if len(files) > 1 and (day := _day(text)) is not None and day < last
    ]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None  # no landing gives a folder such a name


def compact_tenant(
    lake: TenantLake, run: str, now: datetime, settle: timedelta, budget_s: float | None = None
) -> Compaction:
    """Compacts the days of a tenant that have been over for `settle`; each is committed on its own.

    Args:
      lake: The tenant's part of the lake.
      run: The run's name.
      now: The time.
      settle: How long records of a day may come late.
      budget_s: Seconds after which no further day is begun; None for no limit.

    Raises:
      LakeError: The lake cannot be read or written.
    """
    found = Compaction()
    until = None if budget_s is None else monotonic() + budget_s
    lake.ledger.refresh()
    piles = find_piles(lake.ledger.state, lake.tenant, now - settle)
    for number, pile in enumerate(piles):
        if until is not None and monotonic() >= until:
            found.later = len(piles) - number
            break
        found.add(compact(lake, run, pile))
    return found


def compact(lake: TenantLake, run: str, pile: Pile) -> Compaction:
    """Puts few files in the place of a pile, unless somebody else has changed it meanwhile.

    Raises:
      LakeError: The lake cannot be read or written.
    """
    stage, staged = Stage(lake), []
    try:
        for data, rows in merge(lake.storage, pile.table, pile.files):
            name = layout.new_name()
            key = layout.audit_file(pile.table, lake.tenant, pile.day, name)
            staged.append(stage.put(key, f"{name}.parquet", data, rows))
    except (GoneError, UnpublishedError, UnmergeableError) as error:
        _discard(lake, staged)
        lake.ledger.refresh()
        busy = isinstance(error, UnpublishedError) or not _stands(pile, lake.ledger.state)
        return Compaction(busy=1) if busy else Compaction(problems=[str(error)])
    except LakeError:
        _discard(lake, staged)
        raise

    def entry(state: State) -> Rewrite | None:
        if not _stands(pile, state):
            return None
        removed = [ref.key for ref in pile.files]
        return Rewrite(run, datetime.now(UTC), COMPACTION, removed, staged, blobs=[], drift=[])

    if lake.commit(entry) is None:
        _discard(lake, staged)
        return Compaction(busy=1)
    return Compaction(
        days=1,
        files_before=len(pile.files),
        files_after=len(staged),
        bytes_before=pile.size_bytes,
        bytes_after=sum(ref.size for ref in staged),
        rows=pile.rows,
    )


def _stands(pile: Pile, state: State) -> bool:
    return all(ref.key in state.files for ref in pile.files)


def _discard(lake: TenantLake, staged: list[FileRef]) -> None:
    for ref in staged:
        lake.storage.delete(ref.staged)
