"""Fills a tenant with content: records of files or of the generator, cut into blobs with the feed's oddities.

files ─────▶ lines by type ─▶ cut by size, spread evenly ──────────┐
generator ─▶ lines by type ─▶ cut by size and time, after the event ┴▶ oddities ─▶ blobs, some late
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import msgspec

from emulator.content import Blob, content_type_of, content_type_of_line, make_blob
from emulator.oddities import Batch, break_some, conflict_some, empty_ones, oversized, redelivered, repeat_some
from emulator.shape import Shape
from schemas.contract import time_limit
from schemas.times import EPOCH, parse_wire

_BOM = b"\xef\xbb\xbf"
_NEWEST_AGE = timedelta(minutes=4)
_LONGEST_DELAY = timedelta(minutes=90)
# Blobs of a type are numbered, and their ids differ by it: those of files from 0, generated ones from here.
_FIRST_GENERATED = 500_000


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
    """Makes blobs of given records, spread evenly over the time of content; event times stay as they are."""
    by_type: dict[str, list[bytes]] = {}
    broken: list[bytes] = []
    for line in lines:
        content_type = content_type_of_line(line)
        (broken if content_type is None else by_type.setdefault(content_type, [])).append(line)
    batches = {}
    for content_type in {**by_type, **({"Audit.General": None} if broken else {})}:
        rng = _rng(seed, "files", content_type)
        cut = [Batch(part, EPOCH) for part in _cut(by_type.get(content_type, []), shape, rng)]
        if content_type == "Audit.General":
            cut += [Batch([line], EPOCH, lone=True) for line in broken]
            rng.shuffle(cut)
        start = anchor - timedelta(days=shape.days)
        length = _end(shape, anchor) - start
        for number, batch in enumerate(cut):
            batch.created = start + length * ((number + rng.random()) / len(cut))
        batches[content_type] = cut
    return _finish(batches, shape, anchor, seed, datacentre, 0)


def blobs_of_generated(count: int, shape: Shape, anchor: datetime, seed: str, tenant: tuple[str, str]) -> list[Blob]:
    """Makes blobs of generated records: events over the time of content, each blob minutes to hours later.

    Args:
      count: How many records.
      shape: How they are cut.
      anchor: Where they end, unless the shape says otherwise.
      seed: What the choices hang on.
      tenant: Its id and its datacentre.
    """
    from emulator.generate import generate  # here, as only a generated feed needs it

    start = anchor - timedelta(days=shape.days)
    end = _end(shape, anchor) - _LONGEST_DELAY
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


def _cut_by_time(events: Sequence[tuple[datetime, bytes]], shape: Shape, rng: Random) -> Iterator[Batch]:
    begin = 0
    while begin < len(events):
        longest = events[begin][0] + timedelta(minutes=rng.uniform(10, 180))
        end, last = begin + 1, min(begin + _size(shape, rng), len(events))
        while end < last and events[end][0] < longest:
            end += 1
        lines = [line for _, line in events[begin:end]]
        rng.shuffle(lines)
        delay = timedelta(minutes=rng.uniform(5, _LONGEST_DELAY.total_seconds() / 60))
        yield Batch(lines, events[end - 1][0] + delay)
        begin = end


def _size(shape: Shape, rng: Random) -> int:
    # Squared, so that small blobs are the most usual and big ones do occur.
    return 1 + int(shape.max_records * rng.random() ** 2)


def _finish(
    batches: Mapping[str, list[Batch]], shape: Shape, anchor: datetime, seed: str, datacentre: str, first: int
) -> list[Blob]:
    blobs: list[Blob] = []
    for number, (content_type, cut) in enumerate(sorted(batches.items())):
        cut.sort(key=lambda batch: batch.created)
        repeat_some(cut, shape, rng := _rng(seed, "blobs", content_type))
        huge_mb = shape.oversized_mb[number :: len(batches)]
        cut += _odd(cut, shape, _end(shape, anchor), huge_mb, f"{seed}/{content_type}/{first}")
        cut.sort(key=lambda batch: batch.created)
        blobs += _blobs(content_type, cut, shape, anchor, rng, datacentre, first)
    return blobs


def _odd(cut: list[Batch], shape: Shape, end: datetime, huge_mb: Sequence[float], seed: str) -> list[Batch]:
    """Makes some of a type's batches odd; returns those that come in addition."""
    rng = _rng(seed, "oddities")
    huge = list(oversized(cut, huge_mb, seed, rng))
    conflict_some(cut, shape, rng)
    break_some(cut, shape, rng)
    return [*huge, *redelivered(cut, shape, end, rng), *empty_ones(cut, shape, rng)]


def _blobs(
    content_type: str, batches: list[Batch], shape: Shape, anchor: datetime, rng: Random, datacentre: str, first: int
) -> Iterator[Blob]:
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


def _end(shape: Shape, anchor: datetime) -> datetime:
    """Tells where content ends."""
    return anchor + timedelta(days=shape.ahead_days) - _NEWEST_AGE


def _appearance(created: datetime, shape: Shape, anchor: datetime, rng: Random) -> datetime:
    chance, drawn = rng.random(), rng.random()
    if chance < shape.pending and anchor - timedelta(days=shape.pending_days) < created < anchor:
        return anchor + _between(shape.pending_hours, drawn)
    if chance > 1 - shape.late:
        appears = created + _between(shape.late_hours, drawn)
        return appears if created > anchor else max(created, min(appears, anchor - timedelta(seconds=1)))
    return created


def _between(hours: tuple[float, float], drawn: float) -> timedelta:
    # By factors, so that seconds come as often as days where both are in reach.
    return timedelta(hours=hours[0] * (hours[1] / hours[0]) ** drawn)


def _expiration(created: datetime, shape: Shape, anchor: datetime, rng: Random) -> datetime:
    chance, share = rng.random(), rng.random()
    if chance < shape.expired and created < anchor:
        return created + (anchor - created) * share
    return created + time_limit("retention")


def _rng(seed: str, *names: str) -> Random:
    return Random("/".join((seed, *names)))  # noqa: S311 - must repeat
