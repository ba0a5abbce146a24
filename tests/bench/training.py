"""Samples per second of training and scoring on MovieLens-1M-shaped data, one process, one thread.

    python tests/bench/training.py [--batches 1024,4096] [--arms DeepFM] [--out result.json]

Rates are per second of CPU time (other processes on the machine would distort wall time) and include making the
batch, forward, backward and step. Beside them stands the machine's matrix product rate in the same run: the bounds
were set on a machine whose quiet core reaches 120 GFLOP/s, and ratios bind more than absolute rates. Bounds that
were met or missed are printed; the exit code is 1 when one is missed and --strict is given.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import torch

from trawl import uses
from trawl.config import Config
from trawl.model.backbones.base import mlp
from trawl.schemas import FIELDS
from trawl.training.batches import Behaviour, epoch_batches, kept_rows
from trawl.training.corpus import Knowledge, Tables, build_world, learn
from trawl.training.loop import Material, Training, new_model, score
from trawl.training.machine import settle
from trawl.training.partners import Partners

USERS, ITEMS, EVENTS, WIDTH = 6040, 3706, 1_000_209, 128
# T's injection of users and items, with nothing else that reads vectors: what an arm leaves open.
REPLACE = ("model.injection=replace", "model.side=both", "model.similarity=false")
CONTRASTIVE = ("training.w_item=0.004", "training.w_user=0.004")
TARGET = ("model.side=item", "model.history_knowledge=false")
# name -> (settings, smallest rate per second at batch 1024, at batch 4096); 0: not bound
ARMS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "none": (("extraction.source=none",), 60_000, 60_000),
    "item side, target only": (TARGET, 35_000, 0),
    "item side, target only, contrastive": ((*TARGET, "training.w_item=0.004"), 28_000, 0),
    "item side, target and history": (("model.side=item",), 0, 0),
    "T: both sides, everywhere": ((), 0, 20_000),
    "T + contrastive": (CONTRASTIVE, 0, 20_000),
    "similarity": (("model.injection=none", "model.similarity=true"), 0, 0),
    "similarity + adapted + contrastive": (
        ("model.injection=none", "model.similarity=true", "model.adapted_similarity=true", "training.w_item=0.004"),
        0,
        0,
    ),
    "DeepFM, none": (("model.backbone=deepfm", "extraction.source=none"), 90_000, 90_000),
    "DeepFM, item side, target and history": (("model.backbone=deepfm", "model.side=item"), 0, 0),
    "DeepFM, T: both sides, everywhere": (("model.backbone=deepfm",), 0, 0),
    "DeepFM, T + contrastive": (("model.backbone=deepfm", *CONTRASTIVE), 0, 0),
    "DeepFM, similarity": (("model.backbone=deepfm", "model.injection=none", "model.similarity=true"), 0, 0),
}
EVALUATION = 120_000


def tables() -> Tables:
    """Skewed popularity and activity like MovieLens-1M's; labels and vectors are noise, for only speed is measured."""
    rng = np.random.default_rng(0)
    activity = rng.lognormal(4.5, 1.0, USERS)
    counts = np.maximum(20, (activity / activity.sum() * EVENTS).astype(np.int64))
    user = np.repeat(np.arange(1, USERS + 1), counts)
    popularity = 1 / np.arange(1, ITEMS + 1) ** 0.6
    item = rng.choice(ITEMS, size=len(user), p=popularity / popularity.sum()) + 1
    rating = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], p=[0.06, 0.11, 0.26, 0.35, 0.22], size=len(user))
    profile = [[("gender", [f"{u % 2}"]), ("age", [f"{u % 7}"]), ("occupation", [f"{u % 21}"])] for u in range(USERS)]
    genres = [[("genres", [f"{i % 18}", f"{i % 17}"]), ("year", [f"{i % 80}"])] for i in range(ITEMS)]
    knowledge: dict[uses.Side, Knowledge] = {}
    for side, count in (("user", USERS), ("item", ITEMS)):
        matrix = rng.normal(size=(count + 1, WIDTH)).astype(np.float16)
        knowledge[side] = Knowledge(matrix=matrix, text=np.arange(count + 1) > 0)  # type: ignore[index]
    return Tables(
        user_fields=pa.chunked_array([pa.array(profile, FIELDS)]),
        item_fields=pa.chunked_array([pa.array(genres, FIELDS)]),
        log_user=user,
        log_item=item,
        log_rating=rating.astype(np.float32),
        log_label=rating > 3,
        train=np.arange(USERS + 1) % 10 > 1,
        cutoff=np.minimum((np.concatenate([[0], counts]) + 1) // 2, 30),
        knowledge=knowledge,
    )


def prepare(whole: Tables, cfg: Config) -> tuple[Training, Material]:
    kept = kept_rows(whole)
    lexicon = learn(whole, kept, cfg)
    behaviour = Behaviour(whole, kept, lexicon, cfg)
    first = np.searchsorted(whole.log_user, np.arange(USERS + 2))
    position = np.arange(len(whole.log_user)) - first[whole.log_user]
    later = position >= whole.cutoff[whole.log_user]
    rows = behaviour.rows(whole.log_user[later], position[later], whole.log_item[later], whole.log_label[later])
    train = whole.train[rows.user]
    rng, partners = np.random.default_rng(1), {}
    for side, count in (("user", USERS), ("item", ITEMS)):
        if uses.weight(cfg, side) > 0:  # type: ignore[arg-type]
            anchors = np.arange(1, count + 1)
            columns = (anchors, np.zeros(count, dtype=np.int64), rng.permutation(count) + 1)
            partners[side] = Partners(columns, count, 1, np.arange(count + 1) > 0)
    material = Material(
        world=build_world(whole, lexicon),
        behaviour=behaviour,
        train=rows.take(train),
        valid=rows.take(~train),
        partners=partners,  # type: ignore[arg-type]
    )
    return Training(new_model(lexicon.sizes(), cfg), material, cfg), material


def rate(training: Training, material: Material, size: int, seconds: float) -> float:
    """The best of three measurements."""
    batches = epoch_batches(len(material.train), size, 0, 0)
    training.model.train()
    for _ in range(3):
        training._step(*next(batches))
    best = 0.0
    for _ in range(3):
        started, samples = time.process_time(), 0
        while time.process_time() - started < seconds:
            step, picks = next(batches, (0, None))
            if picks is None:
                batches = epoch_batches(len(material.train), size, 0, 1)
                step, picks = next(batches)
            training._step(step, picks)
            samples += len(picks)
        best = max(best, samples / (time.process_time() - started))
    return best


def evaluation_rate(training: Training, material: Material) -> float:
    started = time.process_time()
    score(training.model, material.world, material.behaviour, material.valid)
    return len(material.valid) / (time.process_time() - started)


def gflops() -> float:
    """Matrix products of the size of the model's first layer."""
    x, layer = torch.randn(4096, 320), mlp(320, (200,), 0.0)[0]
    best = 0.0
    with torch.inference_mode():
        for _ in range(5):
            started = time.process_time()
            for _ in range(20):
                layer(x)
            best = max(best, 20 * 2 * 4096 * 320 * 200 / (time.process_time() - started))
    return best / 1e9


def run(batches: list[int], seconds: float, only: str = "") -> list[dict[str, Any]]:
    whole, out = tables(), []
    for name, (settings, *bounds) in ARMS.items():
        if not name.startswith(only):
            continue
        for size in batches:
            cfg = Config().override("extraction.source=raw", *REPLACE, *settings, f"training.batch_size={size}")
            training, material = prepare(whole, cfg)
            bound = dict(zip((1024, 4096), bounds, strict=True)).get(size, 0)
            found = rate(training, material, size, seconds)
            out.append({"arm": name, "batch": size, "samples_per_second": round(found), "bound": bound})
            print(f"{name:38} batch {size:5}  {found:9,.0f}/s  {_verdict(found, bound)}", flush=True)
        found = evaluation_rate(training, material)
        bound = EVALUATION if name.endswith("none") else 0
        out.append({"arm": name, "evaluation": True, "samples_per_second": round(found), "bound": bound})
        print(f"{name:38} evaluation   {found:9,.0f}/s  {_verdict(found, bound)}", flush=True)
    return out


def _verdict(found: float, bound: int) -> str:
    return "" if not bound else f"{'meets' if found >= bound else 'MISSES'} {bound:,}/s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1024,4096")
    parser.add_argument("--arms", default="", help="only arms whose name begins with this")
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU seconds of each measurement")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--strict", action="store_true", help="exit 1 when a bound is missed")
    args = parser.parse_args()
    settle(1)
    machine = {"gflops": round(gflops(), 1), "load": os.getloadavg()[0], "cores": os.cpu_count()}
    print(
        f"matrix product {machine['gflops']} GFLOP/s, load {machine['load']:.1f} on {machine['cores']} cores",
        flush=True,
    )
    rates = run([int(b) for b in args.batches.split(",")], args.seconds, args.arms)
    if args.out:
        args.out.write_text(json.dumps({"machine": machine, "rates": rates}, indent=1), encoding="utf-8")
    return int(args.strict and any(r["samples_per_second"] < r["bound"] for r in rates))


if __name__ == "__main__":
    sys.exit(main())
