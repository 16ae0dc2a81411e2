"""Benchmarks of auditlake, alone and against what one would use instead. `python -m benchmarks --help`."""

import pipeline  # noqa: F401 - Arrow allocates as for the commands, here and in what is started from here
