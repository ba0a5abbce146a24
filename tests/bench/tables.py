"""Tables from cells that cells.py wrote: docs/results/<name>.jsonl, a line per arm, backbone and repetition.

A difference is paired by repetition with the arm without knowledge of the same backbone. Its 95 % interval is of a
paired bootstrap over the test users of each split, which holds no noise of seeds. A star asks for more: Student's t
over the repetitions, each a split and an initialisation of its own, is significant at 5 % after Holm's correction over
all differences of the table. Slices have Student's interval.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

RESULTS = Path(__file__).parents[2] / "docs" / "results"
LOSSES = ("plain", "literal", "cosine")
Row = dict[str, Any]
Pick = Callable[[Row], float | None]


@dataclass(frozen=True)
class Gap:
    """A mean difference over the repetitions, half the width of its 95 % interval, Student's p (1 of a single one)."""

    mean: float
    half: float
    p: float = 1.0


@dataclass(frozen=True)
class Cells:
    """The cells of one file. `part`: all rows of the test, or those of warm or cold items."""

    rows: list[Row]
    part: str = "all"

    def names(self) -> list[tuple[str, str]]:
        """(backbone, arm) in the order of the file."""
        return list(dict.fromkeys((row["backbone"], row["arm"]) for row in self.rows))

    def of(self, backbone: str, arm: str) -> dict[int, Row]:
        """Repetition -> test metrics."""
        mine = [row for row in self.rows if (row["backbone"], row["arm"]) == (backbone, arm)]
        return {row["repetition"]: row["test"] if self.part == "all" else row["test"][self.part] for row in mine}

    def mean(self, name: tuple[str, str], metric: str) -> str:
        return f"{np.mean([test[metric] for test in self.of(*name).values()]):.4f}"

    def gap(self, name: tuple[str, str], pick: Pick) -> Gap | None:
        """The difference to the reference of what `pick` finds in the metrics of a repetition; None of no pair."""
        backbone, arm = name
        reference = self.rows[0]["reference"]
        if arm == reference:
            return None
        ours, theirs = self.of(backbone, arm), self.of(backbone, reference)
        pairs = [(pick(ours[r]), pick(theirs[r])) for r in sorted(set(ours) & set(theirs))]
        return student([a - b for a, b in pairs if a is not None and b is not None])

    def metric_gap(self, name: tuple[str, str], metric: str) -> Gap | None:
        """The same of a metric, with the interval of the bootstrap that stands in the rows."""
        found = self.gap(name, lambda test: test.get(metric))
        mine = [row for row in self.rows if (row["backbone"], row["arm"]) == name]
        drawn = [row["differences"].get(self.part, {}).get(metric) for row in mine]
        errors = np.array([pair[1] for pair in drawn if pair])
        if not len(errors):
            return found
        mean = found.mean if found else float(np.mean([pair[0] for pair in drawn if pair]))
        return Gap(mean, 1.96 * float(np.sqrt((errors**2).sum())) / len(errors), found.p if found else 1.0)


def read(name: str) -> Cells:
    """A file of cells by its name; `name:cold` takes the rows of cold items."""
    stem, _, part = name.partition(":")
    text = (RESULTS / f"{stem}.jsonl").read_text(encoding="utf-8")
    return Cells([json.loads(line) for line in text.splitlines() if line.strip()], part or "all")


def student(values: list[float]) -> Gap | None:
    """Of differences that are one for each repetition; None below two."""
    n = len(values)
    if n < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(n))
    if error == 0:
        return Gap(mean, 0.0, float(mean == 0))
    return Gap(mean, float(stats.t.ppf(0.975, n - 1)) * error, float(2 * stats.t.sf(abs(mean) / error, n - 1)))


def holm(gaps: Iterable[Gap | None]) -> float:
    """The largest p that is still significant at 5 % over all of a table, -1 where none is."""
    values = sorted(gap.p for gap in gaps if gap)
    last = -1.0
    for place, p in enumerate(values):
        if p * (len(values) - place) > 0.05:
            break
        last = p
    return last


def show(gap: Gap | None, bound: float) -> str:
    if gap is None:
        return "-"
    low, high = gap.mean - gap.half, gap.mean + gap.half
    return f"{gap.mean:+.4f} [{low:+.4f}, {high:+.4f}]{' *' if gap.p <= bound else ''}"


def cells(name: str) -> str:
    """A row per arm that is named, not crossed: means over the repetitions, differences in AUC, gAUC and LogLoss."""
    found = read(name)
    gaps = {n: [found.metric_gap(n, m) for m in ("auc", "gauc", "logloss")] for n in found.names() if not crossed(n)}
    bound, one = holm(g for row in gaps.values() for g in row), len({b for b, _ in gaps}) == 1
    head = ["arm", "n", "AUC", "gAUC", "LogLoss", "dAUC", "dgAUC", "dLogLoss"]
    lines = [] if one else ["backbone"]
    lines = [header([*lines, *head])]
    for (backbone, arm), row in gaps.items():
        means = [found.mean((backbone, arm), m) for m in ("auc", "gauc", "logloss")]
        first = [arm] if one else [backbone, arm]
        lines.append(line([*first, str(len(found.of(backbone, arm))), *means, *(show(g, bound) for g in row)]))
    return "\n".join(lines)


def cross(name: str) -> str:
    """Arms named knowledge+adapter+loss: a row per knowledge and adapter, a column per loss and metric."""
    found = read(name)
    arms = [n for n in found.names() if crossed(n)]
    gaps = {(n[1], m): found.metric_gap(n, m) for n in arms for m in ("auc", "gauc")}
    bound = holm(gaps.values())
    lines = [header(["knowledge, adapter", "n", *(f"d{m}, {loss}" for m in ("AUC", "gAUC") for loss in LOSSES)])]
    for left in dict.fromkeys(arm.rpartition("+")[0] for _, arm in arms):
        shown = [show(gaps.get((f"{left}+{loss}", m)), bound) for m in ("auc", "gauc") for loss in LOSSES]
        n = {len(found.of(b, arm)) for b, arm in arms if arm.rpartition("+")[0] == left}
        lines.append(line([left.replace("+", ", "), "-".join(str(k) for k in sorted({min(n), max(n)})), *shown]))
    return "\n".join(lines)


def slices(name: str) -> str:
    """A row per arm: differences in AUC by how many training interactions the item has, rarest fifth first."""
    found = read(name)
    arms = [n for n in found.names() if n[1] != found.rows[0]["reference"] and not crossed(n)]
    parts = ("q1", "q2", "q3", "q4", "q5")
    gaps = {(n, part): found.gap(n, of_slice(part)) for n in arms for part in parts}
    bound = holm(gaps.values())
    lines = [header(["arm", *("rarest fifth", "2", "3", "4", "commonest fifth")])]
    lines += [line([n[1], *(show(gaps[n, part], bound) for part in parts)]) for n in arms]
    return "\n".join(lines)


def crossed(name: tuple[str, str]) -> bool:
    """Whether an arm is one of knowledge x adapter x loss."""
    return name[1].count("+") == 2


def of_slice(part: str) -> Pick:
    def pick(test: Row) -> float | None:
        rows = {row["name"]: row for row in test.get("slices", {}).get("items", [])}
        return rows[part]["auc"] if part in rows else None

    return pick


def line(parts: list[str]) -> str:
    return f"| {' | '.join(parts)} |"


def header(parts: list[str]) -> str:
    return f"{line(parts)}\n|{'-|' * len(parts)}"
