"""A plan against the run it was made for, with vLLM and the tiny model: prompts, tokens and, by a probe, seconds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import small

from trawl import cli
from trawl.doctor import front
from trawl.doctor.findings import Patient
from trawl.inputs import Inputs
from trawl.runs import Run
from trawl.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "extraction"))
from tiny_model import ANSWER, make_tiny_qwen2

SETTINGS = (
    *(s for s in small.SETTINGS if not s.startswith("name=")),
    "data.synthetic.users=800",
    "data.synthetic.items=700",
    "extraction.user_items=2",
    "resources.executor=ray",
    "extraction.engine=vllm",
    "extraction.max_prompt_tokens=2048",
    "extraction.max_answer_tokens=64",
    "extraction.failures=[]",
    "plan.sample_users=300",
    "plan.sample_items=300",
    "plan.probe_prompts=256",
)
SIDES = ("item", "user")


@pytest.fixture
def both(tmp_path: Path) -> dict[str, Any]:
    """A plan with a probe, its store after it, and what the run then used. The model rambles to the limit."""
    folder = tmp_path
    model = make_tiny_qwen2(folder / "model", answer="")
    (folder / "empty.toml").touch()
    store = str(folder / "store")
    words = [w for s in (*SETTINGS, f"extraction.model={model}") for w in ("--set", s)]
    with pytest.MonkeyPatch.context() as patch:
        out: list[str] = []
        patch.setattr("builtins.print", lambda *a, file=None, **k: out.append(str(a[0])) if file is None else None)
        assert cli.main(["plan", str(folder / "empty.toml"), "--store", store, "--probe", "--json", *words]) == 0
    planned = json.loads(out[-1])
    left = Store(store).names()
    run = ["run", str(folder / "empty.toml"), "--store", store, "--name", "r", "--until", "extraction", *words]
    assert cli.main(run) == 0
    marks = Run(Store(store), "r").read("run.json")["cells"][0]["artifacts"]
    used = {side: _used(Inputs(Store(store), marks), side) for side in SIDES}
    return {"plan": {side["side"]: side for side in planned["prompts"]}, "used": used, "left": left}


def _used(inputs: Inputs, side: str) -> dict[str, float]:
    rows = [row for row in inputs.table(f"{side}_answers").to_pylist() if row["digest"]]
    once = {row["digest"]: row for row in rows}.values()
    return {
        "prompts": len(rows),
        "asked": len(once),
        "tokens_in": sum(row["tokens_in"] for row in once),
        "tokens_out": sum(row["tokens_out"] for row in once),
        "seconds": inputs.manifest(f"{side}_answers").seconds,
    }


def test_what_is_planned_is_what_is_used(both: dict[str, Any]) -> None:
    """Counts and tokens within 20 %. Seconds too on a quiet machine; other work on it shifts either of the two."""
    for side in SIDES:
        planned, used = both["plan"][side], both["used"][side]
        assert planned["sampled"] < planned["entities"]
        for what in ("prompts", "asked", "tokens_in", "tokens_out"):
            assert planned[what] == pytest.approx(used[what], rel=0.2), (side, what)
    assert set(both["left"]) == {"users", "items", "log", "cutoffs", "entities", "knowledge", "item_texts"}
    seconds = [sum(both["plan"][side]["hours"][0]["seconds"] for side in SIDES)]
    seconds += [sum(both["used"][side]["seconds"] for side in SIDES)]
    print("seconds planned and used: {:.1f}, {:.1f}".format(*seconds))
    assert seconds[0] == pytest.approx(seconds[1], rel=0.5)


def test_the_doctor_asks_the_model_one_prompt(tmp_path: Path) -> None:
    """One engine for real, and one that takes no prompts of that length."""
    model = make_tiny_qwen2(tmp_path / "model")
    cfg = small.config(*SETTINGS, f"extraction.model={model}")
    engine = next(check for lane in front.LANES for check in lane if check.name == "engine")
    (found,) = front.apart(engine, Patient((cfg,), str(tmp_path / "store")))
    assert found.state == "ok", found
    assert ANSWER in found.what
    assert not (tmp_path / "store").exists()
    (long,) = front.apart(engine, Patient((cfg.override("extraction.max_prompt_tokens=9000"),), str(tmp_path / "s")))
    assert (long.state, "takes 8192 tokens" in long.what) == ("fail", True), long
