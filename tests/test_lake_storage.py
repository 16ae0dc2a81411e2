"""What only a local disk can do to a lake. The laws of all stores are in tests/stores/test_laws.py."""

import os
from errno import EIO, ENOSPC, EROFS
from pathlib import Path

import pytest

import lake.storage_local
from lake.storage import LakeError, WrongRequestError, open_storage
from lake.storage_local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "lake")


def keys(storage: LocalStorage, prefix: str) -> list[str]:
    return [o.key for o in storage.list(prefix)]


@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_write_that_fails_midway_leaves_nothing(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    def full(_handle: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    storage.root.mkdir()
    for folder in ("audit", "_staging", "_staging/.aside"):
        (storage.root / folder).mkdir()
    with pytest.raises(LakeError, match=r"cannot write 'audit/x' in the lake '.*': No space left on device"):
        getattr(storage, write)("audit/x", b"data")
    assert keys(storage, "audit") == []
    assert keys(storage, "_staging") == []


def test_failed_overwrite_keeps_the_old_object(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put("a/b", b"old")

    def refuse(*_: object) -> None:
        raise OSError(EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(LakeError, match="Read-only file system"):
        storage.put("a/b", b"new")
    assert storage.get("a/b") == b"old"


def test_absent_objects_are_told_from_refused_ones(storage: LocalStorage) -> None:
    storage.put("folder/x", b"")
    for read in (storage.get, storage.open):
        with pytest.raises(FileNotFoundError):
            read("folder/none")
        with pytest.raises(LakeError, match="cannot read 'folder'"):
            read("folder")


@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_lake_that_cannot_be_written_is_one_sentence(tmp_path: Path, write: str) -> None:
    (tmp_path / "lake").write_text("a file in the place of the folder")
    with pytest.raises(LakeError, match=r"^cannot write 'a/b' in the lake '.*lake': "):
        getattr(LocalStorage(tmp_path / "lake"), write)("a/b", b"")


def test_read_only_lake_is_one_sentence(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.put("a/b", b"")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LakeError, match=r"cannot write 'a/c' in the lake .* Read-only file system"):
        storage.put_if_absent("a/c", b"")


def test_uri_names_a_folder(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"):
        assert open_storage(uri).uri == str(tmp_path / "a b")


def test_uri_of_another_store_is_refused() -> None:
    with pytest.raises(LakeError, match="'hdfs://host/lake' is on a store that is not supported: expected"):
        open_storage("hdfs://host/lake")


@pytest.mark.parametrize(
    "uri", ["http://[", "~no-such-user/lake", "file://%00", "file://data/lake", "file://", "ftp://x/y"]
)
def test_uri_that_names_no_lake_is_refused_in_a_sentence(uri: str) -> None:
    with pytest.raises(WrongRequestError, match="expected"):
        open_storage(uri)


def test_names_of_what_was_put_are_on_the_disk_before_the_object_that_tells_of_them(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second", "entries"):
        storage.put_if_absent(f"{folder}/old", b"")
    done: list[str] = []
    flush, link = lake.storage_local._flush_folder, os.link

    def flushed(folder: Path) -> None:
        flush(folder)
        done.append(str(folder))

    def linked(source: Path, target: Path) -> None:
        done.append(str(target))
        link(source, target)

    monkeypatch.setattr("lake.storage_local._flush_folder", flushed)
    monkeypatch.setattr(os, "link", linked)
    for key in ("first/a", "second/b", "first/c"):
        storage.put(key, b"")
    assert storage.put_if_absent("entries/1", b"")
    told = done.index(f"{storage.root}/entries/1")
    assert {f"{storage.root}/first", f"{storage.root}/second"} <= set(done[:told])
    assert done.count(f"{storage.root}/first") == 1
    assert done[told + 1 :] == [f"{storage.root}/entries"]


def test_names_that_could_not_be_flushed_are_flushed_by_the_next(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put("first/a", b"")
    flush, failed = lake.storage_local._flush_folder, [0]

    def fails_once(folder: Path) -> None:
        if folder.name == "first":
            failed[0] += 1
            if failed[0] == 1:
                raise OSError(EIO, "Input/output error")
        flush(folder)

    monkeypatch.setattr("lake.storage_local._flush_folder", fails_once)
    with pytest.raises(LakeError, match=r"cannot write 'entries/1' .*Input/output error"):
        storage.put_if_absent("entries/1", b"")
    assert keys(storage, "entries") == []
    assert storage.put_if_absent("entries/1", b"")
    assert failed == [2]


def test_folder_that_is_gone_has_no_names_to_flush(storage: LocalStorage) -> None:
    storage.put("first/a", b"")
    storage.delete("first/a")
    (storage.root / "first").rmdir()
    assert storage.put_if_absent("entries/1", b"")
