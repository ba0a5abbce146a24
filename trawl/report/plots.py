"""Pictures as SVG in two colour schemes, for the page to choose from; matplotlib is loaded when one is drawn."""

import base64
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trawl.report.hubs import Hubs
from trawl.report.links import Links
from trawl.report.outcome import Curve, Results
from trawl.report.tokens import EDGES, Spread, Tokens, used

_LIGHT = {"ink": "#3d4652", "faint": "#d7dce2", "one": "#1f6f8b", "two": "#c8553d"}
_DARK = {"ink": "#c6ced8", "faint": "#3a424d", "one": "#5fb3cf", "two": "#ef8f76"}
# Colours that the colour-blind tell apart (Wong, Nature Methods 2011), of middle lightness for both schemes.
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#8a8a8a", "#a6761d", "#66a61e")
_LONG = 40  # characters of an arm's name in a picture


@dataclass(frozen=True)
class Picture:
    """A plot as data URIs for both schemes; `alt` says in words what it shows."""

    light: str
    dark: str
    alt: str
    caption: str
    width: int  # CSS pixels of its natural size
    height: int


Draw = Callable[[Any, dict[str, str]], None]


def picture(draw: Draw, alt: str, caption: str, size: tuple[float, float] = (4.6, 3.0)) -> Picture:
    """Draw on matplotlib axes of that size in inches; `draw` takes the axes and the colours ink, faint, one, two."""
    svg = _svg(draw, _LIGHT, size)
    dark = svg
    for name, colour in _LIGHT.items():  # drawing twice would take twice as long
        dark = dark.replace(colour, _DARK[name])
    return Picture(_uri(svg), _uri(dark), alt, caption, round(size[0] * 96), round(size[1] * 96))


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")


