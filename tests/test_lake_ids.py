"""Sets of Id keys against Python's own sets."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lake.ids import IdSet, first_of_each, keys_of

GUIDS = st.uuids().map(str)
IDS = st.one_of(
    st.integers(0, 9).map(lambda n: f"{n:08}-0000-0000-0000-000000000000"),
    st.integers(0, 9).map(lambda n: f"00000001-0000-0000-0000-{n:012}"),
    GUIDS,
    GUIDS.map(str.upper),
    GUIDS.map(lambda g: g[:-1] + "é"),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
)


def array(ids: list[str]) -> pa.StringArray:
    return pa.array(ids, pa.string())


@given(st.lists(st.lists(IDS, max_size=20), max_size=8), st.lists(IDS, max_size=20))
def test_set_agrees_with_a_python_set(added: list[list[str]], asked: list[str]) -> None:
    ids, truth = IdSet(), set[str]()
    for some in added:
        ids.add(keys_of(array(some)))
        truth |= set(some)
    wanted = asked + [i for some in added for i in some]
    assert ids.holds(keys_of(array(wanted))).tolist() == [i in truth for i in wanted]


@given(st.lists(IDS, max_size=50))
def test_first_of_each_marks_what_a_python_set_would_keep(ids: list[str]) -> None:
    seen = set[str]()
    expected = [not (i in seen or seen.add(i)) for i in ids]  # type: ignore[func-returns-value]
    assert first_of_each(keys_of(array(ids))).tolist() == expected


def test_guid_is_its_own_key_and_its_other_forms_have_others() -> None:
    plain = "01234567-89ab-cdef-0123-456789abcdef"
    others = [plain.upper(), "{" + plain + "}", plain.replace("-", ""), plain[:-1], plain + "0", "g" + plain[1:]]
    keys = keys_of(array([plain, *others]))
    assert keys[0] == bytes.fromhex(plain.replace("-", ""))
    assert len(np.unique(keys)) == 1 + len(others)


def test_keys_that_end_in_zeros_stay_apart() -> None:
    ids = ["00000000-0000-0000-0000-000000000000", "01000000-0000-0000-0000-000000000000"]
    held = IdSet()
    held.add(keys_of(array(ids[:1])))
    assert held.holds(keys_of(array(ids))).tolist() == [True, False]


def test_nothing_holds_nothing() -> None:
    assert len(keys_of(array([]))) == 0
    assert IdSet().holds(keys_of(array(["x"]))).tolist() == [False]
