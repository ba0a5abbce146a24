"""The SWING kernel against a scipy loop over anchors and against recfarm, in one run, in CPU seconds.

    python tests/bench/swing.py --out FILE [--threads N] [--every N] [--top-k K] [--no-peer]
    python tests/bench/swing.py --out FILE --synthetic 1 10 50 [--targets N]

The first form: MovieLens-1M's ratings.dat in the folder TRAWL_DATA, else a synthetic graph of its size; every case in a
process of its own, so that its peak memory is its own. Ours mines all anchors; scipy every N-th; recfarm (where it is
installed) a graph with a quarter of the users, which ours mines again. With one thread ratios are of CPU seconds, with
more of wall seconds, scipy's being those of its one thread.

The second form: sparse graphs of so many million interactions, 50 for each user, at fixed caps; a sample of targets.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp

from trawl.swing import Bipartite, Formula, Swing, bipartite, hubness


class Watch:
    """CPU and wall seconds of a block."""

    def __enter__(self) -> "Watch":
        self.begun = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu, self.wall = time.process_time() - self.begun[0], time.perf_counter() - self.begun[1]


def peak_mib() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def movielens(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of all ratings, numbered from 0."""
    text = (folder / "ratings.dat").read_text(encoding="latin-1").replace("::", ",")
    rows = np.array([line.split(",")[:2] for line in text.splitlines()], dtype=np.int64)
    users, items = (np.unique(rows[:, c], return_inverse=True)[1] for c in (0, 1))
    return users, items


def lookalike(users: int = 6040, items: int = 3706, edges: int = 1_000_209) -> tuple[np.ndarray, np.ndarray]:
    """Log-normal activity and popularity; about as many edges as MovieLens-1M."""
    rng = np.random.default_rng(0)
    odds = np.outer(rng.lognormal(0, 1.0, users), rng.lognormal(0, 1.4, items)).astype(np.float32)
    low, high = 0.0, 1e6
    for _ in range(60):
        scale = (low + high) / 2
        low, high = (scale, high) if (scale * odds / (1 + scale * odds)).sum() < edges else (low, scale)
    return np.nonzero(rng.random((users, items), dtype=np.float32) < scale * odds / (1 + scale * odds))


def graph_of(side: str, users: np.ndarray, items: np.ndarray) -> Bipartite:
    shape = (int(users.max()) + 1, int(items.max()) + 1)
    return bipartite(users, items, shape) if side == "user" else bipartite(items, users, shape[::-1])


def plain(graph: Bipartite, anchors: np.ndarray, scale: np.ndarray, top_k: int) -> float:
    """CPU seconds of the reference: rowsum((X_F W_FF) ∘ X_F) with sparse products, W given whole."""
    x = sp.csr_array((np.ones(len(graph.rows)), graph.rows, graph.rows_ptr), shape=(graph.n, graph.p))
    weights, columns = 1.0 / (1.0 + (x.T @ x).toarray()), x.tocsc()
    with Watch() as watch:
        for u in anchors:
            features = x.indices[x.indptr[u] : x.indptr[u + 1]]
            block = columns[:, features].tocsr()
            scores = np.asarray(block.multiply(block @ weights[np.ix_(features, features)]).sum(axis=1)).ravel()
            scores = scores * scale * scale[u]
            scores[u] = 0
            np.argpartition(scores, len(scores) - top_k)
    return watch.cpu


class Matrix:
    """As recfarm reads one: by the names of these attributes."""

    def __init__(self, pointer: np.ndarray, indices: np.ndarray) -> None:
        self.sparse_indptr, self.sparse_indices = pointer.tolist(), indices.tolist()
        self.sparse_data = [1.0] * len(indices)


def peer(graph: Bipartite, top_k: int, threads: int) -> Watch:
    """recfarm, whose items are our anchors."""
    import recfarm

    anchors, features = Matrix(graph.rows_ptr, graph.rows), Matrix(graph.lists_ptr, graph.lists)
    consumed = {
        i: graph.lists[a:b].tolist() for i, (a, b) in enumerate(zip(graph.lists_ptr, graph.lists_ptr[1:], strict=False))
    }
    model = recfarm.Swing(top_k, 1.0, 100_000_000, graph.p, graph.n, features, anchors, consumed, 0.0)
    with Watch() as watch:
        model.compute_swing(threads)
    return watch


def ours(graph: Bipartite, formula: Formula, top_k: int, threads: int) -> tuple[Watch, Any, np.ndarray]:
    with Watch() as watch:
        swing = Swing(graph, formula, threads=threads)
        cosine = formula.normalize == "cosine"
        own = swing.self_scores(range(graph.n)) if cosine else np.ones(graph.n)
        found = swing.topk(range(graph.n), top_k, own if cosine else None)
    return watch, found, np.divide(1.0, np.sqrt(own), out=np.zeros(graph.n), where=own > 0)


