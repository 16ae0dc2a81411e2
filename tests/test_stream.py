"""`auditlake stream`: six hours of it with what goes wrong, how it stops, and what does not stop it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from starlette.requests import Request
from starlette.responses import Response

from emulator.clock import Clock
from emulator.server import Emulator, running
from emulator.tenant import Answer
from lake.tenant import open_tenant
from tests.commands import auditlake_here, environment, rows_here
from tests.runners.landed import records
from tests.streams import Watcher, stream_here, until
from tests.test_settling import add_blob, landed
from transforms.backlog import quantile

START = (datetime.now(UTC) - timedelta(days=20)).replace(minute=20, second=0, microsecond=0)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
RARELY = ("--poll-interval", "150s")
ONE_TYPE = ("--content-types", "Audit.Exchange")


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with running(count=0, clock=Clock(START)) as emulator:
        yield emulator


def verified(lake: Path) -> bool:
    return auditlake_here("verify", "--lake", lake, env=environment(), cwd=lake.parent).returncode == 0


def watcher(emu: Emulator, lake: Path, seen: dict[str, datetime]) -> Watcher:
    """Notes by the service's clock when a blob can be queried at the latest."""

    def watch() -> None:
        state = open_tenant(str(lake), emu.tenants[0].tenant_id).ledger.state
        for content_id in state.blobs:
            if state.has_landed(content_id):
                seen.setdefault(content_id, emu.clock.now())

    return watch


