"""What the service knows: tenants, their applications, subscriptions and content. Plain data, changed in place."""

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from string import ascii_letters, digits
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from starlette.requests import Request
from starlette.responses import Response

from emulator.clock import Clock
from emulator.content import Blob
from schemas.contract import content_types, limits, time_limit

Answer = Callable[[Request], Awaitable[Response]]
Hook = Callable[[Request, Answer], Awaitable[Response]]


@dataclass(slots=True)
class Notification:
    """One attempt to tell a webhook of one blob."""

    order: str
    blob: Blob
    sent: datetime
    status: str


@dataclass(slots=True)
class Webhook:
    """Where a subscription's notifications go."""

    address: str
    auth_id: str | None
    expiration: str | None
    expires: datetime | None
    since: datetime
    failures: int = 0

    def status(self, now: datetime) -> str:
        """Returns enabled, disabled or expired."""
        if self.expires is not None and self.expires <= now:
            return "expired"
        return "disabled" if self.failures >= 5 else "enabled"


@dataclass(slots=True)
class Subscription:
    """An application's subscription to one content type.

    `gaps` are the stretches between stop and start: what became available in them is never served.
    """

    content_type: str
    started: datetime
    enabled: bool = True
    webhook: Webhook | None = None
    gaps: list[tuple[datetime, datetime]] = field(default_factory=list)
    stopped: datetime | None = None
    notifications: list[Notification] = field(default_factory=list)

    def start(self, now: datetime, webhook: Webhook | None) -> None:
        """Enables it; closes the gap since it was stopped."""
        if self.stopped is not None:
            self.gaps.append((self.stopped, now))
        self.enabled, self.stopped, self.started, self.webhook = True, None, now, webhook

    def stop(self, now: datetime) -> None:
        """Disables it, if it is not yet."""
        if self.enabled:
            self.enabled, self.stopped = False, now

    def serves(self, blob: Blob, now: datetime) -> bool:
        """Tells whether the blob has appeared, and not in a gap."""
        if blob.available_at > now:
            return False
        return not any(start <= blob.available_at < end for start, end in self.gaps)


@dataclass(slots=True)
class App:
    """An application registered in a tenant, with its credentials and its subscriptions by content type."""

    client_id: str
    client_secret: str
    object_id: str
    roles: list[str]
    secret_expired: bool = False
    certificates: list[x509.Certificate] = field(default_factory=list)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


@dataclass(slots=True)
class Tenant:
    """A tenant: one application at first, content by id and by type in the order of availability, and its switches.

    `status` is active, deleted (AF20011) or misconfigured (AF20012); `quota` is requests in 60 s, none for no limit.
    """

    tenant_id: str
    domain: str
    datacentre: str
    apps: dict[str, App]
    blobs: dict[str, list[Blob]] = field(default_factory=lambda: {name: [] for name in content_types()})
    by_id: dict[str, Blob] = field(default_factory=dict)
    auditing: bool = True
    status: str = "active"
    quota: int | None = None
    requests: Counter[str] = field(default_factory=Counter)
    recent: deque[datetime] = field(default_factory=deque)

    @property
    def app(self) -> App:
        """The first application."""
        return next(iter(self.apps.values()))

    @property
    def client_id(self) -> str:
        """The client id of the first application."""
        return self.app.client_id

    @property
    def client_secret(self) -> str:
        """The secret of the first application."""
        return self.app.client_secret

    def register_certificate(self, certificate_pem: bytes) -> str:
        """Lets the first application sign in with a certificate; returns its SHA-1 thumbprint in hex."""
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        self.app.certificates.append(certificate)
        return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - Entra's name for a certificate

    def add(self, blobs: list[Blob]) -> None:
        """Takes in blobs, keeping each type in the order of availability."""
        for blob in blobs:
            self.blobs[blob.content_type].append(blob)
            self.by_id[blob.content_id] = blob
        for listing in self.blobs.values():
            listing.sort(key=lambda blob: blob.order)

    def within_quota(self, now: datetime) -> bool:
        """Counts a request against the quota, or tells that there is none left in this period."""
        if self.quota is None:
            return True
        begin = now - time_limit("quota_period")
        # A clock set back leaves times of the future here: they count for nothing either.
        while self.recent and not begin < self.recent[0] <= now:
            self.recent.popleft()
        if len(self.recent) >= self.quota:
            return False
        self.recent.append(now)
        return True


@dataclass(slots=True)
class State:
    """The whole live service. Tests and the control endpoints change it while it runs.

    `hook` gets every request of the sign-in and feed endpoints with the function that answers it, and may answer
    instead, before, or change the answer; `refuses` is asked about each new connection. Both are where faults come in.
    `parts` lets listings differ by their start.
    """

    clock: Clock
    anchor: datetime
    tenants: dict[str, Tenant]
    page_size: int = 200
    token_lifetime_s: int = field(default_factory=lambda: limits()["token_lifetime"])
    start_wait_s: int = field(default_factory=lambda: limits()["start_wait"])
    stop_status: int = 204
    window_code: str = "AF20055"
    strict_day: bool = False
    parts: bool = False
    hook: Hook | None = None
    refuses: Callable[[], bool] | None = None
    api_root: str = ""
    ca_pem: str = ""

    def tenant(self, name: str) -> Tenant | None:
        """Finds a tenant by GUID or domain."""
        lower = name.lower()
        return self.tenants.get(lower) or next((t for t in self.tenants.values() if t.domain == lower), None)


def make_tenant(seed: int, number: int) -> Tenant:
    """Makes up a tenant with one application, always the same for a seed and number."""
    rng = Random(f"{seed}/tenant/{number}")  # noqa: S311 - must repeat; nothing here is secret
    app = App(_guid(rng), _secret(rng), _guid(rng), ["ActivityFeed.Read", "ActivityFeed.ReadDlp", "ServiceHealth.Read"])
    tenant_id, datacentre = _guid(rng), rng.choice(("emea0036", "na0020", "apac0012"))
    return Tenant(tenant_id, f"contoso{number}.onmicrosoft.com", datacentre, {app.client_id: app})


def _guid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def _secret(rng: Random) -> str:
    letters = ascii_letters + digits + "-_~."
    return "".join(rng.choices(letters, k=3)) + "8Q~" + "".join(rng.choices(letters, k=34))
