"""A lake on S3 or on anything that speaks as it does: `s3://bucket/prefix`.

Credentials, region and endpoint come by boto3's usual ways: the environment (AWS_ENDPOINT_URL among it), the files in
~/.aws, and the identity of the machine or pod.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from lake import storage_objects
from lake.storage import LakeError, StoredObject
from lake.storage_objects import ObjectStorage, Patience, split_uri

T = TypeVar("T")
_ABSENT = ("NoSuchKey", "404", "NotFound")
_REFUSED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
)
_BROKEN_OFF = (IncompleteReadError, ResponseStreamingError, ReadTimeoutError)


def open_s3(uri: str, patience: Patience | None = None) -> ObjectStorage:
    """Opens a lake on S3.

    Raises:
      WrongRequestError: The URI names no bucket.
      LakeError: The settings of boto3 are wrong.
    """
    name, prefix = split_uri(uri)
    patience = patience or Patience()
    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.read_s,
        retries={"mode": "standard", "total_max_attempts": patience.tries},
        max_pool_connections=32,
    )
    try:
        client = boto3.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise LakeError(f"cannot open the lake {uri!r}: the settings for S3 are wrong: {error}") from error
    return ObjectStorage(f"s3://{name}/{prefix}".rstrip("/"), prefix, _S3Bucket(client, name, patience))


class _S3Bucket:
    errors: tuple[type[Exception], ...] = (ClientError, BotoCoreError)

    def __init__(self, client: Any, bucket: str, patience: Patience) -> None:
        self._client = client
        self._bucket = bucket
        self._tries = patience.tries

    def why(self, error: Exception) -> str:
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return (
                "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, "
                "or run where a role is attached"
            )
        code, status = _code(error), _status(error)
        if code in _REFUSED or status == 401 or isinstance(error, TokenRetrievalError | UnauthorizedSSOTokenError):
            return f"the AWS credentials are refused or have expired ({code or 'SSO'}): sign in again or renew them"
        if code == "NoSuchBucket" or status == 404:
            return f"there is no bucket {self._bucket!r}: create it, or check --lake"
        if status == 403:
            return f"the credentials may not do that ({code}): grant the permissions that docs/stores.md names"
        if status:
            return f"the store answers HTTP {status} ({code}), also when asked again: run the same command again later"
        return f"the store is not reached ({type(error).__name__}): check the network and run the same command again"

    def write(self, name: str, data: bytes, *, if_absent: bool = False) -> bool:
        condition = {"IfNoneMatch": "*"} if if_absent else {}

        def put() -> bool:
            self._client.put_object(Bucket=self._bucket, Key=name, Body=data, **condition)
            return True

        try:
            # Two writers meet: at one name with AWS, at the folder of a name with servers that keep files.
            return self._again(put, lambda e: _status(e) == 409)
        except ClientError as error:
            if if_absent and _status(error) == 412:
                return False
            raise

    def read(self, name: str) -> bytes:
        return self._read(name)

    def read_range(self, name: str, start: int, end: int) -> bytes:
        return self._read(name, Range=f"bytes={start}-{end - 1}")

    def _read(self, name: str, **part: str) -> bytes:
        def get() -> bytes:
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=name, **part)["Body"].read()
            return data

        try:
            # The client itself tries again only until the body begins.
            return self._again(get, lambda e: isinstance(e, _BROKEN_OFF))
        except ClientError as error:
            raise _absent(error, name) from error

    def _again(self, ask: Callable[[], T], passes: Callable[[Exception], bool]) -> T:
        """Asks once more, a little later each time, while what went wrong may pass."""
        for tried in range(1, self._tries):
            try:
                return ask()
            except self.errors as error:
                if not passes(error):
                    raise
            time.sleep(0.05 * 2**tried)
        return ask()

    def size(self, name: str) -> int:
        try:
            return int(self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"])
        except ClientError as error:
            raise _absent(error, name) from error

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for page in self._pages(Prefix=prefix):
            for found in page.get("Contents", ()):
                yield StoredObject(found["Key"], int(found["Size"]), found["LastModified"])

    def folders(self, prefix: str) -> Iterator[str]:
        for page in self._pages(Prefix=prefix, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"].removeprefix(prefix).rstrip("/")

    def _pages(self, **which: str) -> Iterator[dict[str, Any]]:
        size = {"PageSize": storage_objects.PAGE_OBJECTS}
        pages = self._client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self._bucket, PaginationConfig=size, **which)

    def copy(self, source: str, target: str) -> None:
        try:
            self._client.copy_object(
                Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source}
            )
        except ClientError as error:
            raise _absent(error, source) from error

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=name)


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _status(error: Exception) -> int | None:
    """Gives the HTTP status of an error that came with an answer."""
    if not isinstance(error, ClientError):
        return None
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _absent(error: ClientError, name: str) -> Exception:
    """Tells an object that is not there from what else was refused."""
    return FileNotFoundError(name) if _code(error) in _ABSENT else error
