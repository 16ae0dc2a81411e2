"""Checkpoints: the state of a ledger as one Parquet file, so that a start need not read every entry.

A row is the start of a feed, a blob, a slice, a file or a count of drift: `kind` says which, `key` names it, `fields`
holds it as JSON.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.entries import BlobState, DriftState, FileState, SliceState, State, Time

UNREADABLE = (pa.ArrowException, msgspec.MsgspecError, KeyError, OSError, ValueError, TypeError, RecursionError)
"""What `read` raises for bytes that are no checkpoint."""
_CHUNK = 4_096  # rows that stand in memory as Python objects at once
_SCHEMA = pa.schema([("kind", pa.string()), ("key", pa.string()), ("fields", pa.string())])


def write(state: State) -> bytes:
    """Encodes a state."""
    sink = pa.BufferOutputStream()
    rows = ((kind, key, msgspec.json.encode(fields)) for kind, key, fields in _rows(state))
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd", use_dictionary=["kind"]) as writer:
        while chunk := list(islice(rows, _CHUNK)):
            writer.write_table(pa.table([*zip(*chunk, strict=True)], schema=_SCHEMA))
    return bytes(sink.getvalue())


def _rows(state: State) -> Iterator[tuple[str, str, object]]:
    for content_type, start in state.asked.items():
        yield "asked", content_type, start
    for content_id, blob in state.blobs.items():
        yield "blob", content_id, blob
    for one in state.slices.values():
        yield "slice", "", one
    for key, file in state.files.items():
        yield "file", key, file
    for what, seen in state.drift.items():
        yield "drift", msgspec.json.encode(what).decode(), seen


def read(data: bytes, version: int, *, files_only: bool = False) -> State:
    """Decodes the state that `write` encoded, or its files; `version` is the number of the last entry in it."""
    state = State()
    state.version = version
    chosen = pc.field("kind") == "file" if files_only else None
    chunks = pq.read_table(pa.BufferReader(data), filters=chosen).to_batches(_CHUNK)
    for row in (row for chunk in chunks for row in chunk.to_pylist()):
        kind, key, fields = row["kind"], row["key"], row["fields"]
        if kind == "blob":
            blob = state.blobs[key] = msgspec.json.decode(fields, type=BlobState)
            if not blob.is_settled:
                state.unsettled[key] = None
        elif kind == "slice":
            one = msgspec.json.decode(fields, type=SliceState)
            state.slices[one.content_type, one.start] = one
        elif kind == "asked":
            state.asked[key] = msgspec.json.decode(fields, type=Time)
        elif kind == "file":
            state.add_file(msgspec.json.decode(fields, type=FileState))
        else:
            what = msgspec.json.decode(key, type=tuple[str, str, str])
            state.drift[what] = msgspec.json.decode(fields, type=DriftState)
    return state
