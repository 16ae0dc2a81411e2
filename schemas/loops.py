"""Compiled loops over the text of many JSON values, given as plain arrays; `scan.py` gives them as spans.

Nothing here checks JSON: the text must be known to be valid. Numba compiles a loop when it is first called and keeps it
beside this file; with NUMBA_DISABLE_JIT=1 the same loops run as plain Python.

Values are named by `starts` and `ends` in `text`, and by `marks`, their first bytes, 0 where there is no value. What
the loops give is told in `scan.py`.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np

Placed = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Where values begin and end, and their marks."""
_Loop = TypeVar("_Loop", bound=Callable[..., object])

_QUOTE, _BACKSLASH, _COMMA, _MINUS, _ZERO, _NINE, _U = b'"\\,-09u'
_OPEN, _CLOSE, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_BLANK = ord(" ")  # in valid JSON nothing else outside of strings is as low as blanks are
_FIRST_LOW, _FIRST_HIGH = 0xDC00, 0xD800
_LONG_DIGITS = 19
_TIME = np.frombuffer(b"0000-00-00T00:00:00", np.uint8)
_MONTH_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAYS_BEFORE = np.cumsum(_MONTH_DAYS) - _MONTH_DAYS - 719_163  # from 1970 on, of years counted from the first
_LONG_MAX = np.uint64(2**63 - 1)
_NAMES_COMPARED = 64
_ESCAPED = np.arange(256, dtype=np.uint8)
_ESCAPED[list(b"bfnrt")] = list(b"\b\f\n\r\t")


def _compiled(loop: _Loop) -> _Loop:
    try:
        return cast(_Loop, numba.njit(cache=True, nogil=True)(loop))
    except RuntimeError:  # there is no folder that what was compiled could be kept in
        return cast(_Loop, numba.njit(nogil=True)(loop))


