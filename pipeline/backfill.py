"""`auditlake backfill`: plan, prepare, run the graph, sum up."""

import json
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import chain
from typing import TextIO
from uuid import uuid4

from lake import layout
from lake.gaps import find_gaps
from lake.storage import LakeError, open_storage
from lake.tenant import open_tenant
from o365.activity import first_content_note
from pipeline.config import load_config
from pipeline.errors import UsageError
from pipeline.graph import land_feeds
from pipeline.plan import AUTO, TenantPlan, Wish, by_age, make_plans, prepare
from pipeline.progress import live_progress
from pipeline.runners import beam_options, is_in_process, is_waited_for, new_pipeline, run_together, takes_turns
from pipeline.summary import Summary, add_entries, add_failures, add_gaps, describe, to_json
from schemas.times import TimeRange, format_utc
from transforms.elements import Feed
from transforms.grid import GridProvider

_AT_ONCE = 16
"""Jobs that share the tenants where a runner takes turns: in each, a tenant out of quota holds up those after it."""
_AT_ONCE_OF_ONE = 2
"""Jobs that share the days of a single tenant: while one waits for the service, the other decodes and writes."""


def run(args: Namespace, beam_args: Sequence[str], environ: Mapping[str, str], out: TextIO) -> int:
    """Runs the command; returns its exit code.

    Raises:
      UsageError: The command was used wrongly; nothing was changed.
      LakeError: The lake cannot be read or written.
    """
    options = new_pipeline(beam_args).options
    config = load_config(vars(args), environ)
    now = datetime.now(UTC)
    if args.gaps and args.start != AUTO:
        raise UsageError(f"--gaps stands beside --start {args.start!r}: it looks for gaps in all that the lake has")
    wish = Wish(args.start, args.end, args.gaps, config.settle)
    wish.span(now)  # wrong use is said before anything is asked of the service
    check_writable(config.lake)
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}"
    plans = make_plans(config.connections, config.lake, wish, run_id)
    if args.dry_run:
        return _show_plans(plans, out)
    summary = _run_plans(plans, Summary(config.lake, run_id), beam_args)
    if not is_waited_for(options):
        show_submitted(summary, out, json_output=args.json)
    elif args.json:
        print(json.dumps(to_json(summary)), file=out)
    else:
        if summary.subscribed:
            print(f"started subscriptions: {'; '.join(summary.subscribed)}. {first_content_note()}", file=out)
        print(describe(summary), file=out)
    return 2 if all(_is_misconfigured(plan) for plan in plans) else summary.exit_code


def check_writable(uri: str) -> None:
    """Tries the lake before anything is asked of the service."""
    key = f"{layout.ASIDE}/probe-{uuid4().hex}"
    try:
        storage = open_storage(uri)
        storage.put(key, b"")
        storage.delete(key)
    except LakeError as error:
        raise UsageError(f"the lake {uri!r} cannot be written: {error}") from error


def show_submitted(summary: Summary, out: TextIO, *, json_output: bool) -> None:
    """Tells of a job that is not waited for."""
    if json_output:
        said = json.dumps({"run": summary.run, "lake": summary.lake, "submitted": True, "missing": summary.missing})
    else:
        said = "\n".join([*summary.missing, f"submitted; auditlake status --lake {summary.lake} tells how far it is"])
    print(said, file=out)


def _show_plans(plans: Sequence[TenantPlan], out: TextIO) -> int:
    for plan in plans:
        print(f"tenant {plan.connection.name} ({plan.connection.tenant_id})", file=out)
        for failure in plan.failures:
            print(f"  cannot be reached: {failure.message}", file=out)
        for feed in plan.feeds:
            span = f"{format_utc(feed.time_range.start)} to {format_utc(feed.time_range.end)}"
            start = ", would be subscribed" if feed.content_type in plan.subscribe else ""
            print(f"  {feed.content_type}: {span}, {_slices([feed])} slices to list{start}", file=out)
        for content_type, stretches in plan.lost.items():
            for s in stretches:
                print(f"  {content_type}: {format_utc(s.start)} to {format_utc(s.end)} is older than kept", file=out)
    print("dry run: nothing was started, listed or landed", file=out)
    return 1 if any(plan.failures for plan in plans) else 0


def _run_plans(plans: Sequence[TenantPlan], summary: Summary, beam_args: Sequence[str]) -> Summary:
    started = time.monotonic()
    prepare(plans)
    for plan in plans:
        add_failures(summary, plan.failures)
        if plan.subscribe:
            summary.subscribed.append(f"{plan.connection.name}: {', '.join(plan.subscribe)}")
    _run_graphs([plan.feeds for plan in plans if plan.feeds], summary.run, beam_args)
    summary.seconds = time.monotonic() - started
    for plan in plans:
        ledger = open_tenant(plan.lake, plan.connection.tenant_id).ledger
        vain = add_entries(summary, ledger.entries_after(plan.base))
        gaps = find_gaps(plan.connection.tenant_id, ledger.state, plan.now)
        add_gaps(summary, plan.connection.name, gaps, asked(plan), plan.now, vain)
    return summary


def _run_graphs(tenants: Sequence[Sequence[Feed]], run_id: str, beam_args: Sequence[str]) -> None:
    """Runs the graph over the feeds of tenants: as one job, or as several where the runner takes turns."""
    options = beam_options(beam_args)
    feeds = list(chain.from_iterable(tenants))
    pipelines = []
    for share in _shares(tenants) if takes_turns(options) else [by_age(feeds)]:
        pipelines.append(new_pipeline(beam_args))
        land_feeds(pipelines[-1], share)
    connections = list(dict.fromkeys(f.connection for f in feeds))
    with live_progress(run_id, _slices(feeds), connections) if is_in_process(options) else nullcontext():
        run_together(pipelines)


def _shares(tenants: Sequence[Sequence[Feed]]) -> list[list[Feed]]:
    """Shares feeds out among jobs: by their tenants, or by the days of the only one."""
    if len(tenants) == 1:
        days = by_age(tenants[0])
        return [days[n::_AT_ONCE_OF_ONE] for n in range(min(_AT_ONCE_OF_ONE, len(days)))]
    return [by_age(chain.from_iterable(tenants[n::_AT_ONCE])) for n in range(min(_AT_ONCE, len(tenants)))]


def _slices(feeds: Sequence[Feed]) -> int:
    return sum(int(GridProvider().initial_restriction(f).size()) for f in feeds)


def asked(plan: TenantPlan) -> dict[str, TimeRange]:
    """Gives the stretch of each content type that a plan is to make complete."""
    return {
        f.content_type: TimeRange(
            min([f.time_range.start, *(s.start for s in plan.lost.get(f.content_type, []))]), f.time_range.end
        )
        for f in plan.feeds
    }


def _is_misconfigured(plan: TenantPlan) -> bool:
    return any(f.content_type is None and f.is_config for f in plan.failures)
