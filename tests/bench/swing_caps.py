"""What caps cost on MovieLens-1M, all ratings: positives under caps against exact ones, in every direction.

    python tests/bench/swing_caps.py --data FOLDER --out FILE [--side user|item]... [--targets N] [--caps C ...]

For N targets of each side drawn by seed: the share whose best partner is unchanged (same), the share whose exact best
partner stands in the capped top 10 (listed), recall@10, and the exact scores of the ten found by those of the exact ten
(score; a partner behind the 200 exact best counts 0). Directions:

- lists: the lists that targets walk are samples: users per item of user targets, items per user of item targets.
- walk: each target's own features are a sample (items of a user target, users of an item target); lists are whole.
- edges: the interactions themselves are cut to so many for each anchor before anything is counted.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa

from trawl.swing.cap_plan import planned, settings_of
from trawl.swing.caps import cap_lists
from trawl.swing.degrees import Degrees
from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Ints, bipartite
from trawl.swing.ranges import Ranges
from trawl.swing.sides import Ids, SideGraph, capped_graph

TOP, LOOKED = 10, 200
Exact = dict[int, dict[int, float]]  # target -> partner -> score, the best first


def movielens(folder: Path) -> tuple[Ints, Ints]:
    """Users and items of all ratings, numbered from 0."""
    text = (folder / "ratings.dat").read_text(encoding="latin-1").replace("::", " ")
    rows = np.array(text.split(), dtype=np.int64).reshape(-1, 4)
    users, items = (np.unique(rows[:, c], return_inverse=True)[1] for c in (0, 1))
    return users, items


def capped(whole: Bipartite, side: str, direction: str, cap: int) -> SideGraph:
    """One side under one cap."""
    if direction == "edges":
        ptr, kept = cap_lists(whole.rows_ptr, whole.rows, cap, owner=side)
        rows = np.repeat(np.arange(whole.n), np.diff(ptr))
        whole = bipartite(rows, whole.rows[kept], (whole.n, whole.p))
    exact = dict.fromkeys(("users_per_item", "items_per_user", "target_features"), "exact")
    key = {"lists": "users_per_item" if side == "user" else "items_per_user", "walk": "target_features"}
    settings = settings_of(**(exact | ({key[direction]: cap} if direction in key else {})))
    plan = planned(side, settings, Degrees.of(whole.degrees), Degrees.of(whole.lengths))
    nobody = Ids(pa.array([], pa.large_string()), np.empty(0, dtype=np.int64), True)  # numbers are enough here
    return SideGraph(whole if plan.exact else capped_graph(whole, plan), whole, plan, nobody, nobody, len(whole.rows))


def partners(graph: SideGraph, formula: Formula, targets: Ints, top_k: int) -> Exact:
    chosen = np.zeros(graph.graph.n, dtype=bool)
    chosen[targets] = True
    out: Exact = {int(t): {} for t in targets}
    for _, found in Ranges(graph, formula, top_k, chosen=chosen):
        for anchor, partner, score in zip(found.anchor.tolist(), found.partner.tolist(), found.score, strict=True):
            out[anchor][partner] = float(score)
    return out


def compared(exact: Exact, found: Exact) -> dict[str, float]:
    sums = dict.fromkeys(("same", "listed", "recall", "score"), 0.0)
    some = {target: scores for target, scores in exact.items() if scores}
    for target, scores in some.items():
        best, mine = list(scores)[:TOP], list(found[target])[:TOP]
        sums["same"] += mine[:1] == best[:1]
        sums["listed"] += best[0] in mine
        sums["recall"] += len(set(best) & set(mine)) / len(best)
        sums["score"] += sum(scores.get(v, 0.0) for v in mine) / sum(scores[v] for v in best)
    return {name: round(total / len(some), 3) for name, total in sums.items()} | {
        "distinct": len({next(iter(f)) for f in found.values() if f})
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--side", choices=("user", "item"), action="append")
    parser.add_argument("--targets", type=int, default=500)
    parser.add_argument("--caps", type=int, nargs="+", default=[2000, 1000, 500, 200, 100])
    options = parser.parse_args()
    users, items = movielens(options.data)
    figures: dict[str, dict[str, object]] = {}
    for side in options.side or ("user", "item"):
        own, other = (users, items) if side == "user" else (items, users)
        whole = bipartite(own, other, (int(own.max()) + 1, int(other.max()) + 1))
        targets = np.sort(np.random.default_rng(0).choice(whole.n, options.targets, replace=False))
        for normalize in ("none", "cosine", "degree"):
            formula = Formula(normalize=normalize)
            started = time.process_time()
            exact = partners(capped(whole, side, "none", 0), formula, targets, LOOKED)
            base = time.process_time() - started
            for direction in ("lists", "walk", "edges"):
                for cap in options.caps:
                    started = time.process_time()
                    found = partners(capped(whole, side, direction, cap), formula, targets, TOP)
                    spent = {"cpu_share": round((time.process_time() - started) / base, 2)}
                    name = f"{side} {direction} {cap} {normalize}"
                    figures[name] = compared(exact, found) | spent
                    print(name, figures[name], flush=True)
    options.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
