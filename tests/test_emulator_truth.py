"""The truth of the emulator: what a lake is checked against."""

from datetime import timedelta
from pathlib import Path

import pytest

from emulator.truth import bodies, truth
from tests.emulator_visitor import NOW, visiting

GOOD = '{"Id":"a","CreationTime":"2026-11-19T08:00:00","RecordType":1}'


@pytest.mark.parametrize(
    "line",
    [
        "7",
        "null",
        '["a"]',
        '{"CreationTime":"2026-11-19T08:00:00"}',
        '{"Id":"","CreationTime":"2026-11-19T08:00:00"}',
        '{"Id":7,"CreationTime":"2026-11-19T08:00:00"}',
        '{"Id":"b"}',
        '{"Id":"b","CreationTime":"soon"}',
        '{"Id":"b","Crea',
    ],
)
def test_what_is_no_record_is_told_apart(line: str, tmp_path: Path) -> None:
    with visiting([GOOD, line], tmp_path) as visitor:
        found = truth(visitor.tenant, NOW).values()
    assert [broken for blob in found for broken in blob.broken] == [line.encode()]
    assert bodies(found) == {"a": {GOOD.encode()}}


def test_state_follows_the_time_that_is_asked_about() -> None:
    with visiting(count=300) as visitor:
        blob = min(visitor.tenant.by_id.values(), key=lambda blob: blob.available_at)
        blob.expiration = blob.created + timedelta(days=20)

        def state(after: timedelta) -> str:
            return truth(visitor.tenant, blob.available_at + after)[blob.content_id].state

        assert state(timedelta(seconds=-1)) == "pending"
        assert state(timedelta()) == "available"
        assert state(timedelta(days=8)) == "unlisted"
        assert state(timedelta(days=20)) == "expired"


def test_generated_content_is_whole_and_each_id_has_one_body() -> None:
    with visiting(count=2000) as visitor:
        found = truth(visitor.tenant, NOW).values()
    assert [blob.broken for blob in found if blob.broken] == []
    by_id = bodies(found)
    assert len(by_id) == 2000
    assert {len(each) for each in by_id.values()} == {1}
