"""Peak memory of this process."""

import resource
from pathlib import Path


def peak_mb() -> float:
    """Gives the most memory that this program has held; `ru_maxrss` counts what its parent held before it, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (text for text in status.read_text().splitlines() if text.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def current_mb() -> float:
    """Gives the memory that this program holds now; its peak where the system does not tell."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return peak_mb()
    return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
