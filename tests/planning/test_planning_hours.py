"""From tokens to hours: data sheets, figures of the recipe, a probe; sizes from the heads of model files."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from trawl import sizes
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.extraction.answers import ANSWER
from trawl.extraction.reducing import first_step
from trawl.extraction.trial import Trial
from trawl.planning import downstream, engine, gpus, table
from trawl.planning.prompts import KNOWN, Side, reckon
from trawl.planning.sample import Sample, Texts
from trawl.planning.work import Asked

EIGHT = sizes.Size(parameters=8_000_000_000, bytes=16_000_000_000, cache_bytes=131_072, hidden=4096)


def side(asked: float = 1000, tokens_in: float = 2e6, tokens_out: float = 1e5) -> Side:
    return Side(
        side="user",
        arms=("default",),
        entities=1000,
        sampled=100,
        prompts=asked,
        again=0,
        cached=0,
        too_long=0,
        skipped=0,
        asked=asked,
        cut=0,
        cut_tokens=0,
        text_tokens=tokens_in,
        tokens_in=tokens_in,
        error=0,
        prompt_bytes=0,
        each_in=tokens_in / max(1, asked),
        each_out=tokens_out / max(1, asked),
        tokens_out=tokens_out,
    )


def config(*settings: str) -> Config:
    return Config().override("extraction.engine=vllm", "extraction.model=m", *settings)


def test_the_rule_of_the_data_sheet_by_hand() -> None:
    rate = gpus.rate(config("plan.gpu=H200").plan, EIGHT, context=1000)
    assert rate is not None
    assert rate.tokens_in == pytest.approx(0.5 * 989e12 / 16e9)
    moved = 16e9 / 128 + 131_072 * 1000
    assert rate.tokens_out == pytest.approx(1 / (16e9 / (0.5 * 989e12) + moved / (0.6 * 4800e9)))
    assert "not measured" in rate.source
    assert rate.seconds(rate.tokens_in, 2 * rate.tokens_out) == pytest.approx(3)


def test_a_faster_card_and_a_smaller_model_take_less() -> None:
    rates = [gpus.rate(config(f"plan.gpu={name}").plan, EIGHT, 1000) for name in ("L4", "A100-80GB", "H100", "B200")]
    outs = [rate.tokens_out for rate in rates if rate]
    assert len(outs) == 4
    assert outs == sorted(outs)
    small = gpus.rate(config("plan.gpu=L4", "plan.parameters=1").plan, None, 1000)
    assert small is not None
    assert small.tokens_out > 4 * outs[0]


def test_figures_of_the_recipe_go_first_and_are_scaled_to_the_model() -> None:
    given = 'plan.throughput={H200 = {tokens_in = 30000, tokens_out = 4000, parameters = 16, source = "our bench"}}'
    rate = gpus.rate(config("plan.gpu=H200", given).plan, EIGHT, 1000)
    assert rate == gpus.Rate(60000, 8000, "our bench, scaled from 16 to 8 billion parameters")
    plain = gpus.rate(config("plan.gpu=mine", "plan.throughput={mine={tokens_in=3, tokens_out=2}}").plan, None, 1000)
    assert plain == gpus.Rate(3, 2, "figures of the recipe")


def test_no_size_no_rate() -> None:
    assert gpus.rate(config("plan.gpu=H200").plan, None, 1000) is None


def test_names_and_places() -> None:
    gpus.check_name(config("plan.gpu=H100").plan)
    with pytest.raises(ConfigError, match=r"plan.gpu = 'X': nothing is known of it; there are .*H100"):
        gpus.check_name(config("plan.gpu=X").plan)
    with pytest.raises(ConfigError, match=r"plan\.throughput\.H200\.tokens_out: Field required"):
        config("plan.throughput={H200={tokens_in=3}}")
    assert "raise resources.tensor_parallel" in gpus.fits(config("plan.gpu=T4").plan, EIGHT, 1, 0.9)
    assert gpus.fits(config("plan.gpu=T4").plan, EIGHT, 2, 0.9) == ""
    assert gpus.fits(config("plan.gpu=H200").plan, EIGHT, 1, 0.9) == ""


def test_keys_of_a_plan_change_no_run() -> None:
    assert config("plan.gpu=H200", "plan.price_gpu_hour=3").digest() == config().digest()


def test_hours_cost_and_engines_side_by_side() -> None:
    cfg = config("plan.gpu=H200", "plan.price_gpu_hour=3", "plan.start_seconds=60", "resources.engines=2")
    hours = engine.by_rate(side(), gpus.Rate(1000, 100, "test"), cfg)
    assert hours.busy == pytest.approx(2000 + 1000)
    assert hours.seconds == pytest.approx(60 + 3000 / 2)
    assert hours.gpu_hours == pytest.approx((3000 + 2 * 60) / 3600)
    assert engine.cost([side()], [hours], cfg) == pytest.approx(3 * hours.gpu_hours)
    assert engine.cost([side()], [hours], config()) is None
    by_token = config("plan.price_million_in=0.5", "plan.price_million_out=2")
    assert engine.cost([side()], [], by_token) == pytest.approx(2 * 0.5 + 0.1 * 2)
    halved = engine.by_rate(side(), gpus.Rate(1000, 100, "test"), cfg.override("resources.tensor_parallel=2"))
    assert halved.busy == pytest.approx(hours.busy / 2)
    assert halved.gpu_hours == pytest.approx((1500 + 2 * 60) * 2 / 3600)


def test_a_probe_is_scaled_by_tokens() -> None:
    rows = [{"status": "ok", "tokens_in": 2000, "tokens_out": 100, "attempts": 1, "seconds": 0.0, "engine": "e"}] * 10
    trial = Trial(pa.Table.from_pylist(rows, schema=ANSWER), start_seconds=30, seconds=7)
    hours = engine.by_probe(side(), trial, config(), on_gpu=False)
    assert hours.busy == pytest.approx(7 * 2.1e6 / 21000)
    assert hours.seconds == pytest.approx(30 + 700)
    assert (hours.gpu_hours, hours.device) == (0, "CPU")
    on_gpu = engine.by_probe(side(), trial, config("resources.tensor_parallel=2"), on_gpu=True)
    assert on_gpu.gpu_hours == pytest.approx(2 * (30 + 700) / 3600)
    assert engine.by_probe(side(0, 0, 0), trial, config(), on_gpu=False).seconds == 0


def model(folder: Path) -> Path:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, folder / "model.safetensors")
    words = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    (folder / "config.json").write_text(json.dumps({**words, "dtype": "bfloat16"}))
    return folder


def test_a_models_size_is_in_the_heads_of_its_files(tmp_path: Path) -> None:
    found = sizes.size_of(model(tmp_path))
    assert (found.parameters, found.hidden) == (22, 64)
    assert found.cache_bytes == 2 * 2 * 2 * 16 * 2  # keys and values, layers, heads, width, bytes
    assert found.bytes == (tmp_path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("keep", [4, 40, -1])
def test_a_file_that_is_cut_short_is_told(tmp_path: Path, keep: int) -> None:
    file = model(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors|Expecting|Unterminated|delimiter"):
        sizes.size_of(tmp_path)


def test_vectors_and_their_pace(tmp_path: Path) -> None:
    assert downstream.width(Config().override("encoding.dimension=64")) == 64
    wanted = Config().override("encoding.encoder=transformer", f"encoding.model={model(tmp_path)}")
    assert downstream.width(wanted) == 64


def test_words_for_numbers() -> None:
    assert [table.count(n) for n in (7, 1234, 12_345, 4_560_000, 7.2e9)] == ["7", "1,234", "12.3 k", "4.56 M", "7.2 G"]
    assert [table.volume(n) for n in (12, 3_400, 5_600_000, 7.8e9)] == ["12 B", "3.4 kB", "5.6 MB", "7.8 GB"]
    assert [table.duration(s) for s in (4.21, 120, 7200, 864_000)] == ["4.2 s", "2.0 min", "2.0 h", "10.0 days"]
    assert table.share(1, 4) == "25.0%"


def prompts(*rows: dict[str, object]) -> pa.Table:
    """Prompts of item entities 1, 2, ...: digest, tokens, what is kept and cut."""
    blank = {"step": 0, "chunk": 0, "template": "t", "items": [1], "text_digests": ["d"], "cutoff": 0}
    return first_step(pa.Table.from_pylist([{**blank, **row} for row in rows]))


def reckoned(table: pa.Table, answered: pa.Table | None = None, entities: int = 0) -> Side:
    asked = Asked("user", Config().override("extraction.max_prompt_tokens=1256"), {}, frozenset(), ("default",))
    sampled = len(set(table.column("entity").to_pylist()))
    return reckon(
        asked,
        Sample(entities or sampled, sampled, table),
        Texts(0, 0, 0),
        KNOWN.empty_table() if answered is None else answered,
    )


def test_equal_known_and_too_long_prompts_are_not_asked() -> None:
    rows = [
        {"entity": 1, "digest": "a", "tokens": 300, "kept": [100], "cut": 0},
        {"entity": 2, "digest": "a", "tokens": 300, "kept": [100], "cut": 0},
        {"entity": 3, "digest": "b", "tokens": 500, "kept": [300], "cut": 50},
        {"entity": 4, "digest": "c", "tokens": 1001, "kept": [0], "cut": 900},
        {"entity": 5, "digest": "d", "tokens": 1000, "kept": [800], "cut": 0},
    ]
    known = pa.Table.from_pylist([{"digest": "b", "tokens_in": 500, "tokens_out": 9, "bytes": 40}], schema=KNOWN)
    side = reckoned(prompts(*rows), known, entities=50)
    counts = {name: getattr(side, name) for name in ("prompts", "again", "cached", "too_long", "asked", "cut")}
    assert counts == {"prompts": 50, "again": 10, "cached": 10, "too_long": 10, "asked": 20, "cut": 20}
    assert (side.tokens_in, side.each_in) == (10 * (300 + 1000), 600)
    assert (side.cut_tokens, side.text_tokens) == (9500, 10 * (1300 + 950))
    assert side.error > 0.5  # five of fifty say little


def test_chunks_are_merged_by_one_more_prompt_and_skipped_ones_are_told() -> None:
    whole = {"kept": [200], "cut": 0, "tokens": 300, "chunks": 1, "plan": "whole"}
    part = {"kept": [800], "cut": 0, "tokens": 900, "chunks": 3, "plan": "chunks"}
    rows = [
        {"entity": 1, "digest": "a", **whole},
        *({"entity": 2, "digest": f"b{n}", **part} for n in range(3)),
        {"entity": 3, "digest": "c", **whole, "plan": "skip", "tokens": 9000, "cut": 8900},
    ]
    side = reckoned(prompts(*rows))
    assert (side.skipped, side.too_long, side.asked, side.merges, side.merged_chunks) == (1, 0, 4, 1, 3)
    assert side.around == 100
    full = side.answered(50.0, "test", 100.0)
    assert (full.asked, full.tokens_out) == (5, 250)
    assert full.tokens_in == 300 + 3 * 900 + 100 + 3 * 50
