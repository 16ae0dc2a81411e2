"""Targets: files of a lake, damaged or made up, are named in a sentence by every command that meets them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp

import fastavro
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from lake import checkpoint
from lake.entries import State, decode_entry
from lake.export import export
from lake.query import render, run_query
from lake.rejected import SCHEMA
from lake.status import describe as describe_status
from lake.status import status, to_json
from lake.storage import LakeError
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from lake.verify import describe, verify
from tests.fuzz.mutations import mutated
from tests.lake_records import TENANT, body, land, record, storage_at

_QUERIES = (
    "select * from exchange_mailbox",
    "select (select max(error) from ledger_blobs), (select max(key) from ledger_files), (select max(cause) from"
    " ledger_slices), (select sum(count) from ledger_drift), (select max(reason) from rejected)",
)
_PATTERN = Path(__file__).with_name("lake")


@cache
def _pattern() -> dict[str, bytes]:
    """The files of a small lake by key, always the same: two entries, a checkpoint, Parquet, rejects."""
    return {p.relative_to(_PATTERN).as_posix(): p.read_bytes() for p in sorted(_PATTERN.rglob("*")) if p.is_file()}


def _kind(key: str) -> str:
    if "/entries/" in key:
        return "entry"
    if "/checkpoints/" in key:
        return "checkpoint"
    return key.rpartition(".")[2]


def _files(kind: str) -> list[str]:
    return [key for key in _pattern() if _kind(key) == kind]


@contextmanager
def _lake_with(kind: str, content: bytes) -> Iterator[LocalStorage]:
    """A small lake whose last file of a kind holds something else, as the ledger says."""
    folder = Path(mkdtemp(prefix="auditlake-fuzz-"))
    changed = _files(kind)[-1]
    before = _pattern()[changed]
    swaps = [
        (sha256(before).hexdigest(), sha256(content).hexdigest()),
        (f'"size":{len(before)}', f'"size":{len(content)}'),
    ]
    try:
        for key, data in _pattern().items():
            if _kind(key) == "entry":
                for old, new in swaps:
                    data = data.replace(old.encode(), new.encode())
            path = folder / "lake" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if key == changed else data)
        yield storage_at(folder)
        assert sorted(p.name for p in folder.iterdir()) == ["lake"], "something was written outside of the lake"
    finally:
        shutil.rmtree(folder)


def _commands(storage: LocalStorage) -> Iterator[Callable[[], object]]:
    yield lambda: describe(verify(storage)).encode()
    yield lambda: (describe_status(status(storage)).encode(), to_json(status(storage)))
    yield lambda: "\n".join(export(storage)).encode()
    for sql in _QUERIES:
        yield lambda sql=sql: [list(render(run_query(storage, sql), form)) for form in ("text", "json")]  # type: ignore[misc]
    yield lambda: TenantLake(storage, TENANT).recover()
    yield lambda: land(TenantLake(storage, TENANT), {"1$c": body([record(3), record(1)])})


def _check_lake(kind: str, content: bytes) -> None:
    with _lake_with(kind, content) as storage:
        for command in _commands(storage):
            try:
                command()
            except LakeError as error:
                assert str(error)


def check_entry(data: bytes) -> None:
    """An entry is applied, or is no entry; what it adds up to survives a checkpoint."""
    state = State()
    try:
        entry = decode_entry(data)
    except msgspec.MsgspecError:
        return
    state.apply(entry)
    assert vars(checkpoint.read(checkpoint.write(state), 1)) == vars(state)


def check_checkpoint(data: bytes) -> None:
    """A checkpoint is read, or is none."""
    try:
        checkpoint.read(data, 2)
    except checkpoint.UNREADABLE:
        return


def check_lake_with_entry(data: bytes) -> None:
    """Every command does its work or says in a sentence what is wrong with an entry."""
    _check_lake("entry", data)


def check_lake_with_checkpoint(data: bytes) -> None:
    """Every command does its work or says in a sentence what is wrong with a checkpoint."""
    _check_lake("checkpoint", data)


def check_lake_with_parquet(data: bytes) -> None:
    """Every command does its work or says in a sentence what is wrong with a Parquet file."""
    _check_lake("parquet", data)


def check_lake_with_avro(data: bytes) -> None:
    """Every command does its work or says in a sentence what is wrong with an Avro file."""
    _check_lake("avro", data)


def damaged(kind: str) -> st.SearchStrategy[bytes]:
    """Files of a kind, with some damage."""
    return st.deferred(lambda: mutated(st.sampled_from([_pattern()[key] for key in _files(kind)])))


_KINDS = st.sampled_from(["blob", "slice", "file", "drift", "new"])


def _parquet(columns: dict[str, list[object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), sink)
    return bytes(sink.getvalue())


@st.composite
def made_up_checkpoints(draw: st.DrawFn) -> bytes:
    """Whole Parquet files that may be checkpoints."""
    whole = pq.read_table(pa.BufferReader(_pattern()[_files("checkpoint")[0]])).to_pylist()
    fields = mutated(st.sampled_from([row["fields"].encode() for row in whole]), most=2)
    count = draw(st.integers(0, 3))
    texts = [draw(fields).decode("utf-8", "replace") for _ in range(count)]
    columns: dict[str, list[object]] = {
        "kind": [draw(_KINDS) for _ in range(count)],
        "key": [draw(st.none() | st.text(max_size=4)) for _ in range(count)],
        "fields": list(texts),
    }
    odd = draw(st.none() | st.sampled_from(sorted(columns)))
    if odd:
        columns[odd] = [draw(st.sampled_from([None, 5]))] * count
    return _parquet(columns)


@st.composite
def made_up_parquet(draw: st.DrawFn) -> bytes:
    """Whole Parquet files with columns of the names of a table, in any type."""
    names = st.sampled_from(["Id", "_content_id", "CreationTime", "Operation", "_extra", "UserType", "stranger"])
    count = draw(st.integers(0, 2))
    kinds = st.sampled_from([pa.string(), pa.int64(), pa.binary(), pa.null(), pa.timestamp("us")])
    odd = {pa.string(): "x", pa.int64(): -(2**63), pa.binary(): b"\xff", pa.null(): None, pa.timestamp("us"): -(2**62)}
    columns = {}
    for name in draw(st.lists(names, unique=True, max_size=5)):
        kind = draw(kinds)
        columns[name] = pa.array([draw(st.sampled_from([None, odd[kind]])) for _ in range(count)], kind)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


@st.composite
def made_up_avro(draw: st.DrawFn) -> bytes:
    """Whole Avro files whose records lack fields or have them in other types."""
    kept = draw(st.lists(st.sampled_from(SCHEMA["fields"]), unique_by=lambda f: f["name"]))
    types = {f["name"]: draw(st.sampled_from(["string", "long", "bytes", "null"])) for f in kept}
    values = {"string": "../x\x1b", "long": -(2**63), "bytes": b"\xff", "null": None}
    schema = {"type": "record", "name": "RejectedRecord", "fields": [{"name": n, "type": t} for n, t in types.items()]}
    sink = BytesIO()
    fastavro.writer(sink, fastavro.parse_schema(schema), [{n: values[t] for n, t in types.items()}])
    return sink.getvalue()
