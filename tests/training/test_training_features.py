"""The two feature sets, and numeric fields: what is read, what is not, and the same after export."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted import config, planted

from trawl.errors import ConfigError, InputError
from trawl.inputs import Inputs
from trawl.model.keys import keys
from trawl.model.lexicon import field_codes
from trawl.model.numeric import bounds, bucket, numbers
from trawl.training.corpus import check_genres, vocabulary
from trawl.training.material import material
from trawl.training.stage import MODEL

SEEN = ("model.similarity=true", "model.adapted_similarity=true")


def inputs_of(path: Path, *, turned: bool = False) -> Inputs:
    """The planted world; `turned`: every rating of the log is another one, and what was liked is not."""
    store, marks = planted(path, users=60)
    if turned:
        from worlds import publish

        log = Inputs(store, marks).table("log")
        ratings = log["rating"].to_numpy()
        other = np.select([ratings == 5, ratings == 4, ratings == 3], [4, 5, 1], 3).astype(np.float32)
        log = log.set_column(log.schema.get_field_index("rating"), "rating", [other])
        disliked = pc.invert(log["label"])
        marks["log"] = publish(store, "log", [log.set_column(log.schema.get_field_index("label"), "label", disliked)])
    return Inputs(store, marks, work=("model", "x", "_work"))


def test_ids_say_nothing_of_the_ratings(tmp_path: Path) -> None:
    for features in ("ids", "full"):
        cfg = config(f"model.features={features}", *SEEN)
        model, found = material(inputs_of(tmp_path), cfg)
        batch = found.behaviour.batch(found.train)
        assert (model.ratings is None) == (model.rate is None) == (features == "ids")
        assert batch.levels.max() == (1 if features == "ids" else 5)
        assert (batch.rate.max() == 0) == (features == "ids")
        assert batch.seen is not None
        users = len(batch.seen.offsets) // 2
        disliked = len(batch.seen.items) - int(batch.seen.offsets[users])
        assert (disliked == 0) == (features == "ids")
        assert len(batch.seen.items) == users * 10  # nothing is left out


@pytest.mark.parametrize("features", ["ids", "full"])
def test_other_ratings_change_no_score_of_ids(tmp_path: Path, features: str) -> None:
    cfg = config(f"model.features={features}", *SEEN)
    logits = []
    for turned in (False, True):
        model, found = material(inputs_of(tmp_path / str(turned), turned=turned), cfg)
        with torch.inference_mode():
            logits.append(model.eval()(found.behaviour.batch(found.valid), found.world).logit)
    assert torch.equal(*logits) == (features == "ids")


def test_the_feature_set_is_a_key_and_hides_what_it_overrides() -> None:
    ids, full = config("model.features=ids"), config()
    assert "model.features" in keys(ids)
    assert not {"model.history_ratings", "model.rate_feature"} & set(keys(ids))
    assert "model.features" not in keys(full)
    assert not {"model.numeric_fields", "model.numeric_bins"} & set(keys(config("model.numeric_bins=4")))


def fields(*values: object) -> pa.ChunkedArray:
    """The `fields` column of entities with one field, `age`, and another one."""
    rows = [{"age": [v] if isinstance(v, str) else v, "town": ["x"]} for v in values]
    kind = pa.map_(pa.string(), pa.list_(pa.string()))
    return pa.chunked_array([pa.array([list(r.items()) for r in rows], kind)])


def test_numbers_are_read_and_nothing_else_is() -> None:
    found = numbers(pa.array([" 12", "-1.5", "3e2", ".5", "7.", "twelve", "1,000", "", "nan", "inf", "1e999", None]))
    assert found[:5].tolist() == [12, -1.5, 300, 0.5, 7]
    assert np.isnan(found[5:]).all()


def test_buckets_are_quantiles_of_training_and_hold_what_lies_beyond() -> None:
    column = fields(*(str(n) for n in range(1, 101)), "-5", "1000", "old", ["1", "99"])
    seen = np.arange(105) <= 100
    cfg = config("model.numeric_fields=['age']", "model.numeric_bins=4")
    words = vocabulary(column, seen, cfg)
    assert words == {"age": ["-inf", "25.0", "50.0", "75.0"], "town": ["x"]}
    codes = field_codes(column, words, cfg.model.numeric_fields)
    assert codes["age"][[1, 24, 25, 74, 75, 100], 0].tolist() == [2, 2, 3, 4, 5, 5]
    assert codes["age"][101:105, 0].tolist() == [2, 5, 1, 2]  # below, above, no number, the first of two
    assert codes["age"][104].tolist() == [2, 5]
    assert codes["town"][1:, 0].tolist() == [2] * 104


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(2, 8))
def test_every_number_is_in_a_bucket_that_begins_at_or_below_it(found: list[float], bins: int) -> None:
    lower = bounds(np.array(found), bins)
    assert len(lower) <= bins
    places = bucket(pa.array([repr(v) for v in found]), lower)
    edges = [float(b) for b in lower] + [np.inf]
    assert all(edges[p] <= v < edges[p + 1] for p, v in zip(places, found, strict=True))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("height", "neither users nor items have a field 'height'; fields: shelf, town"),
        ("town", "field 'town' holds no number in training"),
    ],
)
def test_a_numeric_field_that_is_none_is_named(tmp_path: Path, name: str, says: str) -> None:
    cfg = config(f"model.numeric_fields=['{name}']")
    with pytest.raises(InputError, match=says):
        material(inputs_of(tmp_path), cfg)


def test_an_ignored_field_is_in_no_vocabulary(tmp_path: Path) -> None:
    found = {}
    for cfg in (config(), config("model.ignored_fields=['shelf']")):
        model, world = material(inputs_of(tmp_path / cfg.digest()), cfg)
        found[cfg.model.ignored_fields] = set(world.world.items.fields) | set(world.world.users.fields)
        assert set(model.item.fields.names) <= found[cfg.model.ignored_fields]
        assert ("model.ignored_fields" in keys(cfg)) == bool(cfg.model.ignored_fields)
    assert found[()] - found["shelf",] == {"shelf"}


def test_an_ignored_field_that_is_none_or_is_read_elsewhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ignored_fields: neither users nor items have a field 'heigth'"):
        material(inputs_of(tmp_path), config("model.ignored_fields=['heigth']"))
    with pytest.raises(ConfigError, match=r"'year' is read by model\.numeric_fields"):
        config("model.ignored_fields=['year']", "model.numeric_fields=['year']")


def test_numeric_fields_travel_with_the_bundle(tmp_path: Path) -> None:
    from worlds import publish

    from trawl.executors import Inline
    from trawl.model.bundle import read
    from trawl.stage import run_stage

    store, marks = planted(tmp_path, users=60)
    users = Inputs(store, marks).table("users")
    kind = users.schema.field("fields").type
    ages = pa.array([[("age", [str(20 + u % 40)])] for u in range(1, 61)], kind)
    marks["users"] = publish(store, "users", [users.set_column(users.schema.get_field_index("fields"), "fields", ages)])
    cfg = config("model.numeric_fields=['age']", "model.numeric_bins=4", "training.epochs=1")
    mark = run_stage(MODEL, cfg, store, marks, Inline()).fingerprint
    lexicon = read(Path(store.path("model", mark))).lexicon
    assert lexicon.numeric == ("age",)
    assert lexicon.user_fields["age"][0] == "-inf"
    assert len(lexicon.user_fields["age"]) == 4
    assert lexicon.sizes().user_fields == {"age": 6}


def test_genre_similarity_is_the_share_of_common_values(tmp_path: Path) -> None:
    """Films 1 and 16 stand on the same two shelves, 1 and 4 on one, 1 and 2 on none."""
    cfg = config("extraction.source=none", "model.similarity=true", "model.similarity_of=['genre']")
    cfg = cfg.override("model.similarity_field=shelf")
    model, found = material(inputs_of(tmp_path), cfg)
    near = found.world.items.near
    assert near is not None
    cosines = near @ near.T
    assert cosines[1, [16, 4, 2]].tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert (cosines[0] == 0).all()
    assert model.backbone.shape.near
    assert "model.similarity_field" in keys(cfg)
    assert "model.similarity_field" not in keys(cfg.override("model.similarity_of=['cf']"))


def test_genres_that_are_not_there_are_named(tmp_path: Path) -> None:
    cfg = config("model.similarity=true", "model.similarity_of=['genre']")
    with pytest.raises(InputError, match="no item has a field 'genres'; fields: shelf"):
        material(inputs_of(tmp_path), cfg)


def test_a_field_of_too_many_values_is_no_genre() -> None:
    cfg = config("model.similarity=true", "model.similarity_of=['genre']")
    with pytest.raises(InputError, match=r"has 513 values, at most 512 .*similarity_of = ..kg"):
        check_genres({"genres": [str(n) for n in range(513)]}, cfg)
