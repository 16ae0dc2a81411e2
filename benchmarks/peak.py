"""Runs an auditlake command in this process and prints, as the last line, what memory it took at most."""

import json
import sys
from unittest.mock import patch

import apache_beam

from benchmarks.rss import peak_mb
from pipeline.cli import main
from schemas.contract import limits

if __name__ == "__main__":
    idle_mb = peak_mb()
    with patch.dict(limits(), quota_requests=1_000_000):  # it is memory that is measured, and not the wait
        code = main(sys.argv[1:])
    print()
    print(json.dumps({"code": code, "idle_mb": idle_mb, "peak_mb": peak_mb(), "beam": apache_beam.__version__}))
