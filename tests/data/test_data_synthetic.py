"""The synthetic world: the same rows however it is cut up, and a planted taste that only the pages tell."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein
from worlds import make

from trawl.config import Config
from trawl.data.synthetic import names, taste, words
from trawl.data.synthetic.world import World
from trawl.inputs import Inputs
from trawl.pipeline import stages
from trawl.sections import Synthetic
from trawl.stage import fingerprint
from trawl.store import Store

SMALL = (("data.synthetic.users", 300), ("data.synthetic.items", 80), ("data.synthetic.events_per_user", 20))
NAMES = ("users", "items", "log", "cutoffs", "cold_items", "splits", "samples", "entities", "truth")


def world(**given: Any) -> World:
    return World(Synthetic(**given))


def auc(label: np.ndarray[Any, Any], score: np.ndarray[Any, Any]) -> float:
    rank = np.argsort(np.argsort(score)) + 1
    good = int(label.sum())
    return float((rank[label].sum() - good * (good + 1) / 2) / (good * (len(label) - good)))


def test_every_stage_runs_and_raw_rows_do_not_depend_on_partitions(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    two, five = (Inputs(store, make(Config().override(*SMALL, ("data.partitions", n)), store, *NAMES)) for n in (2, 5))
    assert two.count("users") == 300
    assert two.count("items") == 80
    raw = [_raw_log(opened) for opened in (two, five)]
    assert raw[0] == raw[1]
    for name in ("users", "items", "entities"):
        key = {"users": "user", "items": "item", "entities": "entity"}[name]
        first, second = (i.table(name).drop_columns([key]).sort_by(f"{key}_id") for i in (two, five))
        assert first.equals(second)


def _raw_log(opened: Inputs) -> set[tuple[Any, ...]]:
    users = {r["user"]: r["user_id"] for r in opened.table("users").to_pylist()}
    items = {r["item"]: r["item_id"] for r in opened.table("items").to_pylist()}
    return {
        (users[r["user"]], r["position"], items[r["item"]], r["rating"], r["time"])
        for r in opened.table("log").to_pylist()
    }


@pytest.mark.parametrize("kind", ["users", "items", "log", "entities", "truth"])
def test_the_same_seed_makes_the_same_rows_and_another_seed_others(kind: str) -> None:
    size = {"users": 256, "items": 60, "events_per_user": 10, "distractors": 30}
    last = world(**size).pieces(kind)[-1][1]
    first, again, other = (world(**size, seed=s).rows(kind, 0, last) for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_shard_equals_its_rows_in_a_bigger_run() -> None:
    w = world(items=3000, users=600, events_per_user=8)
    assert w.rows("items", 1020, 1030).to_pylist() == w.rows("items", 0, 3000).slice(1020, 10).to_pylist()
    both = w.rows("log", 0, 600)["user_id"].to_pylist()
    assert w.rows("log", 0, 256)["user_id"].to_pylist() + w.rows("log", 256, 600)["user_id"].to_pylist() == both
    assert len(set(both)) == 600


def test_more_users_leave_the_first_ones_as_they_were() -> None:
    few, many = (world(users=n, items=100, events_per_user=8) for n in (100, 300))
    assert few.rows("users", 0, 100).equals(many.rows("users", 0, 300).slice(0, 100))
    first = few.rows("log", 0, 100)
    assert many.rows("log", 0, 300).slice(0, first.num_rows).equals(first)


def test_keys_are_no_more_than_what_each_table_is_made_from() -> None:
    def marks(*settings: tuple[str, Any]) -> dict[str, str]:
        cfg = Config().override(*settings)
        out: dict[str, str] = {}
        for name in NAMES:
            out[name] = fingerprint(stages()[name], cfg, out)
        return out

    plain = marks()
    for setting, changed in (
        (("data.synthetic.noise", 4.0), {"entities"}),
        (("data.synthetic.unlinked", 0.5), {"entities", "truth"}),
        (("data.synthetic.misspelt", 0.5), {"items", "log", "cutoffs", "cold_items", "splits", "samples", "truth"}),
        (("data.split_seed", 9), {"cold_items", "splits", "samples"}),
        (("data.synthetic.seed", 9), set(NAMES)),
    ):
        other = marks(setting)
        assert {name for name in NAMES if plain[name] != other[name]} == changed, setting


def test_pages_tell_what_the_film_is_among_noise() -> None:
    w = world(unlinked=0.0, empty_pages=0.0, distractors=0, items=60, noise=2.0)
    films = w._films(0, 60)
    told = noise = 0
    for row in w.rows("entities", 0, 60).to_pylist():
        film = row["at"]
        assert row["label"] in row["text"]
        assert any(theme in row["text"] for theme in words.THEMES[films.themes[film][0]])
        assert any(mood in row["text"] for mood in words.MOODS[films.mood[film]])
        assert names.person(0, 2 * int(films.director[film]) + 1) in row["text"]
        assert words.GENRES[films.genres[film][0]].lower() in row["text"]
        relevant = 5 + int(films.themes[film][1] >= 0) + int(films.award[film] >= 0)
        told += relevant
        noise += len(re.findall(r"\.(?: |$)", row["text"])) - relevant
    assert noise == pytest.approx(2 * told, rel=0.05)


def test_unlinked_films_empty_pages_and_misspelt_titles() -> None:
    w = world(items=1000, distractors=0, unlinked=0.1, empty_pages=0.2, misspelt=0.3)
    pages = {row["at"]: row for row in w.rows("entities", 0, 1000).to_pylist()}
    assert len(pages) == pytest.approx(900, abs=35)
    assert sum(row["text"] is None for row in pages.values()) == pytest.approx(180, abs=40)
    assert w.rows("truth", 0, 1000)["at"].to_pylist() == sorted(pages)
    wrong = moved = 0
    for film, item in enumerate(w.rows("items", 0, 1000).to_pylist()):
        title = item["title"].removesuffix(f" ({item['year']})")
        distance = Levenshtein.distance(title, names.item_title(0, film, False))
        assert distance <= 2
        wrong += distance > 0
        words_of_page = names.label(0, film).split()
        assert sorted(names.item_title(0, film, False).replace(",", "").split()) == sorted(words_of_page)
        moved += title.rpartition(", ")[2] in ("The", "A", "An")
    assert wrong == pytest.approx(300, abs=50)
    assert moved > 300


def test_distractors_have_titles_of_films_in_other_years() -> None:
    w = world(items=200, distractors=400)
    films = {names.label(0, f): int(w._films(0, 200).year[f]) for f in range(200)}
    others = [r for r in w.rows("entities", 200, 600).to_pylist() if r["label"] in films]
    assert len(others) == pytest.approx(100, abs=35)
    assert all(abs(r["year"] - films[r["label"]]) > 2 for r in others)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_oracle_of_the_planted_taste_is_good_and_popularity_is_skewed(seed: int) -> None:
    w = world(seed=seed)
    seen = [taste.views(seed, b, taste.viewers(seed, b, w._tables), w._catalogue, 70) for b in range(2)]
    stars = np.concatenate([v.stars for v in seen])
    liked = stars > 3
    assert set(stars.tolist()) == {1, 2, 3, 4, 5}
    assert 0.5 < liked.mean() < 0.64
    assert auc(liked, np.concatenate([v.score for v in seen])) > 0.8
    counts = np.sort(np.bincount(np.concatenate([v.film for v in seen]), minlength=600))
    assert counts[:150].sum() < 0.03 * counts.sum()
    assert counts[-150:].sum() > 0.45 * counts.sum()


def test_a_films_page_tells_more_of_its_reception_than_its_genres() -> None:
    w = world(items=600)
    films, plain = w._films(0, 600), w._catalogue.plain

    def explained(*columns: np.ndarray[Any, Any]) -> float:
        x = np.concatenate([_one_hot(c) for c in columns], axis=1)
        train = np.arange(600) % 2 == 0
        weights = np.linalg.solve(x[train].T @ x[train] + np.eye(x.shape[1]), x[train].T @ plain[train])
        return float(np.corrcoef(x[~train] @ weights, plain[~train])[0, 1])

    assert abs(explained(films.genres)) < 0.25
    assert explained(films.genres, films.themes, films.mood[:, None]) > 0.6


def _one_hot(which: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.zeros((len(which), int(which.max()) + 1))
    for column in which.T:
        out[np.flatnonzero(column >= 0), column[column >= 0]] = 1
    return out


def test_profiles_have_movielens_values_and_no_film_is_rated_twice() -> None:
    w = world(users=300)
    fields = [dict(f) for f in w.rows("users", 0, 300)["fields"].to_pylist()]
    assert {f["gender"][0] for f in fields} == {"M", "F"}
    assert {f["age"][0] for f in fields} <= set(taste.AGES)
    assert {int(f["occupation"][0]) for f in fields} <= set(range(21))
    log = w.rows("log", 0, 300)
    pairs = list(zip(log["user_id"].to_pylist(), log["item_id"].to_pylist(), strict=True))
    assert len(set(pairs)) == len(pairs)
