"""The whole training loop, data loading included, beside public implementations: ratios of one run, one thread.

    python tests/bench/training_peers.py [--batches 256,1024] [--only din] [--kar PATH] [--peers FOLDER] [--out F.json]

MovieLens-1M-shaped data: user, a profile field, rate of liking, item, an item field, the last 10 items with field and
rating; embedding 32, MLP 200-80, attention 32. Peers, each by its own data loader, model layers and optimiser step:
FuxiCTR 2.3.10 and RecBole by pip (its DeepFM, which reads no history, so less work per sample), from this environment
or from a folder filled by `pip install --target FOLDER`; KAR's code, a checkout of
github.com/YunjiaXi/Open-World-Knowledge-Augmented-Recommendation, without and with its 768-d hybrid experts, beside
ours without knowledge and with a mixture of experts for user and target, as there. One that is not there is left out
and the reason printed. All take turns and the best round of each counts, per second of CPU time: other processes slow
all alike.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import peers
import pyarrow as pa
import torch
from training import ITEMS, REPLACE, USERS, gflops, prepare, tables

from trawl.config import Config
from trawl.schemas import FIELDS
from trawl.training.corpus import Knowledge, Tables
from trawl.training.loop import Material, Training, score
from trawl.training.machine import settle

WIDTH = 768
# (peer, knowledge) -> the ratio wanted at batch 1024, by backbone
WANTED = {
    ("FuxiCTR", False): {"din": 2.0, "deepfm": 2.0},
    ("KAR", False): {"din": 4.0, "deepfm": 4.0},
    ("KAR", True): {"din": 10.0, "deepfm": 10.0},
}
Steps = Iterator[int]  # each step's samples


def one_field_each(knowledge: bool) -> Tables:
    """The other benchmark's tables with one field of users and of items, and 768-d vectors."""
    whole = tables()
    profile = [[("occupation", [f"{u % peers.PROFILES}"])] for u in range(USERS)]
    shelves = [[("year", [f"{i % peers.SHELVES}"])] for i in range(ITEMS)]
    rng, known = np.random.default_rng(0), {}
    for side, count in (("user", USERS), ("item", ITEMS)) if knowledge else ():
        matrix = rng.normal(size=(count + 1, WIDTH)).astype(np.float16)
        known[side] = Knowledge(matrix=matrix, text=np.arange(count + 1) > 0)
    changed = {
        "user_fields": pa.chunked_array([pa.array(profile, FIELDS)]),
        "item_fields": pa.chunked_array([pa.array(shelves, FIELDS)]),
        "knowledge": known,
    }
    return Tables(**(vars(whole) | changed))


def ours(backbone: str, size: int, knowledge: bool) -> tuple[Training, Material]:
    source = "raw" if knowledge else "none"
    settings = [f"extraction.source={source}", f"model.backbone={backbone}", f"training.batch_size={size}"]
    settings += [*REPLACE, "model.history_knowledge=false"] if knowledge else []  # as KAR: of the user and the target
    return prepare(one_field_each(knowledge), Config().override(*settings))


def our_steps(training: Training, size: int) -> Steps:
    training.model.train()
    epoch = 0
    while True:
        for step, picks in training.material.train.batches(size, 0, epoch):
            training.place.begin(epoch, step, 0)
            training._step(step, picks)
            yield len(picks)
        epoch += 1


def our_scores(training: Training) -> Steps:
    rows = training.material.valid
    while True:
        for start in range(0, len(rows), 8192):
            stop = min(len(rows), start + 8192)
            score(training.model, training.material.world, training.material.behaviour, rows, slice(start, stop))
            yield stop - start


def race(runners: dict[str, Steps], rounds: int, seconds: float) -> dict[str, float]:
    """Samples per CPU second of each, the best of its rounds; a round has at least two steps."""
    best = dict.fromkeys(runners, 0.0)
    for steps in runners.values():
        next(steps)
    for _ in range(rounds):
        for name, steps in runners.items():
            started, samples, count = time.process_time(), 0, 0
            while time.process_time() - started < seconds or count < 2:
                samples += next(steps)
                count += 1
            best[name] = max(best[name], samples / (time.process_time() - started))
    return best


