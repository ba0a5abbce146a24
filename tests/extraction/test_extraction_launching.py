"""What is said before an engine starts, and what is said when it does not start."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from extraction_world import config

from trawl.config import Config
from trawl.errors import ConfigError, EngineDied
from trawl.extraction import starting
from trawl.extraction.engine_arguments import check_names, check_own
from trawl.extraction.engines import models_of
from trawl.extraction.engines.vllm import VllmEngine
from trawl.extraction.launching import engine_arguments
from trawl.extraction.starting import Failures, Start, explained
from trawl.store import Store

START = Start(60, "look at resources.cpu_cache_gib (100), extraction.max_prompt_tokens (4096)")
KNOWN = ("quantization", "kv_cache_dtype", "max_num_seqs", "max_loras", "trust_remote_code", "_api_process_rank")
# What vLLM's processes leave in their log on this CPU when the cache is larger than memory, and too small for a prompt.
TOO_LARGE = """EngineCore failed to start.
Traceback (most recent call last):
  File "cpu_worker.py", line 212, in determine_available_memory
    raise ValueError(
ValueError: Available memory on node 0 (20.24/21.84 GiB) on kv cache allocation is less than requested memory for kv.
RuntimeError: Worker failed with error 'Available memory', please check the stack trace above for the root cause
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dtype", r"trawl sets it; use extraction\.dtype"),
        ("max_model_len", r"use extraction\.max_prompt_tokens"),
        ("gpu_memory_utilization", r"use resources\.gpu_memory"),
        ("trust_remote_code", "refused: it would run code"),
        ("worker_extension_cls", "refused: "),
        ("seed", "refused: answers are greedy"),
    ],
)
def test_what_trawl_sets_is_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"extraction\.engine_arguments\.{name}: .*{words}"):
        check_own({"max_num_seqs": 4, name: 1})


def test_it_is_refused_before_anything_is_counted(tmp_path: Path) -> None:
    cfg = model(tmp_path).override("extraction.engine_arguments={tokenizer = 'x'}")
    with pytest.raises(ConfigError, match=r"engine_arguments\.tokenizer: trawl sets it; use extraction\.model"):
        VllmEngine(cfg.extraction)


def test_a_format_that_may_run_code_is_refused() -> None:
    check_own({"load_format": "bitsandbytes", "quantization": "bitsandbytes"})
    with pytest.raises(ConfigError, match=r"load_format = 'pt': refused, .* safetensors"):
        check_own({"load_format": "pt"})


def test_an_unknown_argument_is_named_with_its_neighbour() -> None:
    check_names({"kv_cache_dtype": "fp8"}, KNOWN)
    with pytest.raises(ConfigError, match=r"engine_arguments\.max_num_seq: .* did you mean max_num_seqs\?"):
        check_names({"max_num_seq": 8}, KNOWN)
    with pytest.raises(ConfigError, match=r"trust_remote_cod: no such argument of vLLM; vLLM's manual"):
        check_names({"trust_remote_cod": 1}, KNOWN)  # never a hint to what is refused


def test_arguments_are_given_in_a_recipe_or_one_by_one() -> None:
    cfg = Config().override("extraction.engine_arguments={kv_cache_dtype = 'fp8'}")
    cfg = cfg.override("extraction.engine_arguments.max_num_seqs=8")
    assert cfg.extraction.engine_arguments == {"kv_cache_dtype": "fp8", "max_num_seqs": 8}


def model(folder: Path, **lora: Any) -> Config:
    """A folder that looks like a model, and one that looks like an adapter of it."""
    for name, files in {"model": {"config.json": {"model_type": "qwen2", "dtype": "bfloat16"}}, "lora": lora}.items():
        (folder / name).mkdir()
        (folder / name / "w.safetensors").write_bytes(name.encode())
        for file, tree in files.items():
            (folder / name / file.replace("_json", ".json")).write_text(json.dumps(tree))
    return config(engine="vllm", model=str(folder / "model"), **({"lora": str(folder / "lora")} if lora else {}))


