"""Families of prompts on a hand-made world: what each reads and says, and that nothing behind the cut-off is seen."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from extraction_world import ALL, RATINGS, TEXTS, CountingEngine, base, config, rows, run, whole, with_knowledge
from prompt_parts import take_apart

from trawl import pipeline
from trawl.config import Config
from trawl.errors import ConfigError
from trawl.extraction.families import FAMILIES
from trawl.stage import fingerprint
from trawl.store import Store

KAR = tuple(name for name in ALL if name != "item_texts")
FIELDS = {n: {"genre": [("Comedy", "Drama")[n % 2]]} for n in range(1, 12)}


def world(store: Store, texts: Mapping[int, str | None] = TEXTS, ratings: Any = RATINGS, **rest: Any) -> dict[str, str]:
    return with_knowledge(store, base(store, ratings, item_fields=FIELDS, **rest), texts)


def prompts_of(engine: CountingEngine, store: Store, done: Any, name: str) -> dict[int, str]:
    said = {request.digest: request.prompt for request in engine.asked}
    return {row["entity"]: said[row["digest"]] for row in rows(store, done, name)}


@pytest.mark.parametrize(
    ("family", "side", "tables"),
    [
        ("trawl", "item", {"items", "item_texts"}),
        ("trawl", "user", {"users", "items", "item_texts", "log", "cutoffs"}),
        ("kellmrec", "item", {"items", "item_texts"}),
        ("kellmrec", "user", {"users", "items", "item_answers", "log", "cutoffs"}),
        ("kar", "item", {"items"}),
        ("kar", "user", {"users", "items", "log", "cutoffs"}),
    ],
)
def test_what_the_prompts_of_a_family_are_made_of(family: str, side: str, tables: set[str]) -> None:
    cfg = Config().override(("extraction.family", family))
    stages = pipeline.stages()
    assert set(stages[f"{side}_prompts"].reads(cfg)) == tables
    assert set(stages[f"{side}_answers"].reads(cfg)) == tables - {"log", "cutoffs"} | {f"{side}_prompts"}
    items = set(stages["item_prompts"].reads(cfg)) | set(stages["item_answers"].reads(cfg))
    assert not {"user_prompts", "user_answers", "log", "users"} & items, "items never read what is made of users"


def test_the_runner_makes_what_was_extracted_of_items_before_users_prompts() -> None:
    order = pipeline.needed(Config().override("extraction.family=kellmrec", "model.side=both"))
    assert order.index("item_answers") < order.index("user_prompts")
    without = pipeline.needed(Config().override("extraction.family=kar", "model.side=both"))
    assert not {"knowledge", "entities", "item_texts"} & set(without)


def test_kellmrec_states_ratings_and_cites_what_was_extracted(store: Store, engine: CountingEngine) -> None:
    engine.reply = "Genre: comedy"
    done = run(store, world(store), config(family="kellmrec"))
    users = {r["entity"]: r for r in rows(store, done, "user_prompts")}
    assert users[3]["items"] == [4, 5, 6]
    mine = {(i, n): r for i, (u, i, r) in enumerate(RATINGS) for n in (u,)}
    stated = [r for (_, u), r in sorted(mine.items()) if u == 3][1:4]
    assert users[3]["ratings"] == stated
    assert [bool(digest) for digest in users[3]["text_digests"]] == [True, False, True]  # item 5 has no text
    found = take_apart(prompts_of(engine, store, done, "user_prompts")[3])
    bodies = {block[:2]: block[2:] for block in found.blocks}
    lines = [
        f"{n}. rated {r:g}: Film {i} ({1960 + i})" for n, (i, r) in enumerate(zip((4, 5, 6), stated, strict=True), 1)
    ]
    assert bodies["HISTORY", 0][1].split("\n") == lines
    assert bodies["TEXT", 1] == ("Film 4 (1964)", "Genre: comedy")
    assert bodies["TEXT", 2][1] == "(no text)"
    assert bodies["PROFILE", 0][1] == "gender: F"
    assert not any("directed by" in request.prompt for request in engine.asked[11:])


def test_kellmrec_shares_its_items_with_trawl(store: Store, engine: CountingEngine) -> None:
    made = world(store)
    first = run(store, made, config())
    engine.asked.clear()
    second = run(store, made, config(family="kellmrec"))
    assert [second[n].fingerprint == first[n].fingerprint for n in ALL] == [True, True, True, False, False]
    assert len(engine.asked) == 8


def test_another_answer_about_an_item_changes_its_users_prompts(store: Store, engine: CountingEngine) -> None:
    first = run(store, world(store), config(family="kellmrec"))
    changed = run(store, world(store, {**TEXTS, 4: "Another text."}), config(family="kellmrec"))
    before, after = ({r["entity"]: r for r in rows(store, d, "user_prompts")} for d in (first, changed))
    differ = {u for u in before if before[u]["digest"] != after[u]["digest"]}
    assert differ == {u for u in before if 4 in before[u]["items"]} != set()


def test_kar_reads_no_text_and_answers_everybody(store: Store, engine: CountingEngine) -> None:
    made = base(store, item_fields=FIELDS)  # no knowledge at all
    done = run(store, made, config(family="kar"), *KAR)
    assert done["item_answers"].statuses == {"ok": 12}
    assert done["user_answers"].statuses == {"ok": 8}
    items = prompts_of(engine, store, done, "item_prompts")
    assert take_apart(items[3]).blocks == [("ITEM", 0, "", "Film 3 (1963); genre: Drama")]
    assert take_apart(items[12]).blocks == [("ITEM", 0, "", "Film 12 (1972)")]
    found = take_apart(prompts_of(engine, store, done, "user_prompts")[3])
    bodies = {block[0]: block[3] for block in found.blocks}
    assert set(bodies) == {"PROFILE", "HISTORY"}
    assert re.match(r"1\. rated \d: Film 4 \(1964\); genre: Comedy\n2\. rated \d: Film 5", bodies["HISTORY"])
    assert rows(store, done, "user_prompts")[0]["text_digests"] == []


def test_kar_is_silent_only_where_nothing_is_known(store: Store, engine: CountingEngine) -> None:
    nameless = dict.fromkeys((1, 2), ("", None))
    profiles = {u: {"gender": ["F"]} for u in range(1, 8)}
    made = base(
        store,
        [r for r in RATINGS if r[0] < 7],
        item_fields={2: {"genre": ["Drama"]}},
        titles=nameless,
        user_fields=profiles,
    )
    done = run(store, made, config(family="kar"), *KAR)
    items = {r["entity"]: r["status"] for r in rows(store, done, "item_answers")}
    assert (items[1], items[2]) == ("no_text", "ok")
    users = {r["entity"]: r["status"] for r in rows(store, done, "user_answers")}
    assert (users[6], users[7], users[8]) == ("ok", "ok", "no_text")  # 7 has a profile, 8 neither that nor a history


def test_the_extractive_engine_reads_titles_and_fields_where_there_is_no_text(store: Store) -> None:
    done = run(store, base(store, item_fields=FIELDS), config(family="kar"), *KAR)
    items = {r["entity"]: r["text"] for r in rows(store, done, "item_answers")}
    assert items[3] == "Genre: drama\nTime period: 1963"
    users = {r["entity"]: r["text"] for r in rows(store, done, "user_answers")}
    assert users[3].startswith("Genre: comedy, drama\nTime period: 1964, 1965, 1966")


def test_the_extractive_engine_reads_answers_by_their_factors(store: Store) -> None:
    done = run(store, world(store), config(family="kellmrec"))
    users = {r["entity"]: r["text"] for r in rows(store, done, "user_answers")}
    assert "Director: Ada Writer4, Ada Writer6" in users[3]
    assert "Genre: comedy" in users[3]


def test_liked_or_not_instead_of_ratings(store: Store, engine: CountingEngine) -> None:
    done = run(store, world(store), config(family="kellmrec", history="liked"))
    plain = run(store, world(store), config(family="kellmrec"))
    liked = {r["entity"]: r["ratings"] for r in rows(store, done, "user_prompts")}
    stars = {r["entity"]: r["ratings"] for r in rows(store, plain, "user_prompts")}
    assert liked[3] == [float(r > 3) for r in stars[3]]
    body = next(b for b in take_apart(prompts_of(engine, store, done, "user_prompts")[3]).blocks if b[0] == "HISTORY")[
        3
    ]
    assert {re.match(r"\d\. (not liked|liked): ", row).group(1) for row in body.split("\n")} == {"liked", "not liked"}  # type: ignore[union-attr]


def test_the_null_control_of_kellmrec_asks_nothing_new(store: Store, engine: CountingEngine) -> None:
    """Users' prompts are about their items' own knowledge, though the items' answers stand exchanged."""
    made = world(store)
    plain = run(store, made, config(family="kellmrec"))
    engine.asked.clear()
    mixed = run(store, made, config(family="kellmrec", source="shuffled"))
    assert not engine.asked
    assert whole(store, plain, "user_prompts").equals(whole(store, mixed, "user_prompts"))
    was, now = ({r["entity"]: r["text"] for r in rows(store, d, "user_answers")} for d in (plain, mixed))
    assert was != now
    assert sorted(map(str, was.values())) == sorted(map(str, now.values()))


