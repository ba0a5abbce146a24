"""vLLM for real with what a recipe may ask of it, and engines that cannot start: each is one line and no hang."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from extraction_world import ALL, TEXTS, base, config, with_knowledge
from tiny_model import ANSWER, make_tiny_qwen2

from trawl.config import Config
from trawl.errors import ConfigError, EngineDied
from trawl.executors import OnRay
from trawl.extraction.key_factors import load_factors
from trawl.extraction.stage import STAGES
from trawl.inputs import Inputs
from trawl.stage import run_stage
from trawl.store import Store

World = tuple[Store, Mapping[str, str], Config]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_qwen2(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny: Path, ray_cluster: None) -> World:
    store = Store(str(tmp_path_factory.mktemp("store")))
    settings = {"engine": "vllm", "model": str(tiny), "max_prompt_tokens": 2048, "max_answer_tokens": 16}
    cfg = config(**settings).override("resources.engine_rows=4")
    return store, with_knowledge(store, base(store), TEXTS), cfg


def answers(world: World, *settings: str | tuple[str, Any]) -> list[dict[str, Any]]:
    """The item answers under these settings, of items that have a text."""
    store, marks, cfg = world
    cfg, known = cfg.override(*settings), dict(marks)
    for stage in STAGES:
        if stage.artifact in ALL[:3]:
            known[stage.artifact] = run_stage(stage, cfg, store, known, OnRay(cfg)).fingerprint
    rows: list[dict[str, Any]] = Inputs(store, known).table("item_answers").to_pylist()
    return [row for row in rows if row["digest"]]


def adapter(folder: Path) -> Path:
    """A LoRA adapter whose weights are noise: the model says something else."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_{}.weight"
    folder.mkdir()
    save_file(
        {name.format("A"): torch.randn(8, 128), name.format("B"): torch.randn(128, 8)},
        folder / "adapter_model.safetensors",
    )
    about = {"peft_type": "LORA", "r": 8, "lora_alpha": 64, "target_modules": ["down_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return folder


def test_json_with_engine_arguments_becomes_lines(world: World) -> None:
    """A model that was never taught JSON is held to it; what it says within is noise, and is cut before it repeats."""
    options = ("extraction.engine_arguments={max_num_seqs = 3, enable_prefix_caching = false}",)
    rows = answers(world, *options, "extraction.output=json", "extraction.max_answer_tokens=24")
    names = {factor.name for factor in load_factors("movies")}
    assert {row["status"] for row in rows} == {"truncated"}
    assert {line.partition(": ")[0] for row in rows for line in row["text"].split("\n")} <= names
    assert not any("{" in row["text"][:20] for row in rows)


def test_an_adapter_changes_what_is_said(world: World, tmp_path: Path) -> None:
    rows = answers(world, f"extraction.lora={adapter(tmp_path / 'lora')}")
    assert {row["status"] for row in rows} <= {"ok", "truncated", "empty", "repetitive"}
    assert {row["text"] for row in rows} != {ANSWER}


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (
            ("resources.cpu_cache_gib=5000",),
            EngineDied,
            r"did not start: .*5000.*GiB.*resources\.cpu_cache_gib \(5000\)",
        ),
        (
            ("resources.engine_start_seconds=1",),
            EngineDied,
            r"not started after 1 s \(resources\.engine_start_seconds\)",
        ),
        (
            ("extraction.engine_arguments={kv_cache_dtype = 'int5'}",),
            ConfigError,
            r"vllm refuses its arguments: .*cache_dtype.*extraction\.engine_arguments",
        ),
        (
            ("extraction.engine_arguments={max_num_sequences = 5}",),
            ConfigError,
            r"extraction\.engine_arguments\.max_num_sequences: no such argument of vLLM; did you mean max_num_seqs\?",
        ),
    ],
)
def test_an_engine_that_cannot_start_is_one_line(
    world: World, settings: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        answers(world, *settings, "extraction.max_answer_tokens=24")
    assert "\n" not in str(caught.value)


def test_a_cache_too_small_for_one_prompt_is_one_line(world: World, tmp_path: Path) -> None:
    """Three million tokens of this model need more than the gibibyte that a cache has at least."""
    long = make_tiny_qwen2(tmp_path / "long", layers=2)
    about = json.loads((long / "config.json").read_text())
    (long / "config.json").write_text(json.dumps(about | {"max_position_embeddings": 4_000_000}))
    words = r"did not start: .*max seq len.*KV cache is needed.*cpu_cache_gib \(1\).*max_prompt_tokens \(3000000\)"
    with pytest.raises(EngineDied, match=words):
        answers(world, f"extraction.model={long}", "extraction.max_prompt_tokens=3000000")
