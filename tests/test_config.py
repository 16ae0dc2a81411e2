"""Settings: flag over environment over file."""

from pathlib import Path

import pytest

from pipeline.config import Config, load_config
from pipeline.errors import UsageError

A = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
B = "0d0b5f60-4c3d-4a7e-8f43-1f8c2d5b7e21"
ENV = {"AUDITLAKE_TENANT_ID": A, "AUDITLAKE_CLIENT_ID": B, "AUDITLAKE_CLIENT_SECRET": "hush", "AUDITLAKE_LAKE": "lake"}
ONE = f'lake = "from-file"\ncloud = "gcc"\n[[tenant]]\ntenant_id = "{A}"\nclient_id = "{B}"\nclient_secret_env = "S"\n'
TWO = ONE + f'[[tenant]]\nname = "fabrikam"\ntenant_id = "{B}"\nclient_id = "{A}"\nclient_secret_file = "secret.txt"\n'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str = "", environ: dict[str, str] | None = None, **flags: str) -> Config:
    if text:
        Path("auditlake.toml").write_text(text)
    return load_config(flags, ENV if environ is None else environ)


def test_environment_alone_is_enough() -> None:
    (connection,) = load().connections
    assert (connection.tenant_id, connection.client_id, connection.client_secret_env) == (
        A,
        B,
        "AUDITLAKE_CLIENT_SECRET",
    )


def test_flag_wins_over_environment_and_environment_over_file() -> None:
    assert load(ONE).lake == "lake"
    assert load(ONE, lake="flag").lake == "flag"
    assert load(ONE, {}).lake == "from-file"
    assert load(ONE, {"AUDITLAKE_CLOUD": "dod"}).connections[0].cloud == "dod"
    assert load(ONE, {"AUDITLAKE_CLOUD": "dod"}, cloud="gcc-high").connections[0].cloud == "gcc-high"


def test_file_holds_several_tenants_and_the_environment_does_not_mix_into_who_they_are() -> None:
    first, second = load(TWO).connections
    assert (first.tenant_id, second.tenant_id) == (A, B)
    assert (first.cloud, second.client_secret_file, second.name) == ("gcc", "secret.txt", "fabrikam")


def test_flag_chooses_one_of_several_tenants() -> None:
    assert [c.tenant_id for c in load(TWO, tenant_id=B).connections] == [B]
    with pytest.raises(UsageError, match=r"none of the configured tenants: .*fabrikam"):
        load(TWO, tenant_id="nobody")


def test_credential_given_by_flag_replaces_the_one_in_the_file() -> None:
    (connection,) = load(ONE, certificate_file="key.pem").connections
    assert (connection.certificate_file, connection.client_secret_env) == ("key.pem", None)


def test_content_types_are_a_list_or_words_between_commas() -> None:
    assert load(content_types="audit.exchange, DLP.All").connections[0].content_types == ("Audit.Exchange", "DLP.All")


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("", {}, "no lake is given: add --lake"),
        ("", {"AUDITLAKE_LAKE": "l"}, "no tenant_id is given: add --tenant-id, set AUDITLAKE_TENANT_ID"),
        ("", ENV | {"AUDITLAKE_CLIENT_SECRET": ""}, "no credential is given"),
        ("", ENV | {"AUDITLAKE_TENANT_ID": "contoso"}, "expected a GUID"),
        ("", ENV | {"AUDITLAKE_CLOUD": "mars"}, "expected one of enterprise, gcc"),
        ("lake = ", ENV, "cannot be read"),
        ("tenant = 5", ENV, r"begin each with \[\[tenant\]\]"),
        ("colour = 'red'", ENV, "unknown setting 'colour'"),
        (ONE + 'client_secret = "hush"', ENV, "a secret never stands in the file"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(text: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(text, environ)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["workers = 4\n", 'workers = "4"\n'])
def test_number_of_workers_may_stand_in_the_file_and_in_the_environment(text: str) -> None:
    assert load(text + ONE).connections[0].workers == 4
    assert load(ONE, ENV | {"AUDITLAKE_WORKERS": "3"}).connections[0].workers == 3


@pytest.mark.parametrize("workers", ["0", "many", "1.5", "-2"])
def test_number_of_workers_that_is_none_is_refused_with_what_was_expected(workers: str) -> None:
    with pytest.raises(UsageError, match=r"workers is .*, expected a whole number of processes, 1 or more"):
        load(ONE, workers=workers)
