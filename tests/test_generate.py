import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from emulator import drift
from emulator.draw import Draw
from emulator.generate import WORKLOADS, generate
from emulator.incident import ATTACKER_IP, FULL_LENGTH
from schemas.contract import content_types, record_types

TENANT = "2f0c6f0e-5a0b-4b7e-9a53-0d1f7f1f3c11"
START = datetime(2026, 11, 16, tzinfo=UTC)  # a Monday
END = START + timedelta(days=7)
SAMPLES = Path(__file__).parents[2] / "shared" / "samples"
MANY = 50_000

Record = dict[str, Any]


def make(count: int, seed: int = 1, start: datetime = START, end: datetime = END) -> list[Record]:
    return list(generate(seed, count, start=start, end=end, tenant_id=TENANT))


@cache
def many() -> list[Record]:
    return make(MANY)


def content_type_of(record: Record) -> str:
    known = record_types().get(int(record["RecordType"]))
    return known.content_type if known else "Audit.General"


def sizes() -> list[int]:
    return sorted(len(json.dumps(r, ensure_ascii=False, separators=(",", ":")).encode()) for r in many())


def strings(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from strings(member, name)
    elif isinstance(value, list):
        for member in value:
            yield from strings(member, key)
    elif isinstance(value, str):
        yield key, value


def test_same_arguments_give_the_same_records() -> None:
    assert make(3_000) == make(3_000)


def test_another_seed_gives_other_records() -> None:
    assert not {r["Id"] for r in make(500)} & {r["Id"] for r in make(500, seed=2)}


def test_later_stretch_speaks_of_the_same_people_under_new_ids() -> None:
    first, later = make(5_000), make(5_000, start=END, end=END + timedelta(days=7))
    people = [{r["UserId"] for r in part if r["RecordType"] == 15} for part in (first, later)]
    assert len(people[0] & people[1]) > 30
    assert not {r["Id"] for r in first} & {r["Id"] for r in later}


def test_ids_are_unique() -> None:
    assert len({r["Id"] for r in many()}) == MANY


@pytest.mark.parametrize("count", [0, 1, 7, 159, 160, 999])
def test_count_is_kept(count: int) -> None:
    assert len(make(count)) == count


def test_every_record_survives_json_and_has_id_and_time() -> None:
    for record in many():
        assert json.loads(json.dumps(record)) == record
        assert record["Id"]
        assert record["CreationTime"]
        assert record["OrganizationId"] == TENANT


@pytest.mark.parametrize(
    ("start", "end"),
    [(START, END), (START + timedelta(minutes=59, seconds=58), START + timedelta(hours=1, seconds=2))],
)
def test_creation_time_lies_in_the_half_open_stretch_and_never_falls(start: datetime, end: datetime) -> None:
    times = [r["CreationTime"].removesuffix("Z") for r in make(5_000, start=start, end=end)]
    assert times == sorted(times)
    assert all(start <= datetime.fromisoformat(t).replace(tzinfo=UTC) < end for t in (times[0], times[-1]))
    assert {len(t) for t in times} == {len("2026-11-16T00:00:00")}


def test_days_are_busier_than_nights_and_weekends() -> None:
    hours = Counter(r["CreationTime"][:13] for r in many())
    assert hours["2026-11-17T10"] > 8 * hours["2026-11-17T02"]
    assert hours["2026-11-17T10"] > 3 * hours["2026-11-21T10"]


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [(START.replace(tzinfo=None), END, 1), (END, START, 1), (START, START, 1), (START, END, -1)],
)
def test_impossible_arguments_are_refused_at_the_call(start: datetime, end: datetime, count: int) -> None:
    with pytest.raises(ValueError, match=r"expected|aware"):
        generate(1, count, start=start, end=end, tenant_id=TENANT)


