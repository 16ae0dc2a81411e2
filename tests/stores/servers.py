"""Real servers of object stores, each started from what deploy/test-servers.sh installs."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from azure.storage.blob import BlobServiceClient
from google.cloud import storage

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
SERVERS = Path(os.environ.get("AUDITLAKE_SERVERS") or CACHE / "auditlake-servers")
BUCKET = "audit-bucket"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # published


@dataclass(frozen=True)
class Kind:
    """A kind of store: how its server starts, and how clients find it."""

    scheme: str
    binary: str
    start: Callable[[str, int, str], list[str]]
    environ: Callable[[int], dict[str, str]]
    make_bucket: Callable[[str], object]


@dataclass(frozen=True)
class Server:
    """A running server."""

    kind: Kind
    port: int

    @property
    def environ(self) -> dict[str, str]:
        return self.kind.environ(self.port)

    @property
    def root(self) -> str:
        return f"{self.kind.scheme}://{BUCKET}"


def _start_gcs(binary: str, port: int, _folder: str) -> list[str]:
    here = f"127.0.0.1:{port}"
    return [
        *(binary, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"),
        *("-external-url", f"http://{here}", "-public-host", here, "-log-level", "error"),
    ]


def _start_s3(binary: str, port: int, folder: str) -> list[str]:
    return [binary, "--port", f"127.0.0.1:{port}", "--access", "tester", "--secret", "tester-secret", "posix", folder]


def _start_azure(binary: str, port: int, folder: str) -> list[str]:
    more = ("--skipApiVersionCheck", "--silent", "--disableTelemetry")
    return [binary, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder, *more]


def azure_text(port: int, key: str = AZURITE_KEY) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};"
        f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    )


def _s3_environ(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester-secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


KINDS = {
    "gcs": Kind(
        "gs",
        "fake-gcs-server",
        _start_gcs,
        lambda port: {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"},
        lambda name: storage.Client(project="tests").create_bucket(name),
    ),
    "s3": Kind("s3", "versitygw", _start_s3, _s3_environ, lambda name: boto3.client("s3").create_bucket(Bucket=name)),
    "azure": Kind(
        "az",
        "azurite-blob",
        _start_azure,
        lambda port: {"AZURE_STORAGE_CONNECTION_STRING": azure_text(port)},
        lambda name: BlobServiceClient.from_connection_string(
            os.environ["AZURE_STORAGE_CONNECTION_STRING"]
        ).create_container(name),
    ),
}


def find(binary: str) -> str:
    """Finds an installed server, or skips the test; fails it where CI runs."""
    installed = [*SERVERS.glob(f"bin/{binary}-*"), *SERVERS.glob(f"*/node_modules/.bin/{binary}")]
    if found := str(installed[0]) if installed else shutil.which(binary):
        return found
    missing = f"{binary} is not installed: run deploy/test-servers.sh"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@contextmanager
def serving(name: str) -> Iterator[Server]:
    """Runs a server with an empty bucket."""
    kind = KINDS[name]
    binary = find(kind.binary)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with subprocess.Popen(
            kind.start(binary, port, folder), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_for(port, process)
                with changed_environ(kind.environ(port)):
                    kind.make_bucket(BUCKET)
                yield Server(kind, port)
            finally:
                process.terminate()
                process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server does not listen"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


@contextmanager
def changed_environ(changes: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of this process for a while."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
