import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from emulator.clock import Clock
from emulator.content import Blob, content_type_of, content_type_of_line, make_blob, type_in_id
from emulator.filling import Shape, blobs_of_generated, blobs_of_lines, read_lines
from emulator.server import running
from emulator.tenant import make_tenant
from schemas.contract import content_types, record_types
from tests.emulator_visitor import NOW, Visitor, visiting

PLAIN = Shape(repeated=0, twice=0, late=0)
TENANT = ("2f0c6f0e-5a0b-4b7e-9a53-0d1f7f1f3c11", "na0020")


def lines_of(count: int) -> list[bytes]:
    return [b'{"Id":"r%d","RecordType":1}' % number for number in range(count)]


def of_lines(lines: Iterable[bytes], shape: Shape = Shape(), seed: str = "1") -> list[Blob]:
    return blobs_of_lines(lines, shape, NOW, seed, "na0020")


def counted(blobs: Iterable[Blob]) -> Counter[bytes]:
    return Counter(line for blob in blobs for line in blob.lines)


@pytest.mark.parametrize(
    ("record_type", "workload", "content_type"),
    [
        (1, None, "Audit.Exchange"),
        ("15", None, "Audit.AzureActiveDirectory"),
        (6, "Exchange", "Audit.SharePoint"),
        (13, "Exchange", "DLP.All"),
        (-1, "OneDrive", "Audit.SharePoint"),
        (None, "AzureActiveDirectory", "Audit.AzureActiveDirectory"),
        (99999, "Unheard", "Audit.General"),
        ([], {}, "Audit.General"),
        (1e400, None, "Audit.General"),
    ],
)
def test_record_goes_to_the_content_type_of_its_record_type_or_else_workload(
    record_type: object, workload: object, content_type: str
) -> None:
    assert content_type_of(record_type, workload) == content_type


def test_every_record_type_goes_where_the_contract_says() -> None:
    for value, known in record_types().items():
        assert content_type_of(value, None) == known.content_type


@pytest.mark.parametrize(
    ("line", "content_type"),
    [
        (b'{"RecordType":1}', "Audit.Exchange"),
        (b'{"RecordType":[1],"Workload":{"a":1}}', "Audit.General"),
        (b"42", "Audit.General"),
        (b'["a"]', "Audit.General"),
        (b"null", "Audit.General"),
        (b'{"RecordType":1', None),
        (b"42 43", None),
        (b"plain text", None),
        (b'{"Id":"\xff"}', None),
    ],
)
def test_line_is_classified_whatever_it_is(line: bytes, content_type: str | None) -> None:
    assert content_type_of_line(line) == content_type


def test_blob_names_its_times_and_its_type() -> None:
    blob = make_blob("DLP.All", [b"{}"], NOW + timedelta(microseconds=204999), number=0, datacentre="emea0036")
    earliest, latest, *rest = blob.content_id.split("$")
    assert (len(earliest), len(latest)) == (23, 23)
    assert latest == "20261120120000204068349"
    assert earliest < latest
    assert rest == ["dlp_all", "DLP_All", "emea0036"]
    assert type_in_id(blob.content_id) == "DLP.All"
    assert blob.created == NOW + timedelta(milliseconds=204)
    assert blob.expiration == blob.created + timedelta(days=7)


def test_lines_come_back_byte_for_byte() -> None:
    odd = [b'{"Id" : "1",  "U":"\\/\\u00e9"}', b'{"Id":"2","Id":"3"}', b"17", '{"Id":"ü"}'.encode()]
    blobs = of_lines(odd, PLAIN)
    assert counted(blobs) == Counter(odd)
    for blob in blobs:
        assert blob.body() == b"[" + b",".join(blob.lines) + b"]"
        assert gzip.decompress(blob.gzipped()) == blob.body()


