"""A process that has imported everything, and forks a child for each command: two seconds less for every one.

It has one thread and no pools, so a fork is as good as a new process. Every child leads a process group of its own.
Speaks JSON lines over the socket whose file descriptor is its argument.
"""

import gc
import importlib
import json
import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.child import Clock, fast_waits, set_clocks, use_old_schemas, watch_disk
from tests.chaos.race import Meeting, Racer

ROOT = Path(__file__).parents[2]
_OTHERS = (
    "apache_beam",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "apache_beam.runners.worker.sdk_worker",
    "emulator.cli",
    "encodings.utf_8_sig",
    "fastavro",
    "msal",
    "requests",
)
_OURS = ("schemas", "lake", "o365", "transforms", "pipeline")


class HangError(Exception):
    """A command did not end."""


@dataclass(slots=True)
class Job:
    """A command at work, or ended: then with its exit code, below 0 for a signal, and its CPU seconds."""

    number: int
    pid: int
    code: int | None = None
    cpu_s: float = 0.0

    def kill(self) -> None:
        """Kills its process group."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class Zygote:
    """The zygote as the harness sees it."""

    def __init__(self) -> None:
        mine, other = socket.socketpair()
        command = [sys.executable, "-m", "tests.chaos.zygote", str(other.fileno())]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, pass_fds=[other.fileno()], env=env, cwd=ROOT)
        other.close()
        self._socket = mine
        self._jobs: dict[int, Job] = {}

    def start(
        self, words: list[str], env: dict[str, str], cwd: Path, orders: dict[str, Any], ahead_s: float, log: Path
    ) -> Job:
        """Starts a command whose output goes to `log`."""
        order = {
            "words": words,
            "env": env,
            "cwd": str(cwd),
            "orders": orders,
            "ahead_s": ahead_s,
            "log": str(log),
        }
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        while (told := self._hear(60.0)) is not None:
            if "pid" in told:
                return self._jobs.setdefault(told["number"], Job(told["number"], told["pid"]))
        raise HangError("the zygote starts nothing more")

    def wait(self, job: Job, until: float) -> bool:
        """Waits until a command has ended, but no longer than `until` of the monotonic clock; tells whether it has."""
        while job.code is None:
            left = until - time.monotonic()
            if left <= 0 or self._hear(left) is None:
                return False
        return True

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        self._socket.settimeout(timeout_s)
        told = self._line()
        if told is not None and "code" in told:
            job = self._jobs.pop(told["number"])
            job.code, job.cpu_s = told["code"], told["cpu_s"]
        return told

    def _line(self) -> dict[str, Any] | None:
        line = b""
        while not line.endswith(b"\n"):
            try:
                piece = self._socket.recv(1)
            except TimeoutError:
                return None
            if not piece:
                raise HangError("the zygote has ended")
            line += piece
        return dict(json.loads(line))

    def close(self) -> None:
        """Ends it."""
        self._socket.close()
        self._process.wait(timeout=10)


def _import_all() -> None:
    logging.disable(logging.WARNING)
    for name in _OTHERS:
        importlib.import_module(name)
    with fast_waits():
        for package in _OURS:
            for file in sorted((ROOT / package).glob("*.py")):
                if file.stem != "__main__":
                    importlib.import_module(f"{package}.{file.stem}".removesuffix(".__init__"))
    logging.disable(logging.NOTSET)
    set_clocks()
    gc.collect()
    gc.freeze()


def _serve(orders: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(orders, selectors.EVENT_READ)
    waiting = b""
    number = 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is orders:
                piece = orders.recv(65536)
                if not piece:
                    return
                *lines, waiting = (waiting + piece).split(b"\n")
                for line in lines:
                    number += 1
                    pid = _fork(json.loads(line), orders)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (number, pid))
                    _tell(orders, {"number": number, "pid": pid})
                continue
            ended, pid = key.data
            _, status, usage = os.wait4(pid, 0)
            selector.unregister(key.fd)
            os.close(key.fd)
            cpu_s = usage.ru_utime + usage.ru_stime
            _tell(orders, {"number": ended, "code": os.waitstatus_to_exitcode(status), "cpu_s": cpu_s})


def _tell(orders: socket.socket, told: dict[str, Any]) -> None:
    orders.sendall(json.dumps(told).encode() + b"\n")


def _fork(order: dict[str, Any], orders: socket.socket) -> int:
    pid = os.fork()
    if pid:
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        with suppress(PermissionError):
            os.setpgid(0, 0)
        orders.close()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = _run(order)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(order: dict[str, Any]) -> int:
    from datetime import timedelta

    from pipeline.cli import main
    from tests.chaos.mutations import MUTATIONS, VARIABLE

    random.seed()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    orders = order["orders"]
    Clock.ahead, Clock.haste = timedelta(seconds=order["ahead_s"]), orders["haste"]
    if orders["old_schemas"]:
        use_old_schemas()
    if VARIABLE in os.environ:
        MUTATIONS[os.environ[VARIABLE]]()
    racer = Racer(Meeting(**orders["meeting"]), Path(orders["meet"])) if orders["meeting"] else None
    watch_disk(orders["lake"], orders["kill_at"], orders["refuse"], racer)
    return main(order["words"])


if __name__ == "__main__":
    _import_all()
    assert threading.active_count() == 1, threading.enumerate()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # an end in order would complain of what is frozen
