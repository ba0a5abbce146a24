"""A trained model as files, which load without the recipe and without pickle.

model.safetensors   weights.*, the lexicon's arrays, and the item catalogue (codes of fields, frozen vectors)
model.json          format, version, sizes, config, vocabularies of field values, fingerprints of the inputs, digests
items.parquet       item_id in order of the index 1..n
users.parquet       user_id in order of the model's vocabulary rows 1..m

Raw ids stand in Parquet, so that neither writing nor reading them makes an object per user.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from trawl import uses
from trawl.config import Config
from trawl.digests import digest_bytes, digest_json
from trawl.errors import ArtifactError, ConfigError
from trawl.model.keys import OFF, keys
from trawl.model.lexicon import Array, Knowledge, Lexicon
from trawl.model.recommender import Recommender

FORMAT, VERSION = "trawl-model", 2
WEIGHTS, CARD, ITEMS, USERS = "model.safetensors", "model.json", "items.parquet", "users.parquet"


def no_ids() -> pa.ChunkedArray:
    """What stands for raw ids that were not read."""
    return pa.chunked_array([], pa.string())


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Raw ids, and the items as the model reads them."""

    users: pa.ChunkedArray = field(default_factory=no_ids)  # raw ids of the vocabulary, in order of its rows
    items: pa.ChunkedArray = field(default_factory=no_ids)  # raw ids of all items, in order of the index
    codes: Mapping[str, Tensor]  # field -> (n + 1, m)
    knowledge: Mapping[uses.Matrix, Knowledge] = field(default_factory=dict)  # of items, not standardised


@dataclass(frozen=True, kw_only=True)
class Bundle:
    cfg: Config
    lexicon: Lexicon
    weights: Mapping[str, Tensor]
    catalogue: Catalogue
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def model(self) -> Recommender:
        """The recommender with its trained weights, ready to score."""
        model = Recommender(self.lexicon.sizes(), self.cfg).to(precision(self.cfg))
        model.load_state_dict(dict(self.weights))
        return model.eval()


def precision(cfg: Config) -> torch.dtype:
    """Of all parameters and dense features."""
    return torch.float64 if cfg.training.precision == "float64" else torch.float32


def catalogued(cfg: Config) -> tuple[uses.Matrix, ...]:
    """The frozen matrices of items that a model scores with; what ID embeddings started from is none of them."""
    read = {*(uses.sources(cfg, "item") if uses.adapts(cfg, "item") else ()), *uses.axes(cfg)}
    return tuple(matrix for matrix in uses.MATRICES if matrix in read)


def write(bundle: Bundle, folder: Path) -> None:
    """Write the files."""
    data, catalogue = packed(_tensors(bundle)), bundle.catalogue
    (folder / WEIGHTS).write_bytes(data)
    files = {}
    for name, column, ids in ((ITEMS, "item_id", catalogue.items), (USERS, "user_id", catalogue.users)):
        write_ids(folder / name, column, ids)
        files[name] = digest_bytes((folder / name).read_bytes())
    card = {"format": FORMAT, "version": VERSION, "tensors": digest_bytes(data), "files": files}
    (folder / CARD).write_bytes(sealed(card_of(bundle) | card))


def write_ids(path: Path, name: str, ids: pa.ChunkedArray) -> None:
    """Raw ids as a Parquet file of one column."""
    pq.write_table(pa.table({name: ids.cast(pa.string())}), path)


def card_of(bundle: Bundle) -> dict[str, Any]:
    """What the model is, as plain data: config, sizes, vocabularies of field values, fingerprints of its inputs."""
    lexicon, cfg = bundle.lexicon, bundle.cfg
    return {
        "config": {key: cfg.get(key) for key in sorted(keys(cfg))},
        "texts": uses.texts(cfg),
        "sizes": lexicon.sizes().plain(),
        "vocabularies": {
            "user_fields": lexicon.user_fields,
            "item_fields": lexicon.item_fields,
            "levels": lexicon.levels,
        },
        "scale": dict(lexicon.scale),
        "fingerprints": dict(bundle.fingerprints),
    }


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file's bytes."""
    data: bytes = pack_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    return data


def sealed(card: Mapping[str, Any]) -> bytes:
    """A card's file, with its own digest."""
    whole = dict(card) | {"digest": digest_json(dict(card))}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False).encode()


def read(folder: Path) -> Bundle:
    """Raises ArtifactError, naming the file, for one that is missing, altered or of another version."""
    try:
        return parse(lambda name: (folder / name).read_bytes(), str(folder))
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: missing; copy the whole model folder or train again") from None


