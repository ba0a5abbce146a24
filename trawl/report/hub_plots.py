"""The picture of how active positives are against everybody."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trawl.report import plots
from trawl.report.hubs import Hubs, Spread
from trawl.report.plots import Picture, picture


def degrees(hubs: Sequence[Hubs]) -> Picture | None:
    """Share of anchors up to each degree, of all and of the positives; None without such figures."""
    some = [(h, h.population, h.positives) for h in hubs if h.population and h.positives]
    if not some:
        return None
    names = [f"{plots.named(h)}, {who}" for h, _, _ in some for who in ("all", "positives")]
    columns = min(2, plots.columns_of(names))

    def draw(axes: Any, colours: dict[str, str]) -> None:
        for (_, everybody, positives), number in zip(some, range(len(some)), strict=True):
            colour = plots.cycled(number)
            for spread, line, name in ((everybody, "--", names[2 * number]), (positives, "-", names[2 * number + 1])):
                axes.step(*_points(spread), line, where="post", color=colour, label=name)
        axes.set_xscale("log")
        plots.whole_numbers(axes.xaxis)
        axes.set_ylim(0, 1)
        axes.set_xlabel("degree (log): items of a user, users of an item")
        axes.set_ylabel("share up to it")
        plots.legend(axes, columns)

    words = "; ".join(
        f"{h.kind}s: half of all have at most {a.median:,}, half of the positives at most {b.median:,}"
        for h, a, b in some
    )
    caption = "Degree of the positives (solid) against everybody's (dashed); far to the right: the positives are hubs."
    return picture(draw, f"Share of anchors up to each degree. {words}.", caption, plots.room(len(names), columns))


def _points(spread: Spread) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """With a start at 0, and at most some 200 steps, which is what can be seen."""
    keep = np.unique(np.linspace(0, len(spread.lowest) - 1, 200).astype(int))
    lowest = np.maximum(spread.lowest[keep], 1)
    return np.concatenate([lowest[:1], lowest]), np.concatenate([[0.0], spread.share[keep]])
