"""Grounding: what counts as named and as read, planted exchanges in a made-up world, and the columns of the answers."""

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from extraction_world import TEXTS, CountingEngine, base, config, rows, run, whole, with_knowledge

from trawl.extraction import engines
from trawl.extraction.cache import AnswerCache
from trawl.extraction.engines import Reply, Request
from trawl.extraction.grounding import Grounder
from trawl.extraction.mentions import mentions
from trawl.extraction.wording import Wording
from trawl.store import Store

WORDING = Wording(
    {("director",): "names", ("genre",): "values", ("mood",): "values"}, frozenset({"comedy", "drama", "romantic"})
)
SOURCE = (
    "Visitors, The is a 1994 drama by Andrei Tarkovsky, written by J. R. Hartley and Ana-Luísa Núñez O’Brien. "
    "It cost $2.5 million, won twelve prizes and stars Henry Fonda. 张艺谋执导《红高粱》，一九八七年。"
)


def found(text: str) -> list[tuple[str, str]]:
    return [(m.kind, m.text) for m in mentions(text, WORDING)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Directed by Ana Lopez and Bo Li.", [("name", "Ana Lopez"), ("name", "Bo Li")]),
        ("Director: Cher\nGenre: Romantic Comedy, Drama\nMood: Dark, Gritty.", [("name", "Cher")]),
        (
            "In Oslo the Guard wept. Nothing else. The Matrix won.",
            [("name", "Oslo"), ("name", "Guard"), ("name", "Matrix")],
        ),
        (
            '"Night Shift" (1982) and “The Big One”',
            [("title", "Night Shift"), ("number", "1982"), ("title", "The Big One")],
        ),
        ("Gremlins (1984) is fun.", [("title", "Gremlins"), ("number", "1984")]),
        (
            "Free Willy 3 sold 1,200 seats in the 1990s.",
            [("name", "Free Willy 3"), ("number", "1,200"), ("number", "1990s")],
        ),
        ("1. **Director:** Ludwig van Berg", [("name", "Ludwig van Berg")]),
        (
            "导演：张艺谋、巩俐。《红高粱》1987年",
            [("name", "张艺谋"), ("name", "巩俐"), ("title", "红高粱"), ("number", "1987")],
        ),
        ("史蒂文·斯皮尔伯格的电影", [("name", "史蒂文·斯皮尔伯格的电影")]),
        (
            '{"Director": ["Ana Lopez", "Cher"], "Year": 1994}',
            [("name", "Ana Lopez"), ("name", "Cher"), ("number", "1994")],
        ),
        ('{"Director": "Ana Lopez"', [("title", "Ana Lopez")]),
        ("a quiet story about loss", []),
        ("", []),
    ],
)
def test_what_counts_as_named(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "by A. Tarkovsky",
        "by Director Andrei Tarkovski",
        "Tarkovsky’s film",
        "TARKOVSKY, ANDREI and Hartley",
        "with John Hartley",
        "with Ana Luisa Nunez OBrien",
        'with "The Visitors"',
        "from 1994, the 1990s, the '90s and the 20th century",
        "for $2,500,000 and 12 prizes",
        "导演：张艺谋。《红高粱》于1987年",
    ],
)
def test_the_same_in_another_form_is_read(text: str) -> None:
    assert Grounder(WORDING).ground(text, [SOURCE]).unsupported == ()


@pytest.mark.parametrize(
    ("text", "unsupported"),
    [
        ("with Jane Fonda", ("Jane Fonda",)),
        ("by Andrei Konchalovsky", ("Andrei Konchalovsky",)),
        ("by A. Hartley Tarkovsky Berg", ("A. Hartley Tarkovsky Berg",)),
        ("from 1995 and the 1970s", ("1995", "1970s")),
        ('"The Visit" of 14 days', ("The Visit", "14")),
        ("导演：陈凯歌。《霸王别姬》", ("陈凯歌", "霸王别姬")),
    ],
)
def test_another_name_is_not(text: str, unsupported: tuple[str, ...]) -> None:
    one = Grounder(WORDING).ground(text, [SOURCE])
    assert one.unsupported == unsupported
    assert one.share == 1 - len(unsupported) / one.mentions


@pytest.mark.parametrize("text", ["Bo Lopez", "B. Lopez", "Ana Li", "A. Li", "Ana Zorn"])
def test_words_of_neighbouring_names_are_no_name(text: str) -> None:
    assert Grounder().ground(f"by {text}", ["by Ana Lopez, Bo Li and Cleo Zorn"]).unsupported == (text,)


@pytest.mark.parametrize("text", ["Brandeis", "", "Ana", "Ana Brandeis", "Brandeis, Ana", "\U0001f3ac"])
def test_very_short_texts_are_compared(text: str) -> None:
    one = Grounder().ground("by Ana Brandeis, Bo Brandeis and Brandeis Ana Li", [text])
    assert one.mentions == 3
    assert ("Ana Brandeis" in one.unsupported) == (len(text) < 6 or text == "Brandeis")
    assert {"Bo Brandeis", "Brandeis Ana Li"} <= set(one.unsupported)


