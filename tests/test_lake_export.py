"""Export: what the service delivered comes out again, member for member."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.export import export
from lake.query import QueryError
from lake.storage import LakeError
from lake.storage_local import LocalStorage
from schemas.contract import record_types
from schemas.model import tables
from tests.lake_records import TENANT, body, guid, land, new_lake, record, storage_at

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PAIRS = st.lists(st.fixed_dictionaries({"Name": TEXTS, "Value": TEXTS | st.none()}), max_size=3)
TIMES = st.sampled_from(["2026-11-20T08:15:31", "2026-11-20T08:15:31.5Z", "0001-01-01T00:00:00", "9999-12-31T23:59:59"])
KINDS = [*{r.table: r.value for r in record_types().values()}.values(), 999_999]


def fitting(kind: str) -> st.SearchStrategy[Any]:
    simple = {
        "string": TEXTS,
        "long": st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
        "timestamp": TIMES,
        "map": PAIRS,
        "list": st.lists(TEXTS, max_size=3),
        "record": st.dictionaries(TEXTS, TEXTS, max_size=3),
        "records": st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2), max_size=2),
        "json": st.lists(VALUES, max_size=2) | st.dictionaries(TEXTS, VALUES, max_size=2),
    }
    return simple[kind]


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    number = draw(st.sampled_from(KINDS))
    table = record_types()[number].table if number in record_types() else "generic"
    members = {c.name: c.kind for c in tables()[table].members if c.name not in ("Id", "CreationTime", "RecordType")}
    chosen = draw(st.lists(st.sampled_from(sorted(members)), max_size=8, unique=True))
    found = {name: draw(st.one_of(fitting(members[name]), VALUES)) for name in chosen}
    found |= draw(st.dictionaries(TEXTS.filter(lambda t: t not in members), VALUES, max_size=2))
    return found | {"RecordType": number, "CreationTime": draw(TIMES)}


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(records(), min_size=1, max_size=12))
def test_export_is_lossless(tmp_path_factory: pytest.TempPathFactory, made: list[dict[str, Any]]) -> None:
    sent = {guid(n): one | {"Id": guid(n)} for n, one in enumerate(made)}
    storage = storage_at(tmp_path_factory.mktemp("lossless"))
    land(new_lake(storage), {"a": body(sent.values())})
    whole = list(export(storage))
    assert {r["Id"]: r for r in map(json.loads, whole)} == sent
    assert len(whole) == len(sent)
    assert list(export(storage, "true")) == whole


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    lake = new_lake(storage_at(tmp_path))
    for start in (0, 20, 10):
        made = [record(n) for n in range(start, start + 10)]
        made += [record(100 + start, RecordType=1, Parameters=[{"Name": "Identity", "Value": "adele"}])]
        made += [record(200 + start, RecordType=999_999, Unknown=[None, {}])]
        land(lake, {f"b{start}": body(made)})
    return storage_at(tmp_path)


def numbers(storage: LocalStorage, where: str | None) -> list[int]:
    return [int(json.loads(line)["Id"][-12:], 16) for line in export(storage, where)]


def test_order_is_table_then_date_then_file(storage: LocalStorage) -> None:
    found = [json.loads(line) for line in export(storage)]
    kinds = [r["RecordType"] for r in found]
    assert kinds == [1] * 3 + [2] * 30 + [999_999] * 3
    for kind in (1, 2, 999_999):
        days = [r["CreationTime"][:10] for r in found if r["RecordType"] == kind]
        assert days == sorted(days)


def test_condition_takes_its_rows_in_the_same_order(storage: LocalStorage) -> None:
    for where in ("true", "1=1 -- all"):
        assert numbers(storage, where) == numbers(storage, None)
    chosen = numbers(storage, "UserId = 'user1@contoso.com' and date = '2026-11-21'")
    assert chosen == [n for n in numbers(storage, None) if n % 3 == 1 and n // 10 % 5 == 1]
    assert len(chosen) == 3 + 1
    assert numbers(storage, f"tenant <> '{TENANT}'") == []


def test_table_that_lacks_a_column_cannot_match(storage: LocalStorage) -> None:
    assert sorted(numbers(storage, "Parameters['Identity'] = 'adele'")) == [100, 110, 120]
    assert numbers(storage, "MailboxGuid is null") == [n for n in numbers(storage, None) if n < 100]


def test_condition_may_ask_the_ledger(storage: LocalStorage) -> None:
    where = "_content_id in (select content_id from ledger_blobs where status = 'landed' and content_id = 'b20')"
    assert sorted(numbers(storage, where)) == [*range(20, 30), 120, 220]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("UserIdd = 'x'", 'no table has the column "UserIdd" that the condition .* names; did you mean "UserId"\\?'),
        ("Zzz = 1 or Qqq = 2", 'no table has the column "[ZQ]+'),
        ("Parameters is null and MailboxGuid is null", "fits no table: none has all of its columns, each lacks "),
        ("sum(RecordType) > 1", "fits no table: Binder Error"),
        ("RecordType =", "Parser Error"),
        ("true); drop view audit; select (1", "a query must be one statement that reads"),
        ("RecordType = 'x'", "Could not convert string 'x'"),
    ],
)
def test_condition_that_cannot_be_meant_is_an_error(storage: LocalStorage, where: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        list(export(storage, where))
    assert len(str(caught.value).splitlines()) <= 2


def test_file_of_an_older_schema_is_exported(storage: LocalStorage) -> None:
    before = sorted(export(storage))
    for stored in storage.list("audit/table=generic"):
        path = Path(storage.uri, stored.key)
        pq.write_table(pq.ParquetFile(path).read().drop_columns(["Scope", "AppAccessContext"]), path)
    assert sorted(export(storage)) == before
    assert sorted(export(storage, "true")) == before


def test_damaged_file_is_one_sentence(storage: LocalStorage) -> None:
    key = next(o.key for o in storage.list("audit"))
    storage.put(key, b"damaged")
    for where in (None, "true"):
        with pytest.raises(LakeError, match=r"b.*parquet"):
            list(export(storage, where))


def test_nothing_is_no_lake(tmp_path: Path) -> None:
    for where in (None, "true"):
        with pytest.raises(LakeError, match="no lake at"):
            list(export(storage_at(tmp_path), where))
