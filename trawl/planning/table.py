"""A plan for the terminal."""

from collections.abc import Mapping
from typing import Any

from trawl.printing import table

_COLUMNS = ("", "entities", "prompts", "cached", "asked", "cut", "not sent", "tokens in", "tokens out", "time", "GPU h")


def lines(tree: Mapping[str, Any]) -> str:
    """The tables and the assumptions."""
    out = [f"plan of {tree['recipe']}, arms {', '.join(tree['arms'])}, store {tree['store']}"]
    if tree["prompts"]:
        out.append(table(_COLUMNS, [_prompt_row(side) for side in tree["prompts"]]))
    else:
        out.append("no prompts: no arm asks an engine")
    out.append("\n".join(f"{name:<16} {time:>9}  {what}" for name, what, time in _rest_rows(tree)))
    return "\n\n".join([*out, "\n".join(f"- {line}" for line in tree["assumptions"])])


def _prompt_row(side: Mapping[str, Any]) -> list[str]:
    hours = side["hours"][0] if side["hours"] else None
    return [
        f"{side['side']}s",
        f"{side['entities']:,}",
        count(side["prompts"]),
        count(side["cached"]),
        count(side["asked"]),
        f"{count(side['cut'])} ({share(side['cut_tokens'], side['text_tokens'])})",
        count(side["too_long"] + side["skipped"]),
        count(side["tokens_in"]),
        count(side["tokens_out"]),
        duration(hours["seconds"]) if hours else "?" if side["asked"] else "-",
        f"{hours['gpu_hours']:.2f}" if hours and hours["gpu_hours"] else "-",
    ]


def _rest_rows(tree: Mapping[str, Any]) -> list[list[str]]:
    """What, how much of it, how long."""
    rows = []
    if tree["engine"]:
        gpu = tree["engine"]["gpu_hours"]
        what = f"{gpu:.2f} GPU hours" if gpu else f"on {tree['engine']['device']}"
        rows.append(["engine", what, duration(tree["engine"]["seconds"])])
    for name, what in (("encoding", "texts"), ("training", "samples an epoch")):
        found = tree[name]
        if found and found["tables"]:
            time = "?" if found["seconds"] is None else duration(found["seconds"])
            each = f"{count(found['count'])} {what}, {found['tables']} {'tables' if name == 'encoding' else 'models'}"
            rows.append([name, each, time])
    if tree["cost"] is not None:
        rows.append(["cost", f"{tree['cost']:,.2f}", ""])
    size = tree["storage"]
    rows.append(["storage", ", ".join(f"{name.replace('_', ' ')} {volume(n)}" for name, n in size.items()), ""])
    day = tree["refresh"]
    if tree["prompts"]:
        cost = "" if day["cost"] is None else f", cost {day['cost']:,.2f}"
        gpu = f", {day['gpu_hours']:.2f} GPU hours" if day["gpu_hours"] else ""
        what = f"{count(day['prompts'])} prompts, {count(day['tokens_in'] + day['tokens_out'])} tokens{gpu}{cost}"
        rows.append(["a day's refresh", what, "?" if day["seconds"] is None else duration(day["seconds"])])
    return rows


def count(number: float) -> str:
    """1,234; 12.3 k; 4.56 M."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if number >= unit:
            return f"{number / min(unit, 1e3 if name == ' k' else unit):.3g}{name}"
    return f"{number:,.0f}"


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "0 %"


def volume(size: float) -> str:
    """Bytes with a unit."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def duration(seconds: float) -> str:
    """4.2 s; 3 min; 5.1 h; 2.4 days."""
    for unit, name in ((172800.0, "days"), (5400.0, "h"), (90.0, "min")):
        if seconds >= unit:
            return f"{seconds / {'days': 86400.0, 'h': 3600.0, 'min': 60.0}[name]:.1f} {name}"
    return f"{seconds:.1f} s"
