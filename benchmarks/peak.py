"""Runs an auditlake command in this process and prints, as the last line, what memory it took at most."""

import json
import resource
import sys

import apache_beam

from pipeline.cli import main


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    idle_mb = _peak_mb()
    code = main(sys.argv[1:])
    print()
    print(json.dumps({"code": code, "idle_mb": idle_mb, "peak_mb": _peak_mb(), "beam": apache_beam.__version__}))
