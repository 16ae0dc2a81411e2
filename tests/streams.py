"""Runs `auditlake stream` in this process, with the service's clock moved on where it would wait."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from io import StringIO
from pathlib import Path
from threading import Event

import pytest

from emulator.server import Emulator
from o365.clients import _CLIENTS
from pipeline import stream
from pipeline.arguments import parse
from tests.commands import environment, forget

Watcher = Callable[[], None]


def until(emu: Emulator, end: datetime, watch: Watcher = lambda: None) -> stream.Pause:
    """Moves the clock on instead of waiting, and sends SIGTERM when it shows `end`."""

    def pause(stop: Event, seconds: float) -> None:
        watch()
        emu.clock.advance(seconds)
        for client in list(_CLIENTS.values()):
            client.list_subscriptions()  # its answer tells the time
        if emu.clock.now() >= end and not stop.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    return pause


def stream_here(
    emu: Emulator, lake: Path, *words: str, pause: stream.Pause = Event.wait
) -> subprocess.CompletedProcess[str]:
    """Runs the command as a new process would: with nothing in memory."""
    forget()
    out, err = StringIO(), StringIO()
    args = parse(["stream", "--lake", str(lake), *words], [])
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in environment(emu).items():
            if name.startswith("AUDITLAKE_"):
                patch.setenv(name, value)
        code = stream.run(args, args.rest, os.environ, out, pause)
    return subprocess.CompletedProcess([*words], code, out.getvalue(), err.getvalue())
