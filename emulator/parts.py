"""Listings that differ by their start: a blob that a window begins within is listed with only a part of its records.

The service does so at times (contract 7.1), which is why windows have to be tiled and not slid.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil

from emulator.content import Blob, stamp
from emulator.tenant import Tenant

_SPAN = timedelta(hours=1)


def part_of(tenant: Tenant, blob: Blob, start: datetime) -> Blob:
    """Returns what a listing from `start` on shows of a blob: a part under an id of its own, or the blob itself.

    Only a start off the full hour cuts, and only blobs created less than an hour after it; the later, the larger the
    part. The part can be fetched from then on, and is in no other listing.
    """
    after = blob.created - start
    if (not start.minute and not start.second and not start.microsecond) or not timedelta() <= after < _SPAN:
        return blob
    first, _, rest = blob.content_id.partition("$")
    content_id = f"{stamp(start)}{first[17:]}${rest}"
    if content_id not in tenant.by_id:
        lines = blob.lines[-max(1, ceil(len(blob.lines) * (after / _SPAN))) :]
        tenant.by_id[content_id] = replace(blob, content_id=content_id, lines=lines, listed=0, fetched=0, _gzipped=b"")
    return tenant.by_id[content_id]
