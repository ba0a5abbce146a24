"""The whole of `mine_distributed` on Ray: files of interactions in, files of partners out, both sides, under caps.

    python tests/bench/swing_scale.py --out FILE.json [--plot FILE.png] [--millions 1 10 50] [--workers 1 2] [--work D]
        [--leaders N] [--normalize cosine|none]

The graph: interactions / 50 users and interactions / 500 items (1 M x 100 k for 50 millions), log-normal activity
(sigma 1) and popularity (sigma 1.4), in Parquet parts by user. Caps as for graphs of this size: 500 users per item for
user targets; 200 items per user and 1,000 users of a target for item targets. Every case is a process with a Ray
cluster of its own; memory is the proportional set size (PSS) of the driver and all that Ray started, object store
included, sampled each second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

CAPS = {
    "user": {"users_per_item": 500, "target_features": "exact"},
    "item": {"items_per_user": 200, "target_features": 1000},
}
PARTS = 16
LIMIT_SECONDS, LIMIT_MIB, LIMIT_SHARE, LIMIT_SPEEDUP = 240, 6 * 1024, 0.7, 1.8


def made(folder: Path, millions: float) -> Path:
    """The graph in parts; made once for each size."""
    home = folder / f"graph-{millions:g}"
    edges = int(millions * 1e6)
    users, items = edges // 50, max(1000, edges // 500)
    home.mkdir(parents=True, exist_ok=True)
    odds = np.random.default_rng(1).lognormal(0, 1.4, items)
    ends = np.cumsum(odds / odds.sum())
    for part in range(PARTS):
        path = home / f"part-{part:02d}.parquet"
        if not path.exists():
            rng = np.random.default_rng([2, part])
            mine = np.arange(part, users, PARTS, dtype=np.int32)
            activity = rng.lognormal(0, 1.0, len(mine))
            events = rng.poisson(activity * (edges / PARTS / activity.sum()))
            drawn = np.minimum(np.searchsorted(ends, rng.random(int(events.sum()))), items - 1)
            table = pa.table({"user": np.repeat(mine, events), "item": drawn.astype(np.int32)})
            pq.write_table(table, path.with_suffix(".tmp"), compression="zstd")
            path.with_suffix(".tmp").rename(path)
    return home


class Memory(threading.Thread):
    """Largest PSS of this process and all below it, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self.largest, self.ended = 0.0, 0.0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(1.0):
            sizes = [0.0]
            for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
                try:
                    sizes.append(process.memory_full_info().pss / 2**20)
                except psutil.Error:  # it ended meanwhile
                    continue
            self.most, self.largest = max(self.most, sum(sizes)), max(self.largest, *sizes)


def one(source: str, workers: int, sides: list[str], out: str, how: list[str]) -> dict[str, Any]:
    """A case, in this process: seconds from the first read to the last file written, both sides."""
    import ray

    from trawl.config import Config
    from trawl.connection import connect
    from trawl.pool import OnRay
    from trawl.swing.cap_plan import settings_of
    from trawl.swing.distributed import Options, mine_distributed
    from trawl.swing.formula import Formula
    from trawl.swing.reading import Columns

    memory = Memory()
    memory.start()
    started = time.monotonic()
    connect(Config().override(f"resources.num_cpus={workers}"))
    figures: dict[str, Any] = {
        "workers": workers,
        "leaders": int(how[0]),
        "normalize": how[1],
        "start_seconds": time.monotonic() - started,
        "sides": {},
    }
    cpu = _cpu()
    started = time.monotonic()
    pool = OnRay(workers)
    for side in sides:
        begun = time.monotonic()
        options = Options(
            side=side, formula=Formula(normalize=how[1]), top_k=10, caps=settings_of(**CAPS[side], leaders=int(how[0]))
        )  # type: ignore[arg-type]
        report = mine_distributed(pool, source, Columns(user="user", item="item"), options, f"{out}/{side}")
        seconds = time.monotonic() - begun
        figures["sides"][side] = {
            "seconds": seconds,
            "kernel_share": report["seconds"]["kernel"] / workers / seconds,
            **{f"{k}_seconds": v for k, v in report["seconds"].items()},
            **{k: report[k] for k in ("interactions", "pairs", "rows", "parts", "graph_bytes")},
            "caps_cost": report.get("cap_error"),
            "caps": report["caps"]["words"],
        }
    figures["seconds"] = time.monotonic() - started
    figures["cpu_seconds"] = _cpu() - cpu
    memory.ended.set()
    memory.join()
    kernel = sum(s["kernel_seconds"] for s in figures["sides"].values())
    figures |= {"pss_mib": memory.most, "largest_process_mib": memory.largest}
    figures["kernel_share"] = kernel / workers / figures["seconds"]
    ray.shutdown()
    return figures


