"""python -m benchmarks [landing|memory] [--small]: measures, prints tables, and writes benchmarks/results/."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from benchmarks import landing, memory, report

BENCHMARKS: dict[str, ModuleType] = {"landing": landing, "memory": memory}


def main(words: Sequence[str] | None = None) -> None:
    """Runs benchmarks by name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; all if none is named"
    )
    parser.add_argument("--small", action="store_true", help="little data, one round, nothing written: does it run?")
    args = parser.parse_args(words)
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in args.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        with TemporaryDirectory(prefix="auditlake-benchmark-") as work:
            figures = benchmark.run(Path(work), small=args.small)
        print(benchmark.show(figures))
        if not args.small:
            report.write(name, figures, benchmark.plots(figures))


if __name__ == "__main__":
    main()
