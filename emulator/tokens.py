"""Access tokens: signing them as the sign-in service, checking them as the feed."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from emulator.errors import denied
from emulator.tenant import App, State, Tenant
from schemas.contract import clouds

FEED_APP_ID = "c5393580-f805-4401-95e8-94b7a6ef2fc2"
_KEY_ID = "auditlake-emulator"
Claims = Mapping[str, Any]


@cache
def signing_key() -> RSAPrivateKey:
    """Returns the key of this process's sign-in service; it is never written anywhere."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def key_set() -> dict[str, object]:
    """Returns the JWKS document."""
    key = jwt.algorithms.RSAAlgorithm.to_jwk(signing_key().public_key(), as_dict=True)
    return {"keys": [{**key, "use": "sig", "kid": _KEY_ID, "x5t": _KEY_ID, "alg": "RS256"}]}


def is_feed_audience(audience: str, state: State, root: str) -> bool:
    """Tells whether a token for this audience is one for the feed: any cloud's API host, its id, or the emulator."""
    own = {state.api_root, root, *(cloud.audience for cloud in clouds().values())}
    return audience == FEED_APP_ID or audience.rstrip("/") in own


def issue(state: State, tenant: Tenant, app: App, audience: str, root: str, *, by_certificate: bool) -> str:
    """Signs an app-only token, of version 1.0 as both endpoints give for the feed (contract 3.5)."""
    now = state.clock.now()
    claims = {
        "aud": audience,
        "iss": issuer(tenant),
        "iat": now,
        "nbf": now - timedelta(seconds=300),
        "exp": now + timedelta(seconds=state.token_lifetime_s),
        "aio": uuid4().hex,
        "appid": app.client_id,
        "appidacr": "2" if by_certificate else "1",
        "idp": issuer(tenant),
        "idtyp": "app",
        "oid": app.object_id,
        "sub": app.object_id,
        "tid": tenant.tenant_id,
        "uti": uuid4().hex,
        "ver": "1.0",
    }
    if is_feed_audience(audience, state, root) and app.roles:
        claims["roles"] = app.roles
    return jwt.encode(claims, signing_key(), algorithm="RS256", headers={"kid": _KEY_ID, "x5t": _KEY_ID})


def authenticate(state: State, authorization: str, root: str) -> tuple[Tenant, App, Claims]:
    """Checks the bearer token of a request of the feed: signature, audience, issuer, times.

    Raises:
      Refusal: 401, in the one form that the feed has for all of it.
    """
    scheme, _, token = authorization.partition(" ")
    claims = _signed_claims(token.strip()) if scheme.lower() == "bearer" else None
    if claims is None or not is_feed_audience(str(claims.get("aud")), state, root):
        raise denied()
    tenant = state.tenants.get(str(claims.get("tid")))
    app = tenant.apps.get(str(claims.get("appid"))) if tenant else None
    if tenant is None or app is None or claims.get("iss") != issuer(tenant) or not _in_time(claims, state.clock.now()):
        raise denied()
    return tenant, app, claims


def issuer(tenant: Tenant) -> str:
    """Returns the issuer of a tenant's tokens."""
    return f"https://sts.windows.net/{tenant.tenant_id}/"


@lru_cache(maxsize=256)
def _signed_claims(token: str) -> Claims | None:
    # Cached, as a signature stays right; times are looked at anew on each request.
    unchecked = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        claims: Claims = jwt.decode(token, signing_key().public_key(), algorithms=["RS256"], options=unchecked)  # type: ignore[arg-type]
    except jwt.InvalidTokenError:
        return None
    return claims


def _in_time(claims: Claims, now: datetime) -> bool:
    return bool(claims["nbf"] <= now.timestamp() < claims["exp"])
