"""A Flink cluster and a tenant for its workers, once for all tests that need them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.server import Emulator
from emulator.server import running as emulated
from tests.commands import ROOT
from tests.runners.flink import Cluster, cluster, make_worker
from tests.runners.installed import installed

RECORDS = 8_000


@dataclass(frozen=True)
class Flink:
    """A cluster, and the service that its workers collect from."""

    cluster: Cluster
    emu: Emulator


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flink]:
    for name in ("flink-1.19.1", "job-server-2.62.0", "bin/boot-v2.77.0"):
        installed(name)
    folder = tmp_path_factory.mktemp("flink")
    script = make_worker(folder, ROOT)
    with emulated(count=RECORDS) as emu:
        secret = {"AUDITLAKE_CLIENT_SECRET": emu.tenants[0].client_secret}
        with cluster(folder / "cluster", script, secret) as found:
            yield Flink(found, emu)


@pytest.fixture(scope="session")
def prism() -> Path:
    return installed("bin/prism-v2.77.0")
