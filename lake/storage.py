"""Where a lake lives: whole objects under slash-separated keys.

One interface for local disk and object stores. What it asks of a store: an object is whole or absent, also after a
power cut, and `put_if_absent` has one winner however many try. Both are one request on GCS (`ifGenerationMatch=0`), on
S3 and on Azure (`If-None-Match: *`); `docs/decisions/0004-storage-interface.md` holds the evidence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

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
        """Writes an object, whole or not at all; durably once the next `put_if_absent` is over."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes an object durably unless the key is taken; False where it is. Of many writers one wins."""

    def get(self, key: str) -> bytes:
        """Reads an object. Raises FileNotFoundError where there is none."""

    def open(self, key: str) -> pa.NativeFile:
        """Opens an object for reading at any offset. Raises FileNotFoundError where there is none."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Lists the objects whose keys lie below the folder `prefix`, in the order of their keys."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Lists the names of the folders right below the folder `prefix`, without what is in them."""

    def move(self, source: str, target: str) -> None:
        """Moves an object to a new key. Moving again what has been moved is no error."""

    def delete(self, key: str) -> None:
        """Removes an object; one that is gone is no error."""


SCHEMES = "a local path, file://, gs://, s3://, az://, abfs:// or abfss://"


def open_storage(uri: str) -> Storage:
    """Opens the store that a lake URI names. A cloud's client is loaded only for a lake that is there.

    Raises:
      WrongRequestError: The URI is not one that this version can use.
      LakeError: There are no credentials for the store.
    """
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme == "gs":
        from lake.storage_gcs import open_gcs

        return open_gcs(uri)
    if scheme == "s3":
        from lake.storage_s3 import open_s3

        return open_s3(uri)
    if scheme in ("az", "abfs", "abfss"):
        from lake.storage_azure import open_azure

        return open_azure(uri)
    return _open_local(uri)


def _open_local(uri: str) -> Storage:
    from lake.storage_local import LocalStorage

    try:
        parts = urlsplit(uri)
        # An address such as file://data/lake names the host data.
        has_path = parts.scheme != "file" or (parts.netloc in ("", "localhost") and parts.path and "%00" not in uri)
        if has_path and (parts.scheme in ("", "file") or re.fullmatch(r"[A-Za-z]", parts.scheme)):
            return LocalStorage(Path(unquote(parts.path) if parts.scheme == "file" else uri))
    except (ValueError, RuntimeError) as error:
        raise WrongRequestError(f"the lake {uri!r} is no folder or URI ({error}): expected a local path") from error
    raise WrongRequestError(f"the lake {uri!r} is on a store that is not supported: expected {SCHEMES}")


def refused(verb: str, key: str, uri: str, why: str) -> LakeError:
    """Makes the error of a store that did not do what it was asked."""
    return LakeError(f"cannot {verb} {key!r} in the lake {uri!r}: {why}")


def checked(key: str, uri: str) -> str:
    """Gives a key back. Ledger entries name files: a hostile one must not lead out of the lake.

    Raises:
      LakeError: It is no key of an object.
    """
    if "\0" in key or not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise LakeError(f"{key!r} is no key of a file in the lake {uri!r}: restore the ledger entry that names it")
    return key
