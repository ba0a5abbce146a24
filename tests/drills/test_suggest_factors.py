"""`trawl suggest-factors` with a real engine: vLLM through Ray Data, on the tiny model."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))

from tiny_model import ANSWER, make_tiny_qwen2

from trawl import cli
from trawl.extraction.key_factors import load_factors

pytestmark = pytest.mark.slow
SIZE = ("data.synthetic.users=20", "data.synthetic.items=30", "data.synthetic.distractors=20", "data.partitions=2")


def test_a_real_model_drafts_factors(tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_qwen2(tmp_path / "model")
    keys = ("engine=vllm", f"model={model}", "max_prompt_tokens=4096")
    settings = [f"--set={s}" for s in (*SIZE, *(f"extraction.{key}" for key in keys))]
    out, store = tmp_path / "draft.toml", tmp_path / "store"
    code = cli.main(["suggest-factors", "demo", "--store", str(store), "--out", str(out), "--items", "4", *settings])
    said = capsys.readouterr().err
    assert code == 0, said
    assert "draft.toml: 1, from" in said
    (factor,) = load_factors(str(out))
    assert f"{factor.name}: {factor.question}" == ANSWER
    assert not (store / "suggestions").exists() or not any((store / "suggestions").iterdir())
