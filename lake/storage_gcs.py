"""A lake on Google Cloud Storage: `gs://bucket/prefix`.

Credentials and endpoint come the usual ways: application default credentials, or STORAGE_EMULATOR_HOST.
"""

import os
from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.cloud.storage import Bucket, Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from lake import storage_objects
from lake.storage import LakeError, StoredObject
from lake.storage_objects import ObjectStorage, Patience, split_uri

_NO_CREDENTIALS = (
    "no Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS, run "
    "`gcloud auth application-default login`, or run where a service account is attached"
)


def open_gcs(uri: str, patience: Patience | None = None) -> ObjectStorage:
    """Opens a lake on Google Cloud Storage.

    Raises:
      WrongRequestError: The URI names no bucket.
      LakeError: There are no credentials.
    """
    name, prefix = split_uri(uri)
    # For its traces, which nobody reads here, the client would ask for the bucket at every answer 404.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    try:
        client = Client(project=None)
    except DefaultCredentialsError as error:
        raise LakeError(f"cannot open the lake {uri!r}: {_NO_CREDENTIALS}") from error
    return ObjectStorage(f"gs://{name}/{prefix}".rstrip("/"), prefix, _GcsBucket(client.bucket(name), patience))


class _GcsBucket:
    errors: tuple[type[Exception], ...] = (
        GoogleAPICallError,
        RetryError,
        GoogleAuthError,
        OSError,  # a connection that fails or breaks
        InvalidResponse,
        DataCorruption,
    )

    def __init__(self, bucket: Bucket, patience: Patience | None) -> None:
        patience = patience or Patience()
        self._bucket = bucket
        self._bounds: dict[str, Any] = {
            "timeout": (patience.connect_s, patience.read_s),
            "retry": DEFAULT_RETRY.with_timeout(patience.deadline_s),
        }

    def why(self, error: Exception) -> str:
        if isinstance(error, RetryError) and isinstance(error.cause, Exception):
            error = error.cause
        if isinstance(error, DefaultCredentialsError):
            return _NO_CREDENTIALS
        status = _status(error)
        if isinstance(error, RefreshError) or status == 401:
            return "the Google credentials are refused or have expired: sign in again or renew them"
        if status == 403:
            return "the credentials may not do that (HTTP 403): grant the permissions that docs/stores.md names"
        if status == 404:
            return f"there is no bucket {self._bucket.name!r}: create it, or check --lake"
        if status:
            return f"the store answers HTTP {status}, also when asked again: run the same command again later"
        return f"the store is not reached ({type(error).__name__}): check the network and run the same command again"

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        try:
            self._bucket.blob(name).upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=0 if if_absent else None,
                **self._bounds,
            )
        except PreconditionFailed:
            return False
        return True

    def read(self, name: str) -> bytes:
        return self._read(name)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        return self._read(name, start=start, end=end - 1)

    def _read(self, name: str, **part: int) -> bytes:
        try:
            data: bytes = self._bucket.blob(name).download_as_bytes(**part, **self._bounds)
        except NotFound as error:
            raise FileNotFoundError(name) from error
        return data

    def size(self, name: str) -> int:
        blob = self._bucket.get_blob(name, **self._bounds)
        if blob is None:
            raise FileNotFoundError(name)
        return int(blob.size)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        fields = "items(name,size,updated),nextPageToken"
        size = storage_objects.PAGE_OBJECTS
        for blob in self._bucket.list_blobs(prefix=prefix, fields=fields, page_size=size, **self._bounds):
            yield StoredObject(blob.name, int(blob.size), blob.updated)

    def folders(self, prefix: str) -> Iterator[str]:
        pages = self._bucket.list_blobs(prefix=prefix, delimiter="/", **self._bounds)
        for page in pages.pages:
            for folder in sorted(page.prefixes):
                yield folder.removeprefix(prefix).rstrip("/")

    def copy(self, source: str, target: str) -> None:
        original, copied = self._bucket.blob(source), self._bucket.blob(target)
        try:
            token, _, _ = copied.rewrite(original, **self._bounds)
            while token is not None:
                token, _, _ = copied.rewrite(original, token=token, **self._bounds)
        except NotFound as error:
            raise FileNotFoundError(source) from error

    def delete(self, name: str) -> None:
        try:
            self._bucket.blob(name).delete(**self._bounds)
        except NotFound:
            return


def _status(error: Exception) -> int | None:
    """Gives the HTTP status of an error that came with an answer."""
    if isinstance(error, GoogleAPICallError):
        return int(error.code) if error.code else None
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)
