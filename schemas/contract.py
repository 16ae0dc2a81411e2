"""Facts of the service, read from `schemas/tables/*.csv`: limits, error codes, clouds, content and record types."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Cloud:
    """Addresses of one Microsoft cloud."""

    name: str
    api_root: str
    audience: str
    authority: str


@dataclass(frozen=True, slots=True)
class ContentType:
    """One of the feed's content types and the application role that reading it needs."""

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class RecordType:
    """What the contract says of one `RecordType` number: its name, our table, the content type that carries it."""

    value: int
    name: str
    table: str
    content_type: str


@dataclass(frozen=True, slots=True)
class ApiError:
    """One error code of the API or of sign-in, and what the caller must do.

    `action` is one of: ok, config, fatal, subscribe, start_wait, window, relist, skip, expired, throttle, retry.
    """

    code: str
    http: int
    action: str
    meaning: str


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("schemas") / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def clouds() -> Mapping[str, Cloud]:
    """Clouds by name."""
    return {r["name"]: Cloud(r["name"], r["api_root"], r["audience"], r["authority"]) for r in _rows("clouds")}


@cache
def content_types() -> Mapping[str, ContentType]:
    """The feed's content types by name."""
    return {r["name"]: ContentType(r["name"], r["role"]) for r in _rows("content_types")}


@cache
def limits() -> Mapping[str, int]:
    """Limits of the service by name, in the unit that `limits.csv` names."""
    return {r["name"]: int(r["value"]) for r in _rows("limits")}


def time_limit(name: str) -> timedelta:
    """Gives a limit of the service that `limits.csv` counts in seconds."""
    return timedelta(seconds=limits()[name])


@cache
def api_errors() -> Mapping[str, ApiError]:
    """Error codes of the API by code."""
    return {r["code"]: ApiError(r["code"], int(r["http"]), r["action"], r["meaning"]) for r in _rows("api_errors")}


@cache
def record_types() -> Mapping[int, RecordType]:
    """Record types by number."""
    return {
        int(r["value"]): RecordType(int(r["value"]), r["name"], r["table"], r["content_type"])
        for r in _rows("record_types")
    }
