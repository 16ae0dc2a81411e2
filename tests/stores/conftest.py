"""Every kind of store a lake can be on: a folder, and a server of each cloud's kind."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lake.storage import Storage, open_storage
from tests.stores.servers import KINDS, Server, changed_environ, serving


@pytest.fixture(scope="session", params=list(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of object store in turn, with the environment that leads to it."""
    with serving(request.param) as running, changed_environ(running.environ):
        yield running


@pytest.fixture(scope="session", params=["local", *KINDS])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Makes URIs of new lakes on each kind of store in turn."""
    if request.param == "local":
        folder: Path = tmp_path_factory.mktemp("lakes")
        yield lambda: str(folder / uuid4().hex)
        return
    with serving(request.param) as running, changed_environ(running.environ):
        yield lambda: f"{running.root}/lakes/{uuid4().hex}"


@pytest.fixture
def uri(place: Callable[[], str]) -> str:
    return place()


@pytest.fixture
def storage(uri: str) -> Storage:
    return open_storage(uri)
