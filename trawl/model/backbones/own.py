"""Backbones that are no part of trawl: `model.backbone = "package.module:Class"`.

The contract. The class is a torch.nn.Module, made with (Shape, config.Model) of trawl.model.backbones.base; its forward
maps Encoded to logits (B,), or to Scores with a loss of its own. Subclasses of base.Backbone, fields.Pooled and
fields.Fielded have the field handling of the shipped ones. Settings of its own stand in `model.backbone_arguments`.
It must be on Python's path of driver and workers, and wherever the trained model is loaded: a bundle names the import
path and holds the weights, never code. Fingerprints know the path and the arguments, not the code: change an argument
(a revision, say) when the code changes.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import extract_tb

import torch
from torch import Tensor, nn

from trawl.errors import ConfigError, TrawlError
from trawl.model.backbones.base import Encoded, Scores, Shape
from trawl.sections_model import Model

_MODEL_FILES = ("model.json", "model.safetensors")
_OURS = Path(__file__).parents[2]


def is_own(name: str) -> bool:
    """The name is an import path."""
    return ":" in name


def load(name: str) -> type[nn.Module]:
    """The class at that import path. Raises ConfigError when it is not there, or is no torch module.

    Code that lies in a model's folder is refused before it is run: whoever loads a model did not ask to run it.
    """
    module, _, attribute = name.partition(":")
    here = f"model.backbone = {name!r}"
    try:
        if folder := _model_folder(module):
            raise ConfigError(f"{here}: lies in the model's folder {folder}; code is not taken from there")
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{here}: cannot be imported ({error}); put it on the path of driver and workers (PYTHONPATH, or the "
            "image of the cluster)"
        ) from None
    except ConfigError:
        raise
    except Exception as error:  # whatever their code raises is theirs to mend
        raise fault(name, "cannot be imported", error) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"{here}: is no subclass of torch.nn.Module")
    return found


def build(shape: Shape, cfg: Model) -> nn.Module:
    """The module for that shape. Raises ConfigError as `load` does, and when it cannot be made with the two."""
    made = load(cfg.backbone)
    try:
        return made(shape, cfg)
    except Exception as error:
        raise fault(cfg.backbone, "cannot be made with (Shape, Model)", error) from error


def scored(name: str, module: nn.Module, batch: Encoded) -> Scores:
    """What the module gives for a batch. Raises ConfigError where it fails, or does not keep the contract."""
    try:
        found = module(batch)
    except (TrawlError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise fault(name, "its forward failed", error) from error
    scores = found if isinstance(found, Scores) else Scores(found)
    rows = batch.target.shape
    for what, part in (("logits", scores.logit), ("an auxiliary loss", scores.auxiliary)):
        if part is None and what != "logits":
            continue
        if not isinstance(part, Tensor) or part.shape != rows:
            shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ConfigError(f"model.backbone = {name!r}: gave {what} of shape {shape}, not {tuple(rows)}")
        if not part.is_floating_point():
            raise ConfigError(f"model.backbone = {name!r}: gave {what} of type {part.dtype}, not of a float")
    if module.training and torch.is_grad_enabled() and not scores.logit.requires_grad:
        raise ConfigError(f"model.backbone = {name!r}: gave logits without a gradient, so that nothing is learned")
    return scores


def kept(module: nn.Module) -> list[Tensor]:
    """The buffers that are saved with the module, as a BatchNorm's statistics are."""
    saved = module.state_dict()
    return [buffer for name, buffer in module.named_buffers() if name in saved]


def fault(name: str, what: str, error: Exception) -> ConfigError:
    """An error of somebody's own code, in one line with the place in that code."""
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = [(Path(frame.filename), frame.lineno) for frame in extract_tb(error.__traceback__)]
    own = [(path, line) for path, line in frames if "site-packages" not in path.parts and _OURS not in path.parents]
    place = f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""
    return ConfigError(f"model.backbone = {name!r}: {what}: {said}{place}")


def _model_folder(module: str) -> Path | None:
    """The folder on the path that the module's outermost package comes from, when a model's files lie in it."""
    spec = find_spec(module.partition(".")[0])
    if spec is None:
        return None
    places = [Path(p).parent for p in spec.submodule_search_locations or ()]
    if not places and spec.origin is not None:
        places = [Path(spec.origin).parent]
    return next((p for p in places if all((p / name).is_file() for name in _MODEL_FILES)), None)
