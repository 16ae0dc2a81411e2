"""Fetching ahead: how many blobs are under way, and in which order they are handed out."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

from schemas.feed import ContentBlob
from transforms.land_content import FETCH_THREADS, _Fetches

START = datetime(2026, 11, 20, tzinfo=UTC)


def test_as_many_blobs_as_there_are_threads_are_always_under_way() -> None:
    blobs = [
        ContentBlob(str(n), f"https://manage.office.com/{n}", "Audit.General", START, START + timedelta(days=7))
        for n in range(3 * FETCH_THREADS)
    ]
    together = Barrier(FETCH_THREADS)

    def retrieve(blob: ContentBlob, _: object) -> bytes:
        together.wait(timeout=10)
        return blob.content_id.encode()

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        fetched = [(blob, body.result()) for blob, body in _Fetches(pool, retrieve).ahead(blobs)]
    assert fetched == [(blob, blob.content_id.encode()) for blob in blobs]
