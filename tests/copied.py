"""The project as a clean checkout has it."""

import subprocess
from pathlib import Path

from tests.commands import ROOT


def copy_source(target: Path) -> Path:
    """The files of the project alone, without what else lies in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target
