"""Grounding on the page and in `trawl show`: shares, the commonest without a source, examples, all escaped."""

import json
from pathlib import Path

import pytest
from report_world import HOSTILE, whole_run
from worlds import publish, table

from trawl.cli import main
from trawl.report import build, grounding
from trawl.report.record import Record
from trawl.store import Store

INVENTED = f"Zoe {HOSTILE}"
# item -> (grounded, mentions, unsupported)
SHARES: dict[int, tuple[float | None, int, list[str]]] = {
    1: (0.25, 4, [INVENTED, "1877", "Bo Li"]),
    2: (0.75, 4, ["1877"]),
    3: (1.0, 2, []),
    4: (None, 0, []),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    name = whole_run(store)
    rows = []
    for n in range(1, 7):
        share, mentions, unsupported = SHARES.get(n, (None, None, None))
        rows.append(
            {
                "entity": n,
                "status": "ok" if n <= 4 else "no_text",
                "text": f"Made by {INVENTED} in 1877 with Bo Li." if n <= 4 else None,
                "tokens_in": 9,
                "tokens_out": 9,
                "attempts": 1,
                "seconds": 0.1,
                "engine": "extractive",
                "mentions": mentions,
                "grounded": share,
                "unsupported": unsupported,
            }
        )
    old = {
        v.artifact: v.fingerprint for v in Record(store, name).all if any(c.startswith("extracted") for c in v.cells)
    }
    new = publish(store, "item_answers", [table("item_answers", rows[:3]), table("item_answers", rows[3:])])
    text = store.read_text("runs", name, "run.json").replace(old["item_answers"], new)
    store.write_text(text, "runs", name, "run.json")
    return store


def test_shares_and_the_commonest_without_a_source(store: Store) -> None:
    (one,) = grounding.grounds(Record(store, "whole"))
    assert (one.kind, one.source, one.rows, one.mentions) == ("item", "extracted", 3, 10)
    assert one.mean == pytest.approx(2 / 3)
    assert one.flagged == pytest.approx(2 / 3)
    assert one.bins == (1, 1, 0, 0, 1)
    assert one.common[0] == ("1877", 2)
    assert dict(one.common)[INVENTED] == 1


def test_examples_stand_beside_their_source_the_worst_first(store: Store) -> None:
    (one,) = grounding.grounds(Record(store, "whole"))
    assert [e.share for e in one.examples] == [0.25, 0.75]
    assert one.examples[0].sources == ((HOSTILE, "Source text 1"),)
    assert [p.text for p in one.examples[0].answer if p.used] == [INVENTED, "1877", "Bo Li"]
    assert "".join(p.text for p in one.examples[1].answer) == f"Made by {INVENTED} in 1877 with Bo Li."


def test_the_page_shows_it_escaped(store: Store) -> None:
    text = Path(build(store, "whole")).read_text(encoding="utf-8")
    assert '<section id="grounded">' in text
    assert "<script" not in text
    assert "<mark>Zoe &lt;script&gt;alert(1)&lt;/script&gt;</mark>" in text
    assert "66.7 %" in text


def test_a_run_that_was_not_looked_at_has_no_such_section(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert 'id="grounded"' not in Path(build(store, whole_run(store))).read_text(encoding="utf-8")


def test_show_gives_the_columns_and_says_the_share(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    arm = list(Record(store, "whole").arms)[1]
    assert main(["show", "whole", "item_answers", "--store", str(store.root), "--arm", arm, "--json"]) == 0
    out, err = capsys.readouterr()
    shown = [json.loads(line) for line in out.splitlines()]
    assert (shown[0]["grounded"], shown[0]["unsupported"]) == (0.25, SHARES[1][2])
    assert "3 answers name people, numbers or titles; 66.7% of these stand" in err
    assert "2 answers (66.7%) have some that do not" in err
    assert main(["show", "whole", "items", "--store", str(store.root)]) == 0
    assert not capsys.readouterr().err