def test_raw_texts_are_the_same_in_every_family(store: Store) -> None:
    made = world(store)
    done = [run(store, made, config(source="raw", family=family)) for family in FAMILIES]
    assert len({outcome["user_answers"].fingerprint for outcome in done}) == 1


def test_kar_takes_no_given_texts() -> None:
    with pytest.raises(ConfigError, match=r"kar reads no text from outside: set extraction\.source"):
        config(family="kar", source="given", given="x.parquet")


def test_a_key_counts_only_where_it_changes_the_prompt() -> None:
    def marks(name: str, **extraction: Any) -> str:
        stage, cfg = pipeline.stages()[name], config(**extraction)
        return fingerprint(stage, cfg, dict.fromkeys(stage.reads(cfg), "x"))

    for name in ("item_prompts", "user_prompts", "item_answers", "user_answers"):
        assert marks(name, history="liked") == marks(name)
        assert (marks(name, family="kellmrec") == marks(name)) == name.startswith("item")
        assert marks(name, family="kar") != marks(name)
    assert marks("user_prompts", family="kar", history="liked") != marks("user_prompts", family="kar")
    assert marks("item_prompts", family="kar", history="liked") == marks("item_prompts", family="kar")


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_at_or_after_the_cutoff_is_seen(store: Store, family: str) -> None:
    """Other items, ratings and labels behind the cut-off change no prompt; a rating before it changes its user's."""
    seen: dict[int, int] = {}
    behind, before = [], []
    for user, item, rating in RATINGS:
        position = seen.get(user, 0)
        seen[user] = position + 1
        behind.append((user, item, rating) if position < 4 else (user, 12 - item % 12, 6 - rating))
        before.append((user, item, 6 - rating if (user, position) == (3, 2) else rating))
    plain, other, earlier = (
        run(store, world(store, ratings=ratings), config(family=family)) for ratings in (RATINGS, behind, before)
    )
    assert whole(store, plain, "user_prompts").equals(whole(store, other, "user_prompts"))
    was, now = ({r["entity"]: r["digest"] for r in rows(store, d, "user_prompts")} for d in (plain, earlier))
    assert {u for u in was if was[u] != now[u]} == ({3} if FAMILIES[family].user.rated else set())


