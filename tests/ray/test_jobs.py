"""The pipeline and one room as jobs: `ray job submit` against a cluster that this test starts."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import small

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
PORTS = ("--port", "--dashboard-port", "--ray-client-server-port", "--dashboard-agent-listen-port")
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


def environment() -> dict[str, str]:
    """The submitter's and the cluster's environment: the own python first, no address of another test."""
    env = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    return env | QUIET | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that Ray gives to its workers."""
    found: list[int] = []
    for port in range(6400, 9900, 7):
        with socket.socket() as probe:
            if len(found) < count and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log, ports = tmp_path_factory.mktemp("head") / "log", free_ports(len(PORTS))
    address = f"http://127.0.0.1:{ports[1]}"
    with tempfile.TemporaryDirectory(
        prefix="ray-", ignore_cleanup_errors=True
    ) as session:  # socket paths must be short
        words = [RAY, "start", "--head", "--block", "--num-cpus", "4", "--temp-dir", session, "--disable-usage-stats"]
        words += [f"{flag}={port}" for flag, port in zip(PORTS, ports, strict=True)]
        with log.open("w") as out:
            process = subprocess.Popen(words, stdout=out, stderr=out, env=environment(), start_new_session=True)
        try:
            wait_for_dashboard(address, process, log)
            yield address
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def wait_for_dashboard(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=1):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no dashboard: {log.read_text()}")


def submit(address: str, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", address, "--", "python", "-m", module, *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment(), timeout=300
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    store = str(tmp_path_factory.mktemp("jobs") / "store")
    settings = [s for s in small.SETTINGS if not s.startswith("resources.executor")]
    return store, ["demo", "--store", store, *(w for s in settings if not s.startswith("name") for w in ("--set", s))]


SHORT = ["--set", "experiment.repetitions=1", "--set", 'experiment.arms={extracted={extraction={source="extracted"}}}']
SHORT += ["--set", 'experiment.reference="extracted"']


def test_a_room_and_then_the_pipeline(head: str, recipe: tuple[str, list[str]]) -> None:
    store, words = recipe
    done = submit(head, "jobs.encode", *words, *SHORT, "--name", "room")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((Path(store) / "runs" / "room" / "run.json").read_text())
    assert record["state"] == "done"
    assert (Path(store) / record["artifacts"]["item_embeddings"]["folder"] / "_manifest.json").exists()
    assert "model" not in record["artifacts"]
    done = submit(head, "jobs.pipeline", *words, *SHORT, "--name", "whole")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report: {store}/runs/whole/report.html" in done.stdout
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("item_embeddings")]
    assert lines and all("ready" in line for line in lines), "the room's work is not done again"
    assert len(json.loads((Path(store) / "runs" / "whole" / "result.json").read_text())) == 1


def test_a_failing_job_says_why_and_exits_with_1(head: str) -> None:
    done = submit(head, "jobs.pipeline", "demo", "--set", "trainig.lr=1")
    assert done.returncode == 1
    assert "did you mean training.lr?" in done.stdout + done.stderr
