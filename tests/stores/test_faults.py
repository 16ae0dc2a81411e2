"""Object stores that fail: what is written is whole or absent, what was won is known, what is refused is a sentence."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lake.entries import LANDED
from lake.export import export
from lake.storage import LakeError, Storage, open_storage
from lake.storage_azure import open_azure
from lake.storage_gcs import open_gcs
from lake.storage_objects import Patience
from lake.storage_s3 import open_s3
from lake.verify import verify
from tests.lake_records import TENANT, body, land, new_lake, record
from tests.stores.proxy import BUSY, CUT_ANSWER, CUT_BODY, DROP, LOST, Asked, Fault, Proxy, Refusal, between, times
from tests.stores.servers import BUCKET, Server, azure_text, changed_environ, free_port

# Google's client leaves the sockets of broken connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
OPEN = {"gs": open_gcs, "s3": open_s3, "az": open_azure, "abfss": open_azure}
NAMES = {DROP: "dropped", BUSY: "busy", LOST: "answer_lost", CUT_BODY: "body_cut", CUT_ANSWER: "answer_cut"}
SOON = Patience(connect_s=2, read_s=5, tries=2, deadline_s=1.5)
DATA = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def _no_wait_before_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's client draws a rest of up to a second before it asks again."""
    monkeypatch.setattr("azure.storage.blob._shared.policies.StorageRetryPolicy.sleep", lambda *_: None)


@contextmanager
def behind(server: Server, fault: Fault, uri: str, patience: Patience | None = None) -> Iterator[tuple[Proxy, Storage]]:
    """A store whose requests go through a proxy."""
    with between(server.port, fault) as proxy, changed_environ(server.kind.environ(proxy.port)):
        yield proxy, OPEN[server.kind.scheme](uri, patience)


@pytest.fixture
def uri(server: Server, request: pytest.FixtureRequest) -> str:
    return f"{server.root}/faults/{abs(hash(request.node.name))}"


@pytest.mark.parametrize("fault", [DROP, BUSY, LOST, CUT_BODY], ids=NAMES.get)
def test_write_that_meets_a_fault_is_done_again(server: Server, uri: str, fault: str | Refusal) -> None:
    with behind(server, times(1, fault, lambda a: a.writes), uri) as (proxy, storage):
        storage.put("a/x", DATA)
    assert proxy.failed == [fault]
    assert open_storage(uri).get("a/x") == DATA


@pytest.mark.parametrize("fault", [DROP, BUSY, CUT_ANSWER], ids=NAMES.get)
def test_read_that_meets_a_fault_is_done_again(server: Server, uri: str, fault: str | Refusal) -> None:
    open_storage(uri).put("a/x", DATA)
    with behind(server, times(1, fault, lambda a: a.reads), uri) as (proxy, storage):
        assert storage.get("a/x") == DATA
    assert proxy.failed == [fault]


def test_writer_whose_answer_is_lost_knows_that_it_won(server: Server, uri: str) -> None:
    with behind(server, times(1, LOST, lambda a: a.writes), uri) as (proxy, storage):
        assert storage.put_if_absent("a/x", b"mine")
        assert not storage.put_if_absent("a/x", b"other")
    assert proxy.failed == [LOST]
    assert open_storage(uri).get("a/x") == b"mine"


@pytest.mark.parametrize("fault", [DROP, BUSY, CUT_BODY], ids=NAMES.get)
@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_write_that_never_gets_through_leaves_nothing_and_says_so(
    server: Server, uri: str, write: str, fault: str | Refusal
) -> None:
    with (
        behind(server, lambda a: fault if a.writes else None, uri, SOON) as (_, storage),
        pytest.raises(LakeError, match=r"^cannot write 'a/x' in the lake '.*': the store .*again") as caught,
    ):
        getattr(storage, write)("a/x", DATA)
    assert "503" in str(caught.value) or fault != BUSY
    assert list(open_storage(uri).list("a")) == []


def test_move_that_meets_faults_is_finished(server: Server, uri: str) -> None:
    open_storage(uri).put("a/x", b"data")
    moving = [LOST, DROP]
    with behind(server, lambda a: moving.pop() if a.method != "GET" and moving else None, uri) as (_, storage):
        storage.move("a/x", "b/x")
    assert [o.key for top in ("a", "b") for o in open_storage(uri).list(top)] == ["b/x"]


