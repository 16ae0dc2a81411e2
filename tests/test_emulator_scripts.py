"""The scripts that come along: each does over HTTP what its first lines say, and the same for a seed."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from emulator.fault_script import read_script, script_names
from emulator.shape import Shape
from emulator.truth import BlobTruth, bodies, truth
from schemas.contract import content_types
from tests.emulator_visitor import NOW, Visitor, code_of, visiting

GENERAL = "Audit.General"
HOUR_S = 3600
MEGABYTE = 1 << 20


@contextmanager
def played(name: str, **options: object) -> Iterator[Visitor]:
    """Runs a named script on 1,500 records of the last day, with all types started."""
    usual: dict[str, object] = {"count": 1500, "shape": Shape(days=0.9, max_records=20, late=0, twice=0, repeated=0)}
    with visiting(**usual | {"faults": Path(name)} | options) as visitor:
        for content_type in content_types():
            while not visitor.start(content_type).ok:
                pass
        yield visitor


def told(visitor: Visitor) -> dict[str, BlobTruth]:
    return truth(visitor.tenant, visitor.emu.clock.now())


def listed(visitor: Visitor, hours: float = 23) -> list[str]:
    """The ids of all pages of the hours before the clock's time."""
    end = visitor.emu.clock.now()
    return listed_between(visitor, f"{end - timedelta(hours=hours):%Y-%m-%dT%H:%M}", f"{end:%Y-%m-%dT%H:%M:%S}")


def listed_between(visitor: Visitor, start: str, end: str) -> list[str]:
    found = []
    for page in visitor.pages(GENERAL, start, end):
        assert page.ok, page.text
        found += [item["contentId"] for item in page.json()]
    return found


def fetched(visitor: Visitor, content_id: str) -> requests.Response:
    return visitor.ask(f"/audit/{content_id}")


def general(visitor: Visitor) -> list[str]:
    return [blob.content_id for blob in visitor.tenant.blobs[GENERAL]]


def advance(visitor: Visitor, hours: float) -> None:
    visitor.emu.clock.advance(hours * HOUR_S)
    visitor.renew()


def statuses(visitor: Visitor, times: int = 1) -> Counter[tuple[int, ...]]:
    """How often blobs of a type are answered with which statuses, one after the other."""
    return Counter(
        tuple(fetched(visitor, content_id).status_code for _ in range(times)) for content_id in general(visitor)
    )


def test_many_pages() -> None:
    with played("many-pages") as visitor:
        answer = visitor.content()
        assert len(answer.json()) == 3
        assert "NextPageUri" in answer.headers
        assert listed_between(visitor, "2026-11-19T13:00", "2026-11-20T12:00") == general(visitor)


def test_restless_pages() -> None:
    with played("restless-pages") as visitor:
        repeats, moved, lost = 0, 0, 0
        order = {content_id: place for place, content_id in enumerate(general(visitor))}
        assert len(order) > 30
        for start in range(6):
            answer, before = visitor.content(startTime=f"2026-11-19T13:0{start}", endTime="2026-11-20T12:00"), ""
            while True:
                if not answer.ok:
                    assert code_of(answer) == (400, "AF20031")
                    lost += 1
                    break
                places = [order[item["contentId"]] for item in answer.json()]
                repeats += before in [item["contentId"] for item in answer.json()]
                moved += places != sorted(places)
                before = max((item["contentId"] for item in answer.json()), key=lambda each: order[each])
                if "NextPageUri" not in answer.headers:
                    break
                answer = visitor.ask(answer.headers["NextPageUri"])
        assert min(repeats, moved, lost) > 0


def test_flickering_listings() -> None:
    with played("flickering-listings") as visitor:
        window = ("2026-11-19T13:00", "2026-11-20T12:00")
        first, second = (listed_between(visitor, *window) for _ in range(2))
        assert second == general(visitor)
        assert set(first) < set(second)
        assert 0.6 < len(first) / len(second) < 0.95
        assert {visitor.tenant.by_id[content_id].listed for content_id in second} == {1, 2}


