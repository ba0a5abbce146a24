"""Engines that are no part of trawl: `extraction.engine = "package.module:Class"`.

The class is made with the settings (trawl.extraction.engines.Settings) in each worker, where the module must be on
Python's path; it has the methods of the protocol Engine. Name and revision come from it and stand in prompt digests:
change the revision whenever the same prompt may be answered otherwise.
"""

from importlib import import_module
from typing import Any

from trawl.errors import ConfigError

_NEEDED = ("name", "revision", "count", "spans", "whole", "answer")


def is_own(engine: str) -> bool:
    return ":" in engine


def load(engine: str, settings: Any) -> Any:
    """An engine of that class. Raises ConfigError when it cannot be imported or is no engine."""
    module, _, name = engine.partition(":")
    try:
        made = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"extraction.engine = {engine!r}: cannot be imported ({error}); put it on the path of driver and workers "
            "(PYTHONPATH, or the image of the cluster)"
        ) from None
    built = made(settings)
    missing = [part for part in _NEEDED if not hasattr(built, part)]
    if missing:
        raise ConfigError(f"extraction.engine = {engine!r}: is no engine, it lacks {', '.join(missing)}")
    return built
