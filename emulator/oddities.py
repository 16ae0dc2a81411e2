"""What is odd about content: records that come again, or differ, or are broken; blobs that are empty or huge.

All of it is added, so that what was there before stays as it was.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import accumulate, islice
from random import Random
from typing import Any, overload

import msgspec

from emulator.shape import Shape

_MEGABYTE = 1 << 20
_MOST_TEMPLATES = 500
_NOT_OBJECTS = (b"7", b'"text"', b"null", b"true", b"[]", b'["Id"]')
_PLAIN = b'{"Id":"x","RecordType":1,"CreationTime":"%s","Operation":"Set-Mailbox","Workload":"Exchange","Notes":"%s"}'


@dataclass(slots=True)
class Batch:
    """The lines of a blob to be, and the blob's time. A lone batch holds one line that is no JSON."""

    lines: Sequence[bytes]
    created: datetime
    lone: bool = False


def repeat_some(batches: Sequence[Batch], shape: Shape, rng: Random) -> None:
    """Repeats records in their blob and in later ones."""
    copies: list[tuple[Batch, bytes]] = []
    for number, batch in enumerate(batches):
        for line in () if batch.lone else batch.lines:
            chance = rng.random()
            if chance < shape.twice:
                copies.append((batch, line))
            elif chance < shape.twice + shape.repeated and number + 1 < len(batches):
                copies.append((batches[min(number + rng.randint(1, 12), len(batches) - 1)], line))
    _add_copies(copies)


def conflict_some(batches: Sequence[Batch], shape: Shape, rng: Random) -> None:
    """Adds copies of records with another body, in their blob and in later ones."""
    copies: list[tuple[Batch, bytes]] = []
    for number, batch in enumerate(batches):
        for line in () if batch.lone or not shape.conflicting else batch.lines:
            record = _record(line) if rng.random() < shape.conflicting else None
            if record is not None:
                record["UserKey"] = f"{record.get('UserKey', '')} of copy {len(copies)}"
                target = batches[min(number + rng.randint(0, 12), len(batches) - 1)]
                copies.append((target, msgspec.json.encode(record)))
    _add_copies(copies)


def break_some(batches: Sequence[Batch], shape: Shape, rng: Random) -> None:
    """Puts broken records right before whole ones, so that each can be told from its neighbours."""
    for batch in batches if shape.broken else ():
        if not batch.lone:
            batch.lines = list(_with_broken(batch.lines, shape, rng))


def redelivered(batches: Sequence[Batch], shape: Shape, end: datetime, rng: Random) -> Iterator[Batch]:
    """Yields blobs that bring the records of other ones again, as far as there is time for that before the end."""
    for batch in batches if shape.redelivered else ():
        created = batch.created + timedelta(days=shape.redelivered_days, seconds=rng.uniform(0, 600))
        if rng.random() < shape.redelivered and created < end and not batch.lone:
            yield Batch(list(batch.lines), created)


def empty_ones(batches: Sequence[Batch], shape: Shape, rng: Random) -> Iterator[Batch]:
    """Yields blobs without records."""
    for batch in batches if shape.empty else ():
        if rng.random() < shape.empty:
            yield Batch([], batch.created + timedelta(milliseconds=rng.uniform(1, 900)))


def oversized(batches: Sequence[Batch], sizes_mb: Sequence[float], seed: str, rng: Random) -> Iterator[Batch]:
    """Yields huge blobs, each at the time of one of the others."""
    usable = (line for batch in batches if not batch.lone for line in batch.lines[:20] if _halves(line))
    templates = list(islice(usable, _MOST_TEMPLATES)) if sizes_mb else []
    for number, size_mb in enumerate(sizes_mb):
        at = rng.choice(batches).created
        plain = _PLAIN % (at.strftime("%Y-%m-%dT%H:%M:%S").encode(), b"-" * 900)
        lines = ManyLines(templates or [plain], f"{seed}/{number}", round(size_mb * _MEGABYTE))
        yield Batch(lines, at + timedelta(milliseconds=7))


