"""Targets: what people write, in files, flags and the environment, is understood or refused in a sentence."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st

from pipeline.config import SETTINGS, load_config
from pipeline.errors import UsageError
from pipeline.plan import parse_span
from schemas.times import format_utc, format_wire, parse_wire
from tests.fuzz.mutations import mutated

_GUID = "5c1e7f1c-3a1b-4d0e-9a53-0f2e1b7c9d11"
_WORDS = st.sampled_from(["", "x", _GUID, "enterprise", "https://x", "Audit.General", "S", "a.pfx", "../x", "\ud800"])
_TOML = st.sampled_from(
    [f'"{_GUID}"', '"S"', '"enterprise"', '"https://x.example"', '"https://["', '["Audit.General"]', "[1]", "5"]
) | st.sampled_from(
    ["1.5", "true", "{ a = 1 }", "1979-05-27", '""', '"\\u0000"', "[[[[1]]]]", "nan", '"DLP.All,audit.general"']
)
_KEYS = st.sampled_from([*(s.key for s in SETTINGS), "name", "lake", "colour"])
_LINES = st.lists(st.builds("{} = {}".format, _KEYS, _TOML), max_size=4, unique_by=lambda line: line.partition(" ")[0])
_WHO = f'tenant_id = "{_GUID}"\nclient_id = "{_GUID}"\nclient_secret_env = "S"'


@st.composite
def _files(draw: st.DrawFn) -> str:
    top = "\n".join(draw(_LINES))
    tenants = draw(st.lists(st.just(_WHO) | _LINES.map("\n".join), max_size=2))
    return "\n".join([top, *(f"[[tenant]]\n{tenant}" for tenant in tenants)])


_ENVIRONMENT = st.dictionaries(
    st.sampled_from(["AUDITLAKE_LAKE", "AUDITLAKE_CLIENT_SECRET", *(s.env for s in SETTINGS)]), _WORDS, max_size=4
)
_FLAGS = st.dictionaries(st.sampled_from(["lake", *(s.key for s in SETTINGS)]), _WORDS, max_size=3)


def _joined(toml: bytes, environ: dict[str, str], flags: dict[str, str]) -> bytes:
    return json.dumps({"environ": environ, "flags": flags}).encode() + b"\n" + toml


configs = st.builds(_joined, mutated(_files().map(lambda t: t.encode("utf-8", "replace"))), _ENVIRONMENT, _FLAGS)


def check_config(data: bytes) -> None:
    """A configuration is loaded, or refused in a sentence. Line 1 holds environment and flags, the rest is TOML."""
    head, _, toml = data.partition(b"\n")
    given = json.loads(head)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "auditlake.toml"
        file.write_bytes(toml)
        try:
            config = load_config(given["flags"] | {"config": str(file)}, given["environ"])
        except UsageError as error:
            _check_sentence(error)
            return
    assert isinstance(config.lake, str)
    os.fspath(Path(config.lake))
    assert config.connections
    for connection in config.connections:
        hash(connection)
        assert all(isinstance(name, str) for name in connection.content_types)


def _check_sentence(error: Exception) -> None:
    assert str(error)
    assert "Error" not in str(error)
    assert "unhashable" not in str(error)
    assert "argument" not in str(error)


_NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
_TIMES = st.one_of(
    st.sampled_from(
        ["now", "auto", "-7d", "-999999d", "-0m", "2026-11-20", "2026-11-20T08:15:31.1234567Z", "20261120"]
    ),
    st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-W48-2", "2026-11-20T24:00"]),
    st.datetimes().map(datetime.isoformat),
    st.text(max_size=12),
)
times = mutated(_TIMES.map(lambda t: t.encode("utf-8", "replace")), most=2)


def check_times(data: bytes) -> None:
    """A time is read as UTC and written back, or refused in a sentence."""
    text = data.decode("utf-8", "surrogateescape")
    time = parse_wire(text)
    if time is not None:
        assert time.utcoffset().total_seconds() == 0  # type: ignore[union-attr]
        assert parse_wire(format_wire(time)) == time.replace(microsecond=0)
        assert parse_wire(format_utc(time)) == time
    for start, end in ((text, "now"), ("auto", text), (text, text)):
        try:
            span = parse_span(start, end, _NOW)
        except UsageError as error:
            assert str(error)
        else:
            assert span.end <= max(_NOW, datetime.now(UTC))
            assert span.start is None or span.start < span.end
