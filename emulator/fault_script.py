"""Faults by script: a TOML file that says what goes wrong, where and how often, and what is odd about the content.

    seed = 7                       # optional; by default the emulator's

    [content]                      # optional: any attribute of emulator.shape.Shape
    late = 0.2
    late_hours = [0.01, 60]

    [service]                      # optional: page_size, token_lifetime_s, strict_day, parts
    parts = true

    [[fault]]
    what = "status"                # which fault, see below
    where = ["content", "blob"]    # token, list, start, stop, content, blob, notifications, names; default: all it can
    content_type = "Audit.General" # only requests about this type
    tenant = 0                     # only this tenant, by number
    next_page = true               # only requests of a next page; false: only of a first page
    from_hours = 2                 # only from and until these hours after the anchor, by the service's clock
    until_hours = 28
    addresses = 0.1                # only this share of the addresses, drawn once for each
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
    invalid_json (the last bracket is missing) · broken_off (half of it, as if that were all) · wrong_shape
    empty (no byte) · no_records (a blob that is [])
    next_encoded ($ as %24) · next_capitals (names) · next_http · next_self · next_foreign
    next_blank (on the last page) · page_gaps items (this share of the blobs is not listed, always the same)
    page_overlap (a page begins with the last blob of the page before) · page_backwards
    refused: new connections are reset before TLS, control endpoints too; knows neither where nor whose a request is, so
      every, first and share count connections; without these, requests on open connections are reset as well

`parts` lists a blob that was created within an hour after a startTime off the full hour under another id and with only
the later part of its records.

An address is method, path and parameters, however they are written; its requests are counted. Whether a request is hit
depends on seed, table, address, count and the hours only, so that threads and processes in any order meet the same
faults. Tables apply in their order; behind one that keeps the request from the service, none does.
"""

import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.content import type_in_id
from emulator.fault_answers import KINDS
from emulator.script_checks import CONTENT, HOW_OFTEN, SERVICE, check_fault, check_table, is_whole, places_of
from emulator.tenant import Answer, Hook, State

_BY_LAST_STEP = {name: name for name in ("token", "list", "start", "stop", "content", "notifications")}
_PUBLISHER = "publisheridentifier"
_BY_LAST_STEP["dlpSensitiveTypes"] = "names"


@dataclass(frozen=True, slots=True)
class ScriptedFault:
    """A table of a script, checked."""

    number: int
    what: str
    where: frozenset[str]
    content_type: str | None = None
    tenant: int | None = None
    next_page: bool | None = None
    from_hours: float | None = None
    until_hours: float | None = None
    addresses: float | None = None
    share: float | None = None
    every: int | None = None
    first: int | None = None
    times: int | None = None
    seconds: float | None = None
    retry_after: int | None = None
    code: str | None = None
    status: int | None = None
    items: float | None = None

    def is_due(self, seed: str, address: str, count: int) -> bool:
        """Tells whether it hits the request of this count, from 1, of an address."""
        if self.addresses is not None and not self._draws(seed, address, self.addresses):
            return False
        if self.first is not None:
            return count <= self.first
        if self.every is not None:
            return count % self.every == 0
        return self.share is None or self._draws(seed, f"{address}/{count}", self.share)

    def is_time(self, state: State) -> bool:
        """Tells whether it comes at this hour."""
        hours = (state.clock.now() - state.anchor) / timedelta(hours=1)
        begun = self.from_hours is None or hours >= self.from_hours
        return begun and (self.until_hours is None or hours < self.until_hours)

    def _draws(self, seed: str, name: str, share: float) -> bool:
        drawn = blake2b(f"{seed}/{self.number}/{name}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") < share * 2**64


