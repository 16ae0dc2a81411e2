"""Fills a tenant with content: records of files or of the generator, cut into blobs with the feed's oddities.

files ─────▶ lines by type ─▶ cut by size, spread evenly ──────────┐
generator ─▶ lines by type ─▶ cut by size and time, after the event ┴▶ repeat some ─▶ blobs, some late
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

from emulator.content import Blob, content_type_of, content_type_of_line, make_blob
from schemas.contract import limits
from schemas.times import EPOCH, parse_wire

_BOM = b"\xef\xbb\xbf"
_NEWEST_AGE = timedelta(minutes=4)
_LONGEST_DELAY = timedelta(minutes=90)
# Blobs of a type are numbered, and their ids differ by it: those of files from 0, generated ones from here.
_FIRST_GENERATED = 500_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How records become blobs. Shares are of 1; all choices repeat with the seed.

    Attributes:
      days: How far before the anchor content begins, in days.
      max_records: Most records of a blob, repeats aside.
      repeated: Share of records that stand again in a later blob.
      twice: Share of records that stand twice in their blob.
      late: Share of blobs that appear after their contentCreated, by half a day at most and before the anchor.
      pending: Share of the blobs of the last 36 hours that appear only after the anchor.
      expired: Share of blobs that have expired at the anchor.
    """

    days: float = 7 - 1 / 24
    max_records: int = 250
    repeated: float = 0.02
    twice: float = 0.002
    late: float = 0.03
    pending: float = 0.0
    expired: float = 0.0


@dataclass(slots=True)
class _Batch:
    """The lines of a blob to be, and the blob's time. A lone batch holds one line that is no JSON."""

    lines: list[bytes]
    created: datetime
    lone: bool = False


def read_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """Yields the lines of NDJSON files, plain or gzip, without their line ends; blank ones are left out.

    Raises:
      OSError: A file is missing, or ends in .gz and is not a whole gzip file.
    """
    for path in paths:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                for number, raw in enumerate(file):
                    line = raw.removeprefix(_BOM) if number == 0 else raw
                    if line.strip():
                        yield line.rstrip(b"\r\n")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise OSError(f"{path} is not a whole gzip file: {error}") from error


def blobs_of_lines(lines: Iterable[bytes], shape: Shape, anchor: datetime, seed: str, datacentre: str) -> list[Blob]:
    """Makes blobs of given records, spread evenly over the time before the anchor; event times stay as they are."""
    by_type: dict[str, list[bytes]] = {}
    broken: list[bytes] = []
    for line in lines:
        content_type = content_type_of_line(line)
        (broken if content_type is None else by_type.setdefault(content_type, [])).append(line)
    batches = {}
    for content_type in {**by_type, **({"Audit.General": None} if broken else {})}:
        rng = _rng(seed, "files", content_type)
        cut = [_Batch(part, EPOCH) for part in _cut(by_type.get(content_type, []), shape, rng)]
        if content_type == "Audit.General":
            cut += [_Batch([line], EPOCH, lone=True) for line in broken]
            rng.shuffle(cut)
        start, length = anchor - timedelta(days=shape.days), timedelta(days=shape.days) - _NEWEST_AGE
        for number, batch in enumerate(cut):
            batch.created = start + length * ((number + rng.random()) / len(cut))
        batches[content_type] = cut
    return _finish(batches, shape, anchor, seed, datacentre, 0)


def blobs_of_generated(count: int, shape: Shape, anchor: datetime, seed: str, tenant: tuple[str, str]) -> list[Blob]:
    """Makes blobs of generated records: events over the time before the anchor, each blob minutes to hours later.

    Args:
      count: How many records.
      shape: How they are cut.
      anchor: Where they end.
      seed: What the choices hang on.
      tenant: Its id and its datacentre.
    """
    from emulator.generate import generate  # here, as only a generated feed needs it

    start = anchor - timedelta(days=shape.days)
    end = anchor - _NEWEST_AGE - _LONGEST_DELAY
    records = generate(Random(seed).getrandbits(32), count, start=start, end=end, tenant_id=tenant[0])  # noqa: S311
    encode = msgspec.json.Encoder().encode
    by_type: dict[str, list[tuple[datetime, bytes]]] = {}
    for record in records:
        content_type = content_type_of(record.get("RecordType"), record.get("Workload"))
        event = parse_wire(str(record.get("CreationTime"))) or start
        by_type.setdefault(content_type, []).append((min(max(event, start), end), encode(record)))
    batches = {}
    for content_type, events in by_type.items():
        events.sort(key=lambda pair: pair[0])
        batches[content_type] = list(_cut_by_time(events, shape, _rng(seed, "generated", content_type)))
    return _finish(batches, shape, anchor, seed, tenant[1], _FIRST_GENERATED)


