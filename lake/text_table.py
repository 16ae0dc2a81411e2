"""Plain text for people: aligned tables and sizes."""

from collections.abc import Iterable, Sequence
from re import compile as regex

# C0 and C1 controls, marks that turn the direction of writing, line separators, halves of characters.
_UNSEEN = regex(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NUMBER = regex(r"-?[\d,]+(?:\.\d+)?|NULL|-")


def text_table(names: Sequence[str], rows: Iterable[Sequence[str | int]]) -> list[str]:
    """Gives a table as lines: a heading, a rule and the rows; numbers stand to the right, nothing is cut off."""
    texts = [[one_line(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in rows]
    names = [one_line(name) for name in names]
    columns = range(len(names))
    right = [bool(texts) and all(_NUMBER.fullmatch(row[n]) for row in texts) for n in columns]
    widths = [max(len(row[n]) for row in (names, *texts)) for n in columns]
    lines = [_line(row, widths, right) for row in (names, *texts)]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def one_line(text: str) -> str:
    """Gives a text as one line that no terminal takes for commands: names and values are what others wrote."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = zip(row, widths, right, strict=True)
    return "  ".join(text.rjust(width) if to_right else text.ljust(width) for text, width, to_right in cells).rstrip()


def size_text(size_bytes: int) -> str:
    """Gives a size as a person reads it: `3.4 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("KB", "MB", "GB"):
        value /= 1000
        if value < 1000:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"
