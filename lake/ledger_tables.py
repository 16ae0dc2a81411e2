"""What the ledger and the rejected records are as tables of a query."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from lake import layout
from lake.committed import read_wherever
from lake.entries import State
from lake.rejected import read_rejected
from lake.storage import LakeError, Storage
from schemas.columns import TIMESTAMP
from schemas.contract import record_types

_TEXT, _COUNT = pa.string(), pa.int64()
_States = Mapping[str, State]
_Rows = Callable[[Storage, _States], Iterator[dict[str, Any]]]


def record_type_table() -> pa.Table:
    """Gives the record types of the contract."""
    rows = [
        {"value": r.value, "name": r.name, "table": r.table, "content_type": r.content_type}
        for r in record_types().values()
    ]
    schema = pa.schema([("value", _COUNT), ("name", _TEXT), ("table", _TEXT), ("content_type", _TEXT)])
    return pa.Table.from_pylist(rows, schema)


def _blobs(_: Storage, states: _States) -> Iterator[dict[str, Any]]:
    for tenant, state in states.items():
        for content_id, b in state.blobs.items():
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


def _files(_storage: Storage, states: _States) -> Iterator[dict[str, Any]]:
    for tenant, state in states.items():
        for key, file in state.files.items():
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


def _slices(_: Storage, states: _States) -> Iterator[dict[str, Any]]:
    for tenant, state in states.items():
        for s in state.slices.values():
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


def _drift(_: Storage, states: _States) -> Iterator[dict[str, Any]]:
    for tenant, state in states.items():
        for (table, member, json_type), seen in state.drift.items():
            yield {"tenant": tenant, "table": table, "member": member, "json_type": json_type, "count": seen.count}


def _rejected(storage: Storage, states: _States) -> Iterator[dict[str, Any]]:
    refs = [f.ref for state in states.values() for f in state.files.values() if not layout.partition_of(f.ref.key)]
    for ref in sorted(refs, key=lambda r: r.key):
        try:
            records = list(read_rejected(read_wherever(storage, ref, storage.get)))
        except ValueError as error:
            raise LakeError(f"{ref.key!r} in {storage.uri!r} cannot be read: {error}") from error
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
"""Columns and rows of every view that is read into memory, by name; rows of a store and the ledgers of its tenants.

A blob without an outcome is `pending`.
"""
