"""The compiled loops over JSON text, against the standard library's reading of it."""

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import scan
from schemas.scan import joined, names_of
from schemas.times import format_wire, parse_wire, to_micros
from tests.schema_records import anything, spellings

ANY = b'-0123456789"tfn{['
KEYS = ("a", "b", "ab", "Id", "é")
whole_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
objects = st.dictionaries(st.sampled_from(KEYS) | whole_texts, anything, max_size=6)


def spelled(value: Any, spell: Any) -> bytes:
    """Writes one value as the spelling of a blob does."""
    return spell([value]).strip(b" \t\r\n")[1:-1].strip(b" \t\r\n,")


@settings(deadline=None)
@given(st.lists(objects, min_size=1, max_size=4), spellings)
def test_members_are_those_that_json_reads(records, spell):
    spans = joined([spelled(r, spell) for r in records])
    found = scan.members(spans, names_of([(k, ANY) for k in KEYS]))
    others = [dict[str, Any]() for _ in records]
    for n, row in enumerate(found.rows):
        others[row][json.loads(found.names.value(n))] = json.loads(found.others.value(n))
    for row, record in enumerate(records):
        named = {k: found.values.column(n) for n, k in enumerate(KEYS)}
        read = {k: json.loads(s.value(row)) for k, s in named.items() if s.there[row]}
        assert not found.odd[row]
        assert read | others[row] == json.loads(json.dumps(record))
        assert len(read) + len(others[row]) == len(record)


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(anything, max_size=5), min_size=1, max_size=4), spellings)
def test_items_are_those_that_json_reads(arrays, spell):
    spans = joined([spelled(a, spell) for a in arrays])
    bounds, found = scan.items(spans.without(spans.marks != ord("[")))
    for row, array in enumerate(arrays):
        read = [json.loads(found.value(n)) for n in range(bounds[row], bounds[row + 1])]
        assert read == json.loads(json.dumps(array or []))


@settings(deadline=None)
@given(st.lists(whole_texts | st.none() | st.integers(), min_size=1, max_size=5), st.booleans())
def test_strings_say_what_json_reads(values, escaped):
    spans = joined([json.dumps(v, ensure_ascii=escaped).encode() for v in values])
    ((bounds, said),) = scan.strings(spans.as_columns())
    for row, value in enumerate(values):
        text = said[bounds[row] : bounds[row + 1]].tobytes().decode()
        assert text == (value if isinstance(value, str) else "")


def test_every_escape_is_read():
    text = rb'"\" \\ \/ \b \f \n \r \t \u0041 \u00e9 \u20AC \ud83d\uDE00"'
    ((_, said),) = scan.strings(joined([text]).as_columns())
    assert said.tobytes().decode() == json.loads(text)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**65), 2**65) | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 0])))
def test_numbers_are_read_up_to_64_bits(numbers):
    values, odd = scan.longs(joined([str(n).encode() for n in [*numbers, 0]]))
    for number, value, is_odd in zip(numbers, values.tolist(), odd, strict=False):
        assert is_odd == (not -(2**63) <= number < 2**63)
        assert is_odd or value == number


near_times = st.builds(
    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}".format,
    st.integers(0, 9999),
    *(st.integers(0, top) for top in (13, 32, 25, 61, 61)),
    st.sampled_from(["", "", "", "Z", ".5", "0"]),
)


@settings(deadline=None)
@given(st.lists(st.datetimes().map(lambda t: t.isoformat(timespec="seconds")) | near_times | whole_texts, min_size=1))
def test_times_are_those_that_are_read_one_by_one(texts):
    micros, odd = scan.times(joined([json.dumps(t).encode() for t in texts]))
    for text, value, is_odd in zip(texts, micros.tolist(), odd.tolist(), strict=True):
        time = parse_wire(text)
        assert is_odd == (time is None or format_wire(time) != text)
        assert is_odd or value == to_micros(time)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=12))
def test_copies_are_those_of_the_first_value_with_their_key(values):
    spans = joined([json.dumps({"a": k, "b": v}).encode() for k, v in values])
    keys, _ = scan.first_members(spans, names_of([("a", b'"')]))
    firsts = [next(n for n, other in enumerate(values) if other[0] == value[0]) for value in values]
    same = [values[first] == value for first, value in zip(firsts, values, strict=True)]
    found, differs = scan.copies(spans, keys.column(0))
    assert found.tolist() == [f if s else n for n, (f, s) in enumerate(zip(firsts, same, strict=True))]
    assert differs.tolist() == [not is_same for is_same in same]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "ab", "é", ""]), max_size=4), min_size=1, max_size=4))
