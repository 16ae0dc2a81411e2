"""The clients of this process: one a connection, one request budget a tenant, and as few transports as will do.

Hundreds of tenants live at the same two hosts, so their clients share the connections kept open and the read CA files.
"""

import threading

from o365.activity import ActivityClient
from o365.connection import Connection
from o365.throttle import Governor
from o365.transport import Transport

_LOCK = threading.Lock()
_CLIENTS: dict[Connection, ActivityClient] = {}
_GOVERNORS: dict[tuple[str, str, int], Governor] = {}
_TRANSPORTS: dict[tuple[str | None, float], Transport] = {}


def client_for(connection: Connection) -> ActivityClient:
    """The client of a connection, the same for all threads, so that they share token, quota and connections.

    Raises:
      ConfigError: The connection's CA file cannot be used.
    """
    with _LOCK:
        client = _CLIENTS.get(connection)
        if client is None:
            # The quota is the tenant's, whichever application asks.
            key = (connection.api_address, connection.tenant_id, connection.workers)
            governor = _GOVERNORS.setdefault(key, Governor(share=1 / connection.workers))
            transport = _transport_for(connection)
            client = _CLIENTS[connection] = ActivityClient(connection, governor=governor, transport=transport)
        return client


def _transport_for(connection: Connection) -> Transport:
    key = (connection.ca_file, connection.timeout_s)
    if key not in _TRANSPORTS:
        _TRANSPORTS[key] = Transport(ca_file=connection.ca_file, timeout_s=connection.timeout_s)
    return _TRANSPORTS[key]