def test_words_of_two_texts_are_no_name() -> None:
    assert Grounder().ground("by Ana Lopez", ["by Ana Berg", "by Bo Lopez"]).unsupported == ("Ana Lopez",)
    assert Grounder().ground("by Ana Lopez", ["by Bo Li", "by Ana Lopez"]).share == 1


def test_an_answer_that_names_nothing_has_no_share() -> None:
    one = Grounder().ground("a quiet story", [SOURCE])
    assert (one.mentions, one.share, one.unsupported) == (0, None, ())
    twice = Grounder().ground("Ana Lopez met Ana Lopez", ["nobody"])
    assert (twice.mentions, twice.unsupported) == (1, ("Ana Lopez",))


@pytest.mark.parametrize(
    "text", ["\x00\ud800 Ana Lopez", "《" * 5000, '"' * 5001, "{" * 3000, "A. " * 3000, "9" * 9000]
)
def test_odd_texts_are_looked_at_without_harm(text: str) -> None:
    assert Grounder().ground(text, [text, SOURCE]).mentions >= 0


PIECES = (
    *(
        "Ana",
        "Lopez",
        "A.",
        "the",
        "of",
        "1994",
        "1990s",
        "19th century",
        "2 million",
        '"',
        "“",
        "”",
        "《",
        "》",
        "'",
        "’s",
    ),
    *(
        ".",
        ",",
        ":",
        "\n",
        "- ",
        "1. ",
        "Director:",
        "Genre:",
        "(1984)",
        "导演：",
        "张艺谋",
        "、",
        "·",
        "é",
        "\x00",
        "\ud800",
    ),
    *("\u202e", "İ", "ß", "ﬁ", "Ⅳ", "½", "II", "&", "–", "{", "}", "i", "[...]", "\U0001f3ac", "1939-45", "9" * 30),
)


