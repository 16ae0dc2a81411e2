"""A lake on Azure Blob Storage: `az://container/prefix`, `abfss://container@account.dfs.core.windows.net/prefix`.

Account and credentials come by the usual variables: AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with
AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, or an identity of Entra (environment, workload, managed, Azure CLI).
"""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobPrefix, BlobServiceClient, ContainerClient, ExponentialRetry

from lake import storage_objects
from lake.storage import LakeError, StoredObject, WrongRequestError
from lake.storage_objects import ObjectStorage, Patience, split_uri

ONE_REQUEST_BYTES = 4000 * 1024 * 1024
"""Up to this size, the service's own limit, a body is one request and leaves no uncommitted blocks behind."""
_COPY_POLL_S = 0.5
_NO_ACCOUNT = (
    "no Azure storage account is named: set AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT, or use "
    "abfss://container@account.dfs.core.windows.net/prefix"
)


def open_azure(uri: str, patience: Patience | None = None, environ: Mapping[str, str] = os.environ) -> ObjectStorage:
    """Opens a lake on Azure Blob Storage.

    Raises:
      WrongRequestError: The URI names no container, or no account is known.
      LakeError: The settings are wrong.
    """
    patience = patience or Patience()
    plain, host = _split_account(uri)
    name, prefix = split_uri(plain)
    try:
        service = _service(host, patience, environ)
    except ValueError as error:
        raise LakeError(f"cannot open the lake {uri!r}: AZURE_STORAGE_CONNECTION_STRING cannot be read") from error
    container = _Container(service.get_container_client(name), patience)
    return ObjectStorage(uri.rstrip("/"), prefix, container)


def _split_account(uri: str) -> tuple[str, str | None]:
    """Takes the account's host out of `abfss://container@host/prefix`."""
    scheme, _, rest = uri.partition("://")
    place, slash, prefix = rest.partition("/")
    container, at, host = place.partition("@")
    return (f"{scheme}://{container}{slash}{prefix}", host) if at else (uri, None)


def _service(host: str | None, patience: Patience, environ: Mapping[str, str]) -> BlobServiceClient:
    options: dict[str, Any] = {
        "retry_policy": ExponentialRetry(
            initial_backoff=0, increment_base=2, retry_total=patience.tries - 1, random_jitter_range=1
        ),
        "connection_timeout": patience.connect_s,
        "read_timeout": patience.read_s,
        "max_single_put_size": ONE_REQUEST_BYTES,
    }
    account = host.partition(".")[0] if host else environ.get("AZURE_STORAGE_ACCOUNT")
    if text := environ.get("AZURE_STORAGE_CONNECTION_STRING"):
        service = BlobServiceClient.from_connection_string(text, **options)
        if account and account != service.account_name:
            raise WrongRequestError(
                f"the lake is on the account {account!r}, but AZURE_STORAGE_CONNECTION_STRING is that of "
                f"{service.account_name!r}: make them agree"
            )
        return service
    if not account:
        raise WrongRequestError(_NO_ACCOUNT)
    endpoint = (host or f"{account}.blob.core.windows.net").replace(".dfs.", ".blob.", 1)
    return BlobServiceClient(f"https://{endpoint}", credential=_credential(environ), **options)


def _credential(environ: Mapping[str, str]) -> Any:
    if given := environ.get("AZURE_STORAGE_KEY") or environ.get("AZURE_STORAGE_SAS_TOKEN"):
        return given
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


class _Container:
    errors: tuple[type[Exception], ...] = (AzureError,)

    def __init__(self, client: ContainerClient, patience: Patience) -> None:
        self._client = client
        self._deadline_s = patience.deadline_s

    def why(self, error: Exception) -> str:
        status = error.status_code if isinstance(error, HttpResponseError) else None
        code = _code(error)
        if status in (401, 403) and "Authentication" in code:
            return f"the Azure credentials are refused or have expired ({code}): sign in again or renew them"
        if status in (401, 403):
            return (
                f"the credentials are refused, or may not do that ({code}): renew them, or grant the role that "
                "docs/stores.md names"
            )
        if isinstance(error, ClientAuthenticationError):
            return (
                "no Azure credentials were found that work: set AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or "
                "AZURE_STORAGE_SAS_TOKEN, run `az login`, or run where an identity is attached"
            )
        if status == 404:
            return f"there is no container {self._client.container_name!r}: create it, or check --lake"
        if status:
            return f"the store answers HTTP {status} ({code}), also when asked again: run the same command again later"
        return f"the store is not reached ({type(error).__name__}): check the network and run the same command again"

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        try:
            self._client.upload_blob(name, data, overwrite=not if_absent)
        except ResourceExistsError:
            if if_absent:
                return False
            raise
        return True

    def read(self, name: str) -> bytes:
        return self._read(name)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        return self._read(name, start, end - start)

    def _read(self, name: str, offset: int | None = None, length: int | None = None) -> bytes:
        try:
            data: bytes = self._client.download_blob(name, offset, length).readall()
        except ResourceNotFoundError as error:
            raise _absent(error, name) from error
        return data

    def size(self, name: str) -> int:
        try:
            return int(self._client.get_blob_client(name).get_blob_properties().size)
        except ResourceNotFoundError as error:
            raise _absent(error, name) from error

    def list(self, prefix: str) -> Iterator[StoredObject]:
        size = storage_objects.PAGE_OBJECTS
        for blob in self._client.list_blobs(name_starts_with=prefix, include=["metadata"], results_per_page=size):
            # With a hierarchical namespace, folders are listed too, as empty blobs with this mark.
            if "hdi_isfolder" not in (blob.metadata or {}):
                yield StoredObject(blob.name, int(blob.size), blob.last_modified)

    def folders(self, prefix: str) -> Iterator[str]:
        for found in self._client.walk_blobs(name_starts_with=prefix, delimiter="/"):
            if isinstance(found, BlobPrefix):
                yield found.name.removeprefix(prefix).rstrip("/")

    def copy(self, source: str, target: str) -> None:
        original, copied = self._client.get_blob_client(source), self._client.get_blob_client(target)
        try:
            status = str(copied.start_copy_from_url(original.url)["copy_status"])
        except ResourceNotFoundError as error:
            raise _absent(error, source) from error
        deadline = time.monotonic() + self._deadline_s
        while status == "pending" and time.monotonic() < deadline:
            time.sleep(_COPY_POLL_S)
            status = str(copied.get_blob_properties().copy.status)
        if status != "success":
            raise AzureError(f"the copy ended as {status}")

    def delete(self, name: str) -> None:
        try:
            self._client.delete_blob(name)
        except ResourceNotFoundError:
            return


def _absent(error: ResourceNotFoundError, name: str) -> Exception:
    """Tells a blob that is not there from a container that is not."""
    return error if _code(error) == "ContainerNotFound" else FileNotFoundError(name)


def _code(error: Exception) -> str:
    """Gives the service's own word for an error."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))
