"""Object stores that fail: what is written is whole or absent, what was won is known, what is refused is a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lake.entries import LANDED
from lake.export import export
from lake.storage import LakeError, Storage, open_storage
from lake.storage_azure import open_azure
from lake.storage_gcs import open_gcs
from lake.storage_objects import Patience
from lake.storage_s3 import open_s3
from lake.verify import verify
from tests.lake_records import TENANT, body, land, new_lake, record
from tests.stores.proxy import BUSY, CUT_ANSWER, CUT_BODY, DROP, LOST, Asked, Fault, Proxy, between, times
from tests.stores.servers import BUCKET, Server, azure_text, changed_environ, free_port

OPEN = {"gs": open_gcs, "s3": open_s3, "az": open_azure}
SOON = Patience(connect_s=2, read_s=5, tries=2, deadline_s=1.5)
DATA = bytes(range(256)) * 4000


@contextmanager
def behind(server: Server, fault: Fault, uri: str, patience: Patience | None = None) -> Iterator[tuple[Proxy, Storage]]:
    """A store whose requests go through a proxy."""
    with between(server.port, fault) as proxy, changed_environ(server.kind.environ(proxy.port)):
        yield proxy, OPEN[server.kind.scheme](uri, patience)


@pytest.fixture
def uri(server: Server, request: pytest.FixtureRequest) -> str:
    return f"{server.root}/faults/{abs(hash(request.node.name))}"


@pytest.mark.parametrize("fault", [DROP, BUSY, LOST, CUT_BODY])
def test_write_that_meets_a_fault_is_done_again(server: Server, uri: str, fault: str) -> None:
    with behind(server, times(1, fault, lambda a: a.writes), uri) as (proxy, storage):
        storage.put("a/x", DATA)
    assert proxy.failed == [fault]
    assert open_storage(uri).get("a/x") == DATA


@pytest.mark.parametrize("fault", [DROP, BUSY, CUT_ANSWER])
def test_read_that_meets_a_fault_is_done_again(server: Server, uri: str, fault: str) -> None:
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


@pytest.mark.parametrize("fault", [DROP, BUSY, CUT_BODY])
@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_write_that_never_gets_through_leaves_nothing_and_says_so(
    server: Server, uri: str, write: str, fault: str
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

    def fault(one: Asked) -> str | None:
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
        pytest.skip("fake-gcs-server takes any credentials; test_gcs_answers has those of the service")
    wrong = "d3Jvbmc="
    changes = {"AWS_SECRET_ACCESS_KEY": wrong, "AZURE_STORAGE_CONNECTION_STRING": azure_text(server.port, wrong)}
    with changed_environ(changes):
        said = refusal(server.root)
    assert "credentials are refused or have expired" in said
    assert wrong not in said
