"""The page itself: numbers and pictures into the template, escaped, and written in one piece."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trawl.config import flat
from trawl.report import (
    behaviour,
    budgets,
    grounding,
    hub_plots,
    hubs,
    knowledge,
    links,
    neighbours,
    outcome,
    plots,
    pulls,
    slice_plots,
    slices,
    texts,
    tokens,
)
from trawl.report.record import Record
from trawl.store import Store

_HERE = Path(__file__).parent
_SHOWN = 1200  # characters of an example's text
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)  # controls, turns of direction
_MINUTE, _HOUR, _KIB = 60, 3600, 1024


def build(store: Store, run: str) -> str:
    """Write `<store>/runs/<run>/report.html` anew and return its path or URI.

    Whatever of the run exists is shown. Raises AskedWrongly for a run that does not exist, ArtifactError for a table
    that is broken.
    """
    record = Record(store, run)
    store.write_text(_render(_contents(record)), "runs", run, "report.html")
    return store.where("runs", run, "report.html")


def _contents(record: Record) -> dict[str, Any]:
    """What the template shows, by name."""
    linked = links.links(record)
    mined = hubs.hubs(record)
    courses = outcome.curves(record)
    counted = tokens.tokens(record)
    results = outcome.results(record)
    stages = outcome.stages(record)
    sliced = slices.sliced(record.results, record.arms)
    return {
        "run": record.run,
        "libraries": outcome.libraries(record),
        "results": results,
        "summary": _summary(results, record),
        "comparisons": [c for c in record.comparisons if not slices.of_slice(c)],
        "between": slices.differences(record.comparisons),
        "unpaired": list(record.unpaired.values()),
        "sliced": sliced,
        "slice_pictures": slice_plots.by_slice(sliced, results.reference, record.unpaired) if results else [],
        "differences": [p for part in ("all", "cold") if results and (p := plots.differences(results, part))],
        "behaviour": behaviour.behaviour(record),
        "links": linked,
        "similarity": plots.similarity(linked) if linked else None,
        "answers": texts.answers(record),
        "budgets": budgets.budgets(record),
        "tokens": counted,
        "spreads": [p for side in ("into", "out") if (p := plots.spreads(counted, side))],
        "knowledge": knowledge.knowledge(record),
        "grounds": grounding.grounds(record),
        "vectors": texts.vectors(record),
        "hubs": mined,
        "in_degrees": plots.in_degrees(mined),
        "degrees": hub_plots.degrees(mined),
        "neighbours": neighbours.neighbours(record),
        "models": courses,
        "pulls": pulls.pulls(record),
        "pull_parts": pulls.PARTS,
        "pull_learned": pulls.LEARNED,
        "curves": plots.training(courses),
        "stages": stages,
        "slowest": max((s.seconds for s in stages), default=0.0) or 1.0,
        "made": sum(s.seconds for s in stages if s.state == "made"),
        "peak": max((s.peak_mib for s in stages), default=0.0),
        "recipe": _toml(record.recipe),
        "arms": {c["arm"]: c["overrides"] for c in reversed(record.cells)},
        "arm_names": record.arms,
    }


def _summary(results: outcome.Results | None, record: Record) -> str:
    """The outcome in a sentence or two; the arm is chosen on validation, so that its test figure is not flattered."""
    if results is None:
        return "No arm of this run has been trained and tested; what has been made so far is shown below."
    best, total = results.best, len(record.cells)
    text = f"On the validation users the best arm is {best.arm} (AUC {_figure(best.validation['auc'])})"
    if best.validation["auc"] is None:
        text = f"The validation users define no AUC, so no arm is chosen. The first one is {best.arm}"
    text += (
        f"; on the test users it reaches AUC {_figure(best.test['auc'])} and LogLoss {_figure(best.test['logloss'])}."
    )
    found = best.differences.get("all")
    if found:
        zero = "excludes" if found["low"] > 0 or found["high"] < 0 else "includes"
        text += (
            f" That is {found['difference']:+.4f} test AUC against {results.reference}"
            f" (95 % interval {found['low']:+.4f} to {found['high']:+.4f}, which {zero} 0)."
        )
    if len(record.results) < total:
        text += f" {len(record.results)} of {total} cells are finished."
    return text


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _toml(tree: Mapping[str, Any]) -> str:
    """The recipe in full, a line per key under its section."""
    lines = [f"{key} = {_value(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for section, keys in tree.items():
        if isinstance(keys, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_value(value)}" for key, value in flat(keys).items())]
    return "\n".join(lines)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _render(contents: Mapping[str, Any]) -> str:
    return render("page.html", contents)


def render(template: str, contents: Mapping[str, Any], folder: Path = _HERE) -> str:
    """A page from a template of ours, what it shows escaped; its macros and style are at hand in any folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    pages = Environment(
        loader=FileSystemLoader([folder, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_readable,
    )
    pages.filters |= {
        "count": _count,
        "four": lambda value: "–" if value is None else f"{value:.4f}",
        "signed": lambda value: f"{value:+.4f}",
        "percent": lambda value: "–" if value is None else f"{100 * value:.1f} %",
        "duration": _duration,
        "bytes": _bytes,
        "short": _short,
        "value": _value,
    }
    style = Markup((_HERE / "style.css").read_text(encoding="utf-8"))  # our own file, nothing of outside in it
    return pages.get_template(template).render(contents, style=style)


def _readable(value: Any) -> Any:
    """Text of outside without the characters that no page may hold or that turn the reading direction."""
    return _UNREADABLE.sub("�", value) if type(value) is str else value


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest:02d} s" if seconds < _HOUR else f"{minutes // 60} h {minutes % 60:02d} min"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= _KIB
    return f"{size:,.1f} TiB"


def _short(text: str, limit: int = _SHOWN) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
