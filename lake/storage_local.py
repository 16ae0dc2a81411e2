"""A lake on a local disk: files written aside, flushed, and then given their names."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from uuid import uuid4

import pyarrow as pa

from lake import layout
from lake.storage import LakeError, StoredObject, checked, refused


class LocalStorage:
    """A lake on a local disk.

    A file is written aside, flushed to the disk and then linked or renamed to its name, so that a name always stands
    for a whole file. The names of what is put are flushed together, before the next object that may not be there yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)
        self._unflushed: set[Path] = set()
        self._flushing = Lock()

    def _path(self, key: str) -> Path:
        return self.root / checked(key, self.uri)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """See Storage."""
        aside = self._write_aside(key, data)
        try:
            aside.replace(self._path(key))
        except OSError as error:
            raise self._refused("write", key, error) from error
        self._unflushed.add(self._path(key).parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Storage."""
        aside = self._write_aside(key, data)
        try:
            self._flush_names()
            os.link(aside, self._path(key))
            _flush_folder(self._path(key).parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._refused("write", key, error) from error
        finally:
            aside.unlink(missing_ok=True)
        return True

    def _flush_names(self) -> None:
        """Flushes the names of all that was put; waits for others who do."""
        with self._flushing:
            while self._unflushed:
                folder = self._unflushed.pop()  # first: what is put meanwhile adds it again
                try:
                    with suppress(FileNotFoundError):  # a folder that is gone has no names
                        _flush_folder(folder)
                except OSError:
                    self._unflushed.add(folder)
                    raise

    def _write_aside(self, key: str, data: bytes | memoryview) -> Path:
        aside = self._path(f"{layout.ASIDE}/{uuid4().hex}")
        try:
            _make_folder(aside.parent)
            _make_folder(self._path(key).parent)
            try:
                with aside.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._refused("write", key, error) from error
        return aside

    def _refused(self, verb: str, key: str, error: OSError) -> LakeError:
        return refused(verb, key, self.uri, error.strerror or str(error))

    def get(self, key: str) -> bytes:
        """See Storage."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._refused("read", key, error) from error

    def open(self, key: str) -> pa.NativeFile:
        """See Storage."""
        try:
            return pa.OSFile(str(self._path(key)), "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._refused("read", key, error) from error

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See Storage."""
        yield from self._walk(prefix.rstrip("/"))

    def _walk(self, folder: str) -> Iterator[StoredObject]:
        try:
            with os.scandir(self._path(folder)) as found:
                # A folder sorts by its name and the slash that follows it, as its keys do.
                names = sorted(e.name + "/" if e.is_dir() else e.name for e in found)
        except FileNotFoundError:
            return  # never written, or gone while we look
        except OSError as error:
            raise self._refused("list", folder, error) from error
        for name in names:
            key = f"{folder}/{name}"
            if name.endswith("/"):
                yield from self._walk(key.rstrip("/"))
                continue
            try:
                stat = self._path(key).stat()
            except FileNotFoundError:
                continue  # moved or swept while we look
            except OSError as error:
                raise self._refused("list", key, error) from error
            yield StoredObject(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def folders(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        try:
            with os.scandir(self._path(prefix)) as found:
                names = sorted(e.name for e in found if e.is_dir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._refused("list", prefix, error) from error
        for name in names:
            if any(True for _ in self._walk(f"{prefix}/{name}")):  # an empty one is no folder on any other store
                yield name

    def move(self, source: str, target: str) -> None:
        """See Storage."""
        try:
            _make_folder(self._path(target).parent)
            self._path(source).replace(self._path(target))
            _flush_folder(self._path(target).parent)
        except FileNotFoundError as error:
            if not self._path(target).exists():
                raise self._refused("move", source, error) from error
        except OSError as error:
            raise self._refused("move", source, error) from error

    def delete(self, key: str) -> None:
        """See Storage."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise self._refused("delete", key, error) from error


def _make_folder(folder: Path) -> None:
    """Makes a folder and its parents, each durable in the one above it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Flushes a folder's names to the disk, which renaming and linking alone do not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
