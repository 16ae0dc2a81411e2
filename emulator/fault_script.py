"""Faults by script: a TOML file that says what goes wrong, where and how often.

    seed = 7                       # optional; by default the emulator's

    [[fault]]
    what = "status"                # which fault, see below
    where = ["content", "blob"]    # token, list, start, stop, content, blob, notifications, names; default: all it can
    content_type = "Audit.General" # only requests about this type
    tenant = 0                     # only this tenant, by number
    share = 0.1                    # of the requests, drawn for each; default: all
    every = 3                      # or: each third request of an address
    first = 2                      # or: the first two requests of an address
    times = 1                      # at most once for an address
    status = 503

What comes, with its parameters (those in brackets may be left out):

    latency seconds · throttled [status 429] [retry_after] · status status [retry_after]
    html [status 200] [retry_after] · af code [status] [retry_after] · unauthorized (401 without code)
    expired (the blob, from now on) · hangup · reset · cut (half of the body, then the end)
    stalled seconds (half of the body, silence, then the end) · truncated_gzip · corrupt_gzip
    invalid_json · wrong_shape · empty (no byte) · no_records (a blob that is [])
    next_encoded ($ as %24) · next_capitals (names) · next_http · next_self · next_foreign
    next_blank (on the last page)

An address is method, path and parameters, however they are written; its requests are counted. Whether a request is hit
depends on seed, table, address and count only, so that threads and processes in any order meet the same faults. Tables
apply in their order; behind one that keeps the request from the service, none does.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.content import type_in_id
from emulator.errors import MESSAGES
from emulator.fault_answers import KINDS
from emulator.tenant import Answer, Hook, State
from schemas.contract import content_types

_STATUSES = frozenset(range(200, 600)) - {204, 205, 304}
_HOW_OFTEN = ("share", "every", "first")
_BY_LAST_STEP = {name: name for name in ("token", "list", "start", "stop", "content", "notifications")}
_BY_LAST_STEP["dlpSensitiveTypes"] = "names"


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A table of a script, checked."""

    number: int
    what: str
    where: frozenset[str]
    content_type: str | None = None
    tenant: int | None = None
    share: float | None = None
    every: int | None = None
    first: int | None = None
    times: int | None = None
    seconds: float | None = None
    retry_after: int | None = None
    code: str | None = None
    status: int | None = None

    def is_due(self, seed: str, address: str, count: int) -> bool:
        """Tells whether it hits the request of this count, from 1, of an address."""
        if self.first is not None:
            return count <= self.first
        if self.every is not None:
            return count % self.every == 0
        if self.share is not None:
            drawn = blake2b(f"{seed}/{self.number}/{address}/{count}".encode(), digest_size=8).digest()
            return int.from_bytes(drawn, "big") < self.share * 2**64
        return True


@dataclass(frozen=True, slots=True)
class FaultScript:
    """The faults of a file, in its order, and its seed if it has one."""

    faults: Sequence[ScriptedFault]
    seed: int | None = None

    def hook(self, state: State, seed: int) -> Hook:
        """Makes the hook that applies it to a state; counts start anew.

        Args:
          state: What the service serves.
          seed: What draws hang on where the script has no seed.
        """
        drawn_from = str(seed if self.seed is None else self.seed)
        asked: Counter[str] = Counter()
        hit: Counter[tuple[int, str]] = Counter()

        def due(request: Request) -> list[ScriptedFault]:
            place = _place(request)
            address = _address(request)
            asked[address] += 1
            found = []
            for fault in self.faults:
                if place not in fault.where or not _is_about(fault, state, request):
                    continue
                key = fault.number, address
                if fault.times is not None and hit[key] >= fault.times:
                    continue
                if fault.is_due(drawn_from, address, asked[address]):
                    hit[key] += 1
                    found.append(fault)
                    if KINDS[fault.what].instead:
                        break
            return found

        async def hook(request: Request, answer: Answer) -> Response:
            for fault in reversed(due(request)):
                answer = partial(_apply, fault, state, answer)
            return await answer(request)

        return hook


