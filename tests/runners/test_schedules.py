"""The schedules of deploy/schedule, read by those who will read them, and their commands by ours."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.arguments import parse
from pipeline.config import SETTINGS
from tests.commands import ROOT
from tests.runners.installed import installed

FOLDER = ROOT / "deploy" / "schedule"
VARIABLES = {s.env for s in SETTINGS} | {"AUDITLAKE_LAKE", "AUDITLAKE_CLIENT_SECRET"}


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / name)
    return parser


@pytest.mark.parametrize("file", ["cronjob.yaml", "stream.yaml"])
def test_manifests_are_ones_for_kubernetes(file: str) -> None:
    python = installed("kubernetes-validate-1.37.0") / "bin" / "python"
    command = [python, "-m", "kubernetes_validate", "--strict", FOLDER / file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_of_the_schedules_are_ours() -> None:
    for file, name in (("cronjob.yaml", "backfill"), ("stream.yaml", "stream")):
        (listed,) = re.findall(r"args: \[(.*)\]", (FOLDER / file).read_text())
        args = parse([word.strip('"') for word in listed.split(", ")], [])
        assert (args.name, args.rest) == (name, [])
    for file, name in (("auditlake.service", "backfill"), ("auditlake-stream.service", "stream")):
        words = shlex.split(unit(file)["Service"]["ExecStart"])
        assert Path(words[0]).name == "auditlake"
        args = parse(words[1:], [])
        assert (args.name, args.rest) == (name, [])
    dag = (FOLDER / "airflow_dag.py").read_text()
    commands = re.findall(r'bash_command="auditlake (.*)"', dag)
    assert len(commands) == 2
    assert all(parse(shlex.split(command), []).rest == [] for command in commands)


def test_variables_of_the_schedules_are_ours_and_hold_no_secret() -> None:
    for file in FOLDER.iterdir():
        named = set(re.findall(r"AUDITLAKE_\w+", file.read_text()))
        assert named <= VARIABLES, file.name
        assert not re.search(r"name: AUDITLAKE_CLIENT_SECRET\n", file.read_text())


def test_port_that_is_probed_is_the_one_that_the_stream_serves() -> None:
    text = (FOLDER / "stream.yaml").read_text()
    ports = re.findall(r"containerPort: (\d+)|--metrics-port=0\.0\.0\.0:(\d+)|io/port: \"(\d+)\"", text)
    assert {"".join(found) for found in ports} == {"9464"}
    assert len(ports) == 3
    (path,) = re.findall(r"path: (/healthz)\n", text)
    assert f'"{path}"' in (ROOT / "pipeline/metrics.py").read_text()


def test_systemd_takes_the_services_and_the_timer(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    files = ("auditlake.timer", "auditlake.service", "auditlake-stream.service")
    for file in files:
        # The program stands elsewhere on this machine; what systemd says of the rest is what is asked.
        text = (FOLDER / file).read_text().replace("/opt/auditlake/bin/auditlake", "/bin/true")
        (tmp_path / file).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / file) for file in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "auditlake" not in done.stderr


def test_airflow_loads_the_dags(tmp_path: Path) -> None:
    python = installed("apache-airflow-3.3.2") / "bin" / "python"
    code = (
        "import json, sys; from airflow.dag_processing.dagbag import DagBag\n"
        "bag = DagBag(sys.argv[1])\n"
        "print(json.dumps([bag.import_errors, {k: [t.task_id for t in d.tasks] for k, d in bag.dags.items()}]))"
    )
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env.pop("PYTHONPATH", None)
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(FOLDER / "airflow_dag.py", dags)
    done = subprocess.run(
        [python, "-c", code, dags], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    errors, found = json.loads(done.stdout.splitlines()[-1])
    assert errors == {}
    assert found == {"auditlake_backfill": ["backfill"], "auditlake_verify": ["verify"]}
