"""Tables, result files and plots."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lake.text_table import text_table

RESULTS = Path(__file__).with_name("results")


def machine() -> dict[str, object]:
    """Describes the machine without naming it."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(": ")[2] for line in info.read_text().splitlines() if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lays out a table for people."""
    return "\n".join(text_table(headers, rows))


def write(name: str, figures: Mapping[str, Any], plots: Mapping[str, str]) -> None:
    """Writes figures as JSON and plots as SVG."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    for plot, svg in plots.items():
        (RESULTS / f"{plot}.svg").write_text(svg)


def bars(title: str, values: Mapping[str, float], unit: str) -> str:
    """Draws horizontal bars."""
    longest = max(values.values())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{48 + 26 * len(values)}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="22" font-weight="bold">{escape(title)}</text>',
    ]
    for n, (name, value) in enumerate(values.items()):
        y = 40 + 26 * n
        colour = "#1f6feb" if name == "auditlake" else "#9aa4b2"
        width = round(400 * value / longest, 1)
        lines += [
            f'<text x="150" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="158" y="{y}" width="{width}" height="18" fill="{colour}"/>',
            f'<text x="{164 + width}" y="{y + 14}">{value:,.1f} {escape(unit)}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"
