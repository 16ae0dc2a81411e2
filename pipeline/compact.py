"""`auditlake compact`: makes few large files of the many small ones of days that are over."""

import json
from datetime import UTC, datetime, timedelta
from re import compile as regex
from time import monotonic
from typing import Any, TextIO
from uuid import uuid4

from lake.compact import Compaction, compact_tenant, find_piles
from lake.ledger import read_states, require_tenants
from lake.storage import Storage
from lake.tenant import open_tenant
from lake.text_table import size_text
from pipeline.errors import UsageError

_TIME = regex(r"(\d{1,5})(h|d)")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}


def run(storage: Storage, *, older_than: str, dry_run: bool, json_output: bool, out: TextIO) -> int:
    """Runs the command; returns its exit code.

    Raises:
      UsageError: `older_than` is no time.
      LakeError: There is no lake, or it cannot be read or written.
    """
    settle, now = read_older_than(older_than), datetime.now(UTC)
    if dry_run:
        return _tell(storage, now - settle, json_output=json_output, out=out)
    run_id = f"compact-{now:%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    began, found = monotonic(), Compaction()
    for tenant in require_tenants(storage):
        found.add(compact_tenant(open_tenant(storage.uri, tenant), run_id, now, settle))
    seconds = monotonic() - began
    if json_output:
        print(json.dumps(found.to_json() | {"seconds": round(seconds, 3)}), file=out)
    else:
        print(describe(found, seconds), file=out)
    return 1 if found.problems else 0


def read_older_than(text: str) -> timedelta:
    """Reads for how long a day must have been over.

    Raises:
      UsageError: It is no time.
    """
    if (match := _TIME.fullmatch(text)) is None:
        raise UsageError(f"--older-than {text!r} is no time: expected hours or days such as 48h or 7d, 0d for all days")
    return int(match[1]) * _UNITS[match[2]]


def _tell(storage: Storage, over_by: datetime, *, json_output: bool, out: TextIO) -> int:
    piles = [p for tenant, state in read_states(storage).items() for p in find_piles(state, tenant, over_by)]
    told: dict[str, Any] = {
        "days": len(piles),
        "files": sum(len(p.files) for p in piles),
        "bytes": sum(p.size_bytes for p in piles),
        "rows": sum(p.rows for p in piles),
    }
    if json_output:
        print(json.dumps(told), file=out)
    else:
        text = f"{told['files']:,} small files, {size_text(told['bytes'])}, {told['rows']:,} rows"
        print(f"would compact {told['days']:,} days of tables: {text}", file=out)
    return 0


def describe(found: Compaction, seconds: float) -> str:
    """Gives the outcome as a person reads it."""
    lines = ["nothing to compact: no day that is over has more than one small file"]
    if found.days:
        lines = [
            f"{found.days:,} days of tables, {found.rows:,} rows: {found.files_before:,} files, "
            f"{size_text(found.bytes_before)}, are now {found.files_after:,}, {size_text(found.bytes_after)}, "
            f"in {seconds:.1f} s"
        ]
    elif found.busy or found.problems:
        lines = []
    if found.busy:
        lines.append(f"{found.busy:,} days were left: another run is at work on their files")
    lines += [f"left as it is: {problem}" for problem in found.problems]
    return "\n".join(lines)
