"""Tokens per second of a GPU: measured figures of the recipe, else by a rule from its data sheet.

The rule is the roofline of a transformer of P parameters in W bytes on a card of F operations and B bytes per second,
with full batches. Reading takes 2 P operations a token at half of F. A written token takes as many, and its share of
reading the weights once per step for a batch of 128, and of its own sequence's keys and values, at 60 % of B:

    tokens_in  = 0.5 F / 2 P
    tokens_out = 1 / (1 / tokens_in + (W / 128 + cache bytes * tokens in the sequence) / 0.6 B)

An assumption and no measurement: `--probe` measures.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from trawl.errors import ConfigError
from trawl.sections_plan import Plan
from trawl.sizes import Size

_COMPUTE, _MEMORY, _BATCH = 0.5, 0.6, 128


@dataclass(frozen=True)
class Rate:
    """Tokens per second of one GPU (of one engine, where a model is split over several, so many times that)."""

    tokens_in: float
    tokens_out: float
    source: str

    def seconds(self, tokens_in: float, tokens_out: float) -> float:
        return tokens_in / self.tokens_in + tokens_out / self.tokens_out


@cache
def sheets() -> dict[str, dict[str, Any]]:
    """The data sheets by name."""
    text = (resources.files("trawl.planning") / "gpus.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def names(plan: Plan) -> list[str]:
    return sorted({*sheets(), *plan.throughput})


def check_name(plan: Plan) -> None:
    """Raises ConfigError for a GPU of which nothing is known."""
    if plan.gpu and plan.gpu not in names(plan):
        raise ConfigError(
            f"plan.gpu = {plan.gpu!r}: nothing is known of it; there are {', '.join(names(plan))}; or measure it and "
            f'set [plan.throughput."{plan.gpu}"] tokens_in and tokens_out'
        )


def rate(plan: Plan, size: Size | None, context: float) -> Rate | None:
    """The rate of `plan.gpu`; `context`: tokens of prompt and answer. None where the model's size is not known."""
    parameters = plan.parameters * 1e9 or (size.parameters if size else 0)
    given = plan.throughput.get(plan.gpu)
    if given is not None:
        measured = given.get("parameters", 0.0) * 1e9
        if measured and not parameters:
            return None
        factor = measured / parameters if measured else 1.0
        source = given.get("source", "figures of the recipe")
        source += f", scaled from {measured / 1e9:g} to {parameters / 1e9:.3g} billion parameters" if measured else ""
        return Rate(given["tokens_in"] * factor, given["tokens_out"] * factor, source)
    if not parameters:
        return None
    card = sheets()[plan.gpu]
    weights = size.bytes if size else 2 * parameters
    read = _COMPUTE * card["tflops"] * 1e12 / (2 * parameters)
    moved = weights / _BATCH + (size.cache_bytes if size else 0) * context
    written = 1 / (1 / read + moved / (_MEMORY * card["gb_per_second"] * 1e9))
    return Rate(read, written, f"a rule from the data sheet of {plan.gpu}, not measured (half of its arithmetic)")


def fits(plan: Plan, size: Size | None, split: int, share: float) -> str:
    """Why a model has no place on the GPUs of an engine; empty where it has one, or nothing is known."""
    card = sheets().get(plan.gpu)
    room = card["gb"] * 1e9 * share * split if card else 0.0
    if not card or not size or size.bytes < 0.9 * room:  # the rest is for keys and values
        return ""
    return (
        f"{size.bytes / 1e9:.0f} GB of weights leave no room on {split} x {plan.gpu} ({card['gb']} GB each); raise "
        "resources.tensor_parallel"
    )