@_compiled
def strings(
    text: np.ndarray, starts: np.ndarray, ends: np.ndarray, marks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives where strings end, column by column, their text, and where each column's begins in it."""
    first = np.zeros(len(starts) + 1, np.int64)
    for n in range(len(starts)):
        size = 0
        for row in range(starts.shape[1]):
            if marks[n, row] == _QUOTE:
                size += ends[n, row] - starts[n, row] - 2  # no escape is shorter than what it stands for
        first[n + 1] = first[n] + size
    said = np.empty(first[-1], np.uint8)
    puts = first[:-1].copy()
    bounds = np.zeros((len(starts), starts.shape[1] + 1), np.int32)
    # Row by row: a record's text is in the processor's cache then.
    for row in range(starts.shape[1]):
        for n in range(len(starts)):
            put = puts[n]
            if marks[n, row] == _QUOTE:
                at = starts[n, row] + 1
                end = ends[n, row] - 1
                while at < end:
                    mark = text[np.uintp(at)]
                    if mark == _BACKSLASH:
                        at, put = _unescape(text, at + 1, said, put)
                    else:
                        said[put] = mark
                        at += 1
                        put += 1
                puts[n] = put
            bounds[n, row + 1] = put - first[n]
    return bounds, said, first


@_compiled
def texts(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the text of values as it stands, one after the other, and where each ends in it, after a 0."""
    bounds = np.zeros(len(starts) + 1, np.int32)
    for row in range(len(starts)):
        bounds[row + 1] = bounds[row] + (ends[row] - starts[row] if marks[row] else 0)
    said = np.empty(bounds[-1], np.uint8)
    for row in range(len(starts)):
        if marks[row]:
            said[bounds[row] : bounds[row + 1]] = text[starts[row] : ends[row]]
    return bounds, said


@_compiled
def longs(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads numbers as 64-bit integers, and marks those that are none: fractions, what is beyond 64 bits, and -0."""
    values = np.zeros(len(starts), np.int64)
    odd = np.zeros(len(starts), np.bool_)
    for row in range(len(starts)):
        if not marks[row]:
            continue
        negative = marks[row] == _MINUS
        at = starts[row] + negative
        odd[row] = ends[row] - at > _LONG_DIGITS
        value = np.uint64(0)
        while at < ends[row] and not odd[row]:
            mark = text[np.uintp(at)]
            odd[row] = mark < _ZERO or mark > _NINE
            value = value * np.uint64(10) + np.uint64(mark - _ZERO)
            at += 1
        if negative:
            odd[row] |= value - np.uint64(1) > _LONG_MAX  # 0 - 1 is the greatest of all
            values[row] = -1 - np.int64(value - np.uint64(1))
        else:
            odd[row] |= value > _LONG_MAX
            values[row] = np.int64(value)
    return values, odd


@_compiled
def times(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads times as microseconds since 1970, and marks the values that are not written as `_TIME` shows."""
    values = np.zeros(len(starts), np.int64)
    odd = marks != 0
    for row in range(len(starts)):
        at = starts[row] + 1
        if not marks[row] or ends[row] - starts[row] != len(_TIME) + 2 or not _is_time(text, at):
            continue
        year, month, day = 100 * _two(text, at) + _two(text, at + 2), _two(text, at + 5), _two(text, at + 8)
        hour, minute, second = _two(text, at + 11), _two(text, at + 14), _two(text, at + 17)
        if not (year and 0 < month < 13 and hour < 24 and minute < 60 and second < 60):
            continue
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        if not 0 < day <= _MONTH_DAYS[month] + (leap and month == 2):
            continue
        years = year - 1
        days = 365 * years + years // 4 - years // 100 + years // 400 + _DAYS_BEFORE[month] + (leap and month > 2) + day
        values[row] = 1_000_000 * (second + 60 * (minute + 60 * (hour + 24 * days)))
        odd[row] = False
    return values, odd


@_compiled
def _is_time(text: np.ndarray, at: int) -> bool:
    for n in range(len(_TIME)):
        mark, shown = text[np.uintp(at + n)], _TIME[n]
        if mark != shown if shown != _ZERO else mark < _ZERO or mark > _NINE:
            return False
    return True


@_compiled
def _two(text: np.ndarray, at: int) -> int:
    """Reads two digits."""
    return 10 * int(text[np.uintp(at)] - _ZERO) + int(text[np.uintp(at + 1)] - _ZERO)


@_compiled
def repeating(bounds: np.ndarray, name_bounds: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Marks the lists of names that hold one twice, or too many to compare each with each."""
    odd = np.zeros(len(bounds) - 1, np.bool_)
    for row in range(len(odd)):
        odd[row] = bounds[row + 1] - bounds[row] > _NAMES_COMPARED
        one = bounds[row] + 1
        while one < bounds[row + 1] and not odd[row]:
            for other in range(bounds[row], one):
                odd[row] |= _same(
                    names, name_bounds[one], name_bounds[one + 1], names, name_bounds[other], name_bounds[other + 1]
                )
            one += 1
    return odd


@_compiled
def members(
    text: np.ndarray,
    starts: np.ndarray,
    _ends: np.ndarray,
    marks: np.ndarray,
    names: np.ndarray,
    bounds: np.ndarray,
    slots: np.ndarray,
    begins: np.ndarray,
    firsts_only: bool,
) -> tuple[Placed, np.ndarray, np.ndarray, Placed, Placed]:
    """Finds the members of objects."""
    first = np.empty((len(begins), len(starts)), np.int32)
    last = np.empty((len(begins), len(starts)), np.int32)
    found = np.zeros((len(begins), len(starts)), np.uint8)
    odd = np.zeros(len(starts), np.bool_)
    nexts = np.full(len(begins) + 1, -1, np.int32)  # which member stood after each the last time
    others = np.empty((5, 16), np.int32)  # of members without a name here: row, where name and value begin and end
    count = 0
    for row in range(len(starts)):
        odd[row] = marks[row] != 0 and marks[row] != _OPEN
        if marks[row] != _OPEN:
            continue
        at = _after_blanks(text, starts[row] + 1)
        before = len(begins)
        missing = len(begins) + (not firsts_only)
        while missing and not odd[row] and text[np.uintp(at)] != _CLOSE:
            name = at + 1
            n = nexts[before]
            at = name + (bounds[n + 1] - bounds[n] if n >= 0 else 0)
            # No name has a quote: the comparison ends where the member's name does.
            if n < 0 or not _begins_with(text, name, names, bounds[n], bounds[n + 1]) or text[np.uintp(at)] != _QUOTE:
                at = _string_end(text, name)
                n = nexts[before] = _find(text, name, at, names, bounds, slots)
            name_end = at + 1
            at = _after_blanks(text, _after_blanks(text, name_end) + 1)
            value = at
            at = _value_end(text, at)
            if n >= 0:
                odd[row] = found[n, row] or not begins[n, text[np.uintp(value)]]
                first[n, row], last[n, row], found[n, row] = value, at, text[np.uintp(value)]
                before = n
                missing -= firsts_only
            elif not firsts_only:
                if count == others.shape[1]:
                    others = np.concatenate((others, np.empty_like(others)), axis=1)
                others[0, count] = row
                others[1, count], others[2, count] = name - 1, name_end
                others[3, count], others[4, count] = value, at
                count += 1
            at = _after_comma(text, at)
    keys = (others[1, :count], others[2, :count], text[others[1, :count]])
    values = (others[3, :count], others[4, :count], text[others[3, :count]])
    return (first, last, found), odd, others[0, :count], keys, values


@_compiled
def copies(
    text: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    key_starts: np.ndarray,
    key_ends: np.ndarray,
    marks: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds what repeats the first value with its key, and what differs from it."""
    firsts = np.arange(len(starts))
    differs = np.zeros(len(starts), np.bool_)
    slots = np.full(slots_for(len(starts)), -1, np.int32)
    for row in range(len(starts)):
        if marks[row]:
            slot = hash_of(text, key_starts[row], key_ends[row]) & (len(slots) - 1)
            while slots[slot] >= 0:
                n = slots[slot]
                if _same(text, key_starts[row], key_ends[row], text, key_starts[n], key_ends[n]):
                    if _same(text, starts[row], ends[row], text, starts[n], ends[n]):
                        firsts[row] = n
                    else:
                        differs[row] = True
                    break
                slot = (slot + 1) & (len(slots) - 1)
            if slots[slot] < 0:
                slots[slot] = row
    return firsts, differs


@_compiled
def slots_for(size: int) -> int:
    """Gives a power of two, the size of a table that so many things fill by half at most."""
    slots = 2
    while slots < 2 * size:
        slots *= 2
    return slots


@_compiled
def items(
    text: np.ndarray, starts: np.ndarray, _ends: np.ndarray, marks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Finds the items of arrays."""
    bounds = np.zeros(len(starts) + 1, np.int32)
    first = np.empty(len(starts) + 1, np.int32)
    last = np.empty(len(starts) + 1, np.int32)
    found = 0
    for row in range(len(starts)):
        if marks[row]:
            at = _after_blanks(text, starts[row] + 1)
            while text[np.uintp(at)] != _CLOSE_ARRAY:
                if found == len(first):
                    first = np.concatenate((first, np.empty_like(first)))
                    last = np.concatenate((last, np.empty_like(last)))
                first[found] = at
                at = _value_end(text, at)
                last[found] = at
                found += 1
                at = _after_comma(text, at)
        bounds[row + 1] = found
    return bounds, first[:found], last[:found], text[first[:found]]


@_compiled
def _after_blanks(text: np.ndarray, at: int) -> int:
    while text[np.uintp(at)] <= _BLANK:
        at += 1
    return at


@_compiled
def _after_comma(text: np.ndarray, at: int) -> int:
    """Gives where the next member or item begins after one, or the bracket stands that closes them."""
    at = _after_blanks(text, at)
    return _after_blanks(text, at + 1) if text[np.uintp(at)] == _COMMA else at


@_compiled
def _string_end(text: np.ndarray, at: int) -> int:
    """Gives where the quote stands that closes the string whose inside begins at `at`."""
    while True:
        mark = text[np.uintp(at)]
        if mark == _QUOTE:
            return at
        if mark == _BACKSLASH:
            at += 1
        at += 1


@_compiled
def _value_end(text: np.ndarray, at: int) -> int:
    mark = text[np.uintp(at)]
    if mark == _QUOTE:
        return _string_end(text, at + 1) + 1
    if mark not in (_OPEN, _OPEN_ARRAY):
        while text[np.uintp(at)] > _BLANK and text[np.uintp(at)] not in (_COMMA, _CLOSE, _CLOSE_ARRAY):
            at += 1
        return at
    depth = 1
    while depth:
        at += 1
        mark = text[np.uintp(at)]
        if mark == _QUOTE:
            at = _string_end(text, at + 1)
        elif mark in (_OPEN, _OPEN_ARRAY):
            depth += 1
        elif mark in (_CLOSE, _CLOSE_ARRAY):
            depth -= 1
    return at + 1


@_compiled
def hash_of(text: np.ndarray, start: int, end: int) -> int:
    """Gives a hash of a part of the text, below 2**28."""
    found = np.int64(end - start)
    for at in range(start, end):
        found = (found * 31 + text[np.uintp(at)]) & 0xFFFFFFF
    return found  # type: ignore[return-value]


@_compiled
def _find(text: np.ndarray, start: int, end: int, names: np.ndarray, bounds: np.ndarray, slots: np.ndarray) -> int:
    """Finds a name; -1 where there is none. One with an escape is never found."""
    slot = hash_of(text, start, end) & (len(slots) - 1)
    while slots[slot] >= 0:
        n = slots[slot]
        if _same(text, start, end, names, bounds[n], bounds[n + 1]):
            return n  # type: ignore[no-any-return]
        slot = (slot + 1) & (len(slots) - 1)
    return -1


@_compiled
def _same(text: np.ndarray, start: int, end: int, other: np.ndarray, other_start: int, other_end: int) -> bool:
    return end - start == other_end - other_start and _begins_with(text, start, other, other_start, other_end)


@_compiled
def _begins_with(text: np.ndarray, at: int, name: np.ndarray, start: int, end: int) -> bool:
    for n in range(end - start):  # noqa: SIM110 - no generator can be compiled
        if text[np.uintp(at + n)] != name[np.uintp(start + n)]:
            return False
    return True


@_compiled
def _unescape(text: np.ndarray, at: int, said: np.ndarray, put: int) -> tuple[int, int]:
    """Puts what an escape stands for; gives where text and what it says go on. `at` is after the backslash."""
    if text[np.uintp(at)] != _U:
        said[put] = _ESCAPED[text[np.uintp(at)]]
        return at + 1, put + 1
    point = _unit(text, at + 1)
    at += 5
    if _FIRST_HIGH <= point < _FIRST_LOW:
        point = 0x10000 + ((point - _FIRST_HIGH) << 10) + (_unit(text, at + 2) - _FIRST_LOW)
        at += 6
    if point < 0x80:
        said[put] = point
        return at, put + 1
    more = 1 if point < 0x800 else 2 if point < 0x10000 else 3
    said[put] = (0xFF00 >> (more + 1)) & 0xFF | (point >> (6 * more))
    for n in range(1, more + 1):
        said[put + n] = 0x80 | (point >> (6 * (more - n))) & 0x3F
    return at, put + 1 + more


@_compiled
def _unit(text: np.ndarray, at: int) -> int:
    """Reads four hexadecimal digits."""
    unit = 0
    for n in range(4):
        mark = int(text[np.uintp(at + n)])
        unit = 16 * unit + (mark - _ZERO if mark <= _NINE else (mark | 0x20) - 0x57)
    return unit
