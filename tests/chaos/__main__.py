"""`python -m tests.chaos --runs N --seed S [--jobs J] [--json]`: N runs, of the seeds S, S+1, …"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import gettempdir

from tests.chaos.play import Order, play_order
from tests.chaos.run import Outcome

SHOWN = 8


def _play_all(args: argparse.Namespace) -> Iterator[Outcome]:
    orders = [Order(seed, args.collectors, args.folder, args.keep) for seed in range(args.seed, args.seed + args.runs)]
    if args.jobs == 1:
        yield from map(play_order, orders)
        return
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        yield from pool.imap_unordered(play_order, orders)


def _command(seed: int, args: argparse.Namespace) -> str:
    collectors = f" --collectors {args.collectors}" if args.collectors else ""
    return f"python -m tests.chaos --runs 1 --seed {seed}{collectors}"


def _tell(outcome: Outcome, args: argparse.Namespace) -> None:
    if args.json:
        repeat = {"repeat": _command(outcome.seed, args)} if outcome.problems else {}
        print(json.dumps(asdict(outcome) | repeat), flush=True)
        return
    for what in outcome.problems[:SHOWN]:
        print(f"seed {outcome.seed}: {what}")
    if len(outcome.problems) > SHOWN:
        print(f"seed {outcome.seed}: and {len(outcome.problems) - SHOWN} more: see its log")
    if outcome.problems:
        print(f"  again: {_command(outcome.seed, args)}")
        print(f"  lake and log: {args.folder / f'seed-{outcome.seed}'}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Plays runs; returns 1 where one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__, allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=25, help="how many (25)")
    parser.add_argument("--seed", type=int, default=1, help="of the first (1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--collectors", type=int, help="commands at once in every act (drawn)")
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()) / "auditlake-chaos", help="where lakes go")
    parser.add_argument("--keep", action="store_true", help="keep every lake and log, not those of failures only")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each run and one for all")
    args = parser.parse_args(argv)
    began = time.monotonic()
    outcomes = []
    for outcome in _play_all(args):
        _tell(outcome, args)
        outcomes.append(outcome)
    failed = sorted(o.seed for o in outcomes if o.problems)
    total = {
        "runs": len(outcomes),
        "failed": failed,
        "commands": sum(o.commands for o in outcomes),
        "kills": sum(o.kills for o in outcomes),
        "races": sum(o.races for o in outcomes),
        "seconds": round(time.monotonic() - began, 1),
        "command_cpu_s": round(sum(o.cpu_s for o in outcomes), 1),
    }
    print(json.dumps(total) if args.json else ", ".join(f"{name} {value}" for name, value in total.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
