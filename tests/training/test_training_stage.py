"""The model and predictions stages on a planted world."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import small
from planted import config, fit, planted
from worlds import publish, table

from trawl.errors import InputError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import fingerprint, run_stage
from trawl.store import Store
from trawl.training import material as gathering
from trawl.training import trainer
from trawl.training.evaluate import evaluate
from trawl.training.stage import MODEL

ALL = (
    "model.similarity=true",
    "model.adapted_similarity=true",
    "training.w_item=0.05",
    "training.w_user=0.05",
)

NONE, MANY = ("extraction.source=none", "training.epochs=10"), 800  # ids alone need more users to learn from


@pytest.mark.parametrize(
    "settings",
    [
        NONE,
        (),
        ("model.injection=add", "model.adapter=linear", "model.side=item"),
        ("model.adapter=raw",),
        ("model.adapter=raw", "model.injection=add"),
        ("model.injection=none", *ALL),
        ALL,
        ("training.precision=float64", *ALL),
        ("model.backbone=deepfm", *NONE),
        ("model.backbone=deepfm", "model.adapter=mlp"),
        ("model.backbone=deepfm", "model.adapter=mlp", "model.injection=add"),
        ("model.backbone=deepfm", "model.adapter=raw", "model.side=item"),
        ("model.backbone=deepfm", "model.adapter=mlp", *ALL),
    ],
    ids=[
        *("none", "replace", "add", "raw", "raw-add", "similarity", "all", "float64"),
        *("deepfm-none", "deepfm-mlp", "deepfm-mlp-add", "deepfm-raw", "deepfm-all"),
    ],
)
def test_the_planted_taste_is_learned(tmp_path: Path, settings: tuple[str, ...]) -> None:
    users = MANY if "extraction.source=none" in settings else 150
    store, marks = planted(tmp_path, users=users)
    marks, predictions = fit(store, marks, config(*settings))
    found = evaluate(predictions)
    assert found["test"]["auc"] > 0.8
    assert found["validation"]["rows"] + found["test"]["rows"] == predictions.num_rows == users // 5 * 10
    notes = json.loads(store.read_text("model", marks["model"], "metrics.json"))
    best = notes["epochs"][notes["best_epoch"]]
    assert best["validation"] == pytest.approx(found["validation"], abs=1e-7)
    assert best["rec"] > 0
    contrastive = "training.w_item=0.05" in settings
    assert (best["ii"] > 0) == contrastive


def test_knowledge_tells_cold_items_apart(tmp_path: Path) -> None:
    cold = tuple(range(1, 9))
    found = {}
    for name, settings in {"none": NONE, "knowledge": ("model.id_dropout=0.3",)}.items():
        store, marks = planted(tmp_path / name, users=MANY, cold=cold)
        marks, predictions = fit(store, marks, config("data.cold_items=0.2", *settings))
        assert set(predictions.filter(predictions["cold"])["item"].to_pylist()) <= set(cold)
        measured = evaluate(predictions)
        found[name] = measured["test"]
        assert measured["validation"]["cold"]["rows"] > 0  # what is meant for new items is chosen there
    assert found["none"]["warm"]["auc"] > 0.8
    assert found["none"]["cold"]["auc"] < 0.7
    assert found["knowledge"]["cold"]["auc"] > 0.8
    assert found["knowledge"]["cold"]["rows"] + found["knowledge"]["warm"]["rows"] == found["knowledge"]["rows"]


def test_training_never_sees_cold_items(tmp_path: Path) -> None:
    from trawl.training.material import material

    store, marks = planted(tmp_path, cold=(1, 2, 3))
    cfg = config("data.cold_items=0.2", "model.similarity=true")
    inputs = Inputs(store, {name: marks[name] for name in MODEL.reads(cfg)})
    _, found = material(inputs, cfg)
    batch = found.behaviour.batch(found.train)
    assert batch.seen is not None
    for ids in (batch.item, batch.history, batch.seen.items):
        assert not set(ids.flatten().tolist()) & {1, 2, 3}
    assert found.world.items.rows[1:4].tolist() == [0, 0, 0]
    assert {1, 2, 3} & set(found.behaviour.batch(found.valid).history.flatten().tolist())


def test_a_scored_users_logit_does_not_depend_on_its_index(tmp_path: Path) -> None:
    """Unseen users trade indexes (and all that hangs on them); their scores move with them, unchanged."""
    import numpy as np
    import torch

    from trawl.model.world import World
    from trawl.training.loop import score
    from trawl.training.stage import Predict

    cfg = config("model.user_id_dropout=0.2", "model.similarity=true")
    store, marks = planted(tmp_path)
    marks, _ = fit(store, marks, cfg)
    worker = Predict(Inputs(store, marks), cfg)
    samples = Inputs(store, marks).table("samples")
    samples = samples.filter(pa.compute.is_in(samples["split"], pa.array(["valid", "test"])))
    columns = [samples[name].to_numpy() for name in ("user", "position", "item", "label")]
    rows = worker.behaviour.rows(*columns)
    before = score(worker.model, worker.world, worker.behaviour, rows)

    unseen = np.unique(rows.user)
    assert (worker.world.users.rows[unseen] == 0).all()
    moved = np.arange(worker.world.users.count)
    moved[unseen] = np.roll(unseen, 7)  # moved[i] = the user that index i now stands for
    place = torch.from_numpy(moved)
    users = worker.world.users
    assert users.text is not None
    assert users.vectors is not None
    users.vectors._matrix = users.vectors._matrix[place]
    turned = type(users)(
        users.rows[place], {k: v[place] for k, v in users.fields.items()}, users.vectors, users.text[place], None
    )
    behaviour = worker.behaviour
    behaviour.rate = behaviour.rate[moved]
    behaviour.seen_start, behaviour.seen_size = behaviour.seen_start[:, moved], behaviour.seen_size[:, moved]
    back = np.argsort(moved)
    renamed = type(rows)(back[rows.user], rows.item, rows.label, rows.begin, rows.end)
    after = score(worker.model, World(turned, worker.world.items), behaviour, renamed)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_switched_off_parts_are_no_keys() -> None:
    none = config("extraction.source=none")
    for change in ("training.w_item=0.1", "model.injection=add", "model.adapter=linear", "model.similarity=true"):
        assert MODEL.keys(none) == MODEL.keys(none.override(change))
        assert MODEL.reads(none) == MODEL.reads(none.override(change))
    knowing = config()
    assert "model.injection" in MODEL.keys(knowing)
    assert "training.temperature" not in MODEL.keys(knowing)
    assert "training.temperature" in MODEL.keys(knowing.override("training.w_item=0.1"))
    assert "item_positives" in MODEL.reads(knowing.override("training.w_item=0.1"))
    assert "user_embeddings" not in MODEL.reads(knowing.override("model.side=item"))
    marks = dict.fromkeys((*MODEL.reads(knowing), "item_positives"), "x")
    one, other = (fingerprint(MODEL, none.override(f"training.w_item={w}"), marks) for w in (0.0, 0.5))
    assert one == other


@pytest.mark.parametrize("data", ["memory", "stream"])
def test_a_driver_of_workers_holds_no_training_set_and_publishes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    """A worker's part of it is done by this process here; the files are those of a training in a task of its own."""
    facts = ("training.w_item=0.1", "training.fact_positives=['shelf']", "training.fact_cap=7")
    cfg = config(*facts, "training.epochs=1", "data.cold_items=0.1", f"resources.training_data={data}")
    working, made = [False], []

    def watched(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **more: Any) -> Any:
            assert working[0], f"the driver calls {name}"
            made.append(name)
            return make(*arguments, **more)

        return called

    def train_on_ray(make: Callable[[], Any], *rest: Any) -> Any:
        working[0] = True
        found = make()
        working[0] = False
        return trainer.train_here(*found, *rest)

    files: list[dict[str, Any]] = []
    for launcher in ("task", "ray_train"):
        store, marks = planted(tmp_path / launcher, cold=(1, 2))
        rows = [{"entity": i, "relation": "shelf", "value": f"s{i % 3 + 5 * (i % 2)}"} for i in range(1, 31)]
        marks["facts"] = publish(store, "facts", [table("facts", rows)])
        if launcher == "ray_train":
            monkeypatch.setattr(trainer, "train_on_ray", train_on_ray)
            for name in ("behaviour_of", "samples_of", "build_world"):
                monkeypatch.setattr(gathering, name, watched(name, getattr(gathering, name)))
        mark = run_stage(MODEL, cfg.override(f"resources.launcher={launcher}"), store, marks, Inline()).fingerprint
        folder = Path(store.path("model", mark))
        summary = json.loads((folder / "metrics.json").read_text())
        files.append({p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.stem == "model"})
        files[-1] |= {"summary": [summary[key] for key in ("samples", "facts", "best_epoch")]}
    assert made == ["behaviour_of", "samples_of", "samples_of", "build_world"]
    assert files[0] == files[1]
    assert len(files[0]) == 3


