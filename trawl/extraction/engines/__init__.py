"""The engine seam: what answers prompts. An engine is found by its name in one table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trawl.errors import ConfigError
from trawl.extraction.budget import Spans
from trawl.extraction.engines.copy import CopyEngine
from trawl.extraction.engines.extractive import ExtractiveEngine
from trawl.extraction.engines.http import KEYS as HTTP_KEYS
from trawl.extraction.engines.http import TOKENIZER, HttpEngine, tokenizer_identity
from trawl.extraction.engines.own import is_own, load
from trawl.extraction.engines.seam import Reply, Request, Unfinished
from trawl.extraction.engines.vllm import KEYS as VLLM_KEYS
from trawl.extraction.engines.vllm import LORA, MODEL, VllmEngine, lora_identity, model_identity, set_keys
from trawl.extraction.key_factors import Factor
from trawl.sections import Extraction
from trawl.sections_http import Http

__all__ = [
    "ENGINES",
    "CopyEngine",
    "Engine",
    "HttpEngine",
    "Reply",
    "Request",
    "Settings",
    "Unfinished",
    "VllmEngine",
    "keys_of",
    "label",
    "make_engine",
    "models_of",
]


@dataclass(frozen=True)
class Settings:
    """What an engine is made from."""

    factors: tuple[Factor, ...]
    extraction: Extraction = field(default_factory=Extraction)
    http: Http = field(default_factory=Http)


class Engine(Protocol):
    """Answers prompts. `revision` changes whenever the same prompt may be answered otherwise.

    `answer` returns one reply per request, in order; a request that cannot be answered is a reply with status
    "failed". Raises EngineDied when the engine is gone, Unfinished when it stops with some requests answered; any other
    exception is blamed on the rows.
    """

    name: str
    revision: str

    def count(self, text: str) -> int:
        """Tokens of a text that will stand in a prompt."""
        ...

    def spans(self, text: str) -> Spans:
        """Where each of those tokens stands."""
        ...

    def whole(self, prompt: str) -> int:
        """Tokens of a whole prompt as it is sent, with what the engine puts around it."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[Reply]: ...


ENGINES: dict[str, Callable[[Settings], Engine]] = {
    "extractive": lambda settings: ExtractiveEngine(settings.factors),
    "vllm": lambda settings: VllmEngine(settings.extraction),
    "http": lambda settings: HttpEngine(settings.extraction, settings.http),
}
# Recipe keys, beside the engine's name, that change its token counts or answers.
_KEYS = {"extractive": (MODEL,), "vllm": VLLM_KEYS, "http": HTTP_KEYS}


def make_engine(name: str, settings: Settings) -> Engine:
    """The engine of that name. Raises ConfigError when there is none."""
    if is_own(name):
        return load(name, settings)  # type: ignore[no-any-return]
    if name not in ENGINES:
        raise ConfigError(f"extraction.engine = {name!r}: no such engine; there are {', '.join(ENGINES)}")
    return ENGINES[name](settings)


def label(engine: Engine) -> str:
    """Name and revision, as they stand in tables and digests."""
    return f"{engine.name}/{engine.revision}"


def keys_of(extraction: Extraction) -> tuple[str, ...]:
    """Dotted recipe keys that change what the engine counts or answers."""
    optional = set_keys(extraction) if extraction.engine == "vllm" else ()
    return ("extraction.engine", *_KEYS.get(extraction.engine, (MODEL,)), *optional)


def models_of(extraction: Extraction) -> dict[str, str]:
    """The engine's model by its content: a moved folder is the same model. Raises ConfigError when there is none."""
    if extraction.engine == "http" and extraction.tokenizer:
        return {TOKENIZER: tokenizer_identity(extraction)}
    if extraction.engine != "vllm":
        return {}
    return {MODEL: model_identity(extraction)} | ({LORA: lora_identity(extraction)} if extraction.lora else {})
