"""Fetching ahead: how many blobs are under way, and in which order they are handed out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Barrier, Semaphore

from schemas.feed import ContentBlob
from transforms.land_content import FETCH_THREADS, _Fetches

START = datetime(2026, 11, 20, tzinfo=UTC)


def some_blobs(count: int) -> list[ContentBlob]:
    return [
        ContentBlob(str(n), f"https://manage.office.com/{n}", "Audit.General", START, START + timedelta(days=7))
        for n in range(count)
    ]


def test_as_many_blobs_as_there_are_threads_are_always_under_way() -> None:
    blobs = some_blobs(3 * FETCH_THREADS)
    together = Barrier(FETCH_THREADS)

    def retrieve(blob: ContentBlob, _: object) -> bytes:
        together.wait(timeout=10)
        return blob.content_id.encode()

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        fetched = [(blob, body.result()) for blob, body in _Fetches(pool, retrieve, Semaphore()).ahead(blobs)]
    assert fetched == [(blob, blob.content_id.encode()) for blob in blobs]


def test_one_large_blob_of_two_units_is_in_memory() -> None:
    gate, most = Semaphore(), [0]
    held: set[int] = set()

    def land(unit: int) -> int:
        def retrieve(blob: ContentBlob, on_large: Callable[[], None]) -> bytes:
            on_large()
            held.add(unit)
            most[0] = max(most[0], len(held))
            return blob.content_id.encode()

        landed = 0
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            for _, fetched in _Fetches(pool, retrieve, gate).ahead(some_blobs(2 * FETCH_THREADS)):
                fetched.result()
                held.remove(unit)
                landed += 1
        return landed

    with ThreadPoolExecutor(2) as units:
        assert list(units.map(land, range(2))) == [2 * FETCH_THREADS] * 2
    assert most == [1]


def test_unit_that_fails_leaves_no_other_waiting_for_its_large_blobs() -> None:
    gate = Semaphore()

    def retrieve(blob: ContentBlob, on_large: Callable[[], None]) -> bytes:
        on_large()
        return blob.content_id.encode()

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        with closing(_Fetches(pool, retrieve, gate).ahead(some_blobs(FETCH_THREADS))) as fetches:
            next(fetches)
        blobs = some_blobs(2)
        assert [b for b, _ in _Fetches(pool, retrieve, gate).ahead(blobs)] == blobs
    assert gate.acquire(blocking=False)
    assert not gate.acquire(blocking=False)
