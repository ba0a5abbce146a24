"""`transformer`: a frozen Hugging Face encoder. Texts over the model's limit are read in chunks and pooled.

Weights are read from safetensors only. Vectors of texts of one chunk are those of Sentence Transformers for models
that pool by mean, first or last token and normalise.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trawl import weights
from trawl.config import Config
from trawl.encoding.chunks import batches, chunks_of, frame_of, limit_of, tokens_of
from trawl.encoding.pooling import POOLING, of_texts
from trawl.errors import ConfigError, EngineDied

KEY = "encoding.model"


class Transformer:
    """See the module. `max_tokens` of each text are read, in chunks of `chunk` tokens with special ones (0: the
    model's limit)."""

    def __init__(self, model: Any, tokenizer: Any, cfg: Config, limit: int) -> None:
        """Raises ConfigError when a chunk is longer than the model's limit or has no room for a token."""
        settings = cfg.encoding
        self.model, self.tokenizer = model, tokenizer
        self.frame = frame_of(tokenizer)
        self.pool = POOLING[settings.pooling]
        self.max_tokens = settings.max_tokens
        whole = settings.chunk_tokens or limit
        if whole > limit:
            raise ConfigError(f"encoding.chunk_tokens = {whole}: {settings.model} takes {limit} tokens at once")
        self.room = whole - len(self.frame)
        if self.room < 1:
            raise ConfigError(f"encoding.chunk_tokens = {whole}: no room beside {len(self.frame)} special tokens")
        self.dimension = int(model.config.hidden_size)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        return [len(tokens) for tokens in tokens_of(self.tokenizer, texts)]

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(n, d) float32 of unit length; zero for a text without a token."""
        read = [tokens[: self.max_tokens] for tokens in tokens_of(self.tokenizer, texts)]
        chunks = chunks_of(read, self.room)
        vectors = torch.zeros(len(chunks), self.dimension)
        with torch.inference_mode():
            for group in batches([len(tokens) for _, tokens in chunks]):
                vectors[group] = self._vectors([chunks[i][1] for i in group])
            text, many = ([f(c) for c in chunks] for f in (lambda c: c[0], lambda c: len(c[1])))
            out = of_texts(vectors, torch.tensor(text, dtype=torch.long), torch.tensor(many), len(texts))
        return np.asarray(out.numpy(), dtype=np.float32)

    def _vectors(self, chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """(C, d) float32 on the CPU."""
        rows = [self.frame.around(tokens) for tokens in chunks]
        width = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        device = self.model.device
        hidden = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        return self.pool(hidden.float(), mask.to(device)).cpu()


def load(cfg: Config) -> Transformer:
    """Load model and tokenizer on this worker's device. Raises ConfigError, or EngineDied when it cannot be loaded."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(cfg.resources.threads)
    settings = cfg.encoding
    name, commit = weights.located(KEY, settings.model, settings.revision)
    common: dict[str, Any] = {"revision": commit, "trust_remote_code": settings.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **common)
        model = AutoModel.from_pretrained(
            name, dtype=getattr(torch, settings.precision), use_safetensors=True, **common
        )
        folder = Path(name) if Path(name).is_dir() else _snapshot(name, commit)
        model = model.eval().requires_grad_(False).to(_device(cfg))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EngineDied(f"{KEY} = {settings.model}: cannot be loaded: {' '.join(str(error).split())[:300]}") from None
    return Transformer(model, tokenizer, cfg, limit_of(folder, tokenizer, model.config))


def _device(cfg: Config) -> str:
    """A GPU only where the recipe asks for one: without, Ray leaves all GPUs visible to every worker."""
    return "cuda" if cfg.resources.encoder_gpus > 0 else "cpu"


def _snapshot(name: str, commit: str | None) -> Path | None:
    """The hub's folder of the loaded model, where it says how many tokens the model was trained with."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, "sentence_bert_config.json", revision=commit)).parent
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None
