"""From the hidden states of tokens to one vector for each chunk, and from chunks to one vector for each text.

Shapes: C chunks in a batch, L tokens with padding on the right, d hidden size, N texts.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def mean(hidden_CLd: Tensor, mask_CL: Tensor) -> Tensor:
    """Mean over all tokens of a chunk, the special ones too, as Sentence Transformers takes it."""
    weight = mask_CL.unsqueeze(-1).to(hidden_CLd.dtype)
    return (hidden_CLd * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def cls(hidden_CLd: Tensor, mask_CL: Tensor) -> Tensor:
    """The first token, for encoders that were trained so (BERT-like, bge)."""
    return hidden_CLd[:, 0]


def last(hidden_CLd: Tensor, mask_CL: Tensor) -> Tensor:
    """The last token that is no padding, for decoders."""
    return hidden_CLd[torch.arange(len(hidden_CLd)), mask_CL.sum(dim=1) - 1]


POOLING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean, "cls": cls, "last": last}


def of_texts(chunks_Cd: Tensor, text_C: Tensor, tokens_C: Tensor, texts: int) -> Tensor:
    """(N, d) unit vectors: the mean of a text's chunks, weighted by their tokens. A text without chunks stays zero.

    chunks_Cd float32; text_C the text that each chunk belongs to; tokens_C its tokens, without special ones.
    """
    total = torch.zeros(texts, chunks_Cd.shape[1])
    total.index_add_(0, text_C, chunks_Cd * tokens_C.unsqueeze(1).to(chunks_Cd.dtype))
    return functional.normalize(total, dim=1)
