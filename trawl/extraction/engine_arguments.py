"""vLLM's own arguments in a recipe: `[extraction.engine_arguments]` goes to the engine as it stands.

Names are compared with those that vLLM knows before anything is started. What trawl sets by keys of its own is refused
with the key's name, and so is what would run code that comes with a model.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from trawl.errors import ConfigError

KEY = "extraction.engine_arguments"
_MODEL = "extraction.model"
_OURS = {
    "model": _MODEL,
    "model_weights": _MODEL,
    "tokenizer": _MODEL,
    "hf_config_path": _MODEL,
    "served_model_name": _MODEL,
    "revision": "extraction.revision",
    "tokenizer_revision": "extraction.revision",
    "code_revision": "extraction.revision",
    "dtype": "extraction.dtype",
    "max_model_len": "extraction.max_prompt_tokens",
    "enable_lora": "extraction.lora",
    "structured_outputs_config": "extraction.output",
    "tensor_parallel_size": "resources.tensor_parallel",
    "pipeline_parallel_size": "resources.pipeline_parallel",
    "gpu_memory_utilization": "resources.gpu_memory",
}
_FIXED = {
    "seed": "answers are greedy",
    "runner": "a model is asked for text",
    "convert": "a model is asked for text",
    "task_type": "a model is asked for text",
    "skip_tokenizer_init": "answers are text",
    "disable_log_stats": "trawl has counts of its own",
    "enable_log_requests": "prompts do not belong in logs",
    "worker_extension_cls": "it ends the engine's processes with their actor",
    "trust_remote_code": "it would run code that comes with a model",
}
_FORMATS = (
    "safetensors",
    "fastsafetensors",
    "runai_streamer",
    "runai_streamer_sharded",
    "sharded_state",
    "bitsandbytes",
    "gguf",
    "mistral",
)


def check_own(arguments: Mapping[str, Any]) -> None:
    """Raises ConfigError for an argument that is not the recipe's to set."""
    for name in arguments:
        if name in _OURS:
            raise ConfigError(f"{KEY}.{name}: trawl sets it; use {_OURS[name]}")
        if name in _FIXED:
            raise ConfigError(f"{KEY}.{name}: refused: {_FIXED[name]}; leave it out")
    loads = arguments.get("load_format", _FORMATS[0])
    if loads not in _FORMATS:
        raise ConfigError(
            f"{KEY}.load_format = {loads!r}: refused, such files may run code when they are read; one of "
            f"{', '.join(_FORMATS)}"
        )


def check_names(arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ConfigError for a name that vLLM does not know, with the nearest one that it knows."""
    for name in arguments:
        if name not in known:
            open_to_all = [k for k in known if k not in _OURS and k not in _FIXED and not k.startswith("_")]
            close = difflib.get_close_matches(name, open_to_all, n=1)
            near = f"did you mean {close[0]}?" if close else "vLLM's manual lists its engine arguments"
            raise ConfigError(f"{KEY}.{name}: no such argument of vLLM; {near}")
