import numpy as np
import pyarrow as pa
import pytest
from worlds import behaviour

from trawl.config import Config
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.schemas import TEST, TRAIN, VALID
from trawl.stage import run_stage
from trawl.store import Store
from trawl.swing import Formula, mine
from trawl.swing.stage import STAGES

USERS, ITEMS = 40, 25
PARTS = {u: VALID if u % 10 == 8 else TEST if u % 10 == 9 else TRAIN for u in range(1, USERS + 1)}


def ratings(seed=0, change=()):
    """(user, item, stars): users in `change` get other items and stars."""
    out = []
    for u in range(1, USERS + 1):
        rng = np.random.default_rng([seed, u, 1 if u in change else 0])
        out += [(u, int(i), float(rng.integers(1, 6))) for i in rng.choice(np.arange(1, ITEMS + 1), 9, replace=False)]
    return out


def positives(path, rated, *settings, cold=(), partitions=3):
    """{artifact: rows} made by the stages."""
    store, cfg = Store(str(path)), Config().override("swing.top_k=4", *settings)
    marks = behaviour(store, rated, users=USERS, items=ITEMS, splits=PARTS, cold=cold, partitions=partitions)
    out = {}
    for stage in STAGES:
        done = run_stage(stage, cfg, store, {n: marks[n] for n in stage.reads(cfg)}, Inline())
        out[stage.artifact] = Inputs(store, {stage.artifact: done.fingerprint}).table(stage.artifact).to_pylist()
    return out


def expected(rated, side, **options):
    table = pa.table({"u": [str(u) for u, _, _ in rated], "i": [str(i) for _, i, _ in rated]})
    rows = mine(table, "u", "i", side, top_k=4, formula=Formula(**options)).to_pylist()
    return [r | {"anchor": int(r["anchor"]), "partner": int(r["partner"])} for r in rows]


@pytest.mark.parametrize("interactions", ["liked", "all"])
@pytest.mark.parametrize("normalize", ["none", "cosine"])
def test_tables_hold_what_the_kernel_finds_in_the_training_users_rows(tmp_path, interactions, normalize):
    rated = ratings()
    counted = [r for r in rated if PARTS[r[0]] == TRAIN and (interactions == "all" or r[2] > 3)]
    made = positives(tmp_path, rated, f"swing.interactions={interactions}", f"swing.normalize={normalize}")
    assert made["user_positives"] == expected(counted, "user", normalize=normalize)
    assert made["item_positives"] == expected(counted, "item", normalize=normalize)
    assert len(made["user_positives"]) > 80


def test_nothing_of_validation_and_test_users_is_seen(tmp_path):
    others = [u for u in PARTS if PARTS[u] != TRAIN]
    before = positives(tmp_path / "a", ratings())
    assert positives(tmp_path / "b", ratings(change=others)) == before
    assert not {r[c] for r in before["user_positives"] for c in ("anchor", "partner")} & set(others)
    assert positives(tmp_path / "c", ratings(change=[1])) != before


def test_cold_items_are_left_out(tmp_path):
    cold = (3, 7, 11)
    rated = ratings()
    made = positives(tmp_path, rated, "data.cold_items=0.1", cold=cold)
    counted = [r for r in rated if PARTS[r[0]] == TRAIN and r[2] > 3 and r[1] not in cold]
    assert made["user_positives"] == expected(counted, "user")
    assert not {r[c] for r in made["item_positives"] for c in ("anchor", "partner")} & set(cold)


def test_order_of_rows_and_number_of_parts_change_nothing(tmp_path):
    rated = ratings()
    turned = sorted(rated, key=lambda r: (r[0], -r[1]))
    assert positives(tmp_path / "a", rated) == positives(tmp_path / "b", turned, partitions=1)


def test_a_pair_twice_counts_once(tmp_path):
    assert positives(tmp_path / "a", ratings()) == positives(
        tmp_path / "b", ratings() + [r for r in ratings() if r[0] < 20]
    )


def test_no_liked_row_no_positive(tmp_path):
    made = positives(tmp_path, [(u, i, 1.0) for u, i, _ in ratings()])
    assert made == {"item_positives": [], "user_positives": []}
