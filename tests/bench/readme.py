"""Makes the tables of README.md and docs/*.md from files of measured figures.

`python tests/bench/readme.py` writes them, `--check` only compares.

docs/figures.json: {"machine", "date", "rows": [{"what", "figure", "how"}]}
docs/results/<name>.jsonl: cells of an experiment that is run piece by piece, written by cells.py: see tables.py.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import contrasts
import tables

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def figures() -> str:
    """The table of seconds, memory and ratios."""
    record = json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))
    lines = [f"{record['machine']}, {record['date']}.", "", "| what | measured | how |", "|-|-|-|"]
    lines += [f"| {row['what']} | {row['figure']} | {row['how']} |" for row in record["rows"]]
    return "\n".join(lines)


TABLES = {
    "cells": tables.cells,
    "cross": tables.cross,
    "contrasts": contrasts.contrasts,
    "slices": tables.slices,
}


def render(text: str) -> str:
    """A page with what stands between its markers made anew."""

    def fill(match: re.Match[str]) -> str:
        kind, _, name = match[1].partition(":")
        made = figures() if kind == "figures" else TABLES[kind](name)
        return f"<!-- {match[1]} -->\n{made}\n<!-- end -->"

    marker = rf"<!-- (figures|(?:{'|'.join(TABLES)}):[a-z0-9:-]+) -->"
    return re.sub(rf"{marker}\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = render(text)
        stale += made != text
        if not args.check:
            page.write_text(made, encoding="utf-8")
    return int(args.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
