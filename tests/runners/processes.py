"""Processes of a test: started in groups of their own, found by their parents, ended by their ids."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE_S = 120


def wait_for(what: str, met: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Waits until a condition is met."""
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline, f"{what} did not come about within {within_s} s"
        time.sleep(0.02)


def start(command: Sequence[str | Path], log: Path, env: Mapping[str, str], cwd: Path) -> "subprocess.Popen[bytes]":
    """Starts a command as the head of a process group, with its output in a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(word) for word in command], stdout=output, stderr=output, env=env, cwd=cwd, start_new_session=True
        )


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kills a process started here, and all that it started, at once."""
    below = descendants(process.pid)  # some are heads of groups of their own
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in below:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str], cwd: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command at work until the block ends."""
    process = start(command, log, env, cwd)
    try:
        yield process
    finally:
        kill_group(process)


@contextmanager
def ended_with(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """A command that would go on for ever: where the block fails before its end, it is killed with all it started."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for pid in (process.pid, *descendants(process.pid)):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def command_of(pid: int) -> str:
    """A process's command line; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def sdk_workers(pid: int) -> list[int]:
    """The Python workers below a process."""
    return [child for child in descendants(pid) if "sdk_worker_main" in command_of(child)]
