"""A server that speaks S3 (moto) in a process of its own, so that workers and killed drivers reach it too."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs
import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_EC2_METADATA_DISABLED": "true"}
_REQUEST = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) (\S+) HTTP/')


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Server:
    """A running server with one bucket, `bucket`."""

    port: int
    log: Path

    @property
    def query(self) -> str:
        return f"?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def uri(self, path: str) -> str:
        return f"s3://bucket/{path}{self.query}"

    def requests(self) -> list[tuple[str, str]]:
        """(method, path with query) of every request so far."""
        return _REQUEST.findall(self.log.read_text(errors="replace"))


@contextmanager
def server(folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server until the block ends; its log goes to a folder. The bucket is made."""
    found = Server(free_port(), folder / "s3.log")
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(found.port)]
    with found.log.open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | dict(env or {}))
    try:
        _wait(process, found)
        maker = pafs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{found.port}",
            scheme="http",
            region="us-east-1",
            access_key=KEYS["AWS_ACCESS_KEY_ID"],
            secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            allow_bucket_creation=True,
        )
        maker.create_dir("bucket")
        yield found
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], found: Server) -> None:
    for _ in range(600):
        assert process.poll() is None, found.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", found.port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(found.log.read_text())


@contextmanager
def root(where: str, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store on this disk, or on a server that speaks S3."""
    if where == "disk":
        yield str(folder / "wild")
        return
    for name, value in KEYS.items():
        patch.setenv(name, value)
    with server(folder) as found:
        yield found.uri("wild")