def test_landing_through_a_bad_line_is_whole(server: Server, uri: str) -> None:
    """Every third request fails, each in another way."""
    asked: list[Asked] = []
    kinds = [DROP, BUSY, LOST]

    def fault(one: Asked) -> str | Refusal | None:
        asked.append(one)
        return kinds[len(asked) // 3 % 3] if len(asked) % 3 == 0 else None

    with behind(server, fault, uri) as (proxy, storage):
        lake = new_lake(storage)
        for start in (1, 3):
            land(lake, {f"blob{start}": body([record(n) for n in range(start, start + 3)])})
    assert {DROP, BUSY, LOST} <= set(proxy.failed)
    lake = new_lake(open_storage(uri))
    assert verify(lake.storage, [TENANT]).problems == []
    assert {b.status for b in lake.ledger.state.blobs.values()} == {LANDED}
    assert len(list(export(lake.storage))) == 5


def refusal(uri: str, patience: Patience = SOON) -> str:
    with pytest.raises(LakeError) as caught:
        OPEN[uri.partition(":")[0]](uri, patience).put("a/x", b"")
    return str(caught.value)


def test_missing_bucket_is_one_sentence(server: Server) -> None:
    missing = server.root.replace(BUCKET, "no-such-bucket")
    kind = "container" if server.kind.scheme == "az" else "bucket"
    assert f"there is no {kind} 'no-such-bucket': create it, or check --lake" in refusal(missing)
    for ask in (lambda s: list(s.list("a")), lambda s: list(s.folders("a"))):
        with pytest.raises(LakeError, match=f"there is no {kind} 'no-such-bucket'"):
            ask(open_storage(missing))


def test_store_that_is_not_there_is_one_sentence(server: Server) -> None:
    with changed_environ(server.kind.environ(free_port())):
        said = refusal(server.root)
    assert "the store is not reached" in said
    assert "check the network and run the same command again" in said


def test_wrong_credentials_are_one_sentence_without_the_secret(server: Server) -> None:
    if server.kind.scheme == "gs":
        return  # this server takes any; the next test has the service's own answers
    wrong = "d3Jvbmc="
    changes = {"AWS_SECRET_ACCESS_KEY": wrong, "AZURE_STORAGE_CONNECTION_STRING": azure_text(server.port, wrong)}
    with changed_environ(changes):
        said = refusal(server.root)
    assert "credentials are refused" in said
    assert wrong not in said


def s3_error(status: int, code: str) -> Refusal:
    return Refusal(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


def azure_error(status: int, code: str) -> Refusal:
    return Refusal(status, headers=(("x-ms-error-code", code),))


EXPIRED = {"s3": s3_error(400, "ExpiredToken"), "azure": azure_error(403, "AuthenticationFailed")}
EXPIRED_SENTENCE = r"credentials are refused or have expired.*: sign in again or renew them"
READ_ONLY = {
    "gs": Refusal(403),
    "s3": s3_error(403, "AccessDenied"),
    "az": azure_error(403, "AuthorizationPermissionMismatch"),
}


@pytest.mark.parametrize("name", list(EXPIRED))
def test_expired_credentials_are_one_sentence(running: Callable[[str], Server], name: str) -> None:
    server = running(name)
    with behind(server, lambda _: EXPIRED[name], server.root, SOON) as (_, storage):
        for ask in (lambda: storage.get("a"), lambda: storage.put("a", b""), lambda: list(storage.list("a"))):
            with pytest.raises(LakeError, match=EXPIRED_SENTENCE):
                ask()


def test_google_credentials_that_are_refused_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: Callable[[str], Server]
) -> None:
    server = running("gcs")
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with between(server.port, lambda _: Refusal(400, b'{"error": "invalid_grant"}')) as proxy:
        account = {
            "type": "service_account",
            "client_email": "collector@project.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": f"http://127.0.0.1:{proxy.port}/token",
        }
        (tmp_path / "key.json").write_text(json.dumps(account))
        monkeypatch.delenv("STORAGE_EMULATOR_HOST")
        monkeypatch.setenv("API_ENDPOINT_OVERRIDE", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
        with pytest.raises(LakeError, match=EXPIRED_SENTENCE):
            open_gcs("gs://some-bucket/x", SOON).get("a")


def test_read_only_bucket_is_one_sentence(server: Server, uri: str) -> None:
    with behind(server, lambda a: READ_ONLY[server.kind.scheme] if a.writes else None, uri, SOON) as (_, storage):
        assert list(storage.list("a")) == []
        for ask in (lambda: storage.put("a", b"x"), lambda: storage.put_if_absent("a", b"x")):
            with pytest.raises(LakeError, match=r"^cannot write 'a' .* may not do that .*docs/stores.md"):
                ask()


def test_colliding_writes_on_s3_are_asked_again(running: Callable[[str], Server]) -> None:
    server = running("s3")
    collides = times(1, s3_error(409, "ConditionalRequestConflict"), lambda a: a.writes)
    with behind(server, collides, f"{server.root}/collide") as (proxy, storage):
        assert storage.put_if_absent("a/x", b"mine")
    assert len(proxy.failed) == 1


def test_no_credentials_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("AWS_", "AZURE_", "GOOGLE_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    nowhere = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true"}
    nowhere |= {"AWS_EC2_METADATA_DISABLED": "true", "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential"}
    with changed_environ(nowhere):
        assert "no Google credentials were found: set GOOGLE_APPLICATION_CREDENTIALS" in refusal("gs://some-bucket/x")
        assert "no AWS credentials were found: set AWS_ACCESS_KEY_ID" in refusal("s3://some-bucket/x")
        assert "no Azure storage account is named: set AZURE_STORAGE" in refusal("az://some-bucket/x")
        there = "abfss://some-bucket@account.dfs.core.windows.net/x"
        assert "no Azure credentials were found that work: set AZURE_STORAGE" in refusal(there)
