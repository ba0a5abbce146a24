"""What came out of a study, for the terminal, the page and the recipe of the best point."""

import math
from dataclasses import dataclass
from typing import Any

from trawl.config import Config
from trawl.errors import Failed
from trawl.runs import Run
from tune import points
from tune.book import Book, Trial, mean

BEST = "best"  # the arm of result.json that is the best point


@dataclass(frozen=True)
class Spot:
    """A point on one axis with the validation AUCs of its repetitions."""

    name: str
    value: float
    aucs: tuple[float, ...]
    finished: bool

    @property
    def mean(self) -> float:
        return sum(self.aucs) / len(self.aucs)


@dataclass(frozen=True)
class Panel:
    """Validation AUC against one axis. `base`: the arm's own value, where that is a point of the study."""

    axis: str
    spots: tuple[Spot, ...]
    joined: bool  # the other axes keep their values, so that the spots are one curve
    base: float | None


@dataclass(frozen=True)
class Result:
    """`base`: the recipe with the arm's values."""

    run: Run
    base: Config
    book: Book

    @property
    def baseline(self) -> list[Trial]:
        """The repetitions of the arm without the contrastive loss."""
        return self.book.points().get(points.BASELINE, [])

    @property
    def best(self) -> list[Trial]:
        """The repetitions of the best point so far; empty before the first is finished."""
        try:
            name = best_point(self.book).name
        except Failed:
            return []
        return self.book.points()[name]

    def tested(self, arm: str) -> list[dict[str, Any]]:
        """Rows of result.json of `best` or `baseline`."""
        return [row for row in self.run.results() if row["arm"] == arm]

    def difference(self, metric: str = "auc") -> dict[str, Any] | None:
        """best - baseline on all test rows, with its interval; None before the test."""
        rows = self.run.read("comparisons.json") or []
        found = [r for r in rows if (r["arm"], r["slice"], r["metric"]) == (BEST, "all", metric)]
        return found[0] if found else None

    def panels(self) -> list[Panel]:
        return [self._panel(axis) for axis in points.searched(self.base)]

    def _panel(self, axis: str) -> Panel:
        joined = self.base.search.method == "one-at-a-time"
        centre = points.own(self.base)
        spots = []
        for name, trials in self.book.points().items():
            values = trials[0].values
            # The baseline stands in a picture as a level; on this axis it is a point where only this axis left the arm.
            fits = all(values[a] == centre[a] for a in points.AXES if a != axis)
            aucs = tuple(t.auc for t in trials if t.over and not math.isnan(t.auc))
            if aucs and (fits if joined else name != points.BASELINE):
                spots.append(Spot(name, values[axis], aucs, all(t.state == "finished" for t in trials)))
        return Panel(axis, tuple(sorted(spots, key=lambda s: s.value)), joined, centre[axis] if joined else None)


def best_point(book: Book) -> points.Point:
    """The searched point with the highest validation AUC, the mean over its repetitions. Raises Failed."""
    whole = [
        trials
        for name, trials in book.points().items()
        if name != points.BASELINE and all(t.state == "finished" and not math.isnan(t.auc) for t in trials)
    ]
    if not whole:
        raise Failed("study: no point was trained to its end; give it more trials or set search.grace_epochs = 0")
    return max(whole, key=mean)[0].point
