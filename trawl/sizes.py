"""What a model's files say of its size; the weights are not read, only the heads of the files."""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from trawl import weights

_LONGEST = 100 << 20  # bytes of the head of a safetensors file, as the format's own library allows


@dataclass(frozen=True)
class Size:
    """A model in numbers. `cache_bytes`: of the keys and values of one token; `hidden`: the width of its vectors."""

    parameters: int
    bytes: int
    cache_bytes: int
    hidden: int


def folder_of(key: str, model: str, revision: str) -> Path | None:
    """Where a model's files lie on this machine; None for a hub's model that is not here yet. Raises ConfigError."""
    name, commit = weights.located(key, model, revision)
    if commit is None:
        return Path(name)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=commit)
    return Path(found).parent if isinstance(found, str) else None


def size_of(folder: Path) -> Size:
    """Raises ValueError, OSError where a file is missing, cut short or not what it should be."""
    count = total = 0
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        if missing := sorted(name for name in named if not (folder / name).is_file()):
            raise ValueError(f"{len(missing)} of {len(named)} files of weights are missing, {missing[0]} first")
    for path in sorted(folder.glob("*.safetensors")):
        for tensor in head(path).values():
            if isinstance(tensor, dict) and "shape" in tensor:
                count += prod(tensor["shape"])
        total += path.stat().st_size
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= config.get("text_config") or {}
    hidden, layers = int(config.get("hidden_size", 0)), int(config.get("num_hidden_layers", 0))
    heads = int(config.get("num_attention_heads") or 1)
    kv_heads = int(config.get("num_key_value_heads") or heads)
    width = int(config.get("head_dim") or hidden // heads)
    wide = 4 if str(config.get("dtype") or config.get("torch_dtype")) == "float32" else 2
    return Size(count, total, 2 * layers * kv_heads * width * wide, hidden)


def head(path: Path) -> dict[str, Any]:
    """The head of a safetensors file: name -> type, shape, place. Raises ValueError when the file is cut short."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= _LONGEST:
            raise ValueError(f"{path.name}: no head of a safetensors file")
        out: dict[str, Any] = json.loads(file.read(length))
    ends = [t["data_offsets"][1] for t in out.values() if isinstance(t, dict) and "data_offsets" in t]
    if path.stat().st_size != 8 + length + max(ends, default=0):
        raise ValueError(
            f"{path.name}: {path.stat().st_size:,} bytes where its head tells of {8 + length + max(ends, default=0):,}"
        )
    return out
