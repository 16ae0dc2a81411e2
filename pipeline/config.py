"""Which tenants, as whom, into which lake: flag over environment over file.

A file, `auditlake.toml`:

    lake = "./data"
    cloud = "enterprise"

    [[tenant]]
    name = "contoso"
    tenant_id = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
    client_id = "0d0b5f60-4c3d-4a7e-8f43-1f8c2d5b7e21"
    client_secret_env = "CONTOSO_SECRET"
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from re import compile as regex
from typing import Any

from o365.connection import Connection
from o365.errors import ConfigError
from pipeline.errors import UsageError
from schemas.contract import clouds, content_types

SECRET_ENV = "AUDITLAKE_CLIENT_SECRET"  # noqa: S105 - the name of a variable, not its value
DEFAULT_FILE = "auditlake.toml"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key in the file, and whether it says who connects (`identity`) or how."""

    key: str
    help: str
    identity: bool = False

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.key.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable."""
        return "AUDITLAKE_" + self.key.upper()


SETTINGS = (
    Setting("tenant_id", "the tenant's GUID", identity=True),
    Setting("client_id", "the application's (client) id", identity=True),
    Setting("client_secret_env", f"name of the environment variable with the secret ({SECRET_ENV})", identity=True),
    Setting("client_secret_file", "file with the client secret", identity=True),
    Setting("client_secret_ref", "name of the client secret in Secret Manager or Key Vault", identity=True),
    Setting("certificate_file", "certificate with its key, PEM or PFX, in place of a secret", identity=True),
    Setting("certificate_password_env", "name of the environment variable with its password", identity=True),
    Setting("cloud", f"one of {', '.join(clouds())} (enterprise)"),
    Setting("content_types", f"some of {','.join(content_types())} (all)"),
    Setting("publisher_id", "GUID of the tenant of whoever runs this collector (the tenant's own)"),
    Setting("api_root", "address of the activity API in place of the cloud's"),
    Setting("authority", "address of the sign-in service in place of the cloud's"),
    Setting("ca_file", "PEM file of certificate authorities to trust"),
    Setting("workers", "processes that collect a tenant at once; each keeps to its part of the request quota (1)"),
)
_HOURS = regex(r"(\d{1,4})(h|d)")
_UNITS_H = {"h": 1, "d": 24}
_MOST_HOURS = 7 * 24
_SETTLE_FORMS = "expected hours or days up to 7d, such as 48h, or by content type: Audit.General=72h,DLP.All=24h"
_CREDENTIALS = ("client_secret_env", "client_secret_file", "client_secret_ref", "certificate_file")


@dataclass(frozen=True, slots=True)
class Config:
    """A lake, the tenants that go there, and how long slices of each content type settle before they are closed."""

    lake: str
    connections: tuple[Connection, ...]
    settle: Mapping[str, timedelta]


def load_config(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """Joins flags, environment and file.

    Args:
      flags: Values of the flags by setting key, and `lake` and `config`; None where not given.
      environ: The environment.

    Raises:
      UsageError: Something is missing, unknown or contradictory.
    """
    file = _read_file(flags.get("config"))
    given = {s.key: flags.get(s.key) or environ.get(s.env) for s in SETTINGS}
    tenants = file.get("tenant", [])
    if not isinstance(tenants, list) or not all(isinstance(t, dict) for t in tenants):
        raise UsageError("in the configuration file `tenant` must be a list of tables: begin each with [[tenant]]")
    if len(tenants) > 1:
        tenants = _chosen(tenants, flags.get("tenant_id"))
        given = {s.key: None if s.identity else given[s.key] for s in SETTINGS}
    shared = {key: value for key, value in file.items() if key not in ("tenant", "lake", "settle")}
    lake = find_lake(flags.get("lake"), environ, file)
    connections = tuple(_connection(shared | tenant, given, environ) for tenant in tenants or [{}])
    settle = flags.get("settle") or environ.get("AUDITLAKE_SETTLE") or file.get("settle", {})
    return Config(lake, connections, read_settle(settle))


def read_settle(given: str | Mapping[str, Any]) -> dict[str, timedelta]:
    """Reads how long slices settle: `72h` for all content types, `Audit.General=72h,DLP.All=24h`, or a TOML table.

    Raises:
      UsageError: It cannot be read.
    """
    if isinstance(given, str):
        parts = (part.strip().rpartition("=") for part in given.split(",") if part.strip())
        given = {name or "*": text for name, _, text in parts}
    if not isinstance(given, Mapping):
        raise UsageError(f"settle {given!r} is no time: {_SETTLE_FORMS}")
    found = {}
    for name, text in given.items():
        match = _HOURS.fullmatch(str(text))
        if match is None or int(match[1]) * _UNITS_H[match[2]] > _MOST_HOURS:
            raise UsageError(f"settle {text!r} is no time that a slice can settle: {_SETTLE_FORMS}")
        if name != "*" and name not in content_types():
            raise UsageError(f"settle names the content type {name!r}: expected one of {', '.join(content_types())}")
        found[name] = timedelta(hours=int(match[1]) * _UNITS_H[match[2]])
    rest = found.pop("*", None)
    return dict.fromkeys(content_types(), rest) | found if rest is not None else found


def find_lake(flag: str | None, environ: Mapping[str, str], file: Mapping[str, Any] | None = None) -> str:
    """Finds the lake: flag over environment over file.

    Raises:
      UsageError: None is given.
    """
    lake = flag or environ.get("AUDITLAKE_LAKE") or (_read_file(None) if file is None else file).get("lake")
    if not lake:
        raise UsageError("no lake is given: add --lake, for instance --lake ./data, or set AUDITLAKE_LAKE")
    if not isinstance(lake, str) or "\0" in lake:
        raise UsageError(f"the lake is {lake!r}, expected a folder or URI as text, for instance ./data")
    return lake


def _read_file(path: str | None) -> dict[str, Any]:
    file = Path(path or DEFAULT_FILE)
    if path is None and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the configuration file {str(file)!r} cannot be read: {error}") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _chosen(tenants: list[dict[str, Any]], tenant_id: str | None) -> list[dict[str, Any]]:
    if tenant_id is None:
        return tenants
    chosen = [t for t in tenants if tenant_id in (t.get("tenant_id"), t.get("name"))]
    if not chosen:
        names = ", ".join(str(t.get("name") or t.get("tenant_id")) for t in tenants)
        raise UsageError(f"--tenant-id {tenant_id!r} is none of the configured tenants: {names}")
    return chosen


def _connection(file: Mapping[str, Any], given: Mapping[str, str | None], environ: Mapping[str, str]) -> Connection:
    unknown = set(file) - {s.key for s in SETTINGS} - {"name"}
    if unknown:
        hint = "; a secret never stands in the file" if "client_secret" in unknown else ""
        raise UsageError(f"unknown setting {sorted(unknown)[0]!r} in the configuration file{hint}")
    for key, value in file.items():
        if key == "workers" and isinstance(value, int):
            continue
        if not _is_text(value) and not (
            key == "content_types" and isinstance(value, list) and all(map(_is_text, value))
        ):
            raise UsageError(f"{key} in the configuration file is {value!r}, expected a text in quotes")
    values = dict(file)
    values |= {key: value for key, value in given.items() if value is not None}
    for key in ("tenant_id", "client_id"):
        if not values.get(key):
            setting = next(s for s in SETTINGS if s.key == key)
            raise UsageError(f"no {key} is given: add {setting.flag}, set {setting.env}, or name it in {DEFAULT_FILE}")
    flagged = [key for key in _CREDENTIALS if given.get(key)]
    if flagged:
        values = {k: v for k, v in values.items() if k not in _CREDENTIALS or k in flagged}
    elif not any(values.get(key) for key in _CREDENTIALS):
        if not environ.get(SECRET_ENV):
            raise UsageError(
                f"no credential is given for tenant {values['tenant_id']}: set {SECRET_ENV}, "
                "or name --client-secret-file or --certificate-file"
            )
        values["client_secret_env"] = SECRET_ENV
    if isinstance(types := values.get("content_types"), str):
        values["content_types"] = [t.strip() for t in types.split(",") if t.strip()]
    if "content_types" in values:
        values["content_types"] = tuple(values["content_types"])
    if str(values.get("workers", "")).isdecimal():
        values["workers"] = int(values["workers"])
    values.setdefault("name", values["tenant_id"])
    try:
        return Connection(**values)
    except (ConfigError, TypeError) as error:
        raise UsageError(str(error)) from error
