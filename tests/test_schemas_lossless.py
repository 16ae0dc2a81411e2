"""Any record can be rebuilt from its row, member for member, however far it drifted."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.decode import Drift
from schemas.fit import BrokenRecordError, Member, members
from schemas.model import tables
from schemas.rebuild import rebuild
from tests.schema_records import (
    TABLES,
    TIME,
    anything_written,
    blob,
    canonical,
    decode,
    drifted_records,
    loads,
    record,
    spellings,
    straight_records,
    text_of,
)

SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
PLANES = "".join(chr(plane * 0x10000 + 0x1F4C4 % 0x10000) for plane in range(17))
any_records = st.sampled_from(TABLES).flatmap(lambda t: straight_records(t) | drifted_records(t))


def assert_lossless(body: bytes) -> None:
    """Asserts that all records of a blob are rows and that the rows say the same as the blob."""
    seen = decode(body)
    assert not seen.rejects
    assert seen.rebuilt() == canonical(loads(body.removeprefix(b"\xef\xbb\xbf")))


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_records_of_every_table_are_rebuilt_from_their_rows(table, data):
    records = data.draw(st.lists(straight_records(table) | drifted_records(table), min_size=1, max_size=3))
    assert_lossless(data.draw(spellings)(records))


@settings(max_examples=150, deadline=None)
@given(st.lists(any_records, max_size=12), spellings, st.sampled_from([b"", b"\xef\xbb\xbf", b" \r\n\t"]))
def test_records_of_all_tables_mixed_in_one_blob_are_rebuilt(records, spell, start):
    assert_lossless((start if start.strip() else b"") + spell(records) + start.strip(b"\xef\xbb\xbf"))


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 1000])
def test_blobs_of_any_size_are_rebuilt_in_order(size):
    kinds = [{"RecordType": n % 110, "Version": n} | ({"New": n} if n % 7 == 3 else {}) for n in range(size)]
    assert_lossless(blob(*(record(Id=str(n), **kind) for n, kind in enumerate(kinds))))


@pytest.mark.parametrize(
    "members",
    [
        {"_extra": '"mine"'},
        {"_extra": '{"Id":"other"}', "_content_id": "1", "_content_created": "null", "_new": "[]"},
        {"": '""', " ": "0", "id": '"not the Id"'},
        {r"quo\"te": "1", r"back\\slash": "2", r"tab\t": "3", r"\u0000": "4", "é\u2028": "5", "a:": "6"},
        {r"\ud800": r'"\udfff"', r"\udc00\ud800": r'["\ud83d"]', r"\ud83d\ude00": '"pair"'},
        {"UserId": r'"a\ud800"', "Operation": r'"\ud83d\ude00"', "ObjectId": r'"\u0000\u001f\u007f"'},
        {"UserId": "null", "Parameters": "null", "AppAccessContext": "null", "UserType": "null"},
        {"UserId": '""', "Parameters": "[]", "AppAccessContext": "{}", "AssociatedAdminUnits": "[]", "New": "{}"},
        {"UserType": "-0", "Version": "9223372036854775807", "Scope": "-9223372036854775808"},
        {"UserType": "9223372036854775808", "Version": "18446744073709551616", "Scope": "-9223372036854775809"},
        {"UserType": "1" * 5000, "New": "-" + "9" * 5000, "UserId": "7" * 5000, "ObjectId": f"[{'8' * 5000}]"},
        {
            "UserType": "1.0",
            "Version": "1e2",
            "New": "1e400",
            "Scope": "-0.0",
            "ResultStatus": "0.10000000000000000001",
        },
        {"RecordType": '"1"', "New": "1e-400"},
        {"RecordType": "1" * 5000},
        {"Parameters": '[{"Name":"a","Value":"1"},{"Name":"b","Value":"2"},{"Name":"a","Value":"3"}]'},
        {"Parameters": '[{"Name":"a","Value":null},{"Value":"2","Name":""}]'},
        {"Parameters": '[{"Name":"a","Value":{"b":[1,{"c":null}]}},{"Name":"a","Value":12345678901234567890123}]'},
        {"Parameters": '[{"Name":12345678901234567890123,"Value":"1"}]'},
        {"Parameters": '[{"Name":"a"},{"Name":"b","Value":"2","More":3},{}]'},
        {"Parameters": '[{"Name":"a","Value":"1"},null,5,"x",[]]'},
        {"Parameters": '"a text"', "ModifiedProperties": '{"any":"object"}', "ExternalAccess": '"False"'},
        {"Parameters": '{"Name":"a","Value":"1"}'},
        {"Parameters": '[{"Name":"\\ud800","Value":"1"},{"Name":"?","Value":"\\ud800"}]'},
        {"Parameters": '[{"Name":"a","Value":"\\ud800"}]', "AssociatedAdminUnits": '["\\udfff"]'},
        {"AppAccessContext": '{"APIId":5,"New":{"a":1}}', "AssociatedAdminUnits": '["a",null,5,["b"]]'},
        {"ModifiedProperties": '[{"Name":1,"New":2},{"OldValue":null,"NewValue":[1]}]'},
        {"ModifiedProperties": '[{"Name":"a"},null,7]'},
        {"UserId": '":1"', "Operation": '"\\":"', "ClientIP": '"::1"', "ObjectId": '" : "', "New": '"\\\\"'},
        {"UserId": '"a\\\\"', "ObjectId": '"{\\"a\\":{\\"b\\\\\\":\\\\\\\\\\":1}}"'},
        {"CreationTime": f'"{TIME}Z"'},
        {"CreationTime": f'"{TIME}+00:00"'},
        {"CreationTime": f'"{TIME}-08:00"'},
        {"CreationTime": f'"{TIME[:-3]}"'},
        {"CreationTime": '"2026-11-20 08:15:31"'},
        *({"CreationTime": f'"{TIME}.{"1234567890"[:digits]}"'} for digits in range(1, 10)),
        {"CreationTime": '"0001-01-01T00:00:00"'},
        {"CreationTime": '"9999-12-31T23:59:59.9999999Z"'},
        {"ObjectId": '"' + "long" * 500_000 + '"', "New": "[" + "0," * 100_000 + "0]"},
        {"UserId": f'"{PLANES}"', PLANES: f'"{PLANES}"'},
        {"New": "[" * 300 + "]" * 300, "UserId": '{"a":' * 300 + "1" + "}" * 300},
    ],
    ids=lambda m: ",".join(m)[:60],
)
def test_drifted_record_is_rebuilt(members):
    given_time = {"CreationTime": members.pop("CreationTime")} if "CreationTime" in members else {}
    head = "".join(f'"{k}":{v},' for k, v in given_time.items())
    time = "" if given_time else f',"CreationTime":"{TIME}"'
    drifted = "".join(f',"{k}":{v}' for k, v in members.items())
    kind = "" if "RecordType" in members else ',"RecordType":1'
    assert_lossless(("[{" + head + f'"Id":"one"{time}{kind}{drifted}' + "}]").encode())


@pytest.mark.parametrize("record_type", [2, 11, 25])
@pytest.mark.parametrize(
    "value", ["5", '"text"', "null", "{}", '[{"a":":b"}]', '{"a":1,"a":2}', '{ "a" : [ ] }', r'["\ud800"]']
)
def test_column_of_any_json_is_rebuilt_from_any_json(record_type, value):
    seen = decode(blob(text_of(RecordType=str(record_type))))
    ((table, _),) = seen.rows.values()
    (column, *_) = [c for c in tables()[table].members if c.kind == "json"]
    assert_lossless(
        b'[{"Id":"one","CreationTime":"%s","RecordType":%d,"%s":%s}]'
        % (TIME.encode(), record_type, column.name.encode(), value.encode())
    )


@pytest.mark.parametrize(
    ("twice", "last"),
    [
        ('"UserId":"a","UserId":"b"', "b"),
        ('"UserId":"a","UserId":"a"', "a"),
        ('"UserId":5,"UserId":"b"', "b"),
        ('"UserId":"a","UserId":5', 5),
        ('"UserId":"a","UserId":null', None),
        (r'"UserId":5,"User\u0049d":"b"', "b"),
        (r'"User\u0049d":5,"UserId":"b"', "b"),
        (r'"User\u0049d":5,"UserId":6', 6),
        ('"UserId" :"a", "UserId"\t:\n"b"', "b"),
        ('"UserId":"a","ObjectId":":","UserId":"b"', "b"),
    ],
)
def test_last_of_a_repeated_member_counts_and_the_case_is_drift(twice, last):
    seen = decode(blob(text_of()[:-1] + b"," + twice.encode() + b"}", text_of()))
    assert seen.drift[Drift("exchange_admin", "UserId", "repeated")] == 1
    assert seen.rebuilt()[0]["UserId"] == last
    assert "UserId" not in seen.rebuilt()[1]


def test_unknown_member_that_stands_twice_is_kept_once():
    seen = decode(blob(text_of(New='1,"N\\u0065w":{"a":1,"a":2}')))
    assert seen.rebuilt() == [canonical(record(New={"a": 2}))]
    assert seen.drift[Drift("exchange_admin", "New", "repeated")] == 2


def test_repeats_inside_a_column_of_any_json_are_kept_as_they_stand():
    seen = decode(blob(text_of(RecordType="2", Item='{"a":1,"a":2}')))
    assert seen.rows[0][1]["Item"] == '{"a":1,"a":2}'
    assert Drift("exchange_mailbox", "Item", "repeated") not in seen.drift


@given(st.dictionaries(st.text(anything_written), st.text(anything_written)), spellings)
def test_members_are_read_as_they_stand(written, spell):
    text = spell(written).decode()
    read = list(members(text))
    assert {m.key: m.value for m in read} == written == json.loads(text)
    assert all(json.loads(m.raw_key) == m.key and json.loads(m.raw) == m.value and m.raw in text for m in read)


def test_members_tell_which_values_repeat_names_inside():
    repeats = [m.repeats for m in members('{"a":{"b":1,"b":1},"a":[{"b":1},{"b":1}],"c":[[{"d":{"e":0,"e":1}}]]}')]
    assert repeats == [True, False, True]
    assert list(members(" {} ")) == []
    assert next(members('{"a" : 1 }')) == Member("a", 1, '"a"', "1", False)


@pytest.mark.parametrize(
    "text", ["", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{"a" 1}', "{a:1}", "{}{}"]
)
def test_members_of_broken_text_are_refused(text):
    with pytest.raises(BrokenRecordError, match="invalid_json"):
        list(members(text))


def test_rebuilt_text_has_every_member_once():
    ((table, row),) = decode(blob(text_of(UserId='5,"UserId":"b"', New="1"))).rows.values()
    names = [m.key for m in members(rebuild(tables()[table], row))]
    assert sorted(names) == ["CreationTime", "Id", "New", "RecordType", "UserId"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample records at ../shared/samples are not here")
@pytest.mark.parametrize(
    "name", ["attack-simulation-2021.ndjson.gz", "panther-rule-tests.ndjson", "plaso.ndjson", "pnp-teams.ndjson"]
)
def test_real_records_are_rebuilt_from_their_rows(name):
    data = (SAMPLES / name).read_bytes()
    lines = [line for line in (gzip.decompress(data) if name.endswith(".gz") else data).splitlines() if line.strip()]
    for start in range(0, len(lines), 1000):
        assert_lossless(blob(*lines[start : start + 1000]))
