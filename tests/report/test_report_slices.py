"""Slices and pulls of the losses, from the small run's own numbers."""

import json
from html import unescape
from pathlib import Path

import pytest
from report_world import ARMS, whole_run

from trawl.printing import result_table, slice_table
from trawl.report import build, pulls, slice_plots, slices
from trawl.report.record import Record
from trawl.runs import Run
from trawl.store import Store

ALIGNED = list(ARMS)[1]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    store = Store(str(tmp_path))
    return Record(store, whole_run(store))


def test_slices_are_means_by_arm_in_the_order_of_their_counts(record: Record) -> None:
    items, text = slices.sliced(record.results, record.arms)
    assert [(c.name, c.words, c.rows) for c in items.columns] == [
        ("0", "0", 2),
        ("q1", "1-56", 2),
        ("q2", "57-1,234", 2),
    ]
    assert list(items.arms) == list(ARMS)
    assert items.value("none", "0", "auc") == pytest.approx(0.6)
    assert items.value(ALIGNED, "q1", "auc") == pytest.approx(0.75)
    assert items.value(ALIGNED, "q2", "auc") is None
    assert [c.words for c in text.columns] == ["with", "without"]
    assert list(text.arms) == [ALIGNED]
    assert text.value(ALIGNED, "without", "auc") == 0.5


def test_counts_of_a_bin_span_the_repetitions(record: Record) -> None:
    other = {"items": [{"name": "q1", "from": 3, "to": 99, "auc": 0.9, "rows": 4}]}
    again = {"arm": "none", "test": {"slices": other}}
    items = slices.sliced([*record.results, again], record.arms)[0]
    assert [c.words for c in items.columns] == ["0", "1-99", "57-1,234"]
    assert items.value("none", "q1", "auc") == pytest.approx((0.7 + 0.9) / 2)


def test_results_of_before_have_no_slices(record: Record) -> None:
    assert slices.sliced([{"arm": "none", "test": {"auc": 0.7}}], ["none"]) == []


def test_the_picture_says_how_far_each_arm_is_from_the_reference(record: Record) -> None:
    found = slices.sliced(record.results, record.arms)
    (picture,) = slice_plots.by_slice(found, "none")
    assert f"{ALIGNED}: +0.0500, +0.0500, none" in picture.alt
    assert slice_plots.by_slice(found, "nobody") == []


def test_an_arm_with_other_test_rows_has_a_line_instead_of_differences(record: Record) -> None:
    gap = dict.fromkeys(("difference", "low", "high", "p", "p_holm", "p_table"))
    known = record.comparisons[0] | gap | {"reason": "its test rows are others"}
    rows = [known | {"slice": s, "metric": m} for s in ("all", "cold", "items/q1", "items/q2") for m in ("auc", "gauc")]
    line = f"{ALIGNED}: no difference from none (rows: all, cold, items): its test rows are others"
    assert slices.unpaired([*record.comparisons, *rows]) == {ALIGNED: line}
    assert slices.unpaired(record.comparisons) == {}, "older runs give no reason"
    page = Path(build(record.store, record.name)).read_text(encoding="utf-8")
    assert ("no difference from" in page, "Difference of test AUC from none by" in page) == (False, True)
    record.store.write_text(json.dumps(rows), "runs", record.name, "comparisons.json")
    page = unescape(Path(build(record.store, record.name)).read_text(encoding="utf-8"))
    assert f'<p class="warning" role="note">{line}</p>' in page
    assert "Difference of test AUC from none by" not in page, "nor in a picture"
    shown = result_table(Run(record.store, record.name)).splitlines()
    assert shown.count(line) == 1
    row = next(text for text in shown if text.startswith(ALIGNED))
    assert "[" not in row and row.split()[-1] == "-"


def test_on_the_terminal(record: Record) -> None:
    lines = slice_table(slices.sliced(record.results, record.arms)[0]).splitlines()
    assert lines[0] == "test AUC by training interactions of the item"
    assert lines[1].split() == ["arm", "0", "1-56", "57-1,234"]
    assert lines[3].split() == ["none", "0.6000", "0.7000", "-"]


def test_pulls_are_of_models_with_more_than_one_part(record: Record) -> None:
    found = pulls.pulls(record)
    assert {(p.arm, p.repetition) for p in found} == {(ALIGNED, 0)}
    assert [(p.epoch, p.best) for p in found] == [(1, False), (2, False), (3, True)]
    assert found[0].norms == {"rec": (0.25, 0.5), "ii": (0.0625, 0.0625)}
    assert found[0].learned == {"temperature": 0.1234}


def test_the_page_shows_both(record: Record) -> None:
    page = Path(build(record.store, record.name)).read_text(encoding="utf-8")
    for words in (
        "Test rows by training interactions of the item",
        "57-1,234",
        "Pull of each part",
        "0.1234",
        "0.0625",
    ):
        assert words in page


def test_intervals_of_slices_stand_in_their_table_and_not_among_all_comparisons(record: Record) -> None:
    known = record.comparisons[0]
    rows = [
        known | {"slice": "items/q1", "difference": 0.0222, "low": 0.0111, "high": 0.0333},
        known | {"slice": "items/q1", "metric": "gauc", "difference": 0.0444},
    ]
    before = Path(build(record.store, record.name)).read_text(encoding="utf-8")
    record.store.write_text(json.dumps([*record.comparisons, *rows]), "runs", record.name, "comparisons.json")
    page = Path(build(record.store, record.name)).read_text(encoding="utf-8")
    told = '<small class="clear">+0.0222 [+0.0111, +0.0333]</small>'
    assert (told in before, page.count(told)) == (False, 1)
    assert "0.0444" not in page
    assert "items/q1" not in page
    assert "All comparisons (3)" in before and "All comparisons (3)" in page
