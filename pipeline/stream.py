"""`auditlake stream`: follow the feeds until a signal says stop.

in this process ── one bounded graph a poll ── wait ──┐        any other runner ── one streaming job ── watch it ──┐
        ▲─────────────────────────────────────────────┘                                ▲──── it failed: start again ┘
"""

import json
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from re import compile as regex
from threading import Event
from types import FrameType
from typing import TextIO
from uuid import uuid4

from apache_beam import Pipeline
from apache_beam.runners.runner import PipelineResult, PipelineState

from lake.compact import compact_tenant
from lake.gaps import find_gaps
from lake.storage import LakeError
from lake.tenant import open_tenant
from o365.clients import client_for
from o365.errors import ActivityError
from pipeline.backfill import check_writable, show_submitted
from pipeline.config import Config, load_config
from pipeline.errors import JobError, UsageError
from pipeline.graph import follow_feeds
from pipeline.metrics import serving
from pipeline.plan import AUTO, TenantPlan, Wish, first_asked, make_plans, prepare
from pipeline.progress import CLEAR_LINE
from pipeline.runners import (
    can_wait_between_polls,
    cancel,
    is_in_process,
    is_waited_for,
    job_state,
    new_pipeline,
    run_graph,
    start_graph,
)
from pipeline.summary import Summary, Vain, add_gaps, describe
from pipeline.summary import to_json as summary_to_json
from pipeline.watch import Figures, Watch, line
from pipeline.watch import to_json as figures_to_json
from schemas.contract import time_limit
from schemas.times import TimeRange
from transforms.elements import Feed, Follow
from transforms.polls import OPEN, poll_of, poll_time
from transforms.recall import recall_of

DEADLINE_S = 20.0
"""A request that fails is given up after this time, because what is fresh waits behind it; it is tried again later."""
_LONGEST_REST = timedelta(minutes=5)
_REPORT_EVERY = timedelta(minutes=1)
_COMPACT_EVERY = timedelta(hours=1)
_LOOK_EVERY_S = 1.0
_INTERVAL = regex(r"(\d{1,5})(s|m)")
_ENDED_BY_OTHERS = (PipelineState.CANCELLED, PipelineState.DRAINED, PipelineState.UPDATED)
_MAY_PASS = (LakeError, ActivityError, OSError, RuntimeError)
Pause = Callable[[Event, float], object]


def run(
    args: Namespace, beam_args: Sequence[str], environ: Mapping[str, str], out: TextIO, pause: Pause = Event.wait
) -> int:
    """Runs the command; returns its exit code.

    Args:
      args: The command's options.
      beam_args: Beam's own.
      environ: The environment.
      out: Where figures and the closing summary go.
      pause: Waits for seconds, or until the event is set.

    Raises:
      UsageError: The command was used wrongly; nothing was changed.
      LakeError: The lake cannot be read.
      JobError: The runner cannot be reached.
    """
    interval = read_interval(args.poll_interval)
    options = new_pipeline(beam_args).options
    config = load_config(vars(args), environ)
    check_writable(config.lake)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    plans = make_plans(config.connections, config.lake, Wish(AUTO, "now", settle=config.settle), run_id)
    if all(f.is_config for p in plans for f in p.failures) and all(p.failures for p in plans):
        raise UsageError("; ".join(f.message for p in plans for f in p.failures))
    follows = [f for plan in plans for f in _follows(plan, config, run_id, interval)]
    stream = _Stream(follows, list(beam_args), args.polls, Summary(config.lake, run_id), out, args.json, pause)
    prepare(plans)
    for plan in plans:
        if plan.subscribe:
            stream.summary.subscribed.append(f"{plan.connection.name}: {', '.join(plan.subscribe)}")
            print(f"auditlake: started subscriptions: {stream.summary.subscribed[-1]}", file=sys.stderr)
        for failure in plan.failures:
            where = f"{failure.tenant} {failure.content_type or ''}".strip()
            stream.say(where, f"{where}: {failure.message}")
    stream.watch = watch = Watch(follows, stream.summary, is_here=is_in_process(options))
    with _stopped_by_signals(stream.stop), serving(watch, args.metrics_port) as address:
        if address:
            print(f"auditlake: figures at {address}/metrics and {address}/healthz", file=sys.stderr)
        if can_wait_between_polls(options):
            stream.keep_job_running()
        else:
            stream.poll_in_rounds()
    if is_waited_for(options):
        stream.close()
    return 0


