import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from report_world import ARMS, HOSTILE, RATINGS, data_run, whole_run
from worlds import behaviour, publish, table

from trawl.errors import ArtifactError, AskedWrongly
from trawl.report import behaviour as read
from trawl.report import budgets, doubts, hub_plots, hubs, knowledge, links, outcome, page, texts, tokens
from trawl.report.record import Record, Variant
from trawl.store import Store

ALIGNED = list(ARMS)[1]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    store = Store(str(tmp_path))
    return Record(store, whole_run(store))


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="no run 'nothing'"):
        Record(Store(str(tmp_path)), "nothing")


def test_what_was_read(record: Record) -> None:
    found = read.behaviour(record)
    assert found is not None
    assert (found.users, found.items, found.events, found.cold_items) == (20, 6, len(RATINGS), 1)
    assert found.per_user == {"median": 4.0, "mean": 4.0, "most": 4.0}
    assert [(s.name, s.users, s.samples, s.liked) for s in found.splits] == [
        ("train", 16, 32, 0.5),
        ("valid", 2, 4, 0.5),
        ("test", 2, 4, 0.5),
    ]


def test_median_of_unequal_users(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ratings = [(user, item, 5.0) for user, n in enumerate((1, 1, 3, 7, 9), 1) for item in range(1, n + 1)]
    name = data_run(store)
    record = Record(store, name)
    record.cells[0]["artifacts"] |= behaviour(store, ratings)
    record.all = record._variants()
    found = read.behaviour(record)
    assert found is not None
    assert found.per_user == {"median": 3.0, "mean": 21 / 5, "most": 9.0}


def test_links_against_the_truth(record: Record) -> None:
    found = links.links(record)
    assert found is not None
    assert (found.items, found.linked, found.tied, found.with_text) == (6, 4, 1, 4)
    assert found.coverage == pytest.approx(4 / 6)
    assert found.methods == {"edit": 2, "exact": 2, "none": 2}
    assert found.counts.sum() == 5  # film 6 has no candidate at all
    assert found.counts[-1] == 2  # the exact ones; .96 and .97 lie one bin lower
    assert found.accuracy == links.Accuracy(items=5, linked=4, right=3)
    assert found.accuracy.share == 0.75


def test_doubts_begin_with_what_is_known_to_be_wrong(record: Record) -> None:
    found = links.links(record)
    assert found is not None
    assert [(d.entity_id, d.verdict, d.ties) for d in found.doubts] == [
        ("Q3", "wrong", 0),
        ("Q2", "right", 1),
        ("Q4", "right", 0),
    ]
    assert found.doubts[0].label == f"{HOSTILE} 3"
    assert [d.apart for d in found.doubts] == [36, 37, 35]  # film n is of 1960 + n, the entities of 1999
    assert (found.apart, found.shared, found.crowded) == (3, 0, ())


def test_items_without_a_link_the_nearest_miss_first(record: Record) -> None:
    found = links.links(record)
    assert found is not None
    assert [(u.title, u.similarity) for u in found.unlinked] == [("Film 5 (1965)", 0.4), ("Film 6 (1966)", None)]


def test_entities_with_several_items(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"item": i, "rank": 0, "entity_id": "Q1" if i < 4 else f"Q{i}", "similarity": 1.0, "method": "exact", "ties": 0}
        for i in range(1, 7)
    ]
    parts = [table("knowledge", rows[:2]), table("knowledge", rows[2:])]
    for cell in record.cells:
        cell["artifacts"]["knowledge"] = publish(record.store, "knowledge", parts)
    record.all = record._variants()
    found = links.links(record)
    assert found is not None
    assert (found.shared, found.counted_all) == (1, True)
    assert [(c.entity_id, c.items, len(c.titles)) for c in found.crowded] == [("Q1", 3, 3)]
    monkeypatch.setattr(doubts, "_MOST", 0)
    again = links.links(record)
    assert again is not None
    assert not again.counted_all
    assert again.apart is None  # too many entities to look up their years


def test_links_without_truth(record: Record) -> None:
    for cell in record.cells:
        cell["artifacts"].pop("truth")
    record.all = record._variants()
    found = links.links(record)
    assert found is not None
    assert found.accuracy is None
    assert {d.verdict for d in found.doubts} == {""}


