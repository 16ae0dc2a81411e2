"""The laws that every store of a lake must keep, on local disk and on a real server of each cloud's kind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from lake import storage_objects
from lake.storage import LakeError, Storage, open_storage
from lake.storage_objects import WHOLE_BYTES, ObjectStorage
from tests.stores.servers import Server

BIG = bytes(range(256)) * (WHOLE_BYTES // 256 + 1000)


def keys(storage: Storage, prefix: str) -> list[str]:
    return [o.key for o in storage.list(prefix)]


def test_put_if_absent_has_one_winner_among_many(storage: Storage) -> None:
    for key in ("_ledger/1", "_ledger/2", "_ledger/3"):
        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(lambda n, key=key: storage.put_if_absent(key, b"%d" % n), range(16)))
        assert sum(won) == 1
        assert storage.get(key) == b"%d" % won.index(True)
    assert keys(storage, "_staging") == []


def test_put_replaces_what_was_there(storage: Storage) -> None:
    storage.put("a/b", b"old")
    storage.put("a/b", memoryview(b"new!"))
    assert storage.get("a/b") == b"new!"
    assert [o.size for o in storage.list("a")] == [4]


def test_what_is_there_keeps_its_bytes_against_put_if_absent(storage: Storage) -> None:
    assert storage.put_if_absent("a/b", b"first")
    assert not storage.put_if_absent("a/b", b"second")
    assert storage.get("a/b") == b"first"


@pytest.mark.parametrize("data", [b"", b"small", BIG], ids=["empty", "small", "big"])
def test_object_is_read_whole_and_at_any_offset(storage: Storage, data: bytes) -> None:
    storage.put("a/b", data)
    assert storage.get("a/b") == data
    with storage.open("a/b") as file:
        assert file.size() == len(data)
        file.seek(max(0, len(data) - 3))
        assert file.read() == data[-3:]
        file.seek(2)
        assert file.read(4) == data[2:6]


def test_large_object_is_read_by_parts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(f"{server.root}/parts")
    storage.put("a/b", BIG)
    monkeypatch.setattr(ObjectStorage, "get", None)
    with storage.open("a/b") as file:
        file.seek(1_000_000)
        assert file.read(5) == BIG[1_000_000:1_000_005]
        file.seek(0)
        assert file.read() == BIG


def test_move_again_is_no_error(storage: Storage) -> None:
    storage.put("_staging/x", b"data")
    storage.move("_staging/x", "audit/deep/er/x")
    storage.move("_staging/x", "audit/deep/er/x")
    assert storage.get("audit/deep/er/x") == b"data"
    assert keys(storage, "_staging") == []


def test_move_of_nothing_is_an_error(storage: Storage) -> None:
    with pytest.raises(LakeError, match="cannot move 'x'"):
        storage.move("x", "y")


def test_delete_of_nothing_is_no_error(storage: Storage) -> None:
    storage.put("x", b"")
    storage.delete("x")
    storage.delete("x")
    with pytest.raises(FileNotFoundError):
        storage.get("x")


def test_absent_object_is_told_by_its_own_error(storage: Storage) -> None:
    storage.put("folder/x", b"")
    for read in (storage.get, storage.open):
        with pytest.raises(FileNotFoundError):
            read("folder/none")


def test_list_is_in_the_order_of_keys(storage: Storage) -> None:
    written = ["a/b/c", "a/b.x", "a/z", "a/b-1/q", "a/B", "a/b0", "a/d=1/tenant=x/q w", "ab/c", "a/é"]
    for key in written:
        storage.put(key, b"")
    assert keys(storage, "a") == sorted(k for k in written if k.startswith("a/"))
    assert keys(storage, "a/b") == ["a/b/c"]
    assert keys(storage, "none") == []
    (one,) = storage.list("ab")
    assert abs(one.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_list_goes_on_over_pages(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_objects, "PAGE_OBJECTS", 3)
    written = [f"many/{n}" for n in range(8)]
    for key in written:
        storage.put(key, b"")
    assert keys(storage, "many") == written


def test_folders_are_listed_without_what_is_in_them(storage: Storage) -> None:
    for key in ("a/t=2/x", "a/t=1/deep/er", "a/t=1/x", "a/file"):
        storage.put(key, b"")
    assert list(storage.folders("a")) == ["t=1", "t=2"]
    assert list(storage.folders("none")) == []


@pytest.mark.parametrize("key", ["../x", "a/../../x", "a//x", "", "a/./x", "a/\0"])
def test_key_that_leads_elsewhere_is_refused(storage: Storage, key: str) -> None:
    for ask in (storage.get, storage.open, storage.delete, lambda k: storage.put(k, b"")):
        with pytest.raises(LakeError, match="is no key of a file in the lake"):
            ask(key)
