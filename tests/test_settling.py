"""Late blobs, open and closed slices, and gaps that heal: runs of the command, with the service's clock moved on."""

import errno
import itertools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emulator.clock import Clock
from emulator.content import make_blob
from emulator.server import Emulator, running
from emulator.tenant import Tenant
from lake.entries import Landing
from lake.ledger import read_entries
from lake.storage import open_storage
from tests.commands import auditlake_here as auditlake
from tests.commands import environment
from tests.commands import rows_here as rows
from tests.lake_records import record

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(minute=20, second=0, microsecond=0)


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with running(count=0, clock=Clock(NOW)) as emulator:
        yield emulator


def add_blob(
    tenant: Tenant,
    number: int,
    created: datetime,
    available: datetime | None = None,
    content_type: str = "Audit.Exchange",
) -> str:
    lines = [json.dumps(record(number)).encode()]
    blob = make_blob(
        content_type, lines, created, number=number, datacentre="emea0036", available_at=available or created
    )
    tenant.add([blob])
    return blob.content_id


def run(emu: Emulator, lake: Path, *words: str, code: int = 0, content_types: str = "Audit.Exchange") -> dict[str, Any]:
    more = ("--content-types", content_types, "--json")
    done = auditlake("backfill", "--lake", lake, *words, *more, env=environment(emu), cwd=lake.parent)
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def landed(lake: Path) -> set[str]:
    return {r["content_id"] for r in rows(lake, "select content_id from ledger_blobs where status = 'landed'")}


@pytest.mark.parametrize("late_by", [timedelta(minutes=50), timedelta(hours=5), timedelta(hours=40), timedelta(days=4)])
def test_blob_that_appears_behind_the_frontier_is_found_by_a_later_run(
    late_by: timedelta, emu: Emulator, tmp_path: Path
) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    created = NOW - HOUR
    first = add_blob(tenant, 1, created)
    late = add_blob(tenant, 2, created + timedelta(minutes=1), created + late_by)
    run(emu, lake)
    assert landed(lake) == ({first, late} if late_by < HOUR else {first})
    while emu.clock.now() < created + late_by + timedelta(days=2.5):
        emu.clock.advance(timedelta(hours=20).total_seconds())
        run(emu, lake)
    assert landed(lake) == {first, late}
    assert auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0


def test_slice_closes_when_nothing_new_came_after_the_horizon_and_is_not_listed_again(
    emu: Emulator, tmp_path: Path
) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    add_blob(tenant, 1, NOW - 70 * HOUR)
    add_blob(tenant, 2, NOW - 60 * HOUR)
    run(emu, lake, "--start", "-72h")
    closed = "select count(*) as n from ledger_slices where closed"
    assert rows(lake, closed) == [{"n": 0}], "one listing alone tells nothing new from nothing"
    late = add_blob(tenant, 3, NOW - 65 * HOUR)
    assert run(emu, lake)["slices"] == 73
    # Of the 73 ticks 24 ended 48 hours ago, and one of them held something new.
    assert rows(lake, closed) == [{"n": 24 - 1}]
    assert late in landed(lake)
    assert run(emu, lake)["slices"] == 73 - 23
    assert rows(lake, closed) == [{"n": 24}]
    assert run(emu, lake)["slices"] == 73 - 24
    assert run(emu, lake, "--start", "-72h")["slices"] == 73, "who names a start gets all of it listed"


