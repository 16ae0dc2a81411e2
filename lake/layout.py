"""Keys of everything in a lake.

<lake>/audit/table=<name>/tenant=<guid>/date=<YYYY-MM-DD>/<name>.parquet
<lake>/rejected/tenant=<guid>/<name>.avro
<lake>/_staging/tenant=<guid>/<name>             a staged file, or <name>.removed: the list of files that are to go
<lake>/_staging/.aside/<name>                    nobody's: a file that is being written, or is written as a try
<lake>/_ledger/tenant=<guid>/entries/<number>.json
<lake>/_ledger/tenant=<guid>/checkpoints/<number>.parquet
"""

from datetime import date
from re import compile as regex
from uuid import uuid4

AUDIT = "audit"
REJECTED = "rejected"
STAGING = "_staging"
ASIDE = f"{STAGING}/.aside"
LEDGER = "_ledger"
_GUID = regex(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TABLE = regex(r"[a-z][a-z0-9_]*")
_REMOVAL = ".removed"
_REJECTED_FILE = regex(rf"{REJECTED}/tenant=([^/]+)/[^/]+\.avro")
_FILE = regex(rf"{AUDIT}/table=([^/]+)/tenant=([^/]+)/date=([^/]+)/[^/]+\.parquet")


def _safe(tenant: str) -> str:
    """Lets only GUIDs become part of a path."""
    if not _GUID.fullmatch(tenant):
        raise ValueError(f"tenant {tenant!r} is not a GUID in lower case")
    return tenant


def audit_file(table: str, tenant: str, day: date, name: str) -> str:
    """Gives the key of a Parquet file."""
    if not _TABLE.fullmatch(table):
        raise ValueError(f"table {table!r} is not a name in lower case")
    return f"{AUDIT}/table={table}/tenant={_safe(tenant)}/date={day.isoformat()}/{name}.parquet"


def partition_of(key: str) -> tuple[str, str, str] | None:
    """Reads (table, tenant, date) from the key of a Parquet file; None for any other key."""
    match = _FILE.fullmatch(key)
    return (match[1], match[2], match[3]) if match else None


def rejected_file(tenant: str, name: str) -> str:
    """Gives the key of an Avro file of rejected records."""
    return f"{REJECTED}/tenant={_safe(tenant)}/{name}.avro"


def staged(tenant: str, name: str) -> str:
    """Gives the key of a file that waits for its commit."""
    return f"{staging(tenant)}/{name}"


def staging(tenant: str) -> str:
    """Gives the folder of a tenant's files that wait for their commit."""
    return f"{STAGING}/tenant={_safe(tenant)}"


def removal(tenant: str) -> str:
    """Makes the key of an announcement of files that a commit is to remove."""
    return staged(tenant, f"{new_name()}{_REMOVAL}")


def is_removal(key: str) -> bool:
    """Tells whether a staged object announces a removal."""
    return key.endswith(_REMOVAL)


def is_file(key: str, tenant: str) -> bool:
    """Tells whether a key is one of a tenant's files of rows or of rejected records."""
    where = partition_of(key)
    return where[1] == tenant if where else bool(_REJECTED_FILE.fullmatch(key)) and tenant_of(key) == tenant


def entry(tenant: str, number: int) -> str:
    """Gives the key of a ledger entry."""
    return f"{entries(tenant)}/{number:012}.json"


def entries(tenant: str) -> str:
    """Gives the folder of a tenant's ledger entries."""
    return f"{LEDGER}/tenant={_safe(tenant)}/entries"


def checkpoints(tenant: str) -> str:
    """Gives the folder of a tenant's ledger checkpoints."""
    return f"{LEDGER}/tenant={_safe(tenant)}/checkpoints"


def checkpoint(tenant: str, number: int) -> str:
    """Gives the key of the checkpoint that follows entry `number`."""
    return f"{checkpoints(tenant)}/{number:012}.parquet"


def number_of(key: str) -> int:
    """Reads the number in the key of an entry or a checkpoint; -1 for a stranger among them."""
    stem = key.rpartition("/")[2].partition(".")[0]
    return int(stem) if stem.isascii() and stem.isdigit() else -1


def tenant_of(key: str) -> str | None:
    """Reads the tenant in a key; None where it names none."""
    found = [p.removeprefix("tenant=") for p in key.split("/") if p.startswith("tenant=")]
    return found[0] if found and _GUID.fullmatch(found[0]) else None


def new_name() -> str:
    """Makes a name that no other file has."""
    return uuid4().hex
