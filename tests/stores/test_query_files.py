"""DuckDB reading the files of a lake on an object store: by name from the ledger, by many threads, by few requests."""

import time
from datetime import UTC, datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import query_files
from lake.entries import FileRef, FileState
from lake.query import run_query
from lake.query_files import LakeFiles
from lake.storage import open_storage
from lake.storage_objects import ObjectStorage
from tests.lake_records import body, guid, land, new_lake, record
from tests.stores.proxy import between
from tests.stores.servers import Server, changed_environ

KEYS = [f"audit/table=x/tenant=t/date=2026-11-2{day}/f.parquet" for day in range(4)]


def file_of(seed: int) -> bytes:
    sink = pa.BufferOutputStream()
    rows = {"n": np.random.default_rng(seed).integers(0, 1 << 40, 20_000), "k": np.arange(20_000)}
    pq.write_table(pa.table(rows), sink, row_group_size=1000, compression="none")
    return bytes(sink.getvalue())


class SlowFiles:
    """A store of made-up files that lets other threads in at every call."""

    uri = "made-up"

    def __init__(self) -> None:
        self.files = {key: file_of(n) for n, key in enumerate(KEYS)}

    def read_range(self, key: str, start: int, end: int) -> bytes:
        time.sleep(0)
        return self.files[key][start:end]


def test_threads_that_share_an_open_file_read_their_own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_files, "WHOLE_BYTES", 0)
    store = SlowFiles()
    refs = {
        key: FileState(datetime.now(UTC), FileRef(key, "", 20_000, len(data), "")) for key, data in store.files.items()
    }
    wanted = [sum(pq.read_table(pa.BufferReader(data))["n"].to_pylist()) for data in store.files.values()]
    with duckdb.connect(config={"threads": 8}) as con:
        con.register_filesystem(LakeFiles(store, refs))  # type: ignore[arg-type]
        files = "read_parquet('auditlake://audit/table=x/tenant=*/date=*/*.parquet', filename='_file')"
        for _ in range(3):
            found = con.sql(f"select sum(n)::hugeint from {files} group by _file order by _file").fetchall()
            assert [int(row[0]) for row in found] == wanted


def test_query_lists_no_files_and_reads_those_of_the_wanted_day_only(server: Server) -> None:
    uri = f"{server.root}/pruned"
    land(new_lake(open_storage(uri)), {"a": body([record(n) for n in (1, 12, 23, 34)])})
    with between(server.port) as proxy, changed_environ(server.kind.environ(proxy.port)):
        storage = open_storage(uri)
        assert isinstance(storage, ObjectStorage)
        answer = run_query(storage, "select Id from exchange_mailbox where date = '2026-11-21'")
        assert [row for batch in answer.batches for row in batch["Id"].to_pylist()] == [guid(12)]
    reads = [a.target for a in proxy.asked if "parquet" in a.target and "_ledger" not in a.target]
    assert len(reads) == 1
    assert "date" in reads[0]
    assert "2026-11-21" in reads[0]
    assert len(proxy.asked) <= 7, [f"{a.method} {a.target}" for a in proxy.asked]


def test_committed_file_is_read_before_it_is_published(server: Server) -> None:
    uri = f"{server.root}/unpublished"
    entry = land(new_lake(open_storage(uri)), {"a": body([record(1)])})
    assert entry is not None
    (ref,) = entry.files
    storage = open_storage(uri)
    storage.move(ref.key, ref.staged)
    assert [b["n"].to_pylist() for b in run_query(storage, "select count(*) as n from audit").batches] == [[1]]


def test_file_that_is_gone_is_one_sentence(server: Server) -> None:
    uri = f"{server.root}/gone"
    entry = land(new_lake(open_storage(uri)), {"a": body([record(1)])})
    assert entry is not None
    storage = open_storage(uri)
    storage.delete(entry.files[0].key)
    with pytest.raises(Exception, match="is gone from the lake") as caught:
        list(run_query(storage, "select * from exchange_mailbox").batches)
    assert str(caught.value).startswith(f"committed file '{entry.files[0].key}' is gone from the lake '{uri}'")
