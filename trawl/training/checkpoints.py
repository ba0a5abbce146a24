"""States of a training that goes on: one file of a task's own, or a folder for each checkpoint of Ray Train.

Ray Train lists its checkpoints in a file that it writes in place. A driver that is killed in the middle of that leaves
a file that Ray refuses, at that run and at every later one. Then the list is put away, and the training goes on from
the newest checkpoint that can be read.
"""

import io
import json
import pickle
from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import torch

from trawl.errors import ArtifactError
from trawl.store import Store
from trawl.training.loop import Training

STATE = "state.pt"
LIST = "checkpoint_manager_snapshot.json"  # ray.train.v2._internal.constants
_BROKEN = (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, TypeError)


def go_on(training: Training, state: IO[bytes], where: str) -> None:
    """Restore a kept state. Raises ArtifactError for one that is broken, or of a model that another trawl made."""
    try:
        training.restore(torch.load(state, weights_only=True, map_location="cpu"))
    except _BROKEN as error:
        lines = str(error).strip().splitlines()
        raise ArtifactError(
            f"{where}: is no state that this training can go on from ({lines[0] if lines else type(error).__name__}); "
            "remove it and run again: the training begins anew"
        ) from error


def put_away_broken_list(store: Store, folder: Sequence[str]) -> list[str]:
    """`folder` of a training's checkpoints. Names of those there are, the newest first, where no list has them."""
    text = store.find_bytes(*folder, LIST)
    if text is not None and _parses(text):
        return []
    store.remove(*folder, LIST)
    return [name for name in reversed(store.names(*folder)) if name.startswith("checkpoint_")]


def _parses(text: pa.Buffer) -> bool:
    try:
        return isinstance(json.loads(text.to_pybytes()), dict)
    except ValueError:
        return False


def newest(store: Store, folder: Sequence[str], names: Sequence[str]) -> tuple[IO[bytes], str] | None:
    """The state of the first of these checkpoints that is whole, and where it is; without one training begins anew."""
    for name in names:
        data = store.find_bytes(*folder, name, STATE)
        if data is not None and _whole(data):
            return io.BytesIO(data), store.where(*folder, name, STATE)
    return None


def _whole(data: pa.Buffer) -> bool:
    """False for a file that was cut off while it was written."""
    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="meta")
    except _BROKEN:
        return False
    return True
