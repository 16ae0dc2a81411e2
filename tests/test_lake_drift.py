"""Drift: what no schema declares is counted, shown without its values, and adopted without breaking what stands."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lake.drift import Drift, adopting_line, describe, drift, masked, to_json
from lake.export import export
from lake.query import run_query
from lake.tenant import TenantLake
from lake.verify import verify
from schemas import build, columns, decode
from schemas.model import table_of, tables
from tests.lake_records import body, land, new_lake, record, storage_at

TABLE = "exchange_mailbox"
CACHES = (columns.arrow_type, build.member_names, decode.member_schema)


@pytest.fixture
def lake(tmp_path: Path) -> TenantLake:
    return new_lake(storage_at(tmp_path))


def adopt(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Puts a line into the table's schema, as a user does with its .avsc, and starts anew."""
    field = json.loads(line)
    avro = tables()[TABLE].avro
    fields = [field if f["name"] == field["name"] else f for f in avro["fields"]]
    fields += [field] if field not in fields else []
    changed = {**tables(), TABLE: table_of(avro | {"fields": fields})}
    readers = ("lake.query", "lake.export", "lake.drift", "lake.rows", "lake.repeats", "schemas.decode")
    for module in readers:
        monkeypatch.setattr(f"{module}.tables", lambda: changed)
    for cache in CACHES:
        cache.cache_clear()


@pytest.fixture(autouse=True)
def _fresh_caches() -> Any:
    yield
    for cache in CACHES:
        cache.cache_clear()


def ours(found: list[Drift]) -> dict[tuple[str, str], Drift]:
    return {(d.member, d.json_type): d for d in found}


def test_drift_is_counted_and_shown_masked(lake: TenantLake) -> None:
    secret = {"Ring": [12, "adele@contoso.com", None, True], "Über": "Zoë 7"}
    land(lake, {"a": body([record(1, New=secret), record(2, New={}), record(3, UserType="2"), record(4)])})
    land(lake, {"b": body([record(5, New={"Ring": []}), record(6, RecordType=4321)])})
    found = ours(drift(lake.storage))
    assert set(found) == {("New", "object"), ("UserType", "string"), ("4321", "record type")}
    new = found["New", "object"]
    assert (new.table, new.count) == (TABLE, 3)
    assert new.first <= new.last
    assert isinstance(new.first, datetime)
    assert found["4321", "record type"].adopt == "4321,Exchange,generic,Audit.Exchange,observed in a lake"
    text = describe(drift(lake.storage)) + json.dumps(to_json(drift(lake.storage)))
    assert "adele" not in text
    assert "contoso" not in text


def test_masked_keeps_form_and_hides_values() -> None:
    text = masked('{"Ring": [12, "adele@contoso.com", null, true], "Ü": "Zoë 7"}')
    assert json.loads(text) == {"Ring": [9, "xxxxx@xxxxxxx.xxx", None, True], "Ü": "xxx 9"}


def test_no_drift_says_so(lake: TenantLake) -> None:
    land(lake, {"a": body([record(1)])})
    assert drift(lake.storage) == []
    assert describe([]).startswith("no drift")


@pytest.mark.parametrize(
    ("member", "value", "json_type"),
    [
        ("New", "text", "string"),
        ("New", 7, "integer"),
        ("New", 1.5, "number"),
        ("New", True, "boolean"),
        ("New", {"a": [1]}, "object"),
        ("New", [1, {"b": None}], "array"),
        ("UserType", "2", "string"),
        ("ResultStatus", True, "boolean"),
    ],
)
def test_line_that_is_given_adopts_the_drift_and_old_rows_still_read(
    lake: TenantLake, monkeypatch: pytest.MonkeyPatch, member: str, value: object, json_type: str
) -> None:
    before, after = record(1, **{member: value}), record(2, **{member: value})
    land(lake, {"a": body([before, record(3)])})
    (one,) = drift(lake.storage)
    assert (one.member, one.json_type, one.count) == (member, json_type, 1)
    assert one.adopt is not None
    adopt(monkeypatch, one.adopt)
    newer = new_lake(lake.storage)
    land(newer, {"b": body([after, before])})
    assert newer.ledger.state.blobs["b"].duplicates == 1, "the same record under the old schema and the new"
    assert drift(lake.storage) == [], "it is declared now"
    exported = sorted((json.loads(line) for line in export(lake.storage)), key=lambda r: r["Id"])
    assert exported == [before, after, record(3)]
    assert verify(lake.storage).problems == []
    (batch,) = run_query(lake.storage, f'select count("{member}") as n from {TABLE}').batches
    assert batch.to_pylist()[0]["n"] >= 1


def test_member_inside_another_has_no_line() -> None:
    assert adopting_line(tables()[TABLE], "Item.New", "string") is None
    assert adopting_line(tables()[TABLE], "New", "repeated") is None
