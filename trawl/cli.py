"""The command line: all argument parsing and exit codes (0 done, 1 failed, 2 asked wrongly).

stdout carries results; progress and messages go to stderr. With --json stdout is nothing but JSON.
"""

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trawl import __version__, ahead, arms, config, printing, recipes, retrying, served, suggest, tools, views
from trawl.errors import AskedWrongly, TrawlError
from trawl.notes import described
from trawl.stage import Executor

DEFAULT_STORE = "out/store"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error of ours is one line on stderr. Returns the exit code."""
    return _carry_out(_parser().parse_args(arguments))


def _carry_out(args: argparse.Namespace) -> int:
    try:
        code = args.do(args)
        return int(code or 0)
    except TrawlError as error:
        return _failed(args, f"trawl: {error}", error.exit_code)
    except KeyboardInterrupt:
        return _failed(args, "trawl: interrupted; the same command goes on where it stood", 130)
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _failed(args, f"trawl: {error.strerror or error}: {error.filename or 'see --traceback'}", 1)
    except Exception as error:
        return _failed(args, f"trawl: internal error, {type(error).__name__}: {error}; --traceback shows where", 1)


def job(until: str = "", arguments: Sequence[str] | None = None) -> int:
    """`trawl run` with its arguments, up to a room: what the scripts in jobs/ are."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    spec = sys.modules["__main__"].__spec__  # of `python -m jobs.NAME`
    text = f"run a recipe up to the room {until}" if until else "run a recipe"
    parser = argparse.ArgumentParser(prog=f"python -m {spec.name}" if spec else None, description=text)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.set_defaults(do=_run)
    _add_recipe(parser, "run")
    _add_until(parser)
    return _carry_out(parser.parse_args([*words, *(["--until", until] if until else [])]))


