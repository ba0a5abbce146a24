"""The whole model: embeddings, adapters, injection, similarity features, backbone.

Injection of the adapted vectors:
replace (T 3.3)  [ID embedding ; adapted vector] stands wherever the ID embedding stood, of users and of items, target
                 and history alike
add              ID embedding + projected adapted vector, of the same width as without
concat (K 3.2.3) the user's and the target's beside the dense features, which go into the DNN
fields (R 4.4)   the user's and the target's as two feature fields more
Without `history_knowledge` the history reads ID embeddings alone: the target of `replace` then has its adapted vector
as a field of its own, that of `add` keeps its sum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl import uses
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.model import adapters, fused, similarity
from trawl.model.backbones import build, own
from trawl.model.backbones.base import Encoded, Scores, Shape
from trawl.model.features import RATE_BINS, Fields, Ids, distinct, dropped
from trawl.model.gather import few_rows, gather
from trawl.model.scales import Scales
from trawl.model.world import Batch, Entities, Pairs, World

# Tables with more rows than so many times a step's lookups get gradients of touched rows only (training/row_adam):
# measured, a table of 5 to 6 rows per row touched costs the same either way, a larger one less so.
_SPARSE = 5
_BLOCK = 8192  # entities computed at a time


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Everything that the data decides about the model's dimensions."""

    user_rows: int  # vocabulary with row 0
    item_rows: int
    user_fields: Mapping[str, int] = field(default_factory=dict)  # field -> codes, with 0 (pads) and 1 (unknown)
    item_fields: Mapping[str, int] = field(default_factory=dict)
    levels: int = 1  # rating levels, without the padding's 0
    user_vector: int = 0  # width of the frozen vectors that adapters read; 0: none
    item_vector: int = 0
    item_facts: int = 0  # the same of the items' facts

    def widths(self, matrices: Sequence[uses.Matrix]) -> list[int]:
        """Of each frozen matrix."""
        found = {"user": self.user_vector, "item": self.item_vector, "facts": self.item_facts}
        return [found[matrix] for matrix in matrices]

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
        """Raises ConfigError for a backbone that is not there, or an adapter that these vectors do not fit."""
        super().__init__()
        model, batch = cfg.model, cfg.training.batch_size
        self.sizes, self.levels = sizes, sizes.levels
        self.user = Side(sizes, cfg, "user", sizes.user_rows > _SPARSE * batch)
        shared = _shared(self.user, sizes, cfg)
        self.item = Side(sizes, cfg, "item", sizes.item_rows > _SPARSE * batch * (model.history + 1), shared)
        self.similar, self.adapted_similar = uses.similar(cfg), uses.adapted_similarity(cfg)
        rating = model.embedding if uses.history_ratings(cfg) else 0
        self.ratings = nn.Parameter(torch.randn(sizes.levels + 1, rating) * 0.02) if rating else None
        self.rate = nn.Parameter(torch.randn(RATE_BINS, model.embedding) * 0.02) if uses.rate(cfg) else None
        extra = (model.embedding if uses.rate(cfg) else 0) + 2 * self.adapted_similar
        extra += (sizes.levels + 4) * len(self.similar) + self.user.dense + self.item.dense
        shape = Shape(
            user_parts=(*self.user.parts, *((self.item.out,) if self.item.is_field else ())),
            item_parts=self.item.parts,
            rating=rating,
            levels=sizes.levels,
            extra=extra,
            near=bool(self.similar),
        )
        self.backbone = build(shape, model)
        self.name = model.backbone
        self.wants_others = bool(getattr(self.backbone, "wants_others", False))  # training is to draw Batch.others
        self.scales = Scales(cfg)

    def detach(self) -> "Recommender":
        """Put the adapters away: from now on the model reads Entities.adapted. Returns itself."""
        for side in (self.user, self.item):
            if side.adapter is not None:
                like = side.adapter.default
                side.adapter = adapters.Prestored(side.out).to(like.device, like.dtype)
        return self

    def forward(self, batch: Batch, world: World) -> Output:
        user_ids, (user_B, *user_pair) = distinct(world.users.count, batch.user, *_ids(batch.users))
        seen = [batch.seen.items] if self.adapted_similar and batch.seen is not None else []
        read = [*seen, *_ids(batch.items)]  # adapted vectors that are read besides the target's, and the history's
        drawn = [batch.others] if batch.others is not None else []
        item_ids, (target_B, history_BH, *others) = distinct(
            world.items.count, batch.item, batch.history, *drawn, *(read if self.item.everywhere else [])
        )
        drawn_BH, others = others[: len(drawn)], others[len(drawn) :]
        known_ids, known_B = item_ids, target_B
        if self.item.adapter is not None and not self.item.everywhere:
            if world.items.adapted is not None and not read:  # prestored: gathered as they are
                known_ids, known_B = None, batch.item
            else:
                known_ids, (known_B, *others) = distinct(world.items.count, batch.item, *read)
        seen_at, item_pair = others[: len(seen)], others[len(seen) :]
        users_KA = self.user.adapted(world.users, user_ids)
        read_alone = self.adapted_similar or not self.item.everywhere or batch.items is not None
        folded = world.items.whole is not None and not self.training and not read_alone  # the table has them
        items_NA = None if folded else self.item.adapted(world.items, known_ids)
        users_KU = self.user(world.users, user_ids, batch.salt, users_KA)
        items_ND = self.item(world.items, item_ids, batch.salt, items_NA if self.item.everywhere else None)
        near_BH, extra = self._similarities(batch, world)
        if seen_at and items_NA is not None and batch.seen is not None:
            text = world.items.known(known_ids)
            unit = functional.normalize(items_NA)
            unit = unit if text is None else unit * text.unsqueeze(-1)
            extra.append(similarity.to_seen(unit, known_B, batch.seen, seen_at[0]))
        user_parts = [gather(users_KU, user_B)]
        for side, places, table in ((self.user, user_B, users_KA), (self.item, known_B, items_NA)):
            if table is not None and (side.dense or side.is_field):
                (extra if side.dense else user_parts).append(gather(table, places))
        if items_NA is not None and self.item.target_sum:
            items_ND, target_B = self._with_targets(items_ND, target_B, gather(items_NA, known_B))
        encoded = Encoded(
            user=torch.cat(user_parts, dim=1),
            items=items_ND,
            target=target_B,
            history=history_BH,
            levels=batch.levels,
            ratings=self.ratings,
            extra=torch.cat(extra, dim=1) if extra else items_ND.new_zeros(len(batch.user), 0),
            near=near_BH,
            others=drawn_BH[0] if drawn_BH else None,
        )
        scores = self._scores(encoded)
        users, items = _pick(users_KA, user_pair), _pick(items_NA, item_pair)
        return Output(scores.logit, users, items, scores.auxiliary)

    def _scores(self, encoded: Encoded) -> Scores:
        """What the backbone says. Raises ConfigError when one of somebody's own does not keep the contract."""
        if not own.is_own(self.name):
            found = self.backbone(encoded)
            return found if isinstance(found, Scores) else Scores(found)
        return own.scored(self.name, self.backbone, encoded)

    def _similarities(self, batch: Batch, world: World) -> tuple[Tensor | None, list[Tensor]]:
        """Similarities to the history (B, H) of the first source, and the dense features so far, (B, E) each."""
        parts = [] if self.rate is None else [few_rows(self.rate, batch.rate)]
        first: Tensor | None = None
        if not self.similar or batch.seen is None:
            return first, parts
        for source, near_NS in zip(self.similar, world.items.nears, strict=True):
            kept = self._kept(batch, world.items) if source == "cf" else None
            near_BH = similarity.to_history(near_NS, batch.item, batch.history, kept)
            parts.append(similarity.history_features(near_BH, batch.levels, self.levels))
            parts.append(similarity.to_seen(near_NS, batch.item, batch.seen, batch.seen.items, kept))
            first = near_BH if first is None else first
        return first, parts

    def _kept(self, batch: Batch, items: Entities) -> similarity.Kept:
        """What an item was liked with is known of items with behaviour alone: it goes when their IDs are dropped."""
        drop = self.item.ids.drop
        if not self.training or not drop:
            return None
        return lambda ids: ~dropped(items.rows[ids], drop, batch.salt)

    def _with_targets(self, items_ND: Tensor, target_B: Tensor, adapted_BA: Tensor) -> tuple[Tensor, Tensor]:
        """The items, with each sample's target once more as ID embedding + projected vector; and its place there."""
        assert self.item.projection is not None
        projected = self.item.projection(adapted_BA)
        rest = items_ND.shape[1] - projected.shape[1]
        targets = gather(items_ND, target_B) + functional.pad(projected, (0, rest))
        return torch.cat([items_ND, targets]), torch.arange(len(target_B), device=target_B.device) + len(items_ND)


