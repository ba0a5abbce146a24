"""A trained model as files: model.safetensors and model.json, which load without the recipe and without pickle.

model.safetensors   weights.*, the lexicon's arrays, and the item catalogue (codes of fields, frozen vectors)
model.json          format, version, sizes, config, vocabularies, fingerprints of the inputs, digests
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from trawl.config import Config
from trawl.digests import digest_bytes, digest_json
from trawl.errors import ArtifactError, ConfigError
from trawl.model import uses
from trawl.model.keys import keys
from trawl.model.lexicon import Array, Lexicon
from trawl.model.recommender import Recommender

FORMAT, VERSION = "trawl-model", 1
WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Raw ids, and the items as the model reads them."""

    users: list[str]  # raw ids of the vocabulary, in order of its rows
    items: list[str]  # raw ids of all items, in order of the index
    codes: Mapping[str, Tensor]  # field -> (n + 1, m)
    vectors: Tensor | None = None  # (n + 1, d) float16, not standardised
    text: Tensor | None = None  # (n + 1,) bool


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


def write(bundle: Bundle, folder: Path) -> None:
    """Write both files."""
    data = packed(_tensors(bundle))
    (folder / WEIGHTS).write_bytes(data)
    card = card_of(bundle) | {"format": FORMAT, "version": VERSION, "tensors": digest_bytes(data)}
    card["vocabularies"] |= {"users": bundle.catalogue.users, "items": bundle.catalogue.items}
    (folder / CARD).write_bytes(sealed(card))


def card_of(bundle: Bundle) -> dict[str, Any]:
    """What the model is, as plain data: config, sizes, vocabularies of field values, fingerprints of its inputs."""
    lexicon, cfg = bundle.lexicon, bundle.cfg
    return {
        "config": {key: cfg.get(key) for key in sorted(keys(cfg))},
        "knowledge": uses.knowledge(cfg),
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
        return parse((folder / CARD).read_bytes(), (folder / WEIGHTS).read_bytes(), str(folder))
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: missing; copy the whole model folder or train again") from None


def parse(card_bytes: bytes, data: bytes, where: str) -> Bundle:
    """The bundle of two files' bytes. Raises ArtifactError as `read` does."""
    card = unsealed(card_bytes, f"{where}/{CARD}", FORMAT, VERSION)
    tensors, cfg = tensors_of(data, card, where), config_of(card, where)
    vocabularies = card["vocabularies"]
    lexicon = lexicon_of(card, tensors, tensors["lexicon.users"].numpy())
    catalogue = Catalogue(
        users=vocabularies["users"],
        items=vocabularies["items"],
        codes={k: tensors[f"items.fields.{k}"] for k in lexicon.item_fields},
        vectors=tensors.get("items.vectors"),
        text=tensors.get("items.text"),
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
        cfg = Config().override(*card["config"].items())
        return cfg.override(("extraction.source", "extracted" if card["knowledge"] else "none"))
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
    lexicon, catalogue = bundle.lexicon, bundle.catalogue
    out = {f"weights.{k}": v for k, v in bundle.weights.items()}
    out |= {f"items.fields.{k}": v for k, v in catalogue.codes.items()}
    arrays = {"users": lexicon.users, "items": lexicon.items}
    arrays |= {f"centre.{side}": centre for side, centre in lexicon.centre.items()}
    if lexicon.axes is not None:
        arrays |= {"mean": lexicon.axes[0], "axes": lexicon.axes[1]}
    out |= {f"lexicon.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    if catalogue.vectors is not None and catalogue.text is not None:
        out |= {"items.vectors": catalogue.vectors, "items.text": catalogue.text}
    return out


def lexicon_of(card: Mapping[str, Any], tensors: Mapping[str, Tensor], users: Array) -> Lexicon:
    """`users`: indexes of the user vocabulary."""
    words = card["vocabularies"]
    axes = (tensors["lexicon.mean"].numpy(), tensors["lexicon.axes"].numpy()) if "lexicon.axes" in tensors else None
    return Lexicon(
        user_fields=words["user_fields"],
        item_fields=words["item_fields"],
        levels=words["levels"],
        users=users,
        items=tensors["lexicon.items"].numpy(),
        centre={s: tensors[f"lexicon.centre.{s}"].numpy() for s in uses.SIDES if f"lexicon.centre.{s}" in tensors},
        scale=card["scale"],
        axes=axes,
    )