def test_listings_by_start() -> None:
    with played("listings-by-start") as visitor:
        whole = listed_between(visitor, "2026-11-19T16:00", "2026-11-20T12:00")
        assert set(whole) <= set(general(visitor))
        cut = listed_between(visitor, "2026-11-19T16:30", "2026-11-20T12:00")
        parts, known = [i for i in cut if i not in general(visitor)], set(general(visitor))
        assert parts
        assert listed_between(visitor, "2026-11-19T16:30", "2026-11-20T12:00") == cut
        for part in parts:
            (blob,) = (b for b in whole if b.split("$")[1:] == part.split("$")[1:])
            some, all_of_them = fetched(visitor, part).json(), fetched(visitor, blob).json()
            assert some == all_of_them[-len(some) :]
        assert any(len(told(visitor)[p].records) < 3 for p in parts) or len(parts) < 3
        assert set(cut) - set(parts) <= known
        assert listed_between(visitor, "2026-11-19T16:00", "2026-11-20T12:00") == whole


def test_many_records() -> None:
    with played("many-records", shape=Shape(), count=20_000) as visitor:
        sizes = [len(fetched(visitor, content_id).json()) for content_id in general(visitor)]
        assert max(sizes) > 20


def test_slow_blobs() -> None:
    with played("slow-blobs") as visitor:
        waits = [fetched(visitor, content_id).elapsed.total_seconds() for content_id in general(visitor)[:15]]
        assert min(waits) < 0.3 <= max(waits)
        assert "pending" in {blob.state for blob in told(visitor).values()}


def test_failing_for_hours() -> None:
    with played("failing-for-hours") as visitor:
        visitor.emu.state.page_size = 5
        failing = [content_id for content_id in general(visitor)[:40] if _fails(visitor, content_id)]
        assert 0 < len(failing) < 25
        assert failing == [content_id for content_id in general(visitor)[:40] if _fails(visitor, content_id)]
        advance(visitor, 3.1)
        assert [content_id for content_id in general(visitor)[:40] if _fails(visitor, content_id)] == []


def _fails(visitor: Visitor, content_id: str) -> bool:
    try:
        return not fetched(visitor, content_id).ok
    except requests.ConnectionError:
        return True


@pytest.mark.parametrize(("name", "sizes_mb"), [("oversized-blobs", [1.5, 68]), ("huge-blob", [128])])
def test_oversized_blobs(name: str, sizes_mb: list[float]) -> None:
    with played(name, count=300) as visitor:
        blobs = sorted(visitor.tenant.by_id.values(), key=lambda blob: len(blob.lines))[-len(sizes_mb) :]
        for blob, size_mb in zip(blobs, sizes_mb, strict=True):
            body = fetched(visitor, blob.content_id).content
            assert size_mb * MEGABYTE <= len(body) < (size_mb + 0.1) * MEGABYTE
            assert body.count(b'"CreationTime"') >= len(blob.lines) > 500


def test_late_blobs() -> None:
    with played("late-blobs", count=4000) as visitor:
        seen: set[str] = set()
        new_behind, news = 0, []
        for hours in (0, 0.05, 1, 6, 24, 48, 24):
            advance(visitor, hours)
            frontier = max((visitor.tenant.by_id[each].created for each in seen), default=None)
            found = {i for day in range(6) for i in _day(visitor, day)} - seen
            behind = [i for i in found if frontier is not None and visitor.tenant.by_id[i].created < frontier]
            new_behind, seen = new_behind + len(behind), seen | found
            news.append(len(behind))
        assert seen == set(general(visitor))
        assert sum(count > 0 for count in news) >= 4
        assert new_behind > 10


def _day(visitor: Visitor, day: int) -> list[str]:
    end = visitor.emu.clock.now() - timedelta(days=day)
    start = end - timedelta(days=1)
    return listed_between(visitor, f"{start:%Y-%m-%dT%H:%M:%S}", f"{end:%Y-%m-%dT%H:%M:%S}")


@pytest.mark.parametrize(("name", "end"), [("outage-26-hours", 27), ("outage-4-hours", 5), ("outage-of-blobs", 27)])
def test_outages(name: str, end: int) -> None:
    with played(name) as visitor:
        known = general(visitor)[0]
        assert fetched(visitor, known).ok
        for hours in (1.01, end - 1.1):
            visitor.emu.clock.advance(hours * HOUR_S - 1)
            if name == "outage-4-hours":
                with pytest.raises(requests.ConnectionError):
                    visitor.token()
            elif name == "outage-26-hours":
                assert (visitor.token().status_code, visitor.ask("/subscriptions/list").status_code) == (502, 503)
            else:
                visitor.renew()
                assert listed(visitor)
                assert fetched(visitor, known).status_code == 500
        advance(visitor, 0.2)
        assert fetched(visitor, known).ok
        newest = max(blob.created for blob in visitor.tenant.by_id.values())
        assert newest > NOW + timedelta(hours=min(end, 48) - 1) or name == "outage-4-hours"
        assert newest > NOW + timedelta(hours=5)
        assert listed(visitor, 4)


