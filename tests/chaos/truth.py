"""What the emulator knows of a tenant's content: of each blob, which records are good and which are broken."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from re import compile as regex
from typing import Any

from emulator.content import Blob
from emulator.tenant import Tenant

_TIME = regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def canonical(value: Any) -> str:
    """Writes a JSON value so that equal ones are equal texts."""
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Served:
    """A record as a blob holds it: its Id, None where it is broken, its value and its bytes."""

    id: str | None
    value: str
    line: bytes


class BlobTruth:
    """A blob and its records."""

    def __init__(self, blob: Blob, tenant: Tenant) -> None:
        self.blob = blob
        self._tenant = tenant

    @cached_property
    def records(self) -> list[Served]:
        """All its records, in their order."""
        return [_served(line) for line in self.blob.lines]

    @property
    def good(self) -> list[Served]:
        """Those that must become rows, or repeat one."""
        return [r for r in self.records if r.id is not None]

    @property
    def broken(self) -> Counter[bytes]:
        """The bytes of those that cannot."""
        return Counter(r.line for r in self.records if r.id is None)

    def is_to_be_had(self, looked: datetime, done: datetime) -> bool:
        """Tells whether a run without faults that began and ended then could have it."""
        subscription = self._tenant.app.subscriptions.get(self.blob.content_type)
        serves = subscription is not None and subscription.enabled and subscription.serves(self.blob, looked)
        return serves and self.blob.expiration > done


def _served(line: bytes) -> Served:
    value = json.loads(line)
    usable = (
        isinstance(value, dict) and isinstance(value.get("CreationTime"), str) and _TIME.match(value["CreationTime"])
    )
    found = value.get("Id") if usable else None
    return Served(found if isinstance(found, str) and found else None, canonical(value), line)


class Truth:
    """All blobs of a tenant, by content id; made once, as records never change."""

    def __init__(self, tenant: Tenant, content_types: Iterable[str]) -> None:
        self.tenant_id = tenant.tenant_id
        self.blobs = {i: BlobTruth(b, tenant) for i, b in tenant.by_id.items() if b.content_type in set(content_types)}
