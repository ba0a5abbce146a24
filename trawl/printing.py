"""Lines and tables for the terminal."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trawl.report.index import Row
from trawl.report.slices import Sliced, sliced, unpaired
from trawl.runs import Cell, Run
from trawl.stage import Outcome

_CELLS = 48  # characters of the cells of an artifact


def stage_line(outcome: Outcome, cell: Cell) -> None:
    """One line per stage on stderr: name, rows, seconds, memory, the cell that first needed it, statuses."""
    what = "ready" if outcome.skipped else f"{outcome.seconds:.1f} s"
    rows = f"{outcome.rows:,} rows" if outcome.rows else ""
    counts = ", ".join(f"{k} {v:,}" for k, v in sorted(outcome.statuses.items()))
    memory = "" if outcome.skipped else f"{outcome.peak_mib:,.0f} MiB"
    counts = "; ".join(filter(None, (counts, notes_line(outcome.notes))))
    line = f"{outcome.artifact:<16} {rows:>15} {what:>9} {memory:>10}  {cell.name:<20} {counts}"
    print(line.rstrip(), file=sys.stderr, flush=True)
    for warning in outcome.notes.get("warnings", ()):
        print(f"  {outcome.artifact}: {warning}", file=sys.stderr, flush=True)


def notes_line(notes: Mapping[str, Any]) -> str:
    """What a stage counted beside its rows, such as prompts asked and answers from the cache."""
    counts = ((name, count) for name, count in notes.items() if isinstance(count, int | float))
    told = ((name, count) for name, count in counts if count or name == "asked")
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in told)


def cell_line(row: Mapping[str, Any]) -> None:
    """One line per finished cell on stderr."""
    found = {split: row[split]["auc"] for split in ("validation", "test")}
    # Rows of one label only have no AUC.
    parts = [f"{split} AUC {'-' if auc is None else f'{auc:.4f}'}" for split, auc in found.items()]
    print(f"  {row['arm']}/{row['repetition']}: {', '.join(parts)}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left and the others to the right."""
    widths = [max(len(str(r[i])) for r in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            str(c).ljust(w) if i == 0 else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), line(["-" * w for w in widths]), *(line(r) for r in rows)])


def result_table(run: Run) -> str:
    """Means over repetitions by arm, and the difference of test AUC from the reference with its interval, or a line on
    why an arm has none.
    """
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in run.results():
        arms[row["arm"]].append(row)
    compared: list[dict[str, Any]] = run.read("comparisons.json") or []
    found = {(c["arm"], c["slice"]): c for c in compared if c["metric"] == "auc" and c["slice"] in ("all", "cold")}
    cold = any((row["test"].get("cold") or {}).get("rows") for rows in arms.values() for row in rows)
    head = ["arm", "n", "valid AUC", "test AUC", "gAUC", "LogLoss", "dAUC [95 %]"]
    rows = [_result_row(arm, mine, found, cold) for arm, mine in arms.items()]
    whole = table(head + (["cold AUC", "cold gAUC", "cold dAUC [95 %]"] if cold else []), rows)
    whole = "\n".join([whole, *unpaired(compared).values()])
    return "\n\n".join([whole, *(slice_table(found) for found in sliced(run.results(), list(arms)))])


def slice_table(found: Sliced) -> str:
    """Test AUC of each arm on each slice."""

    def auc(arm: str, name: str) -> str:
        value = found.value(arm, name, "auc")
        return "-" if value is None else f"{value:.4f}"

    rows = [[arm, *(auc(arm, c.name) for c in found.columns)] for arm in found.arms]
    return f"test AUC by {found.words}\n" + table(["arm", *(c.words for c in found.columns)], rows)


