"""The seam of text encoders and the table of those there are, by the name the recipe uses."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trawl.encoding.lexical import Lexical
from trawl.errors import ConfigError
from trawl.sections import Encoding


class Encoder(Protocol):
    """Turns texts into vectors; the same text gives the same vector in any batch, process and machine."""

    dimension: int

    def count(self, text: str) -> int:
        """Tokens of the text, in the encoder's own measure."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(n, dimension), in the order of the texts; unit length, or zero for a text without a token.

        Reads the first max_tokens tokens of each text.
        """
        ...


def _lexical(cfg: Encoding) -> Encoder:
    return Lexical(dimension=cfg.dimension, max_tokens=cfg.max_tokens, seed=cfg.seed)


ENCODERS: dict[str, Callable[[Encoding], Encoder]] = {"lexical": _lexical}


def load_encoder(cfg: Encoding) -> Encoder:
    """The encoder that the recipe names, loaded. Raises ConfigError for a name that is not in the table."""
    if cfg.encoder not in ENCODERS:
        raise ConfigError(f"encoding.encoder = {cfg.encoder!r}: choose one of {', '.join(sorted(ENCODERS))}")
    return ENCODERS[cfg.encoder](cfg)
