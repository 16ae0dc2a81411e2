"""One odd record never costs its blob: what is broken is rejected with its bytes, all else becomes rows."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decode import NotAnArrayError, RawRecords, Reject, decode_records, split_blob
from tests.schema_records import TABLES, TIME, Seen, blob, decode, drifted_records, record, spellings, text_of

GOOD = [
    record(Id=i, RecordType=n, New=n % 2, Parameters=[{"Name": "a", "Value": i}])
    for n, i in enumerate(("one", "two", "three", "four"), 1)
]
WHOLE = blob(*GOOD)
SPANS = [(WHOLE.index(json.dumps(r).encode()), len(json.dumps(r))) for r in GOOD]
KEYED = b'{"Id":"x","CreationTime":"2026-11-20T08:15:31",'


def ids(seen: Seen) -> list[str]:
    return [row["Id"] for _, (_, row) in sorted(seen.rows.items())]


def assert_accounted(data: bytes, seen: Seen) -> None:
    """Asserts that every record is a row or a reject, each at its place, the rejects with bytes of the blob."""
    assert sorted([*seen.rows, *(r.position for r in seen.rejects)]) == list(range(seen.records))
    assert all(r.data in data for r in seen.rejects)


@pytest.mark.parametrize(
    ("reason", "broken"),
    [
        ("not_an_object", b"5"),
        ("not_an_object", b"null"),
        ("not_an_object", b'"text"'),
        ("not_an_object", b"[]"),
        ("not_an_object", b"[[[]]]"),
        ("no_id", b"{}"),
        ("no_id", b'{"CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"Id":"","CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"Id":5,"CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"Id":123456789012345678901234567890,"CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"Id":null,"CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"Id":["x"],"CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", rb'{"Id":"\ud800","CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"id":"x","CreationTime":"2026-11-20T08:15:31"}'),
        ("no_id", b'{"Id":"x","CreationTime":"2026-11-20T08:15:31","Id":null}'),
        ("no_creation_time", b'{"Id":"x"}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":null}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":1763640000}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":""}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":"yesterday"}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":"2026-02-30T08:15:31"}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":"2026-11-20T24:00:00"}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":"0000-11-20T08:15:31"}'),
        ("no_creation_time", b'{"Id":"x","CreationTime":{"a":"2026-11-20T08:15:31"}}'),
        ("invalid_utf8", KEYED + b'"UserId":"\xff"}'),
        ("invalid_utf8", KEYED + b'"\xc0\x80":1}'),
        ("invalid_utf8", KEYED + b'"UserId":"\xed\xa0\x80"}'),
        ("invalid_utf8", KEYED + b'"RecordType":2,"Item":{"a":"\xf4\x90\x80\x80"}}'),
        ("invalid_json", KEYED + b'"UserId":"a\nb"}'),
        ("invalid_json", KEYED + b'"UserId":"\x00"}'),
        ("invalid_json", KEYED + b'"UserId":"\\q"}'),
        ("invalid_json", KEYED + b'"UserId":"\\u12"}'),
        ("invalid_json", KEYED + b'"Version":NaN}'),
        ("invalid_json", KEYED + b'"New":[1,-Infinity]}'),
        ("invalid_json", KEYED + b'"Version":01}'),
        ("invalid_json", KEYED + b'"Version":+1}'),
        ("invalid_json", KEYED + b'"Version":.5}'),
        ("invalid_json", KEYED + b'"Version":1.}'),
        ("invalid_json", KEYED + b'"Version":}'),
        ("invalid_json", KEYED + b'"Version"}'),
        ("invalid_json", KEYED + b'"Version":1,}'),
        ("invalid_json", KEYED + b'"New":[1,]}'),
        ("invalid_json", KEYED + b'"New":[1 2]}'),
        ("invalid_json", KEYED + b"Version:1}"),
        ("invalid_json", KEYED + b"'Version':1}"),
        ("invalid_json", KEYED + b'"Version":tru}'),
        ("invalid_json", KEYED + b'"Version":1}}'),
        ("invalid_json", KEYED + b'"Version":1]}'),
        ("invalid_json", KEYED + b'"Version":1} x'),
        ("invalid_json", KEYED + b'"Version":1'),
        ("invalid_json", KEYED + b'"Version":'),
        ("invalid_json", KEYED + b'"Version'),
        ("invalid_json", KEYED + b'"UserId":"say "hi" "}'),
        ("invalid_json", KEYED + b'"UserId":"5" tall"}'),
        ("invalid_json", KEYED + b'"UserId":"no end}'),
        ("invalid_json", KEYED + b'"UserId":"\\"}'),
        ("invalid_json", b"nul"),
        ("invalid_json", b"<html>"),
        ("invalid_json", b"{"),
        ("invalid_json", b"}"),
        ("invalid_json", b'"'),
        ("invalid_json", b"\xef\xbb\xbf{}"),
        ("nested_too_deeply", KEYED + b'"New":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("nested_too_deeply", KEYED + b'"RecordType":2,"Item":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001),
        ("nested_too_deeply", b"[" * 100_000 + b"]" * 100_000),
    ],
    ids=lambda p: p.decode("latin-1")[-40:] if isinstance(p, bytes) else p,
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_broken_record_is_rejected_with_its_bytes_and_costs_no_other(reason, broken, place):
    records = [text_of(), text_of(RecordType="2")]
    records.insert(place, broken)
    seen = decode(blob(*records))
    assert sorted(seen.rows) == sorted({0, 1, 2} - {place})
    assert seen.rejects == [Reject(place, reason, broken)]


@pytest.mark.parametrize("broken", [b"[", KEYED + b'"New":[1}', KEYED + b'"New":[{"a":1}'])
def test_record_that_does_not_close_a_bracket_costs_no_other(broken):
    assert decode(blob(text_of(), broken, text_of())).rejects == [Reject(1, "invalid_json", broken)]
    assert list(decode(blob(text_of(), text_of(), broken)).rows) == [0, 1]


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b"null", b"<html>", b"\xef\xbb\xbf", b"\xff[", b"x[]", b'"["'])
def test_body_that_is_no_array_is_refused(body):
    with pytest.raises(NotAnArrayError):
        split_blob(body)


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"\xef\xbb\xbf[]\r\n", b"[,]", b"[ , , ]"])
def test_body_without_records_has_none(body):
    assert decode(body) == Seen()


@pytest.mark.parametrize(
    ("body", "kept", "broken"),
    [
        (WHOLE[:-1] + b",]", 4, []),
        (b"[," + WHOLE[1:], 4, []),
        (WHOLE[:-1] + b",,]", 4, []),
        (WHOLE.replace(b"},{", b"}{"), 4, []),
        (WHOLE.replace(b"},{", b"} \n {"), 4, []),
        (WHOLE.replace(b"},{", b"}][{"), 4, []),
        (WHOLE + WHOLE, 8, []),
        (WHOLE + b"\n" + WHOLE, 8, []),
        (WHOLE + b"]", 4, []),
        (WHOLE.replace(b"},{", b"}],{"), 4, []),
        (WHOLE + b" and more", 4, [b"and more"]),
        (WHOLE + b"\x00", 4, [b"\x00"]),
        (WHOLE + b"<html>", 4, [b"<html>"]),
        (WHOLE[:-1], 4, [b""]),
        (WHOLE[:-1] + b" , ", 4, [b""]),
        (b"[", 0, [b""]),
        (WHOLE[:-2], 3, [json.dumps(GOOD[3]).encode()[:-1]]),
        (b"[[1," + WHOLE[1:], 4, [b"[1"]),
        (b"[[" + WHOLE[1:-1] + b"]}", 3, [b"[" + json.dumps(GOOD[0]).encode(), b"}"]),
    ],
    ids=range(19),
)
def test_damage_between_records_costs_no_record(body, kept, broken):
    seen = decode(body)
    assert_accounted(body, seen)
    assert len(seen.rows) == kept
    assert [r.data for r in seen.rejects] == broken


def test_truncated_blob_keeps_its_whole_records_and_shows_the_damage():
    for cut in range(1, len(WHOLE)):
        seen = decode(WHOLE[:cut])
        assert_accounted(WHOLE, seen)
        assert ids(seen) == [r["Id"] for r, (start, size) in zip(GOOD, SPANS, strict=True) if start + size <= cut]
        start = next((start for start, size in SPANS if start < cut < start + size), cut)
        assert [r.data for r in seen.rejects] == [WHOLE[start:cut].rstrip()]


spliced = st.binary(max_size=6) | st.text('"{}[],:\\ \n0aI', max_size=8).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3), st.integers(0, 500), st.integers(0, 30), spliced)
def test_any_damage_to_one_record_leaves_the_others(which, at, drop, insert):
    start, size = SPANS[which]
    at = start + at % size
    data = WHOLE[:at] + insert + WHOLE[min(at + drop, start + size) :]
    seen = decode(data)
    assert_accounted(data, seen)
    others = [r["Id"] for n, r in enumerate(GOOD) if n != which]
    assert [i for i in ids(seen) if i in others] == others


@settings(max_examples=200, deadline=None)
@given(st.data(), spellings)
def test_any_damage_to_a_blob_leaves_every_record_accounted_for(data, spell):
    table = data.draw(st.sampled_from(TABLES))
    body = spell(data.draw(st.lists(drifted_records(table), max_size=3)))
    for _ in range(data.draw(st.integers(1, 3))):
        at, drop = data.draw(st.integers(1, len(body))), data.draw(st.integers(0, 10))
        body = body[:at] + data.draw(spliced) + body[at + drop :]
    assert_accounted(body, decode(body))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text('"{}[],:\\ \n0aI', max_size=60).map(str.encode))
def test_any_bytes_after_a_bracket_are_accounted_for(garbage):
    assert_accounted(b"[" + garbage, decode(b"[" + garbage))


HOSTILE = [
    b'"', b"[", b"{", b"]", b"}", b",", b'\\"', b'{"', b',{"', b',{"a":[{}', b'},{"a":{},"b":[1,{"c":1}', b'{"a":',
    b'{"a":[1,{"Id":"x","CreationTime":"y"},', b',{"Id":"x\\', b',   {   "', b',{"\n', b',{"a":{},{"a":"',
    b'{"Id":"x","CreationTime":"y",""w"},', b"\\", b'":', b" ", b"1", b"1.5e9", b'"k":1,', b"\xff", b"\x00",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_data_is_decoded_in_linear_time(unit):
    body = b"[" + unit * (500_000 // len(unit)) + b"]"
    assert_accounted(body, decode(body))


@pytest.mark.parametrize("names", [["k"], ["k%d", "\\u006b%d"]])
def test_record_of_very_many_repeated_members_is_decoded(names):
    parts = [f'"{name % n if "%" in name else name}":{n}' for n in range(30_000) for name in names]
    body = blob(text_of()[:-1] + b"," + ",".join(parts).encode() + b"}")
    assert len(decode(body).rows) == 1


def test_names_that_no_utf8_can_carry_are_counted_as_drift():
    seen = decode(blob(rb'{"Id":"x","CreationTime":"2026-11-20T08:15:31","\ud800":1,"AppAccessContext":{"\udfff":1}}'))
    assert sorted(d.member for d in seen.drift) == ["?", "AppAccessContext.?"]


def test_broken_records_are_not_counted_as_drift():
    assert not decode(blob({"Id": "x", "New": 1}, {"CreationTime": TIME, "Version": "1"})).drift


def test_rows_and_rejects_stay_when_more_is_decoded():
    def batch(number):
        some = [record(Id=f"{number}-{n}", Operation=f"Op{number}", New={"a": n}) for n in range(300)]
        return split_blob(blob(*some, b"{"))

    def told(decoded):
        return [b.rows.to_pylist() for b in decoded.batches], decoded.rejects, decoded.drift

    first = decode_records(RawRecords(batch(1)))
    before = told(first)
    assert len(before[0][0]) == 300
    decode_records(RawRecords(batch(2)))
    assert told(first) == before


def test_broken_records_are_rejected_with_their_own_text_wherever_they_came() -> None:
    raws = RawRecords()
    pieces = [split_blob(blob(text_of(), b"{")), split_blob(blob(record(Id="b"))), [], [b"<"], [b"", b"{}"]]
    for piece in pieces:
        raws.add(piece)
    decoded = decode_records(raws)
    assert [(r.position, r.data) for r in decoded.rejects] == [(1, b"{"), (3, b"<"), (4, b""), (5, b"{}")]
    assert [b.positions.tolist() for b in decoded.batches] == [[0, 2]]