@pytest.mark.parametrize(
    ("content_type", "share"),
    [
        ("Audit.SharePoint", 0.35),
        ("Audit.Exchange", 0.25),
        ("Audit.AzureActiveDirectory", 0.20),
        ("Audit.General", 0.17),
        ("DLP.All", 0.03),
    ],
)
def test_content_types_have_the_shares_of_a_usual_tenant(content_type: str, share: float) -> None:
    assert content_type in content_types()
    found = Counter(map(content_type_of, many()))[content_type] / MANY
    assert found == pytest.approx(share, abs=0.02)


def test_weights_are_per_cent() -> None:
    assert sum(WORKLOADS.values()) == pytest.approx(100, abs=1)


def test_record_types_reach_from_every_family_to_numbers_without_a_name() -> None:
    seen = {int(r["RecordType"]) for r in many()}
    named = {1, 2, 3, 4, 6, 8, 9, 11, 13, 14, 15, 18, 20, 21, 22, 24, 25, 28, 30, 33, 35, 36, 37, 40, 41, 43, 45, 47}
    assert named | {50, 52, 54, 56, 63, 64, 65, 66, 93, 94, 97, 188, 190, 261} <= seen
    tables = {record_types()[number].table for number in seen if number in record_types()}
    assert "generic" in tables
    assert len(tables) >= 18
    assert seen - set(record_types())