def test_answers_by_source(record: Record) -> None:
    found = {(a.kind, a.source): a for a in texts.answers(record)}
    assert list(found) == [("item", "none"), ("item", "extracted"), ("user", "none"), ("user", "extracted")]
    item = found["item", "extracted"]
    assert item.statuses == (("ok", 4, 4 / 6), ("no_text", 2, 2 / 6))
    assert item.reasons == (("nothing <there>", 2),)
    assert (item.tokens_in, item.tokens_out, item.seconds, item.again) == (400, 40, 3.0, 1)
    assert item.cut_prompts == 0.25
    assert item.cut_tokens == pytest.approx(25 / (25 + 300))
    assert item.arms == ALIGNED
    assert found["item", "none"].cut_tokens is None


def test_examples_pair_text_and_answer(record: Record) -> None:
    whole = knowledge.knowledge(record)
    assert whole is not None
    found = whole.examples
    assert [e.kind for e in found] == ["item"] * 4 + ["user"] * 3
    first, user = found[0], found[4]
    assert first.name == HOSTILE
    assert "".join(p.text for p in first.sources[0].pieces) == "Source text 1"
    assert "".join(p.text for p in first.answer) == f"{HOSTILE} likes 1"
    assert (first.kept, first.cut) == (75, 25)
    assert user.name == "u1"
    assert [source.name for source in user.sources] == [HOSTILE, "Film 2 (1962)"]
    assert whole.looked_at == 4
    assert whole.found == 0.0


def test_shuffled_sources_say_of_what(record: Record) -> None:
    record.cells[1]["overrides"] = {"extraction.source": "shuffled", "extraction.shuffle_of": "raw"}
    assert {a.source for a in texts.answers(record)} == {"none", "shuffled raw"}
    assert knowledge.knowledge(record) is None


def test_tokens_by_status_and_engine(record: Record) -> None:
    found = {(t.kind, t.source): t for t in tokens.tokens(record)}
    assert list(found) == [("item", "extracted"), ("user", "extracted")]  # without knowledge there are no tokens
    item = found["item", "extracted"]
    assert [vars(t) for t in item.totals] == [
        {"status": "ok", "engine": "extractive", "rows": 4, "tokens_in": 400, "tokens_out": 40},
        {"status": "no_text", "engine": "extractive", "rows": 2, "tokens_in": 0, "tokens_out": 0},
    ]
    place = int(np.flatnonzero(item.into.counts)[0])
    assert tokens.EDGES[place] <= 100 < tokens.EDGES[place + 1]
    assert item.into.counts.sum() == 4
    assert item.into.largest == 100
    assert item.out.median == 11  # 10 tokens lie between 8 and 11


def test_what_the_budget_did(record: Record) -> None:
    """Of four prompts about items the first is cut. Then others: one skipped, one whole, three chunks of a third."""
    found = {(b.kind, b.prompts): b for b in budgets.budgets(record)}
    item = found["item", 4]
    assert (item.policy, item.cut, item.cut_share, item.texts_cut, item.whole) == ("middle", 1, 0.25, 1, 3)
    assert (item.there, item.kept, item.lost_cut, item.lost_share) == (325, 300, 25, 25 / 325)
    assert (item.chunked, item.chunks, item.skipped) == (0, 0, 0)

    def prompt(entity: int, plan: str, chunk: int = 0, chunks: int = 1, kept: int = 50) -> dict[str, Any]:
        made = {"plan": plan, "chunk": chunk, "chunks": chunks, "kept": [kept], "there": 50, "cut": 50 - kept}
        own = {"step": 0, "digest": "d", "template": "t", "items": [1], "text_digests": ["x"], "ranges": []}
        return {"entity": entity, "texts_cut": int(kept < 50), "tokens": 90, "cutoff": 0, **own, **made}

    rows = [prompt(1, "skip", kept=0), *(prompt(2, "chunks", n, 3) for n in range(3)), prompt(3, "whole")]
    mark = publish(record.store, "item_prompts", [table("item_prompts", rows)])
    manifest = record.store.manifest("item_prompts", mark)
    assert manifest is not None
    record.all = [Variant("item_prompts", mark, ("none/0",), manifest)]
    mixed = budgets.budgets(record)[0]
    assert (mixed.prompts, mixed.whole, mixed.cut, mixed.cut_share) == (5, 4, 0, 0.0)
    assert (mixed.chunked, mixed.chunks, mixed.skipped) == (1, 3, 1)
    assert (mixed.there, mixed.kept, mixed.lost_cut, mixed.lost_skipped, mixed.texts_cut) == (250, 200, 0, 50, 0)


