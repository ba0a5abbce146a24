"""The exported bundle: a model that scores without recipe, store or adapter (R 4.5: the adapter is detached).

model.json           format, version, config, vocabularies of field values, fingerprints, digests of the other files
model.safetensors    weights.* without the adapters' own; of all items, row = index: vocabulary row, codes of fields,
                     adapted vectors, text
items.parquet        item_id in order of the index 1..n
users.parquet        user_id in order of the model's vocabulary rows 1..m
user_vectors.parquet adapted vectors of all users, where the model reads them

Nothing is pickled. Raw ids stand in Parquet, so that reading them makes no object per user.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from trawl import uses
from trawl.config import Config
from trawl.errors import ArtifactError
from trawl.export.vectors import Detached
from trawl.model.bundle import (
    CARD,
    ITEMS,
    USERS,
    WEIGHTS,
    Bundle,
    card_of,
    config_of,
    lexicon_of,
    packed,
    precision,
    sealed,
    tensors_of,
    unsealed,
    write_ids,
)
from trawl.model.lexicon import Lexicon, nears, rows_of
from trawl.model.recommender import Recommender, Sizes, prestored
from trawl.model.world import Entities
from trawl.store import digest_bytes

FORMAT, VERSION = "trawl-bundle", 2
USER_VECTORS = "user_vectors.parquet"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A bundle in memory, ready to score."""

    cfg: Config
    lexicon: Lexicon  # its `users` are row numbers 1..m
    model: Recommender
    items: Entities
    item_ids: pa.ChunkedArray  # of the index 1..n
    user_ids: pa.ChunkedArray  # of the vocabulary rows 1..m
    known_ids: pa.ChunkedArray | None = None  # users with a vector
    known: Tensor | None = None  # (their number + 1, a) adapted vectors; row 0 the default of unknown users


def write(bundle: Bundle, origin: Mapping[str, Any], folder: Path) -> None:
    """Write card, tensors and ids; `user_vectors.parquet` must be there already where the model reads it.

    `origin`: run, arm and repetition, noted in the card.
    """
    catalogue = bundle.catalogue
    write_ids(folder / ITEMS, "item_id", catalogue.items)
    write_ids(folder / USERS, "user_id", catalogue.users)
    files = [ITEMS, USERS, *([USER_VECTORS] if uses.adapts(bundle.cfg, "user") else [])]
    data = packed(_tensors(bundle))
    (folder / WEIGHTS).write_bytes(data)
    card = card_of(bundle) | {
        "format": FORMAT,
        "version": VERSION,
        "tensors": digest_bytes(data),
        "files": {name: _digest(folder / name) for name in files},
        "origin": dict(origin),
        "default": {side: _default(bundle, side) for side in uses.SIDES if uses.adapts(bundle.cfg, side)},
    }
    (folder / CARD).write_bytes(sealed(card))


def _default(bundle: Bundle, side: uses.Side) -> dict[str, Any]:
    """Unit vector and norm for unknown ids, as the vector tables have them."""
    default = Detached(bundle, side).default.double()
    norm = float(default.norm())
    return {"vector": (default / max(norm, 1e-12)).tolist(), "norm": norm}


def _tensors(bundle: Bundle) -> dict[str, Tensor]:
    lexicon, known = bundle.lexicon, bundle.catalogue
    adapters = {side: f"{side}.adapter." for side in uses.SIDES if uses.adapts(bundle.cfg, side)}
    kept = {k: v for k, v in bundle.weights.items() if not k.startswith(tuple(adapters.values()))}
    kept |= {f"{prefix}default": Detached(bundle, side).default for side, prefix in adapters.items()}
    out = {f"weights.{k}": v for k, v in kept.items()}
    out |= {f"items.fields.{k}": v for k, v in known.codes.items()}
    out["lexicon.items"] = torch.from_numpy(np.ascontiguousarray(lexicon.items))
    if uses.adapts(bundle.cfg, "item"):
        out["items.adapted"], out["items.text"] = Detached(bundle, "item").adapted(known.knowledge)
    rows = rows_of(lexicon.items, len(known.items))
    near = nears(known.knowledge, lexicon, rows, precision(bundle.cfg), known.codes)
    return out | {f"items.near.{source}": table for source, table in zip(lexicon.similar, near, strict=True)}


