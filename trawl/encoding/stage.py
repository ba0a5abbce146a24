"""Stages `item_embeddings` and `user_embeddings`: answers -> vectors, part by part, one row for each entity.

And `fact_embeddings`: facts of items -> vectors, in the same contract.
"""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trawl.config import Config
from trawl.encoding.encoders import KEYS, load_encoder
from trawl.encoding.facts import encode as facts_encoded
from trawl.errors import ArtifactError
from trawl.inputs import Inputs
from trawl.stage import Stage, Task, Worker, always, per_part
from trawl.weights import identity

_WITH_TEXT = ("ok", "truncated")


class Encode:
    """Loads the encoder once and encodes parts of one table of answers."""

    def __init__(self, answers: str, inputs: Inputs, cfg: Config) -> None:
        self.answers, self.inputs = answers, inputs
        self.max_tokens, self.rows = cfg.encoding.max_tokens, cfg.resources.batch_rows
        self.encoder = load_encoder(cfg)

    def __call__(self, task: Task) -> pa.Table:
        rows = self.inputs.part(self.answers, task.number, ["entity", "status", "text"])
        batches = [self._encode(rows.slice(at, self.rows)) for at in range(0, max(1, rows.num_rows), self.rows)]
        return pa.concat_tables(batches)

    def _encode(self, rows: pa.Table) -> pa.Table:
        """Vectors of a batch. Raises ArtifactError naming the entity whose vector is not finite."""
        entity = rows.column("entity").to_numpy()
        pairs = zip(rows.column("status").to_pylist(), rows.column("text").to_pylist(), strict=True)
        texts = [text if status in _WITH_TEXT and text else "" for status, text in pairs]
        there = np.array(self.encoder.count(texts), dtype=np.int64)
        has_text = there > 0
        vectors = np.zeros((len(texts), self.encoder.dimension), dtype=np.float16)
        if has_text.any():
            vectors[has_text] = self.encoder.encode([t for t, has in zip(texts, has_text, strict=True) if has])
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise ArtifactError(
                f"{self.answers}: the encoder gave a vector that is not finite at entity = {entity[~finite][0]}; "
                "look at its text, or at the encoder's precision"
            )
        return pa.table(
            {
                "entity": entity,
                "vector": _lists(vectors),
                "has_text": has_text,
                "tokens_read": np.minimum(there, self.max_tokens),
                "tokens_there": there,
            }
        )


def _lists(vectors: npt.NDArray[np.float16]) -> pa.ListArray:
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()))


def shard(table: pa.Table) -> bytes:
    """The part's vectors as the bytes of a .npy file: (rows, d) float16, row = row of the part."""
    lists = table.column("vector").combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    file = io.BytesIO()
    np.save(file, flat.reshape(table.num_rows, -1) if table.num_rows else flat.reshape(0, 0), allow_pickle=False)
    return file.getvalue()


class EncodeFacts:
    """Vectors of the items of a part, from their facts."""

    def __init__(self, inputs: Inputs, cfg: Config) -> None:
        self.inputs, self.keys = inputs, cfg.facts

    def __call__(self, task: Task) -> pa.Table:
        entity = np.sort(self.inputs.part("items", task.number, ["item"])["item"].to_numpy())
        facts = self.inputs.part("facts", task.number)
        vectors, count = facts_encoded(entity, facts, self.keys.dimension, self.keys.seed)
        return pa.table(
            {
                "entity": entity,
                "vector": _lists(vectors.astype(np.float16)),
                "has_text": count > 0,
                "tokens_read": count,
                "tokens_there": count,
            }
        )


def encode_facts(inputs: Inputs, cfg: Config) -> Worker:
    return EncodeFacts(inputs, cfg)


def encode_items(inputs: Inputs, cfg: Config) -> Worker:
    return Encode("item_answers", inputs, cfg)


def encode_users(inputs: Inputs, cfg: Config) -> Worker:
    return Encode("user_answers", inputs, cfg)


def _keys(cfg: Config) -> tuple[str, ...]:
    return tuple(f"encoding.{key}" for key in KEYS[cfg.encoding.encoder])


def _models(cfg: Config) -> dict[str, str]:
    settings = cfg.encoding
    if settings.encoder != "transformer":
        return {}
    return {"encoding.model": identity("encoding.model", settings.model, settings.revision)}


def _gpus(cfg: Config) -> float:
    return cfg.resources.encoder_gpus


def _stage(side: str, worker: Callable[[Inputs, Config], Worker]) -> Stage:
    return Stage(
        artifact=f"{side}_embeddings",
        version=1,
        reads=always(f"{side}s", f"{side}_answers"),
        keys=_keys,
        models=_models,
        plan=per_part(f"{side}_answers"),
        worker=worker,
        covers=f"{side}s",
        side=shard,
        side_suffix=".npy",
        heavy=True,
        gpus=_gpus,
    )


FACTS = Stage(
    artifact="fact_embeddings",
    version=1,
    reads=always("items", "facts"),
    keys=always("facts.dimension", "facts.seed"),
    plan=per_part("facts"),
    worker=encode_facts,
    covers="items",
    side=shard,
    side_suffix=".npy",
)
STAGES: tuple[Stage, ...] = (_stage("item", encode_items), _stage("user", encode_users), FACTS)