def test_line_that_is_no_json_stands_alone_so_that_its_neighbours_are_read() -> None:
    broken = [b'{"Id":', b"text", b'{"Id":"\xff"}']
    blobs = of_lines([*broken, *lines_of(300), b"1", b"2"])
    holding = [list(blob.lines) for blob in blobs if any(line in broken for line in blob.lines)]
    assert sorted(holding) == sorted([line] for line in broken)


def test_lines_are_read_from_plain_and_packed_files_without_blank_ones(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"b":2}')
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(b'{"c":3} \n'))
    paths = [tmp_path / "a.ndjson", tmp_path / "b.ndjson.gz"]
    assert list(read_lines(paths)) == [b'{"a":1}', b'{"b":2}', b'{"c":3} ']


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda _: b"plain", lambda p: p[:12] + b"!" + p[13:]])
def test_damaged_gzip_is_an_os_error_that_names_the_file(tmp_path: Path, damage: "type[bytes]") -> None:
    file = tmp_path / "bad.ndjson.gz"
    file.write_bytes(damage(gzip.compress(b'{"Id":"1"}\n' * 50)))
    with pytest.raises(OSError, match=r"bad\.ndjson\.gz"):
        list(read_lines([file]))


def test_without_oddities_every_line_stands_once_and_repeats_of_the_file_stay() -> None:
    lines = [*lines_of(500), *lines_of(20)]
    assert counted(of_lines(lines, PLAIN)) == Counter(lines)


def test_some_records_stand_again_in_a_later_blob_and_some_twice_in_one() -> None:
    blobs = sorted(of_lines(lines_of(20_000)), key=lambda blob: blob.created)
    counts = counted(blobs)
    assert set(counts) == set(lines_of(20_000))
    assert 0.015 < counts.total() / 20_000 - 1 < 0.03
    assert any(max(Counter(blob.lines).values()) > 1 for blob in blobs)


def test_blobs_are_of_many_sizes_and_lie_in_the_week_before_the_anchor() -> None:
    blobs = of_lines(lines_of(20_000), PLAIN)
    sizes = {len(blob.lines) for blob in blobs}
    assert min(sizes) < 3
    assert 240 < max(sizes) <= 250
    assert min(blob.created for blob in blobs) >= NOW - timedelta(days=7) + timedelta(hours=1)
    assert NOW - timedelta(hours=2) < max(blob.created for blob in blobs) <= NOW - timedelta(minutes=4)


def test_some_blobs_are_late_but_all_have_appeared_by_the_anchor() -> None:
    blobs = of_lines(lines_of(20_000), Shape(late=0.1))
    late = [blob for blob in blobs if blob.available_at > blob.created]
    assert 0.05 < len(late) / len(blobs) < 0.15
    assert all(blob.created <= blob.available_at < NOW for blob in blobs)


def test_pending_and_expired_blobs_come_on_request_only() -> None:
    assert all(blob.expiration > NOW for blob in of_lines(lines_of(5000)))
    blobs = of_lines(lines_of(5000), Shape(pending=0.5, expired=0.5))
    pending = [blob for blob in blobs if blob.available_at > NOW]
    assert pending
    assert all(blob.created > NOW - timedelta(hours=36) for blob in pending)
    assert 0.3 < sum(blob.expiration <= NOW for blob in blobs) / len(blobs) < 0.7


def test_page_tokens_and_ids_differ() -> None:
    blobs = of_lines([b'{"RecordType":1}'] * 5000, Shape(max_records=1, days=0.01))
    assert len({blob.content_id for blob in blobs}) == len({blob.order for blob in blobs}) == len(blobs) > 4000


def described(blobs: Iterable[Blob]) -> list[tuple[object, ...]]:
    return [(b.content_id, b.created, b.expiration, b.available_at, b.order, b.gzipped()) for b in blobs]


def test_same_seed_same_blobs_and_another_seed_others() -> None:
    first, again, other = (of_lines(lines_of(2000), seed=seed) for seed in ("1", "1", "2"))
    assert described(first) == described(again)
    assert described(first) != described(other)


