"""Which parts of the model a recipe switches on. Light: read by stages before torch is loaded.

`extraction.source = none` means no knowledge at all: no adapter, no injection, no similarity, no contrastive loss.
"""

from typing import Literal

from trawl.config import Config

Side = Literal["item", "user"]
SIDES: tuple[Side, Side] = ("user", "item")


def knowledge(cfg: Config) -> bool:
    """There are texts to read vectors of."""
    return cfg.extraction.source != "none"


def injects(cfg: Config, side: Side) -> bool:
    """The adapted vector enters the representation of this side's entities."""
    return knowledge(cfg) and cfg.model.injection != "none" and cfg.model.side in (side, "both")


def similarity(cfg: Config) -> bool:
    """Parameter-free similarity features of the frozen item vectors."""
    return knowledge(cfg) and cfg.model.similarity


def adapted_similarity(cfg: Config) -> bool:
    """Similarity features of the item adapter's outputs."""
    return knowledge(cfg) and cfg.model.adapted_similarity


def adapts(cfg: Config, side: Side) -> bool:
    """This side has an adapter."""
    return injects(cfg, side) or (side == "item" and adapted_similarity(cfg))


def vectors(cfg: Config, side: Side) -> bool:
    """The model reads this side's vectors."""
    return adapts(cfg, side) or (side == "item" and similarity(cfg))


def seen(cfg: Config) -> bool:
    """The model reads the liked and disliked items before the cut-off."""
    return similarity(cfg) or adapted_similarity(cfg)


def weight(cfg: Config, side: Side) -> float:
    """Weight of this side's contrastive loss; 0 where there is no adapter that it could train."""
    if not adapts(cfg, side) or cfg.model.adapter == "raw":
        return 0.0
    return cfg.training.w_user if side == "user" else cfg.training.w_item
