"""`vllm`: a language model on vLLM. Here its identity and its token counts; its prompts are answered in `feeding`.

Answers are greedy. The revision holds the model's files, the type of its weights and the template; not the machine or
vLLM's version, which can change the last digits of the arithmetic and so now and then a word (the manifest names it).
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from trawl import weights
from trawl.errors import ConfigError
from trawl.extraction.budget import Spans
from trawl.extraction.engine_arguments import check_own
from trawl.extraction.engines.seam import Reply, Request
from trawl.extraction.tokens import ModelTokens, load_tokens
from trawl.sections import Extraction
from trawl.store import digest_json

MODEL = "extraction.model"
LORA = "extraction.lora"
KEYS = ("extraction.dtype", "extraction.chat_template")  # the model itself counts by its content
_OPTIONAL = ("output", "engine_arguments")  # count where they are not left at their defaults
_FORM = 1  # of the prompt around the prompt and of the sampling; raise it when either changes


def model_identity(settings: Extraction) -> str:
    """The model by its files or its commit. Raises ConfigError when there is none."""
    return weights.identity(MODEL, settings.model, settings.revision)


def lora_identity(settings: Extraction) -> str:
    """The LoRA adapter by its files or its commit. Raises ConfigError when there is none."""
    return weights.identity(LORA, settings.lora, config=weights.ADAPTER)


def set_keys(settings: Extraction) -> tuple[str, ...]:
    """Dotted keys of optional settings that are in use."""
    plain = Extraction()
    return tuple(f"extraction.{name}" for name in _OPTIONAL if getattr(settings, name) != getattr(plain, name))


class VllmEngine:
    """The engine as seen from light processes: nothing of vLLM and no weights are loaded here."""

    name = "vllm"

    def __init__(self, settings: Extraction) -> None:
        """Raises ConfigError when the model is missing or an engine argument is not the recipe's to set."""
        check_own(settings.engine_arguments)
        self.settings = settings
        parts: list[Any] = [_FORM, model_identity(settings), settings.dtype, settings.chat_template]
        parts += [[key, getattr(settings, key.rpartition(".")[2])] for key in set_keys(settings)]
        parts += [[LORA, lora_identity(settings)]] if settings.lora else []
        self.revision = digest_json(parts)[:12]

    @cached_property
    def tokens(self) -> ModelTokens:
        cfg = self.settings
        return load_tokens(MODEL, cfg.model, cfg.revision, cfg.chat_template)

    def count(self, text: str) -> int:
        return self.tokens.count(text)

    def spans(self, text: str) -> Spans:
        return self.tokens.spans(text)

    def whole(self, prompt: str) -> int:
        return self.tokens.whole(prompt)

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """Raises ConfigError: prompts go through Ray Data, before the stage's own actors look for the answers."""
        raise ConfigError(
            "extraction.engine = vllm answers on Ray only: set resources.executor to ray, and give user_answers and "
            "item_answers a cluster"
        )
