"""A lake on an object store: the laws of a Storage over the few requests that all such stores answer.

ObjectStorage ── names below a prefix, own writes known again, moves, reads by range, refusals in words
      └─ Bucket ── one cloud's requests: storage_gcs, storage_s3, storage_azure
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa

from lake.storage import StoredObject, WrongRequestError, checked, refused

WHOLE_BYTES = 8 * 1024 * 1024
"""An object up to this size is read by one request."""
BLOCK_BYTES = 4 * 1024 * 1024
"""Of a larger one at least so much is read at a time."""
PAGE_OBJECTS = 1000
"""A listing tells of so many objects at a time."""
_BUCKET_NAME = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request may take, and how often it is tried."""

    connect_s: float = 10
    read_s: float = 60
    tries: int = 5
    deadline_s: float = 60


class Bucket(Protocol):
    """One bucket through its cloud's client, which retries by itself. What is absent is a FileNotFoundError."""

    errors: tuple[type[Exception], ...]
    """What its requests raise where the store refuses, fails or is not reached."""

    def why(self, error: Exception) -> str:
        """Says in words why a request failed, and what to do. Tells no secret."""

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Writes an object by one request; False where it must be absent and is not."""

    def read(self, name: str) -> bytes:
        """Reads an object."""

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Reads the bytes from `start` up to `end` (exclusive), which lie within the object."""

    def size(self, name: str) -> int:
        """Gives the size of an object in bytes."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Lists the objects whose names begin so, in the order of their names."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Lists what follows `prefix` in names up to and without the next slash, each once."""

    def copy(self, source: str, target: str) -> None:
        """Copies an object inside the store, to its end."""

    def delete(self, name: str) -> None:
        """Removes an object if it is there."""


class ObjectStorage:
    """A lake below a prefix of a bucket."""

    def __init__(self, uri: str, prefix: str, bucket: Bucket) -> None:
        self.uri = uri
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket = bucket

    def _name(self, key: str) -> str:
        return self._prefix + checked(key, self.uri)

    @contextmanager
    def _asking(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except self._bucket.errors as error:
            raise refused(verb, key, self.uri, self._bucket.why(error)) from error

    def put(self, key: str, data: bytes | memoryview) -> None:
        """See Storage."""
        with self._asking("write", key):
            self._bucket.write(self._name(key), bytes(data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Storage.

        Where the answer to a write is lost, the client asks again and hears that the key is taken: by itself. So it
        is ours where it holds our bytes.
        """
        with self._asking("write", key):
            return self._bucket.write(self._name(key), data, if_absent=True) or self._holds(key, data)

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self._bucket.read(self._name(key)) == data
        except FileNotFoundError:
            return False

    def get(self, key: str) -> bytes:
        """See Storage."""
        with self._asking("read", key):
            return self._bucket.read(self._name(key))

    def open(self, key: str) -> pa.NativeFile:
        """See Storage."""
        return pa.PythonFile(self.open_sized(key, self._size(key)), mode="r")

    def _size(self, key: str) -> int:
        with self._asking("read", key):
            return self._bucket.size(self._name(key))

    def open_sized(self, key: str, size: int) -> io.BufferedIOBase:
        """Opens an object whose size is known, without asking for it."""
        if size <= WHOLE_BYTES:
            return io.BytesIO(self.get(key))
        return io.BufferedReader(_RangedFile(self, key, size), BLOCK_BYTES)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Reads a part of an object that is there."""
        with self._asking("read", key):
            return self._bucket.read_range(self._name(key), start, end)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See Storage."""
        with self._asking("list", prefix):
            for found in self._bucket.list(f"{self._name(prefix.rstrip('/'))}/"):
                yield replace(found, key=found.key.removeprefix(self._prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        with self._asking("list", prefix):
            yield from self._bucket.folders(f"{self._name(prefix.rstrip('/'))}/")

    def move(self, source: str, target: str) -> None:
        """See Storage."""
        with self._asking("move", source):
            try:
                self._bucket.copy(self._name(source), self._name(target))
            except FileNotFoundError as error:
                self._require(target, source, error)
                return
            self._bucket.delete(self._name(source))

    def _require(self, target: str, source: str, error: FileNotFoundError) -> None:
        """Takes a move whose source is gone for done where its target is there."""
        try:
            self._bucket.size(self._name(target))
        except FileNotFoundError:
            raise refused("move", source, self.uri, "there is no such object") from error

    def delete(self, key: str) -> None:
        """See Storage."""
        with self._asking("delete", key):
            self._bucket.delete(self._name(key))


class _RangedFile(io.RawIOBase):
    """A large object as a file that is read at any offset."""

    def __init__(self, storage: ObjectStorage, key: str, size: int) -> None:
        self._storage = storage
        self._key = key
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._storage.read_range(self._key, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def split_uri(uri: str) -> tuple[str, str]:
    """Splits `scheme://bucket/prefix` into bucket and prefix.

    Raises:
      WrongRequestError: It names no bucket, or holds what may be a secret.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if not _BUCKET_NAME.fullmatch(bucket) or "?" in prefix:
        # Not shown: somebody may have put a key or a token into it.
        raise WrongRequestError(
            f"the lake's {scheme}:// URI names no bucket: expected {scheme}://bucket/prefix with nothing else in it; "
            "credentials and endpoints come by the environment, see docs/stores.md"
        )
    return bucket, "/".join(part for part in prefix.split("/") if part)
