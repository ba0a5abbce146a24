"""The result of a study as a page and on the terminal."""

import math
from pathlib import Path
from typing import Any

from trawl import printing
from trawl.report import index
from trawl.report.page import render
from tune import plots, points
from tune.book import Trial, mean
from tune.result import BEST, Result

FILE = "study.html"


def build(result: Result) -> None:
    """Write `<store>/runs/<study>/study.html` anew from what there is so far, and the index over all runs."""
    best = result.best
    levels = tuple(t.auc for t in result.baseline if t.over and not math.isnan(t.auc))
    name = best[0].name if best else ""
    differences = {metric: result.difference(metric) for metric in ("auc", "gauc", "logloss")}
    contents = {
        "run": result.run.read("run.json"),
        "arm": result.base.search.arm,
        "search": result.base.search,
        "epochs": result.base.training.epochs,
        "share": result.base.data.user_share,
        "searched": points.searched(result.base),
        "centre": points.own(result.base),
        "symbols": plots.SYMBOLS,
        "summary": summary(result),
        "pictures": plots.sensitivity(result.panels(), levels, name),
        "rows": _rows(result),
        "best_name": name,
        "best_values": best[0].values if best else {},
        "tested": _tested(result),
        "differences": {m: d for m, d in differences.items() if d and d["low"] is not None},
        "seconds": sum(trial.seconds for trial in result.book),
        "failed": [trial for trial in result.book if trial.state == "failed"],
    }
    html = render("study.html", contents, Path(__file__).parent)
    result.run.store.write_text(html, "runs", result.run.name, FILE)
    index.build(result.run.store)


def summary(result: Result) -> str:
    """The outcome in a few sentences: chosen on validation, then tested once beside the baseline."""
    over = sum(trial.over for trial in result.book)
    if not result.best:
        return f"{over} of {len(result.book.trials)} trials are over; no point is finished yet."
    best, baseline = result.best, result.baseline
    values = ", ".join(f"{axis} = {best[0].values[axis]:.4g}" for axis in points.AXES)
    text = f"The best point on the validation users is {best[0].name} ({values}) with AUC {mean(best):.4f}"
    text += f"; without the contrastive loss it is {mean(baseline):.4f}." if baseline else "."
    if baseline and mean(baseline) >= mean(best):
        text += " So no point of this study is better than leaving the loss out."
    found = result.difference()
    if found and found["low"] is not None:
        zero = "excludes" if found["low"] > 0 or found["high"] < 0 else "includes"
        text += (
            f" On the test users, which only these two were shown, the difference is {found['difference']:+.4f} AUC"
            f" (95 % interval {found['low']:+.4f} to {found['high']:+.4f}, which {zero} 0)."
        )
    if over < len(result.book.trials):
        text += f" {over} of {len(result.book.trials)} trials are over."
    return text


def _rows(result: Result) -> list[dict[str, Any]]:
    """A row per point, the best first, those that are not finished last."""
    rows = [_row(name, trials) for name, trials in result.book.points().items()]
    return sorted(rows, key=lambda row: (row["auc"] is None, row["state"] != "finished", -(row["auc"] or 0.0)))


def _row(name: str, trials: list[Trial]) -> dict[str, Any]:
    states = [trial.state for trial in trials]
    seen = [t for t in trials if t.epochs]
    figures = {m: _mean([t.best["validation"].get(m) for t in seen]) for m in ("auc", "gauc", "logloss")}
    aucs = [t.auc for t in seen if not math.isnan(t.auc)]
    return figures | {
        "name": name,
        "values": trials[0].values,
        "repetitions": len(trials),
        "low": min(aucs, default=None),
        "high": max(aucs, default=None),
        "epochs": max((len(t.epochs) for t in trials), default=0),
        "seconds": sum(t.seconds for t in trials),
        "state": next((s for s in ("failed", "running", "waiting", "stopped") if s in states), "finished"),
        "model": ", ".join(t.model for t in trials),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None and not math.isnan(v)]
    return sum(known) / len(known) if known else None


def _tested(result: Result) -> list[dict[str, Any]]:
    """Mean test metrics of the best point and the baseline, and nothing of the other points."""
    out = []
    for arm in (BEST, points.BASELINE):
        rows = result.tested(arm)
        if rows:
            means = {m: _mean([row["test"][m] for row in rows]) for m in ("auc", "gauc", "logloss")}
            out.append({"arm": arm, "repetitions": len(rows)} | means)
    return out


def terminal(result: Result) -> str:
    """The table of points, and the outcome in words."""
    head = ["point", *points.AXES, "epochs", "state", "valid AUC", "gAUC", "LogLoss", "seconds"]
    rows = []
    for row in _rows(result):
        values = [f"{row['values'][axis]:.4g}" for axis in points.AXES]
        figures = ["-" if row[m] is None else f"{row[m]:.4f}" for m in ("auc", "gauc", "logloss")]
        rows.append([row["name"], *values, str(row["epochs"]), row["state"], *figures, f"{row['seconds']:.1f}"])
    return f"{printing.table(head, rows)}\n{summary(result)}"
