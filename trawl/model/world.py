"""What the model is given: the frozen side of users and items, and a batch. Tensors only.

Shapes: B samples of a batch, H history, N distinct items of a batch (or the whole table), K distinct users, A anchors.
An index is 1..n and 0 is unknown; a *row* is the place of an index in the model's vocabulary, 0 for all unseen ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_IN_MEMORY = 1 << 26  # elements up to which a standardised float copy of a frozen matrix is kept
_BLOCK = 1 << 16  # rows standardised at a time


class Frozen:
    """A frozen matrix of vectors, read row-wise as (x - centre) * scale; with axes as (x - centre) @ axes * scale.

    Some encoders have constant dimensions, so the scale is one number for all of them, never one per dimension.
    """

    def __init__(
        self,
        matrix: Tensor,
        centre: Tensor,
        scale: float,
        dtype: torch.dtype = torch.float32,
        axes: Tensor | None = None,
    ) -> None:
        """`matrix`: (n + 1, d), any float type, may be memory-mapped, never written to. `axes`: (d, k) or none."""
        self._centre, self._scale, self._dtype = centre.to(dtype), scale, dtype
        self._axes = None if axes is None else axes.to(dtype)
        self.width = int(matrix.shape[1] if axes is None else axes.shape[1])
        self.count = int(matrix.shape[0])
        self._ready = self.count * self.width <= _IN_MEMORY
        self._matrix = self._whole(matrix) if self._ready else matrix

    def rows(self, ids: Tensor | None) -> Tensor:
        """(N, width) standardised vectors of the ids, or of all rows."""
        part = self._matrix if ids is None else self._matrix.index_select(0, ids)
        return part if self._ready else self._standard(part)

    def _standard(self, part: Tensor) -> Tensor:
        part = part.to(self._dtype) - self._centre
        return (part if self._axes is None else part @ self._axes) * self._scale

    def _whole(self, matrix: Tensor) -> Tensor:
        out = torch.empty(self.count, self.width, dtype=self._dtype)
        for at in range(0, self.count, _BLOCK):
            out[at : at + _BLOCK] = self._standard(matrix[at : at + _BLOCK])
        return out


class Stacked(Frozen):
    """Several frozen matrices of the same entities, read side by side."""

    def __init__(self, parts: Sequence[Frozen]) -> None:
        self.parts = tuple(parts)
        self.width, self.count = sum(part.width for part in parts), parts[0].count

    def rows(self, ids: Tensor | None) -> Tensor:
        """(N, sum of widths)."""
        return torch.cat([part.rows(ids) for part in self.parts], dim=1)


@dataclass(frozen=True)
class Entities:
    """Frozen facts about users or items; row = index."""

    rows: Tensor  # (n + 1,) int64: row in the model's vocabulary
    fields: Mapping[str, Tensor] = field(default_factory=dict)  # name -> (n + 1, values) codes, 0 pads
    vectors: Frozen | None = None  # (n + 1, d), of all sources side by side
    # (n + 1,) bool: has a text, so its vector means something; (n + 1, S) with S > 1 sources, of each
    text: Tensor | None = None
    near: Tensor | None = None  # (n + 1, s) unit rows of the PCA of the vectors; zero without text
    adapted: Tensor | None = None  # (n + 1, a) outputs of the trained adapter, instead of the vectors
    more_near: tuple[Tensor, ...] = ()  # the same as `near`, of further sources of similarity
    whole: Tensor | None = None  # (n + 1, D) what the trained model makes of each entity, for scoring alone

    @property
    def count(self) -> int:
        """Rows, with the one of the unknown index."""
        return int(self.rows.shape[0])

    @property
    def nears(self) -> tuple[Tensor, ...]:
        """Unit rows of every source of similarity."""
        return () if self.near is None else (self.near, *self.more_near)

    def known(self, ids: Tensor | None) -> Tensor | None:
        """(N,) bool: some source knows the entity; None without sources."""
        if self.text is None:
            return None
        text = self.text if ids is None else self.text[ids]
        return text if text.dim() == 1 else text.any(dim=1)


@dataclass(frozen=True)
class World:
    users: Entities
    items: Entities


@dataclass(frozen=True)
class Pairs:
    """Anchors and a positive of each, by index."""

    anchor: Tensor  # (A,) distinct, but for the rows of fact positives
    positive: Tensor  # (A,)
    negative: Tensor | None = None  # (A, M) drawn negatives, 0 is none; without them the other rows' positives serve
    known: Tensor | None = None  # (A, A) bool: positive j is another known partner of anchor i
    whole: "Pairs | None" = None  # all workers' pairs, where these are one worker's share


@dataclass(frozen=True)
class Seen:
    """Items before the cut-off of the K distinct users: bags 0..K-1 hold the liked, K..2K-1 the disliked ones."""

    items: Tensor  # (total,) item indexes
    offsets: Tensor  # (2K,) where each bag begins
    bag: Tensor  # (B,) the user's number among the K


@dataclass(frozen=True)
class Batch:
    user: Tensor  # (B,) index
    item: Tensor  # (B,) index
    history: Tensor  # (B, H) item index, oldest first, padded in front
    levels: Tensor  # (B, H) rating level 1.., 0 pads
    rate: Tensor  # (B,) bin of the share of liked items before the cut-off, 0 = nothing seen
    label: Tensor  # (B,)
    seen: Seen | None = None
    users: Pairs | None = None  # of the contrastive loss
    items: Pairs | None = None
    others: Tensor | None = None  # (B, H) index of an item drawn for each position: for a backbone's own loss
    salt: int = 0  # of the dropped ids: the same for all workers of a step
