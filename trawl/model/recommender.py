"""The whole model: embeddings, adapters, injection, similarity features, backbone.

Injection `replace` (T 3.3): [ID embedding ; adapted vector] stands wherever the ID embedding stood, of users and of
items, target and history alike. `add`: ID embedding + projected adapted vector, of the same width as without.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.model import similarity, uses
from trawl.model.adapters import Adapter
from trawl.model.backbones import build
from trawl.model.backbones.base import Encoded, Scores, Shape
from trawl.model.features import RATE_BINS, Fields, Ids, distinct
from trawl.model.gathers import gather
from trawl.model.scales import Scales
from trawl.model.world import Batch, Entities, Pairs, World

# Tables with more rows than so many times a step's lookups get gradients of touched rows only (training/row_adam):
# measured, a table of 5 to 6 rows per row touched costs the same either way, a larger one less so.
_SPARSE = 5


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything that the data decides about the model's dimensions."""

    user_rows: int  # vocabulary with row 0
    item_rows: int
    user_fields: Mapping[str, int] = field(default_factory=dict)  # field -> codes, with 0 (pads) and 1 (unknown)
    item_fields: Mapping[str, int] = field(default_factory=dict)
    levels: int = 1  # rating levels, without the padding's 0
    user_vector: int = 0  # width of the frozen vectors; 0: none
    item_vector: int = 0

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Output:
    logit: Tensor  # (B,)
    # Adapted vectors of the batch's anchors and positives, (A, a) each, and of drawn negatives (A, M, a)
    users: tuple[Tensor, ...] | None = None
    items: tuple[Tensor, ...] | None = None
    auxiliary: Tensor | None = None  # (B,) weighted loss of the backbone's own, of each sample


class Recommender(nn.Module):
    def __init__(self, sizes: Sizes, cfg: Config) -> None:
        """Raises ConfigError for a backbone that is not there."""
        super().__init__()
        model, batch = cfg.model, cfg.training.batch_size
        self.sizes, self.levels = sizes, sizes.levels
        self.user = Side(sizes, cfg, "user", sizes.user_rows > _SPARSE * batch)
        self.item = Side(sizes, cfg, "item", sizes.item_rows > _SPARSE * batch * (model.history + 1))
        self.similar, self.adapted_similar = uses.similarity(cfg), uses.adapted_similarity(cfg)
        rating = model.embedding if model.history_ratings else 0
        self.ratings = nn.Parameter(torch.randn(sizes.levels + 1, rating) * 0.02) if rating else None
        self.rate = nn.Parameter(torch.randn(RATE_BINS, model.embedding) * 0.02) if model.rate_feature else None
        extra = (model.embedding if model.rate_feature else 0) + 2 * self.adapted_similar
        extra += (sizes.levels + 4) * self.similar
        shape = Shape(
            user_parts=self.user.parts,
            item_parts=self.item.parts,
            rating=rating,
            levels=sizes.levels,
            extra=extra,
            near=self.similar,
        )
        self.backbone = build(shape, model)
        self.name = model.backbone
        self.wants_others = bool(getattr(self.backbone, "wants_others", False))  # training is to draw Batch.others
        self.scales = Scales(cfg)

    def forward(self, batch: Batch, world: World) -> Output:
        user_ids, (user_B, *user_pair) = distinct(world.users.count, batch.user, *_ids(batch.users))
        seen = [batch.seen.items] if self.adapted_similar and batch.seen is not None else []
        drawn = [batch.others] if batch.others is not None else []
        item_ids, (target_B, history_BH, *others) = distinct(
            world.items.count, batch.item, batch.history, *drawn, *seen, *_ids(batch.items)
        )
        drawn_BH, others = others[: len(drawn)], others[len(drawn) :]
        seen_at, item_pair = others[: len(seen)], others[len(seen) :]
        users_KU, users_adapted = self.user(world.users, user_ids, batch.salt)
        items_ND, items_adapted = self.item(world.items, item_ids, batch.salt)
        near_BH, extra_BE = self._extra(batch, world)
        if seen_at and items_adapted is not None and batch.seen is not None and world.items.text is not None:
            text = world.items.text if item_ids is None else world.items.text[item_ids]
            unit = functional.normalize(items_adapted) * text.unsqueeze(-1)
            extra_BE = torch.cat([extra_BE, similarity.to_seen(unit, target_B, batch.seen, seen_at[0])], dim=1)
        encoded = Encoded(
            user=gather(users_KU, user_B),
            items=items_ND,
            target=target_B,
            history=history_BH,
            levels=batch.levels,
            ratings=self.ratings,
            extra=extra_BE,
            near=near_BH,
            others=drawn_BH[0] if drawn_BH else None,
        )
        scores = self._scores(encoded)
        users, items = _pick(users_adapted, user_pair), _pick(items_adapted, item_pair)
        return Output(scores.logit, users, items, scores.auxiliary)

    def _scores(self, encoded: Encoded) -> Scores:
        """What the backbone says. Raises ConfigError when one of somebody's own does not keep the contract."""
        found = self.backbone(encoded)
        scores = found if isinstance(found, Scores) else Scores(found)
        rows = encoded.target.shape
        for name, part in (("logits", scores.logit), ("an auxiliary loss", scores.auxiliary)):
            if part is not None and getattr(part, "shape", None) != rows:
                shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
                raise ConfigError(f"model.backbone = {self.name!r}: gave {name} of shape {shape}, not {tuple(rows)}")
        return scores

    def _extra(self, batch: Batch, world: World) -> tuple[Tensor | None, Tensor]:
        """Similarities to the history (B, H), and the dense features (B, E)."""
        parts = [] if self.rate is None else [gather(self.rate, batch.rate)]
        near_BH = None
        if self.similar and world.items.near is not None and batch.seen is not None:
            near_NS = world.items.near
            near_BH = similarity.to_history(near_NS, batch.item, batch.history)
            parts.append(similarity.history_features(near_BH, batch.levels, self.levels))
            parts.append(similarity.to_seen(near_NS, batch.item, batch.seen, batch.seen.items))
        dtype = self.item.ids.weight.dtype
        return near_BH, torch.cat(parts, dim=1) if parts else torch.zeros(len(batch.user), 0, dtype=dtype)


