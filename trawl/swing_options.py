"""The arguments of `trawl swing`. Part of the command line."""

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from typing import Any


def add(parser: ArgumentParser) -> None:
    """All of them but --json and --traceback."""
    parser.add_argument(
        "--interactions", required=True, metavar="FILE", help="Parquet or CSV by its ending, or a folder of Parquet"
    )
    for side in ("user", "item"):
        parser.add_argument(f"--{side}-column", required=True, metavar="NAME", help=f"its column of {side} ids")
    out = "Parquet, CSV or TSV by its ending: anchor, rank, partner, score, shared; not the interactions"
    parser.add_argument("--out", required=True, metavar="FILE", help=out)
    parser.add_argument("--side", choices=("user", "item"), required=True)
    parser.add_argument("--top-k", type=int, default=10)
    workers = "threads, or with --ray tasks at a time; they change no result"
    parser.add_argument("--workers", type=int, default=1, metavar="N", help=workers)
    ray = "mine by Ray tasks, for what one process cannot hold: --out may be a folder (default ADDRESS: the job's)"
    parser.add_argument("--ray", nargs="?", const="", default=None, metavar="ADDRESS", help=ray)
    _add_formula(parser)
    _add_days(parser)
    _add_caps(parser)


def _add_formula(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("formula")
    group.add_argument("--normalize", choices=("none", "cosine", "degree"), default="cosine")
    group.add_argument("--alpha", type=float, default=1.0, help="smoothing; the paper's is 1")
    group.add_argument("--diagonal", action=BooleanOptionalAction, default=True, help="whether the sums include i = j")
    weights = "of a feature with n anchors: 1, n^-1/2, (a + n)^-b"
    group.add_argument("--node-weight", choices=("none", "sqrt", "power"), default="none", help=weights)
    group.add_argument("--node-a", type=float, default=15.0, metavar="A", help="of power")
    group.add_argument("--node-b", type=float, default=0.3, metavar="B", help="of power")
    group.add_argument("--inverted", action="store_true", help="1 / sum, the least similar first: for study only")


def _add_days(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("which interactions count")
    group.add_argument("--rating-column", default="", metavar="NAME", help="only rows above --like-above count")
    group.add_argument("--like-above", type=float, default=None, metavar="X", help="(default: 3)")
    times = "timestamps, dates, ISO 8601 text, or numbers of --time-unit since 1970"
    group.add_argument("--time-column", default="", metavar="NAME", help=times)
    group.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), default="s", help="of a column of numbers")
    day = "the last day that counts: YYYY-MM-DD, or previous (default: the newest there is)"
    group.add_argument("--day", default="", help=day)
    group.add_argument("--window-days", type=int, default=0, metavar="N", help="so many days up to it (0: all)")
    half = "an interaction weighs half for each so many days of age (0: all weigh the same)"
    group.add_argument("--half-life-days", type=float, default=0.0, metavar="H", help=half)
    base = "an earlier --out of dated interactions, or its folder: what did not change since is copied"
    group.add_argument("--base", default="", metavar="FILE", help=base)


def _add_caps(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("caps", "auto (exact up to a cost), exact, or a number")
    for name, text in (
        ("users-per-item", "of each item's users that user targets walk"),
        ("items-per-user", "of each user's items that item targets walk"),
        ("target-features", "of a target's own items or users"),
    ):
        group.add_argument(f"--{name}", type=_cap, default="auto", metavar="CAP", help=text)
    group.add_argument("--cap-seed", type=int, default=0, metavar="N", help="which entries a cap keeps")
    leaders = "of capped lists: the best N candidates of a target are scored again on whole rows (0: none, as they are)"
    group.add_argument("--leaders", type=int, default=50, metavar="N", help=leaders)


def _cap(text: str) -> int | str:
    if text in ("auto", "exact"):
        return text
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: auto, exact or a number") from None


def asked(args: Namespace) -> tuple[Any, Any]:
    """(Columns, Request) of the arguments. Raises AskedWrongly."""
    from trawl.errors import AskedWrongly
    from trawl.swing import Caps, Columns, Days, Formula, Request

    if args.like_above is not None and not args.rating_column:
        raise AskedWrongly("--like-above: of which column? name --rating-column")
    columns = Columns(
        user=args.user_column,
        item=args.item_column,
        rating=args.rating_column,
        like_above=3.0 if args.like_above is None else args.like_above,
        time=args.time_column,
        time_unit=args.time_unit,
    )
    days = Days(day=args.day, window_days=args.window_days, half_life_days=args.half_life_days)
    request = Request(
        side=args.side,
        top_k=args.top_k,
        formula=Formula(**{name: getattr(args, name) for name in Formula.__dataclass_fields__}),
        days=None if days == Days() else days,
        caps=Caps(**{n: getattr(args, n) for n in Caps.__dataclass_fields__ if n != "exact_steps"}),
        base=args.base,
        workers=args.workers,
    )
    return columns, request


def on_ray(args: Namespace) -> dict[str, Any]:
    """The report of mining by Ray tasks, on the cluster of args.ray or one of this machine. Raises AskedWrongly."""
    from trawl.errors import AskedWrongly
    from trawl.swing.clustered import mine_on_cluster

    columns, request = asked(args)
    if columns.time or request.days or request.base:
        raise AskedWrongly("--ray mines all days: leave out the arguments about days, or --ray")
    if args.workers < 1:
        raise AskedWrongly(f"--workers {args.workers}: must be at least 1")
    return mine_on_cluster(args.ray, args.interactions, args.out, columns, request)