def _cut(lines: Sequence[bytes], shape: Shape, rng: Random) -> Iterator[list[bytes]]:
    begin = 0
    while begin < len(lines):
        size = _size(shape, rng)
        yield list(lines[begin : begin + size])
        begin += size


def _cut_by_time(events: Sequence[tuple[datetime, bytes]], shape: Shape, rng: Random) -> Iterator[_Batch]:
    begin = 0
    while begin < len(events):
        longest = events[begin][0] + timedelta(minutes=rng.uniform(10, 180))
        end, last = begin + 1, min(begin + _size(shape, rng), len(events))
        while end < last and events[end][0] < longest:
            end += 1
        lines = [line for _, line in events[begin:end]]
        rng.shuffle(lines)
        delay = timedelta(minutes=rng.uniform(5, _LONGEST_DELAY.total_seconds() / 60))
        yield _Batch(lines, events[end - 1][0] + delay)
        begin = end


def _size(shape: Shape, rng: Random) -> int:
    # Squared, so that small blobs are the most usual and big ones do occur.
    return 1 + int(shape.max_records * rng.random() ** 2)


def _finish(
    batches: Mapping[str, list[_Batch]], shape: Shape, anchor: datetime, seed: str, datacentre: str, first: int
) -> list[Blob]:
    return [
        blob
        for content_type, cut in sorted(batches.items())
        for blob in _blobs(content_type, cut, shape, anchor, _rng(seed, "blobs", content_type), datacentre, first)
    ]


def _blobs(
    content_type: str, batches: list[_Batch], shape: Shape, anchor: datetime, rng: Random, datacentre: str, first: int
) -> Iterator[Blob]:
    batches.sort(key=lambda batch: batch.created)
    _repeat_some(batches, shape, rng)
    for number, batch in enumerate(batches, first):
        yield make_blob(
            content_type,
            batch.lines,
            batch.created,
            number=number,
            datacentre=datacentre,
            available_at=_appearance(batch.created, shape, anchor, rng),
            expiration=_expiration(batch.created, shape, anchor, rng),
        )


def _repeat_some(batches: list[_Batch], shape: Shape, rng: Random) -> None:
    copies: list[tuple[_Batch, bytes]] = []
    for number, batch in enumerate(batches):
        for line in () if batch.lone else batch.lines:
            chance = rng.random()
            if chance < shape.twice:
                copies.append((batch, line))
            elif chance < shape.twice + shape.repeated and number + 1 < len(batches):
                copies.append((batches[min(number + rng.randint(1, 12), len(batches) - 1)], line))
    for target, line in copies:
        if not target.lone:
            target.lines.append(line)


def _appearance(created: datetime, shape: Shape, anchor: datetime, rng: Random) -> datetime:
    chance, delay = rng.random(), rng.random()
    if chance < shape.pending and created > anchor - timedelta(hours=36):
        return anchor + timedelta(minutes=5 + 360 * delay)
    if chance > 1 - shape.late:
        return max(created, min(created + timedelta(minutes=20 + 700 * delay), anchor - timedelta(seconds=1)))
    return created


def _expiration(created: datetime, shape: Shape, anchor: datetime, rng: Random) -> datetime:
    chance, share = rng.random(), rng.random()
    if chance < shape.expired:
        return created + (anchor - created) * share
    return created + timedelta(seconds=limits()["retention"])


def _rng(seed: str, *names: str) -> Random:
    return Random("/".join((seed, *names)))  # noqa: S311 - must repeat
