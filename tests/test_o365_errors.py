"""Errors: what survives a worker boundary, and which answer is which error."""

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o365.answers import by_action, quoted, refusal, retry_after_s
from o365.errors import (
    ActivityError,
    ConfigError,
    FatalError,
    ListingChangedError,
    NotSubscribedError,
    RetryableError,
    SkippableError,
    ThrottledError,
    WindowError,
)
from schemas.contract import api_errors


def refused(status: int, code: str = "", message: str = "", **more: object) -> ActivityError | None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode() if code or message else b"<html>"
    return refusal(status, {}, body, what="listing 'X'", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("a", code="AF20010", status=400),
        NotSubscribedError("b", code="AF20022", status=400),
        RetryableError("c", code="AF50000", status=500, retry_after_s=7.5),
        ThrottledError("d", retry_after_s=1.0),
        SkippableError("e", code="AF20051", status=400, expired=True),
        WindowError("f"),
    ],
)
def test_error_survives_pickling_with_all_its_fields(error: ActivityError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (vars(copy), str(copy), copy.args) == (vars(error), str(error), error.args)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AF10001", FatalError),
        ("AF20001", ConfigError),
        ("AF20010", ConfigError),
        ("AF20012", FatalError),
        ("AF20020", ConfigError),
        ("AF20022", NotSubscribedError),
        ("AF20023", NotSubscribedError),
        ("AF20030", WindowError),
        ("AF20055", WindowError),
        ("AF20031", ListingChangedError),
        ("AF20050", SkippableError),
        ("AF20051", SkippableError),
        ("AF20052", SkippableError),
        ("AF429", ThrottledError),
        ("429", RetryableError),
        ("AF50000", RetryableError),
    ],
)
def test_code_decides_the_error_whatever_the_status(code: str, kind: type[ActivityError]) -> None:
    error = refused(400, code, "words")
    assert type(error) is kind
    assert (error.code, error.status) == (code, 400)
    assert "listing 'X' failed: " in str(error)
    assert f"({code}, HTTP 400)" in str(error)


def test_every_row_of_the_table_is_understood() -> None:
    for row in api_errors().values():
        error = by_action(row.action, "m", code=row.code, status=row.http, wait_s=None)
        assert (error is None) == (row.action == "ok")
        assert (type(error) is FatalError) == (row.action == "fatal")


def test_already_enabled_is_no_error() -> None:
    assert refused(400, "AF20024", "The subscription is already enabled. No property change.") is None


@pytest.mark.parametrize(("code", "expired"), [("AF20050", False), ("AF20051", True)])
def test_expired_tells_deleted_content_from_content_that_never_was(code: str, expired: bool) -> None:
    error = refused(400, code)
    assert isinstance(error, SkippableError)
    assert error.expired is expired


@pytest.mark.parametrize(
    ("status", "is_blob", "kind"),
    [
        (301, False, ConfigError),
        (400, False, FatalError),
        (400, True, SkippableError),
        (401, True, FatalError),
        (403, True, FatalError),
        (404, True, SkippableError),
        (404, False, RetryableError),
        (408, True, RetryableError),
        (410, True, SkippableError),
        (429, False, ThrottledError),
        (500, False, RetryableError),
        (503, True, RetryableError),
    ],
)
def test_status_decides_where_no_code_is_known(status: int, is_blob: bool, kind: type[ActivityError]) -> None:
    assert type(refused(status, is_blob=is_blob)) is kind


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"error": 5}', b'{"error": {"code": 7}}'])
def test_odd_error_body_is_classified_by_its_status(body: bytes) -> None:
    assert type(refusal(503, {}, body, what="x")) is RetryableError


@pytest.mark.parametrize(
    ("content_type", "role"),
    [("DLP.All", "'ActivityFeed.ReadDlp'"), ("Audit.General", "'ActivityFeed.Read'"), (None, "'ActivityFeed.Read'")],
)
def test_missing_permission_names_the_role_to_grant(content_type: str | None, role: str) -> None:
    error = refused(401, "AF10001", "The permission set () …", content_type=content_type)
    assert isinstance(error, FatalError)
    assert role in str(error)
    assert "admin consent" in str(error)


def test_tenant_without_auditing_gets_one_clear_sentence() -> None:
    text = "Microsoft.Office.Audit.DataServiceException: Tenant 5c1e does not exist.\r\n   at Foo()" + "x" * 9000
    error = refused(400, "StartSubscription [CorrId=1][TenantId=5c1e", text)
    assert type(error) is FatalError
    assert "unified audit logging is off" in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Too many frequent subscription start requests. Please retry again after 8m 46s.", 526.0),
        ("Please retry again after 14m 56s.", 896.0),
        ("Please retry again after 46s.", 46.0),
        ("Please retry again after 1h 2m 3s.", 3723.0),
        ("Please wait.", 900.0),
    ],
)
def test_start_refusal_carries_the_wait_the_service_spells_out(text: str, seconds: float) -> None:
    error = refused(403, "429", text)
    assert type(error) is RetryableError
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("7", None, 7.0),
        ("7.5", None, 7.5),
        ("-3", None, 0.0),
        ("nan", None, None),
        ("soon", None, None),
        ("", None, None),
        ("Fri, 20 Nov 2026 08:00:30 GMT", "Fri, 20 Nov 2026 08:00:00 GMT", 30.0),
        ("Fri, 20 Nov 2026 07:00:00 GMT", "Fri, 20 Nov 2026 08:00:00 GMT", 0.0),
        ("Fri, 20 Nov 2000 07:00:00 GMT", None, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, date: str | None, seconds: float | None) -> None:
    headers = {"retry-After": value} | ({"date": date} if date else {})
    assert retry_after_s(headers) == seconds


def test_quoted_text_is_one_bounded_line_without_credentials() -> None:
    text = "a\r\n\tb Bearer abc.def opaque-token eyJ0eXAi.eyJhdWQi.c2ln " + "z" * 500
    line = quoted(text, ("opaque-token",))
    assert "opaque-token" not in line
    assert "eyJ" not in line
    assert "abc.def" not in line
    assert line.startswith("'a b … … … zzz")
    assert len(line) <= 202


@given(status=st.integers(100, 599), body=st.binary(max_size=200), is_blob=st.booleans())
def test_any_answer_is_a_success_or_one_of_our_errors(status: int, body: bytes, is_blob: bool) -> None:
    error = refusal(status, {}, body, what="x", is_blob=is_blob)
    assert (error is None) == (200 <= status < 300)
