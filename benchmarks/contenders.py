"""Ways to bring blobs of records to Parquet: auditlake's, and what one would write instead.

A contender takes the folder of blobs, the folder for its files and the columns of a wide table, known before: what a
member holds, as DuckDB names it; JSON where it holds objects, arrays or different types. Given columns spare one
guessing them, which goes wrong for records that drift.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.blobs import TENANT, index, units

Columns = Mapping[str, str]
Contender = Callable[[Path, Path, Columns], None]


def columns_of(truth: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Names the type of each member that some record has."""
    kinds: dict[str, set[type]] = {}
    for record in truth.values():
        for name, value in record.items():
            kinds.setdefault(name, set()).add(type(value))
    plain = {str: "VARCHAR", int: "BIGINT", bool: "BOOLEAN", float: "DOUBLE"}
    found = {}
    for name, types in kinds.items():
        one = types - {type(None)}
        found[name] = plain.get(next(iter(one)), "JSON") if len(one) == 1 else "JSON"
    return found


def _bodies(blobs: Path) -> Iterator[bytes]:
    return ((blobs / item.file).read_bytes() for item in index(blobs))


def auditlake(blobs: Path, out: Path, _columns: Columns) -> None:
    """Lands: validated, lossless, each record once, by table and date, in the ledger."""
    from lake.landing import Unit
    from lake.tenant import open_tenant

    lake = open_tenant(str(out), TENANT)
    for content_type, listed in units(blobs):
        unit = Unit(lake, "benchmark", content_type)
        for blob, path in listed:
            unit.add(blob, path.read_bytes())
        unit.commit()


def duckdb(blobs: Path, out: Path, columns: Columns) -> None:
    """Reads with given columns, and writes one Parquet file."""
    names = {name.lower(): name for name in columns}  # DuckDB takes names that differ in case only for the same
    spec = ", ".join(f"{_quoted(name)}: '{columns[name]}'" for name in names.values())
    _duckdb(blobs, out, f"columns = {{{spec}}}")


def duckdb_guessing(blobs: Path, out: Path, _columns: Columns) -> None:
    """Reads with columns that DuckDB infers from the first records, as its manual shows it first."""
    _duckdb(blobs, out, "sample_size = -1")


def _duckdb(blobs: Path, out: Path, options: str) -> None:
    import duckdb

    con = duckdb.connect(config={"threads": 1, "memory_limit": "4GB"})
    source = f"read_json({_quoted(str(blobs / '*.json'))}, format = 'array', {options})"
    target = f"{_quoted(str(out / 'all.parquet'))} (format parquet, compression zstd)"
    con.execute(f"copy (select * from {source}) to {target}")  # noqa: S608 - our own


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def polars(blobs: Path, out: Path, _columns: Columns) -> None:
    """Reads one blob after the other and writes a file of each; blobs that Polars refuses are left out."""
    import polars as pl

    for n, body in enumerate(_bodies(blobs)):
        try:
            frame = pl.read_json(body, infer_schema_length=None)
        except pl.exceptions.PolarsError:
            continue  # its records do not all have one shape
        frame.write_parquet(out / f"{n}.parquet", compression="zstd")


def orjson(blobs: Path, out: Path, columns: Columns) -> None:
    """Parses with orjson and makes a table of 100 blobs' dicts at a time; nested values as JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(columns)
    texts = _json(columns)
    for n, (_, listed) in enumerate(units(blobs)):
        records = [r for _, path in listed for r in _parsed(path.read_bytes(), texts)]
        pq.write_table(pa.Table.from_pylist(records, schema=schema), out / f"{n}.parquet", compression="zstd")


def _parsed(body: bytes, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Parses records, and makes JSON text again of members that have no one type."""
    import orjson

    records: list[dict[str, Any]] = orjson.loads(body)
    for record in records:
        for name in texts:
            if name in record:
                record[name] = orjson.dumps(record[name]).decode()
    return records


def _json(columns: Columns) -> list[str]:
    return [name for name, kind in columns.items() if kind == "JSON"]


def _schema(columns: Columns) -> Any:
    import pyarrow as pa

    plain = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "BOOLEAN": pa.bool_(), "DOUBLE": pa.float64()}
    return pa.schema([(name, plain.get(kind, pa.string())) for name, kind in columns.items()])


def dlt(blobs: Path, out: Path, columns: Columns) -> None:
    """Runs dlt from lists of records to its filesystem destination, as Parquet, without child tables."""
    import os

    work = out.parent / f"{out.name}-work"
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "SCHEMA__NAMING": "direct"}
    os.environ |= {"NORMALIZE__WORKERS": "1", "LOAD__WORKERS": "1", "EXTRACT__WORKERS": "1"}
    import dlt

    types = {"VARCHAR": "text", "BIGINT": "bigint", "BOOLEAN": "bool", "DOUBLE": "double", "JSON": "text"}

    @dlt.resource(name="audit", max_table_nesting=0, columns={n: {"data_type": types[k]} for n, k in columns.items()})
    def audit() -> Iterator[Any]:
        yield from (_parsed(body, _json(columns)) for body in _bodies(blobs))

    target = dlt.destinations.filesystem(bucket_url=str(out.absolute()))
    pipeline = dlt.pipeline("benchmark", pipelines_dir=str(work), destination=target, dataset_name="audit")
    pipeline.run(audit(), loader_file_format="parquet")


def beam(blobs: Path, out: Path, columns: Columns) -> None:
    """Runs a pipeline as the guides show it: json.loads, an element a record, WriteToParquet."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    texts = frozenset(_json(columns))
    empty = dict.fromkeys(columns)

    def row(record: dict[str, Any]) -> dict[str, Any]:
        return empty | {k: json.dumps(v) if k in texts else v for k, v in record.items()}

    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as p:
        (
            p
            | "Create" >> beam.Create([str(blobs / item.file) for item in index(blobs)])
            | "Parse" >> beam.FlatMap(lambda path: json.loads(Path(path).read_bytes()))
            | "ToRow" >> beam.Map(row)
            | "Write" >> beam.io.WriteToParquet(str(out / "part"), _schema(columns), file_name_suffix=".parquet")
        )


CONTENDERS: Mapping[str, Contender] = {
    "auditlake": auditlake,
    "duckdb": duckdb,
    "duckdb, guessing": duckdb_guessing,
    "polars": polars,
    "orjson": orjson,
    "dlt": dlt,
    "beam": beam,
}
MODULES = {
    "orjson": ["orjson", "pyarrow.parquet"],
    "duckdb, guessing": ["duckdb"],
    "dlt": ["dlt", "orjson"],
    "beam": ["apache_beam"],
    "auditlake": ["lake.landing"],
}


def modules_of(name: str) -> list[str]:
    """Names the modules that a contender needs; they are loaded before the clock starts."""
    return MODULES.get(name, [name])


def prepare(name: str) -> None:
    """Does what a process does once: auditlake compiles its schemas, and loads its compiled loops."""
    if name == "auditlake":
        from schemas.build import member_names
        from schemas.decode import table_for
        from schemas.model import tables
        from schemas.scan import compile_loops

        compile_loops()
        table_for(0)
        for table in tables().values():
            member_names(table.members)
        gc.freeze()  # as a command does
