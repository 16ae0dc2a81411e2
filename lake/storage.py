"""Where a lake lives: whole objects under slash-separated keys.

One interface for local disk and object stores. What it asks of a store: an object is whole or absent, also after a
power cut, and `put_if_absent` has one winner however many try. Both are one request on GCS (`ifGenerationMatch=0`), on
S3 and on Azure (`If-None-Match: *`); `docs/decisions/0004-storage-interface.md` holds the evidence.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pyarrow as pa


class LakeError(Exception):
    """The lake cannot be read or written; the message says what to do."""


class WrongRequestError(LakeError):
    """What was asked of the lake cannot be: another URI, query or condition is needed."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as a listing tells of it: key, size in bytes, time of its last change."""

    key: str
    size: int
    modified: datetime


class Storage(Protocol):
    """Objects by key. Every method raises LakeError with a clear sentence when the store refuses."""

    uri: str

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Writes an object, whole or not at all, durably."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes an object unless the key is taken; False where it is. Of many writers one wins."""

    def get(self, key: str) -> bytes:
        """Reads an object. Raises FileNotFoundError where there is none."""

    def open(self, key: str) -> pa.NativeFile:
        """Opens an object for reading at any offset. Raises FileNotFoundError where there is none."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Lists the objects whose keys lie below the folder `prefix`, in the order of their keys."""

    def move(self, source: str, target: str) -> None:
        """Moves an object to a new key. Moving again what has been moved is no error."""

    def delete(self, key: str) -> None:
        """Removes an object; one that is gone is no error."""


def open_storage(uri: str) -> Storage:
    """Opens the store that a lake URI names.

    Raises:
      WrongRequestError: The scheme is not one that this version can use.
    """
    try:
        parts = urlsplit(uri)
        # An address such as file://data/lake names the host data.
        has_path = parts.scheme != "file" or (parts.netloc in ("", "localhost") and parts.path and "%00" not in uri)
        if has_path and (parts.scheme in ("", "file") or re.fullmatch(r"[A-Za-z]", parts.scheme)):
            return LocalStorage(Path(unquote(parts.path) if parts.scheme == "file" else uri))
    except (ValueError, RuntimeError) as error:
        raise WrongRequestError(f"the lake {uri!r} is no folder or URI ({error}): expected a local path") from error
    raise WrongRequestError(f"the lake {uri!r} is on a store that is not supported: expected a local path or file://")


class LocalStorage:
    """A lake on a local disk.

    A file is written aside, flushed to the disk and then linked or renamed to its name, so that a name always stands
    for a whole file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)

    def _path(self, key: str) -> Path:
        # Ledger entries name files: a hostile one must not lead out of the lake.
        if "\0" in key or not {"", ".", ".."}.isdisjoint(key.split("/")):
            raise LakeError(
                f"{key!r} is no key of a file in the lake {self.uri!r}: restore the ledger entry that names it"
            )
        return self.root / key

    def put(self, key: str, data: bytes | memoryview) -> None:
        """See Storage."""
        aside = self._write_aside(key, data)
        try:
            aside.replace(self._path(key))
            _flush_folder(self._path(key).parent)
        except OSError as error:
            raise self._refused("write", key, error) from error

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Storage."""
        aside = self._write_aside(key, data)
        try:
            os.link(aside, self._path(key))
            _flush_folder(self._path(key).parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._refused("write", key, error) from error
        finally:
            aside.unlink(missing_ok=True)
        return True

    def _write_aside(self, key: str, data: bytes | memoryview) -> Path:
        aside = self._path(f"_staging/.aside/{uuid4().hex}")
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
        return LakeError(f"cannot {verb} {key!r} in the lake {self.uri!r}: {error.strerror or error}")

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