@pytest.mark.parametrize("seed", range(4))
def test_mentions_of_any_mixture_lie_apart_and_say_where_they_stand(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        text = "".join(rng.choice(PIECES) + rng.choice(["", " "]) for _ in range(rng.randrange(40)))
        made = mentions(text, WORDING)
        assert all(one.end <= other.begin for one, other in pairwise(made))
        if text.lstrip()[:1] not in ("{", "["):
            assert [text[m.begin : m.end] for m in made] == [m.text for m in made]
        one = Grounder(WORDING).ground(text, [text[::-1], "Ana", ""])
        assert len(one.unsupported) <= one.mentions <= len(made)


FIRST = ["Ana", "Bo", "Cleo", "Dag", "Edda", "Finn", "Gala", "Hugo"]
LAST = ["Almeida", "Brandt", "Castellan", "Dubrovin", "Eriksen", "Fontaine", "Gutmann", "Halvorsen"]
NOUN = ["Harbour", "Orchard", "Lantern", "Meadow", "Quarry", "Window", "Tunnel", "Ferry"]


def film(n: int) -> dict[str, str]:
    return {
        "person": f"{FIRST[n % 8]} {LAST[n // 8 % 8]}",
        "other": f"{FIRST[(n + 3) % 8]} {LAST[(n // 8 + 5) % 8]}",
        "year": str(1990 + n % 10),
        "title": f"The {NOUN[n % 8]} of {LAST[(n // 8 + 2) % 8]}",
    }


def page(made: dict[str, str]) -> str:
    return f"{made['title']} is a {made['year']} film by {made['person']}, starring {made['other']}."


def answer(made: dict[str, str]) -> str:
    plain = made["title"].removeprefix("The ")
    who = f"{made['person'][0]}. {made['person'].split()[1]}"
    return f'"{plain}" came out in {made["year"]}. Director: {who}, with {made["other"].upper()}.'


@pytest.mark.parametrize("kind", ["person", "other", "year", "title"])
def test_planted_exchanges_are_found_and_nothing_else(kind: str) -> None:
    grounder, rng = Grounder(), random.Random(0)
    caught = wrong = 0
    for n in range(64):
        mine = film(n)
        assert grounder.ground(answer(mine), [page(mine)]).unsupported == ()
        donor = film(rng.choice([m for m in range(64) if film(m)[kind] not in page(mine)]))
        one = grounder.ground(answer(mine | {kind: donor[kind]}), [page(mine)])
        caught, wrong = caught + (len(one.unsupported) == 1), wrong + (len(one.unsupported) != 1)
    assert (caught, wrong) == (64, 0)


def test_answers_beside_another_source_are_far_less_grounded() -> None:
    grounder = Grounder()
    own = [grounder.ground(answer(film(n)), [page(film(n))]).share or 0.0 for n in range(64)]
    other = [grounder.ground(answer(film(n)), [page(film((n + 21) % 64))]).share or 0.0 for n in range(64)]
    assert sum(own) == 64
    assert sum(other) < 16


class Inventor(CountingEngine):
    """Answers items with what their text says; item 4 and every user get a name and a year that stand nowhere."""

    def answer(self, requests: list[Request]) -> list[Reply]:  # type: ignore[override]
        self.asked += requests
        return [Reply(self._say(request), 10, 5) for request in requests]

    def _say(self, request: Request) -> str:
        honest = f"Directed by {request.texts[-1].split('directed by ')[-1]}" if request.texts[-1] else "Unknown."
        invented = " Also by Zoe Zander in 1877." if "Writer4." in request.texts[0] or len(request.texts) > 1 else ""
        return f"{honest} A film from 1990 with {request.facts[0]}.{invented}"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    engine = Inventor()
    monkeypatch.setitem(engines.ENGINES, "extractive", lambda settings: engine)
    return Store(str(tmp_path / "store"))


def test_the_columns_say_what_was_invented_also_for_cached_answers(store: Store) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    done = run(store, marks, config())
    items = {r["entity"]: r for r in rows(store, done, "item_answers")}
    assert items[4]["unsupported"] == ["Zoe Zander", "1877"]
    assert 0 < items[4]["grounded"] < 1
    assert (items[3]["unsupported"], items[3]["grounded"]) == ([], 1.0)
    assert items[3]["mentions"] > 1
    assert (items[5]["mentions"], items[5]["grounded"], items[5]["unsupported"]) == (None, None, None)  # no text
    assert "Zoe Zander" in rows(store, done, "user_answers")[0]["unsupported"]
    cache = AnswerCache(store)
    kept = cache.lookup(r["digest"] for r in items.values() if r["digest"])
    assert not {"mentions", "grounded", "unsupported"} & set(kept.column_names)
    engine = engines.ENGINES["extractive"](None)  # type: ignore[arg-type]
    asked = len(engine.asked)  # type: ignore[attr-defined]
    again = run(store, marks, config(grounding_threshold=0.01))
    assert again["item_answers"].fingerprint != done["item_answers"].fingerprint
    assert len(engine.asked) == asked  # type: ignore[attr-defined]
    assert whole(store, again, "item_answers").equals(whole(store, done, "item_answers"))


def test_below_the_threshold_a_row_is_ungrounded_and_has_no_text(store: Store) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    done = run(store, marks, config(grounding_threshold=0.9))
    items = {r["entity"]: r for r in rows(store, done, "item_answers")}
    assert done["item_answers"].statuses == {"ok": 10, "ungrounded": 1, "no_text": 1}
    assert (items[4]["status"], items[4]["text"]) == ("ungrounded", None)
    assert items[4]["reason"].startswith("grounded 0.")
    assert "below 0.9: Zoe Zander, 1877" in items[4]["reason"]
    assert (items[3]["status"], items[3]["reason"]) == ("ok", None)
    kept = AnswerCache(store).lookup([items[4]["digest"]]).to_pylist()
    assert (kept[0]["status"], "Zoe Zander" in kept[0]["text"]) == ("ok", True)


def test_too_many_ungrounded_rows_are_a_failure_where_the_recipe_says_so(store: Store) -> None:
    from trawl.errors import TooManyFailures

    marks = with_knowledge(store, base(store), TEXTS)
    strict = config(grounding_threshold=0.9, failures=("ungrounded",))
    with pytest.raises(TooManyFailures, match="ungrounded 1"):
        run(store, marks, strict, "item_texts", "item_prompts", "item_answers")


def test_copied_texts_are_not_looked_at_and_the_switch_turns_it_off(store: Store) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    raw, off = run(store, marks, config(source="raw")), run(store, marks, config(grounding=False))
    for done in (raw, off):
        assert whole(store, done, "item_answers").column("mentions").null_count == 12
    other = run(store, marks, config(source="raw", grounding=False, grounding_threshold=0.5))
    assert other["item_answers"].skipped  # the keys matter to no copied text
    assert run(store, marks, config(grounding=False, grounding_threshold=0.5))["item_answers"].skipped


def test_shuffled_answers_are_held_against_what_they_were_made_from(store: Store) -> None:
    marks = with_knowledge(store, base(store), TEXTS)
    plain = {r["text"]: r["grounded"] for r in rows(store, run(store, marks, config()), "item_answers")}
    mixed = run(store, marks, config(source="shuffled"))
    assert {r["text"]: r["grounded"] for r in rows(store, mixed, "item_answers")} == plain


def test_it_needs_neither_ray_nor_torch_nor_arrow() -> None:
    code = "import sys, trawl.extraction.grounding; print([m for m in ('ray', 'torch', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
