"""Each backbone's training speed beside FuxiCTR's model of the same name and sizes, in one process and thread.

    python tests/bench/backbones.py [--fuxictr PATH] [--batches 256,1024] [--only dien] [--out result.json]

PATH is a checkout of github.com/reczoo/FuxiCTR (its package and its model_zoo; the wheel on PyPI lacks most models);
without it, or where one of its imports is missing, our rates stand alone and the reason is printed. MovieLens-1M-shaped
data: user with profile, rate of liking, item with fields, and the last 10 items with fields and rating; embedding 32,
MLP 200-80. Two comparisons, by default both. `--fields one`: one field of users and one of items, which makes all
widths the same (DIEN: 64 units each). `--fields all`: gender, age, occupation; genres (theirs reads the first), year.
Theirs sets fields side by side, ours adds them up, so theirs is wider (DIEN: 96 units beside our 64).

Rates are samples per second of CPU time: of forward + backward on ready batches, and of a whole step, with each
library's own making of the batch. The two take turns, and each one's best round counts, as other processes slow both.
Wanted ratios of a step at batch 1024, at equal widths: see WANTED; --strict exits 1 below them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import torch
from training import ITEMS, USERS, gflops, prepare, tables

from trawl.config import Config
from trawl.model.world import Batch, World
from trawl.schemas import FIELDS
from trawl.sections_model import BACKBONES
from trawl.training.batches import epoch_batches
from trawl.training.corpus import Tables
from trawl.training.loop import Material, Training
from trawl.training.losses import JointLoss
from trawl.training.machine import settle

PROFILES, SHELVES, RATES, LEVELS = 21, 80, 14, 5
WANTED = {"din": 2.0, "deepfm": 2.0, "dien": 2.5}
DEEP = {"dnn_hidden_units": [200, 80]}
# ours -> the module of FuxiCTR's model below model_zoo, and its settings
THEIRS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "din": ("DIN.src.DIN", "DIN", {**DEEP, "attention_hidden_units": [32], "attention_hidden_activations": "ReLU"}),
    "dien": ("DIEN.src.DIEN", "DIEN", {**DEEP, "dien_neg_seq_field": []}),
    "deepfm": ("DeepFM.DeepFM_torch.src.DeepFM", "DeepFM", {"hidden_units": [200, 80]}),
    "dcn": ("DCN.DCN_torch.src.DCN", "DCN", {**DEEP, "num_cross_layers": 3}),
    "dcnv2": ("DCNv2.src.DCNv2", "DCNv2", {"parallel_dnn_hidden_units": [200, 80], "num_cross_layers": 3}),
    "xdeepfm": ("xDeepFM.src.xDeepFM", "xDeepFM", {**DEEP, "cin_hidden_units": [50, 50]}),
    "fibinet": ("FiBiNET.src.FiBiNET", "FiBiNET", {"hidden_units": [200, 80]}),
    "fignn": ("FiGNN.src.FiGNN", "FiGNN", {"gnn_layers": 3, "reuse_graph_layer": True}),
    "autoint": (
        "AutoInt.src.AutoInt",
        "AutoInt",
        {**DEEP, "attention_layers": 3, "num_heads": 2, "attention_dim": 64},
    ),
}
SEQUENTIAL = ("din", "dien")


def one_field_each() -> Tables:
    """The tables of the other benchmark with one field of users and one of items."""
    profile = [[("occupation", [f"{u % PROFILES}"])] for u in range(USERS)]
    shelves = [[("year", [f"{i % SHELVES}"])] for i in range(ITEMS)]
    return replace(
        tables(),
        user_fields=pa.chunked_array([pa.array(profile, FIELDS)]),
        item_fields=pa.chunked_array([pa.array(shelves, FIELDS)]),
    )


class Ours:
    def __init__(self, whole: Tables, name: str, size: int) -> None:
        cfg = Config().override("extraction.source=none", f"model.backbone={name}", f"training.batch_size={size}")
        found: tuple[Training, Material] = prepare(whole, cfg)
        self.training, self.material = found
        self.loss, self.model = JointLoss(cfg), self.training.model.train()
        self.picks = [p for _, p in epoch_batches(len(self.material.train), size, 0, 0)][:50]
        self.ready = [self._batch(p) for p in self.picks]

    def _batch(self, picks: Any) -> Batch:
        return self.material.behaviour.batch(self.material.train.take(picks))

    def both(self, number: int) -> None:
        """Forward and backward."""
        self.model.zero_grad(set_to_none=True)
        batch = self.ready[number]
        output = self.model(batch, self.material.world)
        self.loss(output, batch, len(batch.label)).total.backward()  # type: ignore[no-untyped-call]

    def step(self, number: int) -> None:
        self.training._step(number, self.picks[number])


class Theirs:
    def __init__(self, ours: Ours, name: str, root: str) -> None:
        """Raises ImportError where their code, or something that it imports, is missing."""
        sys.path.insert(0, root)
        import_module("fuxictr.pytorch.models")
        features = import_module("fuxictr.features").FeatureMap("bench", root)
        sizes = ours.model.sizes
        features.features = _features(name, sizes.user_fields, sizes.item_fields)
        features.labels, features.num_fields, features.default_emb_dim = ["label"], len(features.features), 32
        path, title, settings = THEIRS[name]
        made = getattr(import_module(f"model_zoo.{path}"), title)
        common = {"embedding_dim": 32, "optimizer": "adam", "loss": "binary_crossentropy", "learning_rate": 1e-3}
        common |= {"verbose": 0, "model_root": root, "metrics": ["AUC"], "gpu": -1}
        if name != "fignn":
            common |= {"batch_norm": False}
        if name in SEQUENTIAL:
            target = ("item", *sizes.item_fields)
            common |= {f"{name}_target_field": [target], f"{name}_sequence_field": [tuple(f"past_{t}" for t in target)]}
        self.model = made(features, **common, **settings).train()
        self.model._max_gradient_norm = 10.0
        self.ready = [_inputs(batch, ours.material.world, last=name == "dien") for batch in ours.ready]
        self.loader = _loader(features, self.ready)
        self.stream = iter(self.loader)

    def both(self, number: int) -> None:
        """Forward and backward."""
        self.model.optimizer.zero_grad()
        batch = dict(self.ready[number])
        self.model.compute_loss(self.model.forward(batch), self.model.get_labels(batch)).backward()

    def step(self, number: int) -> None:
        """With the batch from their own loader, in this process."""
        batch = next(self.stream, None)
        if batch is None:
            self.stream = iter(self.loader)
            batch = next(self.stream)
        self.model.train_step(batch)


def _loader(features: Any, ready: list[dict[str, torch.Tensor]]) -> Any:
    """Their loader over the rows of all full batches."""
    features.set_column_index()
    rows = {name: torch.cat([batch[name] for batch in ready[:-1]]).numpy() for name in ready[0]}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "rows.npz", **rows)
        loaders = import_module("fuxictr.pytorch.dataloaders.npz_dataloader")
        size = len(ready[0]["label"])
        return loaders.NpzDataLoader(features, str(Path(folder) / "rows.npz"), size, shuffle=True, num_workers=0)


def _features(name: str, users: Mapping[str, int], items: Mapping[str, int]) -> "OrderedDict[str, Any]":
    """`users`, `items`: fields with their numbers of codes."""
    pooled = {"feature_encoder": "layers.MaskedAveragePooling()"}
    past = {} if name in SEQUENTIAL else pooled

    def one(size: int) -> dict[str, Any]:
        return {"type": "categorical", "vocab_size": size, "source": ""}

    def many(size: int, more: dict[str, Any], share: str = "") -> dict[str, Any]:
        shared = {"share_embedding": share} if share else {}
        return {"type": "sequence", "vocab_size": size, "padding_idx": 0, "source": "", "max_len": 10, **shared, **more}

    out: OrderedDict[str, Any] = OrderedDict(user=one(USERS + 1), rate=one(RATES))
    out.update({field: one(size) for field, size in users.items()})
    known = {"item": ITEMS + 1} | dict(items)
    out.update({field: one(size) | {"padding_idx": 0} for field, size in known.items()})
    out.update({f"past_{field}": many(size, past, field) for field, size in known.items()})
    out["past_rating"] = many(LEVELS + 1, pooled)
    return out


def _inputs(batch: Batch, world: World, last: bool) -> dict[str, torch.Tensor]:
    """`last`: padding behind instead of in front, as packed sequences want it."""
    history, levels = batch.history, batch.levels
    if last:
        order = torch.argsort((levels == 0).int(), dim=1, stable=True)
        history, levels = history.gather(1, order), levels.gather(1, order)
    out = {"user": batch.user, "rate": batch.rate, "item": batch.item, "past_item": history, "past_rating": levels}
    out |= {field: codes[batch.user, 0] for field, codes in world.users.fields.items()}
    for field, codes in world.items.fields.items():
        out |= {field: codes[batch.item, 0], f"past_{field}": codes[history, 0] * (levels > 0)}
    return out | {"label": batch.label}


def rates(sides: list[Any], what: str, size: int, seconds: float, rounds: int = 6) -> list[float]:
    """Samples per CPU second of each side's best round; the sides take turns."""
    best = [0.0] * len(sides)
    for number in range(3):
        for side in sides:
            getattr(side, what)(number)
    for _ in range(rounds):
        for place, side in enumerate(sides):
            best[place] = max(best[place], _rate(getattr(side, what), len(side.ready), size, seconds / rounds))
    return best


