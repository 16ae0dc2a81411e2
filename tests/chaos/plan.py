"""What a run will do, drawn from its seed before anything starts: draws never depend on time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from random import Random

from emulator.fault_script import ScriptedFault
from schemas.contract import content_types
from tests.chaos.faults import Outage, draw_faults, draw_lasting
from tests.chaos.race import LANDING, LISTING, PUBLISH, STAGE, Meeting

_FIRST_ANCHOR = datetime(2026, 11, 20, tzinfo=UTC)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
_RETENTION = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Orders:
    """What befalls a command from inside.

    Attributes:
      kill_at: Number of the change to the lake's folder right before which its process group is killed.
      refuse: Numbers of the changes that the disk refuses as full: first, and how many.
      haste: How many times as fast its waits pass.
      old_schemas: Whether its schemas refuse records that have a member of chaos; a later replay takes them.
      meeting: Where it meets the other command of its act.
    """

    kill_at: int | None = None
    refuse: tuple[int, int] | None = None
    haste: float = 1000.0
    old_schemas: bool = False
    meeting: Meeting | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One `auditlake` command, and what befalls it.

    Attributes:
      words: The command and its options but the lake.
      orders: What befalls it from inside.
      delay_s: Seconds after the others of its act that it starts.
      kill_after_s: Seconds after its start that its process group is killed.
      wrong: Why it is used wrongly, if it is: secret (of the last tenant) or time.
      skew_s: Seconds that its machine's clock is ahead of the service's.
    """

    words: tuple[str, ...]
    orders: Orders = Orders()
    delay_s: float = 0.0
    kill_after_s: float | None = None
    wrong: str | None = None
    skew_s: float = 0.0

    @property
    def is_to_be_killed(self) -> bool:
        """Whether it is to end by a kill, if it does not end before."""
        in_a_race = self.orders.meeting is not None and self.orders.meeting.kill_at is not None
        return in_a_race or self.orders.kill_at is not None or self.kill_after_s is not None

    def span(self, now: datetime) -> tuple[datetime, datetime] | None:
        """Gives the stretch of available time that it is to make complete, if its words say that."""
        given = dict(zip(self.words[1::2], self.words[2::2], strict=False))
        start = given.get("--start", "")
        if not start.startswith("-"):
            return None
        end = given.get("--end", "-0m")
        # Whole ticks are listed, but what appears while it runs need not be found.
        return (max(_back(now, start), now - _RETENTION + timedelta(minutes=5)), _back(now, end))


def _back(now: datetime, text: str) -> datetime:
    return now - timedelta(seconds=int(text[1:-1]) * _UNITS[text[-1]])


@dataclass(frozen=True, slots=True)
class Act:
    """Commands that run at once, after the clock was moved on, while faults befall the service.

    `stops` is a content type whose subscription somebody stops before.
    """

    advance_s: float
    stops: str | None
    faults: tuple[ScriptedFault, ...]
    outage: Outage | None
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    seed: int
    anchor: datetime
    tenants: int
    content_types: tuple[str, ...]
    hours: int
    records: int
    max_blob: int
    page_size: int
    acts: tuple[Act, ...]
    look_back: str
    replays: bool
    later_s: float
    catch_up: bool
    asks: bool

    def __str__(self) -> str:
        """Says it for a log."""
        figures = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "acts"}
        lines = [f"{name} {value}" for name, value in figures.items()]
        for number, act in enumerate(self.acts, 1):
            lines += [
                f"act {number}, {act.advance_s / HOUR:.1f} h later, {act.outage}, stops {act.stops}",
                *map(str, act.faults),
                *map(str, act.commands),
            ]
        return "\n  ".join(lines)


def draw_plan(seed: int, collectors: int | None = None) -> Plan:
    """Draws a run.

    Args:
      seed: What every draw hangs on.
      collectors: How many commands every act has; drawn by default.
    """
    rng = Random(f"chaos/{seed}")
    hours = rng.randint(6, 30)
    types = tuple(sorted(rng.sample(sorted(content_types()), rng.choice((1, 1, 1, 2, 2, 3)))))
    tenants = rng.choices((1, 2, 3), (78, 16, 6))[0]
    acts = [_draw_act(rng, hours, types, collectors) for _ in range(rng.randint(1, 4))]
    _add_lasting(Random(f"chaos/{seed}/lasting"), acts)
    _add_race(Random(f"chaos/{seed}/race"), acts, hours, collectors)
    whole_h = hours + 3 + int(sum(act.advance_s for act in acts) / HOUR)
    replays = rng.random() < 0.2 or any(c.orders.old_schemas for act in acts for c in act.commands)
    return Plan(
        seed=seed,
        anchor=_FIRST_ANCHOR + timedelta(seconds=rng.randint(0, 4 * int(DAY))),
        tenants=tenants,
        content_types=types,
        hours=hours,
        records=rng.randint(40, 500) // tenants,
        max_blob=rng.choice((1, 5, 20, 60)),
        page_size=rng.choice((1, 2, 3, 5, 200)),
        acts=tuple(acts),
        look_back="-7d" if rng.random() < 0.4 else f"-{min(whole_h, 7 * 24)}h",
        replays=replays,
        later_s=rng.choice((0.0, rng.uniform(13 * HOUR, 60 * HOUR))),
        catch_up=rng.random() < 0.3,
        asks=rng.random() < 0.2,
    )


