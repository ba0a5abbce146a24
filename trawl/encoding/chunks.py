"""Texts as tokens: cut into chunks that the model can take, grouped so that little is padded.

A tokenizer's special tokens are put around each chunk as they would stand around a whole text.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trawl.errors import ConfigError

_PIECE = 1 << 20  # characters of a text that are tokenized at once: bounds the memory of a very long text
_PADDED = 8192  # tokens of a batch, padding included


@dataclass(frozen=True)
class Frame:
    """Special tokens before and after a chunk."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def around(self, tokens: Sequence[int]) -> list[int]:
        return [*self.before, *tokens, *self.after]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


def frame_of(tokenizer: Any) -> Frame:
    """What the tokenizer puts around a text, seen from a text of its own."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return Frame(tuple(whole[:start]), tuple(whole[start + len(bare) :]))
    raise ConfigError("encoding.model: its tokenizer changes a text's tokens when it adds special ones")


def limit_of(folder: Path | None, tokenizer: Any, config: Any) -> int:
    """Tokens that the model takes at once, the special ones too: the least of what its files say."""
    said = [int(tokenizer.model_max_length), int(getattr(config, "max_position_embeddings", None) or 1 << 30)]
    beside = folder / "sentence_bert_config.json" if folder else None  # what the model was trained with
    if beside and beside.is_file():
        said.append(int(json.loads(beside.read_text(encoding="utf-8")).get("max_seq_length") or 1 << 30))
    least = min(said)
    return least if least < 1 << 30 else 512


def tokens_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text without special ones; a very long text is read in pieces."""
    pieces = [(at, t[i : i + _PIECE]) for at, t in enumerate(texts) for i in range(0, len(t), _PIECE)]
    out: list[list[int]] = [[] for _ in texts]
    if pieces:
        read = tokenizer(
            [p for _, p in pieces],
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        for (at, _), tokens in zip(pieces, read, strict=True):
            out[at] += tokens
    return out


def chunks_of(tokens: Sequence[Sequence[int]], size: int) -> list[tuple[int, list[int]]]:
    """(text, its tokens) of consecutive runs of at most `size` tokens."""
    return [(n, list(some[i : i + size])) for n, some in enumerate(tokens) for i in range(0, len(some), size)]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of chunks, longest first, in groups of at most _PADDED tokens when padded to the longest of a group.

    Longest first: the batch that needs the most memory comes first, and a run that does not fit fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    at = 0
    while at < len(order):
        size = max(1, _PADDED // max(1, lengths[order[at]]))
        yield order[at : at + size]
        at += size
