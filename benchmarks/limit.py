"""The limit: msgspec parses records of known tables to structs of the schema, Parquet encodes finished columns.

Nothing is built in between, checked, sorted, or written to a disk; copies of records are left out, as landing does.
"""

import gc
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Union

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.blobs import units
from schemas.decode import RawRecord, RawRecords, decode_records, split_blob
from schemas.model import Column, tables

_AT_ONCE = 8192
_PYTHON = {"string": str, "long": int, "boolean": bool, "double": msgspec.Raw, "timestamp": str, "json": msgspec.Raw}


def limit(blobs: Path) -> tuple[float, float]:
    """Gives the CPU seconds of parsing all blobs' records and of encoding their tables."""
    gc.disable()
    parse = encode = 0.0
    for _, listed in units(blobs):
        raws = [r for _, path in listed for r in split_blob(path.read_bytes())]
        decoded = decode_records(RawRecords(raws))
        for name in tables():
            batches = [b for b in decoded.batches if b.table == name]
            texts = [raws[p] for b in batches for p in b.positions]
            start = time.process_time()
            for first in range(0, len(texts), _AT_ONCE):
                _parse(name, texts[first : first + _AT_ONCE])
            parse += time.process_time() - start
            if batches:
                rows = pa.Table.from_batches([b.rows for b in batches])
                start = time.process_time()
                pq.write_table(rows, pa.BufferOutputStream(), compression="zstd")
                encode += time.process_time() - start
    return parse, encode


def _parse(table: str, texts: list[RawRecord]) -> None:
    decode = _decoder(table).decode
    parsed = []
    for text in texts:
        try:
            parsed.append(decode(text))
        except msgspec.DecodeError:
            continue  # an odd one


@cache
def _decoder(table: str) -> Any:
    return msgspec.json.Decoder(_struct(table, tables()[table].members))


def _struct(name: str, columns: Sequence[Column]) -> type[msgspec.Struct]:
    """Compiles columns to a struct that takes what they declare and nothing else."""
    fields = [(f"f{n}", _python_type(c), *(() if not c.nullable else (None,))) for n, c in enumerate(columns)]
    renamed = {f"f{n}": c.name for n, c in enumerate(columns)}
    return msgspec.defstruct(
        name, fields, rename=renamed, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True
    )


def _python_type(column: Column) -> Any:
    others = (_PYTHON[other.kind] for other in column.others if other.kind in ("string", "long", "boolean"))
    return Union[_stored_type(column), *others]


def _stored_type(column: Column) -> Any:
    if column.kind == "map":
        pair = [("name", str), ("value", str | None)]
        rename = dict(zip(("name", "value"), column.wire, strict=True))
        return list[msgspec.defstruct("Pair", pair, rename=rename, forbid_unknown_fields=True, gc=False)]
    if column.kind == "list":
        item = _PYTHON[column.item]
        return list[item | None] if column.item_nullable else list[item]
    if column.kind in ("record", "records"):
        record = _struct(column.name, column.fields)
        return record if column.kind == "record" else list[record]
    return _PYTHON[column.kind]
