"""Runs the service over TLS in a thread of this process."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import sleep
from typing import Any

import trustme
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emulator.api import make_app
from emulator.clock import Clock
from emulator.fault_script import read_script
from emulator.filling import blobs_of_generated, blobs_of_lines, read_lines
from emulator.shape import Shape
from emulator.tenant import State, Tenant, make_tenant

DEFAULT_COUNT = 50_000
_LAST_ANSWERS_S = 0.4


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running service: its addresses, the CA to trust, and its live state."""

    api_root: str
    ca_file: Path
    ca: trustme.CA
    state: State

    @property
    def authority(self) -> str:
        """Where tokens come from: the same port."""
        return self.api_root

    @property
    def tenants(self) -> list[Tenant]:
        """The tenants, in the order of their numbers."""
        return list(self.state.tenants.values())

    @property
    def clock(self) -> Clock:
        """The service's clock."""
        return self.state.clock


@contextmanager
def running(
    *,
    tenants: int = 1,
    seed: int = 1,
    records: Sequence[Path] = (),
    count: int | None = None,
    quota: int | None = None,
    control: bool = False,
    anchor: datetime | None = None,
    clock: Clock | None = None,
    page_size: int = 200,
    port: int = 0,
    shape: Shape = Shape(),
    faults: Path | None = None,
) -> Iterator[Emulator]:
    """Runs the service until the block ends.

    Args:
      tenants: How many tenants, of one application each.
      seed: What ids, secrets and content hang on.
      records: NDJSON files, plain or .gz; the first tenant's content.
      count: Generated records of each tenant; by default 50,000, but none for a tenant with files.
      quota: Requests of a tenant in 60 s; none for no limit.
      control: Whether the control endpoints are there.
      anchor: Where content ends; by default the clock's time. Without a clock of its own it sets the clock too.
      clock: The service's clock.
      page_size: Most blobs of one listing.
      port: TCP port; 0 for a free one.
      shape: How records are cut into blobs.
      faults: A script of faults, or the name of one that comes with the emulator.

    Yields:
      The running service.

    Raises:
      OSError: A file cannot be read, or the port is taken.
      ValueError: The script of faults cannot be used.
    """
    script = read_script(faults) if faults is not None else None
    clock = clock or Clock(anchor)
    state = State(clock, (anchor or clock.now()).replace(microsecond=0), {}, page_size=page_size)
    if script is not None:
        shape = replace(shape, **script.content)
        script.set_up(state, seed)
    for number in range(tenants):
        tenant = make_tenant(seed, number)
        tenant.quota = quota
        _fill(tenant, f"{seed}/{number}", records if number == 0 else (), count, state.anchor, shape)
        state.tenants[tenant.tenant_id] = tenant
    with _listener(port, state) as listener, TemporaryDirectory(prefix="auditlake-emulator-") as folder:
        ca = trustme.CA()
        ca_file = Path(folder) / "ca.pem"
        ca.cert_pem.write_to_path(ca_file)
        state.ca_pem = ca.cert_pem.bytes().decode()
        state.api_root = f"https://localhost:{listener.getsockname()[1]}"
        with _serving(make_app(state, with_control=control), listener, ca):
            yield Emulator(state.api_root, ca_file, ca, state)


class _Protocol(HttpToolsProtocol):
    """Hands its transport to the application, as some faults end connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """Ends without the wait of TLS for clients that keep a connection and never say goodbye."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drops idle connections at once and busy ones after a moment."""
        self._drop(busy=False)
        last = asyncio.get_running_loop().call_later(_LAST_ANSWERS_S, self._drop)
        await super().shutdown(sockets)
        last.cancel()

    def _drop(self, *, busy: bool = True) -> None:
        for connection in list(self.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            transport = getattr(connection, "transport", None)
            if transport is not None and (busy or cycle is None or cycle.response_complete):
                transport.abort()


def _fill(
    tenant: Tenant, seed: str, records: Sequence[Path], count: int | None, anchor: datetime, shape: Shape
) -> None:
    tenant.add(blobs_of_lines(read_lines(records), shape, anchor, seed, tenant.datacentre))
    wanted = (0 if records else DEFAULT_COUNT) if count is None else count
    if wanted:
        tenant.add(blobs_of_generated(wanted, shape, anchor, seed, (tenant.tenant_id, tenant.datacentre)))


class _Listener(socket.socket):
    """Resets connections that the state refuses, before a byte of TLS."""

    state: State

    def accept(self) -> tuple[socket.socket, Any]:
        """Takes a connection.

        Raises:
          ConnectionAbortedError: It has been refused, which asyncio takes for a client that has gone.
        """
        connection, address = super().accept()
        if self.state.refuses is None or not self.state.refuses():
            return connection, address
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        raise ConnectionAbortedError


def _listener(port: int, state: State) -> socket.socket:
    # By its protocol's number: asyncio else leaves Nagle's algorithm on, and an answer takes 40 ms.
    listener = _Listener(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.state = state
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


@contextmanager
def _serving(app: ASGIApp, listener: socket.socket, ca: trustme.CA) -> Iterator[None]:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        # Date and Server are the emulated service's to send.
        date_header=False,
        server_header=False,
        timeout_keep_alive=60,
    )
    config.load()
    # Set here, as certificate and key then need no files.
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(config.ssl)
    server = _Server(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="emulator", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            sleep(0.002)
        yield
    finally:
        server.should_exit = True
        thread.join()
