"""The blobs that benchmarks land: files with the bytes of the feed, an index of them, and the truth about them.

records (generated, or the samples) ── emulator ── blobs ── <folder>/<number>.json, index.json
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from re import compile as regex
from typing import Any

import msgspec

from emulator.content import Blob
from emulator.filling import Shape, blobs_of_generated, blobs_of_lines, read_lines
from schemas.feed import ContentBlob

TENANT = "11111111-2222-4333-8444-555555555555"
ANCHOR = datetime(2026, 11, 20, tzinfo=UTC)
UNIT_BLOBS = 100
SAMPLES = Path(__file__).parents[1] / "../shared/samples"


_ID = regex(rb'("Id": *")([0-9a-f]{8})(-)')
_TIME = regex(rb'("CreationTime": *")\d{4}-\d\d-(\d\d)')


class Item(msgspec.Struct):
    """A blob's file and what the feed says of it."""

    file: str
    content_id: str
    content_type: str
    created: datetime
    records: int


def generated(folder: Path, records: int, max_records: int = 1500, seed: str = "benchmark") -> None:
    """Writes blobs of generated records, of all workloads over a week, with repeats and drift as in the feed."""
    _write(folder, blobs_of_generated(records, Shape(max_records=max_records), ANCHOR, seed, (TENANT, "na")))


def samples(folder: Path, records: int, max_records: int = 1500) -> None:
    """Writes blobs of the sample records, over and over under new Ids.

    The feed holds a week, the samples four months: their days are folded into one week.
    """
    lines = list(read_lines(sorted(SAMPLES.glob("*.ndjson*"))))
    copies = (_copy(line, n) for n in range(max(1, records // len(lines))) for line in lines)
    _write(folder, blobs_of_lines(copies, Shape(max_records=max_records), ANCHOR, "benchmark", "na"))


def with_number(line: bytes, number: int) -> bytes:
    """Gives a record's text another Id for every number."""
    return _ID.sub(lambda m: m[1] + b"%08x" % (int(m[2], 16) ^ number) + m[3], line, count=1)


def _copy(line: bytes, number: int) -> bytes:
    line = with_number(line, number)
    return _TIME.sub(lambda m: m[1] + b"2026-11-%02d" % (13 + int(m[2]) % 7), line, count=1)


def _write(folder: Path, blobs: Sequence[Blob]) -> None:
    folder.mkdir(parents=True)
    items = []
    for number, blob in enumerate(blobs):
        name = f"{number:06}.json"
        (folder / name).write_bytes(blob.body())
        items.append(Item(name, blob.content_id, blob.content_type, blob.created, len(blob.lines)))
    (folder / "index").write_bytes(msgspec.json.encode(items))


def index(folder: Path) -> list[Item]:
    """Reads the index of a folder of blobs, in the order of their content types and times."""
    return msgspec.json.decode((folder / "index").read_bytes(), type=list[Item])


def units(folder: Path) -> Iterator[tuple[str, list[tuple[ContentBlob, Path]]]]:
    """Yields blobs as the listing cuts them: of one content type, at most UNIT_BLOBS at a time."""
    for content_type, items in groupby(index(folder), lambda i: i.content_type):
        listed = [(content_blob(i), folder / i.file) for i in items]
        for start in range(0, len(listed), UNIT_BLOBS):
            yield content_type, listed[start : start + UNIT_BLOBS]


def content_blob(item: Item) -> ContentBlob:
    """Gives the reference by which the feed lists a blob."""
    uri = f"https://manage.office.com/api/v1.0/{TENANT}/activity/feed/audit/{item.content_id}"
    return ContentBlob(item.content_id, uri, item.content_type, item.created, item.created)


def truth(folder: Path) -> dict[str, Any]:
    """Reads every record by its Id, once."""
    found: dict[str, Any] = {}
    for item in index(folder):
        for record in msgspec.json.decode((folder / item.file).read_bytes()):
            found.setdefault(record["Id"], record)
    return found
