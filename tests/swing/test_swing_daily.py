"""Re-mining from an earlier day against a full run, over random days and all formulas."""

import datetime
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trawl import cli
from trawl.errors import AskedWrongly
from trawl.swing import Caps, Columns, Days, Formula, Request, earlier, mine_file, tables
from trawl.swing.earlier import SUFFIX
from trawl.swing.front import summary

COLUMNS = Columns(user="who", item="what", time="when")
FORMULAS = [
    Formula(normalize=normalize, diagonal=diagonal, node_weight=weight, alpha=alpha)
    for normalize in ("none", "cosine", "degree")
    for diagonal, weight, alpha in (
        (True, "none", 1.0),
        (False, "none", 0.5),
        (True, "sqrt", 1.0),
        (False, "power", 0.0),
    )
]
CAPS = [Caps(), Caps(users_per_item=2, items_per_user=2), Caps(target_features=2, cap_seed=1)]


def date(day):
    return datetime.date(2024, 1, 1) + datetime.timedelta(days=day)


def write(path, rows):
    """rows: (user, item, day)."""
    users, items, days = zip(*rows, strict=True) if rows else ((), (), ())
    table = {"who": pa.array(users, pa.int64()), "what": pa.array(items, pa.string())}
    pq.write_table(pa.table(table | {"when": pa.array([date(d) for d in days], pa.date32())}), path)


def run(folder, out, day, base="", columns=COLUMNS, source="log.parquet", **options):
    days = Days(day=str(date(day)), window_days=options.pop("window", 0), half_life_days=options.pop("half_life", 0.0))
    request = Request(**{"side": "user", "top_k": 3, "base": str(base), "days": days} | options)
    report = mine_file(folder / source, folder / out, columns, request)
    return pq.read_table(folder / out).to_pylist(), report


def same(rows, expected):
    def ids(some):
        return [(r["anchor"], r["rank"], r["partner"], r["shared"]) for r in some]

    assert ids(rows) == ids(expected)
    assert all(abs(a["score"] - b["score"]) <= 1e-12 * b["score"] for a, b in zip(rows, expected, strict=True))


@st.composite
def worlds(draw):
    """Groups of users with items of their own, so that a day touches some: rows, and days to mine one after another."""
    rows, groups = [], draw(st.integers(3, 6))
    for group in range(groups):
        pair = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 5))
        found = draw(st.lists(pair, max_size=14))
        # A group that is never seen again, so that some anchors stay as they are.
        late = draw(st.sampled_from([True, False, False]))
        rows += [(10 * group + u, f"i{group}{i}", d if late else min(d, 1)) for u, i, d in found]
    rows += draw(
        st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["i00", "i11", "x"]), st.integers(0, 5)), max_size=2)
    )
    return rows, sorted(draw(st.sets(st.integers(0, 6), min_size=2, max_size=4)))


@pytest.mark.parametrize("normalize", ["none", "cosine", "degree"])
def test_a_result_from_an_earlier_one_is_that_of_a_full_run(tmp_path_factory, normalize):
    copied = []

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        worlds(),
        st.sampled_from([formula for formula in FORMULAS if formula.normalize == normalize]),
        st.sampled_from([0, 0, 3]),
        st.sampled_from([0.0, 1.5, 2.0]),
        st.sampled_from(["user", "item"]),
        st.sampled_from(CAPS),
    )
    def check(world, formula, window, half_life, side, caps):
        rows, days = world
        folder = tmp_path_factory.mktemp("daily")
        write(folder / "log.parquet", rows)
        options = {"side": side, "formula": formula, "window": window, "half_life": half_life, "caps": caps}
        base = ""
        for day in days:
            full, _ = run(folder, "full.parquet", day, **options)
            again, report = run(folder, "again.parquet", day, base, **options)
            same(again, full)
            if base and not report["base"]["full_run_because"]:
                copied.append(report["base"]["copied"])
                assert report["base"]["touched"] <= 0.5
            base = folder / "again.parquet"

    check()
    assert sum(copied) > 50  # else nothing was shown


# Groups that share nothing: a day touches one of them.
GROUPS = [(10 * g + u, f"{g}{i}", 0) for g in range(4) for u in range(3) for i in range(2)]
SECOND = [*GROUPS, (30, "30", 1), (33, "31", 1)]


@pytest.fixture
def first(tmp_path):
    write(tmp_path / "log.parquet", SECOND)
    run(tmp_path, "first.parquet", 0)
    return tmp_path


def test_what_a_day_does_not_touch_is_copied_and_the_report_says_so(first):
    rows, report = run(first, "second.parquet", 1, first / "first.parquet")
    same(rows, run(first, "full.parquet", 1)[0])
    again = report["base"]
    assert again == {"file": str(first / "first.parquet"), "touched": 4 / 13, "copied": 9, "full_run_because": None}
    assert "30.8% of the anchors touched; 9 anchors copied from" in summary(report)


