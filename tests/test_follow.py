"""The open source by hand, as a runner drives it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from apache_beam.io.restriction_trackers import OffsetRange
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from apache_beam.utils.timestamp import Timestamp

from emulator.clock import Clock
from emulator.server import Emulator, running
from lake.entries import LISTED, LOST, Listing, Slice
from lake.tenant import open_tenant
from o365.connection import Connection
from pipeline.graph import follow_feeds
from pipeline.runners import new_pipeline
from schemas.times import TimeRange
from tests.commands import ROOT, forget
from tests.test_settling import add_blob
from transforms.elements import Feed, Follow
from transforms.follow_content import _OpenFollowFn, poll
from transforms.grid import TICK, tick_of, tick_range
from transforms.polls import OPEN, FollowWatermark, PollTracker, poll_of, poll_time, timestamp

START = (datetime.now(UTC) - timedelta(days=20)).replace(minute=20, second=0, microsecond=0)
INTERVAL = timedelta(seconds=30)
HOUR = timedelta(hours=1)
FIGURES = (
    "backlog_blobs",
    "backlog_seconds",
    "oldest_unfetched_age_seconds",
    "oldest_unfetched_expires_seconds",
    "lag_p50_seconds",
    "lag_p95_seconds",
)


@dataclass
class Driver:
    """Calls process as a runner does, and keeps what it would keep: restriction and watermark."""

    follow: Follow
    emu: Emulator
    restriction: OffsetRange
    watermark: Timestamp
    delay_s: float | None = None

    def wake(self) -> list[str]:
        """Wakes the source at the service's time; returns the ids of the blobs that it hands on."""
        safe = ThreadsafeRestrictionTracker(PollTracker(self.restriction))
        estimator = ThreadsafeWatermarkEstimator(ManualWatermarkEstimator(self.watermark))
        fn = _OpenFollowFn(clock=self.emu.clock.now)
        found = []
        for stamped in fn.process(self.follow, RestrictionTrackerView(safe), estimator):
            assert stamped.timestamp >= estimator.current_watermark(), "nothing is late"
            found += [b.content_id for b in stamped.value.blobs]
        safe.check_done()
        self.delay_s = None
        if (deferred := safe.deferred_status()) is not None:
            self.restriction, self.delay_s = deferred[0], float(deferred[1])
        assert estimator.current_watermark() >= self.watermark
        self.watermark = estimator.current_watermark()
        return found


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    forget()
    with running(count=0, clock=Clock(START)) as emu:
        tenant = emu.tenants[0]
        monkeypatch.setenv("FOLLOW_SECRET", tenant.client_secret)
        connection = Connection(
            "contoso",
            tenant.tenant_id,
            tenant.client_id,
            api_root=emu.api_root,
            authority=emu.authority,
            ca_file=str(emu.ca_file),
            client_secret_env="FOLLOW_SECRET",
        )
        feed = Feed(connection, "Audit.Exchange", TimeRange(START - 5 * HOUR, START), str(tmp_path / "lake"), "run")
        follow = Follow(feed, INTERVAL, poll_of(START, INTERVAL), OPEN)
        begin = FollowWatermark().initial_estimator_state(follow, OffsetRange(0, 1))
        yield Driver(follow, emu, OffsetRange(follow.start, OPEN), begin)


def test_poll_hands_on_what_is_new_names_it_in_the_ledger_and_defers_to_the_next_one(driver: Driver) -> None:
    first = add_blob(driver.emu.tenants[0], 1, START - 3 * HOUR)
    assert driver.wake() == [first]
    assert driver.restriction.start == poll_of(START, INTERVAL) + 1
    assert driver.delay_s is not None
    assert 29 < driver.delay_s <= 31
    feed = driver.follow.feed
    state = open_tenant(feed.lake, feed.connection.tenant_id).ledger.state
    assert set(state.blobs) == {first}
    driver.emu.clock.set(poll_time(driver.restriction.start, INTERVAL))
    second = add_blob(driver.emu.tenants[0], 2, START)
    assert driver.wake() == [second], "the first is in flight"


