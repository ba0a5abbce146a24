"""Sources of knowledge, their reduction and what starts from them, on the planted world."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import ITEMS, config, fit, planted
from worlds import publish, table

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.model.bundle import read
from trawl.stage import fingerprint
from trawl.store import Store
from trawl.training.batches import kept_rows
from trawl.training.corpus import Tables, build_world, first_items, learn
from trawl.training.evaluate import evaluate
from trawl.training.material import material, tables
from trawl.training.stage import MODEL

NO_TEXTS = "extraction.source=none"
TWO = "model.knowledge=['text', 'kg']"


def with_facts(path: Path, **more: object) -> tuple[Store, dict[str, str]]:
    """The planted world, where facts tell the parity of items too, and nothing of the last one."""
    store, marks = planted(path, **more)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    rows = []
    for item in range(1, ITEMS + 1):
        vector = rng.normal(size=6) * 0.2
        vector[1] += 1.0 if item % 2 else -1.0
        known = item != ITEMS
        rows.append(
            {
                "entity": item,
                "vector": (vector * known).astype(np.float16),
                "has_text": known,
                "tokens_read": 2,
                "tokens_there": 2,
            }
        )
    marks["fact_embeddings"] = publish(store, "fact_embeddings", [table("fact_embeddings", rows)])
    return store, marks


@pytest.mark.parametrize(
    "settings",
    [
        (NO_TEXTS, "model.knowledge=['kg']", "model.side=item"),
        (TWO, "model.adapter=hybrid", "model.injection=fields"),
        (TWO, "model.combine=gate", "training.w_item=0.05"),
        ("model.injection=concat", "model.adapter=hybrid", "model.expert_last=relu"),
        ("model.history_knowledge=false", "model.adapter=linear", "model.knowledge_dim=3"),
        ("model.injection=add", "model.history_knowledge=false", "model.backbone=deepfm"),
        (NO_TEXTS, "model.similarity=true", "model.similarity_of=['cf', 'kg']"),
        ("model.injection=none", "model.init=llm", "model.id_dropout=0"),
    ],
    ids=["kg", "both-hybrid-fields", "both-gate", "concat-relu", "target", "add-target", "likes", "llm2din"],
)
def test_the_planted_taste_is_learned(tmp_path: Path, settings: tuple[str, ...]) -> None:
    cfg = config("training.epochs=8", *settings)
    store, marks = with_facts(tmp_path, users=400)
    marks, predictions = fit(store, marks, cfg)
    found = evaluate(predictions)
    assert found["test"]["auc"] > 0.8
    notes = json.loads(store.read_text("model", marks["model"], "metrics.json"))
    best = notes["epochs"][notes["best_epoch"]]
    assert best["validation"] == pytest.approx(found["validation"], abs=1e-7), "what was saved scores as what trained"
    assert ("gates" in best) == (cfg.model.adapter in ("moe", "hybrid") and "model.injection=none" not in settings
                                 and "model.similarity=true" not in settings)  # fmt: skip


def whole(tmp_path: Path, cfg: Config, **more: object) -> tuple[Tables, Inputs]:
    store, marks = with_facts(tmp_path, **more)
    inputs = Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)})
    return tables(inputs, cfg), inputs


def test_reduced_vectors_are_fitted_on_what_training_saw(tmp_path: Path) -> None:
    cfg = config("model.knowledge_dim=3", "model.side=item", "data.cold_items=0.2")
    one, _ = whole(tmp_path, cfg, cold=(1, 2, 3))
    lexicon = learn(one, kept_rows(one), cfg)
    assert lexicon.sizes().item_vector == 3
    rows = build_world(one, lexicon).items.vectors
    assert rows is not None
    known = one.knowledge["item"]
    seen = np.zeros(ITEMS + 1, dtype=bool)
    seen[lexicon.items] = True
    trained = np.flatnonzero(known.text & seen)
    vectors = known.matrix[trained].astype(np.float64)
    _, _, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = (vectors - vectors.mean(axis=0)) @ axes[:3].T
    found = rows.rows(torch.from_numpy(trained)).double().numpy()
    np.testing.assert_allclose(np.abs(found) / lexicon.scale["item"], np.abs(expected), atol=1e-4)
    assert (found**2).mean() == pytest.approx(1.0, abs=1e-3)
    matrix = np.array(known.matrix)
    matrix[1:4] += 100  # cold items, which training has not seen
    other = learn(replace(one, knowledge={"item": replace(known, matrix=matrix)}), kept_rows(one), cfg)
    np.testing.assert_array_equal(other.reduced["item"], lexicon.reduced["item"])
    assert other.scale == lexicon.scale


def test_likes_of_users_that_are_scored_change_no_factor(tmp_path: Path) -> None:
    cfg = config(NO_TEXTS, "model.similarity=true", "model.similarity_of=['cf']", "data.cold_items=0.2")
    one, _ = whole(tmp_path, cfg, cold=(1, 2, 3))
    lexicon = learn(one, kept_rows(one), cfg)
    assert lexicon.factors is not None
    label = np.array(one.log_label)
    scored = ~one.train[one.log_user]
    assert scored.any()
    label[scored] = ~label[scored]
    again = learn(replace(one, log_label=label), kept_rows(one), cfg)
    np.testing.assert_array_equal(again.factors, lexicon.factors)
    near = build_world(one, lexicon).items.near
    assert near is not None
    assert not near[1:4].any() and near[4:].any(dim=1).all(), "nobody liked a cold item"
    cosine = near @ near.T
    same = (torch.arange(4, ITEMS + 1) % 2 == 0)[:, None] == (torch.arange(4, ITEMS + 1) % 2 == 0)[None]
    assert float(cosine[4:, 4:][same].mean()) > float(cosine[4:, 4:][~same].mean()) + 0.2


def test_item_embeddings_start_from_their_texts(tmp_path: Path) -> None:
    cfg = config("model.init=llm", "model.injection=none", "model.embedding=4")
    one, inputs = whole(tmp_path, cfg)
    assert "item_embeddings" in inputs.fingerprints and "user_embeddings" not in inputs.fingerprints
    lexicon = learn(one, kept_rows(one), cfg)
    start = first_items(one, lexicon, 4)
    random, _ = material(inputs, cfg.override("model.init=random"))
    started, _ = material(inputs, cfg)
    weight, own = started.item.ids.weight.detach(), random.item.ids.weight.detach()
    known = np.concatenate([[False], one.knowledge["item"].text[lexicon.items]])
    torch.testing.assert_close(weight[known], start[known])
    assert not torch.allclose(weight[known], own[known])
    assert torch.equal(weight[~known], own[~known]), "row 0, and items without text, start at random"
    assert float(start[known].square().mean().sqrt()) == pytest.approx(0.02, rel=1e-3)
    vectors = one.knowledge["item"].matrix[lexicon.items[known[1:]]].astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    full, short = centred @ centred.T, start[known].double().numpy() @ start[known].double().numpy().T
    assert np.corrcoef(full.ravel(), short.ravel())[0, 1] > 0.95, "what the texts have in common is kept"
    wide = first_items(one, lexicon, 12)
    assert wide.shape[1] == 12 and not wide[1:][known[1:], 8:].any(), "vectors of 8 numbers fill no more"


def test_the_bundle_needs_no_vectors_that_only_began_the_embeddings(tmp_path: Path) -> None:
    store, marks = with_facts(tmp_path)
    cfg = config("model.init=llm", "model.injection=none", "training.epochs=1")
    marks, _ = fit(store, marks, cfg)
    bundle = read(Path(store.path("model", marks["model"])))
    assert not bundle.catalogue.knowledge
    assert bundle.cfg.model.init == "llm"


def test_several_sources_are_read_back(tmp_path: Path) -> None:
    store, marks = with_facts(tmp_path)
    cfg = config(
        *(TWO, "model.adapter=hybrid", "model.knowledge_dim=5", "training.epochs=1", "model.similarity=true"),
        "model.similarity_of=['cf', 'text']",
    )
    marks, _ = fit(store, marks, cfg)
    bundle = read(Path(store.path("model", marks["model"])))
    assert bundle.lexicon.sources == {"user": ("user",), "item": ("item", "facts")}
    assert set(bundle.lexicon.reduced) == {"user", "item", "facts"}
    assert bundle.lexicon.similar == ("cf", "text")
    assert bundle.lexicon.sizes().widths(("user", "item", "facts")) == [5, 5, 5]
    assert set(bundle.catalogue.knowledge) == {"item", "facts"}
    for key in MODEL.keys(cfg):
        assert bundle.cfg.get(key) == cfg.get(key)


def test_recipes_without_the_new_keys_are_one_with_their_defaults(tmp_path: Path) -> None:
    _, marks = with_facts(tmp_path)
    base = fingerprint(MODEL, config(), marks)
    for same in ("facts.dimension=64", "model.shared_experts=5", "model.similarity_of=['cf']", "model.combine=gate"):
        assert fingerprint(MODEL, config(same), marks) == base, same
    for other in (TWO, "model.knowledge_dim=4", "model.history_knowledge=false", "model.init=llm"):
        assert fingerprint(MODEL, config(other), marks) != base, other
