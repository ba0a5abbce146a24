"""What counts as taken over, and that nothing of a text is lost or made long work by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trawl.report import spans
from trawl.report.spans import Piece, compare, condense


def used(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.text for piece in pieces if piece.used]


def test_a_sentence_is_marked_in_both() -> None:
    source = "It was long. The story follows two sisters. It rained."
    found = compare([source], "Plot: the story follows two sisters, they say")
    assert used(found.sources[0]) == ["The story follows two sisters"]
    assert used(found.answer) == ["the story follows two sisters"]
    assert (found.words, found.found) == (8, 5)


@pytest.mark.parametrize(
    ("source", "answer", "marked"),
    [
        ("a tale of the sea", "full of the sun", []),  # two common words are chance
        ("far away in the north", "it is in the north now", []),  # three short ones too
        ("an extraordinary underwater expedition", "some extraordinary underwater expedition", None),
        ("directed by Ana Lopez.", "I think Ana Lopez did", ["Ana Lopez"]),  # a name
        ("directed by ana lopez.", "I think Ana Lopez did", []),
        ("a war film", "Genre: comedy, war", ["war"]),  # a whole entry
        ("a war film", "Genre: comedy, war story", []),
        ("a genre film", "Genre: comedy", []),  # the name of the entry is none
        ("這是一個關於戰爭的故事", "他說這是一個關於戰爭的", ["這是一個關於戰爭的"]),  # no spaces between words
    ],
)
def test_what_counts(source: str, answer: str, marked: list[str] | None) -> None:
    expected = ["extraordinary underwater expedition"] if marked is None else marked
    assert used(compare([source], answer).answer) == expected


def test_the_longest_of_many_places_is_found() -> None:
    source = " ".join(f"The lenses were supplied by {name} and Sons." for name in ("Abel", "Bertram", "Cole"))
    found = compare([source], "The lenses were supplied by Cole and Sons.")
    assert used(found.sources[0]) == ["The lenses were supplied by Cole and Sons"]


def test_a_run_does_not_begin_the_next_sentence_by_chance() -> None:
    source = "It won the great prize of Rome. The end was sad."
    found = compare([source], "It won the great prize of Rome. The beginning was not.")
    assert used(found.answer) == ["It won the great prize of Rome"]


def test_runs_do_not_cross_from_one_source_to_the_next() -> None:
    found = compare(["one two three", "four five six"], "one two three four five six")
    assert used(found.answer) == []


def test_several_sources_each_get_their_marks() -> None:
    found = compare(["the quick brown fox ran", "a lazy dog slept there"], "the quick brown fox and a lazy dog slept")
    assert [used(pieces) for pieces in found.sources] == [["the quick brown fox"], ["a lazy dog slept"]]


WORDS = st.lists(st.sampled_from(["war", "Ana", "Lopez", "the", "of", ",", ".", "\n", ":", "<b>", "戰"]), max_size=40)


@given(st.lists(WORDS, max_size=3), WORDS)
def test_the_pieces_are_the_texts(sources: list[list[str]], answer: list[str]) -> None:
    texts = [" ".join(words) for words in sources]
    found = compare(texts, " ".join(answer))
    assert ["".join(p.text for p in pieces) for pieces in found.sources] == texts
    assert "".join(p.text for p in found.answer) == " ".join(answer)
    assert 0 <= found.found <= found.words


def test_hostile_repetition_tries_a_bounded_number_of_places(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    inner = spans._longest
    monkeypatch.setattr(spans, "_longest", lambda *args: tried.append(1) or inner(*args))
    text = "na " * 10_000  # every word is equal to every other
    found = compare([text], text)
    assert len(tried) == 1  # all of what is compared is one run
    places = spans._index(spans._words(text[: spans.LONGEST]))
    assert max(len(where) for where in places.values()) == spans._CANDIDATES
    assert sum(len(p.text) for p in found.answer) == len(text)
    assert len(used(found.answer)[0]) <= spans.LONGEST


def test_condense_keeps_what_is_used() -> None:
    pieces = (Piece("x" * 5000, False), Piece("the part", True), Piece("y" * 5000, False))
    short = condense(pieces, 1000)
    assert sum(len(p.text) for p in short) <= 1000
    assert used(short) == ["the part"]
    assert "[…]" in short[0].text


def test_condense_never_passes_its_limit() -> None:
    pieces = tuple(Piece("z" * 300, bool(n % 2)) for n in range(20))
    short = condense(pieces, 1000)
    assert sum(len(p.text) for p in short) == 1000
    assert short[-1].text.endswith("…")
    assert condense(pieces[:1], 300) == pieces[:1]
