"""The leash of engine processes: whoever started them is killed, and they end too."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# owner -> engine -> worker, as on CPU; or owner -> engine that is its own worker.
_WORKER = "import trawl.extraction.leash, time; print('ready', flush=True); time.sleep(600)"
_ENGINE = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
_OWNER = """
import os, subprocess, sys
os.environ["TRAWL_ENGINE_OWNER"] = str(os.getpid())
subprocess.run([sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only")
@pytest.mark.parametrize("below", [[_ENGINE, _WORKER], [_WORKER]], ids=["worker below", "worker itself"])
def test_all_below_a_killed_owner_end(below: list[str]) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER, *below], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout
        assert owner.stdout.readline() == "ready\n"
        family = psutil.Process(owner.pid).children(recursive=True)
        assert len(family) == len(below)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        limit = time.monotonic() + 60
        while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family):
            assert time.monotonic() < limit, "they live on"
            time.sleep(0.05)
    finally:
        owner.kill()
        owner.wait()


def test_without_an_owner_nothing_is_watched() -> None:
    code = "import threading, trawl.extraction.leash; print(threading.active_count())"
    environment = {k: v for k, v in os.environ.items() if k != "TRAWL_ENGINE_OWNER"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"
