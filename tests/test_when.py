"""Times on the command line."""

from datetime import UTC, datetime

import pytest

from pipeline.errors import UsageError
from pipeline.when import parse_when

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-23T12:30:00+00:00"),
        ("-7d", "2026-11-16T12:30:00+00:00"),
        ("-12h", "2026-11-23T00:30:00+00:00"),
        ("-90m", "2026-11-23T11:00:00+00:00"),
        ("2026-11-20", "2026-11-20T00:00:00+00:00"),
        ("2026-11-20T08:00", "2026-11-20T08:00:00+00:00"),
        ("2026-11-20T08:00:00Z", "2026-11-20T08:00:00+00:00"),
        ("2026-11-20T08:00:00+02:00", "2026-11-20T06:00:00+00:00"),
    ],
)
def test_times_are_read(text: str, expected: str) -> None:
    assert parse_when(text, NOW, "--start").isoformat() == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7d", "-7w", "-999999d", "2026-13-01", "auto"])
def test_other_words_are_refused_with_the_forms_that_are_not(text: str) -> None:
    with pytest.raises(UsageError, match=r"--start .* expected ISO 8601"):
        parse_when(text, NOW, "--start")