def parse(open_file: Callable[[str], "bytes | pa.Buffer"], where: str, ids: bool = True) -> Bundle:
    """The bundle of the files' bytes by name; without `ids`, raw ids are not read. Raises ArtifactError as `read`."""
    card = unsealed(bytes(open_file(CARD)), f"{where}/{CARD}", FORMAT, VERSION)
    tensors, cfg = tensors_of(bytes(open_file(WEIGHTS)), card, where), config_of(card, where)
    lexicon = lexicon_of(card, cfg, tensors, tensors["lexicon.users"].numpy())
    found = {}
    for side, name in (("items", ITEMS), ("users", USERS)) if ids else ():
        data = open_file(name)
        if digest_bytes(data) != card["files"][name]:
            raise ArtifactError(
                f"{where}/{name}: is not the file that {CARD} was written for; take both from one model"
            )
        found[side] = pq.read_table(pa.BufferReader(data)).column(0)
    catalogue = Catalogue(
        codes={k: tensors[f"items.fields.{k}"] for k in lexicon.item_fields},
        knowledge={
            m: Knowledge(matrix=tensors[f"items.vectors.{m}"].numpy(), text=tensors[f"items.text.{m}"].numpy())
            for m in catalogued(cfg)
        },
        **found,
    )
    weights = {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}
    return Bundle(cfg=cfg, lexicon=lexicon, weights=weights, catalogue=catalogue, fingerprints=card["fingerprints"])


def tensors_of(data: bytes, card: Mapping[str, Any], where: str) -> dict[str, Tensor]:
    """The tensors of the file that the card was written for. Raises ArtifactError for any other."""
    if digest_bytes(data) != card["tensors"]:
        raise ArtifactError(f"{where}/{WEIGHTS}: is not the file that {CARD} was written for; take both from one model")
    tensors: dict[str, Tensor] = parse_tensors(data)
    return tensors


def config_of(card: Mapping[str, Any], where: str) -> Config:
    """The recipe as far as the model depends on it. Raises ArtifactError for keys of another trawl."""
    try:
        cfg = Config().override(*OFF.items(), *card["config"].items())
        return cfg.override(("extraction.source", "extracted" if card["texts"] else "none"))
    except ConfigError as error:
        raise ArtifactError(f"{where}/{CARD}: {error}; load it with the trawl that wrote it") from None


def unsealed(data: bytes, where: str, kind: str, version: int) -> dict[str, Any]:
    """The card of a file's bytes. Raises ArtifactError for none, an altered one, another format or version."""
    try:
        card: dict[str, Any] = json.loads(data)
        found = (card["format"], card["version"])
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{where}: is no model card; point to a folder that the model stage filled") from None
    if found != (kind, version):
        raise ArtifactError(
            f"{where}: is {found[0]} version {found[1]}, this trawl reads {kind} version {version} here; "
            "use the trawl that wrote it or train again"
        )
    digest = card.pop("digest", None)
    if digest != digest_json(card):
        raise ArtifactError(f"{where}: altered since it was written; copy the model again")
    return card


def _tensors(bundle: Bundle) -> dict[str, Tensor]:
    out = {f"weights.{k}": v for k, v in bundle.weights.items()}
    out |= {f"items.fields.{k}": v for k, v in bundle.catalogue.codes.items()}
    arrays = {"users": bundle.lexicon.users, **lexicon_arrays(bundle.lexicon)}
    out |= {f"lexicon.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    for matrix, known in bundle.catalogue.knowledge.items():
        out[f"items.vectors.{matrix}"] = torch.from_numpy(np.array(known.matrix))
        out[f"items.text.{matrix}"] = torch.from_numpy(np.array(known.text))
    return out


def lexicon_arrays(lexicon: Lexicon) -> dict[str, Array]:
    """The arrays of a lexicon by name, but for the users' vocabulary."""
    arrays: dict[str, Array] = {"items": lexicon.items}
    arrays |= {f"centre.{m}": centre for m, centre in lexicon.centre.items()}
    arrays |= {f"reduced.{m}": axes for m, axes in lexicon.reduced.items()}
    for matrix, (mean, axes) in lexicon.axes.items():
        arrays |= {f"mean.{matrix}": mean, f"axes.{matrix}": axes}
    return arrays if lexicon.factors is None else arrays | {"factors": lexicon.factors}


def lexicon_of(card: Mapping[str, Any], cfg: Config, tensors: Mapping[str, Tensor], users: Array) -> Lexicon:
    """`users`: indexes of the user vocabulary."""
    words = card["vocabularies"]

    def arrays(kind: str) -> dict[uses.Matrix, Array]:
        return {m: tensors[f"lexicon.{kind}.{m}"].numpy() for m in uses.MATRICES if f"lexicon.{kind}.{m}" in tensors}

    means = arrays("mean")
    return Lexicon(
        user_fields=words["user_fields"],
        item_fields=words["item_fields"],
        levels=words["levels"],
        numeric=cfg.model.numeric_fields,
        users=users,
        items=tensors["lexicon.items"].numpy(),
        sources={side: uses.sources(cfg, side) for side in uses.SIDES if uses.adapts(cfg, side)},
        centre=arrays("centre"),
        scale=card["scale"],
        reduced=arrays("reduced"),
        similar=uses.similar(cfg),
        genres=cfg.model.similarity_field,
        axes={matrix: (means[matrix], axes) for matrix, axes in arrays("axes").items()},
        factors=tensors["lexicon.factors"].numpy() if "lexicon.factors" in tensors else None,
    )
