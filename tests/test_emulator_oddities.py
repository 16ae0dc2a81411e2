"""Odd content: each oddity comes as often as asked for, adds to what is there, and repeats with the seed."""

import gzip
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import pytest

from emulator.content import Blob, make_blob
from emulator.filling import blobs_of_generated
from emulator.oddities import ManyLines
from emulator.shape import BROKEN_KINDS, Shape
from emulator.truth import BlobTruth, bodies, truth
from tests.emulator_visitor import NOW, visiting

TENANT = ("2f0c6f0e-5a0b-4b7e-9a53-0d1f7f1f3c11", "na0020")
PLAIN = {"repeated": 0.0, "twice": 0.0, "late": 0.0, "max_records": 20}


def made(seed: str = "1", **odd: object) -> list[Blob]:
    return blobs_of_generated(3000, Shape(**PLAIN | odd), NOW, seed, TENANT)  # type: ignore[arg-type]


def told(blobs: Iterable[Blob]) -> list[BlobTruth]:
    blobs = list(blobs)
    with visiting() as visitor:
        visitor.tenant.add(blobs)
        return list(truth(visitor.tenant, NOW).values())


def contents(blobs: Iterable[Blob]) -> list[tuple[object, ...]]:
    return [(b.content_id, b.created, b.expiration, b.order, b.body()) for b in blobs]


@pytest.mark.parametrize(
    "odd",
    [
        {"conflicting": 0.1},
        {"broken": 0.1},
        {"redelivered": 0.5},
        {"empty": 0.2},
        {"oversized_mb": (0.5, 0.2)},
        {"pending": 0.3, "expired": 0.1, "ahead_days": 1.5},
    ],
)
def test_oddities_repeat_with_the_seed_and_add_to_all_records(odd: dict[str, object]) -> None:
    assert contents(made(**odd)) == contents(made(**odd)) != contents(made("2", **odd))
    if "ahead_days" not in odd:
        plain, with_odd = ({line for blob in blobs for line in blob.lines} for blobs in (made(), made(**odd)))
        assert plain <= with_odd


def test_conflicting_records_share_id_and_time_and_differ_else() -> None:
    conflicts = {key: found for key, found in bodies(told(made(conflicting=0.1))).items() if len(found) > 1}
    assert 150 < len(conflicts) < 450
    for record_id, found in conflicts.items():
        records = [json.loads(body) for body in found]
        assert {record["Id"] for record in records} == {record_id}
        assert len({record["CreationTime"] for record in records}) == 1
        assert len({record["RecordType"] for record in records if record["RecordType"] != "20"}) == 1
        assert len({json.dumps(record, sort_keys=True) for record in records}) == 2


@pytest.mark.parametrize("kind", BROKEN_KINDS)
def test_broken_records_of_a_kind_are_no_records_and_cost_no_other(kind: str) -> None:
    found = told(made(broken=0.1, broken_kinds=(kind,)))
    assert 150 < sum(len(blob.broken) for blob in found) < 450
    assert len(bodies(found)) == 3000


def test_redelivered_records_come_days_later_in_blobs_of_their_own() -> None:
    blobs = made(redelivered=0.5)
    first_seen: dict[bytes, Blob] = {}
    again = []
    for blob in sorted(blobs, key=lambda blob: blob.created):
        assert len({line in first_seen for line in blob.lines}) == 1, "all records of a blob come again, or none"
        if blob.lines[0] in first_seen:
            again.append(blob.created - first_seen[blob.lines[0]].created)
        first_seen |= dict.fromkeys(blob.lines, blob)
    assert len(again) > 20
    assert all(timedelta(days=5) <= later <= timedelta(days=5, seconds=600) for later in again)
    assert len(first_seen) == 3000


def test_empty_blobs_come_in_addition() -> None:
    sizes = Counter(len(blob.lines) for blob in made(empty=0.2))
    assert 0.1 < sizes[0] / (sizes.total() - sizes[0]) < 0.3
    assert {blob.body() for blob in made(empty=0.2) if not blob.lines} == {b"[]"}


def test_oversized_blobs_have_their_size_and_records_of_ids_of_their_own() -> None:
    blobs = made(oversized_mb=(2, 1.5))
    huge = sorted(len(blob.body()) for blob in blobs if isinstance(blob.lines, ManyLines))
    assert [size // (1 << 19) for size in huge] == [3, 4]
    found = bodies(told(blobs))
    assert {len(each) for each in found.values()} == {1}
    assert len(found) == sum(len(blob.lines) for blob in blobs) > 3500


def test_huge_blob_is_made_without_ever_being_held_whole() -> None:
    template = b'{"Id":"x","CreationTime":"2026-11-19T08:00:00","RecordType":1,"Notes":"%s"}' % (b"n" * 900)
    blob = make_blob("Audit.General", ManyLines([template], "1", 68 << 20), NOW, number=0, datacentre="na0020")
    tracemalloc.start()
    try:
        packed = blob.gzipped()
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 8 << 20
    body = gzip.decompress(packed)
    assert 68 << 20 <= len(body) < 70 << 20
    assert body == blob.body()
    assert len({record["Id"] for record in json.loads(body)}) == len(blob.lines)


def test_late_blobs_are_seconds_to_days_late_and_pending_ones_appear_after_the_anchor() -> None:
    blobs = made(late=0.5, late_hours=(0.001, 60), ahead_days=1.0)
    late = [blob.available_at - blob.created for blob in blobs if blob.available_at > blob.created > NOW]
    assert min(late) < timedelta(minutes=1)
    assert max(late) > timedelta(days=1)
    assert max(late) <= timedelta(hours=60)
    waits = [b.available_at - NOW for b in made(pending=0.4, pending_hours=(0.001, 60)) if b.available_at > NOW]
    assert len(waits) > 20
    assert min(waits) < timedelta(minutes=1)
    assert timedelta(days=1) < max(waits) <= timedelta(hours=60)


def test_content_goes_on_behind_the_anchor_on_request() -> None:
    created = [blob.created for blob in made(ahead_days=2)]
    assert NOW + timedelta(days=1, hours=20) < max(created) <= NOW + timedelta(days=2)
    assert min(created) < NOW - timedelta(days=6)
