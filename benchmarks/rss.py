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
