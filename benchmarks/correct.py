"""How many of the records came out right."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from lake.export import export
from lake.storage import open_storage

Record = Mapping[str, Any]


def count_right(name: str, out: Path, truth: Mapping[str, Record]) -> dict[str, int]:
    """Counts rows, records that came out right, and rows that repeat an Id.

    auditlake's records are rebuilt and must be what they were, member for member. Of the others less is asked: a null
    is as good as an absent member, and JSON text as good as what it says.
    """
    exact = name == "auditlake"
    seen: set[str] = set()
    right: set[str] = set()
    rows = 0
    for record in _exported(out) if exact else _rows(out):
        rows += 1
        wanted = truth.get(record.get("Id", ""), {})
        seen.add(record.get("Id", ""))
        if record == wanted if exact else _means(_without_nulls(record), _without_nulls(wanted)):
            right.add(record["Id"])
    return {"rows": rows, "right": len(right), "repeated": rows - len(seen)}


def _exported(out: Path) -> Iterator[Record]:
    return (json.loads(line) for line in export(open_storage(str(out))))


def _rows(out: Path) -> Iterator[Record]:
    for path in sorted(out.rglob("*.parquet")):
        if path.parent.name.startswith("_dlt"):
            continue
        for batch in pq.ParquetFile(path).iter_batches():
            for row in batch.to_pylist(maps_as_pydicts="lossy"):
                yield {k: v for k, v in row.items() if not k.startswith("_dlt")}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _means(found: Any, wanted: Any) -> bool:
    """Tells whether a value found in a file says what was wanted."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_means(found[k], wanted[k]) for k in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_means, found, wanted))
    if hasattr(found, "isoformat"):
        return isinstance(wanted, str) and found.replace(tzinfo=None).isoformat() == wanted.removesuffix("Z")
    if isinstance(found, bytes):
        found = found.decode()
    if isinstance(found, str) and found != wanted:
        try:
            return bool(_without_nulls(json.loads(found)) == wanted)
        except ValueError:
            return False
    return bool(found == wanted and type(found) is type(wanted))


def versions() -> dict[str, str]:
    """Names the versions of what takes part."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"duckdb": duckdb.__version__}
    for package in ("pyarrow", "msgspec", "numpy", "polars", "orjson", "dlt", "apache-beam"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