def test_the_newest_of_a_folder_serves_and_the_result_may_replace_its_base(first):
    run(first, "later.parquet", 3)
    assert run(first, "x.parquet", 1, first)[1]["base"]["file"] == str(first / "first.parquet")  # not the later one
    rows, report = run(first, "first.parquet", 1, first / "first.parquet")
    assert report["base"]["copied"] == 9
    same(rows, run(first, "full.parquet", 1)[0])
    assert run(first, "x.parquet", 1, first / "first.parquet")[1]["base"]["copied"] == 13  # it is of day 1 now


def altered(path):
    rows = pq.read_table(path)
    pq.write_table(rows.slice(1), path)


def other_rows(path):
    write(path.with_name("log.parquet"), SECOND[1:])


def broken_manifest(path):
    (path.parent / (path.name + SUFFIX)).write_text("{")


def no_manifest(path):
    (path.parent / (path.name + SUFFIX)).unlink()


def manifest_of_other_form(path):
    file = path.parent / (path.name + SUFFIX)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"graph": None}))


@pytest.mark.parametrize(
    ("harm", "options", "why"),
    [
        (altered, {}, "was altered since its manifest was written"),
        (other_rows, {}, "the interactions of its window are not those that it was made of"),
        (broken_manifest, {}, "cannot be read"),
        (manifest_of_other_form, {}, "cannot be read"),
        (no_manifest, {}, "has no manifest first.parquet.manifest.json"),
        (pathlib.Path.unlink, {}, "is no longer there"),
        (None, {"formula": Formula(alpha=2.0)}, "was made with another formula"),
        (None, {"top_k": 2}, "was made with another top_k (3, not 2)"),
        (None, {"half_life": 1.0}, "was made with another half_life_days (0.0, not 1.0)"),
        (None, {"side": "item"}, "was made with another side"),
        (None, {"caps": Caps(cap_seed=1)}, "was made with another caps"),
    ],
)
def test_a_base_that_is_none_is_a_full_run_with_a_line(first, harm, options, why):
    if harm:
        harm(first / "first.parquet")
    rows, report = run(first, "second.parquet", 1, first / "first.parquet", **options)
    assert why in report["base"]["full_run_because"] and "\n" not in report["base"]["full_run_because"]
    assert f"full run: {report['base']['full_run_because']}" in summary(report)
    assert report["base"]["copied"] == 0
    same(rows, run(first, "full.parquet", 1, **options)[0])


def test_no_base_at_all_and_more_than_half_touched(first):
    assert "no such file or folder" in run(first, "a.parquet", 1, first / "none")[1]["base"]["full_run_because"]
    (first / "empty").mkdir()
    why = run(first, "a.parquet", 1, first / "empty")[1]["base"]["full_run_because"]
    assert "no earlier result with a manifest" in why
    write(first / "log.parquet", [*GROUPS, *((10 * g, f"{g}9", 1) for g in range(3))])
    run(first, "first.parquet", 0)
    report = run(first, "a.parquet", 1, first / "first.parquet")[1]
    assert report["base"]["full_run_because"] == "75% of the anchors are touched"


def test_ids_that_are_ordered_otherwise_are_a_full_run(tmp_path):
    rows = [(str(u), i, d) for u, i, d in GROUPS]
    table = [*rows, ("x", "39", 1)]
    users, items, days = zip(*table, strict=True)
    when = pa.array([date(d) for d in days])
    pq.write_table(pa.table({"who": users, "what": items, "when": when}), tmp_path / "log.parquet")
    run(tmp_path, "first.parquet", 0)
    found, report = run(tmp_path, "a.parquet", 1, tmp_path / "first.parquet")
    assert "its ids were ordered otherwise" in report["base"]["full_run_because"]
    same(found, run(tmp_path, "full.parquet", 1)[0])


