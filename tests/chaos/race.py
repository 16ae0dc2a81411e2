"""Two commands that meet at the same point of their way, as each sees it first, and then go on in a drawn order.

Each has a file in the folder where they meet. It is locked while its process lives, and has a byte for having come to
the point and one more for every change that the process makes from there on: so each knows where the other is, also
when that was killed.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from lake import layout

LISTING, STAGE, LANDING, PUBLISH = "listing", "stage", "landing", "publish"
_LONGEST_S = 20.0
_POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where a command meets the other of its act, and how it goes on.

    Attributes:
      place: The change before which they meet: a listing's or a landing's entry, a staged or a published file of rows.
      number: Its own number, 0 or 1.
      lead: Changes from there on that the other begins before this one goes on; None: until the other has ended.
      kill_at: How many changes it makes from there on before its process group is killed.
      is_late: Whether it starts only when the other waits there already.
    """

    place: str
    number: int
    lead: int | None
    kill_at: int | None = None
    is_late: bool = False


def were_both(folder: Path) -> bool:
    """Tells whether both have come to where they were to meet."""
    return all(_size(folder / str(n)) > 0 for n in (0, 1))


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return 0


class Racer:
    """One of two commands that meet, inside its process. All its changes wait while one of them does."""

    def __init__(self, meeting: Meeting, folder: Path) -> None:
        self._meeting = meeting
        self._other = folder / str(1 - meeting.number)
        self._lock = Lock()
        self._changes: int | None = None
        aside = folder / f"{meeting.number}.aside"
        self._mine = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._mine, fcntl.LOCK_EX)
        aside.rename(folder / str(meeting.number))  # only now: whoever finds it unlocked takes us for dead
        if meeting.is_late:
            self._wait(lambda: _size(self._other) > 0)

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        """Comes before every change of the lake's folder; meets the other if this is where."""
        with self._lock:
            if self._changes is None:
                if _place(name, args) != self._meeting.place:
                    return
                os.write(self._mine, b".")
                self._wait(lambda: _size(self._other) > 0)
                lead = self._meeting.lead
                self._wait(lambda: lead is not None and _size(self._other) > lead)
                self._changes = 0
            if self._changes == self._meeting.kill_at:
                os.killpg(0, signal.SIGKILL)
            self._changes += 1
            os.write(self._mine, b".")

    def _wait(self, is_due: Callable[[], bool]) -> None:
        until = time.monotonic() + _LONGEST_S
        while not is_due() and not self._other_has_ended() and time.monotonic() < until:
            time.sleep(_POLL_S)

    def _other_has_ended(self) -> bool:
        try:
            with self._other.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (FileNotFoundError, BlockingIOError):
            return False  # it is about to start, or at work
        return True


def _place(name: str, args: tuple[Any, ...]) -> str | None:
    """Tells which point of a command's way a change is, if it is one where commands meet."""
    if name == "link" and Path(args[1]).parent.name == "entries":
        return LANDING if b'"kind":"landing"' in Path(args[0]).read_bytes() else LISTING
    if name in ("replace", "rename") and str(args[1]).endswith(".parquet"):
        return STAGE if layout.STAGING in Path(args[1]).parts else PUBLISH
    return None
