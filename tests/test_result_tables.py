"""The tables of measured cells: paired differences, their intervals, Holm's correction, which arms stand where."""

import importlib
import json
from itertools import product
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


KNOWLEDGE = {"raw": 0.001, "extracted": 0.001, "given": 0.003, "shuffled": -0.001}
ADAPTERS = {"linear": 0.0, "mlp": 0.002, "moe": 0.004, "raw": -0.002}
LOSSES = {"plain": 0.0, "literal": 0.001, "cosine": 0.002}


def crossed(folder: Path, without: tuple[str, int] = ("", 0)) -> None:
    """Each choice adds what it is worth, a little more in later repetitions."""
    rows = []
    for repetition in range(3):
        rows.append(row("none", repetition, 0.7))
        for (text, a), (adapter, b), (loss, c) in product(KNOWLEDGE.items(), ADAPTERS.items(), LOSSES.items()):
            arm = f"{text}+{adapter}+{loss}"
            if (adapter, loss) not in {("raw", "literal"), ("raw", "cosine")} and (arm, repetition) != without:
                rows.append(row(arm, repetition, 0.7 + (a + b + c) * (1 + repetition / 100)))
    write(folder, rows)


def test_what_a_choice_is_worth_is_averaged_over_the_rest(tables: ModuleType, tmp_path: Path) -> None:
    crossed(tmp_path)
    found = {text.split(" | ")[0][2:]: text for text in contrasts().contrasts("planted").splitlines()[2:]}
    # each worth is 1.01 times the planted one on average, and as sure as its three values
    assert "| 3 | +0.0040 [+0.0039, +0.0041] * |" in found["given over shuffled texts"]
    assert "| 3 | +0.0000 [+0.0000, +0.0000] |" in found["extracted over raw texts"]
    assert "| 3 | +0.0020 [+0.0020, +0.0021] * |" in found["mixture of experts over mlp"]
    assert "| 3 | +0.0020 [+0.0020, +0.0021] * |" in found["linear adapter over raw vectors, no loss"]
    assert "| 3 | +0.0020 [+0.0020, +0.0021] * |" in found["contrastive loss, cosine, on shuffled texts"]
    # given .003 + the mean of adapters .002 and of losses .001
    assert "| 3 | +0.0061 [+0.0059, +0.0062] * |" in found["given texts over no knowledge"]


def test_a_repetition_without_one_of_the_arms_is_left_out(tables: ModuleType, tmp_path: Path) -> None:
    crossed(tmp_path, without=("given+mlp+plain", 2))
    text = contrasts().contrasts("planted")
    assert "| given over shuffled texts | 2 |" in text
    assert "| raw over shuffled texts | 3 |" in text


def test_an_experiment_without_a_repetition_has_dashes(tables: ModuleType, tmp_path: Path) -> None:
    world(tmp_path)
    assert "| given over raw texts | 0 | - | - |" in contrasts().contrasts("planted")


def contrasts() -> ModuleType:
    return importlib.import_module("contrasts")
