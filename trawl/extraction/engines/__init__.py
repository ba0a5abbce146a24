"""The engine seam: what answers prompts. An engine is found by its name in one table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trawl.errors import ConfigError
from trawl.extraction.engines.copy import CopyEngine
from trawl.extraction.engines.extractive import ExtractiveEngine
from trawl.extraction.engines.seam import Reply, Request
from trawl.extraction.key_factors import Factor

__all__ = ["ENGINES", "CopyEngine", "Engine", "Reply", "Request", "Settings", "label", "make_engine"]


@dataclass(frozen=True)
class Settings:
    """What an engine is made from."""

    factors: tuple[Factor, ...]
    model: str = ""


class Engine(Protocol):
    """Answers prompts. `revision` changes whenever the same prompt may be answered otherwise.

    `answer` returns one reply per request, in order; a request that cannot be answered is a reply with status
    "failed". Raises EngineDied when the engine is gone; any other exception is blamed on the rows.
    """

    name: str
    revision: str

    def count(self, text: str) -> int: ...

    def answer(self, requests: Sequence[Request]) -> list[Reply]: ...


ENGINES: dict[str, Callable[[Settings], Engine]] = {
    "extractive": lambda settings: ExtractiveEngine(settings.factors),
}


def make_engine(name: str, settings: Settings) -> Engine:
    """The engine of that name. Raises ConfigError when there is none."""
    if name not in ENGINES:
        raise ConfigError(f"extraction.engine = {name!r}: no such engine; there are {', '.join(ENGINES)}")
    return ENGINES[name](settings)


def label(engine: Engine) -> str:
    """Name and revision, as they stand in tables and digests."""
    return f"{engine.name}/{engine.revision}"
