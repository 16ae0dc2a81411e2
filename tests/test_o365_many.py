"""Two hundred tenants in one process: cheap, and none in the way of another."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from emulator.server import Emulator, running
from o365.activity import ActivityClient
from o365.clients import client_for
from o365.connection import Connection
from o365.errors import ActivityError, ConfigError, DownError, NotSubscribedError, RetryableError
from o365.transport import Transport
from schemas.times import TimeRange

TENANTS = 200
WRONG_SECRET, THROTTLED, UNSUBSCRIBED = 0, 1, 2
LISTINGS = 10
GENERAL = "Audit.General"
_FASTER = 300  # a deadline of 300 s takes one
_THROTTLED_TO_DEATH = f"""
[[fault]]
what = "throttled"
tenant = {THROTTLED}
where = ["list", "content", "blob"]
"""


def connections(emu: Emulator, folder: Path) -> list[Connection]:
    made = []
    for number, tenant in enumerate(emu.tenants):
        secret = folder / str(number)
        secret.write_text("wrong" if number == WRONG_SECRET else tenant.client_secret)
        made.append(
            Connection(
                f"tenant {number}",
                tenant.tenant_id,
                tenant.client_id,
                api_root=emu.api_root,
                authority=emu.authority,
                ca_file=str(emu.ca_file),
                client_secret_file=str(secret),
                content_types=(GENERAL,),
            )
        )
    return made


def outcome(act: Callable[[], object]) -> type[Exception] | None:
    try:
        act()
    except ActivityError as error:
        return type(error)
    return None


def test_three_sick_tenants_do_not_hold_up_the_others(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text(_THROTTLED_TO_DEATH)
    with running(tenants=TENANTS, count=3, faults=script) as emu:
        hour = TimeRange(emu.state.anchor - timedelta(hours=20), emu.state.anchor - timedelta(hours=1))
        transport = Transport(ca_file=str(emu.ca_file), timeout_s=30)
        clients = [
            ActivityClient(
                connection,
                transport=transport,
                clock=lambda: time.monotonic() * _FASTER,
                sleep=lambda seconds: time.sleep(seconds / _FASTER),
            )
            for connection in connections(emu, tmp_path)
        ]

        def visit(number: int) -> list[type[Exception] | None]:
            client = clients[number]
            subscribed = None if number == UNSUBSCRIBED else outcome(lambda: client.ensure_subscribed([GENERAL]))
            return [subscribed] + [outcome(lambda: list(client.list_content(GENERAL, hour))) for _ in range(LISTINGS)]

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(visit, range(TENANTS)))
        transport.close()
    assert set(outcomes[WRONG_SECRET]) == {ConfigError}
    assert all(kind is not None and issubclass(kind, RetryableError) for kind in outcomes[THROTTLED])
    assert DownError in outcomes[THROTTLED]
    assert clients[THROTTLED].counts().requests < 50
    assert outcomes[UNSUBSCRIBED] == [None] + [NotSubscribedError] * LISTINGS
    assert [kinds for kinds in outcomes[3:] if set(kinds) != {None}] == []
    assert sum(client.counts().throttled for client in clients[3:]) == 0


def test_hundreds_of_clients_share_the_connections_of_a_few_threads(tmp_path: Path) -> None:
    with running(tenants=TENANTS, count=0) as emu:
        clients = [client_for(connection) for connection in connections(emu, tmp_path)[1:]]
        with ThreadPoolExecutor(8) as pool:
            for listed in pool.map(lambda client: client.list_subscriptions(), clients):
                assert listed == []
        assert open_connections(emu) <= 8
    assert len({client.governor for client in clients}) == TENANTS - 1


def open_connections(emu: Emulator) -> int:
    port = int(emu.api_root.rpartition(":")[2])
    established = "01"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == established for line in lines)
