"""Our SWING against a plain scipy loop over anchors, in one run and on one thread, in CPU seconds.

    python tests/bench/swing.py --out FILE [--every N] [--top-k K]

With TRAWL_DATA = the folder of MovieLens-1M's ratings.dat on the real ratings, else on a synthetic graph of its size.
The reference scores every N-th anchor (it takes about a minute for all of them); ours mines all anchors.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp

from trawl.swing import Formula, Swing, hubness
from trawl.swing.graph import bipartite, from_matrix


def movielens(folder: Path) -> sp.csr_array:
    """Users x items of all ratings."""
    text = (folder / "ratings.dat").read_text(encoding="latin-1").replace("::", ",")
    rows = np.array([line.split(",")[:2] for line in text.splitlines()], dtype=np.int64)
    users, items = (np.unique(rows[:, c], return_inverse=True)[1] for c in (0, 1))
    return graph(users, items, (int(users.max()) + 1, int(items.max()) + 1))


def synthetic(users: int = 6040, items: int = 3706, edges: int = 1_000_209) -> sp.csr_array:
    """Log-normal activity and popularity; about as many edges as MovieLens-1M."""
    rng = np.random.default_rng(0)
    odds = np.outer(rng.lognormal(0, 1.0, users), rng.lognormal(0, 1.4, items)).astype(np.float32)
    low, high = 0.0, 1e6
    for _ in range(60):
        scale = (low + high) / 2
        low, high = (scale, high) if (scale * odds / (1 + scale * odds)).sum() < edges else (low, scale)
    chance = scale * odds / (1 + scale * odds)
    return sp.csr_array((rng.random((users, items), dtype=np.float32) < chance).astype(np.float64))


def plain(x: sp.csr_array, anchors: np.ndarray, scale: np.ndarray, top_k: int) -> float:
    """CPU seconds of the reference: rowsum((X_F W_FF) ∘ X_F) with sparse products, W given whole."""
    weights, columns = 1.0 / (1.0 + (x.T @ x).toarray()), x.tocsc()
    started = time.process_time()
    for u in anchors:
        features = x.indices[x.indptr[u] : x.indptr[u + 1]]
        block = columns[:, features].tocsr()
        scores = np.asarray(block.multiply(block @ weights[np.ix_(features, features)]).sum(axis=1)).ravel()
        scores = scores * scale * scale[u]
        scores[u] = 0
        np.argpartition(scores, len(scores) - top_k)
    return time.process_time() - started


def case(x: sp.csr_array, normalize: str, top_k: int, every: int) -> dict[str, float | str]:
    started = time.process_time()
    swing = Swing(x, normalize=normalize)
    own = swing.self_scores() if normalize == "cosine" else None
    found = swing.topk(range(x.shape[0]), top_k, own)
    ours = time.process_time() - started
    scale = np.ones(x.shape[0]) if own is None else 1 / np.sqrt(np.maximum(own, 1e-300))
    some = np.arange(0, x.shape[0], every)
    reference = plain(x, some, scale, top_k) * x.shape[0] / len(some)
    hubs = hubness(found.partner[found.rank == 0], x.shape[0])
    figures = {"ours_seconds": ours, "scipy_seconds": reference, "ratio": reference / ours}
    return {k: round(v, 2) for k, v in figures.items()} | {
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **hubs.as_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--top-k", type=int, default=10)
    options = parser.parse_args()
    folder = os.environ.get("TRAWL_DATA")
    x = movielens(Path(folder)) if folder else synthetic()
    figures = {"data": "movielens-1m" if folder else "synthetic", "edges": int(x.nnz), "cases": {}}
    for side, matrix in (("user", x), ("item", sp.csr_array(x.T))):
        for normalize in ("none", "cosine"):
            figures["cases"][f"{side} {normalize}"] = found = case(matrix, normalize, options.top_k, options.every)
            print(f"{side} {normalize}: {found}", flush=True)
    options.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