def test_refused_connections_end_before_tls_and_some_only() -> None:
    outcomes, reasons = [], []
    with visiting(count=10, faults=Path("refused-connections")) as visitor:
        for _ in range(40):
            try:
                outcomes.append(visitor.token().status_code)
            except requests.ConnectionError as error:
                outcomes.append(0)
                reasons.append(str(error))
    assert all("reset" in reason for reason in reasons)
    assert outcomes[:2] == [0, 0]
    assert set(outcomes) == {0, 200}
    assert 0.1 < outcomes.count(0) / len(outcomes) < 0.5


def test_refusal_ends_requests_of_open_connections_too() -> None:
    with played("outage-4-hours") as visitor, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {visitor.bearer()}"
        ca_file, uri = str(visitor.emu.ca_file), f"{visitor.feed}/subscriptions/list"
        assert session.get(uri, verify=ca_file, timeout=20).ok
        visitor.emu.clock.advance(2 * HOUR_S)
        with pytest.raises(requests.ConnectionError):
            session.get(uri, verify=ca_file, timeout=20)


def test_expired_blobs() -> None:
    with played("expired-blobs") as visitor:
        expired = {i for i, blob in told(visitor).items() if blob.state == "expired" and blob.content_type == GENERAL}
        assert 0 < len(expired) < len(general(visitor)) / 3
        assert set(listed_between(visitor, "2026-11-19T13:00", "2026-11-20T12:00")) == set(general(visitor))
        for content_id in general(visitor):
            answer = fetched(visitor, content_id)
            assert answer.ok != (content_id in expired)
            assert answer.ok or code_of(answer) == (400, "AF20051")


def test_not_found() -> None:
    with played("not-found") as visitor:
        found = statuses(visitor, 2)
    assert set(found) == {(404, 200), (200, 200)}
    assert 0.15 < found[404, 200] / found.total() < 0.55


def test_gone_blobs() -> None:
    with played("gone-blobs") as visitor:
        found = statuses(visitor, 2)
        assert {first == second for first, second in found} == {True}
        assert found[200, 200] > found.total() * 0.7
        assert found[404, 404] > 0
        assert found[400, 400] > 0


def test_past_retention() -> None:
    with played("past-retention", count=3000) as visitor:
        states = Counter(blob.state for blob in told(visitor).values())
        assert min(states["expired"], states["available"], states["pending"]) > 10
        assert code_of(visitor.content(startTime="2026-11-11T12:00", endTime="2026-11-12T12:00")) == (400, "AF20055")
        advance(visitor, 9 * 24)
        states = Counter(blob.state for blob in told(visitor).values())
        assert set(states) == {"expired", "available"}
        assert listed(visitor, 23)


def test_broken_records() -> None:
    with played("broken-records") as visitor:
        found = told(visitor)
        broken = [blob for blob in found.values() if blob.broken]
        assert 10 < len(broken) < len(found)
        assert len(bodies(found.values())) == 1500
        kinds = set()
        for blob in broken:
            body = fetched(visitor, blob.content_id).content
            assert all(line in body for line in blob.broken)
            kinds |= {_parses(line) for line in blob.broken}
        assert kinds == {"object", "other", "not JSON", "not text"}


def _parses(line: bytes) -> str:
    try:
        return "object" if isinstance(json.loads(line.decode()), dict) else "other"
    except UnicodeDecodeError:
        return "not text"
    except ValueError:
        return "not JSON"


def test_short_tokens() -> None:
    with played("short-tokens") as visitor:
        assert visitor.token().json()["expires_in"] in (89, 90)
        assert 401 in {status for answers in statuses(visitor, 2) for status in answers}
        visitor.emu.clock.advance(91)
        answers = [visitor.content() for _ in range(2)]
        assert [answer.status_code for answer in answers] == [401, 401]
        visitor.renew()
        assert 200 in {visitor.content().status_code for _ in range(2)}


def test_throttle_storm() -> None:
    with visiting(count=600, faults=Path("throttle-storm"), shape=Shape(days=0.9, max_records=20)) as visitor:
        assert [visitor.token().status_code for _ in range(3)] == [429, 429, 200]
        while not visitor.start().ok:
            pass
        found = statuses(visitor, 12)
        refused = sum(status != 200 for answers in found.elements() for status in answers[:2])
        assert refused > found.total() * 2 * 0.3
        assert {status for answers in found for status in answers} == {200, 403, 429}
        assert all(sum(status != 200 for status in answers) <= 4 for answers in found)


