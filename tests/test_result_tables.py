"""The tables of measured cells: paired differences, their intervals, Holm's correction, which arms stand where."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scipy import stats

SHIFTS = (0.010, 0.012, 0.011)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "bench"))
    module = importlib.import_module("tables")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def row(arm: str, repetition: int, auc: float, backbone: str = "din") -> dict[str, Any]:
    numbers = {"auc": auc, "gauc": auc - 0.05, "logloss": 0.5}
    test = numbers | {"cold": numbers | {"auc": auc - 0.1}, "slices": {"items": [{"name": "q1", "auc": auc + 0.01}]}}
    drawn = {} if arm == "none" else {"all": {"auc": [0.011, 0.003]}}
    named = {"arm": arm, "repetition": repetition, "backbone": backbone, "reference": "none"}
    return named | {"test": test, "differences": drawn}


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "planted.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def world(folder: Path) -> None:
    """One arm that is better in each of three repetitions, one that is as the reference on average."""
    rows = []
    for repetition, shift in enumerate(SHIFTS):
        level = 0.7 + 0.01 * repetition
        rows += [row("none", repetition, level), row("given-sim", repetition, level + shift)]
        rows += [row("given+moe+cosine", repetition, level + shift)]
        rows += [row("raw+raw+plain", repetition, level + (-0.01, 0.0, 0.01)[repetition])]
    write(folder, rows)


def test_a_difference_is_paired_and_its_interval_is_students(tables: ModuleType, tmp_path: Path) -> None:
    world(tmp_path)
    found = tables.read("planted").gap(("din", "given+moe+cosine"), lambda test: test["auc"])
    # pairing takes the levels of the repetitions out: they differ by more than the shift
    expected = stats.ttest_1samp(SHIFTS, 0.0)
    assert found.mean == pytest.approx(0.011)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.mean - found.half == pytest.approx(expected.confidence_interval().low)


def test_a_star_stands_at_what_holm_leaves(tables: ModuleType, tmp_path: Path) -> None:
    world(tmp_path)
    _, _, none, ours = tables.cells("planted").splitlines()
    assert none.startswith("| none | 3 | 0.7100 | 0.6600 | 0.5000 | - |")
    # the interval of AUC is the bootstrap's, 1.96 x .003 / sqrt(3); gAUC has none here and takes Student's
    assert ours.endswith("| +0.0110 [+0.0076, +0.0144] * | +0.0110 [+0.0085, +0.0135] * | +0.0000 [+0.0000, +0.0000] |")
    better, _ = tables.cross("planted").splitlines()[2:]
    assert better.count("*") == 2


@pytest.mark.parametrize(
    ("values", "bound"), [((0.01, 0.04, 0.03), 0.01), ((0.01, 0.02, 0.04), 0.04), ((0.06, 0.02), 0.02), ((0.2,), -1.0)]
)
def test_holm_stops_at_the_first_that_fails(tables: ModuleType, values: tuple[float, ...], bound: float) -> None:
    assert tables.holm([tables.Gap(0.0, 0.0, p) for p in values]) == bound


def test_cold_rows_and_slices_are_read_apart(tables: ModuleType, tmp_path: Path) -> None:
    world(tmp_path)
    assert "| none | 3 | 0.6100 |" in tables.cells("planted:cold")
    assert tables.slices("planted").splitlines()[2].startswith("| given-sim | +0.0110 [+0.0085, +0.0135] * | - |")


def test_the_cross_has_a_row_for_each_knowledge_and_adapter(tables: ModuleType, tmp_path: Path) -> None:
    world(tmp_path)
    lines = tables.cross("planted").splitlines()
    assert lines[2].startswith("| given, moe | 3 | - | - | +0.0110")
    assert lines[3].startswith("| raw, raw | 3 | +0.0000")
    assert "*" not in lines[3]


def test_another_backbone_has_its_own_reference(tables: ModuleType, tmp_path: Path) -> None:
    world(tmp_path)
    rows = [json.loads(text) for text in (tmp_path / "planted.jsonl").read_text(encoding="utf-8").splitlines()]
    rows += [row("none", r, 0.6, "deepfm") for r in range(3)]
    rows += [row("given-sim", r, 0.6 + shift / 2, "deepfm") for r, shift in enumerate(SHIFTS)]
    write(tmp_path, rows)
    assert "| deepfm | given-sim | 3 | 0.6055 | 0.5555 | 0.5000 | +0.0055" in tables.cells("planted")


def test_one_repetition_has_the_interval_of_its_users_and_no_star(tables: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, [row("none", 0, 0.7), row("given", 0, 0.711)])
    assert tables.cells("planted").endswith(
        "| given | 1 | 0.7110 | 0.6610 | 0.5000 | +0.0110 [+0.0051, +0.0169] | - | - |"
    )
