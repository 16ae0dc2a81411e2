"""The emulator's truth about a tenant's content, in the form that a lake is compared with."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from emulator.content import Blob
from emulator.tenant import Tenant
from emulator.truth import truth


def canonical(value: Any) -> str:
    """Writes a JSON value so that equal ones are equal texts."""
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Served:
    """A whole record as a blob holds it: its Id and its value."""

    id: str
    value: str


@dataclass(frozen=True, slots=True)
class BlobTruth:
    """A live blob, its whole records, which must become rows or repeat one, and the bytes of those that cannot."""

    blob: Blob
    tenant: Tenant
    good: list[Served]
    broken: Counter[bytes]

    def is_served(self, now: datetime) -> bool:
        """Tells whether a listing shows it then."""
        subscription = self.tenant.app.subscriptions.get(self.blob.content_type)
        return subscription is not None and subscription.enabled and subscription.serves(self.blob, now)

    def is_to_be_had(self, looked: datetime, done: datetime) -> bool:
        """Tells whether a run without faults that began and ended then could have it."""
        return self.is_served(looked) and self.blob.expiration > done


class Truth:
    """All blobs of a tenant, by content id; made once, as records never change."""

    def __init__(self, tenant: Tenant, content_types: Iterable[str], now: datetime) -> None:
        self.tenant_id = tenant.tenant_id
        self.blobs = {
            content_id: BlobTruth(
                tenant.by_id[content_id],
                tenant,
                [Served(i, canonical(json.loads(body))) for i, bodies in true.records.items() for body in bodies],
                Counter(true.broken),
            )
            for content_id, true in truth(tenant, now).items()
            if true.content_type in set(content_types)
        }