def command(lake: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", "stream", "--lake", str(lake), *words]


def test_six_hours_with_late_blobs_throttling_restarts_and_a_kill_land_every_record_once(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nwhat = "throttled"\nretry_after = 1\nshare = 0.01\nwhere = ["content", "blob"]\n')
    lake, random, seen = tmp_path / "lake", Random(6), dict[str, datetime]()
    types = ("Audit.Exchange", "DLP.All")
    words = ("--content-types", ",".join(types))
    with running(count=0, clock=Clock(START), faults=script) as emu:
        available = {}
        for number in range(360):
            created = START + timedelta(minutes=number, seconds=random.randrange(60))
            late = timedelta(minutes=random.randrange(1, 90)) if random.random() < 0.2 else timedelta(0)
            appears = min(created + late, START + 6 * HOUR - MINUTE)
            available[add_blob(emu.tenants[0], number, created, appears, types[number % 2])] = appears
        watch = watcher(emu, lake, seen)
        coarse = (*words, "--poll-interval", "20m")
        assert stream_here(emu, lake, *coarse, pause=until(emu, START + 2 * HOUR, watch)).returncode == 0
        assert len(landed(lake)) > 80
        assert stream_here(emu, lake, *coarse, pause=until(emu, START + 3 * HOUR, watch)).returncode == 0
        before = entries(lake)
        emu.clock.advance(HOUR.total_seconds())
        env = environment(emu)
        with subprocess.Popen(command(lake, *words, "--poll-interval", "1s"), env=env, cwd=tmp_path) as killed:
            while entries(lake) < before + 2 and killed.poll() is None:
                time.sleep(0.01)
            killed.kill()
        assert stream_here(emu, lake, *coarse, pause=until(emu, START + 5.6 * HOUR, watch)).returncode == 0
        began = emu.clock.now()
        assert stream_here(emu, lake, *words, pause=until(emu, START + 6 * HOUR + MINUTE, watch)).returncode == 0
        assert landed(lake) == set(available)
        here = ("backfill", "--lake", tmp_path / "here", "--start", "-1d", *words)
        assert auditlake_here(*here, env=environment(emu), cwd=tmp_path).returncode == 0
    assert records(lake) == records(tmp_path / "here")
    fresh = sorted((seen[i] - at).total_seconds() for i, at in available.items() if at > began)
    assert len(fresh) > 8
    assert quantile(fresh, 0.95) <= 60, "at the default poll interval"
    assert rows_here(lake, "select count(*) as n, count(distinct Id) as ids from audit") == [{"n": 360, "ids": 360}]
    assert verified(lake)


def entries(lake: Path) -> int:
    return len(list(lake.glob("_ledger/*/entries/*.json")))


def test_signal_lets_the_round_under_way_land_and_ends_with_a_summary(emu: Emulator, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    expected = {add_blob(emu.tenants[0], n, START - n * MINUTE) for n in range(1, 9)}

    async def stop_at_the_first_blob(request: Request, answer: Answer) -> Response:
        if "/audit/" in request.url.path:
            emu.state.hook = None
            os.kill(os.getpid(), signal.SIGTERM)
        return await answer(request)

    emu.state.hook = stop_at_the_first_blob
    done = stream_here(emu, lake, *ONE_TYPE)
    assert done.returncode == 0
    assert landed(lake) == expected
    assert "8 landed" in done.stdout
    assert "stopping when what is under way has landed" in done.stderr


def test_second_signal_ends_it_at_once_and_the_next_start_lands_the_rest(emu: Emulator, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    expected = {add_blob(emu.tenants[0], n, START - n * MINUTE) for n in range(1, 9)}
    asked = []

    async def never(request: Request, answer: Answer) -> Response:
        if "/audit/" in request.url.path:
            asked.append(request.url.path)
            return Response(status_code=503, headers={"Retry-After": "15"})
        return await answer(request)

    emu.state.hook = never
    with subprocess.Popen(
        command(lake, *ONE_TYPE), env=environment(emu), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        while not asked and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        while "stopping when" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 128 + signal.SIGINT
    emu.state.hook = None
    assert landed(lake) == set()
    assert stream_here(emu, lake, *ONE_TYPE, "--polls", "1").returncode == 0
    assert landed(lake) == expected
    assert verified(lake)


def test_backlog_is_drained_without_waiting_for_polls_and_fresh_blobs_do_not_wait_for_it(
    emu: Emulator, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    old = [add_blob(emu.tenants[0], n, START - 2 * timedelta(days=1) + n * timedelta(seconds=1)) for n in range(250)]
    fresh = add_blob(emu.tenants[0], 999, START - MINUTE)
    done = stream_here(emu, lake, *ONE_TYPE, "--json", "--polls", "1")
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["blobs"].get("landed") for r in rounds] == [201, 251, 251]
    assert rounds[0]["backlog_blobs"] == 50
    assert landed(lake) == {*old, fresh}


def test_blob_that_fails_is_tried_again_later_and_holds_nobody_up(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    bad, good = add_blob(tenant, 1, START - MINUTE), add_blob(tenant, 2, START - MINUTE)
    blob = tenant.by_id.pop(bad)  # listed, and then AF20050

    def heal() -> None:
        if emu.clock.now() > START + 5 * MINUTE:
            tenant.by_id[bad] = blob

    done = stream_here(emu, lake, *ONE_TYPE, "--json", pause=until(emu, START + 10 * MINUTE, heal))
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert rounds[0]["blobs"] == {"landed": 1, "failed": 1}
    assert rounds[0]["oldest_unfetched_expires"]
    assert rounds[-2]["blobs"]["landed"] == 2
    assert rounds[-2]["blobs"]["failed"] <= 4, "at growing intervals"
    assert landed(lake) == {bad, good}


def test_idle_stream_writes_little_and_a_token_that_ends_does_not_matter(emu: Emulator, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    emu.state.token_lifetime_s = 300
    done = stream_here(emu, lake, *ONE_TYPE, *RARELY, pause=until(emu, START + 45 * MINUTE))
    assert done.returncode == 0
    assert entries(lake) <= 1 + 45 // 5 + 1, "a poll that finds nothing is noted now and then"
    assert json.loads(sorted(lake.glob("_ledger/*/entries/*.json"))[-1].read_text())["kind"] == "listing"


def test_service_that_is_away_is_said_once_and_made_up_for(emu: Emulator, tmp_path: Path) -> None:
    lake, content_id = tmp_path / "lake", add_blob(emu.tenants[0], 1, START + 3 * MINUTE)

    async def refuse(request: Request, answer: Answer) -> Response:
        if request.url.path.endswith("/subscriptions/content") and emu.clock.now() < START + 20 * MINUTE:
            return Response(b'{"error":{"code":"AF10001","message":"no"}}', 401)
        return await answer(request)

    emu.state.hook = refuse
    done = stream_here(emu, lake, *ONE_TYPE, *RARELY, pause=until(emu, START + 40 * MINUTE))
    assert done.returncode == 0
    assert done.stderr.count("AF10001") == 1
    assert landed(lake) == {content_id}
    slices = rows_here(lake, "select count(*) as n from ledger_slices where outcome <> 'listed'")
    assert slices == [{"n": 0}]


def test_lake_that_is_away_is_said_once_and_made_up_for(emu: Emulator, tmp_path: Path) -> None:
    lake, away = tmp_path / "lake", tmp_path / "away"
    content_id = add_blob(emu.tenants[0], 1, START + 3 * MINUTE)

    def unmount() -> None:
        elapsed = emu.clock.now() - START
        if MINUTE < elapsed < 10 * MINUTE and not away.exists():
            lake.rename(away)
            lake.write_text("in the way")
        elif elapsed > 10 * MINUTE and away.exists():
            lake.unlink()
            away.rename(lake)

    done = stream_here(emu, lake, *ONE_TYPE, pause=until(emu, START + 25 * MINUTE, unmount))
    assert done.returncode == 0
    assert len([line for line in done.stderr.splitlines() if "auditlake: " in line and "in the way" not in line]) <= 4
    assert landed(lake) == {content_id}


def test_feed_that_is_refused_does_not_stop_the_others(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    content_id = add_blob(tenant, 1, START - MINUTE)
    tenant.app.roles = ["ActivityFeed.Read"]
    done = stream_here(emu, lake, "--content-types", "Audit.Exchange,DLP.All", "--polls", "1")
    assert done.returncode == 0
    assert "DLP.All" in done.stderr
    assert "ActivityFeed.ReadDlp" in done.stderr
    assert landed(lake) == {content_id}


def test_clock_that_is_set_back_costs_no_blob_and_no_wait(emu: Emulator, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    emu.clock.advance(2 * HOUR.total_seconds())
    content_id = add_blob(emu.tenants[0], 1, START + 20 * MINUTE)
    stepped: list[datetime] = []

    def step_back() -> None:
        if not stepped:
            stepped.append(emu.clock.now())
            emu.tenants[0].by_id[content_id].available_at = START + 30 * MINUTE
            emu.clock.set(START)

    done = stream_here(emu, lake, *ONE_TYPE, *RARELY, pause=until(emu, START + 35 * MINUTE, step_back))
    assert done.returncode == 0
    assert landed(lake) == {content_id}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--poll-interval", "0s"), "--poll-interval '0s'"),
        (("--poll-interval", "soon"), "expected seconds or minutes"),
        (("--polls", "0"), "expected a number of 1 or more"),
        (("--metrics-port", "nowhere"), "expected a port or HOST:PORT"),
        (("--runner", "NoRunner"), "NoRunner"),
        (("--pol", "3"), "unknown option"),
    ],
)
def test_wrong_use_is_said_in_a_sentence_with_exit_code_2(
    words: tuple[str, ...], said: str, emu: Emulator, tmp_path: Path
) -> None:
    done = auditlake_here("stream", "--lake", tmp_path / "lake", *words, env=environment(emu), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1 or "started subscriptions" in done.stderr


def test_wrong_secret_ends_it_with_exit_code_2(emu: Emulator, tmp_path: Path) -> None:
    env = environment(emu, AUDITLAKE_CLIENT_SECRET="wrong")
    done = auditlake_here("stream", "--lake", tmp_path / "lake", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "client secret is wrong" in done.stderr


def test_small_files_of_days_that_are_over_are_compacted_between_polls(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    files = "select count(*) as n from ledger_files where \"table\" = 'exchange_mailbox' and date = '2026-11-20'"
    with running(count=0, clock=Clock(datetime(2026, 12, 1, tzinfo=UTC))) as emu:
        for number in range(3):
            add_blob(emu.tenants[0], number, emu.clock.now() - MINUTE)
            assert stream_here(emu, lake, *ONE_TYPE, "--polls", "1").returncode == 0
            assert rows_here(lake, files) == [{"n": 1}]
        assert rows_here(lake, "select count(*) as n from audit") == [{"n": 3}]
    assert verified(lake)
