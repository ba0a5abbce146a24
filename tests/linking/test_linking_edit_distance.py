"""Linking against planted labels: what must link, what must not, and which of several."""

import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from trawl.linking.candidates import TrigramIndex
from trawl.linking.edit_distance import LINKS, Labels, Linker, link

LABELS = [
    ("heat95", "Heat (1995 film)", 1995, "text"),
    ("heat86", "Heat", 1986, None),
    ("visitors", "The Visitors", 1993, None),
    ("rocky2", "Rocky II", 1979, None),
    ("rocky3", "Rocky III", 1982, None),
    ("empire", "The Empire Strikes Back", 1980, None),
    ("amelie", "Amélie", 2001, None),
    ("nameless", "Undated Story", None, None),
    ("twin-b", "Twin Pages", 1990, None),
    ("twin-a", "Twin Pages", 1990, None),
    ("twin-c", "Twin Pages", 1990, "has text"),
]


def entities(rows: list[tuple[str, str, int | None, str | None]] = LABELS) -> pa.Table:
    names = ["entity_id", "label", "year", "text"]
    kinds = [pa.string(), pa.large_string(), pa.int32(), pa.large_string()]
    return pa.table([pa.array(c, k) for c, k in zip(zip(*rows, strict=True), kinds, strict=True)], names=names)


def run(titles: list[str], known: pa.Table | None = None, **changes: float) -> list[dict[str, object]]:
    settings = {"threshold": 0.9, "year_tolerance": 1, "candidates": 20} | changes
    asked = pa.table({"id": [str(n) for n in range(len(titles))], "title": titles})
    found = link(asked, known if known is not None else entities(), **settings)  # type: ignore[arg-type]
    assert found.schema == LINKS
    assert found.column("id").to_pylist() == asked.column("id").to_pylist()
    return found.to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("title", "entity", "method"),
    [
        ("Heat (1995)", "heat95", "exact"),
        ("Heat (1986)", "heat86", "exact"),
        ("Heat (1996)", "heat95", "exact"),  # within a year
        ("Heat (2010)", None, "none"),  # a remake that is not there
        ("Visitors, The (Les Visiteurs) (1993)", "visitors", "exact"),
        ("The Vistors (1993)", "visitors", "edit"),
        ("The Vistors (1994)", None, "none"),  # less than equal: the same year only
        ("Star Wars: Episode V - The Empire Strikes Back (1980)", "empire", "edit"),
        ("Rocky 2 (1979)", "rocky2", "exact"),
        ("Rocky IV (1982)", None, "none"),  # near in letters, another number
        ("Amelie (2001)", "amelie", "exact"),
        ("Undated Story (1950)", "nameless", "exact"),  # no year to speak against it
        ("Undated Storry (1950)", None, "none"),
        ("Nothing Like It (1995)", None, "none"),
        ("", None, "none"),
    ],
)
def test_planted(title: str, entity: str | None, method: str) -> None:
    (row,) = run([title])
    assert (row["entity_id"], row["method"], row["rank"]) == (entity, method, 0)


def test_of_ties_the_one_with_text_then_the_smaller_id() -> None:
    (row,) = run(["Twin Pages (1990)"])
    assert (row["entity_id"], row["ties"]) == ("twin-c", 2)
    (row,) = run(["Twin Pages (1990)"], entities().drop_columns(["text"]))
    assert (row["entity_id"], row["ties"]) == ("twin-a", 2)


def test_a_page_with_a_plain_id_goes_before_its_escaped_copy() -> None:
    copies = entities([("Ann%27s_Day", "Ann%27s Day", 1990, "text"), ("Ann's_Day", "Ann's Day", 1990, "text")])
    for decode, ties in ((False, 0), (True, 1)):
        (row,) = run(["Ann's Day (1990)"], copies, decode=decode)
        assert (row["entity_id"], row["ties"]) == ("Ann's_Day", ties)
    (row,) = run(["Ann's Day (1990)"], copies.slice(0, 1), decode=True)
    assert row["entity_id"] == "Ann%27s_Day"


def test_a_rejected_candidate_leaves_its_similarity() -> None:
    near, far = run(["Undated Storry (1950)", "zzqx (1950)"])
    assert 0.9 < near["similarity"] < 1  # type: ignore[operator]
    assert far["similarity"] is None


def test_the_year_column_goes_before_the_title() -> None:
    asked = pa.table({"id": ["a"], "title": ["Heat (1986)"], "year": pa.array([1995], pa.int32())})
    linker = Linker(Labels.build(entities()), threshold=0.95, year_tolerance=1, candidates=5)
    assert linker.link(asked).column("entity_id").to_pylist() == ["heat95"]


def test_the_order_of_labels_changes_nothing() -> None:
    titles = ["Heat (1995)", "Twin Pages (1990)", "The Vistors (1993)", "Rocky IV (1982)"]
    rows = LABELS[:]
    random.Random(3).shuffle(rows)
    assert run(titles, entities(rows)) == run(titles)


def test_no_labels_link_nothing() -> None:
    assert run(["Heat (1995)"], entities().slice(0, 0))[0]["method"] == "none"


def test_candidates_agree_with_all_pairs() -> None:
    draw = random.Random(5)
    texts = sorted({" ".join("".join(draw.choices("abcdef", k=5)) for _ in range(3)) for _ in range(400)})
    index = TrigramIndex(texts)
    asked = [t[:4] + "x" + t[5:] for t in texts[:60]]
    for number, found in enumerate(index.similar(asked, 5)):
        assert found[0] == number
        assert len(found) <= 5
    assert index.equal([texts[3], "none such"]).tolist() == [3, -1]


DATA = os.environ.get("TRAWL_DATA")


@pytest.mark.skipif(not DATA, reason="TRAWL_DATA names no folder with MovieLens-1M and the film entities")
def test_real_films_reach_the_targets() -> None:
    root = Path(str(DATA))
    known = pq.read_table(root / "wikipedia-films.parquet")
    lines = (root / "ml-1m-entity-links.tsv").read_text(encoding="utf-8").splitlines()[1:]
    ids, titles, accepted = zip(*(line.split("\t") for line in lines), strict=True)
    right = dict(zip(ids, (set(a.split("|")) for a in accepted), strict=True))
    asked = pa.table({"id": ids, "title": titles})
    settings = {"threshold": 0.95, "year_tolerance": 1, "candidates": 50}
    found = {r["id"]: r["entity_id"] for r in link(asked, known, **settings).to_pylist() if r["entity_id"]}  # type: ignore[arg-type]
    assert len(found) >= 0.98 * len(ids)
    assert sum(entity in right[i] for i, entity in found.items()) >= 0.988 * len(found)
    gone = pa.array(sorted(set.union(*right.values())))
    rest = known.filter(pc.invert(pc.is_in(known.column("entity_id"), gone)))
    left = pc.sum(pc.is_valid(link(asked, rest, **settings).column("entity_id"))).as_py()  # type: ignore[arg-type]
    assert left <= 0.015 * len(ids)
