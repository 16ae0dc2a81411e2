"""What the ledger and the rejected records are as tables of a query."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from lake import layout
from lake.ledger import Ledger, tenants
from lake.rejected import read_rejected
from lake.storage import LakeError, Storage
from schemas.columns import TIMESTAMP
from schemas.contract import record_types

_TEXT, _COUNT = pa.string(), pa.int64()
_Rows = Callable[[Storage], Iterator[dict[str, Any]]]


def record_type_table() -> pa.Table:
    """Gives the record types of the contract."""
    rows = [
        {"value": r.value, "name": r.name, "table": r.table, "content_type": r.content_type}
        for r in record_types().values()
    ]
    schema = pa.schema([("value", _COUNT), ("name", _TEXT), ("table", _TEXT), ("content_type", _TEXT)])
    return pa.Table.from_pylist(rows, schema)


def _blobs(storage: Storage) -> Iterator[dict[str, Any]]:
    for tenant in tenants(storage):
        for content_id, b in Ledger(storage, tenant).state.blobs.items():
            yield {
                "tenant": tenant,
                "content_type": b.content_type,
                "content_id": content_id,
                "created": b.created,
                "expiration": b.expiration,
                "status": b.status or "pending",
                "records": b.records,
                "rows": b.rows,
                "duplicates": b.duplicates,
                "rejects": b.rejects,
                "conflicts": b.conflicts,
                "error": b.error,
            }


def _files(storage: Storage) -> Iterator[dict[str, Any]]:
    for tenant in tenants(storage):
        for key, file in Ledger(storage, tenant).state.files.items():
            table, _, date = layout.partition_of(key) or (None, None, None)
            yield {
                "tenant": tenant,
                "table": table,
                "date": date,
                "key": key,
                "rows": file.ref.rows,
                "size_bytes": file.ref.size,
                "sha256": file.ref.sha256,
                "committed": file.at,
            }


def _slices(storage: Storage) -> Iterator[dict[str, Any]]:
    for tenant in tenants(storage):
        for s in Ledger(storage, tenant).state.slices.values():
            yield {
                "tenant": tenant,
                "content_type": s.content_type,
                "slice_start": s.start,
                "slice_end": s.end,
                "outcome": s.outcome,
                "listed": s.at,
                "blobs": s.blobs,
                "cause": s.cause,
                "closed": s.closed,
            }


def _drift(storage: Storage) -> Iterator[dict[str, Any]]:
    for tenant in tenants(storage):
        for (table, member, json_type), seen in Ledger(storage, tenant).state.drift.items():
            yield {"tenant": tenant, "table": table, "member": member, "json_type": json_type, "count": seen.count}


def _rejected(storage: Storage) -> Iterator[dict[str, Any]]:
    for stored in storage.list(layout.REJECTED):
        try:
            records = list(read_rejected(storage.get(stored.key)))
        except ValueError as error:
            raise LakeError(f"{stored.key!r} in {storage.uri!r} cannot be read: {error}") from error
        for r in records:
            yield {
                "tenant": r.tenant,
                "content_id": r.content_id,
                "position": r.position,
                "reason": r.reason,
                "data": r.data,
            }


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


LEDGER_TABLES: dict[str, tuple[pa.Schema, _Rows]] = {
    "ledger_blobs": (
        _schema(
            tenant=_TEXT,
            content_type=_TEXT,
            content_id=_TEXT,
            created=TIMESTAMP,
            expiration=TIMESTAMP,
            status=_TEXT,
            records=_COUNT,
            rows=_COUNT,
            duplicates=_COUNT,
            rejects=_COUNT,
            conflicts=_COUNT,
            error=_TEXT,
        ),
        _blobs,
    ),
    "ledger_files": (
        _schema(
            tenant=_TEXT,
            table=_TEXT,
            date=_TEXT,
            key=_TEXT,
            rows=_COUNT,
            size_bytes=_COUNT,
            sha256=_TEXT,
            committed=TIMESTAMP,
        ),
        _files,
    ),
    "ledger_slices": (
        _schema(
            tenant=_TEXT,
            content_type=_TEXT,
            slice_start=TIMESTAMP,
            slice_end=TIMESTAMP,
            outcome=_TEXT,
            listed=TIMESTAMP,
            blobs=_COUNT,
            cause=_TEXT,
            closed=pa.bool_(),
        ),
        _slices,
    ),
    "ledger_drift": (_schema(tenant=_TEXT, table=_TEXT, member=_TEXT, json_type=_TEXT, count=_COUNT), _drift),
    "rejected": (
        _schema(tenant=_TEXT, content_id=_TEXT, position=_COUNT, reason=_TEXT, data=pa.binary()),
        _rejected,
    ),
}
"""Columns and rows of every view that is read into memory, by name. A blob without an outcome is `pending`."""
