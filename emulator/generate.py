"""Seeded audit records of a small invented company, in the shapes of the wire.

    world (people, sites, files)  +  sessions of the hour  →  maker drawn by weight  →  record  →  1 % drift

Everything follows from (seed, tenant, start, end, count); the company alone from (seed, tenant), so that later
stretches of time speak of the same people. No record or value is taken from a real tenant.

Runs of 160 records and more hold one incident, at three fifths of the stretch and over at most 25 minutes: the account
of `world.users[9]` fails to sign in from 192.0.2.66, then succeeds, reads mail, leaves a forwarding rule in the inbox,
downloads one site's files and opens an anonymous link. Nobody else uses that address.
"""

from bisect import insort
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from emulator import (
    directory_records,
    dlp_records,
    mail_records,
    power_records,
    security_records,
    service_records,
    site_records,
)
from emulator.draw import Draw
from emulator.drift import Drifter
from emulator.incident import FULL_LENGTH, LENGTH_S, incident_session, incident_steps
from emulator.scene import Maker, Record, Scene, Session, start_session
from emulator.world import World, build_world

_FAMILIES = (
    site_records,
    mail_records,
    directory_records,
    service_records,
    power_records,
    security_records,
    dlp_records,
)
_WEIGHTS: Mapping[Maker, float] = {maker: weight for family in _FAMILIES for maker, weight in family.WEIGHTS.items()}
WORKLOADS: Mapping[str, float] = {maker.__name__: weight for maker, weight in _WEIGHTS.items()}

_DRIFT_SHARE = 0.01
# Activity by hour of the day (UTC), against the busiest; machines go on at night.
_HOURS = (6, 5, 5, 5, 6, 9, 22, 55, 88, 100, 98, 90, 72, 86, 96, 93, 80, 58, 34, 22, 17, 13, 10, 8)
_WEEKEND = 0.22
_CLOCK = tuple(f"{minute:02}:{second:02}" for minute in range(60) for second in range(60))


def generate(seed: int, count: int, *, start: datetime, end: datetime, tenant_id: str) -> Iterator[dict[str, object]]:
    """Yields audit records, oldest first.

    Nested values may be shared between records: replace them in a record if need be, never change them in place.

    Args:
      seed: Same seed, same records.
      count: How many records.
      start: Earliest CreationTime, aware.
      end: First moment after the latest CreationTime, aware; at least one whole second lies between.
      tenant_id: OrganizationId of all records.

    Raises:
      ValueError: No record can be made from these arguments.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError(f"start and end must be aware, got {start!r} and {end!r}")
    first_s, end_s = _whole_second(start), _whole_second(end)
    if count < 0 or first_s >= end_s:
        raise ValueError(f"expected count >= 0 and a whole second in [start, end), got {count!r}, {start!r}, {end!r}")
    draw = Draw(f"records/{seed}/{tenant_id}/{first_s}/{end_s}/{count}")
    return _records(build_world(seed, tenant_id), draw, count, first_s, end_s)


def _records(world: World, draw: Draw, count: int, first_s: int, end_s: int) -> Iterator[Record]:
    incident = _Incident(world, draw, count, first_s, end_s)
    scene, drifter = Scene(world, draw, start_session(draw, world, 0)), Drifter(draw)
    makers, cumulative = tuple(_WEIGHTS), tuple(accumulate(_WEIGHTS.values()))
    sessions: list[Session] = []
    for hour, from_s, to_s, share in _share_out(count - len(incident.steps), first_s, end_s):
        moments = sorted(draw.choices(range(from_s, to_s), k=share))
        sessions = _sessions_of(hour, sessions, draw, world)
        prefix = f"{datetime.fromtimestamp(hour * 3600, UTC):%Y-%m-%dT%H:}"
        everyone = draw.choices(sessions, k=share)
        for moment, maker, session in zip(
            moments, draw.choices(makers, cum_weights=cumulative, k=share), everyone, strict=True
        ):
            while incident.due_s <= moment:
                yield incident.step(scene)
            scene.at, scene.session = prefix + _CLOCK[moment % 3600], session
            record = maker(scene)
            if draw.random() < _DRIFT_SHARE:
                drifter.drift(record)
            yield record
    while incident.moments:
        yield incident.step(scene)


class _Incident:
    """The steps of the planted incident and the moments they fall due."""

    def __init__(self, world: World, draw: Draw, count: int, first_s: int, end_s: int) -> None:
        length = min(FULL_LENGTH, count // 20)
        self.steps = incident_steps(length) if length >= 8 else []
        self._session = incident_session(draw, world)
        begin_s = first_s + (end_s - first_s) * 3 // 5
        span = range(begin_s, min(begin_s + LENGTH_S, end_s))
        self.moments: list[int] = []
        for _ in self.steps:
            insort(self.moments, draw.pick(span))
        self.moments.reverse()  # the next one is last
        self._todo = self.steps[::-1]
        self.due_s: float = self.moments[-1] if self.moments else float("inf")

    def step(self, scene: Scene) -> Record:
        moment = self.moments.pop()
        self.due_s = self.moments[-1] if self.moments else float("inf")
        scene.at, scene.session = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%S}", self._session
        return self._todo.pop()(scene)


def _share_out(count: int, first_s: int, end_s: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (hour, first second, end second, records) of each clock hour with any, by the rhythm of day and week."""
    hours = range(first_s // 3600, (end_s - 1) // 3600 + 1)
    bounds = [(hour, max(first_s, hour * 3600), min(end_s, hour * 3600 + 3600)) for hour in hours]
    sums = list(accumulate(_activity(hour) * (to_s - from_s) for hour, from_s, to_s in bounds))
    before = 0
    for (hour, from_s, to_s), so_far in zip(bounds, sums, strict=True):
        until = round(count * so_far / sums[-1])
        if until > before:
            yield hour, from_s, to_s, until - before
        before = until


def _activity(hour: int) -> float:
    weekday = (hour // 24 + 3) % 7  # the epoch was a Thursday
    return _HOURS[hour % 24] * (_WEEKEND if weekday >= 5 else 1.0)


def _sessions_of(hour: int, sessions: list[Session], draw: Draw, world: World) -> list[Session]:
    staying = [session for session in sessions if session.until_hour > hour]
    wanted = 3 + int(_activity(hour) * 0.25)
    return staying + [start_session(draw, world, hour) for _ in range(wanted - len(staying))]


def _whole_second(moment: datetime) -> int:
    """The first whole second at or after a moment: records carry no fractions."""
    return -((datetime(1970, 1, 1, tzinfo=UTC) - moment) // timedelta(seconds=1))
