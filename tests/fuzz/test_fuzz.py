"""A bounded part of the fuzzing in every test run; `python -m tests.fuzz` goes on for as long as it is told."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS, corpus

_KEPT = [pytest.param(name, path, id=f"{name}-{path.name}") for name in TARGETS for path in corpus(name)]


@pytest.mark.parametrize("name", TARGETS)
def test_no_damaged_input_breaks_a_law(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=target.examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def try_inputs(data: bytes) -> None:
        target.check(data)

    try_inputs()


@pytest.mark.parametrize(("name", "path"), _KEPT)
def test_input_that_once_broke_a_law_does_not_any_more(name: str, path: Path) -> None:
    TARGETS[name].check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_corpus(name: str) -> None:
    assert corpus(name)
