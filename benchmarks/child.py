"""Runs one contender in a process of its own, on one core, and prints what it took."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pyarrow as pa

from benchmarks.contenders import CONTENDERS, modules_of, prepare
from benchmarks.limit import limit
from benchmarks.rss import peak_mb

WARM_BYTES = 1_500_000_000  # more than any contender needs


def main(name: str, blobs: Path, out: Path, *, warm: bool = False) -> dict[str, object]:
    """Runs a contender, or measures the limit.

    Args:
      name: The contender's, or `limit`.
      blobs: The folder of blobs.
      out: The folder for its files.
      warm: Whether another process uses and lets go of much memory right before, and the disk is at rest. The host of
        a virtual machine takes back what is free for seconds, and who asks for it first pays: up to a quarter of a
        short run's time.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if name == "limit":
        if warm:
            _use_memory()
        parse, encode = limit(blobs)
        return {"cpu_s": parse + encode, "parse_s": parse, "encode_s": encode}
    columns = json.loads((blobs / "columns").read_bytes())
    for module in modules_of(name):
        import_module(module)
    pa.array([None])  # at its first array pyarrow loads pandas where there is one: a fifth of a second
    prepare(name)
    out.mkdir(parents=True)
    if warm:
        _use_memory()
        os.sync()  # auditlake alone flushes its files: with them it would flush what the contender before it left
    before = os.times()
    try:
        CONTENDERS[name](blobs, out, columns)
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way, which is a result
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
    after = os.times()
    used = [b - a for a, b in zip(before, after, strict=True)]
    return {
        "cpu_s": sum(used[:4]),  # with children, which dlt starts
        "wall_s": used[4],
        "peak_mb": peak_mb(),
        "bytes": sum(f.stat().st_size for f in out.rglob("*.parquet")),
        "files": sum(1 for _ in out.rglob("*.parquet")),
    }


def _use_memory() -> None:
    subprocess.run([sys.executable, "-ISc", f"b'x' * {WARM_BYTES}"], check=True)  # noqa: S603


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), warm=sys.argv[4:] == ["warm"])))
