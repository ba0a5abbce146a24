"""Embeddings of ids and of categorical and multi-valued fields; the ids that a training step drops."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from trawl.model import fused
from trawl.model.gather import gather, mean_rows
from trawl.model.world import Entities

UNKNOWN_VALUE = 1  # code of a field value that training never saw, and of a field without values; 0 pads
RATE_BINS = 14  # 0 = nothing seen before the cut-off, then 13 bins of the share of liked items
ID_STD = 0.02  # of an embedding's numbers before training
_OFTEN = 4  # lookups per entity from which on the whole table is computed
_SEVERAL = 16  # entities per lookup up to which a pass over the table costs less than sorting the lookups


def distinct(count: int, *ids: Tensor) -> tuple[Tensor | None, list[Tensor]]:
    """The distinct ids among all given, and where each stands among them: what is computed per id is computed once.

    For a table that the ids hit several times over, sorting costs more than it saves: then None, and the ids as given.
    """
    asked = sum(i.numel() for i in ids)
    if asked >= _OFTEN * count:
        return None, list(ids)
    flat = torch.cat([i.reshape(-1) for i in ids])
    if count <= _SEVERAL * asked:  # marking them in the table costs less than sorting them
        found, where = fused.distinct(count, flat) if fused.counts(flat) else _marked(count, flat)
    else:
        found, where = torch.unique(flat, return_inverse=True)
    pieces = torch.split(where, [i.numel() for i in ids])
    return found, [piece.view(i.shape) for piece, i in zip(pieces, ids, strict=True)]


def _marked(count: int, flat: Tensor) -> tuple[Tensor, Tensor]:
    marks = torch.zeros(count, dtype=torch.bool, device=flat.device).index_fill_(0, flat, True)
    return marks.nonzero().squeeze(1), (torch.cumsum(marks, dim=0) - 1).index_select(0, flat)


def dropped(rows_N: Tensor, share: float, salt: int) -> Tensor:
    """(N,) bool, true for about `share` of all ids: a hash of id and salt, so that all workers drop the same ones."""
    z = rows_N * -7046029254386353131 + salt  # splitmix64 in wrapping int64
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ ((z >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return ((z >> 32) & 0xFFFFFFFF) < int(share * 2**32)


class Ids(nn.Module):
    """Embedding of a vocabulary of ids; row 0 stands for every id that training never saw.

    Row 0 learns because each training step reads a random share of all ids as unknown, each of them as a whole.
    `sparse`: the gradient is one of touched rows only, for tables that a step hardly touches.
    """

    def __init__(self, rows: int, width: int, drop: float, sparse: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width) * ID_STD)
        self.drop, self.sparse = drop, sparse

    def kept(self, rows_N: Tensor, salt: int) -> Tensor:
        """(N,) rows, 0 for those that this step drops."""
        if not (self.training and self.drop > 0):
            return rows_N
        if fused.counts(rows_N):
            return fused.kept(rows_N, self.drop, salt)
        return rows_N.masked_fill(dropped(rows_N, self.drop, salt), 0)

    def forward(self, rows_N: Tensor, salt: int) -> Tensor:
        rows_N = self.kept(rows_N, salt)
        return functional.embedding(rows_N, self.weight, sparse=True) if self.sparse else gather(self.weight, rows_N)


class Fields(nn.Module):
    """One embedding for all fields of an entity: the sum over fields of the mean over a field's values.

    Its width does not grow with the number of fields; concatenation is wider, slower and ranked a little better
    on MovieLens-1M (test AUC about .0006, one run each).
    """

    def __init__(self, sizes: Mapping[str, int], width: int) -> None:
        """`sizes`: field -> number of codes, with 0 (pads) and 1 (unknown)."""
        super().__init__()
        self.names = tuple(sizes)
        self.tables = nn.ParameterList([nn.Parameter(torch.randn(n, width) * ID_STD) for n in sizes.values()])
        self.out = width if self.names else 0

    def singles(self, entities: Entities, ids: Tensor | None) -> list[tuple[Tensor, Tensor]] | None:
        """The tables and their codes (N,); None where a field has several values."""
        if any(entities.fields[name].shape[1] > 1 for name in self.names):
            return None
        codes = (entities.fields[name][:, 0] for name in self.names)
        return [(t, c if ids is None else c.index_select(0, ids)) for t, c in zip(self.tables, codes, strict=True)]

    def forward(self, entities: Entities, ids: Tensor | None) -> list[Tensor]:
        """One (N, width) tensor, or none without fields."""
        total: Tensor | None = None
        for name, table in zip(self.names, self.tables, strict=True):
            codes = entities.fields[name] if ids is None else entities.fields[name].index_select(0, ids)
            one = gather(table, codes[:, 0]) if codes.shape[1] == 1 else mean_rows(table, codes)
            total = one if total is None else total + one
        return [] if total is None else [total]
