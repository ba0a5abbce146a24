"""The front door `trawl swing`: files of interactions in, a file of partners out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trawl import files
from trawl.errors import AskedWrongly
from trawl.swing import cap_error, earlier
from trawl.swing.days import DayNumbers, Window, day_name, parse_day
from trawl.swing.earlier import Earlier
from trawl.swing.formula import Formula
from trawl.swing.hubness import hubness
from trawl.swing.reading import Columns, Interactions, Piece, interactions, of_files, pieces
from trawl.swing.remining import Again, again
from trawl.swing.sides import Caps, Side, SideGraph, side_graph
from trawl.swing.tables import SCHEMA, Days, Mined, newest


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to mine: `formula`, `days` and `caps` as in `mine`; base: an earlier result to go on from, or its folder."""

    side: Side
    top_k: int = 10
    formula: Formula = field(default_factory=Formula)
    days: Days | None = None  # None: all that is there
    caps: Caps = field(default_factory=Caps)
    base: str = ""
    workers: int = 1

    def recipe(self, columns: Columns) -> dict[str, Any]:
        """What must agree for an earlier result to be a base, by the names that people know."""
        return earlier.recipe(
            side=self.side,
            top_k=self.top_k,
            formula=asdict(self.formula),
            caps=asdict(self.caps),
            columns={"rating": columns.rating, "like_above": columns.like_above if columns.rating else None},
            half_life_days=self.days.half_life_days if self.days else 0.0,
        )


def mine_file(source: str | Path, out: str | Path, columns: Columns, request: Request) -> dict[str, Any]:
    """Write the partners of all users or items to `out`; returns counts and the hubness, with its warning.

    source: a Parquet or CSV file, or a folder of Parquet files, dated where its folders are date=YYYY-MM-DD. `out` has
    anchor, rank, partner, score, shared, with the raw ids as text; ties go to the smaller id (as numbers when all ids
    are whole numbers, else as text). An existing file is replaced whole. Dated interactions leave a manifest beside
    `out`, by which a later day can go on from it (`base`).

    Raises InputError naming the file and row (of a CSV file: row 1 is the first below the header), AskedWrongly when
    `out` is an input or days are asked of interactions without dates.
    """
    path, target = Path(source), Path(out)
    found_pieces = pieces(path, columns)
    files.check_out(target, [piece.path for piece in found_pieces])
    dated = bool(columns.time) or found_pieces[0].day is not None
    if not dated and (request.days or request.base):
        what = "--base goes on from another day" if request.base else "days are chosen by dates"
        raise AskedWrongly(f"{path}: {what}; name --time-column, or a folder of folders date=YYYY-MM-DD")
    recipe = request.recipe(columns)
    read = _Read(found_pieces, columns, request, recipe) if dated else None
    found = read.found if read else interactions(of_files(found_pieces, columns), columns)
    graph = side_graph(found, request.side, read.window if read else None, request.caps)
    mined = Mined(graph, request.formula, request.top_k, request.workers, read.again(graph) if read else Again())
    counted = found.read
    del found
    rows = 0
    with files.writing(target, SCHEMA) as write:
        for table in mined.tables():
            write(table)
            rows += table.num_rows
        earlier.forget(target)
    if read:
        earlier.written(target, recipe, read.window, graph, rows)
    return _report(mined, request, {"read": counted, "rows": rows, "out": str(target), "source": str(path)}, read)


@dataclass(frozen=True)
class _Inside:
    """Days that stand in any of some windows."""

    windows: Sequence[Window]

    def __call__(self, days: DayNumbers) -> npt.NDArray[np.bool_]:
        return np.asarray(np.logical_or.reduce([window.counts(days) for window in self.windows]))


