"""One run: acts and finale as the plan says, then the checks."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from emulator.cli import environment
from emulator.clock import Clock
from emulator.fault_script import FaultScript
from emulator.server import running
from lake import layout
from lake.storage_local import LocalStorage
from tests.chaos import check
from tests.chaos.content import fill
from tests.chaos.faults import outage
from tests.chaos.plan import Act, Command, Orders, Plan
from tests.chaos.race import were_both
from tests.chaos.truth import Truth
from tests.chaos.zygote import ROOT, HangError, Job, Zygote

LONGEST_S = 90.0
_KILLED = -9
_START_WAIT_S = 1000.0  # a stopped subscription may not be started again sooner


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    seed: int
    problems: list[str]
    seconds: float = 0.0
    cpu_s: float = 0.0
    commands: int = 0
    kills: int = 0
    races: int = 0


class Run:
    """A run at work in a folder of its own: `lake`, `log` and what commands need."""

    def __init__(self, plan: Plan, folder: Path, zygote: Zygote) -> None:
        self._plan, self._folder, self._zygote = plan, folder, zygote
        self.lake = folder / "lake"
        self._log = folder / "log"
        self._meet = folder / "meet"
        self.outcome = Outcome(plan.seed, [])

    def play(self) -> Outcome:
        """Plays the run and checks it."""
        began = time.monotonic()
        self._say(str(self._plan))
        with ExitStack() as stack:
            clock = Clock(self._plan.anchor)
            self._emu = stack.enter_context(
                running(
                    tenants=self._plan.tenants,
                    seed=self._plan.seed,
                    count=0,
                    anchor=self._plan.anchor,
                    clock=clock,
                    page_size=self._plan.page_size,
                )
            )
            for number, tenant in enumerate(self._emu.tenants):
                fill(tenant, self._plan, number)
            self.truths = [Truth(t, self._plan.content_types, self._now()) for t in self._emu.tenants]
            self._env = self._environment()
            try:
                for number, act in enumerate(self._plan.acts):
                    self._act(number, act)
                self._finale()
            except HangError as hang:
                self._wrong(f"hangs: {hang}")
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _wrong(self, what: str) -> None:
        self._say(f"WRONG {what}")
        self.outcome.problems.append(what)

    def _say(self, what: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"=== {what}\n")

    def _environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("AUDITLAKE_")} | {"PYTHONPATH": str(ROOT)}
        env |= environment(self._emu) | {"AUDITLAKE_CONTENT_TYPES": ",".join(self._plan.content_types)}
        if self._plan.tenants > 1:
            tables = []
            for number, tenant in enumerate(self._emu.tenants):
                env[f"SECRET_{number}"] = tenant.client_secret
                tables.append(
                    f'[[tenant]]\nname = "t{number}"\ntenant_id = "{tenant.tenant_id}"\n'
                    f'client_id = "{tenant.client_id}"\nclient_secret_env = "SECRET_{number}"\n'
                )
            (self._folder / "auditlake.toml").write_text("\n".join(tables))
            for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
                del env[f"AUDITLAKE_{name}"]
        return env

    def _act(self, number: int, act: Act) -> None:
        self._move_on(act.advance_s)
        if act.stops is not None:
            for tenant in self._emu.tenants:
                if act.stops in tenant.app.subscriptions:
                    tenant.app.subscriptions[act.stops].stop(self._now())
        seed = Random(f"chaos/{self._plan.seed}/{number}").getrandbits(32)
        state = self._emu.state
        FaultScript(act.faults).set_up(state, seed)
        if act.outage:
            state.hook = outage(act.outage, state)
        began = self._now()
        shutil.rmtree(self._meet, ignore_errors=True)
        self._meet.mkdir()
        jobs = self._run_together(act.commands)
        self.outcome.races += were_both(self._meet)
        done = self._now()
        state.hook = state.refuses = None
        for n, (command, job) in enumerate(zip(act.commands, jobs, strict=True)):
            self._judge(act, command, job, began, done)
            if command.orders.meeting and (errors := re.findall("^auditlake: .*", self._output_of(n), re.MULTILINE)):
                self._wrong(f"a racer fails, and nothing was wrong: {errors[0]}")

    def _judge(self, act: Act, command: Command, job: Job, began: datetime, done: datetime) -> None:
        """Checks the exit code of a command against what it can have done."""
        shown = f"act command {' '.join(command.words)!r} exit {job.code}"
        if job.code == _KILLED and command.is_to_be_killed:
            self.outcome.kills += 1
            return
        if job.code == 2 and not command.wrong and not self._may_misconfigure(act, command):
            self._wrong(f"{shown}: it was used rightly")
        if command.wrong and job.code not in self._codes_of_wrong(act, command):
            self._wrong(f"{shown}: it was used wrongly ({command.wrong})")
        if job.code not in (0, 1, 2):
            self._wrong(f"{shown}: expected 0, 1 or 2")
        span = command.span(began)
        hidden = any(f.what == "page_gaps" for f in act.faults)
        if job.code == 0 and span is not None and not command.wrong and not hidden:
            for truth in self.truths:
                for what in check.check_had(self.lake, truth, span, (began, done + timedelta(seconds=1))):
                    self._wrong(f"{shown}: {what}")

    def _codes_of_wrong(self, act: Act, command: Command) -> tuple[int, ...]:
        if command.wrong == "time":
            return (2,)
        alone = self._plan.tenants == 1 and not act.faults and act.outage is None
        return (2,) if alone else (1, 2)

    def _may_misconfigure(self, act: Act, command: Command) -> bool:
        """Some faults say that tenant or secret are wrong, a full disk that the lake is; perhaps there is no lake."""
        return (
            command.orders.refuse is not None
            or command.words == ("replay",)
            or any(f.what in ("af", "status", "unauthorized", "html", "throttled") for f in act.faults)
        )

    def _run_together(self, commands: tuple[Command, ...]) -> list[Job]:
        """Starts commands when they are due, kills those that are to be killed, and waits for all."""
        began = time.monotonic()
        starts = sorted(range(len(commands)), key=lambda n: commands[n].delay_s)
        jobs: dict[int, Job] = {}
        kills: list[tuple[float, Job]] = []
        for n in starts:
            _wait_until(began + commands[n].delay_s)
            jobs[n] = self._start(commands[n], n)
            if (after := commands[n].kill_after_s) is not None:
                kills.append((time.monotonic() + after, jobs[n]))
        for at, job in sorted(kills, key=lambda k: k[0]):
            if not self._zygote.wait(job, at):
                job.kill()
        for n, job in jobs.items():
            if not self._zygote.wait(job, began + LONGEST_S):
                job.kill()
                self._zygote.wait(job, time.monotonic() + 10)
                raise HangError(f"{commands[n]} did not end within {LONGEST_S:.0f} s")
            self.outcome.cpu_s += job.cpu_s
            self.outcome.commands += 1
            self._look_at_output(n, job)
        return [jobs[n] for n in range(len(commands))]

    def _start(self, command: Command, number: int) -> Job:
        env = dict(self._env)
        if command.wrong == "secret":
            name = "AUDITLAKE_CLIENT_SECRET" if self._plan.tenants == 1 else f"SECRET_{self._plan.tenants - 1}"
            env[name] = "wrong8Q~secret"
        words = [command.words[0], "--lake", str(self.lake), *command.words[1:]]
        orders = asdict(command.orders) | {"lake": str(self.lake), "meet": str(self._meet)}
        ahead_s = (self._now() - datetime.now(self._plan.anchor.tzinfo)).total_seconds() + command.skew_s
        log = self._output(number)
        log.write_text("")
        return self._zygote.start(words, env, self._folder, orders, ahead_s, log)

    def _output(self, number: int) -> Path:
        return self._folder / f"output-{number}"

    def _output_of(self, number: int) -> str:
        return self._output(number).read_text(encoding="utf-8", errors="replace")

    def _look_at_output(self, number: int, job: Job) -> None:
        text = self._output_of(number)
        self._say(f"{self._now():%d %H:%M:%S} command {number} exit {job.code} cpu {job.cpu_s:.2f} s\n{text}")
        if "Traceback" in text:
            self._wrong(f"a traceback: {text.strip().splitlines()[-1]}")

    def _now(self) -> datetime:
        return self._emu.clock.now()

    def _move_on(self, seconds: float) -> None:
        """Moves the service's clock; files that wait in the lake get older with it."""
        if not seconds:
            return
        self._emu.clock.advance(seconds)
        for file in (self.lake / layout.STAGING).rglob("*"):
            if file.is_file():
                stat = file.stat()
                os.utime(file, (stat.st_atime - seconds, stat.st_mtime - seconds))

    def _finale(self) -> None:
        """Runs without faults as a user would, until everything that can be had must be there."""
        if any(act.stops for act in self._plan.acts):
            self._move_on(_START_WAIT_S)
        self._healthy("--start", self._plan.look_back)
        self._healthy("--start", "auto")
        if self._plan.replays:
            self._replay()
        self._check()
        if self._plan.asks:
            self._ask()
        if self._plan.later_s:
            self._move_on(self._plan.later_s)
            self._healthy("--start", "auto")
            if self._plan.catch_up:
                self._healthy("--start", "-7d")
            self._check()
            if left := [o.key for o in LocalStorage(self.lake).list(layout.STAGING)]:
                self._wrong(f"left in _staging for more than half a day: {left[:3]}")

    def _healthy(self, *words: str) -> None:
        command = Command(("backfill", *words), Orders(haste=100.0))
        began = self._now()
        (job,) = self._run_together((command,))
        done = self._now()
        seen = began, done + timedelta(seconds=1)
        shown = f"healthy {' '.join(words)} exit {job.code}"
        span = command.span(began) or (began - timedelta(hours=47), began)
        missing = []
        for truth in self.truths:
            missing += check.check_had(self.lake, truth, span, seen)
        for what in missing:
            self._wrong(f"{shown}: {what}")
        absent = any(check.absent(self.lake, truth) for truth in self.truths)
        if job.code not in (0, 1):
            self._wrong(f"{shown}: expected 0 or 1")
        if job.code == 1 and not absent:
            self._wrong(f"{shown}: nothing is missing")

    def _replay(self) -> None:
        """Tries again what was rejected; what is broken indeed stays so."""
        (job,) = self._run_together((Command(("replay",)),))
        if job.code not in (0, 1):
            self._wrong(f"replay exit {job.code}")

    def _ask(self) -> None:
        """Asks the lake by the commands that read it."""
        for words in (("verify",), ("gaps", "--json"), ("status",), ("query", "select count(*) from audit")):
            (job,) = self._run_together((Command(words),))
            if job.code != 0 and not (words[0] == "gaps" and job.code == 1):
                self._wrong(f"{words[0]} exit {job.code}")

    def _check(self) -> None:
        for what in self.problems():
            self._wrong(what)

    def problems(self) -> Iterator[str]:
        """Yields what is wrong with the lake at rest."""
        now, hidden = self._now(), any(f.what == "page_gaps" for act in self._plan.acts for f in act.faults)
        yield from check.check_lake(self.lake, self.truths)
        for truth in self.truths:
            yield from check.check_named(self.lake, truth, now, hidden=hidden)
            yield from check.check_entries(self.lake, truth.tenant_id)
        secrets = [t.client_secret for t in self._emu.tenants]
        yield from check.check_secrets(self.lake, secrets)
        yield from check.check_secrets(self._log.parent, secrets)


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
