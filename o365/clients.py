"""The clients of this process: one a connection, one request budget a tenant."""

import threading

from o365.activity import ActivityClient
from o365.connection import Connection
from o365.throttle import Governor

_LOCK = threading.Lock()
_CLIENTS: dict[Connection, ActivityClient] = {}
_GOVERNORS: dict[tuple[str, str, float], Governor] = {}


def client_for(connection: Connection) -> ActivityClient:
    """The client of a connection, the same for all threads, so that they share token, quota and connections."""
    with _LOCK:
        client = _CLIENTS.get(connection)
        if client is None:
            # The quota is the tenant's, whichever application asks.
            key = (connection.api_address, connection.tenant_id, connection.share)
            governor = _GOVERNORS.setdefault(key, Governor(share=connection.share))
            client = _CLIENTS[connection] = ActivityClient(connection, governor=governor)
        return client