def read(folder: Path) -> Served:
    """Raises ArtifactError, naming the file, for one that is missing, altered or of another version."""
    where = str(folder)
    try:
        card = unsealed((folder / CARD).read_bytes(), f"{where}/{CARD}", FORMAT, VERSION)
        tensors = tensors_of((folder / WEIGHTS).read_bytes(), card, where)
        for name, digest in card["files"].items():
            if _digest(folder / name) != digest:
                raise ArtifactError(f"{where}/{name}: is not the file that {CARD} was written for; export again")
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: missing; copy the whole folder or export again") from None
    cfg = config_of(card, where)
    item_ids, user_ids = (pq.read_table(folder / name).column(0) for name in (ITEMS, USERS))
    lexicon = lexicon_of(card, cfg, tensors, np.arange(1, len(user_ids) + 1))
    model = Recommender(Sizes(**card["sizes"]), cfg).to(precision(cfg)).detach()
    _check_tensors(tensors, model, lexicon, where)
    model.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
    near = [tensors[f"items.near.{source}"] for source in lexicon.similar]
    items = Entities(
        rows_of(lexicon.items, len(item_ids)),
        {k: tensors[f"items.fields.{k}"] for k in lexicon.item_fields},
        text=tensors.get("items.text"),
        near=near[0] if near else None,
        more_near=tuple(near[1:]),
        adapted=tensors.get("items.adapted"),
    )
    served = {"cfg": cfg, "lexicon": lexicon, "model": model.eval(), "items": prestored(model.item, items)}
    if model.user.adapter is not None:
        served |= _users(folder / USER_VECTORS, model.user.adapter.default.detach())
    return Served(item_ids=item_ids, user_ids=user_ids, **served)  # type: ignore[arg-type]


def _check_tensors(tensors: Mapping[str, Tensor], model: Recommender, lexicon: Lexicon, where: str) -> None:
    """All that the model of the card reads is there, in its precision and shape. Raises ArtifactError naming one."""
    due: dict[str, tuple[torch.dtype, tuple[int, ...] | None]] = {
        f"weights.{k}": (v.dtype, tuple(v.shape)) for k, v in model.state_dict().items()
    }
    kind = next(model.parameters()).dtype
    due |= {f"items.near.{source}": (kind, None) for source in lexicon.similar}
    due |= {f"items.fields.{k}": (torch.int64, None) for k in lexicon.item_fields}
    if model.item.adapter is not None:
        due |= {"items.adapted": (kind, None), "items.text": (torch.bool, None)}
    for name, (dtype, shape) in due.items():
        found = tensors.get(name)
        if found is None or found.dtype != dtype or shape not in (None, tuple(found.shape)):
            has = "is missing" if found is None else f"is {found.dtype} {list(found.shape)}"
            wants = f"{dtype} {list(shape)}" if shape is not None else str(dtype)
            raise ArtifactError(f"{where}/{WEIGHTS}: tensor {name} {has}, {CARD} says {wants}; export again")


def _users(path: Path, default: Tensor) -> dict[str, Any]:
    """Ids and adapted vectors of the users, read group by group into one matrix."""
    ids: list[pa.ChunkedArray] = []
    with pq.ParquetFile(path) as file:
        known = torch.empty(file.metadata.num_rows + 1, len(default), dtype=default.dtype)
        known[0], at = default, 1
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, ["user_id", "vector", "norm"])
            flat = rows["vector"].combine_chunks().flatten().to_numpy()
            vectors = torch.from_numpy(np.array(flat).reshape(len(rows), len(default))).to(default.dtype)
            norm = torch.from_numpy(np.array(rows["norm"].to_numpy())).to(default.dtype)
            known[at : at + len(rows)] = vectors * norm.unsqueeze(1)
            ids.append(rows["user_id"])
            at += len(rows)
    chunks = [chunk for column in ids for chunk in column.chunks]
    return {"known_ids": pa.chunked_array(chunks, pa.string()), "known": known}


def _digest(path: Path) -> str:
    """Of a file of any size, memory-mapped."""
    if not path.stat().st_size:
        return digest_bytes(b"")
    with pa.memory_map(str(path)) as file:
        return digest_bytes(file.read_buffer())
