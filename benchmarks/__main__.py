"""python -m benchmarks [NAME ...] [--small]: measures, prints tables, and writes benchmarks/results/."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import compaction, growth, landing, memory, reading, report, wire

TABLES = {"compaction": compaction, "growth": growth, "landing": landing, "memory": memory, "reading": reading}
NAMES = (*TABLES, "wire")


def main(words: Sequence[str] | None = None) -> None:
    """Runs benchmarks by name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all if none is named")
    parser.add_argument("--small", action="store_true", help="little data, one round, nothing written: does it run?")
    args = parser.parse_args(words)
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in args.names or NAMES:
        figures, plots = _wire(args.small) if name == "wire" else _tables(name, args.small)
        if not args.small:
            report.write(name, figures, plots)


def _wire(small: bool) -> tuple[dict[str, object], dict[str, str]]:
    return {"machine": report.machine(), "cases": wire.main(small)}, {}


def _tables(name: str, small: bool) -> tuple[dict[str, object], dict[str, str]]:
    with TemporaryDirectory(prefix="auditlake-benchmark-") as work:
        figures = TABLES[name].run(Path(work), small=small)
    print(TABLES[name].show(figures))
    return figures, TABLES[name].plots(figures)


if __name__ == "__main__":
    main()
