"""The training loop: epochs, validation, early stop, checkpoints. Knows nothing of Ray, files or tables.

Each step has one global batch that seed, epoch and step decide. A worker takes its slice of it for L_rec, while the
anchors of the contrastive losses are drawn from the global batch; each worker adapts its share of them and all exchange
the vectors, so that 1 and 2 workers minimise the same function. The test split is never read here.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trawl import uses
from trawl.config import Config
from trawl.model.backbones.own import is_own, kept
from trawl.model.bundle import precision
from trawl.model.lexicon import Array, Ints
from trawl.model.recommender import Recommender
from trawl.model.world import World
from trawl.training import metrics
from trawl.training.batches import Behaviour, Rows
from trawl.training.diverging import check_losses, check_scores
from trawl.training.gates import Loads
from trawl.training.gather import Gather
from trawl.training.group import Alone, Group
from trawl.training.losses import PARTS, JointLoss
from trawl.training.norms import Norms, Sums, means
from trawl.training.optimizers import Optimizers
from trawl.training.pairing import Pairing
from trawl.training.partners import Partners
from trawl.training.placing import Place, moved, plainly
from trawl.training.streaming import Streamed

_SCORE_ROWS = 8192  # rows scored at a time


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a training reads."""

    world: World
    behaviour: Behaviour
    train: Rows | Streamed
    valid: Rows | Streamed
    partners: dict[uses.Side, Partners] = field(default_factory=dict)
    start: Tensor | None = None  # (item rows, embedding) what item ID embeddings start from; nan: at random


@dataclass
class Progress:
    """Where a training stands; with the model's and optimisers' state it is a checkpoint."""

    epoch: int = 0
    step: int = 0  # of the epoch
    epochs: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best epoch
    best_epoch: int = -1
    sums: list[float] = field(default_factory=lambda: [0.0] * (1 + len(PARTS)))  # of this epoch: loss, then PARTS
    norms: Sums = field(default_factory=dict)  # of this epoch
    seconds: float = 0.0  # of this epoch's steps

    @property
    def best_auc(self) -> float:
        return float(self.epochs[self.best_epoch]["validation"]["auc"]) if self.best_epoch >= 0 else float("-inf")


Report = Callable[[dict[str, Any] | None, Callable[[], dict[str, Any]]], None]


def silent(record: dict[str, Any] | None, state: Callable[[], dict[str, Any]]) -> None:
    """A reporter for those who want none."""