def test_lists_that_hold_a_name_twice_are_marked(lists):
    bounds, found = scan.items(joined([json.dumps(some).encode() for some in lists]))
    (said,) = scan.strings(found.as_columns())
    assert scan.repeating(bounds, said).tolist() == [len(set(some)) < len(some) for some in lists]


def test_a_list_of_very_many_names_is_marked_without_comparing_them():
    bounds, found = scan.items(joined([json.dumps([str(n) for n in range(65)]).encode(), b'["a"]']))
    (said,) = scan.strings(found.as_columns())
    assert scan.repeating(bounds, said).tolist() == [True, False]


CHECK = """
from schemas import loops, scan
scan.compile_loops()
loops = {name: loop for name, loop in vars(loops).items() if hasattr(loop, "signatures")}
before = {name: len(loop.signatures) for name, loop in loops.items()}
from schemas.decode import RawRecords, decode_records, split_blob
rows = decode_records(RawRecords(split_blob(BODY))).batches[0].rows
assert {name: len(loop.signatures) for name, loop in loops.items()} == before, "a loop was compiled again"
print(len(before), rows.num_rows)
"""
BODY = json.dumps(
    [
        {"Id": "é", "CreationTime": "2026-11-20T08:15:31", "RecordType": 1, "Version": 1, "More": [{}]}
        | {"Parameters": [{"Name": "a", "Value": "b"}], "ModifiedProperties": [{"Name": "c"}]},
        {"Id": "b", "CreationTime": "2026-11-20T08:15:31", "RecordType": 1, "AppAccessContext": {"APIId": "x"}},
    ],
    ensure_ascii=False,
).encode()


def python(code: str, **variables: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loops_are_compiled_ahead_as_they_are_used():
    assert python(f"BODY = {BODY!r}\n{CHECK}").split()[1] == "2"


def test_without_a_place_for_what_was_compiled_records_are_decoded_all_the_same(tmp_path):
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "cache")
    code = "import numba.core.caching as c\nc.CacheImpl._locator_classes = []\n"
    assert python(f"{code}BODY = {BODY!r}\n{CHECK}", HOME=nowhere).split()[1] == "2"


def test_what_is_no_object_is_odd_and_without_names_all_members_are_others():
    spans = joined([b"5", b'{"a":1}', b"[1]", b'"x"', b"null", b"{}"])
    found = scan.members(spans, names_of([]))
    assert found.odd.tolist() == [True, False, True, True, True, False]
    assert (found.rows.tolist(), found.names.value(0), found.others.value(0)) == ([1], b'"a"', b"1")


def test_text_that_was_given_back_is_filled_again_and_no_other() -> None:
    text = scan.Text()
    text.add([b"[1,2]"] * 100)
    first, second = text.spans(), joined([b"[3,4]"] * 100)
    assert not np.shares_memory(first.text, second.text)
    text.give_back()
    third = joined([b"{}"] * 50)
    assert np.shares_memory(first.text, third.text)
    assert [third.value(n) for n in (0, 49)] == [b"{}"] * 2
    assert [second.value(n) for n in (0, 99)] == [b"[3,4]"] * 2


@given(
    st.lists(st.tuples(st.lists(st.binary(max_size=9), max_size=4), st.sampled_from([b",", b", "]), st.booleans())),
    st.integers(1, 40),
)
def test_values_stand_in_a_text_as_they_came_however_often_it_grew(
    pieces: list[tuple[list[bytes], bytes, bool]], kept: int
) -> None:
    text = scan.Text()
    text.add([b"{}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("schemas.scan._KEPT_BYTES", kept)
        for piece, comma, known in pieces:
            text.add([memoryview(value) for value in piece], b"[" + comma.join(piece) + b"]" if known else b"")
    values = [b"{}", *(value for piece, *_ in pieces for value in piece)]
    spans = text.spans()
    assert [spans.value(n) for n in range(len(values))] == values
    assert set(spans.text[spans.ends].tolist()) <= set(b",]")
    assert spans.marks.tolist() == spans.text[spans.starts].tolist()
