"""Where and in what precision a training's steps are computed: device, autocast, compiled layers, random numbers."""

import contextlib
import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.model.adapters import Adapter
from trawl.model.recommender import Output, Recommender
from trawl.model.world import Batch, World

T = TypeVar("T")


def device_of(cfg: Config) -> torch.device:
    """This process's device. Raises ConfigError where a GPU is asked for and none is seen."""
    if not cfg.resources.training_gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "resources.training_gpus = 1: this worker sees no GPU; set it to 0, or run "
            "where there is one with a CUDA build of torch"
        )
    return torch.device("cuda", torch.cuda.current_device())


def moved(value: T, device: torch.device) -> T:
    """A copy whose tensors, at any depth of objects, mappings and tuples, are on the device; on a CPU the value."""
    return value if device.type == "cpu" else _moved(value, device)


def _moved(value: T, device: torch.device) -> T:
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)  # type: ignore[return-value]
    if isinstance(value, Mapping):
        return {k: _moved(v, device) for k, v in value.items()}  # type: ignore[return-value]
    if isinstance(value, tuple | list):
        return type(value)(_moved(v, device) for v in value)
    if not hasattr(value, "__dict__") or isinstance(value, type):
        return value
    twin = copy.copy(value)
    for name, part in vars(value).items():
        object.__setattr__(twin, name, _moved(part, device))  # some are frozen dataclasses
    return twin


class Place:
    """Runs the model's steps on a device. Parameters stay in their precision, logits come back in float32 or wider."""

    def __init__(self, model: Recommender, world: World, cfg: Config, device: torch.device) -> None:
        self.device, self.seed = device, cfg.training.seed
        self.model, self.world = model.to(device), moved(world, device)
        self.half = cfg.training.precision == "bfloat16"
        if cfg.training.compile:
            adapters = [module for module in model.modules() if isinstance(module, Adapter)]
            for module in (model.backbone, *adapters):  # the backbone may be somebody's own, of any class
                module.compile(dynamic=True)

    def begin(self, epoch: int, step: int, rank: int) -> None:
        """Random numbers of a step (dropout) depend on seed, epoch, step and worker alone, so a resumed training draws
        what an undisturbed one does."""
        words = np.random.SeedSequence([self.seed, epoch, step, 2, rank]).generate_state(2)
        number = int(words[0]) << 31 ^ int(words[1])
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def take(self, batch: Batch) -> Batch:
        """The batch on the device."""
        return moved(batch, self.device)

    def forward(self, batch: Batch) -> Output:
        cast = torch.autocast(self.device.type, torch.bfloat16) if self.half else contextlib.nullcontext()
        with cast:
            output: Output = self.model(batch, self.world)
        if not self.half:
            return output
        return replace(output, logit=output.logit.float())


def plainly(compiled: bool) -> AbstractContextManager[None]:
    """Compiled layers run as they are written: scores of the validation are those of the published model."""
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()
