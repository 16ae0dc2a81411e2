"""A request of the feed after the checks that all operations share."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from starlette.requests import Request

from emulator.errors import Refusal, af, auditing_off
from emulator.identity import root_of
from emulator.tenant import App, State, Subscription, Tenant
from emulator.tokens import Claims, authenticate
from schemas.contract import content_types

NO_PUBLISHER = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what of which tenant. `params` has lower-case names, as the service does not look at case."""

    state: State
    tenant: Tenant
    app: App
    claims: Claims
    request: Request
    params: Mapping[str, str]
    root: str

    @property
    def feed(self) -> str:
        """The address below which this tenant's operations are."""
        return f"{self.root}/api/v1.0/{self.tenant.tenant_id}/activity/feed"

    def content_type(self) -> str:
        """Reads the content type that is asked for, in the service's own spelling.

        Raises:
          Refusal: AF20001, AF20020, or AF10001 where the token lacks the type's role.
        """
        given = self.params.get("contenttype")
        if not given:
            raise af("AF20001", name="contentType")
        by_lower = {name.lower(): name for name in content_types()}
        content_type = by_lower.get(given.lower())
        if content_type is None:
            raise af("AF20020")
        self.need_role(content_types()[content_type].role)
        return content_type

    def need_role(self, role: str) -> None:
        """Refuses a token without the role (AF10001)."""
        roles = self.claims.get("roles", [])
        if role not in roles:
            raise af("AF10001", roles=" ".join(roles))

    def subscription(self, content_type: str) -> Subscription:
        """Finds the application's enabled subscription.

        Raises:
          Refusal: AF20022 where there is none, AF20023 where it is disabled.
        """
        subscription = self.app.subscriptions.get(content_type)
        if subscription is None:
            raise af("AF20022")
        if not subscription.enabled:
            raise af("AF20023", who="a tenant admin")
        return subscription


def open_call(state: State, request: Request, operation: str) -> Call:
    """Checks token, tenant, quota, role and publisher, in this order.

    Raises:
      Refusal: One of the checks failed.
    """
    root = root_of(request)
    tenant, app, claims = authenticate(state, request.headers.get("authorization", ""), root)
    tenant.requests[operation] += 1
    params = {name.lower(): value for name, value in request.query_params.items()}
    _check_tenant(request, tenant, strict=operation == "GetBlob")
    publisher = params.get("publisheridentifier") or NO_PUBLISHER
    if not tenant.within_quota(state.clock.now()):
        raise af("AF429", method=operation, publisher=publisher)
    call = Call(state, tenant, app, claims, request, params, root)
    call.need_role("ActivityFeed.Read")
    if not _is_guid(publisher):
        raise af("AF20002", name="PublisherIdentifier", expected="guid")
    if not tenant.auditing and operation != "GetFriendlyNames":
        raise _does_not_exist(call, operation, publisher)
    return call


def _check_tenant(request: Request, tenant: Tenant, *, strict: bool) -> None:
    path = request.path_params["tenant_id"]
    if path.lower() != tenant.tenant_id:
        if strict:
            # Not AF20010 here: blob addresses are keys as a whole (contract section 4).
            raise af("AF20052", content_id=request.path_params["content_id"])
        raise af("AF20010", path=path, token=tenant.tenant_id) if _is_guid(path) else af("AF20013", tenant=path)
    if tenant.status != "active":
        raise af("AF20011" if tenant.status == "deleted" else "AF20012", tenant=tenant.tenant_id)


def _does_not_exist(call: Call, operation: str, publisher: str) -> Refusal:
    content_type = call.params.get("contenttype", "")
    return auditing_off(
        operation, call.tenant.tenant_id, content_type, call.app.client_id, publisher, uuid4().hex.upper()
    )


def _is_guid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