class _Read:
    """Dated interactions of a window, and of the window of the result to go on from."""

    def __init__(self, found: list[Piece], columns: Columns, request: Request, recipe: Mapping[str, Any]) -> None:
        self.request, days = request, request.days or Days()
        folders = [piece.day for piece in found if piece.day is not None]
        last = parse_day(days.day) if days.day else max(folders, default=None)
        self.found: Interactions
        self.base: Earlier | str = earlier.find(request.base, recipe, last) if request.base else ""
        windows = [] if isinstance(self.base, str) else [self.base.window]
        if last is None:  # by the newest row, so all are read
            self.found = interactions(of_files(found, columns), columns)
            self.window = days.window(newest(self.found))
        else:
            self.window = days.window(last)
            windows.append(self.window)
            wanted = [p for p in found if p.day is None or any(w.holds(p.day) for w in windows)] or found[:1]
            self.found = interactions(of_files(wanted, columns), columns, _Inside(windows))
        self.copied = Again(why=self.base) if isinstance(self.base, str) else Again()

    def again(self, graph: SideGraph) -> Again:
        """What can be copied for a graph of this window."""
        if not isinstance(self.base, str):
            request = self.request
            self.copied = again(self.base, self.found, request.side, graph, self.window, request.formula, request.caps)
        del self.found
        return self.copied


def _report(mined: Mined, request: Request, report: dict[str, Any], read: _Read | None) -> dict[str, Any]:
    graph, best = mined.graph, np.concatenate([np.empty(0, np.int64), *mined.best])
    hubs = hubness(best, graph.graph.n, degrees=graph.degrees, normalize=request.formula.normalize)
    source = report.pop("source")
    report = {
        "interactions": graph.interactions,
        **report,
        "top_k": request.top_k,
        **asdict(hubs),
        "caps": graph.plan.as_dict(),
    }
    warnings = [hubs.warning if graph.interactions else f"{source} has no rows{{}}: the table of partners is empty"]
    if mined.error:
        report["cap_error"] = mined.error.as_dict()
        warnings.append(cap_error.warning(report["cap_error"], request.top_k))
    if read:
        window = read.window
        report["window"] = {
            "first": day_name(window.first) if window.days or window.half_life_days else None,
            "last": day_name(window.last),
            "days": window.days,
            "half_life_days": window.half_life_days,
        }
    if read and request.base:
        copied = read.copied
        report["base"] = {
            "file": None if isinstance(read.base, str) else str(read.base.path),
            "touched": copied.share,
            "copied": 0 if copied.kept is None or copied.touched is None else int((~copied.touched).sum()),
            "full_run_because": copied.why or None,
        }
    inside = " in the window" if read else ""
    return {**report, "warning": "; ".join(filter(None, warnings)).replace("{}", inside)}


def summary(report: Mapping[str, Any]) -> str:
    """The report of `mine_file` in words, for people; the warning is left to the caller."""
    served = report["anchors"] - report["without"]
    lines = [f"{report['read']:,} interactions read"]
    if window := report.get("window"):
        since = f"{window['first']} to " if window["first"] else "all up to "
        decay = f", half the weight every {window['half_life_days']:g} days" if window["half_life_days"] else ""
        lines.append(f"{report['interactions']:,} count: {since}{window['last']}{decay}")
    elif report["interactions"] != report["read"]:
        lines.append(f"{report['interactions']:,} count: those liked")
    lines.append(f"mined {report['caps']['words']}")
    if base := report.get("base"):
        lines.append(_again(base))
    lines += [
        f"{report['rows']:,} rows of partners written: {report['out']}",
        f"{served:,} of {report['anchors']:,} anchors have a positive (their best partner)",
    ]
    if served:
        lines += [
            f"{report['distinct']:,} different positives; the commonest serves {report['largest']:.1%} of these "
            f"anchors, the ten commonest serve {report['ten']:.1%}",
            f"in a random batch of {report['batch']} an anchor shares it with about {report['collisions']:.1f} others",
            f"medians of degrees: {report['median_positive']:g} of positives, {report['median_degree']:g} of anchors",
        ]
    if report.get("cap_error"):
        lines.append(cap_error.words(report["cap_error"], report["top_k"]))
    return "\n".join(lines)


def _again(base: Mapping[str, Any]) -> str:
    share = "" if base["touched"] is None else f"{base['touched']:.1%} of the anchors touched; "
    if base["full_run_because"]:
        return f"full run: {base['full_run_because']}"
    return f"{share}{base['copied']:,} anchors copied from {base['file']}"