def _add_lasting(rng: Random, acts: list[Act]) -> None:
    """Lets some blobs fail for good in an act now and then; without that hardly any does."""
    if rng.random() < 0.25:
        at = rng.randrange(len(acts))
        acts[at] = replace(acts[at], faults=(*acts[at].faults, draw_lasting(rng)))


def _add_race(rng: Random, acts: list[Act], hours: int, collectors: int | None) -> None:
    """Adds an act of two commands that race for the same new blobs; most often the first, where all are new."""
    if rng.random() >= {None: 0.25, 2: 0.75}.get(collectors, 0.0):
        return
    at = 0 if rng.random() < 0.75 else rng.randint(0, len(acts))
    advance_s = rng.uniform(0, 20) * HOUR if at else 0.0
    acts.insert(at, Act(advance_s, None, (), None, tuple(_draw_racers(rng, hours))))


def _draw_racers(rng: Random, hours: int) -> Iterator[Command]:
    place = rng.choices((LANDING, STAGE, PUBLISH, LISTING), (4, 2, 2, 1))[0]
    leads = [0, rng.choice((1, 2, 3, 8, None, None))]
    rng.shuffle(leads)
    victim, kill_at = rng.choice((None, None, 0, 1)), rng.choice((0, 1, 2, 4))
    starts = [f"-{hours + 1}h"] * 2
    if rng.random() < 0.5:  # then their units are cut differently
        starts[rng.randrange(2)] = rng.choice(("-7d", f"-{rng.randint(hours // 2, hours)}h"))
    is_late = rng.random() < 0.4
    for number, (lead, start) in enumerate(zip(leads, starts, strict=True)):
        meeting = Meeting(place, number, lead, kill_at if number == victim else None, is_late and number == 1)
        yield Command(("backfill", "--start", start), Orders(meeting=meeting))


def _draw_act(rng: Random, hours: int, content_types: Sequence[str], collectors: int | None) -> Act:
    advance_s = rng.choices(
        (0.0, rng.uniform(1, 90) * MINUTE, rng.uniform(1, 20) * HOUR, rng.uniform(1, 3) * DAY, rng.uniform(5, 8) * DAY),
        (65, 10, 12, 9, 4),
    )[0]
    count = collectors or rng.choices((1, 2), (70, 30))[0]
    outage = None
    if rng.random() < 0.12:
        outage = Outage(rng.randint(0, 200), rng.choice((3, 20, 100_000)), hangs_up=rng.random() < 0.5)
    wrong = rng.random() < 0.04 and count == 1
    commands = [_draw_command(rng, hours, number, wrong=wrong) for number in range(count)]
    if rng.random() < 0.5:
        commands = [replace(c, words=commands[0].words) for c in commands]  # the same work, at the same moment
    # Now and then both live: only then do they race to the last entry.
    if collectors is not None:
        commands = _kill_one(rng, commands)
    stops = rng.choice(content_types) if rng.random() < 0.05 else None
    return Act(advance_s, stops, draw_faults(rng) if rng.random() < 0.7 else (), outage, tuple(commands))


def _kill_one(rng: Random, commands: Sequence[Command]) -> list[Command]:
    """Kills one of the commands at most, somewhere on its way."""
    victim = rng.randrange(len(commands)) if rng.random() < 0.65 else None
    at, after_s = rng.choice(((int(2 ** rng.uniform(0, 7)), None), (None, rng.uniform(0.05, 1.0))))
    return [
        replace(c, orders=Orders(at), kill_after_s=after_s)
        if number == victim
        else replace(c, orders=Orders(), kill_after_s=None)
        for number, c in enumerate(commands)
    ]


def _draw_command(rng: Random, hours: int, number: int, *, wrong: bool) -> Command:
    kill_at, kill_after_s, refuse = None, None, None
    chance = rng.random()
    if chance < 0.45:
        kill_at = int(2 ** rng.uniform(0, 7.5))
    elif chance < 0.6:
        kill_after_s = rng.uniform(0.05, 1.2)
    elif chance < 0.68:
        refuse = int(2 ** rng.uniform(1, 8)), rng.choice((1, 1, 2, 1000))
    words = ("replay",) if rng.random() < 0.08 else ("backfill", *_draw_span(rng, hours))
    why = None
    if wrong:
        why = rng.choice(("secret", "secret", "time"))
        kill_at = kill_after_s = refuse = None
        words = ("backfill", "--start", "2099-01-01" if why == "time" else "auto")
    return Command(
        words=words,
        orders=Orders(kill_at, refuse, old_schemas=rng.random() < 0.15),
        delay_s=number * rng.choice((0.0, 0.01, 0.05, 0.2)),
        kill_after_s=kill_after_s,
        wrong=why,
        skew_s=rng.choices((0.0, rng.uniform(-30, 30) * MINUTE), (85, 15))[0],
    )


def _draw_span(rng: Random, hours: int) -> tuple[str, ...]:
    start = rng.choices(
        ("auto", f"-{hours + 1}h", f"-{rng.randint(1, hours)}h", f"-{rng.randint(30, 60 * hours)}m", "-7d"),
        (35, 30, 20, 10, 5),
    )[0]
    if start == "auto" and rng.random() < 0.2:
        return ("--gaps",)
    if start.endswith("h") and rng.random() < 0.25 and (from_h := int(start[1:-1])) > 1:
        return ("--start", start, "--end", f"-{rng.randint(1, from_h - 1)}h")
    return ("--start", start)
