"""Where texts are cut: sections keep their beginnings, chunks hold everything and end where a reader would pause."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trawl.extraction.budget import count_tokens, word_spans
from trawl.extraction.passages import chunks, section_starts, sections, shown, spread

TEXT = st.text(alphabet="ab .,!\n天。é", max_size=300)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("", [""]),
        ("One paragraph.", ["One"]),
        ("First one.\n\nSecond one.", ["First", "Second"]),
        ("Plot\n\nA thief runs.\n\nCast\n\nAda plays.", ["Plot", "Cast"]),  # a heading opens what follows
        ("Intro.\n== Plot ==\nA thief runs.\n== Cast ==\nAda plays.", ["Intro", "== Plot", "== Cast"]),
        ("# Plot\nA thief runs.\n## More\nHe falls.", ["# Plot", "## More"]),
        ("one\n\ntwo\n\nthree", ["one", "two", "three"]),  # lines that nothing follows are no headings
    ],
)
def test_sections_begin_at_headings_and_after_blank_lines(text: str, starts: list[str]) -> None:
    found = section_starts(text)
    assert len(found) == len(starts)
    assert all(text[at:].startswith(start) for at, start in zip(found, starts, strict=True))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20), st.integers(0, 3000), st.integers(0, 9))
def test_a_spread_stays_within_and_no_section_vanishes_where_room_allows(
    lengths: list[int], budget: int, cost: int
) -> None:
    kept = spread(lengths, budget, cost)
    assert all(0 <= k <= n for k, n in zip(kept, lengths, strict=True))
    if sum(lengths) <= budget:
        assert kept == lengths
        return
    assert sum(kept) + cost * sum(k > 0 for k in kept) <= budget
    filled = sum(n > 0 for n in lengths)
    if budget >= (cost + 1) * filled:
        assert sum(k > 0 for k in kept) == filled


def test_a_spread_is_in_proportion() -> None:
    assert spread([132, 332, 0, 632], 196 + 6, 2) == [42, 62, 0, 92]
    assert spread([10, 500, 500], 300 + 6, 2) == [10, 145, 145]  # a short one stays whole
    assert spread([400, 400], 20 + 4, 2) == [10, 10]  # less than a sentence of each
    assert spread([100] * 10, 12, 2) == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]  # room for four marks


def test_each_section_keeps_its_beginning() -> None:
    text = "\n\n".join(f"Part {n} begins. " + "filler " * 200 for n in range(5))
    found = sections(text, word_spans(text), 100, 5)
    assert [text[p.begin : p.end].split(" begins")[0] for p in found] == [f"Part {n}" for n in range(5)]
    assert sum(p.tokens for p in found) <= 100 - 5 * 5
    out = shown(text, [place for p in found for place in (p.begin, p.end)], marked=True)
    assert out.count("[...]") == 5
    assert count_tokens(out) <= 100


def test_sections_that_nothing_parts_are_one_passage() -> None:
    text = "Short one.\n\nShort two.\n\n" + "long " * 500
    short, long = sections(text, word_spans(text), 250, 5)[:1], sections(text, word_spans(text), 250, 5)[1:]
    assert short[0].begin == 0
    assert len(short) + len(long) <= 3
    whole = sections(text, word_spans(text), 10_000, 5)
    assert [(p.tokens, p.begin) for p in whole] == [(506, 0)]
    assert shown(text, [0, whole[0].end], marked=True) == text.strip()


@given(TEXT, st.integers(0, 120))
def test_sections_hold_what_they_say(text: str, budget: int) -> None:
    found = sections(text, word_spans(text), budget, 5)
    for passage in found:
        assert count_tokens(text[passage.begin : passage.end]) == passage.tokens > 0
    assert all(one.end <= two.begin for one, two in pairwise(found))


@given(TEXT, st.integers(1, 60))
def test_chunks_hold_every_token_once(text: str, room: int) -> None:
    found = chunks(text, word_spans(text), room)
    assert sum(p.tokens for p in found) == count_tokens(text)
    assert all(0 < p.tokens <= room for p in found)
    assert all(count_tokens(text[p.begin : p.end]) == p.tokens for p in found)
    gaps = [text[one.end : two.begin] for one, two in pairwise(found)]
    assert not any(gap.strip() for gap in gaps)


def test_chunks_end_with_a_paragraph_else_a_sentence_else_a_word() -> None:
    paragraphs = "\n\n".join("Here is a sentence. " * 6 + f"End {n}." for n in range(8))
    for passage in chunks(paragraphs, word_spans(paragraphs), 100):
        assert paragraphs[passage.begin : passage.end].rstrip().split()[-2] == "End"
    sentences = " ".join(f"Sentence number {n} is here." for n in range(100))
    for passage in chunks(sentences, word_spans(sentences), 100):
        assert sentences[passage.begin : passage.end].startswith("Sentence")
        assert sentences[passage.begin : passage.end].endswith("here.")
    chinese = "他看到了一座城。" * 40
    assert all(chinese[p.begin : p.end].endswith("。") for p in chunks(chinese, word_spans(chinese), 50))


def test_chunks_are_about_as_long() -> None:
    text = " ".join(f"word{n}" for n in range(1001))
    assert [p.tokens for p in chunks(text, word_spans(text), 1000)] == [501, 500]


def test_a_letter_of_many_tokens_is_not_halved() -> None:
    """As byte-level tokenizers spell rare letters: several tokens that stand at the same place."""
    text = "🎬" * 10
    spans = [(n, n + 1) for n in range(10) for _ in range(4)]
    found = chunks(text, spans, 10)
    assert all(p.tokens % 4 == 0 for p in found)
    assert "".join(text[p.begin : p.end] for p in found) == text
    assert [p.tokens for p in chunks(text, spans, 2)] == [4] * 10
    assert [p.tokens for p in sections(text, spans, 15, 5)] == [8]
