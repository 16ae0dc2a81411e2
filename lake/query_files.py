"""The files of a lake on an object store as DuckDB reads them: named by the ledger, not by listing the store."""

import io
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from threading import get_ident
from typing import Any

from fsspec import AbstractFileSystem

from lake.committed import read_wherever
from lake.entries import FileState
from lake.storage_objects import WHOLE_BYTES, ObjectStorage

PROTOCOL = "auditlake"
_KEPT_FILES = 16


class LakeFiles(AbstractFileSystem):
    """Reads the files that a ledger names, a small one by one request, a large one by ranges."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, storage: ObjectStorage, files: Mapping[str, FileState]) -> None:
        super().__init__()
        self._storage = storage
        self._files = files
        # DuckDB opens a file twice: for its footer and for its rows.
        self._whole = lru_cache(_KEPT_FILES)(self._get)

    def glob(self, path: str, **_: Any) -> list[str]:
        """Gives the files of one table; `path` ends as `tenant=*/date=*/*.parquet`."""
        folder = self._strip_protocol(path).partition("*")[0].rpartition("/")[0] + "/"
        return [f"{PROTOCOL}://{key}" for key in sorted(self._files) if key.startswith(folder)]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Gives the size of a file, as the ledger knows it."""
        return {"name": path, "size": self._file(path).ref.size, "type": "file"}

    def modified(self, path: str) -> datetime:
        """Gives when a file was committed; it never changes."""
        return self._file(path).at

    def _file(self, path: str) -> FileState:
        return self._files[self._strip_protocol(path)]

    def _open(self, path: str, *_: Any, **__: Any) -> "_OpenFile":
        ref = self._file(path).ref
        return _OpenFile(self, ref.key, ref.size)

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Reads a part of a file."""
        if self._files[key].ref.size <= WHOLE_BYTES:
            return self._whole(key)[start:end]
        return self._read(key, start, end)

    def _get(self, key: str) -> bytes:
        return self._read(key, 0, self._files[key].ref.size)

    def _read(self, key: str, start: int, end: int) -> bytes:
        return read_wherever(self._storage, self._files[key].ref, lambda k: self._storage.read_range(k, start, end))


class _OpenFile:
    """An open file. DuckDB's threads share it and seek and read by two calls, so each thread has a place of its own."""

    def __init__(self, files: LakeFiles, key: str, size: int) -> None:
        self._files = files
        self._key = key
        self._size = size
        self._at: dict[int, int] = {}

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        self._at[get_ident()] = base + offset
        return base + offset

    def tell(self) -> int:
        return self._at.get(get_ident(), 0)

    def read(self, size: int = -1) -> bytes:
        start = self.tell()
        end = self._size if size < 0 else min(start + size, self._size)
        data = self._files.read_range(self._key, start, end) if end > start else b""
        self._at[get_ident()] = start + len(data)
        return data

    def close(self) -> None:
        self._at.clear()