def prestored(side: "Side", entities: Entities) -> Entities:
    """The entities with what a trained side makes of each: scoring then gathers one row of each instead of its ID's
    embedding, its fields' and its adapted vector's. Computed block by block."""
    out = side.ids.weight.new_empty(entities.count, sum(side.parts))
    with torch.inference_mode():
        for ids in torch.split(torch.arange(entities.count, device=out.device), _BLOCK):
            out[ids] = side(entities, ids, 0, side.adapted(entities, ids) if side.everywhere else None)
    return replace(entities, whole=out)


class Side(nn.Module):
    """Representation of users or items: ID embedding, injected knowledge, fields."""

    def __init__(
        self,
        sizes: Sizes,
        cfg: Config,
        side: uses.Side,
        sparse: bool,
        shared: Sequence[adapters.Experts | None] = (),
    ) -> None:
        """`shared`: the experts of the other side that a hybrid adapter reads too, for each source."""
        super().__init__()
        model, item = cfg.model, side == "item"
        rows, fields = (sizes.item_rows, sizes.item_fields) if item else (sizes.user_rows, sizes.user_fields)
        self.ids = Ids(rows, model.embedding, model.id_dropout if item else model.user_id_dropout, sparse)
        self.fields = Fields(fields, model.embedding)
        self.injection = model.injection if uses.injects(cfg, side) else "none"
        self.sources = uses.sources(cfg, side)
        widths = sizes.widths(self.sources)
        self.adapter: adapters.Adapter | adapters.Adapters | adapters.Prestored | None = None
        if uses.adapts(cfg, side):
            self.adapter = adapters.build(widths, model, shared)
        self.out = self.adapter.out if self.adapter is not None else 0  # width of the adapted vector
        alone = item and not model.history_knowledge
        self.everywhere = self.injection in ("replace", "add") and not alone  # knowledge stands in the table of items
        self.target_sum = self.injection == "add" and alone
        self.is_field = item and (self.injection == "fields" or (self.injection == "replace" and alone))
        self.dense = self.out if self.injection == "concat" else 0  # width among the dense features
        self.projection = nn.Linear(self.out, model.embedding, bias=False) if self.injection == "add" else None
        parts = [model.embedding]
        if self.injection in ("replace", "fields") and not self.is_field:
            parts.append(self.out)
        self.parts = (*parts, *([self.fields.out] if self.fields.out else []))  # widths, in the order of forward's

    def forward(self, entities: Entities, ids: Tensor | None, salt: int, adapted: Tensor | None) -> Tensor:
        """(N, sum of parts) representations of the ids, or of all entities. `adapted`: (N, a) what is injected.

        Those that are prestored are looked up, and what is injected is in them already.
        """
        if entities.whole is not None and not self.training:
            return entities.whole if ids is None else functional.embedding(ids, entities.whole)
        rows = entities.rows if ids is None else entities.rows.index_select(0, ids)
        if (adapted is None or self.injection == "none") and not self.ids.sparse and fused.fits(self.ids.weight):
            fields = self.fields.singles(entities, ids)
            if fields is not None:
                return fused.beside((self.ids.weight, self.ids.kept(rows, salt)), fields)
        own = self.ids(rows, salt)
        parts = [own]
        if adapted is not None and self.projection is not None:
            parts = [own + self.projection(adapted)]
        elif adapted is not None and self.injection in ("replace", "fields"):
            parts = [own, adapted]
        return torch.cat(parts + self.fields(entities, ids), dim=1)

    def adapted(self, entities: Entities, ids: Tensor | None) -> Tensor | None:
        """(N, a) adapted vectors; None without an adapter."""
        if self.adapter is not None and entities.adapted is not None:
            return entities.adapted if ids is None else functional.embedding(ids, entities.adapted)
        if self.adapter is None or entities.vectors is None or entities.text is None:
            return None
        text = entities.text if ids is None else entities.text[ids]
        return self.adapter(entities.vectors.rows(ids), text)  # type: ignore[no-any-return]


def _shared(user: Side, sizes: Sizes, cfg: Config) -> list[adapters.Experts | None]:
    """For each source of the items, the experts that they share with the users: those that read texts (R eq. 2)."""
    if cfg.model.adapter != "hybrid" or user.adapter is None:
        return []
    if sizes.user_vector != sizes.item_vector:
        raise ConfigError(
            f"model.adapter = hybrid shares experts, but the vectors of users have {sizes.user_vector} dimensions and "
            f"those of items {sizes.item_vector}; set model.knowledge_dim to bring them to one size"
        )
    (own,) = adapters.parts(user.adapter)
    common = own.body.common if isinstance(own.body, adapters.HybridExperts) else None
    return [common if source == "item" else None for source in uses.sources(cfg, "item")]


def _ids(pairs: Pairs | None) -> list[Tensor]:
    if pairs is None:
        return []
    return [pairs.anchor, pairs.positive, *([] if pairs.negative is None else [pairs.negative])]


def _pick(adapted: Tensor | None, places: list[Tensor]) -> tuple[Tensor, ...] | None:
    if adapted is None or not places:
        return None
    return tuple(gather(adapted, place) for place in places)