@pytest.mark.parametrize("launcher", ["task", "ray_train"])
def test_samples_of_one_label_are_refused_before_workers_start(tmp_path: Path, launcher: str) -> None:
    store, marks = planted(tmp_path, users=20)
    samples = Inputs(store, marks).table("samples")
    one = samples.set_column(samples.column_names.index("label"), "label", pa.array([False] * samples.num_rows))
    marks["samples"] = publish(store, "samples", [one])
    with pytest.raises(InputError, match=r"every training label is 0 .*not above data.like_above = 3\); set"):
        run_stage(MODEL, config(f"resources.launcher={launcher}"), store, marks, Inline())


def test_a_finished_model_is_not_trained_again(tmp_path: Path) -> None:
    store, marks = planted(tmp_path)
    cfg = config("extraction.source=none", "training.epochs=1")
    assert not run_stage(MODEL, cfg, store, marks, Inline()).skipped
    assert run_stage(MODEL, cfg, store, marks, Inline()).skipped


def test_evaluation_without_both_labels_is_null_not_nan() -> None:
    table = pa.table(
        {
            "user": [1, 1, 1],
            "label": [True, True, False],
            "score": [0.5, 0.6, 0.4],
            "split": ["valid", "test", "valid"],
            "cold": [False, True, True],
        }
    )
    found = evaluate(table)
    assert found["validation"]["auc"] == 1.0
    assert found["validation"]["cold"]["rows"] == 1
    assert found["test"]["auc"] is None
    assert found["test"]["cold"]["rows"] == 1
    assert found["test"]["warm"]["logloss"] is None


def test_a_log_of_one_label_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    cfg = small.config("data.like_above=0", "extraction.source=none", "model.similarity=false")
    with pytest.raises(InputError, match=r"every training label is 1 .*data.like_above = 0.*set data.like_above"):
        small.run_all(store, cfg)