class Training:
    """One training. `run` goes on where the state given to `restore` stood."""

    def __init__(
        self,
        model: Recommender,
        material: Material,
        cfg: Config,
        group: Group | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.place = Place(model, material.world, cfg, device or torch.device("cpu"))
        self.model, self.material, self.cfg = model, replace(material, world=self.place.world), cfg
        self.group: Group = group or Alone()
        self.steps = -(-len(material.train) // cfg.training.batch_size)
        self.optimizers = Optimizers(model, cfg.training, self.steps)
        gather = Gather(self.group)
        self.loss = JointLoss(cfg, model.scales, gather)
        others = cfg.model.history if model.wants_others else 0
        self.pairs = Pairing(material.partners, cfg.training, gather, others)
        self.norms = Norms(model, self.group, cfg.resources.gradient_norms)
        self.gates = Loads(model, self.material.world, {"user": material.train.user, "item": material.train.item})
        self.progress = Progress()
        self.dtype = precision(cfg)
        self._share()

    def run(self, report: Report = silent) -> Progress:
        """Train to the end or the early stop. `report` gets each epoch's record (None between them) and the state."""
        now, training = self.progress, self.cfg.training
        while now.epoch < training.epochs and not self._patience_spent():
            self._epoch(report)
            validation = metrics.measure(
                self.material.valid.user, self.material.valid.label, self.scores(self.material.valid)
            )
            self._close_epoch(validation)
            report(now.epochs[-1], self.state)
        self.material.train.close()
        return now

    def state(self) -> dict[str, Any]:
        """Tensors and plain data: what `restore` takes. The same in every worker after `_share`."""
        return {
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state(),
            "progress": dict(vars(self.progress)),
            "sums": self._sums,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, by this number of workers or another."""
        self.model.load_state_dict(state["model"])
        self.optimizers.restore(state["optimizers"])
        self.progress = Progress(**state["progress"])
        sums = state["sums"]
        if len(sums) == self.group.size:
            self.progress.sums = list(sums[self.group.rank])
        else:  # what is reported is the workers' mean
            self.progress.sums = np.mean(sums, axis=0).tolist()

    def scores(self, rows: Rows | Streamed) -> Array:
        """(rows,) float64 probabilities of all workers' rows, each worker scoring its share."""
        own = np.array_split(np.arange(len(rows)), self.group.size)[self.group.rank]
        part = slice(int(own[0]), int(own[-1]) + 1) if len(own) else slice(0, 0)
        with plainly(self.cfg.training.compile):
            return self.group.gather(score(self.model, self.material.world, self.material.behaviour, rows, part))

    def _patience_spent(self) -> bool:
        now = self.progress
        return len(now.epochs) - 1 - now.best_epoch >= self.cfg.training.patience and now.best_epoch >= 0

    def _epoch(self, report: Report) -> None:
        now, training = self.progress, self.cfg.training
        every = self.cfg.resources.checkpoint_steps
        self.model.train()
        started = time.perf_counter()
        for step, picks in self.material.train.batches(training.batch_size, training.seed, now.epoch, now.step):
            self.place.begin(now.epoch, step, self.group.rank)
            self._step(step, picks)
            now.step = step + 1
            if every and now.step % every == 0 and now.step < self.steps:
                now.seconds += time.perf_counter() - started
                self._share()
                report(None, self.state)
                started = time.perf_counter()
        now.seconds += time.perf_counter() - started
        self._share()

    def _share(self) -> None:
        """What workers have of their own, for the state: one worker saves it and all go on from it. Every worker's sums
        of the epoch so far; and statistics that an own backbone takes of its batches, which validation reads too."""
        now = self.progress
        if is_own(self.model.name):
            self.group.agree(kept(self.model.backbone))
        self._sums = self.group.gather(np.asarray(now.sums)).reshape(self.group.size, -1).tolist()
        check_losses(self._sums, now.epoch, now.step, self.cfg.training)

    def _step(self, step: int, picks: Ints) -> None:
        own, weight = self._share_of(picks)
        rows, epoch = self.material.train, self.progress.epoch
        batch = self.material.behaviour.batch(rows.take(own), self.dtype)
        batch = self.place.take(self.pairs(batch, rows.user[picks], rows.item[picks], epoch, step))
        self.optimizers.begin(epoch * self.steps + step)
        parts = self.loss(self.place.forward(batch), batch, weight)
        self.norms.measure(step, parts.weighted, self.progress.norms)
        parts.total.backward()  # type: ignore[no-untyped-call]
        self.group.average(self.model.parameters())
        self.optimizers.step()
        for place, number in enumerate(parts.numbers()):
            self.progress.sums[place] += number * len(picks)

    def _share_of(self, picks: Ints) -> tuple[Ints, float]:
        """This worker's rows of a global batch, and what the sum of their losses is divided by.

        A batch may have fewer rows than there are workers. A worker without any computes the first one at no weight:
        layers need not take empty batches, and all workers average the same gradients.
        """
        own = np.array_split(picks, self.group.size)[self.group.rank]
        return (own, len(picks) / self.group.size) if len(own) else (picks[:1], math.inf)

    def _close_epoch(self, validation: dict[str, float]) -> None:
        now, count = self.progress, len(self.material.train)
        check_scores(validation, now.epoch, self.cfg.training)
        sums = np.asarray(self._sums).mean(axis=0)
        record: dict[str, Any] = {"epoch": now.epoch}
        record |= {name: float(s) / count for name, s in zip(("loss", *PARTS), sums, strict=True)}
        if not record["auxiliary"]:
            del record["auxiliary"]  # most backbones have none
            now.norms.pop("auxiliary", None)
        record |= self.model.scales.values() | ({"norms": means(now.norms)} if now.norms else {})
        if gates := self.gates():
            record["gates"] = gates
        seconds = round(now.seconds, 3)
        better = not validation["auc"] <= now.best_auc  # one that is not defined tells none apart: the last is kept
        now.epochs.append(record | {"validation": validation, "seconds": seconds})
        if better or now.best_epoch < 0:
            now.best_epoch = now.epoch
            now.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        now.epoch, now.step, now.sums, now.seconds = now.epoch + 1, 0, [0.0] * len(now.sums), 0.0
        now.norms = {}
        self._share()


def score(
    model: nn.Module, world: World, behaviour: Behaviour, rows: Rows | Streamed, part: slice | None = None
) -> Array:
    """(rows,) float64 probabilities of the rows, or of a part of them, in this process."""
    model.eval()
    weight = next(model.parameters())
    first, last = (0, len(rows)) if part is None else (part.start, part.stop)
    out = np.zeros(last - first)
    with torch.inference_mode():
        for start in range(first, last, _SCORE_ROWS):
            stop = min(last, start + _SCORE_ROWS)
            batch = moved(behaviour.batch(rows.take(slice(start, stop)), weight.dtype), weight.device)
            logit = model(batch, world).logit
            out[start - first : stop - first] = torch.sigmoid(logit.double()).cpu().numpy()
    return out


def new_model(sizes: Any, cfg: Config, start: Tensor | None = None) -> Recommender:
    """A model whose initial weights the seed decides, but for the item ID embeddings that `start` gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.training.seed)
        model = Recommender(sizes, cfg).to(precision(cfg))
    if start is not None:
        with torch.no_grad():
            own = model.item.ids.weight
            own.copy_(torch.where(start.isnan(), own, start.to(own.dtype)))
    return model
