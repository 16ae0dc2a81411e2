"""Fuzzes for as long as it is told: `python -m tests.fuzz --seconds 600 --seed 7`.

Rounds go over all targets, each with a seed of its own that is printed with what it found. `--input FILE` tries one
input again, such as a file of tests/fuzz/corpus.
"""

import faulthandler
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from hashlib import sha256
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import CORPUS, TARGETS, Target

_HANGS_AFTER_S = 60


class _FoundError(Exception):
    """An input that broke a law."""


def main() -> int:
    """Fuzzes, or tries one input; returns the exit code."""
    parser = ArgumentParser(prog="python -m tests.fuzz", description="Fuzzes auditlake.", allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=60, help="for how long (60)")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (0)")
    parser.add_argument("--target", choices=TARGETS, help="one target only (all)")
    parser.add_argument("--input", type=Path, help="try one input of --target again")
    args = parser.parse_args()
    if args.input:
        if args.target is None:
            parser.error("--input needs the --target that it is for")
        TARGETS[args.target].check(args.input.read_bytes())
        return 0
    return fuzz([args.target] if args.target else list(TARGETS), args.seconds, args.seed)


def fuzz(names: list[str], seconds: float, start: int) -> int:
    """Tries inputs of the targets in turn until the time is over; a target that found something is left out then."""
    until = time.monotonic() + seconds
    tried: Counter[str] = Counter()
    slowest = dict.fromkeys(names, 0.0)
    left = list(names)
    for number in count(start):
        for name in list(left):
            if time.monotonic() > until:
                break
            if _round(name, TARGETS[name], number, tried, slowest):
                left.remove(name)
        if time.monotonic() > until or not left:
            break
    for name in names:
        verdict = "clean" if name in left else "FAILED"
        print(f"{name:<22} {tried[name]:>9,} inputs  slowest {slowest[name]:.2f} s  {verdict}")
    return 0 if left == names else 1


def _round(name: str, target: Target, number: int, tried: Counter[str], slowest: dict[str, float]) -> bool:
    """Tries some inputs of one target; tells whether one broke a law, and prints and keeps it."""

    @seed(number)
    @settings(
        max_examples=target.examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(target.inputs)
    def try_inputs(data: bytes) -> None:
        started = time.monotonic()
        faulthandler.dump_traceback_later(_HANGS_AFTER_S, exit=True)
        try:
            target.check(data)
        except Exception as error:
            raise _FoundError(data) from error
        finally:
            faulthandler.cancel_dump_traceback_later()
        tried[name] += 1
        slowest[name] = max(slowest[name], time.monotonic() - started)

    try:
        try_inputs()
    except _FoundError as found:
        data = found.args[0]
        path = CORPUS / name / sha256(data).hexdigest()[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        kept = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        print(f"{name}: seed {number} found {data[:200]!r}: {found.__cause__!r}"[:600], flush=True)
        print(f"  again: python -m tests.fuzz --target {name} --input {kept}", flush=True)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