class Side(nn.Module):
    """Representation of users or items: ID embedding, injected knowledge, fields."""

    def __init__(self, sizes: Sizes, cfg: Config, side: uses.Side, sparse: bool) -> None:
        super().__init__()
        model, item = cfg.model, side == "item"
        rows, fields = (sizes.item_rows, sizes.item_fields) if item else (sizes.user_rows, sizes.user_fields)
        self.ids = Ids(rows, model.embedding, model.id_dropout if item else model.user_id_dropout, sparse)
        self.fields = Fields(fields, model.embedding)
        self.injection = model.injection if uses.injects(cfg, side) else "none"
        width = sizes.item_vector if item else sizes.user_vector
        self.adapter = Adapter(width, model) if uses.adapts(cfg, side) else None
        self.projection = None
        parts = [model.embedding]
        if self.adapter is not None and self.injection == "add":
            self.projection = nn.Linear(self.adapter.out, model.embedding, bias=False)
        elif self.adapter is not None and self.injection == "replace":
            parts.append(self.adapter.out)
        self.parts = (*parts, *([self.fields.out] if self.fields.out else []))  # widths, in the order of forward's

    def forward(self, entities: Entities, ids: Tensor | None, salt: int) -> tuple[Tensor, Tensor | None]:
        """(N, sum of parts) representations and (N, a) adapted vectors of the ids, or of all entities."""
        rows = entities.rows if ids is None else entities.rows[ids]
        own = self.ids(rows, salt)
        adapted = self.adapted(entities, ids)
        parts = [own]
        if adapted is not None and self.projection is not None:
            parts = [own + self.projection(adapted)]
        elif adapted is not None and self.injection == "replace":
            parts = [own, adapted]
        return torch.cat(parts + self.fields(entities, ids), dim=1), adapted

    def adapted(self, entities: Entities, ids: Tensor | None) -> Tensor | None:
        """(N, a) adapted vectors; None without an adapter."""
        if self.adapter is not None and entities.adapted is not None:
            return entities.adapted if ids is None else functional.embedding(ids, entities.adapted)
        if self.adapter is None or entities.vectors is None or entities.text is None:
            return None
        text = entities.text if ids is None else entities.text[ids]
        return self.adapter(entities.vectors.rows(ids), text)  # type: ignore[no-any-return]


def _ids(pairs: Pairs | None) -> list[Tensor]:
    if pairs is None:
        return []
    return [pairs.anchor, pairs.positive, *([] if pairs.negative is None else [pairs.negative])]


def _pick(adapted: Tensor | None, places: list[Tensor]) -> tuple[Tensor, ...] | None:
    if adapted is None or not places:
        return None
    return tuple(gather(adapted, place) for place in places)
