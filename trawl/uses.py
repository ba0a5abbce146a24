"""Which parts of the model a recipe switches on. Light: read by stages before torch is loaded.

`extraction.source = none` means no texts. With `model.knowledge = ["text"]`, the default, that is no knowledge at all:
no adapter, no injection, no similarity of texts, no contrastive loss.

Frozen vectors come in matrices: of the users' texts, of the items' texts, of the items' facts (R 5.2.3: a knowledge
graph knows items alone).
"""

from typing import Literal

from trawl.sections_all import Sections
from trawl.sections_model import SimilaritySource

Side = Literal["item", "user"]
SIDES: tuple[Side, Side] = ("user", "item")
Matrix = Literal["user", "item", "facts"]
MATRICES: dict[Matrix, str] = {"user": "user_embeddings", "item": "item_embeddings", "facts": "fact_embeddings"}
OWNER: dict[Matrix, Side] = {"user": "user", "item": "item", "facts": "item"}
_ITEM: dict[str, Matrix] = {"text": "item", "kg": "facts"}


def texts(cfg: Sections) -> bool:
    """There are texts to read vectors of."""
    return cfg.extraction.source != "none"


def sources(cfg: Sections, side: Side) -> tuple[Matrix, ...]:
    """The matrices that an adapter of this side would read, in the recipe's order."""
    there = [name for name in cfg.model.knowledge if name != "text" or texts(cfg)]
    if side == "user":
        return ("user",) if "text" in there else ()
    return tuple(_ITEM[name] for name in there)


def knowledge(cfg: Sections) -> bool:
    """There is something for an adapter to read."""
    return any(sources(cfg, side) for side in SIDES)


def named(cfg: Sections) -> str:
    """What the model reads, in words: the source of its texts, kg for facts, joined by a plus; none."""
    words: dict[Matrix, str] = {"user": cfg.extraction.source, "item": cfg.extraction.source, "facts": "kg"}
    read = matrices(cfg)
    in_order = [matrix for matrix in (*sources(cfg, "item"), *MATRICES) if matrix in read]
    return "+".join(dict.fromkeys(words[matrix] for matrix in in_order)) or "none"


def injects(cfg: Sections, side: Side) -> bool:
    """The adapted vector enters the representation of this side's entities."""
    return bool(sources(cfg, side)) and cfg.model.injection != "none" and cfg.model.side in (side, "both")


def similar(cfg: Sections) -> tuple[SimilaritySource, ...]:
    """What the similarity features of frozen vectors are of."""
    if not cfg.model.similarity:
        return ()
    return tuple(name for name in cfg.model.similarity_of if name != "text" or texts(cfg))


def similarity(cfg: Sections) -> bool:
    """Parameter-free similarity features of frozen item vectors."""
    return bool(similar(cfg))


def adapted_similarity(cfg: Sections) -> bool:
    """Similarity features of the item adapter's outputs."""
    return bool(sources(cfg, "item")) and cfg.model.adapted_similarity


def adapts(cfg: Sections, side: Side) -> bool:
    """This side has an adapter."""
    return injects(cfg, side) or (side == "item" and adapted_similarity(cfg))


def starts(cfg: Sections) -> bool:
    """Item ID embeddings start from the texts' vectors."""
    return texts(cfg) and cfg.model.init == "llm"


def axes(cfg: Sections) -> tuple[Matrix, ...]:
    """The matrices of items whose principal axes the similarity features need."""
    return tuple(_ITEM[name] for name in similar(cfg) if name in _ITEM)


def matrices(cfg: Sections) -> tuple[Matrix, ...]:
    """All frozen matrices that the model reads."""
    read = {m for side in SIDES if adapts(cfg, side) for m in sources(cfg, side)} | set(axes(cfg))
    return tuple(m for m in MATRICES if m in read or (m == "item" and starts(cfg)))


def stars(cfg: Sections) -> bool:
    """The model reads how items were rated, not just which."""
    return cfg.model.features == "full"


def history_ratings(cfg: Sections) -> bool:
    """The history's ratings are read."""
    return stars(cfg) and cfg.model.history_ratings


def rate(cfg: Sections) -> bool:
    """The user's share of liked items is read."""
    return stars(cfg) and cfg.model.rate_feature


def seen(cfg: Sections) -> bool:
    """The model reads the liked and disliked items before the cut-off."""
    return similarity(cfg) or adapted_similarity(cfg)


def weight(cfg: Sections, side: Side) -> float:
    """Weight of this side's contrastive loss; 0 where there is no adapter that it could train."""
    if not adapts(cfg, side) or cfg.model.adapter == "raw":
        return 0.0
    return cfg.training.w_user if side == "user" else cfg.training.w_item


def shares_facts(cfg: Sections) -> bool:
    """A fact that two items share makes them positives."""
    return bool(cfg.training.fact_positives) and weight(cfg, "item") > 0