def test_a_text_of_more_tokens_than_the_last_edge_is_counted() -> None:
    assert np.searchsorted(tokens.EDGES, 10**9, side="right") - 1 == len(tokens.EDGES) - 1
    assert (np.diff(tokens.EDGES) > 0).all()


def test_vectors(record: Record) -> None:
    found = {(v.kind, v.source): v for v in texts.vectors(record)}
    item = found["item", "extracted"]
    assert (item.rows, item.with_text, item.dimension, item.unread) == (6, 4 / 6, 8, 0.1)
    assert found["user", "none"].with_text == 0
    assert found["user", "none"].unread is None


def test_hubness(record: Record) -> None:
    user, item = hubs.hubs(record)
    assert (user.kind, user.anchors, user.without, user.distinct) == ("user", 10, 6, 2)
    assert (user.largest, user.ten, user.tied) == (0.9, 1.0, 0.0)
    assert user.degrees.tolist() == [9, 1]
    assert (item.kind, item.anchors, item.without, item.distinct, item.largest) == ("item", 4, 2, 4, 0.25)
    assert item.tied == 0.25


def test_hubness_where_a_batch_ends_between_the_rows_of_an_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    record = Record(store, data_run(store))
    rows = [{"anchor": a, "rank": r, "partner": 7 - a, "score": 1.0, "shared": 1} for a in (1, 2, 3) for r in (0, 1, 2)]
    record.cells[0]["artifacts"]["item_positives"] = publish(store, "item_positives", [table("item_positives", rows)])
    record.all = record._variants()
    small = Record.batches
    for size in (1, 2, 4, 100):
        monkeypatch.setattr(Record, "batches", lambda self, v, c, rows=0, size=size: small(self, v, c, size))
        (found,) = hubs.hubs(record)
        assert (found.tied, found.anchors, found.degrees.tolist()) == (1.0, 3, [1, 1, 1])


def _told(store: Store, notes: dict[str, Any], **settings: Any) -> Record:
    """A run whose items 1..6 have item 7 - n as positive, and what mining left in the manifest."""
    record = Record(store, data_run(store))
    rows = [{"anchor": a, "rank": 0, "partner": 1 if a > 3 else 7 - a, "score": 1.0, "shared": 1} for a in range(1, 7)]
    mark = publish(store, "item_positives", [table("item_positives", rows)], notes)
    record.cells[0]["artifacts"]["item_positives"] = mark
    record.cells[0]["overrides"] = settings
    record.all = record._variants()
    return record


def test_hubness_shows_what_mining_told(tmp_path: Path) -> None:
    notes = {
        "interactions": "all",
        "caps": {"words": "capped, users per item: 5"},
        "cap_words": "cap error: of 9 targets",
        "warnings": ["positives collapse", "<b>bold</b>"],
        "degrees": {
            "population": {"lowest": [1, 4, 9], "counts": [5, 4, 1]},
            "positives": {"lowest": [4, 9], "counts": [1, 3]},
        },
    }
    record = _told(Store(str(tmp_path)), notes, **{"training.anchors": 3})
    (found,) = hubs.hubs(record)
    assert (found.interactions, found.batch, found.caps, found.cap_error) == ("all", 3, *_SAID)
    assert found.warnings == ("positives collapse", "<b>bold</b>")
    assert found.population is not None and found.positives is not None
    assert (found.population.median, found.positives.median) == (1, 9)
    # 6 anchors, 3 of one positive: 6 of the 30 ordered pairs share it; 2 others in a batch of 3.
    assert found.collisions == pytest.approx(6 / 30 * 2)
    drawn = hub_plots.degrees([found])
    assert drawn is not None and "half of the positives at most 9" in drawn.alt
    text = page._render(page._contents(record))
    assert "&lt;b&gt;bold&lt;/b&gt;" in text and "<b>bold</b>" not in text
    assert "Cap error: of 9 targets" in text and "0.40 <small>of 3</small>" in text


