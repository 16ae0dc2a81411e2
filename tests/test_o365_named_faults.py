"""Our client against the named fault scripts: it gets all that can be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from pathlib import Path

import pytest

from emulator.fault_answers import FOREIGN_HOST
from emulator.fault_script import script_names
from emulator.filling import Shape
from emulator.server import running
from o365.activity import ActivityClient
from o365.connection import Connection
from o365.errors import FatalError, ListingChangedError, SkippableError
from schemas.contract import content_types
from schemas.feed import ContentBlob
from schemas.times import TimeRange
from tests.emulator_visitor import NOW, Visitor, complaints
from tests.scripted_server import FakeTime


@pytest.fixture(autouse=True)
def no_complaint(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Checks that the server takes no fault for a mistake of its own."""
    yield
    assert complaints(caplog) == []


def client_of(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> ActivityClient:
    monkeypatch.setenv("FAULTS_SECRET", visitor.tenant.client_secret)
    connection = Connection(
        "contoso",
        visitor.tenant.tenant_id,
        visitor.tenant.client_id,
        client_secret_env="FAULTS_SECRET",
        api_root=visitor.emu.api_root,
        authority=visitor.emu.authority,
        ca_file=str(visitor.emu.ca_file),
        timeout_s=5,
    )
    times = FakeTime()
    return ActivityClient(connection, clock=times.clock, sleep=times.sleep, jitter=lambda: 0.5)


def listing(client: ActivityClient, content_type: str, time_range: TimeRange) -> list[ContentBlob]:
    """Lists a range, and again where its pages do not hold together, as callers have to."""
    for _ in range(30):
        try:
            return list(client.list_content(content_type, time_range))
        except ListingChangedError:
            continue
    raise AssertionError("the listing never holds together")


@contextmanager
def named(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Visitor, ActivityClient]]:
    shape = Shape(days=0.9, max_records=20, late=0)
    with running(anchor=NOW, count=1500, page_size=5, shape=shape, faults=Path(name)) as emu:
        visitor = Visitor(emu)
        client = client_of(visitor, monkeypatch)
        client.ensure_subscribed(content_types())
        yield visitor, client
        client.close()


DAY = TimeRange(NOW - timedelta(hours=24), NOW)
HOPELESS = ("expiring", "foreign-pages", "expired-blobs", "gone-blobs", "past-retention")
# One pass cannot have it all: what fails or is missing at first comes later, or has to be asked for again.
LATER = (
    "bad-blobs",
    "emptied-blobs",
    "error-codes",
    "failing-for-hours",
    "flickering-listings",
    "late-blobs",
    "not-found",
    "outage-26-hours",
    "outage-4-hours",
    "outage-of-blobs",
    "redelivered",
    "slow-blobs",
)


def test_scripts_that_come_along() -> None:
    assert len(script_names()) >= 8
    assert set(HOPELESS) | set(LATER) < set(script_names())


@pytest.mark.parametrize("name", [name for name in script_names() if name not in HOPELESS + LATER])
def test_client_gets_everything_in_spite_of(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with named(name, monkeypatch) as (visitor, client):
        retrieved = {}
        for content_type in content_types():
            for blob in listing(client, content_type, DAY):
                retrieved[blob.content_id] = client.retrieve(blob)
        assert retrieved == {content_id: blob.body() for content_id, blob in visitor.tenant.by_id.items()}
        assert len(retrieved) > 50
        counts = client.counts()
        # Each script did what it is for: requests were kept from the service, sent again, or made for more pages.
        answered = visitor.tenant.requests
        if name in ("throttled", "flaky-blobs", "html-pages", "expired-token"):
            assert answered.total() - answered["Token"] < counts.requests
        if name in ("throttled", "flaky-blobs", "html-pages", "truncated", "wrong-shapes"):
            assert counts.retries > 0
        if name == "throttled":
            assert counts.throttled > 0
        if name == "mangled-pages":
            assert answered["ListContent"] > sum(ceil(len(blobs) / 5) for blobs in visitor.tenant.blobs.values())


def test_client_loses_the_expired_blobs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with named("expiring", monkeypatch) as (visitor, client):
        lost, kept = [], []
        for content_type in content_types():
            for blob in listing(client, content_type, DAY):
                try:
                    client.retrieve(blob)
                    kept.append(blob.content_id)
                except SkippableError as error:
                    lost.append((blob.content_id, error.expired))
        assert {expired for _, expired in lost} == {True}
        assert {content_id for content_id, _ in lost} | set(kept) == set(visitor.tenant.by_id)
        assert 0 < len(lost) < len(kept)


def test_client_stops_at_a_foreign_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with named("foreign-pages", monkeypatch) as (_, client), pytest.raises(FatalError, match=FOREIGN_HOST):
        listing(client, "Audit.Exchange", DAY)
