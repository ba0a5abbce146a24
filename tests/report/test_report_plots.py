"""Pictures: legends stand outside the axes whatever is drawn, and axes end where the values do."""

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from trawl.report import plots
from trawl.report.hubs import Hubs
from trawl.report.links import Links
from trawl.report.outcome import Curve
from trawl.report.tokens import EDGES, Spread, Tokens

ARMS = ["none", "extracted", "a rather long name of an arm that goes on", *(f"arm-{k}" for k in range(9))]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of all pictures, laid out."""
    figures: list[Figure] = []

    def keep(draw: plots.Draw, alt: str, caption: str, size: tuple[float, float] = (4.6, 3.0)) -> plots.Picture:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot(), plots._LIGHT)
        figure.canvas.draw()
        figures.append(figure)
        return plots.Picture("", "", alt, caption, round(size[0] * 96), round(size[1] * 96))

    monkeypatch.setattr(plots, "picture", keep)
    return figures


def apart(figure: Figure) -> None:
    """The legend is within the picture and lies over no part of the axes, which keep their height."""
    (axes,) = figure.axes
    (legend,) = figure.legends
    assert axes.get_legend() is None
    box, data = legend.get_window_extent(), axes.get_window_extent()
    assert not box.overlaps(data)
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
    assert data.height > 150


@pytest.mark.parametrize("many", [1, 3, len(ARMS)])
def test_legends_lie_over_no_data(drawn: list[Figure], many: int) -> None:
    rows = tuple({"epoch": e, "loss": 0.6, "rec": 0.5, "uu": 0.1, "ii": 0.1, "auc": 0.7 + 0.01 * e} for e in range(3))
    plots.training([Curve(arm, repetition, 1, rows) for arm in ARMS[:many] for repetition in range(2)])
    assert len(drawn) == 5
    shares: dict[str, Any] = {"largest": 0.5, "ten": 0.9, "tied": 0.0, "settings": {}}
    counts = {"anchors": 9, "without": 0, "rows": 9, "distinct": 3}
    plots.in_degrees(
        [Hubs(kind="user", arms=arm, degrees=np.array([5, 3, 1]), **counts, **shares) for arm in ARMS[:many]]
    )
    spread = [Spread(np.eye(len(EDGES), dtype=np.int64)[k], 1, 1) for k in range(many)]
    plots.spreads([Tokens("item", arm, "", (), one, one) for arm, one in zip(ARMS, spread, strict=False)], "into")
    assert len(drawn) == 7
    for figure in drawn:
        apart(figure)


@pytest.mark.parametrize("bins", [[39], [4, 39], [0]])
def test_the_axis_of_similarities_ends_at_one(drawn: list[Figure], bins: list[int]) -> None:
    counts = np.zeros(40, dtype=np.int64)
    counts[bins] = 7
    links = dict.fromkeys(("items", "linked", "tied", "with_text", "shared"), 7)
    nothing: dict[str, Any] = {"methods": {}, "accuracy": None, "doubts": (), "unlinked": (), "crowded": ()}
    edges = np.linspace(0, 1, 41)
    plots.similarity(Links(**links, **nothing, counts=counts, edges=edges, threshold=0.9, apart=None, counted_all=True))
    axes = drawn[0].axes[0]
    low, high = axes.get_xlim()
    assert high == 1.0 and low <= min(edges[bins[0]], 0.75)
    assert len([tick for tick in axes.get_xticks() if low <= tick <= high]) >= 3
