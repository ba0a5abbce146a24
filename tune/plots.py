"""The sensitivity curves: validation AUC against each value, as T's Figure 3 has them."""

from collections.abc import Sequence
from typing import Any

from trawl.report.plots import Picture, picture
from tune.result import Panel

_APART = 0.1  # of the axis: the least distance of two labels
SYMBOLS = {"w_user": "w₁ (users)", "w_item": "w₂ (items)", "temperature": "temperature τ"}


def sensitivity(panels: Sequence[Panel], baseline: tuple[float, ...], best: str) -> list[Picture]:
    """A picture per axis that has a point, all over the same range of AUC so that their slopes compare."""
    aucs = [auc for found in panels for spot in found.spots for auc in spot.aucs] + list(baseline)
    if not aucs:
        return []
    margin = 0.12 * (max(aucs) - min(aucs)) or 0.001
    limits = (min(aucs) - margin, max(aucs) + margin)
    return [_panel(found, baseline, best, limits) for found in panels if found.spots]


def _panel(found: Panel, baseline: tuple[float, ...], best: str, limits: tuple[float, float]) -> Picture:
    """Means over the repetitions with their range; the baseline's mean as a level."""

    def draw(axes: Any, colours: dict[str, str]) -> None:
        spots = found.spots
        positive = all(spot.value > 0 for spot in spots)
        if found.joined:
            axes.plot([s.value for s in spots], [s.mean for s in spots], color=colours["one"], linewidth=1.4)
        for spot in spots:
            if len(spot.aucs) > 1:
                axes.plot([spot.value] * 2, [min(spot.aucs), max(spot.aucs)], color=colours["one"], linewidth=1)
            fill = colours["one"] if spot.finished else "none"
            mark = "s" if spot.value == found.base else "o"
            axes.plot(spot.value, spot.mean, mark, color=colours["one"], markerfacecolor=fill, markersize=5)
            if spot.name == best:
                axes.plot(spot.value, spot.mean, "o", color=colours["two"], markerfacecolor="none", markersize=11)
        if baseline:
            axes.axhline(sum(baseline) / len(baseline), color=colours["two"], linewidth=1.2, linestyle="--")
        if positive:
            _logarithmic(axes, [spot.value for spot in spots])
        axes.set_xlabel(SYMBOLS[found.axis])
        axes.set_ylabel("validation AUC")
        axes.set_ylim(*limits)
        axes.yaxis.get_major_formatter().set_useOffset(False)

    words = "; ".join(f"{spot.value:.4g}: {spot.mean:.4f}" for spot in found.spots[:40])
    level = f" Baseline: {sum(baseline) / len(baseline):.4f}." if baseline else ""
    alt = f"Validation AUC against {SYMBOLS[found.axis]}. {words}.{level}"
    return picture(draw, alt, _caption(found, bool(baseline)), (4.4, 3.0))


def _caption(found: Panel, level: bool) -> str:
    parts = [f"Validation AUC against {SYMBOLS[found.axis]}"]
    parts.append("the other values as in the arm" if found.joined else "each trial with its own other values")
    text = "; ".join(parts) + "."
    text += " Square: the arm's own value." if found.base is not None else ""
    text += " Dashed: without the loss." if level else ""
    return text + (" Hollow: stopped early." if any(not s.finished for s in found.spots) else "")


def _logarithmic(axes: Any, values: list[float]) -> None:
    """A logarithmic axis that is labelled at the values themselves where they are few."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axes.set_xscale("log")
    there = sorted(set(values))
    if len(there) <= 8:
        apart = (there[-1] / there[0]) ** _APART
        ticks = [there[0]]
        for value in there[1:]:
            if value >= ticks[-1] * apart:
                ticks.append(value)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
