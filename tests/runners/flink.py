"""A standalone Flink cluster with Beam's job server, its workers processes of the wheel."""

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.copied import copy_source
from tests.runners.installed import installed
from tests.runners.processes import kill_group, running, sdk_workers, start, wait_for

# Beam's and Flink's serializers look into these of Java 17.
_OPENED = (
    "lang",
    "lang.reflect",
    "util",
    "util.concurrent",
    "util.concurrent.atomic",
    "nio",
    "io",
    "net",
    "text",
    "time",
)
_JAVA = [
    "java",
    "-Xmx512m",
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED),
    "--add-opens=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
]
_CONFIG = """
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: 127.0.0.1
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest}
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: 2
taskmanager.cpu.cores: 2
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.off-heap.size: 128m
taskmanager.memory.network.min: 64m
taskmanager.memory.network.max: 64m
taskmanager.memory.managed.size: 64m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 5
restart-strategy.fixed-delay.delay: 500 ms
heartbeat.interval: 1000
heartbeat.timeout: 10000
io.tmp.dirs: {temporary}
execution.checkpointing.dir: file://{temporary}/checkpoints
state.checkpoints.dir: file://{temporary}/checkpoints
state.savepoints.dir: file://{temporary}/savepoints
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class Cluster:
    """A cluster at work. `workers` are its task managers, youngest last."""

    folder: Path
    rest: int
    job_port: int
    script: Path
    worker_env: Mapping[str, str]
    task_managers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The options that send a job here."""
        environment = json.dumps({"command": str(self.script)})
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{self.job_port}",
            "--environment_type=PROCESS",
            f"--environment_config={environment}",
        ]

    def get(self, path: str) -> Any:
        """Asks the cluster's REST API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}{path}") as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        """Asks it for a change."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.rest}{path}", data, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def cancel(self, job: str) -> None:
        """Ends a job."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest}/jobs/{job}", method="PATCH")
        with urllib.request.urlopen(request):
            wait_for("the end of the job", lambda: job not in self.running_jobs())

    def savepoint_and_cancel(self, job: str) -> str:
        """Ends a job with a savepoint; returns where that is."""
        trigger = self.post(f"/jobs/{job}/savepoints", {"cancel-job": True})["request-id"]
        path = f"/jobs/{job}/savepoints/{trigger}"
        wait_for("the savepoint", lambda: self.get(path)["status"]["id"] == "COMPLETED")
        wait_for("the end of the job", lambda: job not in self.running_jobs())
        return str(self.get(path)["operation"]["location"])

    def registered(self) -> set[str]:
        """Ids of the task managers that the cluster knows; none while it is not up."""
        try:
            return {m["id"] for m in self.get("/taskmanagers")["taskmanagers"]}
        except OSError:
            return set()

    def running_jobs(self) -> list[str]:
        """Ids of the jobs at work."""
        return [j["id"] for j in self.get("/jobs")["jobs"] if j["status"] in ("CREATED", "RUNNING", "RESTARTING")]

    def add_task_manager(self) -> "subprocess.Popen[bytes]":
        """Starts a task manager of two slots."""
        before = self.registered()
        command = [*_java(self.folder), "-cp", _flink_jars(), "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"]
        command += ["--configDir", str(self.folder / "conf")]
        log = self.folder / f"task-manager-{len(self.task_managers)}.log"
        self.task_managers.append(start(command, log, {**os.environ, **self.worker_env}, self.folder))
        wait_for("a task manager", lambda: bool(self.registered() - before))
        return self.task_managers[-1]

    def busy(self) -> tuple["subprocess.Popen[bytes]", int]:
        """Waits for a task manager with workers, which a job that starts again is without for a while; and a worker."""
        found: list[tuple[subprocess.Popen[bytes], int]] = []

        def look() -> bool:
            found[:] = [(manager, worker) for manager in self.task_managers for worker in sdk_workers(manager.pid)]
            return bool(found)

        wait_for("a worker", look)
        return found[0]


def _java(folder: Path) -> list[str]:
    return [*_JAVA, f"-Djava.io.tmpdir={folder / 'tmp'}"]


def _flink_jars() -> str:
    return f"{installed('flink-1.19.1') / 'lib'}/*"


def make_worker(folder: Path, root: Path) -> Path:
    """Installs the wheel that setup.py builds into an environment of its own; returns the script that starts a worker.

    What the wheel needs is read from where it is installed already; the project itself is not there to be found.
    """
    source = copy_source(folder / "source")
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv = folder / "venv"
    uv = Path(sys.executable).with_name("uv")
    lock = root / "deploy" / "requirements.lock"
    python = venv / "bin" / "python"
    for words in (
        ["venv", "--quiet", "--seed", "--python", sys.executable, venv],
        ["pip", "install", "--quiet", "--python", python, "--requirement", lock],
        ["pip", "install", "--quiet", "--python", python, "--no-deps", wheel],
    ):
        subprocess.run([str(word) for word in (uv, *words)], check=True, cwd=folder)
    script = folder / "worker"
    persistent = folder / "persistent"
    persistent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        f'export PATH="{venv}/bin:$PATH" RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1\n'
        "unset PYTHONPATH\n"
        f'exec "{installed("bin/boot-v2.77.0")}" --semi_persist_dir="{persistent}" "$@"\n'
    )
    script.chmod(0o755)
    return script


@contextmanager
def cluster(folder: Path, script: Path, worker_env: Mapping[str, str]) -> Iterator[Cluster]:
    """Runs a cluster of one task manager until the block ends."""
    jars = installed("job-server-2.62.0")
    rest, job_port = free_port(), free_port()
    temporary = folder / "tmp"
    for made in (temporary, folder / "conf"):
        made.mkdir(parents=True)
    text = _CONFIG.format(rpc=free_port(), rest=rest, temporary=temporary)
    (folder / "conf" / "config.yaml").write_text(text)
    manager = [*_java(folder), "-cp", _flink_jars()]
    manager += ["org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"]
    manager += ["--configDir", str(folder / "conf"), "--executionMode", "cluster"]
    server = [*_java(folder), "-cp", f"{jars}/*", "org.apache.beam.runners.flink.FlinkJobServerDriver"]
    server += ["--job-host=127.0.0.1", f"--job-port={job_port}", "--artifact-port=0", "--expansion-port=0"]
    server += [f"--flink-master=127.0.0.1:{rest}", f"--artifacts-dir={temporary / 'artifacts'}"]
    found = Cluster(folder, rest, job_port, script, worker_env)
    with ExitStack() as stack:
        stack.enter_context(running(manager, folder / "job-manager.log", os.environ, folder))
        stack.enter_context(running(server, folder / "job-server.log", os.environ, folder))
        stack.callback(lambda: [kill_group(p) for p in found.task_managers])
        wait_for("the cluster", lambda: _answers(rest))
        found.add_task_manager()
        wait_for("the job server", lambda: "Job server now running" in (folder / "job-server.log").read_text())
        yield found


def _answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0
