"""A Ray cluster of this machine that takes jobs, on ports of its own, and ways to submit to it."""

import contextlib
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

import small

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
PORTS = ("--port", "--dashboard-port", "--ray-client-server-port", "--dashboard-agent-listen-port")
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
LIMIT = 1_000_000  # bytes that a job takes along

# One arm of the tiny world, as words of `trawl run`: the demo recipe, so that its name is known everywhere.
ONE_ARM = [
    "experiment.repetitions=1",
    'experiment.arms={extracted={extraction={source="extracted"}}}',
    'experiment.reference="extracted"',
]
SETTINGS = [s for s in small.SETTINGS if not s.startswith(("resources.executor", "name"))] + ONE_ARM


def settings(*more: str) -> list[str]:
    """The tiny world on Ray, as words."""
    return [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]


def environment(**more: str) -> dict[str, str]:
    """The submitter's and the cluster's environment: the own python first, no address of another test."""
    env = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "PYTHONPATH")}
    return env | QUIET | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"} | more


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that Ray gives to its workers."""
    found: list[int] = []
    for port in range(6400, 9900, 7):
        with socket.socket() as probe:
            if len(found) < count and probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


@contextlib.contextmanager
def cluster(log: Path) -> Iterator[str]:
    """The address of the dashboard of a fresh head with 4 logical CPUs."""
    ports = free_ports(len(PORTS))
    address = f"http://127.0.0.1:{ports[1]}"
    with tempfile.TemporaryDirectory(
        prefix="ray-", ignore_cleanup_errors=True
    ) as session:  # socket paths must be short
        words = [RAY, "start", "--head", "--block", "--num-cpus", "4", "--temp-dir", session, "--disable-usage-stats"]
        words += [f"{flag}={port}" for flag, port in zip(PORTS, ports, strict=True)]
        with log.open("w") as out:
            process = subprocess.Popen(words, stdout=out, stderr=out, env=environment(), start_new_session=True)
        try:
            _wait_for_dashboard(address, process, log)
            yield address
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a `ray start --block` and all of its node: by itself first, which ends the rest in order.

    A raylet waits half a minute for a control store that is gone.
    """
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):  # workers, in groups of their own, go when their raylet is gone
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _wait_for_dashboard(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=1):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no dashboard: {log.read_text()}")


def ray_submit(address: str, folder: Path, *entrypoint: str) -> subprocess.CompletedProcess[str]:
    """`ray job submit` by hand, with a working directory."""
    words = [RAY, "job", "submit", "--address", address, "--working-dir", str(folder), "--", *entrypoint]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment(), timeout=600)


def trawl_submit(address: str, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`trawl submit` from a folder that is not the clone."""
    command = [sys.executable, "-m", "trawl.cli", "submit", *words, "--address", address]
    env = environment(PYTHONPATH=str(ROOT))
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=600)
