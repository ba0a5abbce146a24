"""Earlier answers of users: how long they serve, what they were made for, and that none looks behind a cut-off."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from extraction_world import RATINGS, TEXTS, CountingEngine, base, config, rows, run, with_knowledge

from trawl.config import Config
from trawl.errors import ArtifactError, ConfigError
from trawl.stage import Outcome
from trawl.store import Store

FIRST = dict.fromkeys(range(1, 9), 3)  # cut-offs of the base


def refreshed(root: str, min_new: int, **more: Any) -> Config:
    tree = config().model_dump(mode="json")
    return Config.build(tree | {"refresh": {"base": root, "user": {"min_new": min_new, **more}}})


def day(
    store: Store, cutoffs: Mapping[int, int], cfg: Config, texts: Mapping[int, str | None] = TEXTS, **world: Any
) -> dict[str, Outcome]:
    return run(store, with_knowledge(store, base(store, cutoffs=cutoffs, **world), texts), cfg)


def answers(store: Store, done: Mapping[str, Outcome]) -> dict[int, dict[str, Any]]:
    return {r["entity"]: r for r in rows(store, done, "user_answers")}


def address(store: Store, done: Mapping[str, Outcome]) -> str:
    return store.where("user_answers", done["user_answers"].fingerprint)


def test_an_answer_serves_until_enough_is_new(store: Store, engine: CountingEngine) -> None:
    first = day(store, FIRST, config())
    before = answers(store, first)
    assert {r["cutoff"] for r in before.values()} == {3}
    engine.asked.clear()
    now = {1: 3, 2: 4, 3: 5, 4: 6, 5: 4, 6: 5, 7: 6, 8: 3}
    done = day(store, now, refreshed(address(store, first), min_new=2))
    after = answers(store, done)
    assert {u: r["cutoff"] for u, r in after.items()} == {1: 3, 2: 3, 3: 5, 4: 6, 5: 3, 6: 5, 7: 6, 8: 3}
    assert {u for u in after if after[u]["text"] == before[u]["text"]} == {1, 2, 5, 8}
    assert len(engine.asked) == 2  # the prompts of 3 and 6 are what 5 and 8 were asked before
    assert done["user_prompts"].notes == {"served_by_earlier": 2}  # of 1 and 8 nothing is new
    plain = day(store, now, config())
    assert {u: r["cutoff"] for u, r in answers(store, plain).items()} == now


def test_an_answer_for_a_later_cutoff_never_serves(store: Store) -> None:
    later = day(store, dict.fromkeys(range(1, 9), 5), config())
    done = day(store, FIRST, refreshed(address(store, later), min_new=100))
    assert {r["cutoff"] for r in answers(store, done).values()} == {3}
    plain = day(store, FIRST, config())
    assert [r["digest"] for r in rows(store, done, "user_answers")] == [
        r["digest"] for r in rows(store, plain, "user_answers")
    ]


def test_an_answer_serves_only_if_it_saw_what_stands_before_its_cutoff_today(store: Store) -> None:
    """Another log, another text: the prompt of the earlier cut-off is another, so today's is asked."""
    first = day(store, FIRST, config())
    now = dict.fromkeys(range(1, 9), 4)
    cfg = refreshed(address(store, first), min_new=3)
    swapped = [(u, 12 if (u, n % 7) == (1, 1) else i, r) for n, (u, i, r) in enumerate(RATINGS)]
    assert [u for u, r in answers(store, day(store, now, cfg, ratings=swapped)).items() if r["cutoff"] == 4] == [1]
    cites = {4: "Another text."}
    done = answers(store, day(store, now, cfg, TEXTS | cites))
    assert sorted(u for u, r in done.items() if r["cutoff"] == 4) == [2, 3, 4]  # who had rated it before the third


def test_age_counts_between_what_was_seen_and_today(store: Store) -> None:
    """Interactions of this world are one second apart."""
    first = day(store, FIRST, config())
    now = {u: 3 + u % 3 for u in range(1, 9)}
    cfg = refreshed(address(store, first), min_new=10, max_age_days=1.5 / 86400)
    assert {u: r["cutoff"] for u, r in answers(store, day(store, now, cfg)).items()} == {
        u: 3 if now[u] < 5 else 5 for u in now
    }


def test_users_are_found_by_their_own_ids_in_another_store(store: Store, tmp_path: Path) -> None:
    first = day(store, FIRST, config())
    other = Store(str(tmp_path / "other"))
    done = day(other, dict.fromkeys(range(1, 9), 4), refreshed(address(store, first), min_new=2), partitions=3)
    assert {r["cutoff"] for r in answers(other, done).values()} == {3}
    fewer = Store(str(tmp_path / "fewer"))  # a base without most of the users
    ratings = [r for r in RATINGS if r[0] <= 2]
    small = day(fewer, FIRST, config(), ratings=ratings)
    assert small["user_answers"].statuses == {"ok": 2, "no_text": 6}
    done = day(other, dict.fromkeys(range(1, 9), 4), refreshed(address(fewer, small), min_new=2))
    assert {u for u, r in answers(other, done).items() if r["cutoff"] == 3} == {1, 2}


def test_failed_answers_do_not_serve_and_the_base_counts(store: Store, engine: CountingEngine) -> None:
    engine.poison = "gender: M"
    first = day(store, FIRST, config(failure_limit=0.9))
    engine.poison = ""
    now = dict.fromkeys(range(1, 9), 4)
    cfg = refreshed(address(store, first), min_new=2)
    done = day(store, now, cfg)
    assert {u: r["cutoff"] for u, r in answers(store, done).items()} == {u: 3 if u % 2 else 4 for u in now}
    second = day(store, now, refreshed(address(store, done), min_new=2))
    assert second["user_prompts"].fingerprint != done["user_prompts"].fingerprint


def test_a_base_that_is_not_there(store: Store) -> None:
    with pytest.raises(ConfigError, match="name a run"):
        day(store, FIRST, refreshed("/nowhere", min_new=2))
    with pytest.raises(ConfigError, match="no such run"):
        day(store, FIRST, refreshed(store.where("runs", "x"), min_new=2))
    with pytest.raises(ArtifactError, match="not published"):
        day(store, FIRST, refreshed(store.where("user_answers", "x"), min_new=2))
    day(store, FIRST, refreshed("/nowhere", min_new=0))  # off
