"""What hostile names, records and ledgers can do to a lake, its commands and the machine: nothing."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from lake import layout
from lake.entries import FAILED, BlobOutcome, DriftCount, FileRef, Landing
from lake.export import export
from lake.query import QueryError, render, run_query
from lake.status import describe as describe_status
from lake.status import status
from lake.storage import LakeError
from lake.storage_local import LocalStorage
from lake.verify import describe, verify
from pipeline.summary import Summary
from pipeline.summary import describe as describe_summary
from tests.commands import auditlake, environment
from tests.lake_records import START, TENANT, blob, body, land, list_blobs, new_lake, record, storage_at
from tests.schema_records import decode, text_of

ESCAPES = "\x1b]0;owned\x07\x9b2J\nverified: all\r\u202e\u2028\x00"
OUTSIDE = ["../outside", "audit/../../outside", "/tmp/auditlake-outside", "audit//x", "audit/./x", "audit/x\0", ""]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return storage_at(tmp_path)


@pytest.mark.parametrize("key", OUTSIDE)
def test_no_key_leads_out_of_the_lake(storage: LocalStorage, key: str) -> None:
    for call in (
        lambda: storage.put(key, b"x"),
        lambda: storage.put_if_absent(key, b"x"),
        lambda: storage.get(key),
        lambda: storage.open(key),
        lambda: storage.move(key, "audit/x"),
        lambda: storage.move("audit/x", key),
        lambda: storage.delete(key),
        lambda: list(storage.list(key)),
    ):
        with pytest.raises(LakeError, match="is no key of a file in the lake"):
            call()


def hostile_entry(key: str, staged: str) -> Landing:
    ref = FileRef(key, staged, 1, 1, sha256(b"x").hexdigest())
    return Landing("run", datetime.now(UTC), "Audit.Exchange", [], [ref], [], removed=["../victim", "/etc/hostname"])


@pytest.mark.parametrize("key", ["../../etc/x", "/etc/x"])
def test_ledger_that_names_files_outside_of_the_lake_moves_and_deletes_none(
    storage: LocalStorage, key: str, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    staged = layout.staged(TENANT, "a.parquet")
    storage.put(staged, b"x")
    entry = hostile_entry(key, staged)
    storage.put_if_absent(layout.entry(TENANT, 1), msgspec.json.encode(entry))
    storage.put(layout.removal(TENANT), msgspec.json.encode(entry.removed))
    with pytest.raises(LakeError, match="restore the ledger entry"):
        new_lake(storage)
    with pytest.raises(LakeError, match="restore the ledger entry"):
        describe(verify(storage))
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lake", "victim"]
    assert storage.get(staged) == b"x"


def test_ledger_that_takes_a_file_outside_of_the_lake_for_staged_moves_none(
    storage: LocalStorage, tmp_path: Path
) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    lake = new_lake(storage)
    entry = hostile_entry(f"audit/table=dlp/tenant={TENANT}/date=2026-11-20/x.parquet", "../victim")
    with pytest.raises(LakeError):
        lake.publish(entry.files)
    assert (tmp_path / "victim").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["../../../x", "/etc/x", "a/../../../b", "nul\0nul", "..", ".", "C:\\x", "x" * 5000])
def test_content_id_never_becomes_a_path(storage: LocalStorage, name: str, tmp_path: Path) -> None:
    lake = new_lake(storage)
    land(lake, {name: body([record(1, Id="../../../x"), "broken"])})
    assert [p.name for p in tmp_path.iterdir()] == ["lake"]
    for stored in storage.list("audit"):
        assert layout.partition_of(stored.key)
    assert not any("x" in Path(o.key).stem or ".." in o.key for top in ("audit", "rejected") for o in storage.list(top))
    assert not verify(storage).problems
    (row,) = render(run_query(storage, "select _content_id as c from audit"), "json")
    assert json.loads(row) == {"c": name}


@pytest.mark.parametrize(
    "tenant", ["../x", "*", "a'; drop view audit; --", TENANT.replace("1", "A"), f"{TENANT}/..", "", f"{TENANT}\n"]
)
def test_only_a_guid_becomes_the_tenant_of_a_path(tenant: str) -> None:
    for call in (
        layout.entries,
        layout.checkpoints,
        lambda t: layout.staged(t, "x"),
        lambda t: layout.rejected_file(t, "x"),
    ):
        with pytest.raises(ValueError, match="is not a GUID"):
            call(tenant)
    assert layout.tenant_of(f"_ledger/tenant={tenant}/entries/1.json") is None or tenant.startswith(f"{TENANT}/")


@pytest.mark.parametrize("table", ["../x", "x'y", 'x"y', "", "X", "a b", "dlp/.."])
def test_only_a_plain_name_becomes_the_table_of_a_path(table: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        layout.audit_file(table, TENANT, START.date(), "x")


def test_folders_of_strange_tables_and_tenants_are_no_sql(storage: LocalStorage) -> None:
    land(new_lake(storage), {"b": body([record(1)])})
    for folder in ("table=x') union select 1 --", "table=exchange_mailbox/tenant=' or true --"):
        storage.put(f"audit/{folder}/date=2026-11-20/x.txt", b"")
    (row,) = render(run_query(storage, "select count(*) as n from audit"), "json")
    assert json.loads(row) == {"n": 1}
    assert len(list(export(storage))) == 1


@pytest.mark.parametrize("sql", ["copy audit to 'x.csv'", "drop view audit", "select 1; select 2", "attach 'x.db'"])
def test_query_only_reads(storage: LocalStorage, sql: str) -> None:
    land(new_lake(storage), {"b": body([record(1)])})
    with pytest.raises(QueryError):
        run_query(storage, sql)
    with pytest.raises(QueryError):
        list(export(storage, f"true); {sql}; select (1"))


@pytest.fixture
def hostile_texts(storage: LocalStorage) -> Iterator[str]:
    """What the commands print of a lake whose names all hold commands for a terminal."""
    lake = new_lake(storage)
    land(lake, {f"landed{ESCAPES}": body([record(1, Operation=ESCAPES, **{f"New{ESCAPES}": 1})])})
    list_blobs(lake, [blob(f"failed{ESCAPES}")], start=START + timedelta(hours=1))
    failed = BlobOutcome(f"failed{ESCAPES}", START, FAILED, error=f"the service said {ESCAPES}")
    drift = [DriftCount("dlp", ESCAPES, "string", 1)]
    lake.ledger.append(lambda _: Landing(ESCAPES, datetime.now(UTC), ESCAPES, [failed], [], drift))
    summary = Summary("lake", "run")
    summary.missing.append(f"blob {ESCAPES}")
    summary.drift[f"dlp.{ESCAPES}"] = 1
    (storage.root / "audit" / "x\x1b[2J\udcff").write_bytes(b"")
    queries = ["select * from audit", "select * from ledger_blobs", f'select 1 as "{ESCAPES[:-1]}"']
    return iter(
        [
            describe(verify(storage)),
            describe_status(status(storage)),
            describe_summary(summary),
            *("\n".join(render(run_query(storage, sql), form)) for sql in queries for form in ("text", "json")),
        ]
    )


def test_no_command_prints_commands_for_a_terminal(hostile_texts: Iterator[str]) -> None:
    for text in hostile_texts:
        text.encode()
        assert not {c for c in text if ord(c) < 32 or 0x7F <= ord(c) < 0xA0} - {"\n"}
        assert not any(line.startswith("verified: all") for line in text.splitlines())


def test_no_error_prints_commands_for_a_terminal(tmp_path: Path) -> None:
    done = auditlake("query", "--lake", tmp_path / "no\x1b[2Jlake", "select 1", env=environment(), cwd=tmp_path)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b" in done.stderr


@pytest.mark.parametrize(
    "value",
    ["1e999", "-1e999", "9" * 100_000, "-0", "-0.0", "1e-999", "[" * 100 + "]" * 100, f'{{"{"k" * 1_000_000}":1}}'],
    ids=lambda v: v[:9],
)
@pytest.mark.parametrize("member", ["New", "UserType", "CreationTime2", "UserId"])
def test_hostile_values_are_rows_that_hold_them(member: str, value: str) -> None:
    seen = decode(b"[" + text_of(**{member: value}) + b"]")
    assert len(seen.rows) == 1


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000]
)
def test_what_is_no_json_or_too_deep_is_rejected_whole_and_costs_no_other(value: str) -> None:
    odd, good = text_of(New=value), text_of()
    seen = decode(b"[" + odd + b"," + good + b"]")
    assert [(reject.position, reject.data) for reject in seen.rejects] == [(0, odd)]
    assert sorted(seen.rows) == [1]


def test_member_that_stands_twice_is_counted_and_the_last_one_kept() -> None:
    seen = decode(b"[" + text_of(UserId='"first"')[:-1] + b',"UserId":"last"}]')
    assert seen.rebuilt()[0]["UserId"] == "last"
    assert any(drift.json_type == "repeated" for drift in seen.drift)