def search(module: str, text: str, do: Callable[[argparse.Namespace], int], arguments: Sequence[str] | None) -> int:
    """`python -m tune.NAME` with the arguments of `trawl run`, its exit codes and its one-line errors."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.set_defaults(do=do)
    _add_recipe(parser, "study")
    return _carry_out(parser.parse_args(arguments))


def _failed(args: argparse.Namespace, line: str, code: int) -> int:
    if args.traceback:
        traceback.print_exc()
    print(" ".join(line.split()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trawl", description="Outside knowledge for recommenders, as a chain of tables on Ray."
    )
    parser.add_argument("--version", action="version", version=f"trawl {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_views(commands)
    tools.add(commands, _command)
    served.add(commands, _command, _add_store)
    retrying.add(commands, _command, _add_store, _run_recipe)
    suggest.add(commands, _command, _add_store)
    ahead.add(commands, _command, _add_store)
    return parser


def _command(commands: Any, name: str, do: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.set_defaults(do=do)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("TRAWL_STORE", DEFAULT_STORE)
    parser.add_argument(
        "--store",
        default=default,
        metavar="URI",
        help="where artifacts and runs live (default: $TRAWL_STORE or out/store)",
    )


def _add_recipe(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("recipe", help=f"a path to a .toml file, or one of {', '.join(recipes.shipped())}")
    _add_store(parser)
    parser.add_argument("--name", default="", help=f"name of the {what} (default: from the recipe's)")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a key of the recipe")


def _add_until(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--until", default="", metavar="STAGE", help="stop after this artifact or room")


def _add_run(commands: Any) -> None:
    run = _command(commands, "run", _run, "run a recipe; an interrupted or repeated run makes only what is missing")
    _add_recipe(run, "run")
    _add_until(run)
    _add_submit(commands)
    keys = _command(commands, "keys", _keys, "list the keys of a recipe with their defaults and meaning")
    keys.add_argument("recipe", nargs="?", default="", help="show this recipe's values instead")


def _add_submit(commands: Any) -> None:
    text = "run a recipe as a job of a Ray cluster; prints or runs one `ray job submit`"
    submit = _command(commands, "submit", _submit, text)
    submit.add_argument("recipe", help="as for run; files that it extends travel along")
    _add_store(submit)
    submit.add_argument("--name", default="", help="name of the run (default: the recipe's)")
    _add_until(submit)
    submit.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a key of the recipe")
    address = os.environ.get("RAY_API_SERVER_ADDRESS", "")
    submit.add_argument("--address", default=address, metavar="http://HEAD:8265", help="the cluster's dashboard")
    submit.add_argument("--job", default="pipeline", metavar="NAME", help="script to run: a room, pipeline, tune.NAME")
    submit.add_argument("--more", default="", metavar="WORDS", help="further words for the job, quoted as one")
    submit.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="no secrets: it is shown")
    submit.add_argument("--installed", action="store_true", help="the cluster's image has this trawl: send no code")
    submit.add_argument("--print", action="store_true", help="print the command instead of running it")
    submit.add_argument("--no-wait", action="store_true", help="do not follow the job's log")


def _add_views(commands: Any) -> None:
    status = _command(commands, "status", _status, "state of a run and of its artifacts")
    result = _command(commands, "result", _result, "the result table of a run")
    show = _command(commands, "show", _show, "rows of a table, raw ids beside indexes")
    for parser in (status, result, show):
        parser.add_argument("run", help="name of a run in --store, or its folder as a path or URI")
        _add_store(parser)
        parser.add_argument("--json", action="store_true", help="JSON on stdout (show: one object per line)")
    listed = _command(commands, "runs", _runs, "the newest runs of a store, with their best arm")
    _add_store(listed)
    listed.add_argument("--json", action="store_true")
    show.add_argument("artifact")
    show.add_argument("--limit", type=int, default=10, metavar="N")
    show.add_argument("--arm", default="", help="the table of this arm (default: of the first that has it)")
    show.add_argument("--repetition", type=int, default=0)
    why = _command(commands, "why", _why, "the config key or input that made two runs differ")
    why.add_argument("run_a")
    why.add_argument("run_b")
    _add_store(why)
    why.add_argument("--json", action="store_true")
    gc = _command(commands, "gc", _gc, "remove old runs and what only they use")
    gc.add_argument("--keep-runs", type=int, required=True, metavar="N")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    _add_store(gc)


def _run(args: argparse.Namespace) -> int:
    from trawl.store import Store

    cfg = recipes.load(args.recipe, args.set)
    store = Store(args.store)
    name = args.name or cfg.name
    if cfg.refresh.base and "/" not in cfg.refresh.base:  # a run of this store
        cfg = cfg.override(("refresh.base", store.where("runs", cfg.refresh.base)))
    return _run_recipe(retrying.kept(store, name, cfg), store, name, args.until)


def _run_recipe(cfg: config.Config, store: Any, name: str, until: str) -> int:
    from trawl import executors, experiment
    from trawl.progress import Progress, Watched
    from trawl.report import build

    with Progress(sys.stderr) as progress:

        def finished(row: dict[str, Any]) -> None:
            printing.cell_line(row)
            progress.cell()

        def start(cfg: config.Config) -> Executor:
            for arm, reason in arms.chosen(cfg).left_out.items():
                print(f"arm {arm} is left out: {reason}", file=sys.stderr)
            return Watched(executors.executor(cfg), progress)

        listener = experiment.Listener(progress.above(printing.stage_line), progress.above(finished), progress.cells)
        run = experiment.run(cfg, store, name, start, listener, until)
    page = build(store, run.name)
    if run.results():
        print(printing.result_table(run))
    print(f"report: {page}")
    return 0


def _submit(args: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from trawl import submit

    asked = submit.Request(
        recipe=args.recipe,
        address=args.address,
        store=args.store,
        settings=args.set,
        job=args.job,
        name=args.name,
        more=[*(["--until", args.until] if args.until else []), *shlex.split(args.more)],
        env=args.env,
        code=not args.installed,
        wait=not args.no_wait,
    )
    if args.print:
        ready = submit.prepare(asked)
        print(ready.line())
        if note := submit.folder_note(ready):
            print(f"trawl: {note}", file=sys.stderr)
        return 0
    with TemporaryDirectory(prefix="trawl-submit-") as folder:
        return submit.send(submit.prepare(asked, Path(folder)))


def _keys(args: argparse.Namespace) -> None:
    values = recipes.values(args.recipe)
    for note in described(config.Config):
        print(f"{note.key} = {json.dumps(values[note.key])}{f'  # {note.text}' if note.text else ''}")


def _status(args: argparse.Namespace) -> None:
    from trawl.runs import find

    found = views.status(find(args.run, args.store))
    print(json.dumps(found) if args.json else printing.status_table(found))


def _runs(args: argparse.Namespace) -> None:
    from trawl.report import index
    from trawl.store import Store

    store = Store(args.store)
    if not store.exists("runs"):
        raise AskedWrongly(f"no runs in {store.uri}; `trawl run` makes one, or name another store with --store")
    rows, more = index.runs(store)
    print(json.dumps([vars(row) for row in rows]) if args.json else printing.runs_table(rows, more))


def _result(args: argparse.Namespace) -> None:
    from trawl.runs import find

    run = find(args.run, args.store)
    print(json.dumps(run.results()) if args.json else printing.result_table(run))


def _show(args: argparse.Namespace) -> None:
    from trawl.runs import find

    run = find(args.run, args.store)
    for row in views.show(run, args.artifact, args.limit, args.arm, args.repetition):
        print(json.dumps(row, ensure_ascii=False, default=str) if args.json else printing.row_lines(row))
    if found := views.grounding(run, args.artifact, args.arm, args.repetition):
        printing.grounding_line(args.artifact, found)


def _why(args: argparse.Namespace) -> None:
    from trawl.runs import find

    causes = views.why(find(args.run_a, args.store), find(args.run_b, args.store))
    print(json.dumps(causes) if args.json else printing.cause_lines(causes))


def _gc(args: argparse.Namespace) -> None:
    from trawl.report import index
    from trawl.store import Store

    if args.keep_runs < 0:
        raise AskedWrongly(f"--keep-runs {args.keep_runs}: must not be negative")
    gone = views.gc(Store(args.store), args.keep_runs, args.dry_run)
    if any(name.startswith("runs/") for name in gone) and not args.dry_run:
        index.build(Store(args.store))
    print("\n".join(gone) if gone else "nothing to remove")
    left = [row.name for row in index.runs(Store(args.store))[0] if f"runs/{row.name}" not in gone]
    print(f"kept: {', '.join(left) or 'no run'}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
