"""The stage `knowledge` on hand-made tables."""

from pathlib import Path

from worlds import publish, table

from trawl.config import Config
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.linking.report import linking_report
from trawl.linking.stage import STAGES
from trawl.stage import run_stage
from trawl.store import Store


def test_one_row_per_item_with_the_text_of_its_entity(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    items = [{"item": n, "item_id": f"i{n}", "title": t, "year": None, "fields": []} for n, t in enumerate(TITLES, 1)]
    known = [
        {"entity": 1, "entity_id": "heat", "label": "Heat (film)", "year": 1995, "text": "A crime film."},
        {"entity": 2, "entity_id": "bare", "label": "Bare", "year": 1990, "text": None},
    ]
    marks = {
        "items": publish(store, "items", [table("items", items[:2]), table("items", items[2:])]),
        "entities": publish(store, "entities", [table("entities", known)]),
    }
    done = run_stage(STAGES[0], Config(), store, marks, Inline())
    rows = Inputs(store, {"knowledge": done.fingerprint}).table("knowledge")
    assert [(r["item"], r["entity_id"], r["text"], r["method"]) for r in rows.to_pylist()] == [
        (1, "heat", "A crime film.", "exact"),
        (2, None, None, "none"),
        (3, "bare", None, "exact"),
    ]
    assert done.statuses == {"exact": 2, "none": 1}
    report = linking_report(
        rows, table("truth", [{"item": 1, "entity_ids": ["heat"]}, {"item": 2, "entity_ids": ["x"]}])
    )
    assert (report["coverage"], report["accuracy"], report["truth_coverage"]) == (2 / 3, 1.0, 0.5)


TITLES = ("Heat (1995)", "Cold (1995)", "Bare (1990)")
