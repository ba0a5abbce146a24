"""Who may import whom, what importing costs, and how thin a job is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "linking", "extraction", "encoding", "swing", "training", "export")
# A module may import those that stand before it. Modules of one line do not import each other.
ORDER = [
    {"pace", "errors", "digests", "machine_code"},
    {"schemas", "sections", "filesystems", "files"},
    {"sections_facts", "sections_http", "sections_model", "sections_plan", "sections_swing", "sections_training"},
    {"sections_all"},
    {"uses"},
    {"rules"},
    {"config"},
    {"arms", "recipes", "store"},
    {"raw"},
    {"checks", "inputs", "environment", "connection", "working_dir", "pool"},
    {"weights"},
    {"stage", "sizes"},
    {"worker"},
    {"executors", *ROOMS, "model", "report"},
    {"pipeline"},
    {"runs"},
    {"experiment", "views", "printing", "progress", "submit", "suggest", "swing_options"},
    {"served", "retrying", "planning", "doctor", "tools"},
    {"ahead"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
SOURCES = sorted((ROOT / "trawl").rglob("*.py"))
SEARCHES = sorted((ROOT / "tune").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("trawl", "jobs", "tune")}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "trawl").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_import_rules(path: Path) -> None:
    here = room_of(path)
    if here == "__init__":
        assert not imported(path)
        return
    for name in imported(path):
        top, *rest = name.split(".")
        assert top == "trawl", f"{path} imports {name}: nothing imports jobs or tune"
        there = rest[0] if rest else "__init__"
        if there in (here, "__init__", "__version__") or there not in LEVEL:
            continue
        if there == "model" and here in ("training", "export"):
            continue
        assert LEVEL[there] < LEVEL[here], f"{path} imports {name}, which stands beside or above it"


def test_model_needs_only_errors_and_config() -> None:
    for path in (ROOT / "trawl" / "model").rglob("*.py"):
        allowed = {"trawl.model", "trawl.errors", "trawl.config", "trawl.sections_model", "trawl.digests"}
        allowed |= {"trawl.machine_code", "trawl.uses"}
        for name in imported(path):
            assert name == "trawl" or any(name == a or name.startswith(f"{a}.") for a in allowed), (
                f"{path} imports {name}"
            )


def heavy_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_ray_is_known_where_work_is_scheduled_and_nowhere_else(path: Path) -> None:
    knows = {
        "trawl/connection.py",
        "trawl/executors.py",
        "trawl/extraction/feeding.py",
        "trawl/extraction/launching.py",
        "trawl/extraction/single.py",
        "trawl/pool.py",
        "trawl/submit.py",
        "trawl/training/trainer.py",
    }
    if "ray" in heavy_imports(path):
        assert path.relative_to(ROOT).as_posix() in knows


def test_searches_know_tune_in_two_files_and_no_job() -> None:
    knows = {path.name for path in SEARCHES if {"ray", "optuna"} & heavy_imports(path)}
    assert knows == {"searching.py", "tuning.py"}
    assert not any(name.startswith("jobs") for path in SEARCHES for name in imported(path))


def test_extraction_and_the_synthetic_world_share_no_words() -> None:
    for path in (ROOT / "trawl" / "extraction").rglob("*.py"):
        assert not any(name.startswith("trawl.data") for name in imported(path))


@pytest.mark.parametrize(
    "module",
    [
        "trawl",
        "trawl.cli",
        "trawl.config",
        "trawl.pipeline",
        "trawl.swing",
        "trawl.linking",
        "trawl.report",
        "tune.study",
    ],
)
def test_imports_are_light(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        f"if {module!r} == 'trawl.pipeline': {module}.stages()\n"
        "print([m for m in ('ray', 'torch', 'vllm', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda p: p.name)
def test_jobs_are_thin(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 20
    assert imported(path) <= {"trawl.cli", "trawl.cli.job"}


def test_every_room_has_a_job() -> None:
    assert {p.stem for p in (ROOT / "jobs").glob("*.py")} >= {
        "data",
        "link",
        "extract",
        "encode",
        "swing",
        "train",
        "export",
        "pipeline",
    }


@pytest.mark.parametrize("path", [*SOURCES, *SEARCHES], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"
