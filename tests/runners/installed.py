"""What deploy/test-servers.sh has installed."""

import os
from pathlib import Path

import pytest

BEAM = "2.77.0"


def cache() -> Path:
    """The folder that the script installs into."""
    own = os.environ.get("AUDITLAKE_SERVERS")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "auditlake-servers"


def installed(name: str) -> Path:
    """A file or folder below the cache; skips the test where it is missing, and fails it in CI."""
    found = cache() / name
    if not found.exists():
        reason = f"{found} is not there: run deploy/test-servers.sh"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
