"""vLLM's own OpenAI-compatible server on this machine's CPU, for tests that want a real endpoint."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 300.0  # seconds that a start may take on a machine with other work


class Server:
    """A server in a session of its own, which can be killed whole and started again at the same address."""

    def __init__(self, model: Path, key: str = "") -> None:
        self.model, self.key = model, key
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.log = model.parent / f"server-{self.port}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def launch(self) -> None:
        """Begin to start. Runs the module behind `vllm serve`, which vLLM's CPU build cannot say its version to."""
        words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model)]
        words += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32"]
        words += ["--max-model-len", "2048", "--enforce-eager", "--max-num-seqs", "16", "--seed", "0"]
        words += ["--no-enable-log-requests", "--disable-uvicorn-access-log"]
        env = {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_API_KEY": self.key,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, env=os.environ | env, stdout=log, stderr=log, start_new_session=True)

    def wait(self) -> None:
        """Until it answers. Raises AssertionError with the end of its log."""
        assert self.process is not None
        limit = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return
            ended = self.process.poll() is not None or time.monotonic() > limit
            assert not ended, self.log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """End the server and its engine without warning."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def serving(model: Path, key: str = "") -> Iterator[Server]:
    """A server of the model named tiny, ready."""
    server = Server(model, key)
    try:
        server.launch()
        server.wait()
        yield server
    finally:
        server.kill()