def _rate(call: Callable[[int], None], count: int, size: int, seconds: float) -> float:
    started, done = time.process_time(), 0
    while time.process_time() - started < seconds:
        call(done % (count - 1))  # the last one may be short
        done += 1
    return done * size / (time.process_time() - started)


def measure(whole: Tables, name: str, size: int, root: str, seconds: float) -> dict[str, Any]:
    ours = Ours(whole, name, size)
    sides: list[Any] = [ours]
    try:
        if root:
            sides.append(Theirs(ours, name, root))
        reason = "" if root else "no --fuxictr PATH"
    except ImportError as error:
        reason = f"FuxiCTR: {error}"
    out: dict[str, Any] = {"backbone": name, "batch": size, "skipped": reason}
    for what in ("both", "step"):
        found = rates(sides, what, size, seconds)
        title = {"both": "forward_backward", "step": "step"}[what]
        out[title] = {"ours": round(found[0])}
        if len(found) > 1:
            out[title] |= {"theirs": round(found[1]), "ratio": round(found[0] / found[1], 2)}
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuxictr", default="", help="a checkout of FuxiCTR")
    parser.add_argument("--batches", default="256,1024")
    parser.add_argument("--only", default=",".join(BACKBONES), help="names, with commas")
    parser.add_argument("--fields", choices=("all", "one", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU seconds of each measurement")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--strict", action="store_true", help="exit 1 when a wanted ratio is missed")
    args = parser.parse_args()
    settle(1)
    torch.manual_seed(0)
    machine = {"gflops": round(gflops(), 1), "load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    print(f"matrix product {machine['gflops']} GFLOP/s, load {machine['load']} on {machine['cores']} cores", flush=True)
    found = []
    for fields in ("one", "all") if args.fields == "both" else (args.fields,):
        whole = one_field_each() if fields == "one" else tables()
        print("equal widths" if fields == "one" else "several fields, theirs wider", flush=True)
        for name in args.only.split(","):
            for size in (int(b) for b in args.batches.split(",")):
                row = measure(whole, name, size, args.fuxictr, args.seconds) | {"fields": fields}
                found.append(row)
                both, step = row["forward_backward"], row["step"]
                print(
                    f"{name:8} batch {size:5}  forward + backward {both['ours']:8,}/s, {both.get('ratio', '-')} x "
                    f"FuxiCTR; step {step['ours']:8,}/s, {step.get('ratio', '-')} x  {row['skipped']}",
                    flush=True,
                )
    if args.out:
        args.out.write_text(json.dumps({"machine": machine, "rates": found}, indent=1), encoding="utf-8")
    compared = [r for r in found if r["batch"] == 1024 and (r["fields"] == "one" or args.fields == "all")]
    ratios = {r["backbone"]: r["step"].get("ratio") for r in compared}
    missed = [n for n, least in WANTED.items() if ratios.get(n) is not None and ratios[n] < least]
    if missed:
        print(f"below the wanted ratio: {', '.join(missed)}")
    return int(args.strict and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