class ManyLines(Sequence[bytes]):
    """Records of a huge blob, made when they are asked for: lines that differ in their Ids from given ones.

    Args:
      templates: The given lines, each with a text as Id.
      seed: What the Ids hang on.
      size_bytes: How long they are together, at least.
    """

    def __init__(self, templates: Sequence[bytes], seed: str, size_bytes: int) -> None:
        self._halves = [halves for line in templates if (halves := _halves(line))]
        self._key = blake2b(seed.encode(), digest_size=11).hexdigest()
        sums = list(accumulate(len(before) + 36 + len(after) + 1 for before, after in self._halves))
        rounds, rest = divmod(size_bytes, sums[-1])
        self._count = rounds * len(sums) + bisect_left(sums, rest) + 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self._line(number) for number in range(self._count)[at]]
        return self._line(range(self._count)[at])

    def _line(self, number: int) -> bytes:
        before, after = self._halves[number % len(self._halves)]
        key = self._key
        guid = f"{number:08x}-{key[:4]}-4{key[4:7]}-9{key[7:10]}-{key[10:]}"
        return before + guid.encode() + after


def _add_copies(copies: Sequence[tuple[Batch, bytes]]) -> None:
    for target, line in copies:
        if not target.lone:
            target.lines = [*target.lines, line]


def _with_broken(lines: Sequence[bytes], shape: Shape, rng: Random) -> Iterator[bytes]:
    for line in lines:
        record = _record(line) if rng.random() < shape.broken else None
        if record is not None:
            record["Id"] = f"broken-{rng.getrandbits(64):016x}"
            yield _BREAK[rng.choice(shape.broken_kinds)](record, rng)
        yield line


def _not_object(_: dict[str, Any], rng: Random) -> bytes:
    return rng.choice(_NOT_OBJECTS)


def _no_id(record: dict[str, Any], rng: Random) -> bytes:
    return _without(record, "Id", rng.choice(("absent", None, "")))


def _no_time(record: dict[str, Any], rng: Random) -> bytes:
    return _without(record, "CreationTime", rng.choice(("absent", None, "", "yesterday")))


def _invalid_json(record: dict[str, Any], rng: Random) -> bytes:
    whole = msgspec.json.encode(record)
    return whole[: rng.randrange(2, len(whole))]


def _invalid_utf8(record: dict[str, Any], _: Random) -> bytes:
    return msgspec.json.encode(record)[:-1] + b',"Garbled":"\xff\xfe"}'


_BREAK: Mapping[str, Callable[[dict[str, Any], Random], bytes]] = {
    "not_object": _not_object,
    "no_id": _no_id,
    "no_time": _no_time,
    "invalid_json": _invalid_json,
    "invalid_utf8": _invalid_utf8,
}


def _without(record: dict[str, Any], name: str, value: str | None) -> bytes:
    rest = {key: each for key, each in record.items() if key != name}
    return msgspec.json.encode(rest if value == "absent" else rest | {name: value})


def _record(line: bytes) -> dict[str, Any] | None:
    """Reads a line that is a record with an Id and a time, for which others can be made."""
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    return record if all(isinstance(record.get(name), str) for name in ("Id", "CreationTime")) else None


def _halves(line: bytes) -> tuple[bytes, bytes] | None:
    """Splits a record before and after the text of its Id; None where that is not easily found."""
    record = _record(line)
    if record is None:
        return None
    before, mark, after = line.partition(b'"Id":"' + str(record["Id"]).encode() + b'"')
    if not mark or b'"' in str(record["Id"]).encode() or not _is_top(before):
        return None
    return before + b'"Id":"', b'"' + after


def _is_top(before: bytes) -> bool:
    return before.count(b"{") - before.count(b"}") == 1
