"""Every kind of store a lake can be on: a folder, and a server of each cloud's kind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from lake.storage import Storage, open_storage
from tests.stores.servers import KINDS, Server, changed_environ, serving


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], Server]]:
    """Starts a kind of server when it is first wanted; the environment leads to it from then on."""
    started: dict[str, Server] = {}
    with ExitStack() as until_the_end:

        def start(name: str) -> Server:
            if name not in started:
                started[name] = until_the_end.enter_context(serving(name))
                until_the_end.enter_context(changed_environ(started[name].environ))
            return started[name]

        yield start


@pytest.fixture(scope="session", params=list(KINDS))
def server(request: pytest.FixtureRequest, running: Callable[[str], Server]) -> Server:
    """Each kind of object store in turn."""
    return running(request.param)


@pytest.fixture(scope="session", params=["local", *KINDS])
def place(
    request: pytest.FixtureRequest, running: Callable[[str], Server], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A place for lakes on each kind of store in turn."""
    if request.param == "local":
        return str(tmp_path_factory.mktemp("lakes"))
    return f"{running(request.param).root}/lakes"


@pytest.fixture
def uri(place: str) -> str:
    """A lake that is not there yet."""
    return f"{place}/{uuid4().hex}"


@pytest.fixture
def storage(uri: str) -> Storage:
    return open_storage(uri)
