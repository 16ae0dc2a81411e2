"""Two lakes of the same records: one landed and compacted by auditlake, one as a short script would write it.

companies, a generator each ── merged by time ── cut into blobs of a content type ─┬─ landing, compaction ── lake
                                                                                   └─ one Parquet file each ── naive
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.blobs import TENANT, UNIT_BLOBS
from emulator.content import content_type_of
from emulator.generate import generate
from lake.compact import compact_tenant
from lake.landing import Unit
from lake.rows import BLOOM_FILTERS, ROW_GROUP_ROWS, parquet_form
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from schemas.columns import TIMESTAMP
from schemas.feed import ContentBlob

START = datetime(2026, 10, 19, tzinfo=UTC)
DAYS = 28
COMPANY_RECORDS = 250_000  # in all of these days
BLOB_RECORDS = 1_000  # twice the mean of the emulator: the fewer files, the kinder to the naive lake
AFTER = START + timedelta(days=2 * DAYS)

Record = dict[str, Any]


def records(count: int, companies: int) -> Iterator[Record]:
    """Yields records by time; a generator's company has 75 people, so that many make a big tenant."""
    end = START + timedelta(days=DAYS)
    each = [generate(n, COMPANY_RECORDS, start=START, end=end, tenant_id=TENANT) for n in range(companies)]
    return islice(merge(*each, key=itemgetter("CreationTime")), count)


class Feed:
    """Records of one content type on their way into both lakes."""

    def __init__(self, lake: TenantLake, naive: Path, content_type: str) -> None:
        self._lake, self._content_type = lake, content_type
        self._folder = naive / content_type
        self._folder.mkdir(parents=True)
        self._waiting: list[Record] = []
        self._unit = Unit(lake, "benchmark", content_type)
        self._blobs = 0

    def add(self, record: Record) -> None:
        """Takes a record."""
        self._waiting.append(record)
        if len(self._waiting) == BLOB_RECORDS:
            self._cut()

    def _cut(self) -> None:
        waiting, self._waiting = self._waiting, []
        created = datetime.fromisoformat(waiting[-1]["CreationTime"]).replace(tzinfo=UTC) + timedelta(minutes=30)
        blob = ContentBlob(f"{self._content_type}-{self._blobs:06}", "", self._content_type, created, created)
        write_naive(waiting, self._folder / f"{self._blobs:06}.parquet")
        self._unit.add(blob, msgspec.json.encode(waiting))
        self._blobs += 1
        if self._blobs % UNIT_BLOBS == 0:
            self._commit()

    def _commit(self) -> None:
        self._unit.commit()
        self._unit = Unit(self._lake, "benchmark", self._content_type)

    def close(self) -> None:
        """Lands what is left."""
        if self._waiting:
            self._cut()
        self._commit()


def make(lake: LocalStorage, naive: Path, count: int, companies: int) -> int:
    """Lands records, and writes a naive file of each of their blobs; gives the number of these."""
    feeds: dict[str, Feed] = {}
    tenant = TenantLake(lake, TENANT)
    for record in records(count, companies):
        content_type = content_type_of(record.get("RecordType"), record.get("Workload"))
        if content_type not in feeds:
            feeds[content_type] = Feed(tenant, naive, content_type)
        feeds[content_type].add(record)
    for feed in feeds.values():
        feed.close()
    return sum(1 for _ in naive.rglob("*.parquet"))


def compact(lake: LocalStorage) -> None:
    """Compacts all days of a lake.

    Raises:
      RuntimeError: Some day was left.
    """
    done = compact_tenant(TenantLake(lake, TENANT), "benchmark", AFTER, timedelta())
    if done.problems or done.busy:
        raise RuntimeError(f"compaction left days: {done}")


def write_naive(blob: Sequence[Record], path: Path) -> None:
    """Writes a blob as a script would: a column a member, nested or mixed values as JSON text, zstd, all else as is."""
    names = dict.fromkeys(name for record in blob for name in record)
    columns = {name: _column([record.get(name) for record in blob]) for name in names}
    times = [record["CreationTime"].removesuffix("Z") for record in blob]
    columns["CreationTime"] = pa.array(times).cast(pa.timestamp("us")).cast(TIMESTAMP)
    pq.write_table(pa.table(columns), path, compression="zstd")


def _column(values: Sequence[Any]) -> pa.Array:
    if len(types := set(map(type, values)) - {type(None)}) == 1 and types <= {str, int, bool, float}:
        return pa.array(values)
    texts = [v if v is None or isinstance(v, str) else msgspec.json.encode(v).decode() for v in values]
    return pa.array(texts, pa.string())


def rewrite(source: LocalStorage, target: Path, form: Mapping[str, Any]) -> LocalStorage:
    """Copies a lake, its files in another form: `sort`, `group_rows` and `filters` are ours, the rest is pyarrow's."""
    options = dict(form)
    order = [(name, "ascending") for name in options.pop("sort", ("CreationTime", "Id"))]
    group_rows, filters = options.pop("group_rows", ROW_GROUP_ROWS), options.pop("filters", tuple(BLOOM_FILTERS))
    for path in sorted(p for p in source.root.rglob("*") if p.is_file()):
        copy = target / path.relative_to(source.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.relative_to(source.root).parts[0] != "audit":
            copy.write_bytes(path.read_bytes())
            continue
        rows = pq.ParquetFile(path).read().sort_by(order)
        usual = parquet_form(rows.schema, min(len(rows), group_rows)) | {"sorting_columns": None}
        blooms = {name: sized for name, sized in usual["bloom_filter_options"].items() if name in filters}
        usual |= {"bloom_filter_options": blooms or None, "row_group_size": group_rows}
        pq.write_table(rows, copy, **usual | options)
    return LocalStorage(target)


def looked_for(count: int, companies: int) -> dict[str, str]:
    """Finds values to ask for: of a download, and an address that few records have, in the middle of the records."""
    late = islice(records(count, companies), count // 2, None)
    downloads = (r for r in late if r.get("Operation") == "FileDownloaded")
    found = {name: str(value) for name, value in next(downloads).items() if name in ("Id", "UserId", "ObjectId")}
    return found | next({"ClientIP": str(r["ClientIP"])} for r in late if str(r.get("ClientIP")).startswith("[2001:"))