def _svg(draw: Draw, colours: dict[str, str], size: tuple[float, float]) -> str:
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # silent about its cache on a first run
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), colours["ink"]
    )
    style = {
        **ink,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": colours["faint"],
        "svg.fonttype": "none",  # letters as letters: small, and in any script that the reader's machine has
        "svg.hashsalt": "trawl",  # the same run gives the same bytes
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a name in a script that the font lacks
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.grid(visible=True, linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes, colours)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return out.getvalue()


def legend(axes: Any, columns: int = 1) -> None:
    """Below the axes, where no data lie."""
    axes.figure.legend(loc="outside lower left", frameon=False, fontsize=8, ncols=columns)


def room(entries: int, columns: int = 1) -> tuple[float, float]:
    """Size of a picture with a legend of so many entries below its axes."""
    return (4.6, 3.0 + 0.18 * -(-entries // columns))


def columns_of(names: Sequence[str]) -> int:
    """Columns of a legend: as many as fit, for short names."""
    return max(1, min(3, 60 // (max(map(len, names), default=1) + 6)))


def differences(results: Results, part: str = "all") -> Picture | None:
    """Differences of test AUC from the reference, with intervals; None when there is none."""
    rows = [r for r in results.rows if part in r.differences]
    if not rows:
        return None
    of = {"all": "", "cold": " on cold items", "warm": " on warm items"}[part]

    def draw(axes: Any, colours: dict[str, str]) -> None:
        for place, row in enumerate(reversed(rows)):
            found = row.differences[part]
            clear = found["low"] > 0 or found["high"] < 0
            axes.plot([found["low"], found["high"]], [place, place], color=colours["one"], linewidth=2)
            axes.plot(found["difference"], place, "o", color=colours["one"], markerfacecolor=None if clear else "none")
        axes.axvline(0, color=colours["ink"], linewidth=1)
        axes.set_yticks(range(len(rows)), [plain(r.arm) for r in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"test AUC{of}, difference from {plain(results.reference)}")

    words = "; ".join(f"{r.arm} {_words(r.differences[part])}" for r in rows)
    alt = f"Difference of test AUC{of} from {results.reference} with 95 % intervals: {words}."
    caption = f"Difference of test AUC{of} from {results.reference}. Hollow: the interval includes 0."
    return picture(draw, alt, caption, (5.0, 1.1 + 0.32 * len(rows)))


def _words(found: Any) -> str:
    return f"{found['difference']:+.4f} ({found['low']:+.4f} to {found['high']:+.4f})"


def plain(name: str) -> str:
    """A name as matplotlib shows it literally: a dollar sign would begin a formula."""
    short = name if len(name) <= _LONG else name[: _LONG - 1] + "…"
    return short.replace("$", r"\$")


def whole_numbers(axis: Any) -> None:
    """Whole numbers on a logarithmic axis instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def similarity(links: Links) -> Picture | None:
    """Histogram of the best similarity of each item."""
    if not links.counts.sum():
        return None
    first = int(np.flatnonzero(links.counts)[0])

    def draw(axes: Any, colours: dict[str, str]) -> None:
        width = np.diff(links.edges)
        axes.bar(links.edges[:-1], links.counts, width * 0.9, align="edge", color=colours["one"])
        axes.axvline(links.threshold, color=colours["two"], linewidth=1.5, linestyle="--")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        whole_numbers(axes.yaxis)
        axes.set_xlim(min(0.75, max(0.0, links.edges[first] - 0.05)), 1.0)  # wide enough for ticks, whatever the data
        axes.set_xlabel("similarity of the best candidate")
        axes.set_ylabel("items (log)")

    alt = (
        f"Histogram of the best similarity of {int(links.counts.sum()):,} items, from {links.edges[first]:.2f} to 1; "
        f"{int(links.counts[-1]):,} items at {links.edges[-2]:.3f} or more; the threshold is {links.threshold:g}."
    )
    caption = "Similarity of each item's best candidate; dashed: the threshold."
    return picture(draw, alt, caption)


def in_degrees(hubs: Sequence[Hubs]) -> Picture | None:
    """How many anchors each partner serves, partners from the most to the least used."""
    some = [h for h in hubs if len(h.degrees)]
    if not some:
        return None
    columns = columns_of([named(h) for h in some])

    def draw(axes: Any, colours: dict[str, str]) -> None:
        for hub, colour in zip(some, CYCLE * len(some), strict=False):
            label = named(hub)
            # Few points are enough on a logarithmic axis; all of them would make a page of megabytes.
            ranks = np.unique(np.geomspace(1, len(hub.degrees), 200).astype(int))
            axes.plot(ranks, hub.degrees[ranks - 1], color=colour, marker=".", markersize=3, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        whole_numbers(axes.xaxis)
        whole_numbers(axes.yaxis)
        axes.set_xlabel("partner, by how often it is the first (rank)")
        axes.set_ylabel("anchors served")
        legend(axes, columns)

    words = "; ".join(f"{h.kind}s: the first serves {int(h.degrees[0]):,} of {h.anchors:,} anchors" for h in some)
    alt = f"Number of anchors that each partner serves, by rank of the partner. {words}."
    caption = "In-degree of the first positives; a steep left end means few hubs serve many anchors."
    return picture(draw, alt, caption, room(len(some), columns))


def cycled(number: int) -> str:
    """A colour for each line of a picture."""
    return CYCLE[number % len(CYCLE)]


def named(hub: Hubs) -> str:
    """A version of the positives as a legend names it."""
    return f"{hub.kind}s" + (f" ({plain(hub.arms)})" if hub.arms else "")


def spreads(found: Sequence[Tokens], side: str) -> Picture | None:
    """Histogram of the tokens that went in (`into`) or came out (`out`), a line for each version of the answers."""
    some: dict[bytes, tuple[list[Tokens], Spread]] = {}  # versions that are spread alike share a line
    for one in found:
        spread = one.into if side == "into" else one.out
        if spread.largest:
            some.setdefault(one.kind.encode() + spread.counts.tobytes(), ([], spread))[0].append(one)
    if not some:
        return None
    words = {"into": "tokens of a prompt", "out": "tokens of an answer"}[side]
    first, last = used([s for _, s in some.values()])

    def draw(axes: Any, colours: dict[str, str]) -> None:
        for number, (alike, spread) in enumerate(some.values()):
            line = ("-", "--", ":")[number // len(CYCLE) % 3]
            axes.stairs(
                spread.counts[first : last + 1],
                np.append(EDGES, 2 * EDGES[-1])[first : last + 2],
                color=CYCLE[number % len(CYCLE)],
                linestyle=line,
                label=plain(_alike(alike)),
            )
        axes.set_xscale("log", base=2)
        whole_numbers(axes.xaxis)
        axes.set_xlabel(f"{words} (log)")
        axes.set_ylabel("rows")
        legend(axes)

    said = "; ".join(f"{_alike(a)}: half up to {s.median:,}, at most {s.largest:,}" for a, s in some.values())
    caption = f"{words[0].upper()}{words[1:]}, by rows."
    return picture(draw, f"Histogram of {words}. {said}.", caption, room(len(some)))


def _alike(found: Sequence[Tokens]) -> str:
    return f"{found[0].kind}s, {' and '.join(t.source for t in found)}"


_TITLES = {
    "auc": "validation AUC",
    "rec": "recommendation loss",
    "uu": "contrastive loss of users",
    "ii": "contrastive loss of items",
    "loss": "whole loss",
}


def training(curves: Sequence[Curve]) -> list[Picture]:
    """Validation AUC and each part of the loss by epoch; parts that are zero throughout are left out."""
    return [p for name in _TITLES if (p := _course(curves, name))]


def _values(curve: Curve, name: str) -> np.ndarray[Any, Any]:
    return np.array([np.nan if row[name] is None else row[name] for row in curve.rows], dtype=float)


def _course(curves: Sequence[Curve], name: str) -> Picture | None:
    some = [c for c in curves if np.nansum(np.abs(_values(c, name))) > 0]
    if not some:
        return None
    arms = list(dict.fromkeys(c.arm for c in curves))
    columns = columns_of([plain(arm) for arm in arms])

    def draw(axes: Any, colours: dict[str, str]) -> None:
        shown: set[str] = set()
        for curve in some:
            label = None if curve.arm in shown else plain(curve.arm)
            colour = CYCLE[arms.index(curve.arm) % len(CYCLE)]
            line = ("-", "--", ":")[arms.index(curve.arm) // len(CYCLE) % 3]
            axes.plot(
                _values(curve, "epoch"), _values(curve, name), line, color=colour, marker="o", markersize=3, label=label
            )
            shown.add(curve.arm)
        axes.set_xlabel("epoch")
        axes.set_ylabel(_TITLES[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
        legend(axes, columns)

    words = "; ".join(f"{c.arm}, repetition {c.repetition}: {_ends(_values(c, name))}" for c in some[:20])
    title = _TITLES[name]
    caption = f"{title[0].upper()}{title[1:]} by epoch."
    return picture(draw, f"{title} by epoch. {words}.", caption, room(len({c.arm for c in some}), columns))


def _ends(values: np.ndarray[Any, Any]) -> str:
    return f"{values[0]:.4f} to {values[-1]:.4f}"