def gathered(make: dict[str, Callable[[], Steps]]) -> dict[str, Steps]:
    """The runners that can be made here; of the others the reason is printed."""
    found = {}
    for name, maker in make.items():
        try:
            found[name] = maker()
        except (ImportError, FileNotFoundError) as error:
            print(f"{name}: left out, {type(error).__name__}: {error}", flush=True)
    return found


def compared(backbone: str, size: int, knowledge: bool, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    training, material = ours(backbone, size, knowledge)
    data = peers.Data(material, folder)
    make: dict[str, Callable[[], Steps]] = {"trawl": lambda: our_steps(training, size)}
    if not knowledge:
        make["FuxiCTR"] = lambda: peers.fuxictr(data, backbone, size)
        if backbone == "deepfm":
            make["RecBole"] = lambda: peers.recbole(data, size)
    make["KAR"] = lambda: peers.kar(data, backbone, size, args.kar, WIDTH if knowledge else 0)
    rates = race(gathered(make), args.rounds, args.seconds)
    entry: dict[str, Any] = {"backbone": backbone, "batch": size, "knowledge": knowledge, "ratios": {}}
    entry["samples_per_second"] = {name: round(rate) for name, rate in rates.items()}
    for name, rate in rates.items():
        wanted = WANTED.get((name, knowledge), {}).get(backbone, 0.0) if size == 1024 else 0.0
        ratio = rates["trawl"] / rate
        if name != "trawl":
            entry["ratios"][name] = {"ratio": round(ratio, 2), "wanted": wanted}
        verdict = "" if not wanted else "meets" if ratio >= wanted else "MISSES"
        beside = "" if name == "trawl" else f"  trawl / it {ratio:5.2f} {verdict} {wanted or ''}"
        kind = "with knowledge" if knowledge else "no knowledge"
        print(f"{backbone:7} {kind:14} batch {size:5}  {name:8} {rate:9,.0f}/s{beside}", flush=True)
    return entry


def scoring(backbone: str, data_folder: Path) -> dict[str, Any]:
    """Scoring of the validation rows, each side by its own loader at its own batch of 8192."""
    training, material = ours(backbone, 1024, False)
    data = peers.Data(material, data_folder)
    make = {
        "trawl": lambda: our_scores(training),
        "FuxiCTR": lambda: peers.fuxictr(data, backbone, 8192, training=False),
    }
    rates = race(gathered(make), 2, 0.5)
    print(f"{backbone:7} scoring " + "  ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items()), flush=True)
    return {"backbone": backbone, "scoring": {name: round(rate) for name, rate in rates.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="256,1024")
    parser.add_argument("--only", default="", help="din or deepfm")
    parser.add_argument("--kar", default="", help="a checkout of KAR's code")
    parser.add_argument("--peers", default="", help="a folder with FuxiCTR and RecBole, after this environment's own")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.7, help="CPU seconds of a round")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--strict", action="store_true", help="exit 1 when a wanted ratio is missed")
    args = parser.parse_args()
    if args.peers:
        sys.path.append(args.peers)
    settle(1)
    machine = {"gflops": round(gflops(), 1), "load": os.getloadavg()[0], "torch": torch.__version__}
    print(f"matrix product {machine['gflops']} GFLOP/s, load {machine['load']:.1f}", flush=True)
    found = []
    with TemporaryDirectory(prefix="trawl-") as folder:
        for backbone in (b for b in ("din", "deepfm") if b.startswith(args.only)):
            for size in map(int, args.batches.split(",")):
                found += [compared(backbone, size, k, args, Path(folder)) for k in (False, True)]
            found.append(scoring(backbone, Path(folder)))
    if args.out:
        args.out.write_text(json.dumps({"machine": machine, "found": found}, indent=1), encoding="utf-8")
    ratios = [r for entry in found for r in entry.get("ratios", {}).values()]
    return int(args.strict and any(r["ratio"] < r["wanted"] for r in ratios))


if __name__ == "__main__":
    sys.exit(main())
