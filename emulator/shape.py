"""How records become content: sizes, times and the feed's oddities, all in shares that repeat with the seed."""

from dataclasses import dataclass

BROKEN_KINDS = ("not_object", "no_id", "no_time", "invalid_json", "invalid_utf8")


@dataclass(frozen=True, slots=True)
class Shape:
    """How records become blobs. Shares are of 1; all choices repeat with the seed. `[content]` of a script sets any.

    Attributes:
      days: How far before the anchor content begins, in days.
      ahead_days: How far behind the anchor content goes on, in days; it appears as the clock gets there.
      max_records: Most records of a blob, repeats aside.
      repeated: Share of records that stand again in a later blob.
      twice: Share of records that stand twice in their blob.
      late: Share of blobs that appear after their contentCreated; those from before the anchor, before it.
      late_hours: How late, from and to, in hours; short waits are as usual as long ones.
      pending: Share of the newest blobs before the anchor that appear only after it.
      pending_hours: How long after the anchor, from and to, in hours.
      pending_days: How old the oldest blob is that may be pending, in days before the anchor.
      expired: Share of blobs that have expired at the anchor.
      redelivered: Share of blobs whose records come again, all of them, in a new blob.
      redelivered_days: How much later they come again, in days.
      conflicting: Share of records of which a copy with the same Id and time, yet another body, comes in the same or a
        later blob.
      broken: Share of records beside which there is one that is none.
      broken_kinds: What those may be: some of not_object, no_id, no_time, invalid_json, invalid_utf8.
      empty: Share of blobs behind which there is one without records.
      oversized_mb: Sizes of further blobs, in megabytes, each of many records of usual size.
    """

    days: float = 7 - 1 / 24
    ahead_days: float = 0.0
    max_records: int = 250
    repeated: float = 0.02
    twice: float = 0.002
    late: float = 0.03
    late_hours: tuple[float, float] = (1 / 3, 12.0)
    pending: float = 0.0
    pending_hours: tuple[float, float] = (1 / 12, 6.0)
    pending_days: float = 1.5
    expired: float = 0.0
    redelivered: float = 0.0
    redelivered_days: float = 5.0
    conflicting: float = 0.0
    broken: float = 0.0
    broken_kinds: tuple[str, ...] = BROKEN_KINDS
    empty: float = 0.0
    oversized_mb: tuple[float, ...] = ()