def _cpu() -> float:
    """CPU seconds of this process and all below it so far."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def case(work: Path, millions: float, workers: int, sides: list[str], how: list[str]) -> dict[str, Any]:
    source = made(work, millions)
    with tempfile.TemporaryDirectory(dir=work) as out:
        words = [
            sys.executable,
            __file__,
            "--one",
            str(source),
            str(workers),
            ",".join(sides),
            f"{out}/figures",
            *how,
        ]
        subprocess.run(words, check=True, env=os.environ | {"TRAWL_NODE_CACHE": f"{out}/node"})
        figures = json.loads(Path(f"{out}/figures/figures.json").read_text())
    figures = {"millions": millions, **figures}
    figures["cpu_seconds_per_million"] = figures["cpu_seconds"] / millions
    print(json.dumps(figures), flush=True)
    return figures


def plot(cases: list[dict[str, Any]], path: Path) -> None:
    """Seconds in the kernel of each side, and of the whole, against interactions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    most = max(c["workers"] for c in cases)
    chosen = sorted((c for c in cases if c["workers"] == most), key=lambda c: c["millions"])
    figure, axes = pyplot.subplots(figsize=(6, 4))
    size = [c["millions"] for c in chosen]
    for side in chosen[0]["sides"]:
        axes.plot(size, [c["sides"][side]["kernel_seconds"] for c in chosen], "o-", label=f"kernel, {side} side")
    axes.plot(size, [c["seconds"] * most for c in chosen], "o-", label="workers x seconds, all")
    axes.set(xscale="log", yscale="log", xlabel="million interactions", ylabel="seconds")
    axes.legend()
    figure.savefig(path, dpi=120)


def judged(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The targets, each with its figure."""
    out: dict[str, Any] = {}
    for c in cases:
        if c["millions"] >= 50 and c["workers"] >= 2:
            out["whole job"] = {
                "seconds": [c["seconds"], LIMIT_SECONDS],
                "pss_mib": [c["pss_mib"], LIMIT_MIB],
                "kernel_share": [c["kernel_share"], LIMIT_SHARE],
            }
    for millions in sorted({c["millions"] for c in cases}):
        seconds = {
            c["workers"]: sum(s["mining_seconds"] for s in c["sides"].values())
            for c in cases
            if c["millions"] == millions
        }
        if {1, 2} <= seconds.keys():
            out[f"2 workers against 1, mining, {millions:g} M"] = [seconds[1] / seconds[2], LIMIT_SPEEDUP]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/swing_scale.json"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--leaders", type=int, default=50, help="0: capped lists as they are")
    parser.add_argument("--normalize", choices=["cosine", "none"], default="cosine")
    parser.add_argument("--sides", nargs="+", default=["user", "item"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "trawl-swing-scale")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        source, workers, sides, out, *how = options.one
        Path(out).mkdir(parents=True)
        figures = one(source, int(workers), sides.split(","), out, how)
        (Path(out) / "figures.json").write_text(json.dumps(figures))
        return
    how = [str(options.leaders), options.normalize]
    cases = [case(options.work, m, w, options.sides, how) for m in options.millions for w in options.workers]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"cases": cases, "targets": judged(cases), "cpus": os.cpu_count()}
    options.out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found["targets"], indent=1))
    if options.plot:
        plot(cases, options.plot)


if __name__ == "__main__":
    main()