def test_settle_horizon_is_set_by_content_type(emu: Emulator, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    words = ("--start", "-12h", "--settle", "Audit.Exchange=6h,DLP.All=3d")
    run(emu, lake, *words)
    run(emu, lake, *words)
    assert rows(lake, "select count(*) as n from ledger_slices where closed") == [{"n": 6}]


def test_outage_of_the_collector_is_made_up_for(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    expected = {add_blob(tenant, n, NOW + timedelta(hours=5 * n)) for n in range(8)}
    run(emu, lake, "--start", "-2h")
    emu.clock.advance(timedelta(hours=40).total_seconds())
    run(emu, lake)
    assert landed(lake) == expected


def test_outage_longer_than_the_service_remembers_is_named_once_and_stays_a_gap(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    run(emu, lake, "--start", "-2h")
    emu.clock.advance(timedelta(days=9).total_seconds())
    add_blob(tenant, 1, NOW + timedelta(days=8))
    told = run(emu, lake, code=1)
    assert len([m for m in told["missing"] if ": lost " in m]) == 1
    assert run(emu, lake)["missing"] == []
    done = auditlake("gaps", "--lake", lake, "--json", env=environment(), cwd=tmp_path)
    assert done.returncode == 1
    assert [g["kind"] for g in json.loads(done.stdout)] == ["lost"]


def test_failed_blob_is_a_gap_that_heals(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    bad, good = add_blob(tenant, 1, NOW - 30 * HOUR), add_blob(tenant, 2, NOW - 29 * HOUR)
    blob = tenant.by_id.pop(bad)  # listed, and then AF20050
    told = run(emu, lake, "--start", "-40h", code=1)
    assert [m for m in told["missing"] if bad in m]
    done = auditlake("gaps", "--lake", lake, env=environment(), cwd=tmp_path)
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "auditlake backfill --gaps" in done.stdout
    tenant.by_id[bad] = blob
    healed = run(emu, lake, "--gaps")
    assert healed["slices"] == 1, "the hour that is not over; of the others only the blob that failed is asked for"
    assert landed(lake) == {bad, good}
    assert "no gaps" in auditlake("gaps", "--lake", lake, env=environment(), cwd=tmp_path).stdout


def test_slice_that_cannot_be_listed_again_is_missing_though_an_earlier_run_had_listed_it(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nwhat = "af"\nwhere = "content"\ncode = "AF20030"\nfrom_hours = 1\nuntil_hours = 2\n')
    lake = tmp_path / "lake"
    with running(count=0, clock=Clock(NOW), faults=script) as emu:
        blob = add_blob(emu.tenants[0], 1, NOW - 3 * HOUR, available=NOW + HOUR)
        assert run(emu, lake, "--start", "-5h")["missing"] == []
        emu.clock.advance(1.5 * 3600)
        (sentence,) = run(emu, lake, "--start", "-6h", "--end", "-2h", code=1)["missing"]
        emu.clock.advance(3600)
        assert run(emu, lake, "--start", "-7h")["missing"] == []
    assert "not listed again" in sentence
    assert "AF20030" in sentence
    assert landed(lake) == {blob}


def test_gap_between_two_runs_heals(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    add_blob(tenant, 1, NOW - 30 * HOUR)
    run(emu, lake, "--start", "-40h", "--end", "-36h")
    run(emu, lake, "--start", "-20h")
    done = auditlake("gaps", "--lake", lake, "--json", env=environment(), cwd=tmp_path)
    assert [g["kind"] for g in json.loads(done.stdout)] == ["never listed"]
    healed = run(emu, lake, "--gaps")
    assert healed["slices"] == 15 + 1, "those between, and the hour that is not over"
    assert healed["missing"] == []
    assert auditlake("gaps", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0


def test_blob_that_was_listed_is_fetched_as_long_as_it_lives_though_its_slice_cannot_be_listed_any_more(
    emu: Emulator, tmp_path: Path
) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    content_id = add_blob(tenant, 1, NOW - HOUR)
    blob = tenant.by_id.pop(content_id)
    blob.expiration = NOW + timedelta(days=20)
    run(emu, lake, "--start", "-2h", code=1)
    emu.clock.advance(timedelta(days=9).total_seconds())
    tenant.by_id[content_id] = blob
    told = run(emu, lake, code=1)
    assert landed(lake) == {content_id}
    assert all(": lost " in m or ": unsettled " in m for m in told["missing"]), "the blob is not among them"


def test_what_ages_out_within_a_day_is_warned_of(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    content_id = add_blob(tenant, 1, NOW - timedelta(days=6.5))
    tenant.by_id.pop(content_id)
    told = run(emu, lake, "--start", "-7d", code=1)
    (warning,) = told["expiring"]
    assert "it can be had until" in warning


def test_damaged_body_is_fetched_again_and_a_lasting_one_is_kept_whole(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text(
        '[[fault]]\nwhat = "invalid_json"\nwhere = "blob"\nfirst = 1\ncontent_type = "Audit.Exchange"\n'
        '[[fault]]\nwhat = "wrong_shape"\nwhere = "blob"\ncontent_type = "DLP.All"\n'
    )
    lake, types = tmp_path / "lake", "Audit.Exchange,DLP.All"
    with running(count=0, clock=Clock(NOW), faults=script) as emu:
        tenant = emu.tenants[0]
        healed = add_blob(tenant, 1, NOW - HOUR)
        lasting = add_blob(tenant, 2, NOW - HOUR, content_type="DLP.All")
        told = run(emu, lake, "--start", "-2h", code=1, content_types=types)
        assert [m for m in told["missing"] if lasting in m and "unreadable" in m]
        assert landed(lake) == {healed}
        kept = rows(lake, "select position, data from rejected")
        assert [(r["position"], json.loads(r["data"])["value"]) for r in kept] == [(-1, [record(2)])]
        emu.state.hook = None
        run(emu, lake, content_types=types)
    assert landed(lake) == {healed, lasting}
    assert rows(lake, "select position from rejected") == []
    assert auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0


def test_verify_against_the_service_names_blobs_that_the_ledger_does_not_know(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    env = environment(emu, AUDITLAKE_CONTENT_TYPES="Audit.Exchange,DLP.All")
    words = ("verify", "--lake", lake, "--against-service")
    add_blob(tenant, 1, NOW - 30 * HOUR)
    run(emu, lake, content_types="Audit.Exchange,DLP.All")
    done = auditlake(*words, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "the service lists 1 blobs, and the ledger knows each of them" in done.stdout
    unknown = {add_blob(tenant, 2, NOW - 100 * HOUR), add_blob(tenant, 3, NOW - 2 * HOUR, content_type="DLP.All")}
    emu.clock.advance(120)
    newer = add_blob(tenant, 4, emu.clock.now() - timedelta(seconds=60))
    done = auditlake(*words, "--json", env=env, cwd=tmp_path)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["service_listed"], told["service_newer"], len(told["problems"])) == (4, 1, 2)
    assert all(any(content_id in p["what"] for p in told["problems"]) for content_id in unknown)
    assert newer not in done.stdout
    run(emu, lake, "--start", "-7d", content_types="Audit.Exchange,DLP.All")
    assert auditlake(*words, env=env, cwd=tmp_path).returncode == 0


def test_verify_against_a_service_that_refuses_says_why(emu: Emulator, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    run(emu, lake, "--start", "-2h")
    env = environment(emu, AUDITLAKE_CLIENT_SECRET="wrong")
    done = auditlake("verify", "--lake", lake, "--against-service", env=env, cwd=tmp_path)
    assert done.returncode == 1
    assert "client secret is wrong" in done.stdout


def test_what_ages_out_first_is_landed_first_whatever_its_feed(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant, types = tmp_path / "lake", emu.tenants[0], "Audit.Exchange,DLP.All"
    for day in range(6):
        for number, content_type in enumerate(types.split(",")):
            created = NOW - timedelta(days=day + 0.4, hours=number)
            add_blob(tenant, 10 * day + number, created, content_type=content_type)
    run(emu, lake, "--start", "-7d", content_types=types)
    entries = read_entries(open_storage(str(lake)), tenant.tenant_id)
    landings = [entry for _, entry in entries if isinstance(entry, Landing)]
    days = [min(b.created for b in entry.blobs).date() for entry in landings]
    assert len(set(days)) > 5
    assert days == sorted(days)


def test_full_disk_is_a_sentence_and_the_next_run_goes_on(
    emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    expected = {add_blob(tenant, n, NOW - n * HOUR) for n in range(1, 40)}
    flush = os.fsync
    for room in (3, 10, 25):
        calls = itertools.count()

        def full(handle: int, calls: Iterator[int] = calls, room: int = room) -> None:
            if next(calls) > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(handle)

        monkeypatch.setattr(os, "fsync", full)
        words = ("backfill", "--lake", lake, "--start", "-3d", "--content-types", "Audit.Exchange")
        done = auditlake(*words, env=environment(emu), cwd=tmp_path)
        assert done.returncode in (1, 2), done.stdout
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
    monkeypatch.setattr(os, "fsync", flush)
    run(emu, lake, "--start", "-3d")
    assert landed(lake) == expected
    assert auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0


def test_clock_of_this_machine_does_not_matter(emu: Emulator, tmp_path: Path) -> None:
    lake, tenant = tmp_path / "lake", emu.tenants[0]
    expected = set()
    for number, days in enumerate((-30, 20, -3, 400)):
        emu.clock.set(NOW + timedelta(days=days))
        expected.add(add_blob(tenant, number, emu.clock.now() - HOUR))
        done = auditlake(
            "backfill",
            "--lake",
            lake,
            "--start",
            "-2h",
            "--content-types",
            "Audit.Exchange",
            env=environment(emu),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert landed(lake) == expected
    assert auditlake("verify", "--lake", lake, env=environment(), cwd=tmp_path).returncode == 0
