"""What a lake's URI may say, and what it must not."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from lake.storage import WrongRequestError, open_storage
from tests.commands import ROOT
from tests.stores.servers import BUCKET, Server


@pytest.mark.parametrize(
    "uri",
    [
        "gs://",
        "s3:///lake",
        "s3://key:secret@bucket/lake",
        "az://container/lake?sig=secret",
        "abfss://container:secret@account.dfs.core.windows.net/lake",
    ],
)
def test_uri_without_a_bucket_or_with_a_secret_is_refused_and_not_shown(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(WrongRequestError, match=r"names no bucket: expected .*://bucket/prefix") as caught:
        open_storage(uri)
    assert "secret@" not in str(caught.value)
    assert "sig=" not in str(caught.value)


def test_azure_lake_has_more_than_one_name(running: Callable[[str], Server]) -> None:
    running("azure")
    names = [
        f"az://{BUCKET}/names",
        f"abfs://{BUCKET}/names",
        f"abfss://{BUCKET}@devstoreaccount1.dfs.core.windows.net/names",
        f"abfs://{BUCKET}@devstoreaccount1.dfs.core.windows.net/names/",
    ]
    for number, name in enumerate(names):
        assert open_storage(name).put_if_absent("a/x", b"%d" % number) == (number == 0)


def test_azure_account_that_is_not_the_connection_strings_is_refused(running: Callable[[str], Server]) -> None:
    running("azure")
    with pytest.raises(WrongRequestError, match="the account 'other', but AZURE_STORAGE_CONNECTION_STRING is that of"):
        open_storage(f"abfss://{BUCKET}@other.dfs.core.windows.net/names")


def test_slashes_around_a_prefix_do_not_matter(running: Callable[[str], Server]) -> None:
    running("gcs")
    open_storage(f"gs://{BUCKET}/deep//er/").put("a/x", b"data")
    assert open_storage(f"gs://{BUCKET}/deep/er").get("a/x") == b"data"


def test_lake_in_the_root_of_a_bucket(server: Server) -> None:
    storage = open_storage(server.root)
    storage.put("root-of-bucket/x", b"data")
    assert [o.key for o in storage.list("root-of-bucket")] == ["root-of-bucket/x"]
    assert "root-of-bucket" not in list(storage.folders("lakes"))


def test_local_lake_loads_no_client_of_a_cloud() -> None:
    code = (
        "import sys\nfrom lake.storage import open_storage\nfrom lake.export import export\nopen_storage('x')\n"
        "assert not {'boto3', 'azure.storage.blob', 'google.cloud.storage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
