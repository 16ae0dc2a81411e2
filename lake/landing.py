"""Landing a unit: stage, check, commit, publish.

add blobs ── stage.py ── commit: check again against the newest ledger ── entry n+1 ── files move to their final names

A crash before the entry leaves staged files, which are swept; a crash after it is rolled forward by whoever comes next.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from lake.entries import EXPIRED, FAILED, REJECTED, BlobOutcome, FileRef, Landing, State
from lake.rejected import WHOLE_BODY, RejectedRecord, read_rejected
from lake.stage import BlobCounts, Stage
from lake.tenant import TenantLake
from schemas.decode import RawRecord, Reject, split_blob
from schemas.feed import ContentBlob


class Unit:
    """The landing of one unit of blobs of one feed. Not shared between threads.

    Args:
      lake: Where it lands.
      run: The run's name in the ledger.
      content_type: The feed's.
      clock: Tells the time of the commit; this machine's by default.
    """

    def __init__(
        self, lake: TenantLake, run: str, content_type: str, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._lake = lake
        self._clock = clock or _machine_time
        self._run = run
        self._content_type = content_type
        self._checked = lake.ledger.state.version
        self._stage = Stage(lake)
        self._landed: dict[str, BlobCounts] = {}
        self._lost: dict[str, BlobOutcome] = {}
        self._bodies: dict[str, FileRef] = {}

    def add(self, blob: ContentBlob, body: bytes, records: Sequence[RawRecord] | None = None) -> int:
        """Takes a blob's records; returns how many there are. A blob counts once in a unit.

        Args:
          blob: The blob.
          body: Its body.
          records: The body's records where it is split already.

        Raises:
          NotAnArrayError: The body is no array of records; nothing of it was taken.
        """
        if blob.content_id in self._landed:
            return self._landed[blob.content_id].records
        raws = split_blob(body) if records is None else records
        counts = self._landed[blob.content_id] = BlobCounts(blob, len(raws))
        self._lost.pop(blob.content_id, None)
        self._stage.add(counts, raws)
        return len(raws)

    def add_failed(self, blob: ContentBlob, error: str, *, expired: bool = False) -> None:
        """Notes a blob that could not be had."""
        if blob.content_id in self._landed:
            return
        status = EXPIRED if expired else FAILED
        self._lost[blob.content_id] = BlobOutcome(blob.content_id, blob.content_created, status, error=error)

    def add_unreadable(self, blob: ContentBlob, body: bytes, error: str) -> None:
        """Keeps the body of a blob that `add` did not take, whole; the blob is to be asked for again."""
        known = self._lake.ledger.state.blobs.get(blob.content_id)
        if blob.content_id in self._landed or (known and known.kept and body == self._body(known.kept)):
            return
        record = RejectedRecord.of(self._lake.tenant, blob, Reject(WHOLE_BODY, "unreadable", body))
        ref = self._bodies[blob.content_id] = self._stage.put_rejects([record])
        self._lost[blob.content_id] = BlobOutcome(
            blob.content_id, blob.content_created, REJECTED, error=error, kept=ref.key
        )

    def _body(self, key: str) -> bytes | None:
        """Reads a kept body; None where another has removed it."""
        try:
            (record,) = read_rejected(self._lake.storage.get(key))
        except FileNotFoundError:
            return None
        return record.data

    def commit(self) -> Landing | None:
        """Commits the unit and publishes its files; None where others had landed all of it before."""
        self._stage.flush()
        entry = self._lake.commit(self._entry, lambda: self._stage.keys)
        return entry if isinstance(entry, Landing) else None

    def _entry(self, state: State) -> Landing | None:
        """Makes the entry that is right after `state`."""
        self._check_again(state)
        # Also where nothing is left: then it takes back what it staged.
        rejected = self._stage.rejects_file([r for c in self._landed.values() for r in c.rejects])
        lost = [b for b in self._lost.values() if _is_news(b, state)]
        if not self._landed and not lost:
            return None
        landed = [c.outcome() for c in self._landed.values()]
        bodies = [self._bodies[b.content_id] for b in lost if b.kept]
        known = (state.blobs.get(b.content_id) for b in (*landed, *lost))
        return Landing(
            run=self._run,
            at=self._clock(),
            content_type=self._content_type,
            blobs=landed + lost,
            files=self._stage.files + rejected + bodies,
            drift=self._stage.drift,
            removed=[k.kept for k in known if k and k.kept],
        )

    def _check_again(self, state: State) -> None:
        """Drops blobs and rows that others have committed since this unit looked."""
        others = [c for c in self._landed if state.has_landed(c)]  # what expired for others is still ours to land
        if not others and state.version == self._checked:
            return
        self._checked = state.version
        self._stage.cover()
        for content_id in others:
            del self._landed[content_id]
        self._stage.check_again(others, self._landed)


def _is_news(told: BlobOutcome, state: State) -> bool:
    """Whether a blob's loss is worth an entry: nobody has had it, nor more of it than this unit."""
    known = state.blobs.get(told.content_id)
    return known is None or not (known.is_settled or (known.kept and not told.kept))


def _machine_time() -> datetime:
    return datetime.now(UTC)