def test_redelivered() -> None:
    with played("redelivered", shape=Shape(twice=0, repeated=0)) as visitor:
        blobs = sorted(told(visitor).values(), key=lambda blob: blob.created)
        ids = Counter(record_id for blob in blobs for record_id in blob.records)
        again = [blob for blob in blobs if any(ids[record_id] > 1 for record_id in blob.records)]
        assert len(ids) == 1500
        assert len(again) > 4
        assert again[-1].created - again[0].created >= timedelta(days=5)
        assert fetched(visitor, again[-1].content_id).ok


def test_conflicts() -> None:
    with played("conflicts") as visitor:
        found = bodies(told(visitor).values())
        assert Counter(len(each) for each in found.values()).keys() == {1, 2}
        blob = next(b for b in told(visitor).values() if any(len(found[i]) == 2 for i in b.records))
        assert fetched(visitor, blob.content_id).content in visitor.tenant.by_id[blob.content_id].body()


def test_error_codes() -> None:
    with played("error-codes", shape=Shape(days=0.9, max_records=3)) as visitor:
        assert [code_of(visitor.ask("/resources/dlpSensitiveTypes"))[1] for _ in range(2)] == ["AF20053", "AF20054"]
        windows = [f"2026-11-20T{h:02}:{m:02}" for h in range(4) for m in range(60)]
        codes = set()
        for start in windows:
            answer = visitor.content(startTime=start, endTime="2026-11-20T12:00")
            codes |= set() if answer.ok else {code_of(answer)[1]}
        assert len(codes) > 12
        answers = [fetched(visitor, content_id) for content_id in general(visitor)]
        blob_codes = {code_of(answer)[1] for answer in answers if not answer.ok}
        assert {"AF20050", "AF20051", "AF20052", "AF50000"} <= blob_codes
        assert sum(answer.ok for answer in answers) > len(answers) * 0.5
        advance(visitor, 1.1)
        assert statuses(visitor).keys() == {(200,)}
        assert visitor.content(startTime=windows[0], endTime=windows[-1]).ok


def test_stalled() -> None:
    with played("stalled") as visitor:
        ended, whole = 0, 0
        for content_id in general(visitor)[:40]:
            try:
                whole += fetched(visitor, content_id).ok
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                ended += 1
                assert fetched(visitor, content_id).ok
        assert 0 < ended < 15
        assert whole + ended == 40


@pytest.mark.parametrize("name", ["bad-blobs", "emptied-blobs"])
def test_blobs_that_are_right_the_second_time(name: str) -> None:
    with played(name) as visitor:
        odd = []
        for content_id in general(visitor):
            first, second = (fetched(visitor, content_id) for _ in range(2))
            assert first.ok
            assert second.content == visitor.tenant.by_id[content_id].body()
            if first.content != second.content:
                odd.append((first.content[:1], len(first.content) / len(second.content)))
    assert 0.1 < len(odd) / len(general(visitor)) < 0.7
    assert {begin for begin, _ in odd} == ({b"["} if name == "emptied-blobs" else {b"", b"<", b"{", b"["})
    if name == "bad-blobs":
        cut = [length for begin, length in odd if begin == b"["]
        assert min(cut) < 0.55
        assert max(cut) > 0.99


def test_empty_blobs() -> None:
    with played("empty-blobs") as visitor:
        empty = [content_id for content_id, blob in told(visitor).items() if not blob.records]
        assert 3 < len(empty) < len(told(visitor)) / 3
        assert {fetched(visitor, content_id).content for content_id in empty} == {b"[]"}


@pytest.mark.parametrize("name", [n for n in script_names() if n not in ("oversized-blobs", "huge-blob")])
def test_script_makes_the_same_content_for_a_seed(name: str) -> None:
    def content(seed: int) -> list[tuple[object, ...]]:
        with visiting(count=300, seed=seed, faults=Path(name)) as visitor:
            return [
                (b.content_id, b.created, b.available_at, b.expiration, b.body()) for b in visitor.tenant.by_id.values()
            ]

    assert content(1) == content(1) != content(2)


def test_every_script_begins_with_what_it_is_for() -> None:
    folder = Path(read_script.__code__.co_filename).parent / "faults"
    for name in script_names():
        assert (folder / f"{name}.toml").read_text().startswith("# "), name
