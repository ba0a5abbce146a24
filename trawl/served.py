"""The commands that hand a trained model on: `trawl export` and `trawl predict`. Part of the command line."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from trawl import views
from trawl.runs import find


def add(
    commands: Any, command: Callable[[Any, str, Any, str], ArgumentParser], add_store: Callable[[ArgumentParser], None]
) -> None:
    """Add both commands with the command line's own helpers."""
    export = command(commands, "export", _export, "write a trained model, its vectors and neighbours with raw ids")
    export.add_argument("run", help="name of a run in --store, or its folder as a path or URI")
    add_store(export)
    export.add_argument("--out", required=True, metavar="FOLDER")
    export.add_argument("--arm", default="", help="the model of this arm (default: the first)")
    export.add_argument("--repetition", type=int, default=0)
    export.add_argument("--force", action="store_true", help="replace an earlier export")
    predict = command(commands, "predict", _predict, "score rows of raw ids with an exported model alone")
    predict.add_argument("--bundle", required=True, metavar="FOLDER", help="what trawl export wrote")
    columns = "user_id, item_id and optionally history + ratings, seen + liked, fields"
    predict.add_argument("--rows", required=True, metavar="FILE", help=f"Parquet: {columns}; a null user_id is unknown")
    predict.add_argument("--out", required=True, metavar="FILE", help="Parquet, CSV or TSV: user_id, item_id, score")


def _export(args: Namespace) -> None:
    from trawl.export.writer import export

    run = find(args.run, args.store)
    inputs, wanted, origin = views.cell_inputs(run, args.arm, args.repetition)
    for name in export(inputs, wanted, origin, args.out, args.force):
        print(f"{args.out.rstrip('/')}/{name}")


def _predict(args: Namespace) -> None:
    from trawl.export.predictor import predict_file

    done = predict_file(args.bundle, args.rows, args.out)
    print(f"{done.rows} rows scored: {done.out}")
    for note in done.notes():
        print(f"trawl: {note}", file=sys.stderr)
