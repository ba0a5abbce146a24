"""The leak guard over the whole pipeline, up to the trained weights.

In the second of two worlds every validation and test target has other stars and is of another film. All that prompts,
positives and training see must be the same. Each world has its own store, so that no cache hides a difference.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import small
from worlds import leak_versions, make, publish

from trawl.config import Config
from trawl.inputs import Inputs
from trawl.schemas import TEST, TRAIN, VALID
from trawl.store import Store

FILMS = 25
SETTINGS = (
    *(s for s in small.SETTINGS if not s.startswith(("data.", "extraction.source"))),
    "data.partitions=3",
    "data.cutoff_max=4",
    "data.cold_items=0.1",
    "data.split=[0.6, 0.2, 0.2]",
    "training.batch_size=32",
)
SOURCES = ("extracted", "given")
VOLATILE = ["seconds", "attempts"]
ALWAYS = ["users", "items", "cutoffs", "splits", "cold_items"]
LINKED = ["entities", "knowledge"]
KNOWN = ["texts", "prompts", "answers", "embeddings", "positives"]
FAMILIES = ("kellmrec", "kar")  # trawl's is that of the sources above
ASKED = [f"{side}_{what}" for what in ("prompts", "answers") for side in ("item", "user")]
SEEN = [*ALWAYS, *LINKED, "item_texts", *(f"{side}_{what}" for what in KNOWN[1:] for side in ("item", "user"))]


@dataclass(frozen=True)
class Made:
    """A world with all of its pipeline run."""

    cfg: Config
    store: Store
    marks: Mapping[str, str]

    def table(self, name: str) -> pa.Table:
        found = small.table(self.store, self.marks, name)
        return found.drop_columns([column for column in VOLATILE if column in found.column_names])

    def samples(self, *parts: str) -> pa.Table:
        return self.table("samples").filter(pc.is_in(pc.field("split"), pa.array(parts)))

    def weights(self) -> bytes:
        """Weights, vocabularies, centres, axes and the item catalogue."""
        return self.store.read_bytes("model", self.marks["model"], "model.safetensors").to_pybytes()

    def notes(self) -> Mapping[str, Any]:
        manifest = self.store.manifest("model", self.marks["model"])
        assert manifest is not None
        return manifest.notes


@dataclass(frozen=True)
class Worlds:
    """The two versions of one recipe."""

    folder: Path
    settings: tuple[str | tuple[str, Any], ...]
    before: Made
    after: Made


def text_of(film: int) -> str:
    """A page with something for the extractor to find, and some of it for no other film."""
    genre, place = ("drama", "comedy", "thriller", "western")[film % 4], ("French", "British", "Danish")[film % 3]
    names = [f"{first} {last}ly{chr(97 + film)}" for first, last in (("Anna", "Ber"), ("Carl", "Dor"))]
    return (
        f"The Film {film} is a {place} {genre} film from {1950 + film}. It was directed by {names[0]} and "
        f"stars {names[1]}. The plot follows a detective who investigates case {film} in a small town."
    )


def knowledge(folder: Path, source: str) -> list[tuple[str, Any]]:
    """Settings of a knowledge source for the films of the small world, with its files; some films have no text."""
    films = range(1, FILMS + 1)
    texts = [text_of(f) if f % 8 else None for f in films]
    if source == "given":
        there = {"item_id": [str(f) for f in films], "text": texts}
        pq.write_table(pa.table(there), folder / "given.parquet")
        return [("extraction.source", "given"), ("extraction.given", str(folder / "given.parquet"))]
    there = {
        "entity_id": [f"Q{f}" for f in films],
        "label": [f"Café: The Film, {f}" for f in films],
        "year": [1950 + f for f in films],
        "text": texts,
    }
    pq.write_table(pa.table(there), folder / "entities.parquet")
    return [("extraction.source", source), ("linking.entities", str(folder / "entities.parquet"))]


def ran(cfg: Config, store: Store) -> Made:
    """The whole pipeline; files that are mapped once per node are the run's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAWL_NODE_CACHE", f"{store.root}-node")
        outcomes = small.run_all(store, cfg)
    return Made(cfg, store, {name: outcome.fingerprint for name, outcome in outcomes.items()})


