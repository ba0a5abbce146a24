"""DIEN (Zhou et al. 2019): a GRU over the history extracts interests h_t, a second one whose update gate is scaled by
the target's attention (AUGRU) evolves them; an MLP reads its last state.

The first GRU reads [item ; rating]. W [item ; rating] = W_1 item + W_2 rating, so the first product is taken once for
each distinct item, the second once for each rating level. Attention (eq. 9): a_t = softmax over t of h_t W e_a, where
W e_a too is taken once for each distinct item; the similarity of target and history item adds to it with a learned
number.

The auxiliary loss (eq. 6) makes h_t tell the next item from one drawn at random:
-log s(h_t, e_{t+1}) - log(1 - s(h_t, e'_{t+1})), where s is a sigmoid on two hidden layers, as in the authors' code.
It is averaged over a sample's steps, so that its weight does not depend on the history's length, then over samples.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.model.backbones.base import Backbone, Encoded, Scores, Shape, mlp
from trawl.model.backbones.recurrence import History, evolve, extract
from trawl.model.gather import gather
from trawl.sections_model import Model

_AUXILIARY = (100, 50)  # hidden layers of the auxiliary loss, from the authors' code


class Dien(Backbone):
    """Logit = MLP([user, target, last state, dense features])."""

    def __init__(self, shape: Shape, cfg: Model) -> None:
        super().__init__(shape, cfg)
        units = cfg.recurrent
        self.item = nn.Linear(shape.item, 3 * units)  # of the extractor: update, reset, candidate
        self.rating = nn.Linear(shape.rating, 3 * units, bias=False) if shape.rating else None
        self.query = nn.Linear(shape.item, units, bias=False)
        self.near = nn.Parameter(torch.zeros(())) if shape.near else None
        self.evolving = nn.Linear(units, 3 * units)
        bound = units**-0.5
        self.extract, self.evolve = (
            nn.Parameter(torch.empty(3 * units, units).uniform_(-bound, bound)) for _ in range(2)
        )
        self.head = mlp(shape.user + shape.item + units + shape.extra, cfg.hidden, cfg.dropout)
        self.weight = cfg.dien_auxiliary
        self.wants_others = self.weight > 0
        self.auxiliary = Auxiliary(units, shape.item) if self.wants_others else None

    def forward(self, batch: Encoded) -> Tensor | Scores:
        """(B,) logits, in training with the auxiliary loss where its weight is not 0. Padding stands in front."""
        length = (batch.levels > 0).sum(dim=1)
        order = torch.argsort(length, descending=True, stable=True)
        back = torch.argsort(order)
        steps = batch.levels.shape[1]
        active = [int(n) for n in (length.unsqueeze(1) >= torch.arange(steps, 0, -1, device=length.device)).sum(dim=0)]
        levels_TB, history_TB = (part.index_select(0, order).t() for part in (batch.levels, batch.history))
        query_BH = gather(self.query(batch.items), batch.target.index_select(0, order))
        ratings_LG = None if self.rating is None or batch.ratings is None else self.rating(batch.ratings)
        interests_TBH, score_TB = extract(
            self.item(batch.items), ratings_LG, self.extract, query_BH, History(history_TB, levels_TB, active)
        )
        attention_TB = self._attention(score_TB, batch, levels_TB > 0, order)
        evolving = self.evolving.weight, self.evolving.bias, self.evolve
        evolved = evolve(interests_TBH, *evolving, attention_TB, active).index_select(0, back)
        target_BD = gather(batch.items, batch.target)
        logit = self.head(torch.cat([batch.user, target_BD, evolved, batch.extra], dim=1)).squeeze(-1)
        if self.auxiliary is None or batch.others is None:
            return logit  # type: ignore[no-any-return]
        others_TB = batch.others.index_select(0, order).t()
        loss = self.auxiliary(batch.items, interests_TBH, history_TB, others_TB, levels_TB > 0)
        return Scores(logit, self.weight * loss.index_select(0, back))

    def _attention(self, score_TB: Tensor, batch: Encoded, there_TB: Tensor, order: Tensor) -> Tensor:
        """(T, B) softmax over the history; rows without one have some numbers that nothing reads."""
        if self.near is not None and batch.near is not None:
            score_TB = score_TB + self.near * batch.near.index_select(0, order).t()
        return torch.softmax(score_TB.masked_fill(~there_TB, torch.finfo(score_TB.dtype).min), dim=0)


class Auxiliary(nn.Module):
    """The auxiliary loss of each sample. The first layer's product with items is taken once for each distinct item."""

    def __init__(self, units: int, width: int) -> None:
        super().__init__()
        first, *rest = _AUXILIARY
        self.state = nn.Linear(units, first)
        self.item = nn.Linear(width, first, bias=False)
        self.head = mlp(first, rest, 0.0)

    def forward(self, items: Tensor, states_TBH: Tensor, next_TB: Tensor, rival_TB: Tensor, there_TB: Tensor) -> Tensor:
        """(B,) means over steps; 0 for histories shorter than 2. An item that was drawn as its own rival is left out.

        `next_TB`, `rival_TB`: places in `items`, of the history and of what was drawn for it.
        """
        own, table = self.state(states_TBH[:-1]), self.item(items)
        positive, negative = (
            self.head(torch.relu(own + gather(table, ids[1:]))).squeeze(-1) for ids in (next_TB, rival_TB)
        )
        rival = rival_TB[1:] != next_TB[1:]
        loss_TB = (functional.softplus(-positive) + functional.softplus(negative) * rival) * there_TB[:-1]
        return loss_TB.sum(dim=0) / there_TB[:-1].sum(dim=0).clamp(min=1)
