"""The adapter, applied once and for all: what the model reads of an entity without its frozen vector."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from trawl import uses
from trawl.model.bundle import Bundle, precision
from trawl.model.lexicon import Knowledge, frozen

_BLOCK = 16384  # rows adapted at a time


class Detached:
    """The trained adapter of a side."""

    def __init__(self, bundle: Bundle, side: uses.Side) -> None:
        """The side must have an adapter (uses.adapts)."""
        self.lexicon, self.side, model = bundle.lexicon, side, bundle.model()
        self.adapter = (model.item if side == "item" else model.user).adapter
        assert self.adapter is not None, f"no adapter on the {side} side"
        self.sources = bundle.lexicon.sources[side]
        self.dtype = precision(bundle.cfg)

    @property
    def default(self) -> Tensor:
        """(a,) what the model reads of entities without text and of unknown ones."""
        assert self.adapter is not None
        return self.adapter.default.detach()

    def adapted(self, known: Mapping[uses.Matrix, Knowledge]) -> tuple[Tensor, Tensor]:
        """(N, a) of the model's precision, and (N,) which of them some source knows, from the same N rows of each."""
        assert self.adapter is not None
        count = len(known[self.sources[0]].text)
        out, text = torch.empty(count, self.adapter.out, dtype=self.dtype), torch.zeros(count, dtype=torch.bool)
        with torch.inference_mode():
            for at in range(0, count, _BLOCK):
                part = slice(at, at + _BLOCK)
                block = {m: Knowledge(matrix=known[m].matrix[part], text=known[m].text[part]) for m in self.sources}
                vectors, there = frozen(block, self.lexicon, self.side, self.dtype)
                assert vectors is not None and there is not None
                out[part] = self.adapter(vectors.rows(None), there)
                text[part] = there if there.dim() == 1 else there.any(dim=1)
        return out, text

    def table(self, entity: pa.ChunkedArray, known: Mapping[uses.Matrix, Knowledge]) -> pa.Table:
        """entity, vector (unit norm), norm, has_text of some entities: the rows of the matrices are theirs."""
        adapted, text = self.adapted(known)
        norm = adapted.norm(dim=1)
        unit = functional.normalize(adapted, dim=1).to(torch.float32).numpy()
        return pa.table(
            {
                "entity": entity,
                "vector": lists(unit),
                "norm": pa.array(norm.to(torch.float32).numpy()),
                "has_text": pa.array(text.numpy()),
            }
        )


def lists(matrix: npt.NDArray[np.float32]) -> pa.Array:
    """(N, a) as a column of lists."""
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.reshape(-1)))
