"""The commands on files alone, without recipe or store: `trawl link` and `trawl swing`. Part of the command line."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from trawl import printing, swing_options


def add(commands: Any, command: Callable[[Any, str, Any, str], ArgumentParser]) -> None:
    """Add both commands with the command line's own helper."""
    link = command(commands, "link", _link, "link titles to entities by edit similarity and year")
    link.epilog = "Files are Parquet, CSV or TSV by their ending."
    ids = "id (or item_id, movie_id)"
    for name, columns in (
        ("titles", f"columns {ids}, title and optionally year"),
        ("entities", "columns entity_id, label and optionally year, text"),
        ("out", "gets the columns id, rank, entity_id, similarity, method; none of the inputs"),
    ):
        link.add_argument(f"--{name}", required=True, metavar="FILE", help=columns)
    truth = f"for the report's accuracy: columns {ids}, accepted_entity_ids (or entity_ids) joined by |"
    link.add_argument("--truth", default="", metavar="FILE", help=truth)
    swing = command(commands, "swing", _swing, "mine positives from interactions")
    swing_options.add(swing)
    for parser in (link, swing):
        parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")


def _link(args: Namespace) -> None:
    from trawl.linking.front import link_files

    report = link_files(args.titles, args.entities, args.out, args.truth or None)
    _reported(args, report, printing.report_lines({k: v for k, v in report.items() if k != "warning"}))


def _swing(args: Namespace) -> None:
    from trawl.swing.front import mine_file, summary

    if args.ray is None:
        report = mine_file(args.interactions, args.out, *swing_options.asked(args))
    else:
        with redirect_stdout(sys.stderr):  # Ray tells of lost nodes there
            report = swing_options.on_ray(args)
    _reported(args, report, summary(report))


def _reported(args: Namespace, report: dict[str, Any], words: str) -> None:
    """The report of a tool on stdout, its warning on stderr."""
    print(json.dumps(report) if args.json else words)
    if report.get("warning"):
        print(f"trawl: {report['warning']}", file=sys.stderr)