def test_runner_that_wakes_early_gets_no_call_and_is_deferred_again(driver: Driver) -> None:
    driver.wake()
    position = driver.restriction.start
    driver.emu.clock.set(poll_time(position, INTERVAL) - timedelta(seconds=2))
    add_blob(driver.emu.tenants[0], 1, START)
    assert driver.wake() == []
    assert driver.restriction.start == position
    assert driver.delay_s is not None
    assert 1 < driver.delay_s <= 3


def test_missed_polls_are_skipped_and_cost_nothing(driver: Driver) -> None:
    driver.wake()
    driver.emu.clock.advance(timedelta(hours=30).total_seconds())
    content_id = add_blob(driver.emu.tenants[0], 1, START + HOUR)
    assert driver.wake() == [content_id]
    assert driver.restriction.start == poll_of(driver.emu.clock.now(), INTERVAL) + 1


def test_clock_that_is_set_back_costs_at_most_one_interval(driver: Driver) -> None:
    driver.wake()
    driver.emu.clock.set(START - HOUR)
    content_id = add_blob(driver.emu.tenants[0], 1, START - 2 * HOUR)
    position = driver.restriction.start
    assert driver.wake() == [content_id]
    assert driver.restriction.start == position + 1
    assert driver.delay_s is not None
    assert driver.delay_s <= 31


def test_finite_stream_ends_with_its_last_poll_even_if_that_was_missed(driver: Driver) -> None:
    driver.restriction = OffsetRange(driver.follow.start, driver.follow.start + 2)
    driver.wake()
    driver.emu.clock.advance(3600)
    content_id = add_blob(driver.emu.tenants[0], 1, START + HOUR)
    assert driver.wake() == [content_id]
    assert driver.delay_s is None


def test_lost_claim_asks_for_nothing(driver: Driver) -> None:
    driver.restriction = OffsetRange(driver.follow.start, driver.follow.start)
    driver.emu.clock.advance(60)
    add_blob(driver.emu.tenants[0], 1, START - HOUR)
    assert driver.wake() == []


def test_watermark_follows_the_oldest_slice_that_is_open(driver: Driver) -> None:
    driver.follow = replace(driver.follow, feed=replace(driver.follow.feed, settle=2 * HOUR))
    begin = driver.watermark
    driver.wake()
    assert driver.watermark == begin, "a first listing closes nothing: there is none to compare it with"
    driver.emu.clock.advance(20 * 60)
    driver.wake()
    # Those that ended 2 hours ago were listed again and held nothing new; it is 40 past.
    assert driver.watermark == timestamp(tick_range(tick_of(START) - 2).start)
    add_blob(driver.emu.tenants[0], 1, START + timedelta(minutes=1))
    driver.emu.clock.advance(timedelta(hours=3).total_seconds())
    driver.wake()
    held = timestamp(tick_range(tick_of(START)).start)
    assert driver.watermark == held, "its listing found something new: it is listed once more"
    driver.emu.clock.advance(HOUR.total_seconds())
    driver.wake()
    assert driver.watermark > held


def test_what_ages_out_unlisted_is_named_lost_and_does_not_hold_the_watermark_for_ever(driver: Driver) -> None:
    driver.wake()
    driver.emu.clock.advance(timedelta(days=9).total_seconds())
    driver.wake()
    feed = driver.follow.feed
    state = open_tenant(feed.lake, feed.connection.tenant_id).ledger.state
    lost = [s for s in state.slices.values() if s.outcome == LOST]
    assert lost
    oldest = driver.emu.clock.now() - timedelta(days=7, hours=1)
    assert max(s.end for s in lost) - oldest <= TICK
    assert min(s.start for s in lost) - START < timedelta(seconds=2)
    assert driver.watermark >= timestamp(oldest)
    version = state.version
    driver.emu.clock.advance(30)
    driver.wake()
    assert state.version == version, "said once"


