"""Verify: an untouched lake passes; whatever is touched is named."""

import json
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lake import layout, ledger
from lake.entries import FAILED, UNLISTED, Entry, FileRef, Landing, Listing, Slice, decode_entry
from lake.landing import Unit
from lake.storage import LakeError
from lake.storage_local import LocalStorage
from lake.tenant import TenantLake
from lake.verify import Problem, Verification, describe, to_json, verify
from tests.lake_records import (
    FEED,
    HOUR,
    START,
    TENANT,
    blob,
    body,
    guid,
    land,
    list_blobs,
    new_lake,
    record,
    storage_at,
)

OTHER = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """A lake of two units: entries 1 and 3 are listings, 2 and 4 landings."""
    lake = new_lake(storage_at(tmp_path))
    land(lake, {"a": body([record(1), record(2), record(12), {"Id": ""}]), "b": body([record(2), record(3)])})
    land(lake, {"c": body([record(3), record(4)])})
    return storage_at(tmp_path)


def keys(storage: LocalStorage, top: str) -> list[str]:
    return [o.key for o in storage.list(top)]


def problems(storage: LocalStorage) -> list[Problem]:
    return verify(storage).problems


def the_problem(storage: LocalStorage) -> Problem:
    (one,) = problems(storage)
    return one


def entry_of(storage: LocalStorage, number: int) -> Entry:
    return decode_entry(storage.get(layout.entry(TENANT, number)))


def change_entry(storage: LocalStorage, number: int, **fields: Any) -> str:
    key = layout.entry(TENANT, number)
    storage.put(key, msgspec.json.encode(msgspec.structs.replace(entry_of(storage, number), **fields)))
    return key


def change_file(storage: LocalStorage, number: int, data: bytes) -> str:
    """Replaces the first file of an entry, and what the entry says of it."""
    entry = entry_of(storage, number)
    assert isinstance(entry, Landing)
    first, *rest = entry.files
    storage.put(first.key, data)
    ref = FileRef(first.key, first.staged, first.rows, len(data), sha256(data).hexdigest())
    change_entry(storage, number, files=[ref, *rest])
    return first.key


def test_untouched_lake_is_verified_and_counted(storage: LocalStorage) -> None:
    found = verify(storage)
    assert found.problems == []
    (feed,) = found.feeds
    assert (feed.tenant, feed.content_type, feed.listed, feed.landed) == (TENANT, FEED, 3, 3)
    assert (feed.records, feed.rows, feed.duplicates, feed.rejects) == (8, 5, 2, 1)
    stored = [o for top in ("audit", "rejected") for o in storage.list(top)]
    assert (found.files, found.bytes) == (len(stored), sum(o.size for o in stored))


