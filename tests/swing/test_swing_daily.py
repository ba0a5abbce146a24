"""Re-mining from an earlier day against a full run, over random days and all formulas."""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trawl.errors import AskedWrongly
from trawl.swing import Caps, Columns, Days, Formula, Request, mine_file
from trawl.swing.earlier import SUFFIX

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
