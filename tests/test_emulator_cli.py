import json
import os
import signal
import socket
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from emulator.cli import add_arguments, run

# What `auditlake emulate` does with its words, without the rest of the command line.
MAIN = """
import argparse, sys
from emulator.cli import add_arguments, run
words = sys.argv[1:]
command = words[words.index("--") + 1 :] if "--" in words else []
parser = argparse.ArgumentParser()
parser.add_argument("--json", action="store_true")
add_arguments(parser)
args = parser.parse_args(words[: words.index("--")] if "--" in words else words)
args.command = command
code = run(args, json_output=args.json)
assert not [name for name in sys.modules if name.split(".")[0] == "apache_beam"]
sys.exit(code)
"""
ROOT = Path(__file__).parents[1]


@contextmanager
def emulate(*words: str, tmp: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "--count", "20", *words],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def arguments(*words: str, command: list[str] | None = None) -> Namespace:
    parser = ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(words)
    args.command = command or []
    return args


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground_tells_how_to_connect_as_json_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with emulate("--json", "--tenants", "2", tmp=tmp_path) as process:
        told = json.loads(first_line(process))
        assert list(told) == ["api_root", "authority", "ca_file", "tenants"]
        assert [list(tenant) for tenant in told["tenants"]] == [["tenant_id", "client_id", "client_secret"]] * 2
        assert requests.get(f"{told['api_root']}/openapi.json", verify=told["ca_file"], timeout=10).ok
        process.send_signal(number)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_foreground_prints_lines_to_export(tmp_path: Path) -> None:
    with emulate(tmp=tmp_path) as process:
        assert first_line(process).startswith("API ")
        process.send_signal(signal.SIGINT)
        text = process.stdout.read() if process.stdout else ""
    for name in ("API_ROOT", "AUTHORITY", "CA_FILE", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        assert f"  export AUDITLAKE_{name}=" in text


SHOW = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('AUDITLAKE_')}))"


def test_command_gets_the_environment_and_its_exit_code_is_returned(tmp_path: Path) -> None:
    code = f"{SHOW}; assert os.path.exists(os.environ['AUDITLAKE_CA_FILE']); raise SystemExit(7)"
    with emulate("--", sys.executable, "-c", code, tmp=tmp_path) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (7, "")
    told = json.loads(out)
    assert told["AUDITLAKE_API_ROOT"] == told["AUDITLAKE_AUTHORITY"]
    assert told.keys() >= {"AUDITLAKE_TENANT_ID", "AUDITLAKE_CLIENT_ID", "AUDITLAKE_CLIENT_SECRET"}
    assert not Path(told["AUDITLAKE_CA_FILE"]).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_go_on_to_the_command(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        "for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, lambda n, _: sys.exit(40 + n))\n"
        "print('ready', flush=True); time.sleep(30)"
    )
    with emulate("--", sys.executable, "-c", code, tmp=tmp_path) as process:
        assert first_line(process) == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode == 40 + number
    assert list(tmp_path.iterdir()) == []


def test_command_killed_by_a_signal_is_told_as_a_shell_does(tmp_path: Path) -> None:
    with emulate("--", "sh", "-c", "kill -9 $$", tmp=tmp_path) as process:
        process.communicate(timeout=20)
    assert process.returncode == 137


def refused(capsys: pytest.CaptureFixture[str], args: Namespace) -> str:
    assert run(args, json_output=True) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("auditlake emulate: ")
    return err


def test_missing_file_bad_anchor_and_bad_port_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/no/such.ndjson" in refused(capsys, arguments("--records", "/no/such.ndjson"))
    assert "'tomorrow' is not a time" in refused(capsys, arguments("--anchor", "tomorrow", "--count", "0"))
    assert "70000 is not a port" in refused(capsys, arguments("--port", "70000", "--count", "0"))


def test_folder_or_damaged_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read" in refused(capsys, arguments("--records", str(tmp_path)))
    (tmp_path / "bad.gz").write_bytes(b"no gzip")
    assert "bad.gz is not a whole gzip file" in refused(capsys, arguments("--records", str(tmp_path / "bad.gz")))


def test_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"{port} is in use" in refused(capsys, arguments("--port", str(port), "--count", "0"))


def test_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, arguments("--count", "0", command=["/no/such/command"]))
    assert "cannot run /no/such/command" in err


@pytest.mark.parametrize("words", [["--tenants", "0"], ["--count", "-1"], ["--quota", "x"], ["--port", "1.5"]])
def test_wrong_numbers_are_refused_by_the_parser(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(*words)
    assert "is not a whole number" in capsys.readouterr().err
