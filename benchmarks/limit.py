"""The limit that no decoder in Python can pass: parse records of known tables, encode finished columns.

Nothing is built in between, checked, sorted, or written to a disk; copies of records are left out, as landing does.
"""

import gc
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.blobs import units
from schemas.decode import RawRecord, decode_records, split_blob, typed_decoder
from schemas.model import tables

_AT_ONCE = 8192


def limit(blobs: Path) -> tuple[float, float]:
    """Gives the CPU seconds of parsing all blobs' records and of encoding their tables."""
    gc.disable()
    parse = encode = 0.0
    for _, listed in units(blobs):
        raws = [r for _, path in listed for r in split_blob(path.read_bytes())]
        decoded = decode_records(raws)
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
    decode = typed_decoder(table).decode
    parsed = []
    for text in texts:
        try:
            parsed.append(decode(text))
        except msgspec.DecodeError:
            continue  # an odd one
