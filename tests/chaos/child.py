"""What befalls a command from inside its process. Only the zygote's children come here; no product code knows of it.

Time: the service's clock is not this machine's, so every module of ours reads a clock that is ahead by as much, and
waits of `o365` pass `haste` times as fast. Disk: a change of the lake's folder may be the last, or be refused.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from itertools import count
from pathlib import Path
from typing import Any

from schemas import decode
from schemas.fit import CarefulRow
from schemas.model import Table
from tests.chaos.race import Racer

_OURS = ("lake", "o365", "transforms", "pipeline")
_CHANGES = ("link", "replace", "rename", "unlink", "mkdir", "fsync")


class Clock:
    """How far ahead this process's clock is, and how fast its waits pass."""

    ahead = timedelta()
    haste = 1.0
    _monotonic = staticmethod(time.monotonic)
    _sleep = staticmethod(time.sleep)

    @classmethod
    def monotonic(cls) -> float:
        return cls._monotonic() * cls.haste

    @classmethod
    def sleep(cls, seconds: float) -> None:
        cls._sleep(seconds / cls.haste)


@contextmanager
def fast_waits() -> Iterator[None]:
    """Lets modules that are imported in the block bind the fast clock as their defaults."""
    before = time.monotonic, time.sleep
    time.monotonic, time.sleep = Clock.monotonic, Clock.sleep
    try:
        yield
    finally:
        time.monotonic, time.sleep = before


class _Like(type):
    """Makes a stand-in for `datetime` do everything else as `datetime` does."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)

    def __call__(cls, *args: Any, **kwargs: Any) -> datetime:
        return datetime(*args, **kwargs)  # noqa: DTZ001 - as it was called

    def __getattr__(cls, name: str) -> Any:
        return getattr(datetime, name)


class _Ahead(metaclass=_Like):
    @staticmethod
    def now(tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + Clock.ahead


class _AheadOfFiles(_Ahead):
    """For storage: the times of files are this machine's too."""

    @staticmethod
    def fromtimestamp(stamp: float, tz: tzinfo | None = None) -> datetime:
        return datetime.fromtimestamp(stamp, tz) + Clock.ahead


def set_clocks() -> None:
    """Gives every module of ours that was imported the clock that is ahead."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _OURS and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = _AheadOfFiles if "storage" in name else _Ahead


def use_old_schemas() -> None:
    """Makes the decoder refuse every record that has a member of chaos."""
    add, fit = decode.RawRecords.add, decode.fit_record

    def add_as_before(records: decode.RawRecords, raws: Sequence[decode.RawRecord]) -> None:
        # Bytes are taken for broken, and read member by member.
        add(records, [bytes(raw) if b'"Chaos' in bytes(raw) else raw for raw in raws])

    def fit_as_before(table: Table, raw: bytes) -> CarefulRow:
        return fit(table, b"{" if b'"Chaos' in raw else raw)

    decode.RawRecords.add = add_as_before  # type: ignore[method-assign]
    decode.fit_record = fit_as_before


def watch_disk(lake: str, kill_at: int | None, refuse: tuple[int, int] | None, racer: Racer | None) -> None:
    """Counts changes below a folder; kills the process group, or refuses them as a full disk would, at the given ones.

    A racer meets another command before one of them.

    Nothing is flushed to the disk: a killed process loses nothing that it has written.
    """
    root = os.path.realpath(lake)
    numbers = count(1)
    refused = range(refuse[0], refuse[0] + refuse[1]) if refuse else range(0)

    def watched(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*args: Any, **kwargs: Any) -> Any:
            where = f"/proc/self/fd/{args[0]}" if name == "fsync" else Path(args[0]).parent
            if os.path.realpath(where).startswith(root):
                if racer is not None:
                    racer.before(name, args)
                number = next(numbers)
                if number == kill_at:
                    os.killpg(0, signal.SIGKILL)
                if number in refused and name != "unlink":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return None if name == "fsync" else change(*args, **kwargs)

        return watch

    for name in _CHANGES:
        setattr(os, name, watched(name, getattr(os, name)))
