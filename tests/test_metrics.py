"""What a person watches of a stream: /metrics, /healthz, the dashboard, the line on a terminal."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.clock import Clock
from emulator.server import Emulator, running
from pipeline import watch
from pipeline.metrics import render, serving
from pipeline.summary import Summary
from pipeline.watch import FeedFigures, Figures, Watch
from tests.commands import ROOT
from tests.streams import stream_here, until
from tests.test_settling import add_blob
from transforms.backlog import LAGS_KEPT, Lags, quantile

START = (datetime.now(UTC) - timedelta(days=20)).replace(minute=20, second=0, microsecond=0)
MINUTE = timedelta(minutes=1)
SAMPLE = re.compile(r'(auditlake_[a-z0-9_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})? -?[0-9.e+-]+')


@pytest.fixture
def emu() -> Iterator[Emulator]:
    with running(count=0, clock=Clock(START)) as emulator:
        yield emulator


def figures(**more: object) -> Figures:
    feed = FeedFigures("contoso", "DLP.All", START, START, **more)  # type: ignore[arg-type]
    summary = Summary("lake", "run")
    summary.blobs["landed"] = 3
    summary.rows["dlp"] = 7
    return Figures(START + MINUTE, [feed], summary, {"contoso": 0.25})


def full() -> Figures:
    return figures(
        backlog_blobs=2,
        failed_blobs=1,
        oldest="id-1",
        oldest_created=START - 60 * MINUTE,
        oldest_expires=START + 60 * MINUTE,
        waiting_since=START,
        lag_p50_s=12.5,
        lag_p95_s=40.0,
    )


def test_metrics_are_lines_that_prometheus_reads() -> None:
    text = render(full(), None)
    for line in text.splitlines():
        assert line.startswith(("# HELP auditlake_", "# TYPE auditlake_")) or SAMPLE.fullmatch(line), line
    labels = 'tenant="contoso",content_type="DLP.All"'
    assert f"auditlake_backlog_blobs{{{labels}}} 2\n" in text
    assert f"auditlake_backlog_seconds{{{labels}}} 3660\n" in text
    assert f"auditlake_oldest_unfetched_expires_seconds{{{labels}}} 3540\n" in text
    assert f'auditlake_lag_seconds{{{labels},quantile="0.95"}} 40\n' in text
    assert 'auditlake_quota_used_ratio{tenant="contoso"} 0.25\n' in text
    assert 'auditlake_blobs_total{outcome="landed"} 3\n' in text


def test_names_of_others_cannot_break_a_line() -> None:
    found = full()
    found.feeds[0].tenant = 'a"b\\c\nd'
    assert all(line.startswith("#") or SAMPLE.fullmatch(line) for line in render(found, None).splitlines())


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_quantile_is_a_value_that_the_part_does_not_exceed(values: list[float], part: float) -> None:
    values.sort()
    found = quantile(values, part)
    assert found in values
    assert sum(v <= found for v in values) >= part * len(values) - 1e-9


def test_lags_are_of_the_last_hour_and_of_so_many_blobs_at_most() -> None:
    lags = Lags()
    assert lags.quantiles(START) is None
    lags.add(START, [START - MINUTE])
    lags.add(START + 30 * MINUTE, [START + 29 * MINUTE, START + 20 * MINUTE])
    assert lags.quantiles(START + 60 * MINUTE) == (60.0, 600.0)
    assert lags.quantiles(START + 61 * MINUTE) == (60.0, 600.0)
    lags.add(START + 70 * MINUTE, [START + 68 * MINUTE] * LAGS_KEPT)
    assert lags.quantiles(START + 70 * MINUTE) == (120.0, 120.0)
    assert lags.quantiles(START + 200 * MINUTE) is None


def test_queries_of_the_dashboard_name_metrics_and_labels_that_exist() -> None:
    text = render(full(), None)
    families = set(re.findall(r"# TYPE (\w+)", text))
    labels = set(re.findall(r'[{,](\w+)="', text))
    dashboard = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
    queries = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    assert queries
    named = {name for query in queries for name in re.findall(r"auditlake_\w+", query)}
    assert named <= families
    assert families - named <= {"auditlake_files_total", "auditlake_duplicates_total", "auditlake_rejects_total"}
    by = {label for query in queries for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(", ")}
    inside = {label for query in queries for label in re.findall(r"[{,](\w+)=", query)}
    assert by | inside <= labels


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_healthz_tells_live_and_behind_apart(emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_blob(emu.tenants[0], 1, START - MINUTE)
    bad = add_blob(emu.tenants[0], 2, START - MINUTE)
    emu.tenants[0].by_id.pop(bad)  # listed, and then AF20050
    told: list[tuple[int, str]] = []
    pages: list[str] = []
    kept: list[Watch] = []
    real = watch.Watch.__init__

    def keep(self: Watch, *args: object, **more: object) -> None:
        kept.append(self)
        real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(watch.Watch, "__init__", keep)

    def ask() -> None:
        with serving(kept[0], "0") as address:
            told.append(get(f"{address}/healthz"))
            pages.append(get(f"{address}/metrics")[1])

    words = ("--content-types", "Audit.Exchange", "--poll-interval", "5m")
    stream_here(emu, tmp_path / "lake", *words, pause=until(emu, START + 75 * MINUTE, ask))
    assert told[0] == (200, "live\n")
    status, reason = told[-1]
    assert status == 503
    assert bad in reason
    assert "auditlake_behind 0" in pages[0]
    assert "auditlake_behind 1" in pages[-1]
    assert 'auditlake_failed_blobs{tenant="' in pages[0]


def test_feed_that_is_listed_no_more_is_behind() -> None:
    found = figures()
    found.at = START + 20 * MINUTE
    stand_in = Watch.__new__(Watch)
    stand_in._interval = timedelta(seconds=30)
    assert "was last listed at" in (stand_in.behind(found) or "")
    found.at = START + 10 * MINUTE
    assert stand_in.behind(found) is None
    found.feeds[0].last_listed = None
    assert "was never listed" in (stand_in.behind(found) or "")


def test_line_for_a_terminal_names_what_a_person_watches() -> None:
    shown = watch.line(full())
    assert "backlog 2 blobs, 1.0 h  lag p50 12 s p95 40 s  quota 25 %  failed 1" in shown


def test_body_that_stayed_unreadable_until_it_expired_is_not_waited_for(tmp_path: Path) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[fault]]\nwhat = "wrong_shape"\nwhere = "blob"\n')
    words = ("--content-types", "Audit.Exchange", "--json", "--polls", "1")
    with running(count=0, clock=Clock(START), faults=script) as emu:
        add_blob(emu.tenants[0], 1, START - MINUTE)
        first = stream_here(emu, tmp_path / "lake", *words)
        emu.clock.advance(timedelta(days=8).total_seconds())
        later = stream_here(emu, tmp_path / "lake", *words)
    waiting = [json.loads(done.stdout.splitlines()[0])["backlog_blobs"] for done in (first, later)]
    assert waiting == [1, 0]