@dataclass(frozen=True, slots=True)
class FaultScript:
    """The faults of a file, in its order, its seed if it has one, and what it says of content and service."""

    faults: Sequence[ScriptedFault]
    seed: int | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)

    def set_up(self, state: State, seed: int) -> None:
        """Applies all but the content to a state; counts start anew.

        Args:
          state: What the service serves.
          seed: What draws hang on where the script has no seed.
        """
        for name, value in self.service.items():
            setattr(state, name, value)
        state.hook, state.refuses = self.hook(state, seed), self._refusals(state, seed)

    def hook(self, state: State, seed: int) -> Hook:
        """Makes the hook that applies its faults to requests; counts start anew."""
        drawn_from = self._drawn_from(seed)
        asked: Counter[str] = Counter()
        hit: Counter[tuple[int, str]] = Counter()

        def due(request: Request) -> list[ScriptedFault]:
            address = _address(request)
            asked[address] += 1
            found = []
            for fault in self.faults:
                if not _is_about(fault, state, request) or not fault.is_time(state):
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

    def _refusals(self, state: State, seed: int) -> Callable[[], bool] | None:
        drawn_from, count = self._drawn_from(seed), 0
        refusals = [fault for fault in self.faults if fault.what == "refused"]

        def refuses() -> bool:
            nonlocal count
            count += 1
            return any(fault.is_time(state) and fault.is_due(drawn_from, "connection", count) for fault in refusals)

        return refuses if refusals else None

    def _drawn_from(self, seed: int) -> str:
        return str(seed if self.seed is None else self.seed)


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
        if key not in ("seed", "content", "service", "fault"):
            raise ValueError(f"{path}: {key} is unknown, expected seed, [content], [service] or [[fault]] tables")
    seed = script.get("seed")
    if seed is not None and not is_whole(seed):
        raise ValueError(f"{path}: seed is {seed!r}, expected a whole number")
    content = check_table(f"{path}: content", script.get("content", {}), CONTENT)
    service = check_table(f"{path}: service", script.get("service", {}), SERVICE)
    tables = script.get("fault", [] if content or service else None)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        shown = "missing" if tables is None else repr(tables)
        raise ValueError(f"{path}: fault is {shown}, expected [[fault]] tables, at least one")
    faults = [_read_fault(f"{path}: fault {number}", number, table) for number, table in enumerate(tables, 1)]
    # Tuples, as a shape is one frozen value.
    content = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return FaultScript(faults, seed, content, service)


def _read_fault(begin: str, number: int, table: Mapping[str, Any]) -> ScriptedFault:
    places = places_of(table, check_fault(begin, table))
    rest = {key: value for key, value in table.items() if key not in ("what", "where")}
    return ScriptedFault(number, table["what"], frozenset(places), **rest)


async def _apply(fault: ScriptedFault, state: State, answer: Answer, request: Request) -> Response:
    return await KINDS[fault.what].action(fault, state, request, answer)


def _place(request: Request) -> str | None:
    """Names the operation, as `where` does; None for the documents of the sign-in service."""
    return "blob" if "content_id" in request.path_params else _BY_LAST_STEP.get(request.url.path.rpartition("/")[2])


def _address(request: Request) -> str:
    query = "&".join(f"{name}={value}" for name, value in sorted(_params(request).items()) if name != _PUBLISHER)
    return f"{request.method} {request.url.path.lower()}?{query}"


def _is_about(fault: ScriptedFault, state: State, request: Request) -> bool:
    if fault.what == "refused":
        return all(getattr(fault, key) is None for key in HOW_OFTEN)
    if _place(request) not in fault.where:
        return False
    if fault.next_page is not None and fault.next_page != ("nextpage" in _params(request)):
        return False
    if fault.content_type is not None:
        content_id = request.path_params.get("content_id", "")
        asked = type_in_id(content_id) or _params(request).get("contenttype", "")
        if asked.lower() != fault.content_type.lower():
            return False
    if fault.tenant is not None:
        tenant = state.tenant(request.path_params.get("tenant_id") or request.path_params.get("tenant", ""))
        return tenant is not None and list(state.tenants).index(tenant.tenant_id) == fault.tenant
    return True


def _params(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.query_params.items()}
