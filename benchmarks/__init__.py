"""Benchmarks of auditlake, alone and against what one would use instead. `python -m benchmarks --help`."""