def test_verify_writes_nothing(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("put", "put_if_absent", "move", "delete"):
        monkeypatch.delattr(LocalStorage, method)
    assert problems(storage) == []


def test_changed_byte_is_named(storage: LocalStorage) -> None:
    for top in ("audit", "rejected"):
        key = keys(storage, top)[-1]
        path = Path(storage.uri, key)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        one = problems(storage).pop()
        assert one == Problem(key, "was changed: its SHA-256 is not the one in the ledger; restore it")
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def test_cut_file_is_named(storage: LocalStorage) -> None:
    key = keys(storage, "audit")[0]
    size = len(storage.get(key))
    storage.put(key, storage.get(key)[:-1])
    what = f"has {size - 1:,} bytes, the ledger says {size:,}: restore it"
    assert the_problem(storage) == Problem(key, what)


@pytest.mark.parametrize("top", ["audit", "rejected"])
def test_deleted_file_is_named(storage: LocalStorage, top: str) -> None:
    key = keys(storage, top)[0]
    storage.delete(key)
    assert the_problem(storage) == Problem(key, "is missing: restore it, the ledger says that it was committed")


def test_file_that_is_committed_but_not_published_is_named_and_counted(storage: LocalStorage) -> None:
    entry = entry_of(storage, 4)
    assert isinstance(entry, Landing)
    storage.move(entry.files[0].key, entry.files[0].staged)
    what = "is committed but not yet published; any next run finishes it"
    assert the_problem(storage) == Problem(entry.files[0].key, what)
    assert verify(storage).files == 4
    new_lake(storage)
    assert problems(storage) == []


@pytest.mark.parametrize(
    "key",
    [
        f"audit/table=exchange_mailbox/tenant={TENANT}/date=2026-11-20/added.parquet",
        f"audit/table=exchange_mailbox/tenant={OTHER}/date=2026-11-20/added.parquet",
        f"audit/table=exchange_mailbox/tenant={TENANT}/date=2026-11-20/notes.txt",
        "audit/stray",
        f"rejected/tenant={OTHER}/added.avro",
        f"_ledger/tenant={TENANT}/entries/000000000002.json.bak",
        f"_ledger/tenant={TENANT}/entries/2.json",
        f"_ledger/tenant={TENANT}/checkpoints/x.parquet",
        "_ledger/notes.txt",
    ],
)
def test_stranger_is_named(storage: LocalStorage, key: str) -> None:
    storage.put(key, storage.get(keys(storage, "audit")[0]))
    assert the_problem(storage) == Problem(key, "no ledger entry names it: move it out of the lake, or delete it")


def test_staged_files_are_no_strangers(storage: LocalStorage) -> None:
    storage.put(layout.staged(TENANT, "x.parquet"), b"")
    assert problems(storage) == []


def test_deleted_entry_and_what_it_stood_for_are_named(storage: LocalStorage) -> None:
    gone = entry_of(storage, 2)
    assert isinstance(gone, Landing)
    storage.delete(layout.entry(TENANT, 2))
    found = {p.where: p.what for p in problems(storage)}
    restore = "is missing, though later entries exist: restore it before anything else runs"
    assert found[layout.entry(TENANT, 2)] == restore
    for ref in gone.files:
        assert found[ref.key].startswith("no ledger entry names it")
    assert "blob 'b'" in found[f"tenant {TENANT} {FEED}"]


def test_unreadable_entry_is_named(storage: LocalStorage) -> None:
    storage.put(layout.entry(TENANT, 3), b'{"kind": "listing"}')
    first = problems(storage)[0]
    assert first.where == layout.entry(TENANT, 3)
    assert first.what.startswith("cannot be read (")
    assert first.what.endswith("restore it before anything else runs")


def test_edited_counts_are_named(storage: LocalStorage) -> None:
    entry = entry_of(storage, 4)
    assert isinstance(entry, Landing)
    (c,) = entry.blobs
    key = change_entry(storage, 4, blobs=[msgspec.structs.replace(c, records=3)])
    assert the_problem(storage) == Problem(key, "blob 'c' held 3 records, but 2 are accounted for")
    change_entry(storage, 4, blobs=[msgspec.structs.replace(c, rows=2, duplicates=0)])
    where = f"tenant {TENANT} {FEED}"
    assert the_problem(storage) == Problem(where, "blob 'c': the files hold 1 rows, the ledger says 2")
    change_entry(storage, 4, blobs=[msgspec.structs.replace(c, duplicates=0, rejects=1)])
    assert the_problem(storage) == Problem(where, "blob 'c': the files hold 0 rejects, the ledger says 1")


def test_rows_of_a_blob_without_an_outcome_are_named(storage: LocalStorage) -> None:
    change_entry(storage, 4, blobs=[])
    found = problems(storage)
    assert "blob 'c' (available since" in found[0].what
    assert found[1] == Problem(f"tenant {TENANT} {FEED}", "blob 'c': the files hold 1 rows, the ledger says 0")


def test_rows_of_a_blob_that_no_entry_names_are_named(storage: LocalStorage) -> None:
    change_entry(storage, 3, blobs=[], slices=[])
    change_entry(storage, 4, blobs=[])
    what = "files hold records of blob 'c', but no entry names it"
    assert the_problem(storage) == Problem(f"tenant {TENANT}", what)


def test_file_of_other_rows_than_the_ledger_says_is_named(storage: LocalStorage) -> None:
    entry = entry_of(storage, 4)
    assert isinstance(entry, Landing)
    change_entry(storage, 4, files=[msgspec.structs.replace(entry.files[0], rows=7)])
    assert the_problem(storage) == Problem(entry.files[0].key, "holds 1 rows, the ledger says 7")


def test_file_that_is_no_parquet_is_named(storage: LocalStorage) -> None:
    key = change_file(storage, 4, b"no Parquet")
    one = the_problem(storage)
    assert one.where == key
    assert one.what.startswith("cannot be read: ")


def test_repeated_ids_are_named(storage: LocalStorage) -> None:
    lake = TenantLake(storage, TENANT)
    list_blobs(lake, [blob("d")])
    unit = Unit(lake, "run", FEED)
    unit._lake.committed.holds = lambda keys: keys == b"?"  # type: ignore[method-assign]
    unit.add(blob("d"), body([record(n) for n in (1, 2, 3, 9)]))
    unit.commit()
    what = f"3 rows repeat an Id that stands before them, such as {guid(1)}, {guid(2)}, {guid(3)}"
    assert the_problem(storage) == Problem(f"tenant {TENANT}", what)


def test_at_most_ten_repeated_ids_are_shown(storage: LocalStorage) -> None:
    lake = TenantLake(storage, TENANT)
    lake.committed.holds = lambda keys: keys == b"?"  # type: ignore[method-assign]
    for name in "de":
        land(lake, {name: body([record(n) for n in range(100, 130)])})
    one = the_problem(storage)
    assert one.what.startswith("30 rows repeat an Id")
    assert one.what.count("-") == 4 * 10


def test_blob_without_an_outcome_is_named(storage: LocalStorage) -> None:
    list_blobs(TenantLake(storage, TENANT), [blob("d", created=START + timedelta(minutes=5))])
    what = (
        "blob 'd' (available since 2026-11-20T08:05:00Z, expires 2026-11-27T08:05:00Z) was listed and has no outcome: "
        "run `auditlake backfill` again"
    )
    assert the_problem(storage) == Problem(f"tenant {TENANT} {FEED}", what)
    (feed,) = verify(storage).feeds
    assert (feed.listed, feed.landed, feed.pending) == (4, 3, 1)


def test_blob_that_landed_without_a_listing_is_named(storage: LocalStorage) -> None:
    unit = Unit(TenantLake(storage, TENANT), "run", FEED)
    unit.add(blob("d"), b"[]")
    unit.commit()
    what = "blob 'd' has the outcome landed, but no listing names it"
    assert the_problem(storage) == Problem(f"tenant {TENANT} {FEED}", what)


def test_blob_that_landed_twice_is_named(storage: LocalStorage) -> None:
    entry = entry_of(storage, 4)
    again = msgspec.structs.replace(entry, files=[])
    storage.put(layout.entry(TENANT, 5), msgspec.json.encode(again))
    what = "blob 'c' has landed in an earlier entry already: its records may stand twice"
    assert Problem(layout.entry(TENANT, 5), what) in problems(storage)


def test_listing_that_names_fewer_blobs_than_it_held_is_named(storage: LocalStorage) -> None:
    later = START + 5 * HOUR
    held = Listing("run", later, FEED, [Slice(later, later + HOUR, "listed", later + HOUR, 2)], [])
    TenantLake(storage, TENANT).ledger.append(lambda _: held)
    what = "the listing of 2026-11-20T13:00:00Z to 2026-11-20T14:00:00Z held 2 blobs, the ledger names 0"
    assert the_problem(storage) == Problem(f"tenant {TENANT} {FEED}", what)


def checkpointed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorage:
    monkeypatch.setattr(ledger, "CHECKPOINT_EVERY", 2)
    lake = new_lake(storage_at(folder / "checkpointed"))
    for name in "abc":
        land(lake, {name: body([record(ord(name))])})
    return storage_at(folder / "checkpointed")


def test_checkpoints_that_agree_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(checkpointed(tmp_path, monkeypatch)) == []


def test_checkpoint_that_disagrees_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = checkpointed(tmp_path, monkeypatch)
    keys = [layout.checkpoint(TENANT, n) for n in (2, 4, 6)]
    storage.put(keys[1], storage.get(keys[0]))
    storage.put(keys[0], b"damaged")
    for number in (5, 6):
        storage.delete(layout.entry(TENANT, number))
    found = {p.where: p.what for p in problems(storage)}
    assert found[keys[0]].startswith("cannot be read (")
    assert found[keys[1]] == "differs from the entries that it stands for: delete it if the entries are right"
    assert found[keys[2]] == "stands for 6 entries, but the ledger ends at 4: restore the entries"


def test_tenants_are_verified_apart(storage: LocalStorage) -> None:
    other = TenantLake(storage, OTHER)
    list_blobs(other, [blob("x")])
    assert [p.where for p in problems(storage)] == [f"tenant {OTHER} {FEED}"]
    assert verify(storage).tenants == [TENANT, OTHER]
    assert verify(storage, [TENANT]).problems == []
    with pytest.raises(LakeError, match="has no ledger of tenant 'nobody'"):
        verify(storage, ["nobody"])


def test_file_in_the_folder_of_another_tenant_is_named(storage: LocalStorage) -> None:
    entry = entry_of(storage, 4)
    assert isinstance(entry, Landing)
    (ref,) = entry.files
    moved = msgspec.structs.replace(ref, key=ref.key.replace(TENANT, OTHER))
    storage.move(ref.key, moved.key)
    change_entry(storage, 4, files=[moved])
    assert the_problem(storage).what.startswith("lies in another tenant's folder")


@pytest.mark.parametrize("made", [False, True])
def test_nothing_is_no_lake(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "lake" / "audit").mkdir(parents=True)
    with pytest.raises(LakeError, match="no lake at"):
        verify(storage_at(tmp_path))


def test_verification_reads_well(storage: LocalStorage) -> None:
    lines = describe(verify(storage)).splitlines()
    assert lines[0].split() == [
        *("tenant", "content", "type", "listed", "landed", "expired", "failed", "pending"),
        *("records", "rows", "duplicates", "rejects"),
    ]
    assert lines[2].split() == [TENANT, FEED, "3", "3", "0", "0", "0", "8", "5", "2", "1"]
    assert lines[3].startswith("4 files, ")
    assert lines[4].startswith("verified: every listed blob has an outcome")
    assert json.loads(json.dumps(to_json(verify(storage))))["verified"] is True


def test_losses_that_are_accounted_for_are_told_but_are_no_problem(storage: LocalStorage) -> None:
    lake = TenantLake(storage, TENANT)
    list_blobs(lake, [blob("d"), blob("e")])
    unit = Unit(lake, "run", FEED)
    unit.add_failed(blob("d"), "HTTP 500")
    unit.add_failed(blob("e"), "gone", expired=True)
    unit.commit()
    list_blobs(lake, [], start=START + HOUR, outcome=UNLISTED)
    found = verify(storage)
    assert found.problems == []
    assert lake.ledger.state.blobs["d"].status == FAILED
    (line,) = [one for one in describe(found).splitlines() if one.startswith("accounted for")]
    assert "1 blobs that failed (run `auditlake backfill` again), 1 expired blobs, 1 slices that could not" in line


def test_many_problems_are_cut_short_in_text_only() -> None:
    found = Verification("lake", [TENANT], problems=[Problem("key", str(n)) for n in range(25)])
    lines = describe(found).splitlines()
    assert lines[1] == "NOT verified: 25 problems"
    assert lines[-1] == "  and 5 more: --json lists them all"
    assert len(to_json(found)["problems"]) == 25  # type: ignore[arg-type]
