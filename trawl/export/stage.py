"""Room 8: adapted vectors of a trained model and the nearest items among them (R 4.5: detached from the adapter)."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from trawl import uses
from trawl.config import Config
from trawl.inputs import Inputs
from trawl.stage import Stage, Task, Worker, always, per_part

if TYPE_CHECKING:
    from trawl.model.bundle import Bundle
    from trawl.model.lexicon import Knowledge


def wanted(cfg: Config) -> list[str]:
    """What a recipe makes of its trained model: vectors of the sides that have an adapter, neighbours of items."""
    if not cfg.export.vectors:
        return []
    out = [f"{side}_vectors" for side in uses.SIDES if uses.adapts(cfg, side)]
    return [*out, "item_neighbours"] if cfg.export.neighbours and "item_vectors" in out else out


def trained(inputs: Inputs) -> "Bundle":
    """The model among the inputs. Raises ArtifactError."""
    from trawl.model.bundle import parse

    parts = {part.path: part for part in inputs.parts("model")}
    where = inputs.store.path("model", inputs.fingerprints["model"])
    return parse(lambda name: inputs.part_bytes("model", parts[name]), where)


class Adapt:
    """Adapts the frozen vectors of the entities of a part."""

    def __init__(self, inputs: Inputs, cfg: Config, side: uses.Side) -> None:
        import torch

        from trawl.export.vectors import Detached

        torch.set_num_threads(cfg.resources.threads)
        self.inputs, self.side, self.detached = inputs, side, Detached(trained(inputs), side)
        self.count = inputs.count(f"{side}s")
        self.whole = {m: self._matrix(uses.MATRICES[m]) for m in uses.sources(cfg, side)}

    def _matrix(self, name: str) -> "Knowledge":
        from trawl.model.lexicon import Knowledge

        text = np.zeros(self.count + 1, dtype=bool)
        text[self.inputs.array(name, "entity")] = self.inputs.array(name, "has_text")
        return Knowledge(matrix=self.inputs.vectors(name, self.count), text=text)

    def __call__(self, task: Task) -> pa.Table:
        entity = self.inputs.part(f"{self.side}s", task.number, [self.side])[self.side]
        rows = entity.to_numpy()
        return self.detached.table(
            entity, {m: replace(k, matrix=k.matrix[rows], text=k.text[rows]) for m, k in self.whole.items()}
        )


def item_vectors(inputs: Inputs, cfg: Config) -> Worker:
    """The worker of `item_vectors`."""
    return Adapt(inputs, cfg, "item")


def user_vectors(inputs: Inputs, cfg: Config) -> Worker:
    """The worker of `user_vectors`."""
    return Adapt(inputs, cfg, "user")


class Nearest:
    """Neighbours of the items of a part among all items; the vectors are memory-mapped once per node."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.top = inputs, cfg.export.neighbours
        count = inputs.count("item_vectors")
        self.matrix = inputs.vectors("item_vectors", count, np.float32)
        self.text = np.zeros(count + 1, dtype=bool)
        self.text[inputs.array("item_vectors", "entity")] = inputs.array("item_vectors", "has_text")

    def __call__(self, task: Task) -> pa.Table:
        from trawl.export.neighbours import nearest

        items = self.inputs.part("item_vectors", task.number, ["entity"])["entity"].to_numpy()
        return nearest(items[self.text[items]], self.matrix, self.text, self.top)


def item_neighbours(inputs: Inputs, cfg: Config) -> Worker:
    """The worker of `item_neighbours`."""
    return Nearest(inputs, cfg)


def _item_sources(cfg: Config) -> tuple[str, ...]:
    return ("model", "items", *(uses.MATRICES[m] for m in uses.sources(cfg, "item")))


def _user_sources(cfg: Config) -> tuple[str, ...]:
    return ("model", "users", *(uses.MATRICES[m] for m in uses.sources(cfg, "user")))


def _vectors(side: uses.Side) -> Stage:
    return Stage(
        artifact=f"{side}_vectors",
        version=2,
        plan=per_part(f"{side}s"),
        reads=_item_sources if side == "item" else _user_sources,
        worker=item_vectors if side == "item" else user_vectors,
        covers=f"{side}s",
    )


ITEM_VECTORS, USER_VECTORS = _vectors("item"), _vectors("user")
ITEM_NEIGHBOURS = Stage(
    artifact="item_neighbours",
    version=1,
    plan=per_part("item_vectors"),
    reads=always("item_vectors"),
    keys=lambda cfg: ("export.neighbours",),
    worker=item_neighbours,
)
STAGES = (ITEM_VECTORS, USER_VECTORS, ITEM_NEIGHBOURS)
