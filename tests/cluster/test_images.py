"""The Dockerfiles, read as text: nothing here can build an image."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINES = {"cpu": "core", "cuda": "core,vllm"}


def instructions(machine: str) -> list[tuple[str, str]]:
    """(instruction, its text on one line), in order; comments and continuations resolved."""
    lines = (ROOT / "cluster" / f"{machine}.Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#")).replace("\\\n", " ")
    return [
        (word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def of(machine: str, kind: str) -> list[str]:
    return [text for word, text in instructions(machine) if word == kind]


@pytest.mark.parametrize("machine", MACHINES)
def test_every_instruction_is_one(machine: str) -> None:
    assert {word for word, _ in instructions(machine)} <= {
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "ARG",
        "ENV",
        "USER",
        "CMD",
    }


def test_both_images_stand_on_one_pinned_python() -> None:
    bases = {text.split(" ")[0] for machine in MACHINES for text in of(machine, "FROM")}
    (base,) = bases
    version = re.fullmatch(r"python:(\d+\.\d+\.\d+)-slim-\w+", base)
    assert version, "a tag to the last digit: head and workers must run the same Python"
    head = (ROOT / "requirements" / "cpu.txt").read_text().splitlines()[1]
    assert f"--python-version {version[1].rpartition('.')[0]} " in head, "the Python that the pins were made for"


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_copied_exists_and_is_all_the_code(machine: str) -> None:
    copied: set[str] = set()
    for text in of(machine, "COPY"):
        if "--from" not in text:
            *sources, _ = text.split(" ")
            copied |= set(sources)
    assert copied == {"pyproject.toml", "README.md", f"requirements/{machine}.txt", "trawl", "jobs", "tune"}
    for name in copied:
        assert (ROOT / name).exists(), name
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {name.split("/")[0] for name in copied} == {name.split("/")[0] for name in kept}


@pytest.mark.parametrize(("machine", "extras"), MACHINES.items())
def test_installs_the_pins_with_the_uv_that_the_project_asks_for(machine: str, extras: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runs = of(machine, "RUN")
    uv = re.search(r"uv==([\d.]+)", " ".join(runs))
    wanted = project["tool"]["uv"]["required-version"].removeprefix(">=")
    assert uv and [int(n) for n in uv[1].split(".")] >= [int(n) for n in wanted.split(".")]
    (install,) = [run for run in runs if "--constraint" in run]
    assert f"--constraint requirements/{machine}.txt --requirements pyproject.toml" in install
    assert "--compile-bytecode" in install
    assert ("--torch-backend cpu" in install) == (machine == "cpu")
    assert of(machine, "ARG") == [f"EXTRAS={extras}"]
    assert set(extras.split(",")) <= project["project"]["optional-dependencies"].keys()
    assert re.search(r"^boto3==", (ROOT / "requirements" / f"{machine}.txt").read_text(), re.MULTILINE)
    code = runs.index(next(run for run in runs if "--no-deps ." in run))
    assert runs.index(install) < code, "a change of the code keeps the layer of the dependencies"


@pytest.mark.parametrize("machine", MACHINES)
def test_the_image_is_no_root_and_holds_no_secret(machine: str) -> None:
    found = instructions(machine)
    users = [text for word, text in found if word == "USER"]
    assert users == ["1000:1000"], "by number, so that runAsNonRoot can be checked"
    assert [word for word, _ in found].index("USER") > max(n for n, (word, _) in enumerate(found) if word == "RUN")
    for word, text in found:
        if word in ("ENV", "ARG"):
            assert not re.search(r"(?i)secret|token|password|_key", text)
    assert of(machine, "CMD") == ['["bash"]']


@pytest.mark.parametrize("machine", MACHINES)
def test_packages_of_the_system_leave_no_lists_behind(machine: str) -> None:
    for run in of(machine, "RUN"):
        if "apt-get" in run:
            steps = [step.split() for step in run.split(" && ")]
            assert "--no-install-recommends" in run and "rm -rf /var/lib/apt/lists/*" in run
            (install,) = [step for step in steps if step[:2] == ["apt-get", "install"]]
            assert {"wget", "rsync"} <= set(install), "what KubeRay's probes and ray up call"
        assert "sudo" not in shlex.split(run)
