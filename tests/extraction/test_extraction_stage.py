"""The extraction stages on a hand-made world: rows, sources, cache, crashes, leaks."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extraction_world import RATINGS, TEXTS, CountingEngine, base, config, rows, run, whole, with_knowledge

from trawl.config import Config
from trawl.errors import ArtifactError, EngineDied, InputError, TooManyFailures
from trawl.extraction.cache import AnswerCache
from trawl.store import Store


def test_every_entity_has_one_answer_and_prompts_cite_what_they_should(store: Store) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    done = run(store, marks, config())
    items = {r["entity"]: r for r in rows(store, done, "item_answers")}
    assert sorted(items) == list(range(1, 13))
    assert (items[5]["status"], items[5]["text"], items[5]["digest"]) == ("no_text", None, None)
    assert "Director: Ada Writer3" in items[3]["text"]
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    prompts = {r["entity"]: r for r in rows(store, done, "user_prompts")}
    assert prompts[3]["items"] == [4, 5, 6]  # positions 1..3 of a cut-off at 4, oldest first
    assert (prompts[3]["text_digests"][1], prompts[3]["kept"][1], prompts[3]["cutoff"]) == ("", 0, 4)
    assert "Writer4" in {r["entity"]: r for r in rows(store, done, "user_answers")}[3]["text"]


def test_entities_without_any_text_have_no_prompt(store: Store) -> None:
    marks = with_knowledge(store, base(store), {4: TEXTS[4]})
    done = run(store, marks, config())
    assert [r["entity"] for r in rows(store, done, "item_prompts")] == [4]
    answers = rows(store, done, "user_answers")
    assert len(answers) == 8
    assert {r["status"] for r in answers} == {"ok", "no_text"}


def test_a_side_without_any_text_is_no_knowledge_to_measure(store: Store) -> None:
    with pytest.raises(InputError, match="item_answers: none of the 12 items has a text; see whether"):
        run(store, with_knowledge(store, base(store), {}), config())
    assert not list(Path(store.root).glob("item_answers/*/_manifest.json"))


def test_a_second_run_asks_nothing_and_a_changed_text_asks_its_item_and_users(
    store: Store, engine: CountingEngine
) -> None:
    marks = base(store)
    first = run(store, with_knowledge(store, marks, TEXTS), config())
    assert len(engine.asked) == first["item_prompts"].rows + first["user_prompts"].rows == 11 + 8
    assert first["item_answers"].notes == {"asked": 11, "from_cache": 0, "not_sent": 0}
    engine.asked.clear()
    again = run(store, with_knowledge(store, marks, TEXTS), config(user_items=3, failure_limit=0.5))
    assert all(outcome.skipped for outcome in again.values())
    changed = run(store, with_knowledge(store, marks, {**TEXTS, 4: "Another text."}), config())
    cite = [r["entity"] for r in rows(store, changed, "user_prompts") if 4 in r["items"]]
    assert len(engine.asked) == 1 + len(cite)
    assert changed["item_answers"].notes == {"asked": 1, "from_cache": 10, "not_sent": 0}
    assert changed["user_answers"].notes == {"asked": len(cite), "from_cache": 8 - len(cite), "not_sent": 0}
    assert all("Another text." in request.prompt for request in engine.asked)
    before = {r["entity"]: r["text"] for r in rows(store, first, "user_answers")}
    after = {r["entity"]: r["text"] for r in rows(store, changed, "user_answers")}
    assert {u for u in after if before[u] != after[u]} == set(cite)


def test_after_a_crash_only_the_missing_are_asked(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    engine.die_after = 3
    with pytest.raises(EngineDied, match="gone"):
        run(store, marks, config())
    kept = {request.digest for request in engine.asked}
    assert len(kept) == 6  # three batches of two
    engine.die_after = -1
    engine.asked.clear()
    done = run(store, marks, config(), "item_texts", "item_prompts", "item_answers")
    assert len(engine.asked) == 11 - 6
    assert not kept & {request.digest for request in engine.asked}
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert done["item_answers"].notes["asked"] == 11  # what the try before it asked was for this table


def test_another_store_asks_nothing_that_a_shared_cache_holds(store: Store, engine: CountingEngine) -> None:
    """Two stores name one cache; one of them is where it lies."""
    shared = {"answer_cache": store.root, "batch_rows": 2}
    first = run(store, with_knowledge(store, base(store), TEXTS), config())
    engine.asked.clear()
    other = Store(f"{store.root}-2")
    cfg = Config.build(config().model_dump() | {"resources": config().resources.model_dump() | shared})
    done = run(other, with_knowledge(other, base(other), {**TEXTS, 4: "Another text."}), cfg)
    assert done["item_answers"].notes == {"asked": 1, "from_cache": 10, "not_sent": 0}
    assert not other.exists("cache", "answers")
    back = run(store, with_knowledge(store, base(store), {**TEXTS, 4: "Another text."}), config())
    assert back["item_answers"].notes["asked"] == 0
    assert back["item_answers"].fingerprint == done["item_answers"].fingerprint != first["item_answers"].fingerprint


def test_a_row_that_fails_is_a_row_and_is_asked_again(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    engine.poison = "Writer7"
    with pytest.raises(TooManyFailures, match=r"failed 1.*limit is 5.*1 x failed: ValueError: cannot .*as entity 7"):
        run(store, marks, config(), "item_texts", "item_prompts", "item_answers")
    done = run(store, marks, config(failure_limit=0.2), "item_texts", "item_prompts", "item_answers")
    failed = [r for r in rows(store, done, "item_answers") if r["status"] == "failed"]
    assert [(r["entity"], r["text"], r["reason"]) for r in failed] == [(7, None, "ValueError: cannot read this")]
    engine.poison = ""
    other = Store(f"{store.root}-2")  # the same texts, another store: nothing is known there
    assert run(other, with_knowledge(other, base(other), TEXTS), config())["item_answers"].statuses["ok"] == 11


def test_after_too_many_failures_the_failed_are_asked_again(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    engine.poison = "Writer7"
    with pytest.raises(TooManyFailures):
        run(store, marks, config(), "item_texts", "item_prompts", "item_answers")
    engine.poison = ""
    engine.asked.clear()
    done = run(store, marks, config(), "item_texts", "item_prompts", "item_answers")
    assert done["item_answers"].statuses == {"ok": 11, "no_text": 1}
    assert ["Writer7" in request.prompt for request in engine.asked] == [True]


def test_shuffled_keeps_the_texts_and_asks_nothing_new(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    plain = run(store, marks, config())
    engine.asked.clear()
    mixed = run(store, marks, config(source="shuffled", shuffle_of="extracted"))
    assert not engine.asked
    assert mixed["user_prompts"].skipped
    for name in ("item_answers", "user_answers"):
        was, now = ({r["entity"]: r["text"] for r in rows(store, d, name)} for d in (plain, mixed))
        assert sorted(map(str, was.values())) == sorted(map(str, now.values()))
        assert was != now
        assert {e for e, t in was.items() if t is None} == {e for e, t in now.items() if t is None}
    other = run(store, marks, config(source="shuffled", shuffle_of="extracted", shuffle_seed=1))
    assert rows(store, other, "item_answers") != rows(store, mixed, "item_answers")


def test_raw_is_the_texts_themselves(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    done = run(store, marks, config(source="raw"))
    assert not engine.asked
    assert {r["entity"]: r["text"] for r in rows(store, done, "item_answers")} == TEXTS
    users = {r["entity"]: r for r in rows(store, done, "user_answers")}
    assert users[3]["text"] == f"{TEXTS[4]}\n\n{TEXTS[6]}"
    assert users[3]["engine"] == "copy/1"
    assert not AnswerCache(store).segments()


def test_given_texts_by_raw_id(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "given.parquet"
    pq.write_table(pa.table({"item_id": ["i2", "i1"], "text": ["A drama.", "A western."]}), path)
    done = run(store, base(store), config(source="given", given=str(path)))
    texts = {r["entity"]: r["text"] for r in rows(store, done, "item_answers")}
    assert (texts[1], texts[2], texts[3]) == ("A western.", "A drama.", None)
    assert "Genre: drama" in {r["entity"]: r["text"] for r in rows(store, done, "user_answers")}[1]


@pytest.mark.parametrize(
    ("ids", "texts", "words"),
    [
        (["i1", "i99"], ["a", "b"], "row 2, item_id i99: no item"),
        (["i1", "i1"], ["a", "b"], "row 2, item_id i1: item_id stands here a second time"),
        ([None, "i1"], ["a", "b"], "row 1"),
    ],
)
def test_bad_given_texts_are_refused_by_row(
    store: Store, tmp_path: Path, ids: list[str], texts: list[str], words: str
) -> None:
    path = tmp_path / "given.parquet"
    pq.write_table(pa.table({"item_id": ids, "text": texts}), path)
    with pytest.raises(InputError, match=re.escape(words)):
        run(store, base(store), config(source="given", given=str(path)))


def test_nothing_at_or_after_the_cutoff_is_seen(store: Store) -> None:
    """Other items, ratings and labels behind the cut-off leave prompts and answers byte for byte the same."""
    seen: dict[int, int] = {}
    changed = []
    for user, item, rating in RATINGS:
        position = seen.get(user, 0)
        seen[user] = position + 1
        changed.append((user, item, rating) if position < 4 else (user, 12 - item % 12, 6 - rating))
    plain = run(store, with_knowledge(store, base(store), TEXTS), config())
    other = run(store, with_knowledge(store, base(store, changed), TEXTS), config())
    assert plain["user_prompts"].fingerprint != other["user_prompts"].fingerprint
    assert whole(store, plain, "user_prompts").equals(whole(store, other, "user_prompts"))
    drop = ["seconds", "attempts"]
    assert (
        whole(store, plain, "user_answers")
        .drop_columns(drop)
        .equals(whole(store, other, "user_answers").drop_columns(drop))
    )


def test_an_earlier_row_is_seen(store: Store) -> None:
    """The leak test above would pass if prompts never changed at all."""
    swapped = [(u, 12 if (u, n % 7) == (1, 2) else i, r) for n, (u, i, r) in enumerate(RATINGS)]
    plain = run(store, with_knowledge(store, base(store), TEXTS), config())
    other = run(store, with_knowledge(store, base(store, swapped), TEXTS), config())
    assert not whole(store, plain, "user_prompts").equals(whole(store, other, "user_prompts"))


def test_the_number_of_parts_changes_no_answer(store: Store) -> None:
    texts = []
    for partitions in (1, 3):
        done = run(store, with_knowledge(store, base(store, partitions=partitions), TEXTS), config())
        texts.append([(r["entity"], r["text"]) for n in ("item_answers", "user_answers") for r in rows(store, done, n)])
    assert texts[0] == texts[1]


def test_a_prompt_without_room_is_too_long(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    small = config(max_prompt_tokens=64, max_answer_tokens=32)
    with pytest.raises(TooManyFailures, match="too_long 11"):
        run(store, marks, small)
    assert not engine.asked


def test_long_texts_are_cut_and_the_cut_is_told(store: Store, engine: CountingEngine) -> None:
    long = {1: "word " * 5000, 2: "Short."}
    done = run(store, with_knowledge(store, base(store), long), config(max_prompt_tokens=1024))
    cut = {r["entity"]: r for r in rows(store, done, "item_prompts")}
    assert cut[1]["cut"] == 5000 - cut[1]["kept"][0] > 0
    assert (cut[2]["cut"], cut[2]["kept"]) == (0, [2])
    assert max(engine.count(request.prompt) for request in engine.asked) <= 1024 - 256


def test_a_broken_segment_is_named(store: Store, engine: CountingEngine) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    run(store, marks, config(), "item_texts", "item_prompts", "item_answers")
    name = AnswerCache(store).segments()[0].name
    store.write_text("not parquet", "cache", "answers", name)
    with pytest.raises(ArtifactError, match=name):
        run(store, marks, config(failures=("failed",), source="shuffled"))
