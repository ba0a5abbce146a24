"""How far each arm is from the reference on each slice, as a picture."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from trawl.report.plots import CYCLE, Picture, columns_of, legend, picture, plain, room
from trawl.report.slices import Sliced


def by_slice(found: Sequence[Sliced], reference: str, without: Collection[str] = ()) -> list[Picture]:
    """Difference of test AUC from the reference over the bins of items and of users; none without another arm.

    `without`: arms that are not paired with the reference.
    """
    return [p for s in found if s.kind != "text" and (p := _picture(s, reference, without))]


def _picture(found: Sliced, reference: str, without: Collection[str]) -> Picture | None:
    others = [arm for arm in found.arms if arm != reference and arm not in without]
    if reference not in found.arms or not others:
        return None
    base = _values(found, reference)
    lines = {arm: _values(found, arm) - base for arm in others}
    columns = columns_of([plain(arm) for arm in others])

    def draw(axes: Any, colours: dict[str, str]) -> None:
        for number, (arm, values) in enumerate(lines.items()):
            line = ("-", "--", ":")[number // len(CYCLE) % 3]
            axes.plot(values, line, color=CYCLE[number % len(CYCLE)], marker="o", markersize=3, label=plain(arm))
        axes.axhline(0, color=colours["ink"], linewidth=1)
        axes.set_xticks(range(len(found.columns)), [c.words for c in found.columns])
        axes.set_xlabel(found.words)
        axes.set_ylabel(f"test AUC - {plain(reference)}")
        legend(axes, columns)

    words = "; ".join(f"{arm}: {', '.join(_signed(v) for v in values)}" for arm, values in list(lines.items())[:20])
    what = f"Difference of test AUC from {reference} by {found.words}"
    alt = f"{what} ({', '.join(c.words for c in found.columns)}). {words}."
    return picture(draw, alt, f"{what}.", room(len(others), columns))


def _values(found: Sliced, arm: str) -> np.ndarray[Any, Any]:
    values = [found.value(arm, column.name, "auc") for column in found.columns]
    return np.array([np.nan if v is None else v for v in values])


def _signed(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:+.4f}"