def script_names() -> list[str]:
    """Names the scripts that come with the emulator."""
    names = (file.name for file in (files("emulator") / "faults").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def read_script(path: Path) -> FaultScript:
    """Reads a script: a file, or by bare name one that comes with the emulator.

    Raises:
      ValueError: It cannot be read, or says something that no fault understands; names file, table and key.
    """
    try:
        if str(path) in script_names():
            text = (files("emulator") / "faults" / f"{path}.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        script = tomllib.loads(text)
    except OSError as error:
        expected = f"expected a TOML file of faults or one of {', '.join(script_names())}"
        raise ValueError(f"{path}: cannot be read ({error.strerror}), {expected}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a TOML file of faults ({error})") from error
    for key in script:
        if key not in ("seed", "fault"):
            raise ValueError(f"{path}: {key} is unknown, expected [[fault]] tables and perhaps seed")
    seed, tables = script.get("seed"), script.get("fault")
    if seed is not None and not _is_whole(seed):
        raise ValueError(f"{path}: seed is {seed!r}, expected a whole number")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: fault is {_shown(tables)}, expected [[fault]] tables, at least one")
    return FaultScript([_read_table(f"{path}: fault {n}", n, table) for n, table in enumerate(tables, 1)], seed)


def _read_table(begin: str, number: int, table: Mapping[str, Any]) -> ScriptedFault:
    name = table.get("what")
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"{begin}: what is {_shown(name)}, expected one of {', '.join(KINDS)}")
    what = KINDS[name]
    own = what.needs + what.takes
    known = ("what", "where", "content_type", "tenant", *_HOW_OFTEN, "times", *own)
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"{begin}: {key} is unknown for {name}, expected some of {', '.join(known)}")
        check, expected = _CHECKS.get(key, (None, ""))
        if check is not None and not check(value):
            raise ValueError(f"{begin}: {key} is {_shown(value)}, expected {expected}")
    for key in what.needs:
        if key not in table:
            raise ValueError(f"{begin}: {key} is missing, expected {_CHECKS[key][1]} for {name}")
    often = [key for key in _HOW_OFTEN if key in table]
    if len(often) > 1:
        raise ValueError(f"{begin}: {often[1]} stands beside {often[0]}, expected one of {', '.join(_HOW_OFTEN)}")
    places = table.get("where", list(what.places))
    places = [places] if isinstance(places, str) else places
    if not isinstance(places, list) or not places or not all(place in what.places for place in places):
        shown = _shown(table["where"])
        raise ValueError(f"{begin}: where is {shown}, expected some of {', '.join(what.places)} for {name}")
    rest = {key: value for key, value in table.items() if key not in ("what", "where")}
    return ScriptedFault(number, name, frozenset(places), **rest)


async def _apply(fault: ScriptedFault, state: State, answer: Answer, request: Request) -> Response:
    return await KINDS[fault.what].action(fault, state, request, answer)


def _place(request: Request) -> str | None:
    """Names the operation, as `where` does; None for the documents of the sign-in service."""
    return "blob" if "content_id" in request.path_params else _BY_LAST_STEP.get(request.url.path.rpartition("/")[2])


def _address(request: Request) -> str:
    params = sorted((name.lower(), value) for name, value in request.query_params.items())
    query = "&".join(f"{name}={value}" for name, value in params if name != "publisheridentifier")
    return f"{request.method} {request.url.path.lower()}?{query}"


def _is_about(fault: ScriptedFault, state: State, request: Request) -> bool:
    if fault.content_type is not None:
        params = {name.lower(): value for name, value in request.query_params.items()}
        content_id = request.path_params.get("content_id", "")
        asked = type_in_id(content_id) or params.get("contenttype", "")
        if asked.lower() != fault.content_type.lower():
            return False
    if fault.tenant is not None:
        tenant = state.tenant(request.path_params.get("tenant_id") or request.path_params.get("tenant", ""))
        return tenant is not None and list(state.tenants).index(tenant.tenant_id) == fault.tenant
    return True


def _is_whole(value: object, least: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _is_one_of(value: object, names: Mapping[str, object]) -> bool:
    return isinstance(value, str) and value in names


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "content_type": (lambda value: _is_one_of(value, content_types()), f"one of {', '.join(content_types())}"),
    "tenant": (lambda value: _is_whole(value, 0), "a tenant's number from 0"),
    "share": (lambda value: _is_number(value, 1), "a number from 0 to 1"),
    "every": (lambda value: _is_whole(value, 1), "a whole number of 1 or more"),
    "first": (lambda value: _is_whole(value, 1), "a whole number of 1 or more"),
    "times": (lambda value: _is_whole(value, 1), "a whole number of 1 or more"),
    "seconds": (lambda value: _is_number(value, 3600), "seconds from 0 to 3600"),
    "retry_after": (lambda value: _is_whole(value, 0), "whole seconds of 0 or more"),
    "code": (lambda value: _is_one_of(value, MESSAGES), f"one of {', '.join(MESSAGES)}"),
    "status": (lambda value: _is_whole(value) and value in _STATUSES, "an HTTP status that has a body, 200 to 599"),
}
