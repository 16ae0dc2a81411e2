"""Splits a damaged content blob into its records, so that what is whole is kept.

A piece ends where its JSON value ends. Where there is no value, it ends at the comma that its brackets leave outside,
or right before the next whole record: a quote or a bracket too many costs the record that has it, and no other.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator
from re import DOTALL
from re import compile as regex
from typing import Any

SPACE = b" \t\r\n"
_BLANK = regex(rb"[ \t\r\n]*+")
_TOKEN = regex(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', DOTALL)
_START = regex(rb'[,}][ \t\r\n]*+(\{)[ \t\r\n]*+"')
_CLOSES = {b"]": b"[", b"}": b"{"}
# Lenient: what a value says is judged later, here only its end matters.
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
_EFFORT = 8


def split_array(data: bytes) -> Iterator[bytes]:
    """Splits a JSON array into its records as they stand; where it breaks off after a whole one, an empty one follows.

    Takes time in proportion to the data, whatever it holds.
    """
    values = _Values(data)
    at = data.index(b"[") + 1
    closed, whole = False, True
    while (at := _skip(data, at)) < len(data):
        mark = data[at : at + 1]
        if mark in b",]" or (mark == b"[" and closed):
            closed = mark == b"]"
            at += 1
            continue
        stop = values.end(at)
        closed, whole = False, stop is not None
        end = _broken_end(data, at, values) if stop is None else stop
        yield data[at:end].rstrip(SPACE)
        at = end
    if whole and not closed:
        yield b""


def _skip(data: bytes, at: int) -> int:
    match = _BLANK.match(data, at)
    return match.end() if match else at


class _Values:
    """The JSON values in damaged data. Stops looking when looking has cost too much, so that time stays linear."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._text = data.decode("latin-1")  # a character a byte; all marks of JSON are ASCII
        self._effort = _EFFORT * len(data)
        self._starts = [match.start(1) for match in _START.finditer(data)]

    def starts_after(self, at: int) -> Iterator[int]:
        """Yields where records may begin after `at`."""
        return (self._starts[n] for n in range(bisect_right(self._starts, at), len(self._starts)))

    def end(self, at: int) -> int | None:
        """Gives the end of the value at `at`, or None where there is none that a record's end follows."""
        value, stop = self._read(at)
        # A record that is no more than an opening bracket makes an array of all that follows.
        if stop is None or isinstance(value, list):
            return None
        after = _skip(self._data, stop)
        joined = self._data[stop - 1 : stop] + self._data[after : after + 1] == b"}{"
        return stop if joined or self._data[after : after + 1] in (b"", b",", b"]") else None

    def is_record(self, at: int) -> bool:
        """Tells whether a whole record begins at `at`."""
        value, _ = self._read(at)
        return isinstance(value, dict) and all(isinstance(value.get(k), str) for k in ("Id", "CreationTime"))

    def _read(self, at: int) -> tuple[Any, int | None]:
        if self._effort < 0:
            return None, None
        try:
            value, stop = _DECODER.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            reached = len(self._text) if error.msg.startswith("Unterminated") else error.pos
        except RecursionError:
            reached = len(self._text)
        else:
            self._effort -= stop - at
            return value, stop
        # An error counts the lines before it, which is not free either.
        self._effort -= reached - at + reached // 32 + 1
        return None, None


def _broken_end(data: bytes, at: int, values: _Values) -> int:
    """Finds where the broken piece at `at` ends."""
    starts = values.starts_after(at)
    start = next(starts, len(data))
    opened: list[bytes] = []
    closed = at
    for token in _TOKEN.finditer(data, at):
        while start <= token.start():
            if values.is_record(start):
                return _before(data, at, start)
            start = next(starts, len(data))
        mark = token[0]
        if mark == b'"':
            break  # a string without an end
        if mark in (b"[", b"{"):
            opened.append(mark)
        elif opened and _CLOSES.get(mark) == opened[-1]:
            opened.pop()
            closed = token.end()
        elif not opened and mark in (b",", b"]"):
            return token.start()
    while start < len(data):
        if values.is_record(start):
            return _before(data, at, start)
        start = next(starts, len(data))
    # The last bracket is the array's, unless it closed one of the piece's own.
    end = len(data.rstrip(SPACE))
    return end - 1 if data[end - 1 : end] == b"]" and closed < end else len(data)


def _before(data: bytes, at: int, start: int) -> int:
    """Gives the end of what stands from `at` to the record at `start`, without the comma between them."""
    return at + len(data[at:start].rstrip(SPACE).removesuffix(b","))
