"""The extractive engine against planted answers."""

import pytest

from trawl.errors import ConfigError
from trawl.extraction.engines import Request, Settings, make_engine
from trawl.extraction.engines.finders import split_sentences
from trawl.extraction.key_factors import load_factors, parse_factors

FACTORS = load_factors("movies")
PAGE = (
    "The Long Pier is a 1974 French romantic comedy film directed by Ana M. López and starring Bo Li, Carla de la Cruz "
    "and Dr. Finn O'Hara Jr. in the leads. The box had a lid of tin. The protagonist is a shy lighthouse keeper who "
    "plays chess with his daughter. The story follows a search for a drowned bell. It is a bittersweet, witty piece. "
    "It won the Golden Shell at the Sandport Festival. Rain fell on the roof."
)


def ask(texts: list[str], tokens: int = 256) -> dict[str, str]:
    engine = make_engine("extractive", Settings(FACTORS))
    (reply,) = engine.answer([Request("d", "prompt", tuple(texts), tuple("x" for _ in texts), tokens)])
    assert reply.tokens_out == engine.count(reply.text) <= tokens
    lines = [line.split(": ", 1) for line in reply.text.splitlines()]
    return dict(lines)


def test_planted_answers_per_factor() -> None:
    found = ask([PAGE])
    assert found["Genre"] == "romantic comedy"
    assert found["Director"] == "Ana M. López"
    assert found["Actors"].startswith("Bo Li, Carla de la Cruz")
    assert found["Time period"] == "1974"
    assert found["Country"] == "french"
    assert "shy lighthouse keeper" in found["Character"]
    assert "drowned bell" in found["Plot and theme"]
    assert found["Mood and tone"] == "bittersweet, witty"
    assert "Golden Shell" in found["Acclaim and awards"]
    assert not any("tin" in text or "Rain fell" in text for text in found.values())


def test_over_several_texts_the_most_frequent_comes_first() -> None:
    texts = ["A 1950 western film.", "An 1980 horror film.", "A horror and western film.", "A horror tale."]
    assert ask(texts)["Genre"] == "horror, western"


def test_a_small_budget_is_shared_by_the_factors() -> None:
    found = ask([PAGE], tokens=24)
    assert {"Genre", "Director", "Country"} <= found.keys()


def test_nothing_to_say_is_an_empty_answer() -> None:
    assert ask(["Xyzzy."]) == {}
    assert ask([""]) == {}


def test_sentences_end_where_they_should() -> None:
    assert split_sentences("Mr. A. Smith came. He left!\nDone") == ["Mr. A. Smith came.", "He left!", "Done"]
    assert split_sentences("") == []


def test_no_such_engine_or_domain() -> None:
    with pytest.raises(ConfigError, match="extractive"):
        make_engine("other", Settings(FACTORS))
    with pytest.raises(ConfigError, match="movies"):
        load_factors("nothing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no \\[\\[factor"),
        ("a = [", "not valid TOML"),
        ('[[factor]]\nname = "X"\nquestion = "?"\nkind = "other"', "'X': kind"),
        ('[[factor]]\nname = "X"\nkind = "values"', "question"),
        ('[[factor]]\nname = "X"\nquestion = "?"\nkind = "values"\npatterns = ["("]', "pattern"),
    ],
)
def test_bad_factor_lists_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_factors(text, "test")


def merge(answers: list[str], tokens: int = 256) -> dict[str, str]:
    engine = make_engine("extractive", Settings(FACTORS))
    digests = tuple("x" for _ in answers)
    (reply,) = engine.answer([Request("d", "prompt", tuple(answers), digests, tokens, merges=True)])
    assert reply.tokens_out == engine.count(reply.text) <= tokens
    return dict(line.split(": ", 1) for line in reply.text.splitlines())


def test_answers_are_united_by_factor_without_repetitions() -> None:
    one = "Genre: western, drama\nDirector: Ana Berg\nPlot and theme: A bell is lost. A boy looks for it."
    two = "Genre: war, drama\nActors: Bo Li\nPlot and theme: A bell is lost. He finds a friend."
    found = merge([one, two, "", "not a factor at all"])
    assert found == {
        "Genre": "drama, western, war",  # what most say first
        "Director": "Ana Berg",
        "Actors": "Bo Li",
        "Plot and theme": "A bell is lost. A boy looks for it. He finds a friend.",
    }


def test_a_united_answer_keeps_to_its_tokens_and_a_cut_one_gives_what_is_whole() -> None:
    many = [f"Genre: drama\nActors: {', '.join(f'Ann Nr{n}x{m}' for m in range(9))}" for n in range(20)]
    found = merge(many, tokens=40)
    assert found["Genre"] == "drama"
    assert found["Actors"].startswith("Ann Nr0x0, Ann Nr1x0")  # the first of each
    assert merge(["Genre: western [...] oni, Bo Li\nDirector: Ana Berg"]) == {
        "Genre": "western",
        "Director": "Ana Berg",
    }


def test_the_answer_to_chunks_is_the_answer_to_the_whole() -> None:
    """For a text whose sentences stand for themselves: what is found in its halves is what is found in it."""
    half = PAGE.index("The protagonist")
    parts = ["\n".join(f"{k}: {v}" for k, v in ask([part]).items()) for part in (PAGE[:half], PAGE[half:])]
    assert merge(parts) == ask([PAGE])