def case(folder: str, side: str, normalize: str, options: argparse.Namespace) -> dict[str, Any]:
    users, items = movielens(Path(folder)) if folder else lookalike()
    graph, formula = graph_of(side, users, items), Formula(normalize=normalize)
    ours(graph_of(side, users[:999], items[:999]), formula, 1, 1)  # compiled or loaded before the clock runs
    base = peak_mib()
    watch, found, scale = ours(graph, formula, options.top_k, options.threads)
    out = {"cpu_seconds": watch.cpu, "wall_seconds": watch.wall, "peak_mib": peak_mib(), "peak_before_mib": base}
    mine = watch.cpu if options.threads == 1 else watch.wall
    some = np.arange(0, graph.n, options.every)
    out["scipy_seconds"] = plain(graph, some, scale, options.top_k) * graph.n / len(some)
    out["scipy_ratio"] = out["scipy_seconds"] / mine
    if options.peer and normalize == "none":
        quarter = users % 4 == 0
        kept = (np.unique(column[quarter], return_inverse=True)[1] for column in (users, items))
        small = graph_of(side, *kept)
        watch, theirs = (
            ours(small, formula, options.top_k, options.threads)[0],
            peer(small, options.top_k, options.threads),
        )
        out |= {"quarter_seconds": watch.cpu, "recfarm_quarter_seconds": theirs.cpu}
        out["recfarm_ratio"] = theirs.cpu / watch.cpu if options.threads == 1 else theirs.wall / watch.wall
    best = hubness(found.partner[found.rank == 0], graph.n)
    return {k: round(v, 2) for k, v in out.items()} | best.as_dict()


def scattered(millions: float, side: str) -> Bipartite:
    """20,000 users and 2,000 items for each million; log-normal activity, Zipf popularity; lists and rows capped.

    User side: 500 users of each item. Item side: 200 items of each user, and 1,000 users of each item as target.
    """
    rng = np.random.default_rng(0)
    n, p = round(20_000 * millions), round(2_000 * millions)
    activity = rng.lognormal(0, 0.8, n)
    users = np.repeat(np.arange(n), np.maximum(1, np.rint(activity * 50 / activity.mean())).astype(np.int64))
    chance = np.cumsum(np.arange(1, p + 1) ** -0.7)
    items = rng.permutation(p)[np.searchsorted(chance, rng.random(len(users)) * chance[-1])]
    graph = graph_of(side, users, items)
    rows_ptr, rows = (graph.rows_ptr, graph.rows) if side == "user" else drawn(graph.rows_ptr, graph.rows, 1000, rng)
    lists_ptr, lists = drawn(graph.lists_ptr, graph.lists, 500 if side == "user" else 200, rng)
    return Bipartite(rows_ptr=rows_ptr, rows=rows, lists_ptr=lists_ptr, lists=lists, capped=True)


def drawn(pointer: np.ndarray, values: np.ndarray, cap: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """At most `cap` of each list, at random, in their order."""
    lengths = np.diff(pointer)
    keep = np.ones(len(values), dtype=bool)
    for at in np.flatnonzero(lengths > cap):
        keep[pointer[at] + rng.permutation(lengths[at])[cap:]] = False
    return np.concatenate([[0], np.cumsum(np.minimum(lengths, cap))]), values[keep]


def sparse_case(millions: float, side: str, options: argparse.Namespace) -> dict[str, Any]:
    graph = scattered(millions, side)
    base, some = peak_mib(), np.arange(0, graph.n, max(1, graph.n // options.targets))
    swing = Swing(graph, Formula(normalize="none"), threads=options.threads)
    swing.topk(some[:64], options.top_k)
    swing.self_scores(some[:64])
    with Watch() as search:
        swing.topk(some, options.top_k)
    with Watch() as own:
        swing.self_scores(some)
    whole = graph.n / len(some) / millions
    return {
        "way": type(swing.scorer).__name__,
        "targets": len(some),
        "cpu_seconds_per_million_literal": round(search.cpu * whole, 2),
        "cpu_seconds_per_million_cosine": round((search.cpu + own.cpu) * whole, 2),
        "wall_seconds_per_million_literal": round(search.wall * whole, 2),
        "peak_before_mib": base,
        "peak_mib": peak_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--synthetic", type=float, nargs="+", metavar="MILLIONS")
    parser.add_argument("--targets", type=int, default=20_000)
    options = parser.parse_args()
    folder = os.environ.get("TRAWL_DATA", "")
    figures: dict[str, Any] = {"threads": options.threads, "cases": {}}
    if options.peer and not importlib.util.find_spec("recfarm"):
        options.peer, figures["recfarm"] = False, "not installed (pip install recfarm==0.2.1)"
    jobs: list[tuple[str, Any, tuple[Any, ...]]]
    if options.synthetic:
        jobs = [(f"{m:g} M {side}", sparse_case, (m, side)) for side in ("user", "item") for m in options.synthetic]
    else:
        figures["data"] = "movielens-1m" if folder else "synthetic"
        both = [(side, normalize) for side in ("user", "item") for normalize in ("none", "cosine")]
        jobs = [(" ".join(pair), case, (folder, *pair)) for pair in both]
    for name, work, arguments in jobs:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures["cases"][name] = found = pool.apply(work, (*arguments, options))
        print(f"{name}: {found}", flush=True)
        options.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
