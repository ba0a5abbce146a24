"""A disk that is full, too small for a file, or read-only: one clear line, nothing half-published, and it goes on."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import driver
import numpy as np
import pytest

from trawl import cli
from trawl.errors import StoreError
from trawl.inputs import node_file
from trawl.runs import Run
from trawl.store import MANIFEST, Store

LIBC = ctypes.CDLL(None, use_errno=True)
READ_ONLY, AGAIN = 1, 32  # MS_RDONLY, MS_REMOUNT


class Disk:
    """A small filesystem in memory."""

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        path.mkdir()
        self.mount(0, f"size={size}")

    def mount(self, flags: int, options: str) -> None:
        if LIBC.mount(b"tmpfs", bytes(self.path), b"tmpfs", flags, options.encode()):
            pytest.skip(f"mounting is not permitted here ({os.strerror(ctypes.get_errno())})")

    def grow(self, size: str) -> None:
        self.mount(AGAIN, f"size={size}")

    def close(self) -> None:
        LIBC.umount2(bytes(self.path), 2)  # MNT_DETACH


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk", "256k")
    yield found
    found.close()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(
    disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = driver.words(tmp_path / "r.toml", str(disk.path / "store"))
    words += ["--until", "encoding"]
    assert cli.main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"no space left on {disk.path}/store while writing " in last
    assert "free space and run the same command again" in last
    assert not [p for p in files(disk.path) if p.name.endswith(".tmp")]
    store = Store(str(disk.path / "store"))
    published = [key for key in store.artifacts() if store.exists(*key, MANIFEST)]
    for artifact, mark in published:
        manifest = store.manifest(artifact, mark)
        assert manifest is not None
        assert all(store.size(artifact, mark, part.path) == part.bytes for part in manifest.parts)
    disk.grow("32m")
    assert cli.main(words) == 0
    assert Run(store, "r").read("run.json")["state"] == "done"
    told = capsys.readouterr().err.splitlines()
    for artifact, _ in published:
        assert next(line for line in told if line.startswith(f"{artifact} ")).split()[3] == "ready"


def test_a_limit_on_files_is_one_line_and_leaves_no_scrap(tmp_path: Path) -> None:
    words = driver.words(tmp_path / "r.toml", str(tmp_path / "store"))
    code = (
        "import resource, sys; from trawl import cli;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY)); sys.exit(cli.main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *words, "--until", "data"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "a limit on the size of files was met while writing" in ended.stderr.splitlines()[-1]
    assert not [p for p in files(tmp_path / "store") if p.name.endswith(".tmp")]
    assert cli.main([*words, "--until", "data"]) == 0


def test_a_read_only_store_is_one_line(disk: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk.mount(AGAIN | READ_ONLY, "")
    assert cli.main(driver.words(tmp_path / "r.toml", str(disk.path / "store"))) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "Read-only file system while writing runs/r/run.json" in err


@pytest.mark.parametrize("kind", ["array", "stream"])
def test_a_full_node_cache_names_the_setting(disk: Disk, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("TRAWL_NODE_CACHE", str(disk.path / "node"))

    def build(path: Path) -> None:
        if kind == "stream":
            path.write_bytes(b"x" * (1 << 20))
        else:
            from trawl.inputs import _memmap

            _memmap(path, np.float32, (1 << 20,))[:] = 1.0  # without the space reserved: SIGBUS

    with pytest.raises(StoreError, match=r"no space left on .*TRAWL_NODE_CACHE.*free space"):
        node_file("key", ".npy", build)
    assert not files(disk.path)