def _result_row(arm: str, rows: list[dict[str, Any]], found: Mapping[tuple[str, str], Any], cold: bool) -> list[str]:
    def mean(split: str, metric: str, part: str = "") -> str:
        values = [((r[split].get(part) or {}) if part else r[split]).get(metric) for r in rows]
        known = [v for v in values if v is not None]
        return f"{np.mean(known):.4f}" if known else "-"

    def difference(part: str) -> str:
        c = found.get((arm, part))
        if not c or c["low"] is None:
            return "-"
        return f"{c['difference']:+.4f} [{c['low']:+.4f}, {c['high']:+.4f}]"

    out = [
        arm,
        str(len(rows)),
        mean("validation", "auc"),
        mean("test", "auc"),
        mean("test", "gauc"),
        mean("test", "logloss"),
    ]
    out.append(difference("all"))
    return out + ([mean("test", "auc", "cold"), mean("test", "gauc", "cold"), difference("cold")] if cold else [])


def status_table(status: Mapping[str, Any]) -> str:
    """State of a run: a head line and a row per artifact."""
    cells = status["cells"]
    head = f"{status['name']}: {status['state']}, {cells['finished']} of {cells['all']} cells finished"
    head += f", created {status['created']}"
    every = list(dict.fromkeys(cell for a in status["artifacts"] for cell in a["cells"]))
    rows = [
        [
            a["artifact"],
            _cells(a["cells"], every),
            a["fingerprint"],
            a["state"],
            f"{a.get('rows', ''):,}" if a.get("rows") else "",
            str(a.get("seconds", "")),
        ]
        for a in status["artifacts"]
    ]
    return f"{head}\n{table(['artifact', 'cells', 'fingerprint', 'state', 'rows', 'seconds'], rows)}"


def _cells(mine: Sequence[str], every: Sequence[str]) -> str:
    """Which cells use an artifact, in the shortest words: all, whole repetitions, whole arms, else arm/repetition."""
    if set(mine) == set(every):
        return "all"
    for part, word in ((2, "repetition "), (0, "")):
        names = dict.fromkeys(cell.rpartition("/")[part] for cell in mine)
        if set(mine) == {cell for cell in every if cell.rpartition("/")[part] in names}:
            return _cut(", ".join(f"{word}{name}" for name in names))
    return _cut(", ".join(mine))


def _cut(text: str) -> str:
    return text if len(text) <= _CELLS else f"{text[: _CELLS - 3]}..."


def runs_table(rows: Sequence[Row], more: int) -> str:
    """Runs of a store, the newest first."""
    head = ["run", "recipe", "state", "begun", "cells", "best arm", "valid AUC", "test AUC", "dAUC [95 %]"]
    lines = [
        [
            row.name,
            row.recipe,
            row.state,
            row.created,
            f"{row.finished} of {row.cells}",
            row.best or "-",
            "-" if row.valid is None else f"{row.valid:.4f}",
            "-" if row.test is None else f"{row.test:.4f}",
            f"{row.difference['difference']:+.4f} [{row.difference['low']:+.4f}, {row.difference['high']:+.4f}]"
            if row.difference
            else "-",
        ]
        for row in rows
    ]
    return table(head, lines) + (f"\n{more:,} older runs are not listed" if more else "")


def cause_lines(causes: Sequence[Mapping[str, Any]]) -> str:
    """The causes of a difference, a line each."""
    if not causes:
        return "no difference: every artifact has the same fingerprint"
    return "\n".join(f"{c['artifact']}: {c['kind']} {c['key']}: {c['first']!r} -> {c['second']!r}" for c in causes)


def row_lines(row: Mapping[str, Any]) -> str:
    """A row of a table, one column after another; long values are shortened."""
    return "  ".join(f"{k}={_short(v)}" for k, v in row.items())


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def report_lines(report: Mapping[str, Any]) -> str:
    """A report of a tool, a figure per line; None, a share of nothing, is a dash."""
    shown = {k: f"{v:.4f}" if isinstance(v, float) else "-" if v is None else v for k, v in report.items()}
    return "\n".join(f"{k}: {v}" for k, v in shown.items())


def grounding_line(artifact: str, found: Mapping[str, Any]) -> None:
    """One line on stderr about what answers name and their sources have."""
    print(
        f"{artifact}: {found['rows']:,} answers name people, numbers or titles; {found['mean']:.1%} of these stand in "
        f"what the prompts showed; {found['below']:,} answers ({found['below'] / found['rows']:.1%}) have some that do "
        "not (column unsupported)",
        file=sys.stderr,
    )
