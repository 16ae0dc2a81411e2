"""The sign-in service: discovery documents, keys and the two token endpoints, as MSAL and older clients use them."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import UTC, datetime
from re import compile as regex
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emulator import assertion
from emulator.assertion import BadAssertion
from emulator.errors import Refusal
from emulator.tenant import App, State, Tenant
from emulator.tokens import FEED_APP_ID, is_feed_audience, issue, issuer, key_set
from schemas.contract import api_errors

_DOMAIN = regex(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|common|organizations|consumers")
# Resources every tenant knows but the feed does not take tokens of.
_FOREIGN = ("https://graph.microsoft.com", "https://graph.microsoft.us", "https://dod-graph.microsoft.us")


def aadsts(state: State, error: str, code: int, text: str) -> Refusal:
    """Returns a refusal of the sign-in service (identity contract, section 5)."""
    time, trace, correlation = f"{state.clock.now():%Y-%m-%d %H:%M:%S}Z", str(uuid4()), str(uuid4())
    known = api_errors().get(f"AADSTS{code}")
    status = known.http if known else 401 if error == "invalid_client" else 400
    return Refusal(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {time}",
            "error_codes": [code],
            "timestamp": time,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        },
    )


async def instance_discovery(state: State, request: Request) -> Response:
    """Answers GET /common/discovery/instance: this host is an authority."""
    root, host = root_of(request), request.url.netloc
    asked = urlsplit(request.query_params.get("authorization_endpoint", ""))
    # MSAL asks without the port.
    if asked.scheme != "https" or asked.hostname != request.url.hostname:
        raise aadsts(state, "invalid_instance", 50049, "Unknown or invalid instance.")
    tenant = asked.path.strip("/").partition("/")[0] or "common"
    return JSONResponse(
        {
            "tenant_discovery_endpoint": f"{root}/{tenant}/v2.0/.well-known/openid-configuration",
            "api-version": request.query_params.get("api-version", "1.0"),
            "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
        }
    )


async def openid_configuration(state: State, request: Request) -> Response:
    """Answers the discovery document of a tenant, v1 or v2 by its path."""
    tenant = _tenant(state, request, "invalid_tenant")
    root, v2 = root_of(request), "/v2.0/" in request.url.path
    base = f"{root}/{tenant.tenant_id}"
    oauth = f"{base}/oauth2/v2.0" if v2 else f"{base}/oauth2"
    return JSONResponse(
        {
            "token_endpoint": f"{oauth}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys" if v2 else f"{root}/common/discovery/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{base}/v2.0" if v2 else issuer(tenant),
            "authorization_endpoint": f"{oauth}/authorize",
            "device_authorization_endpoint": f"{oauth}/devicecode",
            "end_session_endpoint": f"{oauth}/logout",
            "userinfo_endpoint": f"{root}/oidc/userinfo",
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "appid", "roles", "ver"],
            "tenant_region_scope": None,
            "cloud_instance_name": request.url.netloc,
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
            "rbac_url": "https://pas.windows.net",
        }
    )


async def keys(_: State, __: Request) -> Response:
    """Answers the public key that tokens are checked with."""
    return JSONResponse(key_set())


async def token(state: State, request: Request) -> Response:
    """Answers a token request: client credentials by secret or certificate, v1 or v2 by its path."""
    tenant = _tenant(state, request, "invalid_request")
    tenant.requests["Token"] += 1
    body = (await request.body()).decode("utf-8", "replace")
    form = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()} | _basic(request)
    _check_grant(state, form)
    root, v2 = root_of(request), "/v2.0/" in request.url.path
    app = tenant.apps.get(form["client_id"].lower())
    if app is None:
        text = f"Application with identifier '{form['client_id']}' was not found in the directory."
        raise aadsts(state, "unauthorized_client", 700016, text)
    _check_credential(state, tenant, app, form, root)
    audience = _audience_v2(state, form, root) if v2 else _audience_v1(state, form, root)
    access = issue(state, tenant, app, audience, root, by_certificate="client_assertion" in form)
    return _answer(state, access, audience, v2=v2)


def root_of(request: Request) -> str:
    """Returns scheme, host and port as the caller wrote them, so that every address given back is one it knows."""
    return f"{request.url.scheme}://{request.url.netloc}"


def _answer(state: State, access: str, audience: str, *, v2: bool) -> Response:
    life = state.token_lifetime_s
    headers = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"}
    if v2:
        answer = {"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": access}
        return JSONResponse(answer, headers=headers)
    now = int(state.clock.now().timestamp())
    answer = {
        "token_type": "Bearer",
        "expires_in": str(life),
        "ext_expires_in": str(life),
        "expires_on": str(now + life),
        "not_before": str(now - 300),
        "resource": audience,
        "access_token": access,
    }
    return JSONResponse(answer, headers=headers)


def _tenant(state: State, request: Request, error: str) -> Tenant:
    name = request.path_params["tenant"]
    tenant = state.tenant(name)
    if tenant is not None:
        return tenant
    if not _is_guid(name) and not _DOMAIN.fullmatch(name):
        text = f"Specified tenant identifier '{name}' is neither a valid DNS name, nor a valid external domain."
        raise aadsts(state, "invalid_request", 900023, text)
    text = f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID."
    raise aadsts(state, error, 90002, text)


def _is_guid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _basic(request: Request) -> dict[str, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client_id, _, secret = b64decode(value).decode().partition(":")
    except (Base64Error, UnicodeDecodeError):
        return {}
    return {"client_id": unquote(client_id), "client_secret": unquote(secret)}


def _check_grant(state: State, form: Mapping[str, str]) -> None:
    for name in ("grant_type", "client_id"):
        if not form.get(name):
            text = f"The request body must contain the following parameter: '{name}'."
            raise aadsts(state, "invalid_request", 900144, text)
    if form["grant_type"] != "client_credentials":
        text = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise aadsts(state, "unsupported_grant_type", 70003, text)


def _check_credential(state: State, tenant: Tenant, app: App, form: Mapping[str, str], root: str) -> None:
    if form.get("client_assertion"):
        try:
            # In real time: MSAL signs by its own machine's clock, wherever the service's stands.
            assertion.check(form["client_assertion"], app, _assertion_audiences(tenant, root), datetime.now(UTC))
        except BadAssertion as bad:
            raise aadsts(state, "invalid_client", bad.code, bad.text) from bad
    elif form.get("client_secret"):
        if form["client_secret"] != app.client_secret:
            text = f"Invalid client secret provided. Ensure the secret value is sent, for app '{app.client_id}'."
            raise aadsts(state, "invalid_client", 7000215, text)
        if app.secret_expired:
            text = f"The provided client secret keys for app '{app.client_id}' are expired."
            raise aadsts(state, "invalid_client", 7000222, text)
    elif "client_assertion_type" in form or "client_secret" in form:
        text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
        raise aadsts(state, "invalid_client", 7000218, text)
    else:
        text = "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."
        raise aadsts(state, "invalid_client", 7000216, text)


def _assertion_audiences(tenant: Tenant, root: str) -> set[str]:
    paths = ("oauth2/v2.0/token", "oauth2/token", "v2.0", "")
    roots = (root, "https://login.microsoftonline.com")
    names = (tenant.tenant_id, tenant.domain)
    return {f"{r}/{name}/{path}" for r in roots for name in names for path in paths} | {issuer(tenant)}


def _audience_v2(state: State, form: Mapping[str, str], root: str) -> str:
    scopes = form.get("scope", "").split()
    if not scopes:
        raise aadsts(
            state, "invalid_request", 900144, "The request body must contain the following parameter: 'scope'."
        )
    if len(scopes) > 1:
        text = f"The provided value for the input parameter 'scope' is not valid: {form['scope']}."
        raise aadsts(state, "invalid_scope", 70011, text)
    if not scopes[0].endswith("/.default"):
        text = f"The provided value for scope {scopes[0]} is not valid. Client credential flows must have a scope "
        raise aadsts(
            state, "invalid_scope", 1002012, text + "value with /.default suffixed to the resource identifier."
        )
    return _known(state, scopes[0].removesuffix("/.default"), root)


def _audience_v1(state: State, form: Mapping[str, str], root: str) -> str:
    if not form.get("resource"):
        text = "The request body must contain the following parameter: 'resource'."
        raise aadsts(state, "invalid_request", 900144, text)
    return _known(state, form["resource"], root)


def _known(state: State, resource: str, root: str) -> str:
    if resource != FEED_APP_ID and not is_feed_audience(resource, state, root) and resource not in _FOREIGN:
        text = f"The resource principal named {resource} was not found in the tenant."
        raise aadsts(state, "invalid_resource", 500011, text)
    return resource
