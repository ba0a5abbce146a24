"""Peak memory and CPU seconds of `mine_file` over a Parquet file with string ids.

    python tests/bench/swing_file.py --rows 10000000 --folder out/bench

Users are drawn evenly, items with a long tail. Item side, with caps, so that reading and numbering are most of it.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trawl.swing import Caps, Columns, Request, front, mine_file

_AT_ONCE = 1_000_000


def written(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema([("u", pa.string()), ("i", pa.string())])) as out:
        for _ in range(0, rows, _AT_ONCE):
            users = rng.integers(0, rows // 10, _AT_ONCE)
            items = np.minimum((rng.pareto(0.8, _AT_ONCE) * 100).astype(np.int64), rows // 100)
            columns = {"u": np.char.add("user-", users.astype(str)), "i": np.char.add("item-", items.astype(str))}
            out.write_table(pa.table(columns))


def told(what: str) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{what}: {time.process_time():.1f} CPU s, peak {peak} MiB", flush=True)


def telling(what: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        out = work(*arguments)
        told(what)
        return out

    return call


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    source = args.folder / f"log-{args.rows}.parquet"
    if not source.exists():  # made by a run of its own, or its memory would be in the peak
        written(source, args.rows)
        raise SystemExit(f"{source} is made; run this again")
    told("start")
    for name, what in (("interactions", "read and numbered"), ("side_graph", "graph")):
        setattr(front, name, telling(what, getattr(front, name)))
    request = Request(side="item", caps=Caps(items_per_user=100, target_features=500))
    report = mine_file(source, args.folder / "partners.parquet", Columns(user="u", item="i"), request)
    told(f"{report['rows']:,} rows written")


if __name__ == "__main__":
    main()
