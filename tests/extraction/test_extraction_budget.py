"""Counts and clip plans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trawl.extraction.budget import ELISION_TOKENS, clip, clip_plan, count_tokens


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("one two", 2), ("it's, ok.", 6), ("天空の城", 4), ("a" * 33, 3), ("[...]", 5)]
)
def test_counts(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.integers(-50, 3000))
def test_a_plan_fits_and_cuts_only_the_longest(tokens: list[int], room: int) -> None:
    kept = clip_plan(tokens, room)
    assert all(0 <= k <= t for k, t in zip(kept, tokens, strict=True))
    cut = [k for k, t in zip(kept, tokens, strict=True) if k < t]
    assert not cut or sum(kept) + ELISION_TOKENS * sum(k > 0 for k in cut) <= max(0, room)
    assert len(set(cut)) <= 1  # one level for all that are cut
    assert all(k <= cut[0] for k in kept) if cut else kept == tokens


@given(st.text(alphabet="ab .,\n天é", max_size=200), st.integers(0, 100))
def test_a_clip_keeps_what_the_plan_says(text: str, keep: int) -> None:
    there = count_tokens(text)
    out = clip(text, keep, there)
    assert out == text if keep >= there else count_tokens(out) <= keep + ELISION_TOKENS


def test_a_clip_keeps_both_ends() -> None:
    words = [f"w{n}" for n in range(100)]
    out = clip(" ".join(words), 30, 100)
    assert out.startswith("w0 w1 ")
    assert out.endswith(" w98 w99")
    assert " [...] " in out
