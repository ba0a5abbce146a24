"""A training whose loss is no number any more: it ends in one line instead of publishing a model of noise.

Looked at where all workers know the same, at a checkpoint and at the end of an epoch: they end together, and the last
checkpoint is one from before.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trawl.errors import Failed
from trawl.sections_training import Training


class Diverged(Failed):
    """Losses or scores that are not finite. Running again ends in the same way."""


def check_losses(sums: npt.ArrayLike, epoch: int, step: int, cfg: Training) -> None:
    """`sums`: of all workers' losses in an epoch so far. Raises Diverged."""
    if not np.isfinite(sums).all():
        raise _diverged(f"the loss is not a number, in the first {step} steps of epoch {epoch}", cfg)


def check_scores(validation: Mapping[str, float], epoch: int, cfg: Training) -> None:
    """`validation`: its metrics; LogLoss is a number wherever there are rows. Raises Diverged."""
    if validation["rows"] and not np.isfinite(validation["logloss"]):
        raise _diverged(f"the validation's scores are not numbers, after epoch {epoch}", cfg)


def _diverged(what: str, cfg: Training) -> Diverged:
    wide = ", training.precision = float32" if cfg.precision == "bfloat16" else ""
    return Diverged(f"model: {what}; take a smaller training.lr (it is {cfg.lr:g}) or a longer training.warmup{wide}")
