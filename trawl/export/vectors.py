"""The adapter, applied once and for all: what the model reads of an entity without its frozen vector."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from trawl.model import uses
from trawl.model.bundle import Bundle, precision
from trawl.model.world import Frozen

_BLOCK = 16384  # rows adapted at a time


class Detached:
    """The trained adapter of a side."""

    def __init__(self, bundle: Bundle, side: uses.Side) -> None:
        """The side must have an adapter (uses.adapts)."""
        lexicon, model = bundle.lexicon, bundle.model()
        self.adapter = (model.item if side == "item" else model.user).adapter
        assert self.adapter is not None, f"no adapter on the {side} side"
        self.centre, self.scale = torch.from_numpy(lexicon.centre[side]), lexicon.scale[side]
        self.dtype = precision(bundle.cfg)

    @property
    def default(self) -> Tensor:
        """(a,) what the model reads of entities without text and of unknown ones."""
        assert self.adapter is not None
        return self.adapter.default.detach()

    def adapted(self, matrix: Tensor, text: Tensor) -> Tensor:
        """(N, a) of the model's precision, from frozen vectors (N, d) of any float type and has-text (N,)."""
        assert self.adapter is not None
        out = torch.empty(len(matrix), self.adapter.out, dtype=self.dtype)
        with torch.inference_mode():
            for at in range(0, len(matrix), _BLOCK):
                part = slice(at, at + _BLOCK)
                frozen = Frozen(matrix[part], self.centre, self.scale, self.dtype)
                out[part] = self.adapter(frozen.rows(None), text[part])
        return out

    def table(self, rows: pa.Table) -> pa.Table:
        """entity, vector (unit norm), norm, has_text of a part of the embeddings."""
        text = rows["has_text"].to_numpy()
        vectors = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        matrix = torch.from_numpy(np.array(vectors).reshape(len(text), len(self.centre)))
        adapted = self.adapted(matrix, torch.from_numpy(np.array(text)))
        norm = adapted.norm(dim=1)
        unit = functional.normalize(adapted, dim=1).to(torch.float32).numpy()
        return pa.table(
            {
                "entity": rows["entity"],
                "vector": lists(unit),
                "norm": pa.array(norm.to(torch.float32).numpy()),
                "has_text": rows["has_text"],
            }
        )


def lists(matrix: npt.NDArray[np.float32]) -> pa.Array:
    """(N, a) as a column of lists."""
    offsets = np.arange(0, matrix.size + 1, matrix.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.reshape(-1)))