def test_sizes_are_those_of_real_records() -> None:
    ordered = sizes()
    assert 1_200 < ordered[MANY // 2] < 1_500
    assert 1_800 < ordered[MANY * 95 // 100] < 2_400
    assert ordered[MANY * 998 // 1000] < 9_000
    assert 20_000 < ordered[-1] < 60_000


def test_incident_is_guessed_entered_and_emptied_in_order() -> None:
    steps = [r for r in many() if ATTACKER_IP in json.dumps(r)]
    assert len(steps) == FULL_LENGTH
    assert len({r["UserId"] for r in steps}) == 1
    operations = list(dict.fromkeys(r["Operation"] for r in steps))
    taken = ["UserLoggedIn", "MailItemsAccessed", "New-InboxRule", "FileDownloaded", "AnonymousLinkCreated"]
    assert operations == ["UserLoginFailed", *taken]
    first, last = (datetime.fromisoformat(steps[n]["CreationTime"]) for n in (0, -1))
    assert last - first < timedelta(minutes=25)


def test_one_session_keeps_its_person_address_and_browser() -> None:
    seen: dict[str, set[tuple[str, str]]] = {}
    for record in make(5_000):
        context = record.get("AppAccessContext")
        if record["RecordType"] == 6 and isinstance(context, dict) and record.get("UserAgent"):
            session = seen.setdefault(context["AADSessionId"], set())
            session.add((str(record["UserId"]).lower(), record["UserAgent"]))
    assert seen
    assert {len(who) for who in seen.values()} == {1}


def _is_text(name: str) -> Callable[[Record], bool]:
    return lambda r: isinstance(r.get(name), str)


DRIFTS: dict[str, Callable[[Record], bool]] = {
    "user_type_as_text": _is_text("UserType"),
    "user_type_missing": lambda r: "UserType" not in r,
    "record_type_as_text": _is_text("RecordType"),
    "time_with_zone": lambda r: r["CreationTime"].endswith("Z"),
    "extended_properties_as_text": _is_text("ExtendedProperties"),
    "modified_properties_as_object": lambda r: isinstance(r.get("ModifiedProperties"), dict),
    "modified_properties_as_names": lambda r: (
        r["RecordType"] != 2 and isinstance(m := r.get("ModifiedProperties"), list) and m[:1] == ["AccountEnabled"]
    ),
    "parameters_as_text": lambda r: r["RecordType"] == 1 and isinstance(r.get("Parameters"), str),
    "operation_properties_as_text": lambda r: r["RecordType"] != 20 and r.get("OperationProperties") == "[]",
    "external_access_as_text": _is_text("ExternalAccess"),
    "size_as_text": _is_text("FileSizeBytes"),
    "huge_number": lambda r: any(
        isinstance(n := r.get(name), int) and n >= 1 << 31 for name in ("FileSizeBytes", "OperationCount", "ItemCount")
    ),
    "address_empty": lambda r: r.get("ClientIP") == "" and r["RecordType"] != 4,
    "address_odd": lambda r: r.get("ClientIP") in ("<null>", "fe80::1%eth0"),
    "member_null": lambda r: None in r.values(),
    "member_unknown": lambda r: any(name.startswith("Preview") for name in r),
    "name_respelt": lambda r: bool({"CrossMailboxOperations", "Data State", "IntraSystemsId"} & set(r)),
    "user_id_upper": lambda r: isinstance(u := r["UserId"], str) and "@" in u and u.isupper(),
    "text_of_all_planes": lambda r: drift.ALL_PLANES in json.dumps(r, ensure_ascii=False),
}


def test_every_kind_of_drift_is_looked_for() -> None:
    assert set(DRIFTS) == {kind.__name__ for kind in drift.KINDS}


@pytest.mark.parametrize("kind", DRIFTS)
def test_drift_of_each_kind_occurs_and_stays_rare(kind: str) -> None:
    assert 3 <= sum(map(DRIFTS[kind], many())) <= MANY // 500


def test_drift_as_a_whole_is_one_per_cent() -> None:
    drifted = sum(any(is_kind(r) for is_kind in DRIFTS.values()) for r in many())
    assert MANY * 0.007 < drifted < MANY * 0.013


def test_text_reaches_every_plane_of_unicode() -> None:
    assert {ord(character) >> 16 for character in drift.ALL_PLANES} == set(range(17))
    drift.ALL_PLANES.encode()


def test_drift_leaves_shared_values_alone() -> None:
    item = {"Subject": "Minutes"}
    record: dict[str, object] = {"Item": item, "RecordType": 2}
    assert drift.text_of_all_planes(record, Draw("any"))
    assert item == {"Subject": "Minutes"}


# Members whose values are names of the service's own, and ids and texts that every tenant has.
VOCABULARY = set(
    "Operation Name Key Workload UserAgent ListBaseType LogonError Category Severity ResultStatus ClientInfoString "  # noqa: SIM905
    "DataType Policy DetectionMethod Path ModifiedProperties".split()
)
SERVICE_TEXTS = {
    "00000002-0000-0ff1-ce00-000000000000",
    "00000003-0000-0000-c000-000000000000",
    "00000003-0000-0ff1-ce00-000000000000",
    "d3590ed6-52b3-4102-aeff-aad2292ab01c",
    "fb78d390-0c51-40cd-8e17-fdbfab77341b",
    "30 GB (32,212,254,720 bytes)",
    "99 GB (106,300,440,576 bytes)",
    "<Type>Edit</Type><MembersCanShareApplied>False</MembersCanShareApplied>",
    '[\r\n  "Windows"\r\n]',
    "Exchange Administrator",
    "Global Reader",
    "Helpdesk Administrator",
    "User Administrator",
    "Login:reprocess",
    "OAuth2:Authorize",
    "Microsoft.Azure.SyncFabric",
    "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)",
    "Not Available",
    "Office 365 Security & Compliance",
    "Office 365 SharePoint Online",
    "RequiredResourceAccess",
    "SecurityComplianceAlerts",
    "ServicePrincipal",
    "app@sharepoint",
    "i:0i.t|00000003-0000-0ff1-ce00-000000000000|app@sharepoint",
}


def test_no_value_is_taken_from_the_samples() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the real records to compare with are not here")
    real: set[str] = set()
    for path in sorted(SAMPLES.glob("*.ndjson*")):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in filter(str.strip, lines):
                real.update(value for _, value in strings(json.loads(line)) if len(value) > 12)
    ours = {value for r in many() for key, value in strings(r) if len(value) > 12 and key not in VOCABULARY}
    assert sorted((ours & real) - SERVICE_TEXTS) == []