def test_the_recipes_arguments_go_over_defaults_and_under_what_trawl_sets(tmp_path: Path) -> None:
    cfg = model(tmp_path).override("extraction.engine_arguments={max_num_seqs = 3, kv_cache_dtype = 'fp8'}")
    out = engine_arguments(cfg, on_gpu=False)
    assert (out["max_num_seqs"], out["kv_cache_dtype"], out["dtype"]) == (3, "fp8", "bfloat16")
    assert "enable_lora" not in out
    assert "structured_outputs_config" not in out
    assert engine_arguments(cfg, on_gpu=True)["gpu_memory_utilization"] == 0.9
    held = engine_arguments(cfg.override("extraction.output=json"), on_gpu=True)
    assert held["structured_outputs_config"]["backend"] == "xgrammar"


def test_an_adapter_gets_room_for_its_rank_and_counts_by_its_content(tmp_path: Path) -> None:
    cfg = model(tmp_path, adapter_config_json={"r": 24})
    out = engine_arguments(cfg, on_gpu=True)
    assert (out["enable_lora"], out["max_lora_rank"]) == (True, 32)
    before = models_of(cfg.extraction)["extraction.lora"]
    (tmp_path / "lora" / "w.safetensors").write_bytes(b"other")
    assert models_of(cfg.extraction)["extraction.lora"] != before


@pytest.mark.parametrize(("adapter", "words"), [({"r": 999}, "rank 999; vLLM takes"), ({}, "names no rank")])
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, adapter: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        engine_arguments(model(tmp_path, adapter_config_json=adapter), on_gpu=True)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path) -> None:
    cfg = model(tmp_path)
    with pytest.raises(ConfigError, match=r"extraction\.lora = .*adapter_config\.json is missing"):
        models_of(cfg.override(f"extraction.lora={tmp_path / 'model'}").extraction)


def test_too_little_memory_names_the_keys() -> None:
    error = explained(RuntimeError("Engine core initialization failed. Failed core proc(s): {}"), TOO_LARGE, START)
    assert isinstance(error, EngineDied)
    assert "\n" not in str(error)
    assert "ValueError: Available memory on node 0 (20.24/21.84 GiB)" in str(error)
    assert str(error).endswith(START.memory)


def test_a_process_that_the_system_killed_names_the_keys_too() -> None:
    error = explained(RuntimeError("Failed core proc(s): {'EngineCore': -9}"), "", START)
    assert str(error).endswith(START.memory)


def test_an_argument_that_vllm_refuses_was_asked_wrongly() -> None:
    error = explained(
        ValueError("1 validation error for CacheConfig\ncache_dtype\n  Input should be 'auto'"), "", START
    )
    assert isinstance(error, ConfigError)
    assert "cache_dtype Input should be 'auto'; see extraction.engine_arguments" in str(error)


def test_anything_else_is_an_engine_that_did_not_start() -> None:
    error = explained(RuntimeError("Failed"), "OSError: libfoo.so: no such file\n", START)
    assert str(error).startswith("vllm: the engine did not start: OSError: libfoo.so")


def test_a_failure_reaches_the_driver_by_the_store(tmp_path: Path) -> None:
    failures = Failures(Store(str(tmp_path)), ("item_answers", "f", "_attempts"))
    assert failures.found() is None
    with pytest.raises(ConfigError), starting.starting(failures, START):
        assert Path(os.environ["VLLM_LOGGING_CONFIG_PATH"]).is_file()
        raise ValueError("no such dtype")
    assert "VLLM_LOGGING_CONFIG_PATH" not in os.environ
    found = failures.found()
    assert isinstance(found, ConfigError)
    assert "no such dtype" in str(found)


def test_a_start_that_takes_too_long_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures, ended = Failures(Store(str(tmp_path)), ("_attempts",)), threading.Event()
    monkeypatch.setattr(starting.os, "_exit", lambda code: ended.set())
    with starting.starting(failures, Start(0.05, START.memory)):
        assert ended.wait(30)
    assert "had not started after 0.05 s (resources.engine_start_seconds)" in str(failures.found())
    assert START.memory in str(failures.found())


def test_a_start_in_time_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting.os, "_exit", lambda code: pytest.fail("ended"))
    failures = Failures(Store(str(tmp_path)), ("_attempts",))
    with starting.starting(failures, Start(0.2, "")):
        pass
    time.sleep(0.4)
    assert failures.found() is None
