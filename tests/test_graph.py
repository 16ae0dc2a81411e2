"""The source by hand, as a runner drives it, and the graph in this process."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from apache_beam.utils.timestamp import Timestamp

from emulator.filling import Shape
from emulator.server import Emulator, running
from lake.tenant import open_tenant
from o365.connection import Connection
from pipeline.graph import land_feeds
from schemas.contract import content_types, time_limit
from schemas.times import TimeRange
from transforms.elements import ContentUnit, Feed
from transforms.grid import GridTracker, tick_range, ticks_of
from transforms.list_content import _ListContentFn
from transforms.lister import UNIT_BLOBS

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def emu() -> Iterator[Emulator]:
    with running(count=4000, shape=Shape(max_records=30), anchor=NOW) as emulator:
        yield emulator


def feed(emu: Emulator, lake: Path, monkeypatch: pytest.MonkeyPatch, content_type: str = "Audit.SharePoint") -> Feed:
    tenant = emu.tenants[0]
    monkeypatch.setenv("GRAPH_SECRET", tenant.client_secret)
    connection = Connection(
        "contoso",
        tenant.tenant_id,
        tenant.client_id,
        api_root=emu.api_root,
        authority=emu.authority,
        ca_file=str(emu.ca_file),
        client_secret_env="GRAPH_SECRET",
    )
    return Feed(connection, content_type, TimeRange(NOW - timedelta(days=6), NOW), str(lake), f"run-{lake.name}")


def drive(
    fn: _ListContentFn, feed: Feed, tracker: GridTracker
) -> tuple[list[ContentUnit], ThreadsafeRestrictionTracker, Timestamp]:
    """Calls process once, as a runner does."""
    safe = ThreadsafeRestrictionTracker(tracker)
    start = Timestamp.of(tick_range(tracker.current_restriction().start).start.timestamp())
    watermark = ThreadsafeWatermarkEstimator(ManualWatermarkEstimator(start))
    stamped = list(fn.process(feed, RestrictionTrackerView(safe), watermark))
    safe.check_done()
    return [s.value for s in stamped], safe, watermark.current_watermark()


def listed(emu: Emulator, content_type: str, time_range: TimeRange) -> set[str]:
    blobs = emu.tenants[0].blobs[content_type]
    return {b.content_id for b in blobs if time_range.start <= b.created < time_range.end}


def test_source_emits_every_blob_once_in_units_and_raises_the_watermark_behind_them(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = feed(emu, tmp_path, monkeypatch)
    whole = ticks_of(source.time_range)
    units, _, watermark = drive(_ListContentFn(), source, GridTracker(whole))
    ids = [b.content_id for u in units for b in u.blobs]
    covered = TimeRange(tick_range(whole.start).start, tick_range(whole.stop - 1).end)
    assert sorted(ids) == sorted(listed(emu, "Audit.SharePoint", covered))
    assert all(len(u.blobs) <= UNIT_BLOBS for u in units)
    assert watermark == Timestamp.of(covered.end.timestamp())
    state = open_tenant(str(tmp_path), source.connection.tenant_id).ledger.state
    assert set(state.blobs) == set(ids), "the ledger names them before any is fetched"
    assert len(state.slices) == whole.size()


def test_residual_goes_on_where_a_split_left_off(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = feed(emu, tmp_path, monkeypatch)
    tracker = GridTracker(ticks_of(source.time_range))
    tracker.try_claim(tracker.current_restriction().start)
    primary, residual = tracker.try_split(0.5)
    ids = []
    for part in (primary, residual):
        units, _, _ = drive(_ListContentFn(), source, GridTracker(part))
        ids += [b.content_id for u in units for b in u.blobs]
    assert len(ids) == len(set(ids))
    start, stop = tick_range(primary.start).start, tick_range(residual.stop - 1).end
    assert set(ids) == listed(emu, "Audit.SharePoint", TimeRange(start, stop))


def test_lost_claim_emits_nothing(emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = feed(emu, tmp_path, monkeypatch)
    start = ticks_of(source.time_range).start
    units, _, _ = drive(_ListContentFn(), source, GridTracker(type(ticks_of(source.time_range))(start, start)))
    assert units == []
    assert open_tenant(str(tmp_path), source.connection.tenant_id).ledger.state.version == 0


def test_feed_that_cannot_be_listed_is_recorded_with_its_cause(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = feed(emu, tmp_path, monkeypatch, "DLP.All")
    app = emu.tenants[0].app
    monkeypatch.setattr(app, "roles", ["ActivityFeed.Read"])
    monkeypatch.setattr("o365.clients._CLIENTS", {})
    units, _, _ = drive(_ListContentFn(), source, GridTracker(ticks_of(source.time_range)))
    state = open_tenant(str(tmp_path), source.connection.tenant_id).ledger.state
    assert units == []
    assert {s.outcome for s in state.slices.values()} == {"unlisted"}
    assert all("ActivityFeed.ReadDlp" in (s.cause or "") for s in state.slices.values())


def test_graph_lands_all_feeds_and_counts_as_beam_metrics(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = [feed(emu, tmp_path, monkeypatch, name) for name in content_types()]
    p = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner", "--no_save_main_session"]))
    land_feeds(p, feeds)
    result = p.run()
    result.wait_until_finish()
    counted = {c.key.metric.name: 0 for c in result.metrics().query()["counters"]}
    for c in result.metrics().query()["counters"]:
        counted[c.key.metric.name] += c.committed
    state = open_tenant(str(tmp_path), feeds[0].connection.tenant_id).ledger.state
    assert counted["blobs_landed"] == counted["blobs_listed"] == len(state.blobs)
    assert counted["records_decoded"] == counted["rows_landed"] + counted["records_repeated"]
    assert counted["rows_landed"] == sum(f.ref.rows for f in state.files.values())


@pytest.mark.parametrize(("asked_back", "lost_minutes"), [(timedelta(days=7), 0), (timedelta(days=7, minutes=50), 51)])
def test_oldest_tick_is_listed_as_far_as_the_service_keeps_it_and_the_rest_is_named(
    asked_back: timedelta, lost_minutes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = NOW.replace(minute=55, second=0)
    with running(count=4000, anchor=now, shape=Shape(days=7.1, max_records=10)) as emu:
        source = replace(feed(emu, tmp_path, monkeypatch), time_range=TimeRange(now - asked_back, now))
        # A service that keeps to its word, without the hour of grace that was observed.
        monkeypatch.setattr("emulator.window.time_limit", lambda n: time_limit(n) * (n != "retention_grace"))
        first = ticks_of(source.time_range).start
        drive(
            _ListContentFn(clock=lambda: now), source, GridTracker(type(ticks_of(source.time_range))(first, first + 1))
        )
    state = open_tenant(str(tmp_path), source.connection.tenant_id).ledger.state
    lost = [s for s in state.slices.values() if s.outcome == "lost"]
    assert [(s.end - s.start) // timedelta(minutes=1) for s in lost] == ([lost_minutes] if lost_minutes else [])
