import io

import numpy as np
import pytest
from worlds import publish, table

from trawl.config import Config
from trawl.encoding import encoders
from trawl.encoding.lexical import Lexical
from trawl.encoding.stage import STAGES
from trawl.errors import ArtifactError
from trawl.executors import Inline
from trawl.inputs import Inputs
from trawl.stage import fingerprint, run_stage
from trawl.store import Store

ITEMS, USERS = STAGES[:2]
LONG = "storm over a quiet harbour town where nine ships wait"
ANSWERS = [
    ("ok", "Zbigniew keeps a harbour"),
    ("truncated", LONG),
    ("empty", ""),
    ("failed", None),
    ("refused", "I would rather not"),
    ("ok", "  "),
    ("ok", None),
    ("no_text", None),
    ("ok", "Zbigniew keeps a harbour"),
]


def answer(entity, status, text):
    zero = {"tokens_in": 0, "tokens_out": 0, "attempts": 1, "seconds": 0.0, "engine": "planted"}
    return {"entity": entity, "status": status, "text": text} | zero


def item(index):
    return {"item": index, "item_id": f"i{index}", "title": "t", "fields": []}


def embed(path, answers, *settings, cuts=(4,)):
    """(store, fingerprint) of item_embeddings over answers 1.. in parts cut at `cuts`."""
    store, cfg = Store(str(path)), Config().override("encoding.dimension=32", "encoding.max_tokens=8", *settings)
    rows = [(i + 1, *a) for i, a in enumerate(answers)]
    runs = [rows[a:b] for a, b in zip((0, *cuts), (*cuts, len(rows)), strict=True)]
    inputs = {
        "items": publish(store, "items", [table("items", [item(r[0]) for r in run]) for run in runs]),
        "item_answers": publish(
            store, "item_answers", [table("item_answers", [answer(*r) for r in run]) for run in runs]
        ),
    }
    return store, run_stage(ITEMS, cfg, store, inputs, Inline()).fingerprint


def rows_of(store, mark):
    return Inputs(store, {"item_embeddings": mark}).table("item_embeddings").to_pylist()


def test_one_row_for_each_entity_and_zero_where_there_is_no_text(tmp_path):
    store, mark = embed(tmp_path, ANSWERS)
    rows = rows_of(store, mark)
    assert [r["entity"] for r in rows] == list(range(1, 10))
    assert [r["has_text"] for r in rows] == [True, True, *[False] * 6, True]
    assert [(r["tokens_read"], r["tokens_there"]) for r in rows[:3]] == [(4, 4), (8, 10), (0, 0)]
    expected = Lexical(32, 8).encode([ANSWERS[0][1], LONG]).astype(np.float16)
    vectors = Inputs(store, {"item_embeddings": mark}).vectors("item_embeddings", 9)
    assert vectors.dtype == np.float16 and vectors.shape == (10, 32)
    assert np.array_equal(vectors[[1, 2, 9]], expected[[0, 1, 0]])
    assert not vectors[[0, *range(3, 9)]].any()


def test_parts_and_batches_change_nothing(tmp_path):
    whole = rows_of(*embed(tmp_path / "a", ANSWERS, cuts=()))
    assert rows_of(*embed(tmp_path / "b", ANSWERS, "resources.batch_rows=2", cuts=(1, 1, 6))) == whole


def test_shards_hold_the_vectors_row_by_row(tmp_path):
    store, mark = embed(tmp_path, ANSWERS, cuts=(4, 4))
    opened = Inputs(store, {"item_embeddings": mark})
    for number, rows in enumerate((4, 0, 5)):
        shard = np.load(io.BytesIO(store.read_bytes("item_embeddings", mark, f"part-{number:05d}.npy").to_pybytes()))
        part = opened.part("item_embeddings", number)
        assert shard.dtype == np.float16 and len(shard) == rows == part.num_rows
        assert shard.tolist() == part.column("vector").to_pylist()


def test_users_are_encoded_by_their_own_stage(tmp_path):
    store, cfg = Store(str(tmp_path)), Config().override("encoding.dimension=16")
    inputs = {
        "users": publish(store, "users", [table("users", [{"user": 1, "user_id": "u", "fields": []}])]),
        "user_answers": publish(store, "user_answers", [table("user_answers", [answer(1, "ok", "likes storms")])]),
    }
    done = run_stage(USERS, cfg, store, inputs, Inline())
    assert (done.artifact, done.rows) == ("user_embeddings", 1)


def test_only_the_encoding_section_counts():
    marks, inputs = set(), {"items": "a", "item_answers": "b"}
    for setting in ("swing.top_k=3", "resources.batch_rows=7", "data.split_seed=5"):
        marks.add(fingerprint(ITEMS, Config().override(setting), inputs))
    assert len(marks) == 1
    assert fingerprint(ITEMS, Config().override("encoding.seed=1"), inputs) not in marks


class Broken:
    dimension = 32

    def count(self, texts):
        return [1] * len(texts)

    def encode(self, texts):
        out = np.ones((len(texts), 32), dtype=np.float32)
        out[["storm" in t for t in texts]] = np.inf
        return out


def test_a_vector_that_is_not_finite_is_refused_by_its_key(tmp_path, monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "lexical", lambda cfg: Broken())
    with pytest.raises(ArtifactError, match="not finite at entity = 2;"):
        embed(tmp_path, ANSWERS)


def test_an_entity_without_an_answer_is_noticed(tmp_path):
    store, cfg = Store(str(tmp_path)), Config()
    inputs = {
        "items": publish(store, "items", [table("items", [item(1), item(2)])]),
        "item_answers": publish(store, "item_answers", [table("item_answers", [answer(1, "ok", "x")])]),
    }
    with pytest.raises(ArtifactError, match="rows for 1 indexes where 2 are due"):
        run_stage(ITEMS, cfg, store, inputs, Inline())
    assert store.manifest("item_embeddings", fingerprint(ITEMS, cfg, inputs)) is None