@pytest.fixture(scope="module", params=SOURCES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    folder = tmp_path_factory.mktemp(request.param)
    settings = (*SETTINGS, *knowledge(folder, request.param))
    stores = [Store(str(folder / name)) for name in ("store-before", "store-after")]
    recipes = leak_versions(folder, stores[0], *settings)
    yield Worlds(folder, settings, *(ran(cfg, store) for cfg, store in zip(recipes, stores, strict=True)))


@pytest.mark.parametrize("name", SEEN)
def test_what_prompts_positives_and_training_see_is_equal(both: Worlds, name: str) -> None:
    if name in LINKED and name not in both.before.marks:
        assert both.before.cfg.extraction.source == "given", "only given texts need no links"
        return
    first, second = both.before.table(name), both.after.table(name)
    assert first.num_rows > 0
    assert first.equals(second)


def test_training_samples_are_equal(both: Worlds) -> None:
    first, second = (made.samples(TRAIN) for made in (both.before, both.after))
    assert first.num_rows > 50
    assert first.equals(second)


def test_the_trained_model_is_equal_byte_for_byte(both: Worlds) -> None:
    """One epoch: the validation targets choose nothing."""
    assert both.before.weights() == both.after.weights()


def test_the_worlds_say_something(both: Worlds) -> None:
    """Texts reach the model, both contrastive losses are at work, and all that may differ does."""
    first, second = both.before, both.after
    for side in ("item", "user"):
        answers, vectors = first.table(f"{side}_answers"), first.table(f"{side}_embeddings")
        assert pc.sum(pc.equal(answers["status"], "ok")).as_py() > 15
        assert pc.sum(vectors["has_text"]).as_py() > 15
    epochs = first.store.read_text("model", first.marks["model"], "metrics.json")
    assert '"uu": 0.0,' not in epochs and '"ii": 0.0,' not in epochs
    assert first.table("log").num_rows == second.table("log").num_rows
    assert not first.table("log").equals(second.table("log"))
    for part in (VALID, TEST):
        old, new = first.samples(part), second.samples(part)
        assert old.num_rows == new.num_rows > 10
        assert not pc.any(pc.equal(old["item"], new["item"])).as_py()
        assert not pc.any(pc.equal(old["label"], new["label"])).as_py()
    assert first.notes()["validation"] != second.notes()["validation"]
    assert not first.table("predictions")["score"].equals(second.table("predictions")["score"])


@pytest.mark.parametrize(
    ("parts", "seen", "differ", "equal"),
    [
        ([TRAIN], False, ["item_positives", "user_positives", "model"], ["user_prompts", "user_answers"]),
        ([VALID, TEST], True, ["user_prompts", "user_answers", "user_embeddings"], ["item_positives", "model"]),
    ],
    ids=["training users", "before the cut-off"],
)
def test_a_change_of_what_may_be_seen_is_seen(
    both: Worlds, tmp_path: Path, parts: list[str], seen: bool, differ: list[str], equal: list[str]
) -> None:
    """The same change to other rows comes through: the equalities above are not those of deaf stages."""
    _, recipe = leak_versions(tmp_path, both.before.store, *both.settings, parts=parts, seen=seen)
    changed = ran(recipe, both.before.store)
    for name in (*differ, *equal):
        if name == "model":
            same = both.before.weights() == changed.weights()
        else:
            same = both.before.table(name).equals(changed.table(name))
        assert same == (name in equal), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompts_of_every_family_are_equal(tmp_path: Path, family: str) -> None:
    """Other validation and test targets change no prompt; other ratings before the cut-off do."""
    settings = (*SETTINGS, *knowledge(tmp_path, "extracted"), ("extraction.family", family))
    marks = {}
    for name, more in (("targets", {}), ("history", {"seen": True})):
        folder, store = tmp_path / name, Store(str(tmp_path / f"store-{name}"))
        recipes = leak_versions(folder, store, *settings, **more)
        other = Store(f"{store.root}-after")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRAWL_NODE_CACHE", f"{store.root}-node")
            made = [make(cfg, s, *ASKED) for cfg, s in zip(recipes, (store, other), strict=True)]
        worlds = [Made(cfg, s, m) for cfg, s, m in zip(recipes, (store, other), made, strict=True)]
        assert not worlds[0].table("log").equals(worlds[1].table("log"))
        assert worlds[0].table("user_prompts").num_rows > 20
        marks[name] = {table: worlds[0].table(table).equals(worlds[1].table(table)) for table in ASKED}
    assert marks["targets"] == dict.fromkeys(ASKED, True)
    assert marks["history"] == {table: table.startswith("item") for table in ASKED}


def with_column(made: Made, name: str, column: str, values: Any) -> str:
    """Publish a table anew with another column, which `values` makes of each part; returns its fingerprint."""
    inputs = Inputs(made.store, made.marks)
    tables = [inputs.part(name, number) for number in range(len(inputs.parts(name)))]
    changed = [t.set_column(t.column_names.index(column), column, values(t)) for t in tables]
    return publish(made.store, name, changed)


def trained_on_test(rows: pa.Table) -> pa.Array:
    return pc.if_else(pc.equal(rows["split"], TEST), TRAIN, rows["split"])


LEAKS = {
    "splits that call everybody a training user": (
        "splits",
        ("part", lambda rows: pa.array([TRAIN] * rows.num_rows)),
        ["item_positives", "user_positives"],
    ),
    "cut-offs that let everything be seen": (
        "cutoffs",
        ("cutoff", lambda rows: rows["events"]),
        ["user_prompts", "user_answers", "user_embeddings"],
    ),
    "test rows among the training samples": ("samples", ("split", trained_on_test), ["model"]),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_would_be_noticed(both: Worlds, leak: str) -> None:
    """With an input that leaks, the tables that are equal above differ between the worlds."""
    name, (column, values), found = LEAKS[leak]
    leaky = []
    for made in (both.before, both.after):
        kept = {n: mark for n, mark in made.marks.items() if n not in found}
        marks = make(made.cfg, made.store, *found, marks=kept | {name: with_column(made, name, column, values)})
        leaky.append(Made(made.cfg, made.store, marks))
    for table in found:
        if table == "model":
            assert leaky[0].weights() != leaky[1].weights()
        else:
            assert not leaky[0].table(table).equals(leaky[1].table(table)), table


@pytest.mark.parametrize("both", ["extracted"], indirect=True)
def test_test_targets_choose_no_epoch(both: Worlds, tmp_path: Path) -> None:
    """With several epochs, of which validation takes the best, other test targets leave the model as it is."""
    settings = (*both.settings, "training.epochs=3", "training.patience=3")
    stores = [Store(str(tmp_path / name)) for name in ("one", "two")]
    recipes = leak_versions(tmp_path, stores[0], *settings, parts=[TEST])
    first, second = (ran(cfg, store) for cfg, store in zip(recipes, stores, strict=True))
    assert first.samples(VALID).equals(second.samples(VALID))
    assert not first.samples(TEST).equals(second.samples(TEST))
    assert first.notes()["validation"] == second.notes()["validation"]
    assert first.weights() == second.weights()


@pytest.mark.parametrize("both", ["extracted"], indirect=True)
def test_a_score_depends_on_no_outcome_of_its_own_or_later(both: Worlds, tmp_path: Path) -> None:
    """Other stars in the last rating of each held-out user change no score."""
    ratings = (Path(both.before.cfg.data.path) / "ratings.dat").read_bytes().decode("latin-1").splitlines()
    inputs = Inputs(both.before.store, both.before.marks)
    ids = dict(zip(*inputs.table("users", ["user", "user_id"]).to_pydict().values(), strict=True))
    names = dict(zip(*inputs.table("items", ["item", "item_id"]).to_pydict().values(), strict=True))
    last = {row["user"]: row["item"] for row in both.before.samples(VALID, TEST).to_pylist()}  # the last one stays
    pairs = {f"{ids[user]}::{names[item]}" for user, item in last.items()}
    rows = [row.split("::") for row in ratings]
    flipped = [
        (u, i, str(6 - int(s) if s != "3" else 5), t) if f"{u}::{i}" in pairs else (u, i, s, t) for u, i, s, t in rows
    ]
    folder = tmp_path / "flipped"
    folder.mkdir()
    for name in ("users.dat", "movies.dat"):
        (folder / name).write_bytes((Path(both.before.cfg.data.path) / name).read_bytes())
    (folder / "ratings.dat").write_bytes("".join(f"{'::'.join(row)}\n" for row in flipped).encode("latin-1"))
    changed = ran(both.before.cfg.override(("data.path", str(folder))), both.before.store)
    old, new = (made.table("predictions") for made in (both.before, changed))
    different = np.flatnonzero(old["label"].to_numpy() != new["label"].to_numpy())
    assert len(different) == len(last) > 5
    assert old["score"].equals(new["score"])
