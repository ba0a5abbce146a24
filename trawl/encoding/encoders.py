"""The seam of text encoders and the table of those there are, by the name the recipe uses."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trawl.config import Config
from trawl.encoding.lexical import Lexical
from trawl.errors import ConfigError


class Encoder(Protocol):
    """Turns texts into vectors; the same text gives the same vector in any batch, process and machine.

    (A neural encoder's up to rounding: cosine > .9999.)
    """

    dimension: int

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, in the encoder's own measure."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(n, dimension), in the order of the texts; unit length, or zero for a text without a token.

        Reads the first max_tokens tokens of each text.
        """
        ...


def _lexical(cfg: Config) -> Encoder:
    settings = cfg.encoding
    return Lexical(dimension=settings.dimension, max_tokens=settings.max_tokens, seed=settings.seed)


def _transformer(cfg: Config) -> Encoder:
    from trawl.encoding.transformer import load  # torch and transformers load in the worker

    return load(cfg)


ENCODERS: dict[str, Callable[[Config], Encoder]] = {"lexical": _lexical, "transformer": _transformer}
# What of the section changes an encoder's vectors; a model counts by its content, not by its name (weights.identity).
KEYS = {
    "lexical": ("encoder", "dimension", "seed", "max_tokens"),
    "transformer": ("encoder", "max_tokens", "pooling", "chunk_tokens", "precision"),
}


def load_encoder(cfg: Config) -> Encoder:
    """The encoder that the recipe names, loaded. Raises ConfigError for a name that is not in the table."""
    name = cfg.encoding.encoder
    if name not in ENCODERS:
        raise ConfigError(f"encoding.encoder = {name!r}: choose one of {', '.join(sorted(ENCODERS))}")
    return ENCODERS[name](cfg)
