"""Models with weights, by a folder or by a name on the Hugging Face hub: what they are and where their files lie.

A model counts by its content: a folder by the digests of its weight, tokenizer and config files, a name on the hub by
the commit that the revision stands for. Nothing is loaded here, and nothing of a model is ever executed.
"""

import os
from functools import cache
from pathlib import Path

from trawl.environment import file_digest
from trawl.errors import ConfigError
from trawl.store import digest_json

_COUNTS = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
_BESIDE = ("README", "LICENSE", "data_config", "train_script")  # what lies in such folders and changes no vector


def identity(key: str, model: str, revision: str = "") -> str:
    """Digest of a model folder, or name@commit. `key` is the recipe's key, for errors.

    Raises ConfigError when nothing is named, the folder holds no model, or the hub does not know the name.
    """
    if not model:
        raise ConfigError(f"{key} is needed: a folder with a model, or a name on the Hugging Face hub")
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _folder_digest(key, folder)
    return f"{model}@{_commit(key, model, revision)}"


def located(key: str, model: str, revision: str = "") -> tuple[str, str | None]:
    """What to hand to `from_pretrained`: (folder, None) or (name, commit). Raises ConfigError as `identity` does."""
    found = identity(key, model, revision)
    folder = Path(model).expanduser()
    return (str(folder), None) if folder.is_dir() else (model, found.rpartition("@")[2])


def _folder_digest(key: str, folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.suffix in _COUNTS and not p.name.startswith(_BESIDE))
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{key} = {folder}: no model in this folder (config.json is missing)")
    if not any(p.suffix == ".safetensors" for p in files):
        raise ConfigError(
            f"{key} = {folder}: no weights as safetensors there; other formats may run code and are refused"
        )
    return digest_json([[p.name, file_digest(p)] for p in files])


@cache
def _commit(key: str, name: str, revision: str) -> str:
    """The commit that a revision of a hub model stands for: from the local cache when offline, else from the hub."""
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ConfigError(f"{key} = {name!r}: no such folder")
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if not os.environ.get("HF_HUB_OFFLINE"):
        try:
            return str(HfApi().model_info(name, revision=revision or None, timeout=20).sha)
        except HFValidationError:
            raise ConfigError(f"{key} = {name!r}: neither a folder nor a name on the Hugging Face hub") from None
        except Exception as error:  # of the hub or of its client: no network, no name server, a proxy, no such name
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    else:
        reason = "HF_HUB_OFFLINE is set"
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return Path(cached).parent.name  # .../snapshots/<commit>/config.json
    raise ConfigError(
        f"{key} = {name!r}: no such folder, and not to be had from the hub ({reason}); give a folder with the model"
    )
