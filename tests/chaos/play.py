"""Plays the runs of seeds, each in a folder of its own."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exc

from tests.chaos.plan import draw_plan
from tests.chaos.run import Outcome, Run
from tests.chaos.zygote import Zygote


@dataclass(frozen=True, slots=True)
class Order:
    """A run to play: its seed, commands of an act (drawn if None), the folder it goes below, and whether that stays."""

    seed: int
    collectors: int | None
    folder: Path
    keep: bool = False


_zygotes: list[Zygote] = []


def play_order(order: Order) -> Outcome:
    """Plays a run; what it leaves stays where something is wrong. The first run of a process starts its zygote."""
    mine = order.folder / f"seed-{order.seed}"
    shutil.rmtree(mine, ignore_errors=True)
    mine.mkdir(parents=True)
    try:
        if not _zygotes:
            _zygotes.append(Zygote())
        outcome = Run(draw_plan(order.seed, order.collectors), mine, _zygotes[0]).play()
    except Exception:  # noqa: BLE001 - one run that cannot be played must not end the others
        _zygotes.clear()
        return Outcome(order.seed, [f"the harness failed: {format_exc()}"])
    if not outcome.problems and not order.keep:
        shutil.rmtree(mine)
    return outcome
