from collections.abc import Iterator

import pytest

from tests.emulator_visitor import Visitor, code_of, visiting

RECORDS = [{"Id": "r1"}, {"Id": "r2"}]


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with visiting(control=True) as visitor:
        yield visitor


def change(visitor: Visitor, **wanted: object) -> list[str]:
    answer = visitor.send("POST", f"/control/tenants/{visitor.tenant.tenant_id}", json=wanted)
    assert answer.status_code == 200, answer.text
    added: list[str] = answer.json()["added"]
    return added


def test_there_is_no_control_unless_asked_for() -> None:
    with visiting() as visitor:
        assert visitor.send("GET", "/control/truth").status_code == 404
        assert visitor.send("POST", f"/control/tenants/{visitor.tenant.tenant_id}", json={}).status_code == 404


def test_truth_tells_blobs_records_and_how_often_they_were_asked_for(visitor: Visitor) -> None:
    (content_id,) = change(visitor, add=[{"content_type": "Audit.General", "records": RECORDS}])
    visitor.start()
    visitor.emu.clock.advance(2)
    visitor.content()
    for _ in range(2):
        visitor.ask(f"/audit/{content_id}")
    truth = visitor.send("GET", "/control/truth").json()["tenants"][visitor.tenant.tenant_id]
    (blob,) = truth["blobs"]
    assert (blob["id"], blob["type"], blob["record_ids"]) == (content_id, "Audit.General", ["r1", "r2"])
    assert (blob["listed"], blob["fetched"]) == (1, 2)
    assert blob["created"] == blob["available_at"]
    assert truth["requests"] == {"Token": 1, "StartSubscription": 1, "ListContent": 1, "GetBlob": 2}
    assert truth["subscriptions"] == {"Audit.General": True}


def test_clock_is_told_set_and_advanced(visitor: Visitor) -> None:
    assert visitor.send("GET", "/control/clock").json()["now"].startswith("2026-11-20T12:00:0")
    answer = visitor.send("POST", "/control/clock", json={"set": "2026-11-22T00:00:00Z", "advance": 90})
    assert answer.json()["now"].startswith("2026-11-22T00:01:3")


def test_added_blob_may_be_of_another_time_and_appear_later(visitor: Visitor) -> None:
    blob = {"content_type": "DLP.All", "records": [{"Id": "1"}]}
    times = {"created": "2026-11-19T12:00:00Z", "available_at": "2026-11-20T13:00:00Z"}
    (content_id,) = change(visitor, add=[blob | times])
    change(visitor, subscriptions={"DLP.All": "enabled"})
    window = {"startTime": "2026-11-19T00:00", "endTime": "2026-11-20T00:00"}
    assert visitor.content("DLP.All", **window).json() == []
    visitor.send("POST", "/control/clock", json={"advance": 3600})
    visitor.renew()
    assert [b["contentId"] for b in visitor.content("DLP.All", **window).json()] == [content_id]


def test_blob_can_be_expired(visitor: Visitor) -> None:
    (content_id,) = change(visitor, add=[{"content_type": "Audit.General", "records": RECORDS}])
    visitor.start()
    change(visitor, expire=[content_id])
    assert code_of(visitor.ask(f"/audit/{content_id}")) == (400, "AF20051")


def test_roles_secret_auditing_status_and_quota_can_be_switched(visitor: Visitor) -> None:
    visitor.start()
    change(visitor, auditing=False)
    assert "does not exist" in visitor.content().json()["error"]["message"]
    change(visitor, auditing=True, status="deleted")
    assert code_of(visitor.content()) == (400, "AF20011")
    change(visitor, status="active", quota=1)
    assert [visitor.content().status_code, visitor.content().status_code] == [200, 403]
    change(visitor, quota=0, secret_expired=True)
    assert visitor.content().status_code == 200
    assert visitor.token().json()["error_codes"] == [7000222]
    change(visitor, secret_expired=False, roles=["ActivityFeed.Read"])
    visitor.renew()
    assert code_of(visitor.content("DLP.All")) == (401, "AF10001")


def test_subscriptions_can_be_set(visitor: Visitor) -> None:
    change(visitor, subscriptions={"Audit.General": "enabled"})
    assert visitor.content().status_code == 200
    change(visitor, subscriptions={"Audit.General": "disabled"})
    assert code_of(visitor.content()) == (400, "AF20023")
    change(visitor, subscriptions={"Audit.General": "none"})
    assert code_of(visitor.content()) == (400, "AF20022")


@pytest.mark.parametrize(
    "wanted",
    [
        {"rolls": []},
        {"status": "gone"},
        {"expire": ["nothing"]},
        {"add": [{"content_type": "Audit.Nothing", "records": []}]},
        {"add": [{"content_type": "DLP.All", "records": [], "created": "soon"}]},
        {"subscriptions": {"Audit.General": "maybe"}},
    ],
)
def test_wrong_change_is_refused_and_changes_nothing(visitor: Visitor, wanted: dict[str, object]) -> None:
    url = f"/control/tenants/{visitor.tenant.tenant_id}"
    answer = visitor.send("POST", url, json={"auditing": False} | wanted)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert visitor.tenant.auditing


def test_unknown_tenant_is_404(visitor: Visitor) -> None:
    assert visitor.send("POST", "/control/tenants/nobody", json={}).status_code == 404