def test_generated_blobs_hold_all_records_of_all_types_shortly_after_their_events() -> None:
    blobs = blobs_of_generated(5000, PLAIN, NOW, "1", TENANT)
    assert described(blobs) == described(blobs_of_generated(5000, PLAIN, NOW, "1", TENANT))
    assert sum(len(blob.lines) for blob in blobs) == 5000
    assert {blob.content_type for blob in blobs} == set(content_types())
    for blob in blobs:
        assert NOW - timedelta(days=7) + timedelta(hours=1) <= blob.created <= NOW - timedelta(minutes=4)


def test_generated_blobs_are_not_listed_in_the_order_of_their_events() -> None:
    blobs = sorted(blobs_of_generated(5000, PLAIN, NOW, "1", TENANT), key=lambda blob: blob.order)
    latest = [max(json.loads(line)["CreationTime"] for line in blob.lines) for blob in blobs]
    assert latest != sorted(latest)


def listings(visitor: Visitor) -> list[bytes]:
    answers = []
    for content_type in content_types():
        visitor.start(content_type)
        for day in range(7):
            start, end = (NOW - timedelta(days=7 - day - d) for d in (0, 1))
            pages = visitor.pages(content_type, f"{start:%Y-%m-%dT%H:%M:%S}", f"{end:%Y-%m-%dT%H:%M:%S}")
            answers += [page.content.replace(visitor.emu.api_root.encode(), b"") for page in pages]
    return answers


def test_two_emulators_of_one_seed_list_the_same_bytes() -> None:
    with visiting(count=2000, page_size=5) as one, visiting(count=2000, page_size=5) as two:
        assert listings(one) == listings(two)
        assert listings(one) != []


def test_tenants_differ_and_repeat() -> None:
    first, second = make_tenant(1, 0), make_tenant(1, 1)
    assert make_tenant(1, 0).client_secret == first.client_secret
    assert len({first.tenant_id, second.tenant_id, first.client_id, second.client_id}) == 4
    assert len(first.client_secret) == 40


def test_files_go_to_the_first_tenant_and_generated_records_to_the_others(tmp_path: Path) -> None:
    file = tmp_path / "records.ndjson"
    file.write_bytes(b"\n".join(lines_of(30)))
    with running(tenants=2, records=[file], anchor=NOW, shape=PLAIN) as emu:
        first, second = (sum(len(b.lines) for b in t.by_id.values()) for t in emu.tenants)
        assert (first, second) == (30, 50_000)
    with running(tenants=2, records=[file], count=10, anchor=NOW, shape=PLAIN) as emu:
        assert [sum(len(b.lines) for b in t.by_id.values()) for t in emu.tenants] == [40, 10]


def test_anchor_is_where_the_clock_starts_unless_there_is_one() -> None:
    with visiting() as visitor:
        assert abs(visitor.emu.clock.now() - NOW) < timedelta(seconds=5)
    later = NOW + timedelta(days=1)
    assert Clock(later).now().microsecond % 1000 == 0
    with visiting(clock=Clock(later)) as visitor:
        assert visitor.emu.state.anchor == NOW
        assert abs(visitor.emu.clock.now() - later) < timedelta(seconds=5)


def test_clock_ticks_on_from_where_it_was_set() -> None:
    clock = Clock(NOW)
    clock.advance(90)
    first = clock.now()
    assert timedelta(seconds=90) <= first - NOW < timedelta(seconds=95)
    assert clock.now() >= first
    with pytest.raises(ValueError, match="zone"):
        clock.set(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake that is caught


def test_no_key_is_written_and_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with visiting() as visitor:
        visitor.bearer()
        (folder,) = tmp_path.iterdir()
        assert os.listdir(folder) == ["ca.pem"]  # noqa: PTH208 - names, not paths
        assert "PRIVATE" not in visitor.emu.ca_file.read_text()
    assert list(tmp_path.iterdir()) == []