def test_restart_goes_on_from_the_ledger(driver: Driver) -> None:
    done = add_blob(driver.emu.tenants[0], 1, START - HOUR)
    driver.wake()
    forget()
    driver.emu.clock.advance(30)
    new = add_blob(driver.emu.tenants[0], 2, START)
    assert set(driver.wake()) == {done, new}, "what has not landed is handed on again"
    feed = driver.follow.feed
    state = open_tenant(feed.lake, feed.connection.tenant_id).ledger.state
    assert {s.outcome for s in state.slices.values()} == {LISTED}


def test_slice_that_another_collector_has_closed_is_not_listed(driver: Driver) -> None:
    feed = driver.follow.feed
    ledger = open_tenant(feed.lake, feed.connection.tenant_id).ledger
    closed = tick_range(tick_of(START) - 4)
    ledger.append(
        lambda _: Listing(
            "other", START, "Audit.Exchange", [Slice(closed.start, closed.end, LISTED, START, closed=True)], []
        )
    )
    late = add_blob(driver.emu.tenants[0], 1, closed.start)
    assert late not in driver.wake()


def test_machine_with_a_wrong_clock_makes_nothing_lost_before_the_service_has_told_its_time(driver: Driver) -> None:
    driver.wake()
    forget()  # as a new worker, whose clock is this machine's until the service has answered
    feed = driver.follow.feed
    polled = poll(driver.follow, INTERVAL)
    state = open_tenant(feed.lake, feed.connection.tenant_id).ledger.state
    assert LOST not in {s.outcome for s in state.slices.values()}
    assert max(s.start for s in state.slices.values()) <= START
    assert timestamp(polled.settled_up_to) <= timestamp(START)


class Guarded(dict[str, None]):
    """What a state says is unsettled, for a thread that must hold the ledger's lock to walk through it."""

    def __init__(self, lock: Any, known: dict[str, None]) -> None:
        super().__init__(known)
        self.lock = lock

    def __iter__(self) -> Iterator[str]:
        assert self.lock._is_owned(), "another thread may change it"
        return super().__iter__()


def test_poll_walks_through_the_ledger_only_while_landing_cannot_change_it(driver: Driver) -> None:
    feed = driver.follow.feed
    add_blob(driver.emu.tenants[0], 1, START)
    ledger = open_tenant(feed.lake, feed.connection.tenant_id).ledger
    ledger.state.unsettled = Guarded(ledger.lock, ledger.state.unsettled)
    assert len(driver.wake()) == 1
    assert len(poll(driver.follow, INTERVAL, driver.emu.clock.now).backlog.waiting) == 1


def test_beam_is_told_what_a_person_watches(driver: Driver) -> None:
    tenant = driver.emu.tenants[0]
    add_blob(tenant, 1, START - timedelta(minutes=3))
    bad = add_blob(tenant, 2, START - timedelta(hours=1))
    tenant.by_id.pop(bad)  # listed, and then AF20050
    first, begun = poll_of(START, INTERVAL), monotonic()
    told: dict[tuple[str, str], Any] = {}
    for _ in range(2):  # the first poll finds the blobs before they have landed
        p = new_pipeline([])
        follow_feeds(p, [replace(driver.follow, start=first, stop=first + 1)], is_open=False)
        found = p.run().metrics().query()
        told |= {(m.key.metric.namespace, m.key.metric.name): m.committed for m in found["gauges"]}
        told |= {("", m.key.metric.name): m.committed for m in found["distributions"]}
    of_feed = f"auditlake.{tenant.tenant_id}.Audit.Exchange"
    values = {name: told[of_feed, name].value for name in FIGURES}
    near = monotonic() - begun + 2  # time goes on meanwhile, and the service tells whole seconds
    assert values.pop("backlog_blobs") == 1
    assert list(values.values()) == pytest.approx([3600, 3600, 7 * 86400 - 3600, 180, 180], abs=near)
    assert told["", "lag_seconds"].count == 1
    assert told["", "lag_seconds"].max == pytest.approx(180, abs=near)
    assert told[f"auditlake.{tenant.tenant_id}", "quota_used_percent"].value >= 0
    page = (ROOT / "docs/streaming.md").read_text()
    for name in (*FIGURES, "lag_seconds", "quota_used_percent"):
        assert f"`{name}`" in page