_SAID = ("capped, users per item: 5", "cap error: of 9 targets")


def test_hubness_of_a_run_that_told_nothing(tmp_path: Path) -> None:
    record = _told(Store(str(tmp_path)), {})
    (found,) = hubs.hubs(record)
    assert (found.interactions, found.batch, found.population, found.warnings) == ("liked", 256, None, ())
    assert hub_plots.degrees([found]) is None
    assert 'id="mined"' in page._render(page._contents(record))


def test_results_are_means_by_arm(record: Record) -> None:
    more = dict(record.results[0], repetition=1, validation=dict(record.results[0]["validation"], auc=0.79))
    record.results.append(more)
    found = outcome.results(record)
    assert found is not None
    assert [r.arm for r in found.rows] == list(ARMS)
    assert found.rows[0].validation["auc"] == pytest.approx((0.71 + 0.79) / 2)
    assert found.rows[0].repetitions == 2
    assert found.rows[1].test["logloss"] == pytest.approx(0.25)
    assert found.rows[1].slices["cold"]["gauc"] == pytest.approx(0.64)
    assert found.rows[1].differences["all"]["low"] == 0.0123
    assert (found.reference, found.best.arm, found.sliced) == ("none", ALIGNED, True)


def test_results_of_a_run_without_slices(record: Record) -> None:
    for row in record.results:
        row["test"] |= {"warm": None, "cold": None}
    found = outcome.results(record)
    assert found is not None
    assert not found.sliced


def test_differences_that_are_not_defined_are_left_out(record: Record) -> None:
    found = [c | {"low": bad} for c, bad in zip(record.comparisons, (None, float("nan"), 0.0), strict=True)]
    record.store.write_text(json.dumps(found), "runs", record.name, "comparisons.json")
    assert [c["low"] for c in Record(record.store, record.name).comparisons] == [0.0]


def test_curves(record: Record) -> None:
    plain, aligned = outcome.curves(record)
    assert [row["rec"] for row in plain.rows] == pytest.approx([0.6, 0.3, 0.2])
    assert [row["auc"] for row in aligned.rows] == pytest.approx([0.63, 0.66, 0.69])
    assert (aligned.arm, aligned.repetition, aligned.best_epoch) == (ALIGNED, 0, 3)


def test_stages_say_what_was_made_found_or_is_missing(record: Record) -> None:
    record.cells[0]["artifacts"]["predictions"] = "0" * 20
    found = {(s.artifact, s.whose): s for s in outcome.stages(record)}
    assert found["users", "all"].state == "made"
    assert found["items", "all"].state == "there before"
    assert found["predictions", "none/0"].state == "not made"
    assert found["log", "all"].rows == len(RATINGS)
    assert found["log", "all"].parts == 2


def test_a_broken_table_is_named(record: Record) -> None:
    variant = record.first("cutoffs")
    assert variant is not None
    path = record.store.path("cutoffs", variant.fingerprint, "part-00000.parquet")
    Path(path).write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"part-00000\.parquet: cannot be read"):
        read.behaviour(record)
    Path(path).unlink()
    with pytest.raises(ArtifactError, match=r"part-00000\.parquet: cannot be read"):
        read.behaviour(record)


def test_bincount_grows_with_the_values_of_later_parts(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = Record(store, data_run(store))
    parts = [[{"user": 1, "cutoff": 0, "events": 1}], [], [{"user": 2, "cutoff": 0, "events": 5}]]
    mark = publish(store, "cutoffs", [table("cutoffs", rows) for rows in parts])
    record.cells[0]["artifacts"] = {"cutoffs": mark}
    record.all = record._variants()
    variant = record.first("cutoffs")
    assert variant is not None
    np.testing.assert_array_equal(record.bincount(variant, "events"), [0, 1, 0, 0, 0, 1])
    assert pa.concat_tables(record.batches(variant, ["events"])).num_rows == 2
