"""Where a training step's time goes: writes the table of docs/training-profile.md.

    python tests/bench/training_profile.py [--write] [--steps 40]

One process and thread, MovieLens-1M-shaped data, vectors of 128 floats. Milliseconds and samples per second are of CPU
time, measured without the profiler; the shares of kinds of operations are the profiler's.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.profiler import ProfilerActivity, profile
from training import REPLACE, gflops, prepare, tables

from trawl.config import Config
from trawl.training.corpus import Tables
from trawl.training.loop import Training
from trawl.training.machine import settle

PAGE = Path(__file__).parents[2] / "docs" / "training-profile.md"
BEGIN, END = "<!-- table: tests/bench/training_profile.py -->", "<!-- end -->"
TARGET = "model.history_knowledge=false"
ARMS = {
    "no knowledge": ("extraction.source=none",),
    "adapter, target only": ("model.side=item", TARGET),
    "the same, contrastive": ("model.side=item", TARGET, "training.w_item=0.004"),
    "adapters everywhere, contrastive": ("training.w_item=0.004", "training.w_user=0.004"),
}
KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear"),
    "gathers": (
        "embedding",
        "index",
        "scatter",
        "aten::gather",
        "_Gather",
        "_WeightedSums",
        "_Pooled",
        "_Beside",
        "take",
    ),
    "distinct ids": ("sort", "unique", "nonzero", "cumsum", "coalesce"),
    "optimiser": ("Optimizer", "adam", "_foreach", "lerp"),
}
COLUMNS = (*KINDS, "the rest")


def kind_of(name: str) -> str:
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "the rest")


def steps_of(training: Training, steps: int) -> list[tuple[int, object]]:
    size = training.cfg.training.batch_size
    return [pair for pair, _ in zip(training.material.train.batches(size, 0, 0), range(steps), strict=False)]


def row(whole: Tables, backbone: str, arm: str, size: int, steps: int) -> list[str]:
    settings = (
        "extraction.source=raw",
        *REPLACE,
        *ARMS[arm],
        f"model.backbone={backbone}",
        f"training.batch_size={size}",
    )
    training, material = prepare(whole, Config().override(*settings))
    training.model.train()
    found = steps_of(training, steps + 5)
    for step, picks in found[:5]:
        training._step(step, picks)
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        for step, picks in found[5:]:
            training._step(step, picks)
        best = max(best, steps * size / (time.process_time() - started))
    started = time.process_time()
    for _, picks in found[5:]:
        material.behaviour.batch(material.train.take(picks))
    data = 1e3 * (time.process_time() - started) / steps
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for step, picks in found[5:]:
            training._step(step, picks)
    spent = dict.fromkeys(COLUMNS, 0.0)
    for event in measured.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total / 1e3 / steps
    share = [f"{100 * value / sum(spent.values()):.0f} %" for value in spent.values()]
    return [backbone, arm, str(size), f"{1e3 * size / best:.1f}", f"{best / 1e3:.1f}k", f"{data:.1f}", *share]


def table(steps: int) -> str:
    whole = tables()
    head = ["backbone", "arm", "batch", "ms a step", "samples/s", "making the batch, ms", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "-|" * len(head)]
    for backbone in ("din", "deepfm"):
        for arm in ARMS:
            for size in (256, 1024):
                lines.append("| " + " | ".join(row(whole, backbone, arm, size, steps)) + " |")
                print(lines[-1], flush=True)
    note = f"Matrix products reached {gflops():.0f} GFLOP/s in this run; torch {torch.__version__}, one thread."
    return "\n".join([*lines, "", note])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/training-profile.md")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    settle(1)
    found = table(args.steps)
    if args.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
