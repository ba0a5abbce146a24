"""What a training reads, from the published tables: held in memory where it fits, else streamed from disk."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from trawl.config import Config
from trawl.digests import digest_json
from trawl.inputs import Inputs
from trawl.model.lexicon import Array, Ints, Lexicon
from trawl.training.batches import Behaviour, Rows
from trawl.training.corpus import Tables
from trawl.training.logs import Wanted, in_files, index_log, read_files
from trawl.training.streaming import Streamed, once_per_node, write_records

_SAMPLE, _EVENT = 80, 10  # bytes in memory, while it is loaded
_BEHAVIOUR = ("samples", "log", "splits", "cold_items")


def streams(inputs: Inputs, cfg: Config) -> bool:
    """Whether samples and log are streamed; `auto` asks whether they are more than resources.training_memory_gib."""
    if cfg.resources.training_data != "auto":
        return cfg.resources.training_data == "stream"
    size = inputs.count("samples") * _SAMPLE + inputs.count("log") * _EVENT
    return size > cfg.resources.training_memory_gib * 2**30


def behaviour_of(inputs: Inputs, cfg: Config, tables: Tables, kept: Array, lexicon: Lexicon, stream: bool) -> Behaviour:
    """The filtered log; memory-mapped once per node where the training streams."""
    if not stream:
        return Behaviour(tables, kept, lexicon, cfg)
    wanted = Wanted(cfg)
    key = digest_json([_of(inputs), lexicon.levels, vars(wanted), "log of a training"])

    def build(path: Any) -> None:
        arrays = index_log(tables, kept, lexicon, wanted, in_files(path))
        for name, array in arrays.items():
            if not (path / f"{name}.npy").exists():
                np.save(path / f"{name}.npy", array, allow_pickle=False)

    return Behaviour(tables, kept, lexicon, cfg, read_files(once_per_node(key, ".log", build)))


def samples_of(inputs: Inputs, behaviour: Behaviour, split: str, stream: bool) -> Rows | Streamed:
    """The samples of a split, in the order of the table."""
    if not stream:
        picks = pc.equal(inputs.mapped("samples", ["split"]).column("split"), split).to_numpy()
        columns = [inputs.array("samples", name)[picks] for name in ("user", "position", "item", "label")]
        return behaviour.rows(columns[0], columns[1], columns[2], columns[3])
    key = digest_json([_of(inputs), split, "records"])
    path = once_per_node(key, ".rows", lambda to: write_records(to, _columns(inputs, behaviour, split)))
    return Streamed(path, digest_json([_of(inputs), inputs.work]), behaviour.first)


def _columns(inputs: Inputs, behaviour: Behaviour, split: str) -> Iterator[tuple[Array, Array, Ints, Array]]:
    for part in inputs.each("samples", ["user", "position", "item", "label", "split"]):
        rows = part.filter(pc.equal(part["split"], split))
        user, position, item, label = (rows[name].to_numpy() for name in ("user", "position", "item", "label"))
        yield user, item, behaviour.ends(user, position), label


def _of(inputs: Inputs) -> dict[str, str]:
    return {name: inputs.fingerprints[name] for name in _BEHAVIOUR if inputs.has(name)}