def test_a_result_that_could_not_be_written_leaves_the_earlier_one(first, monkeypatch):
    before = (first / "first.parquet").read_bytes()
    monkeypatch.setattr(tables.Mined, "_table", lambda self, rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(first, "first.parquet", 1)
    assert (first / "first.parquet").read_bytes() == before
    assert (first / f"first.parquet{SUFFIX}").is_file() and not list(first.glob(".*"))


def test_a_result_whose_manifest_could_not_be_written_is_no_base(first, monkeypatch):
    monkeypatch.setattr(earlier, "written", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(first, "first.parquet", 1)
    monkeypatch.undo()
    report = run(first, "second.parquet", 1, first / "first.parquet")[1]
    assert "has no manifest" in report["base"]["full_run_because"]


def test_windows_count_what_they_say(tmp_path):
    write(tmp_path / "log.parquet", [(1, "x", 0), (2, "x", 0), (2, "x", 2), (3, "x", 2), (4, "x", 5)])
    rows, report = run(tmp_path, "a.parquet", 2, window=1)
    assert {r["anchor"] for r in rows} == {"2", "3"} and report["read"] == 5 and report["interactions"] == 2
    assert report["window"] == {"first": "2024-01-03", "last": "2024-01-03", "days": 1, "half_life_days": 0.0}
    assert {r["anchor"] for r in run(tmp_path, "a.parquet", 2)[0]} == {"1", "2", "3"}
    rows, report = run(tmp_path, "a.parquet", 4, window=1)
    assert rows == [] and "no rows in the window: the table of partners is empty" in report["warning"]


def test_who_loses_an_interaction_is_touched_and_the_others_of_its_kept_features_are_not_spared(tmp_path):
    """On day 2 the window of two days no longer holds x, which 1 and 2 had; the list of y is what it was."""
    pair = [(u, i, d) for u in (1, 2) for i, d in (("x", 0), ("y", 1))]
    others = [(10 * g + u, f"{g}{i}", 1) for g in range(1, 4) for u in range(3) for i in range(2)]
    write(tmp_path / "log.parquet", [*pair, *others])
    for normalize in ("none", "cosine", "degree"):
        options = {"window": 2, "formula": Formula(normalize=normalize, node_weight="sqrt")}
        run(tmp_path, "first.parquet", 1, **options)
        rows, report = run(tmp_path, "second.parquet", 2, tmp_path / "first.parquet", **options)
        same(rows, run(tmp_path, "full.parquet", 2, **options)[0])
        assert report["base"]["copied"] == 9 and report["base"]["touched"] == 2 / 11


def test_decay_is_the_formula_and_the_newest_of_a_pair_counts(tmp_path):
    write(tmp_path / "log.parquet", [(1, "x", 0), (1, "x", 4), (2, "x", 2), (3, "y", 4)])
    rows, _ = run(tmp_path, "a.parquet", 4, half_life=4.0, formula=Formula(normalize="none"))
    # x has two users; the weights are 1 and 0.5^(2/4): 1 * 1 * 0.5 / (1 + 2), 1 and 0.5^0.5 each standing twice
    assert [(r["anchor"], r["partner"]) for r in rows] == [("1", "2"), ("2", "1")]
    assert all(abs(r["score"] - 0.5 / 3) < 1e-7 for r in rows)


def test_dated_folders_need_no_column_and_others_are_not_read(tmp_path):
    for day in range(4):
        folder = tmp_path / "log" / f"date={date(day)}"
        folder.mkdir(parents=True)
        who = [1, 2] if day else [1, -2]  # an id that would be refused
        pq.write_table(pa.table({"who": who, "what": ["x", "x"]}), folder / "p.parquet")
    columns = Columns(user="who", item="what")
    rows, report = run(tmp_path, "a.parquet", 2, window=2, columns=columns, source="log")
    assert [(r["anchor"], r["partner"]) for r in rows] == [("1", "2"), ("2", "1")] and report["read"] == 4
    request = Request(side="user", days=Days(window_days=1))
    assert mine_file(tmp_path / "log", tmp_path / "b.csv", columns, request)["window"]["last"] == str(date(3))


def test_days_of_interactions_without_dates_are_refused(tmp_path):
    write(tmp_path / "log.parquet", SECOND)
    columns = Columns(user="who", item="what")
    for options in ({"days": Days(window_days=1)}, {"base": "x.parquet"}):
        with pytest.raises(AskedWrongly, match="name --time-column, or a folder of folders date=YYYY-MM-DD"):
            mine_file(tmp_path / "log.parquet", tmp_path / "a.csv", columns, Request(side="user", **options))
    assert not list(tmp_path.glob("a.csv*"))


def test_threads_change_nothing(first):
    one = run(first, "a.parquet", 1, first / "first.parquet")[0]
    assert run(first, "b.parquet", 1, first / "first.parquet", workers=3)[0] == one


def test_the_command_line_mines_day_after_day(first, capsys):
    words = ["swing", "--interactions", str(first / "log.parquet"), "--user-column", "who", "--item-column", "what"]
    words += ["--side", "user", "--time-column", "when", "--window-days", "9", "--half-life-days", "2", "--json"]
    words += ["--normalize", "none", "--no-diagonal", "--node-weight", "sqrt", "--users-per-item", "exact"]
    for day, base in ((0, []), (1, ["--base", str(first / "0.csv")]), (1, [])):
        out = first / f"{day}{'' if base or not day else 'full'}.csv"
        assert cli.main([*words, "--day", str(date(day)), "--out", str(out), *base]) == 0
        report = json.loads(capsys.readouterr().out)
    assert report["window"]["first"] == "2023-12-25"
    assert (first / "1.csv").read_text() == (first / "1full.csv").read_text()
    assert cli.main([*words, "--like-above", "3", "--out", str(first / "a.csv")]) == 2
    assert "name --rating-column" in capsys.readouterr().err
