"""Chaos: random tenants, faults, kills and restarts against one lake, then the lake against the emulator's truth.

    seed ── plan (pure draws) ── run: emulator, commands in processes of their own, faults, kills ── a finale without
                                                                                                       │
    truth of the emulator ────────────────────────── check: every record, blob, file, exit code ───────┘

`python -m tests.chaos --runs 100 --seed 1`; a failing run names its own seed, which `--runs 1` repeats.
"""
