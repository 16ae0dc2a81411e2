"""Where the members and items of many JSON values stand in their text, and what strings and numbers say.

Values are named by where they begin and end, so that a whole column is built without an object a value. Nothing here
checks JSON: the text must be known to be valid, as `split.py` and msgspec tell.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from schemas import loops


class Spans(NamedTuple):
    """Values in a text, of dtype uint8: where each begins and ends in it, of dtype int32.

    `marks` has the first byte of each, 0 where there is no value. All have the same shape: a value a row, or columns of
    these.
    """

    text: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    marks: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Marks the values that are there."""
        found: np.ndarray = self.marks != 0
        return found

    def column(self, n: int) -> "Spans":
        """Gives the values of one column."""
        return Spans(self.text, self.starts[n], self.ends[n], self.marks[n])

    def columns(self, some: Sequence[int]) -> "Spans":
        """Gives some columns."""
        return Spans(self.text, *(a.take(some, axis=0) for a in self[1:]))

    def as_columns(self) -> "Spans":
        """Gives the values of one column as columns, of which there is one."""
        return Spans(self.text, *(a[None] for a in self[1:]))

    def take(self, rows: np.ndarray) -> "Spans":
        """Gives the values of some rows."""
        return Spans(self.text, *(a.take(rows, axis=-1) for a in self[1:]))

    def without(self, rows: np.ndarray) -> "Spans":
        """Gives the values with none in the rows that are marked."""
        return self._replace(marks=np.where(rows, np.uint8(0), self.marks)) if rows.any() else self

    def value(self, row: int) -> bytes:
        """Gives the text of a value of a column."""
        return self.text[self.starts[row] : self.ends[row]].tobytes()


_ROOMS: deque[np.ndarray] = deque(maxlen=2)
_KEPT_BYTES = 64 * 1024 * 1024


class Text:
    """Values joined to one text as they come: what they lay in may go then, and is in the processor's cache yet."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)
        self._places: list[tuple[np.ndarray, np.ndarray]] = []
        self.size_bytes = 0

    def add(self, values: Sequence[Any], array: bytes = b"") -> None:
        """Adds values; `array` is the valid JSON array that they make up, if there is one."""
        sizes = np.fromiter(map(len, map(memoryview, values)), np.int32, len(values))  # type: ignore[arg-type]
        if len(array) != sizes.sum() + len(values) + 1:  # there are blanks in it
            array = b"[" + b",".join(values) + b"]" if values else b"["
        ends = np.cumsum(sizes + 1, dtype=np.int32) + self.size_bytes
        self._places.append((ends - sizes, ends))
        end = self.size_bytes + len(array)
        if end > len(self._room):
            room = _room(end)
            room[: self.size_bytes] = self._room[: self.size_bytes]
            self._room = room
        memoryview(self._room)[self.size_bytes : end] = array  # type: ignore[arg-type]
        self.size_bytes = end

    def spans(self) -> Spans:
        """Gives where the values stand."""
        starts, ends = (np.concatenate(some) for some in zip(*self._places, strict=True))
        text = self._room[: self.size_bytes]
        return Spans(text, starts, ends, text[starts])

    def give_back(self) -> None:
        """Gives the memory to the next text: what `spans` gave must not be used afterwards."""
        if len(self._room) == _KEPT_BYTES:
            _ROOMS.append(self._room)


def _room(size: int) -> np.ndarray:
    """Gives memory for a text: to come by new memory takes longer than to fill it."""
    if size <= _KEPT_BYTES:
        with suppress(IndexError):
            return _ROOMS.pop()
    return np.empty(max(size, _KEPT_BYTES), np.uint8)  # not bytes: numpy asks for large pages


def joined(values: Sequence[Any]) -> Spans:
    """Joins values to one text."""
    text = Text()
    text.add(values)
    return text.spans()


class Names(NamedTuple):
    """Names of members: their text, where each begins in it, a table of them by hash, what values may begin with."""

    text: np.ndarray
    bounds: np.ndarray
    slots: np.ndarray
    begins: np.ndarray


def names_of(begins: Sequence[tuple[str, bytes]]) -> Names:
    """Prepares names, each with the bytes that its values may begin with, for `members`."""
    encoded = [name.encode() for name, _ in begins]
    text = np.frombuffer(b"".join(encoded), np.uint8)
    bounds = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    slots = np.full(2 * loops.slots_for(len(encoded)), -1, np.int32)
    allowed = np.zeros((len(encoded), 256), np.bool_)
    for n, (_, some) in enumerate(begins):
        allowed[n, list(some)] = True
        slot = loops.hash_of(text, bounds[n], bounds[n + 1]) & (len(slots) - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = n
    return Names(text, bounds, slots, allowed)


class Found(NamedTuple):
    """What `members` finds.

    `values` has a column for each name, `odd` marks the values that are no object, or have a named member twice or one
    that begins with a byte that it may not begin with. `others` are the members that are not named, `rows` tells whose
    they are, and `names` where their names stand, with quotes.
    """

    values: Spans
    odd: np.ndarray
    rows: np.ndarray
    names: Spans
    others: Spans


def members(spans: Spans, names: Names) -> Found:
    """Finds the members of values that are to be objects."""
    values, odd, rows, keys, others = loops.members(*spans, *names, False)
    return Found(Spans(spans.text, *values), odd, rows, Spans(spans.text, *keys), Spans(spans.text, *others))


def first_members(spans: Spans, names: Names) -> tuple[Spans, np.ndarray]:
    """Finds members as `members` does, but looks no further when it has found one of each name."""
    values, odd, *_ = loops.members(*spans, *names, True)
    return Spans(spans.text, *values), odd


def copies(spans: Spans, keys: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Finds values that repeat another to the byte.

    Returns:
      The row of the first value with the same key where they are the same, else the value's own; and marks of those
      that are not the same.
    """
    return loops.copies(*spans[:3], *keys[1:])


def items(spans: Spans) -> tuple[np.ndarray, Spans]:
    """Finds the items of arrays: where those of each end among the items of all, after a 0, and these."""
    bounds, *found = loops.items(*spans)
    return bounds, Spans(spans.text, *found)


def strings(spans: Spans) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gives what strings say, as UTF-8: of each column where each ends, after a 0, and all text. Others say nothing."""
    bounds, said, first = loops.strings(*spans)
    return [(bounds[n], said[first[n] : first[n] + bounds[n, -1]]) for n in range(len(bounds))]


def texts(spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Gives the text of values as it stands: where each ends, after a 0, and all of them."""
    return loops.texts(*spans)


def longs(spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers as 64-bit integers, and marks those that are none: fractions, what is beyond 64 bits, and -0."""
    return loops.longs(*spans)


def times(spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Reads times as microseconds since 1970, and marks values that are none as `2026-11-20T08:15:31`."""
    return loops.times(*spans)


def repeating(bounds: np.ndarray, names: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Marks the lists of names, as `strings` gives them, that hold one twice or too many to compare each with each."""
    return loops.repeating(bounds, *names)


def compile_loops() -> None:
    """Compiles all loops and keeps them, so that the first records need not wait for it."""
    record = joined([b'{"a":["1"]}'])
    names = names_of([("a", b"[")])
    first_members(record, names)
    lists = members(record, names).values.column(0)
    bounds, some = items(lists)
    (said,) = strings(some.as_columns())
    repeating(bounds, said)
    copies(record, lists)
    texts(lists)
    longs(lists)
    times(lists)
