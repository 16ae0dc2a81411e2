"""`auditlake replay`: tries the rejects of every tenant of a lake again."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TextIO
from uuid import uuid4

from lake.ledger import require_tenants
from lake.replay import ReplayCounts, replay
from lake.storage import Storage
from lake.tenant import open_tenant


def run(storage: Storage, *, json_output: bool, out: TextIO) -> int:
    """Runs the command; returns its exit code.

    Raises:
      LakeError: There is no lake, or it cannot be read or written.
    """
    now = datetime.now(UTC)
    run_id = f"replay-{now:%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    found = ReplayCounts()
    for tenant in require_tenants(storage):
        found.add(replay(open_tenant(storage.uri, tenant), run_id, now))
    print(json.dumps(asdict(found)) if json_output else describe(found), file=out)
    return 0


def describe(found: ReplayCounts) -> str:
    """Gives the counts as a person reads them."""
    if not found.tried and not found.bodies_tried:
        return "nothing to try again: no record is rejected but conflicts"
    lines = [
        f"{found.tried:,} rejected records tried again = {found.rows:,} new rows + {found.duplicates:,} duplicates"
        f" + {found.conflicts:,} conflicts + {found.rejected:,} still rejected"
    ]
    if found.bodies_tried:
        lines.append(f"{found.bodies_tried:,} unreadable blobs tried again, {found.bodies_landed:,} of them landed")
    return "\n".join(lines)
