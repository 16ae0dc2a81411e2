"""Runs an auditlake command in this process and prints, as the last line, what memory it took at most."""

import json
import sys

import apache_beam

from benchmarks.rss import peak_mb
from pipeline.cli import main

if __name__ == "__main__":
    idle_mb = peak_mb()
    code = main(sys.argv[1:])
    print()
    print(json.dumps({"code": code, "idle_mb": idle_mb, "peak_mb": peak_mb(), "beam": apache_beam.__version__}))