def read_interval(text: str) -> timedelta:
    """Reads `--poll-interval`.

    Raises:
      UsageError: It is none.
    """
    match = _INTERVAL.fullmatch(text)
    seconds = int(match[1]) * (60 if match[2] == "m" else 1) if match else 0
    if not 1 <= seconds <= 3600:
        raise UsageError(f"--poll-interval {text!r} is no interval: expected seconds or minutes up to 60m, such as 30s")
    return timedelta(seconds=seconds)


def _follows(plan: TenantPlan, config: Config, run_id: str, interval: timedelta) -> Iterator[Follow]:
    """Gives what is followed of a tenant: all its feeds, also those that cannot be reached yet."""
    now = client_for(plan.connection).now()
    state = open_tenant(plan.lake, plan.connection.tenant_id).ledger.state
    for content_type in plan.connection.content_types:
        # Only the start of its range counts.
        start = min(first_asked(state, content_type, now), now)
        settle = config.settle.get(content_type, time_limit("late_arrival"))
        feed = Feed(
            plan.connection,
            content_type,
            TimeRange(start, now),
            plan.lake,
            run_id,
            settle=settle,
            deadline_s=DEADLINE_S,
        )
        yield Follow(feed, interval, poll_of(now, interval), OPEN)


@contextmanager
def _stopped_by_signals(stop: Event) -> Iterator[None]:
    """Sets the event at the first SIGTERM or SIGINT, and ends the process at the second."""

    def note(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            sys.stderr.write("auditlake: stopped at once; what was committed stays\n")
            sys.stderr.flush()
            os._exit(128 + number)  # nothing is lost: the ledger has what was committed, and the next start the rest
        stop.set()
        sys.stderr.write("auditlake: stopping when what is under way has landed; once more to stop at once\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Stream:
    follows: list[Follow]
    beam_args: list[str]
    polls: int | None
    summary: Summary
    out: TextIO
    json_output: bool
    pause: Pause
    stop: Event = field(default_factory=Event)
    watch: Watch = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _said: set[str] = field(default_factory=set)
    _compacted: datetime | None = None

    def poll_in_rounds(self) -> None:
        """Runs the graph once a poll, until the event or for as many polls as are asked for."""
        interval, done, failures = self.follows[0].interval, 0, 0
        while not self.stop.is_set():
            poll = poll_of(self.watch.now(), interval)
            try:
                is_all = self._round(poll)
                failures = 0
            except _MAY_PASS as error:
                self.say(type(error).__name__, _sentence(error))
                failures, is_all = failures + 1, True
            if not is_all:
                continue
            done += 1
            self._compact_now_and_then()
            if done == self.polls:
                return
            rest = poll_time(poll + 1, interval) - self.watch.now()
            if failures:
                rest = max(rest, min(_LONGEST_REST, interval * 2 ** min(failures, 10)))
            # A rest longer than any is one over a clock that was set back.
            rest = interval if rest > max(interval, _LONGEST_REST) else rest
            self.pause(self.stop, max(0.0, rest.total_seconds()))

    def _round(self, poll: int) -> bool:
        """Polls all feeds once and lands what was found; tells whether that was all there is."""
        before = self.summary.blobs.total()
        p = new_pipeline(self.beam_args)
        follow_feeds(p, [replace(f, start=poll, stop=poll + 1) for f in self.follows], is_open=False)
        run_graph(p)
        failures = {f"{f.feed.connection.name} {f.feed.content_type}": recall_of(f.feed).failure for f in self.follows}
        if not any(failures.values()):
            self._said.clear()
        for where, cause in failures.items():
            if cause:
                self.say(where, f"{where}: {cause}")
        figures = self._report()
        pending = figures.backlog_blobs - sum(f.failed_blobs for f in figures.feeds)
        return not pending or self.summary.blobs.total() == before

    def _compact_now_and_then(self) -> None:
        """Compacts days that are over; begins none after as long as a poll takes, because what is fresh waits."""
        now, interval = self.watch.now(), self.follows[0].interval
        if self._compacted is not None and abs(now - self._compacted) < _COMPACT_EVERY:
            return
        self._compacted = now
        for feed in {f.feed.connection.tenant_id: f.feed for f in self.follows}.values():
            try:
                lake = open_tenant(feed.lake, feed.connection.tenant_id)
                found = compact_tenant(lake, feed.run, now, feed.settle, interval.total_seconds())
            except (LakeError, OSError) as error:
                self.say("compaction", _sentence(error))
            else:
                for problem in found.problems:
                    self.say(problem, problem)

    def keep_job_running(self) -> None:
        """Runs a streaming job until the event, or its end where polls are counted; starts a failed one again."""
        failures = 0
        while not self.stop.is_set():
            p = new_pipeline(self.beam_args, streaming=True)
            first = poll_of(self.watch.now(), self.follows[0].interval)
            stop = OPEN if self.polls is None else first + self.polls
            follow_feeds(p, [replace(f, start=first, stop=stop) for f in self.follows], is_open=True)
            try:
                result = start_graph(p)
                if not is_waited_for(p.options):
                    show_submitted(self.summary, self.out, json_output=self.json_output)
                    return
                self._watch_job(p, result)
            except JobError as error:
                if not self.watch.look().summary.slices and not failures:
                    raise  # it never worked: an option is wrong, or the runner away
                self.say("job", str(error))
            else:
                return
            failures += 1
            self.pause(self.stop, min(_LONGEST_REST, timedelta(seconds=2 ** min(failures, 10))).total_seconds())

    def _watch_job(self, p: Pipeline, result: PipelineResult) -> None:
        """Reports until the job is to be stopped, or has come to its end, or was ended by somebody else.

        Raises:
          JobError: It has failed.
        """
        reported = self.watch.now()
        while not PipelineState.is_terminal(state := job_state(p, result)):
            if self.stop.wait(_LOOK_EVERY_S):
                cancel(result)
                return
            if abs(self.watch.now() - reported) >= _REPORT_EVERY:
                reported = self.watch.now()
                self._report()
                self._compact_now_and_then()
        if state in _ENDED_BY_OTHERS:
            self.say("job", f"the job was ended by somebody else: {state}")
        elif state != PipelineState.DONE:
            raise JobError(f"the job ended as {state}; its runner's log says why")

    def _report(self) -> Figures:
        figures = self.watch.look()
        if self.json_output:
            print(json.dumps(figures_to_json(figures)), file=self.out, flush=True)
        elif sys.stderr.isatty():
            sys.stderr.write(CLEAR_LINE + line(figures))
            sys.stderr.flush()
        return figures

    def say(self, what: str, sentence: str) -> None:
        """Says what is wrong with something, once until all is well again."""
        if what not in self._said:
            self._said.add(what)
            print(f"auditlake: {sentence}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Tells what the stream did, and what is missing."""
        self.summary.seconds = time.monotonic() - self._started
        try:
            figures = self.watch.look()
            for connection in dict.fromkeys(f.feed.connection for f in self.follows):
                feeds = [f.feed for f in self.follows if f.feed.connection == connection]
                state = open_tenant(feeds[0].lake, connection.tenant_id).ledger.state
                asked = {f.content_type: TimeRange(f.time_range.start, figures.at) for f in feeds}
                gaps = find_gaps(connection.tenant_id, state, figures.at)
                add_gaps(self.summary, connection.name, gaps, asked, figures.at, Vain())
        except LakeError as error:
            self.say("closing", str(error))
        told = json.dumps(summary_to_json(self.summary)) if self.json_output else describe(self.summary)
        print(told, file=self.out)


def _sentence(error: BaseException) -> str:
    """Gives what was raised inside a step without the step's name, which Beam adds."""
    return str(error).partition(" [while running")[0]
