"""Random faults: scripts that come with the emulator, tables drawn here, and outages."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from starlette.requests import Request
from starlette.responses import Response

from emulator.errors import MESSAGES
from emulator.fault_answers import KINDS
from emulator.fault_script import ScriptedFault, read_script, script_names
from emulator.tenant import Answer, Hook, State

# A blob that is served as [] once is, for whoever reads it, a blob without records: nothing could tell.
_UNKNOWABLE = frozenset({"no_records"})
# What changes a body expects one that is whole.
_CHANGING = frozenset(
    {"truncated_gzip", "corrupt_gzip", "invalid_json", "wrong_shape", "empty"}
    | {"page_gaps", "page_overlap", "page_backwards"}
)
_SLOWEST_S = 0.05


@dataclass(frozen=True, slots=True)
class Outage:
    """After some requests the service answers none, or all with 503, for so many requests."""

    after: int
    requests: int
    hangs_up: bool


def draw_faults(rng: Random) -> tuple[ScriptedFault, ...]:
    """Draws the faults of an act."""
    chance = rng.random()
    if chance < 0.05:
        return (ScriptedFault(1, "refused", frozenset(), share=rng.choice((0.3, 1.0))),)
    if chance < 0.4:
        script = read_script(Path(rng.choice(script_names())))
        return tuple(_hasten(fault) for fault in script.faults if fault.what not in _UNKNOWABLE)
    return tuple(_draw_tables(rng))


def draw_lasting(rng: Random) -> ScriptedFault:
    """Draws a fault of some blobs that lasts as long as the act: all tries fail, and a later run must fetch them."""
    return ScriptedFault(
        100, "status", frozenset({"blob"}), addresses=rng.choice((0.05, 0.3, 1.0)), status=rng.choice((404, 500, 503))
    )


def _hasten(fault: ScriptedFault) -> ScriptedFault:
    return fault if fault.seconds is None else replace(fault, seconds=min(fault.seconds, _SLOWEST_S))


def _draw_tables(rng: Random) -> Iterator[ScriptedFault]:
    known = {name for name, kind in KINDS.items() if kind.places} - _UNKNOWABLE
    for number in range(1, rng.randint(2, 6)):
        what = rng.choice(sorted(known))
        if what in _CHANGING:
            known -= _CHANGING
        kind = KINDS[what]
        places = rng.sample(kind.places, rng.randint(1, len(kind.places)))
        given = {
            "status": rng.choice((403, 429)) if what == "throttled" else rng.choice((400, 404, 500, 502, 503, 504))
        }
        given |= {"retry_after": rng.choice((0, 1, 3, 30)), "seconds": rng.uniform(0.001, _SLOWEST_S)}
        given |= {"code": rng.choice(sorted(MESSAGES)), "items": rng.uniform(0.05, 0.5)}
        taken = {name: given[name] for name in (*kind.needs, *kind.takes) if name in kind.needs or rng.random() < 0.6}
        often = rng.choice(
            ({"share": rng.uniform(0.02, 0.5)}, {"every": rng.randint(2, 4)}, {"first": rng.randint(1, 3)})
        )
        times = None if what == "expired" or rng.random() < 0.25 else rng.randint(1, 3)
        if what == "expired":
            often = {"share": rng.uniform(0.02, 0.15)}
        yield ScriptedFault(number, what, frozenset(places), times=times, **often, **taken)


def outage(drawn: Outage, state: State) -> Hook:
    """Answers nothing, or 503, from one request on to another; before and after, what the faults say."""
    asked, faults = 0, state.hook
    fault = ScriptedFault(0, "hangup" if drawn.hangs_up else "status", frozenset(), status=503)

    async def hook(request: Request, answer: Answer) -> Response:
        nonlocal asked
        asked += 1
        if drawn.after < asked <= drawn.after + drawn.requests:
            return await KINDS[fault.what].action(fault, state, request, answer)
        return await (faults(request, answer) if faults else answer(request))

    return hook
