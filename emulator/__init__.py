"""A faithful local Microsoft 365 audit service: the embedded default, and what tests and benchmarks run on."""
