"""From tokens to hours: by a probe on this cluster, or by the throughput of a named GPU."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import pyarrow.compute as pc

from trawl.config import Config
from trawl.extraction.trial import Trial
from trawl.planning.gpus import Rate
from trawl.planning.prompts import Side


@dataclass(frozen=True, kw_only=True)
class Hours:
    """What answering a side takes. `busy`: seconds of one engine that did all of it."""

    source: str
    device: str
    busy: float
    start: float
    engines: int
    gpus: int  # of each engine

    @property
    def seconds(self) -> float:
        """From start to end, with the recipe's engines side by side."""
        return self.start + self.busy / self.engines if self.busy else 0.0

    @property
    def gpu_hours(self) -> float:
        return (self.busy + self.start * self.engines) * self.gpus / 3600 if self.busy else 0.0


def engines(cfg: Config, asked: float) -> int:
    """Engines that work side by side on so many prompts."""
    if cfg.extraction.engine == "vllm":
        return max(1, min(cfg.resources.engines, ceil(asked / cfg.resources.engine_rows)))
    return max(1, min(cfg.resources.actors, cfg.data.partitions))


def split(cfg: Config) -> int:
    """GPUs of an engine."""
    return cfg.resources.tensor_parallel * cfg.resources.pipeline_parallel


def by_probe(side: Side, trial: Trial, cfg: Config, on_gpu: bool) -> Hours:
    """The probe's seconds, times the tokens that are asked over those that were tried."""
    tried = (pc.sum(trial.answers.column("tokens_in")).as_py() or 0) + (
        pc.sum(trial.answers.column("tokens_out")).as_py() or 0
    )
    return Hours(
        source=f"probe of {trial.answers.num_rows} prompts",
        device="GPU" if on_gpu else "CPU",
        busy=trial.seconds * (side.tokens_in + side.tokens_out) / max(1, tried),
        start=trial.start_seconds,
        engines=engines(cfg, side.asked),
        gpus=split(cfg) if on_gpu else 0,
    )


def by_rate(side: Side, rate: Rate, cfg: Config) -> Hours:
    """A GPU's tokens per second; a model that is split over several is as much faster."""
    return Hours(
        source=rate.source,
        device=cfg.plan.gpu,
        busy=rate.seconds(side.tokens_in, side.tokens_out) / split(cfg),
        start=cfg.plan.start_seconds if side.asked else 0.0,
        engines=engines(cfg, side.asked),
        gpus=split(cfg),
    )


def cost(sides: Sequence[Side], hours: Sequence[Hours], cfg: Config) -> float | None:
    """Price of the tokens and of the GPU hours; None where no price is set or nothing of the kind is used."""
    prices = cfg.plan
    tokens = sum(s.tokens_in * prices.price_million_in + s.tokens_out * prices.price_million_out for s in sides) / 1e6
    return tokens + sum(h.gpu_hours for h in hours) * prices.price_gpu_hour or None