@pytest.mark.parametrize("policy", ["middle", "sections", "chunks", "skip"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_policy_for_texts_over_the_budget_serves_every_family(
    store: Store, engine: CountingEngine, family: str, policy: str
) -> None:
    long = {n: f"Film {n} is long. {'It goes on and on. ' * 60}" for n in TEXTS}
    engine.reply = " ".join(f"It has {n} words." for n in range(70))
    cfg = config(family=family, over_budget=policy, max_prompt_tokens=960, max_answer_tokens=400, failures=())
    done = run(store, world(store, long), cfg, *(KAR if family == "kar" else ALL))
    users = [row for row in rows(store, done, "user_prompts") if row["entity"] == 3]
    room = 960 - 400
    # kar has no text to cut; where items are skipped, kellmrec knows their users' history alone
    whole_one = family == "kar" or (family, policy) == ("kellmrec", "skip")
    assert {row["plan"] for row in users} == {"whole" if whole_one else policy}
    assert (len(users) > 1) == (policy == "chunks" and not whole_one)
    stated = [r for row in users for r in row["ratings"] or ()]
    cited = [item for row in users for item in row["items"]]
    assert sorted(set(cited)) == [4, 5, 6]
    if FAMILIES[family].user.rated:
        mine = dict(zip(cited, stated, strict=True))
        assert mine == {i: r for u, i, r in RATINGS if u == 3 and i in mine}
    assert all(engine.count(request.prompt) <= room for request in engine.asked)
    for request in engine.asked:
        for name, _, _, body in take_apart(request.prompt).blocks:
            assert name != "HISTORY" or len(body.split("\n")) <= 3
    skipped = policy == "skip" and not whole_one
    assert (done["user_answers"].statuses.get("skipped", 0) > 0) == skipped
