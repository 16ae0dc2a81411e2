"""The record contract as data: the Avro schemas of the tables and the record types that lead to them."""

import csv
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
import pytest

SCHEMAS = Path(__file__).parents[1] / "schemas"
SCALARS = ("string", "long", "boolean", "double")
OURS = ["_content_id", "_content_created", "_content_type", "_extra"]
JSON_TEXT = {"type": "string", "logicalType": "json"}
TIME = {"type": "long", "logicalType": "timestamp-micros"}


@cache
def avro(table: str) -> Any:
    return json.loads((SCHEMAS / "avro" / f"{table}.avsc").read_text(encoding="utf-8"))


def table_names() -> list[str]:
    return sorted(p.stem for p in (SCHEMAS / "avro").glob("*.avsc"))


@cache
def record_types() -> list[dict[str, str]]:
    with (SCHEMAS / "tables" / "record_types.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def branches(avro_type: Any) -> list[Any]:
    return avro_type if isinstance(avro_type, list) else [avro_type]


def shape(avro_type: Any) -> str:
    """Names the kind of one branch as Avro's rule for unions sees it; a named record by its name."""
    if isinstance(avro_type, dict):
        return avro_type["name"] if avro_type["type"] == "record" else avro_type["type"]
    return avro_type


def records_in(avro_type: Any) -> list[Any]:
    found = []
    for branch in branches(avro_type):
        if isinstance(branch, dict) and branch["type"] == "record":
            found.append(branch)
        elif isinstance(branch, dict) and branch["type"] == "array":
            found.extend(records_in(branch["items"]))
    return found


def is_record(item: Any, names: set[str]) -> bool:
    """Says whether this is a record of scalars, or the name of one."""
    if isinstance(item, str):
        return item in names
    return item["type"] == "record" and all(
        f["type"][0] == "null" and len(f["type"]) == 2 and f["type"][1] in SCALARS and f["default"] is None
        for f in item["fields"]
    )


def is_allowed(branch: Any, names: set[str]) -> bool:
    if isinstance(branch, str):
        return branch in SCALARS or branch in names
    if branch["type"] == "record":
        return is_record(branch, names)
    if branch["type"] == "array":
        items = [i for i in branches(branch["items"]) if i != "null"]
        return len(items) == 1 and (items[0] in ("string", "long") or is_record(items[0], names))
    if branch["type"] == "map":
        return branch["values"] == ["null", "string"] and branch["wire"] in (["Name", "Value"], ["Key", "Value"])
    return branch in (TIME, JSON_TEXT)


@pytest.mark.parametrize("table", table_names())
def test_schema_parses_as_avro(table):
    fastavro.parse_schema(avro(table))


@pytest.mark.parametrize("table", table_names())
def test_schema_is_named_as_its_file_and_says_what_it_holds(table):
    schema = avro(table)
    assert (schema["name"], schema["namespace"], schema["type"]) == (table, "auditlake", "record")
    assert schema["doc"].endswith(".")


@pytest.mark.parametrize("table", table_names())
def test_every_table_begins_with_the_common_columns(table):
    common = avro("generic")["fields"]
    assert avro(table)["fields"][: len(common)] == common


def test_generic_ends_with_our_own_columns_and_has_nothing_of_a_family():
    assert [f["name"] for f in avro("generic")["fields"]][-4:] == OURS


@pytest.mark.parametrize("table", table_names())
def test_only_the_common_columns_are_ours(table):
    assert [f["name"] for f in avro(table)["fields"] if f["name"].startswith("_")] == OURS


def test_only_the_key_and_the_origin_of_a_record_are_required():
    required = [f["name"] for f in avro("generic")["fields"] if "null" not in branches(f["type"])]
    assert required == ["Id", "CreationTime", "_content_id", "_content_created", "_content_type"]


@pytest.mark.parametrize("table", table_names())
def test_members_of_a_family_may_be_absent(table):
    for field in avro(table)["fields"][len(avro("generic")["fields"]) :]:
        assert field["type"][0] == "null", field["name"]
        assert field["default"] is None, field["name"]


@pytest.mark.parametrize("table", table_names())
def test_every_column_has_a_doc_and_a_source_of_one_line(table):
    for field in avro(table)["fields"]:
        for key in ("doc", "source"):
            assert field[key].strip(), field["name"]
            assert "\n" not in field[key], field["name"]


@pytest.mark.parametrize("table", table_names())
def test_column_names_differ_even_where_case_is_ignored(table):
    names = [f["name"].lower() for f in avro(table)["fields"]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("table", table_names())
def test_names_are_names_that_avro_allows(table):
    records = [avro(table), *(r for f in avro(table)["fields"] for r in records_in(f["type"]))]
    for name in [r["name"] for r in records] + [f["name"] for r in records for f in r["fields"]]:
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)


@pytest.mark.parametrize("table", table_names())
def test_columns_have_only_shapes_that_the_decoder_knows(table):
    names = {r["name"] for f in avro(table)["fields"] for r in records_in(f["type"])}
    for field in avro(table)["fields"]:
        allowed = [is_allowed(b, names) for b in branches(field["type"]) if b != "null"]
        assert allowed, field["name"]
        assert all(allowed), field["name"]


@pytest.mark.parametrize("table", table_names())
def test_a_union_holds_each_kind_of_branch_once(table):
    for field in avro(table)["fields"]:
        kinds = [shape(b) for b in branches(field["type"])]
        assert sorted(set(kinds)) == sorted(kinds), field["name"]


@pytest.mark.parametrize("table", table_names())
def test_a_record_without_members_declares_objects_and_is_never_how_a_column_is_stored(table):
    for field in avro(table)["fields"]:
        stored = next(b for b in branches(field["type"]) if b != "null")
        assert all(r["fields"] for r in records_in(stored)), field["name"]
        assert stored != "AnyObject", field["name"]


@pytest.mark.parametrize("table", table_names())
def test_a_named_record_is_defined_once_and_before_its_use(table):
    defined: set[str] = set()
    for field in avro(table)["fields"]:
        for branch in branches(field["type"]):
            items = branches(branch["items"]) if isinstance(branch, dict) and branch["type"] == "array" else [branch]
            used = {i for i in items if isinstance(i, str) and i not in (*SCALARS, "null")}
            assert used <= defined, field["name"]
        new = [r["name"] for r in records_in(field["type"])]
        assert not defined & set(new), field["name"]
        defined |= set(new)


@pytest.mark.parametrize("table", table_names())
def test_a_column_stands_on_one_line(table):
    lines = (SCHEMAS / "avro" / f"{table}.avsc").read_text(encoding="utf-8").splitlines()
    columns = [json.loads(line.strip().rstrip(",")) for line in lines if line.startswith("    {")]
    assert columns == avro(table)["fields"]


def test_a_member_of_the_api_means_the_same_in_every_table_that_stores_it_as_time():
    stored: dict[str, set[str]] = {}
    for table in table_names():
        for field in avro(table)["fields"]:
            kind = next(b for b in branches(field["type"]) if b != "null")
            stored.setdefault(field["name"], set()).add("time" if kind == TIME else "other")
    assert [name for name, kinds in stored.items() if len(kinds) > 1] == []


def test_record_types_are_sorted_by_number_and_name_one_type_each():
    values = [int(r["value"]) for r in record_types()]
    assert values == sorted(set(values))
    assert all(re.fullmatch(r"\w+", r["name"]) for r in record_types())


def test_record_types_say_where_their_content_type_is_known_from():
    allowed = ("documented:", "observed:", "reported:", "inferred:", "inferred, ")
    assert [r["value"] for r in record_types() if not r["source"].startswith(allowed)] == []


def test_record_types_come_in_content_types_of_the_api():
    with (SCHEMAS / "tables" / "content_types.csv").open(encoding="utf-8", newline="") as lines:
        known = {r["name"] for r in csv.DictReader(lines)}
    assert {r["content_type"] for r in record_types()} == known


def test_every_table_has_record_types_and_every_record_type_a_table():
    assert sorted({r["table"] for r in record_types()}) == table_names()


@pytest.mark.parametrize(
    ("value", "table"),
    [
        (1, "exchange_admin"),
        (2, "exchange_mailbox"),
        (3, "exchange_mailbox"),
        (50, "exchange_mailbox"),
        (6, "sharepoint"),
        (14, "sharepoint"),
        (54, "sharepoint"),
        (8, "aad_directory"),
        (9, "aad_logon"),
        (15, "aad_logon"),
        (294, "aad_risk"),
        (25, "teams"),
        (57, "teams"),
        (11, "dlp"),
        (13, "dlp"),
        (63, "dlp"),
        (43, "information_protection"),
        (93, "information_protection"),
        (40, "security_alerts"),
        (98, "security_alerts"),
        (18, "security_compliance"),
        (52, "security_compliance"),
        (24, "ediscovery"),
        (31, "ediscovery"),
        (28, "threat_intelligence"),
        (41, "threat_intelligence"),
        (47, "threat_intelligence"),
        (64, "air_investigation"),
        (85, "attack_sim"),
        (65, "quarantine"),
        (20, "power_bi"),
        (30, "power_platform"),
        (45, "power_platform"),
        (21, "dynamics"),
        (66, "forms"),
        (22, "viva_engage"),
        (35, "planner_project"),
        (190, "planner_project"),
        (261, "copilot"),
        (379, "sentinel"),
        (5, "generic"),
    ],
)
def test_record_type_goes_to_the_table_of_its_family(value, table):
    assert {r["value"]: r["table"] for r in record_types()}[str(value)] == table


@pytest.mark.parametrize(
    ("prefix", "table"),
    [
        ("SharePoint", "sharepoint"),
        ("MicrosoftTeams", "teams"),
        ("ComplianceDLP", "dlp"),
        ("Aip", "information_protection"),
        ("MipAutoLabel", "information_protection"),
        ("PowerApps", "power_platform"),
        ("PowerPlatform", "power_platform"),
        ("Planner", "planner_project"),
        ("ProjectForTheweb", "planner_project"),
        ("VivaEngage", "viva_engage"),
        ("Sentinel", "sentinel"),
        ("DragonCopilot", "copilot"),
    ],
)
def test_record_types_of_one_name_stay_together(prefix, table):
    assert {r["table"] for r in record_types() if r["name"].startswith(prefix)} == {table}


@pytest.mark.parametrize(
    ("table", "member"),
    [
        ("aad_directory", "IntraSystemId"),
        ("exchange_mailbox", "CrossMailboxOperation"),
        ("forms", "FormType"),
        ("forms", "FormsUserType"),
        ("air_investigation", "DeepLinkUrl"),
        ("threat_intelligence", "DeliveryAction"),
        ("threat_intelligence", "Url"),
        ("security_compliance", "NonPIIParameters"),
    ],
)
def test_columns_are_spelt_as_on_the_wire(table, member):
    assert member in [f["name"] for f in avro(table)["fields"]]


@pytest.mark.parametrize(
    ("table", "member", "first", "others"),
    [
        ("exchange_admin", "Parameters", "map", ["string"]),
        ("security_compliance", "Parameters", "string", ["map"]),
        ("exchange_admin", "ExternalAccess", "boolean", ["string"]),
        ("exchange_mailbox", "ModifiedProperties", "array", []),
        ("sharepoint", "ModifiedProperties", "array", ["AnyObject"]),
        ("sharepoint", "ListBaseType", "long", ["string"]),
        ("dlp", "ExceptionInfo", "string", ["AnyObject"]),
        ("security_alerts", "Data", "string", ["AnyObject"]),
        ("power_bi", "OperationProperties", "map", ["string"]),
    ],
)
def test_members_that_arrive_in_several_forms_declare_them(table, member, first, others):
    field = next(f for f in avro(table)["fields"] if f["name"] == member)
    assert [shape(b) for b in field["type"]] == ["null", first, *others]
