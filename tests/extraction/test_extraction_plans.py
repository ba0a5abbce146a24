"""What prompts hold: with every policy the prompt as it is sent and its answer stay within the limit."""

from collections.abc import Sequence
from functools import cache, partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_model import make_tiny_qwen2

from trawl.extraction.engines import Engine, Settings, make_engine
from trawl.extraction.key_factors import load_factors
from trawl.extraction.plans import Clip, Planner, clipped_texts
from trawl.extraction.prompts import Frame, clean, item_frame, prompt_digest, user_frame
from trawl.sections import Extraction

FACTORS = load_factors("movies")
POLICIES = ("middle", "sections", "chunks", "skip")
ANSWER = 16
PIECE = st.sampled_from(
    [
        "film ",
        "Plot\n\n",
        "\n\n",
        "天空の城",
        "🎬",
        "👩🏽\u200d🚀",
        "é",
        ". ",
        "! ",
        "1990 ",
        "<<<END 1>>>",
        "<|end|>",
        "x" * 40,
        "𓀀",
    ]
)
TEXTS = st.lists(
    st.tuples(st.lists(PIECE, max_size=12), st.integers(1, 30)).map(lambda t: "".join(t[0]) * t[1]),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module", autouse=True)
def _model(tmp_path_factory: pytest.TempPathFactory) -> None:
    _FOLDER.append(str(make_tiny_qwen2(tmp_path_factory.mktemp("tiny"))))


_FOLDER: list[str] = []


@cache
def engine(name: str) -> Engine:
    given = {"model": _FOLDER[-1]} if name == "vllm" else {}
    return make_engine(name, Settings(FACTORS, Extraction.model_validate({"engine": name, **given})))


def planner(name: str, policy: str, room: int, chunks: int = 32) -> Planner:
    cfg = {"over_budget": policy, "max_prompt_tokens": room, "max_answer_tokens": ANSWER, "max_chunks": chunks}
    return Planner(Extraction.model_validate(cfg), engine(name))


def one(title: str, places: Sequence[int]) -> Frame:
    return item_frame(title, FACTORS[:2])


def many(titles: Sequence[str], places: Sequence[int]) -> Frame:
    return user_frame([titles[place] for place in places], {"gender": ["F"]}, FACTORS[:2])


def rendered(made: Planner, clip: Clip, frame: Frame, texts: Sequence[str], there: Sequence[int]) -> str:
    cited = clipped_texts(
        [texts[p] for p in clip.places],
        (clip.plan, clip.kept, clip.ranges),
        [there[p] for p in clip.places],
        made.engine.spans,
    )
    return frame.render(cited)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["extractive", "vllm"])
@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, more=st.integers(-5, 700))
@example(texts=["🎬" * 400], more=60)
@example(texts=["天空の城🎬é " * 100, "film. " * 300], more=150)
def test_prompt_and_answer_fit(name: str, policy: str, texts: list[str], more: int) -> None:
    texts = [clean(text) for text in texts]
    counter = engine(name)
    there = [counter.count(text) if text else 0 for text in texts]
    frame_of = (
        partial(many, [f"A film <<<{n}>>> 🎬" for n in range(len(texts))]) if len(texts) > 1 else partial(one, "T")
    )
    bare = counter.whole(frame_of(range(len(texts))).render([""] * len(texts)))
    made = planner(name, policy, max(64, bare + ANSWER + more))
    found = made.plan(there, texts.__getitem__, frame_of)
    assert sum(clip.there for clip, _, _ in found) == sum(there)
    for clip, frame, tokens in found:
        assert len(clip.places) == len(clip.kept) == len(frame.labels)
        asked = tokens <= made.room
        assert asked or clip.plan == "skip" or bare > made.room
        if asked:
            sent = counter.whole(rendered(made, clip, frame, texts, there))
            assert sent + ANSWER <= max(64, bare + ANSWER + more)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_fits_is_the_same_prompt_with_every_policy(policy: str) -> None:
    made = planner("extractive", policy, 2000)
    ((clip, frame, tokens),) = made.plan([3, 0], ["one two three", ""].__getitem__, partial(many, ["A", "B"]))
    assert (clip.plan, clip.kept, clip.ranges, clip.chunks) == ("whole", (3, 0), (), 1)
    assert prompt_digest(frame, ["d", ""], clip.digested, "e", 9) == prompt_digest(frame, ["d", ""], [3, 0], "e", 9)
    assert tokens == made.around(frame) + 3


def test_cut_in_the_middle_is_known_by_its_tokens_as_before() -> None:
    made = planner("extractive", "middle", 500)
    ((clip, _, _),) = made.plan([5000, 2], lambda place: "no text is read", partial(many, ["A", "B"]))
    assert clip.digested == clip.kept
    assert (clip.kept[1], clip.texts_cut, clip.there) == (2, 1, 5002)


def test_sections_of_the_longest_text_are_told_apart_from_its_middle() -> None:
    text = "\n\n".join(f"Section {n} opens. " + "filler " * 300 for n in range(6))
    there = [engine("extractive").count(text), 2]
    found = {
        p: planner("extractive", p, 700).plan(there, [text, "Short."].__getitem__, partial(many, ["A", "B"]))
        for p in POLICIES
    }
    cut, frame, tokens = found["sections"][0]
    out = rendered(planner("extractive", "sections", 700), cut, frame, [text, "Short."], there)
    assert all(f"Section {n} opens." in out for n in range(6))
    assert "Short." in out
    assert cut.texts_cut == 1
    middle, frame, _ = found["middle"][0]
    assert "Section 3 opens." not in rendered(
        planner("extractive", "middle", 700), middle, frame, [text, "Short."], there
    )
    assert len({prompt_digest(frame, ["d"], f[0][0].digested, "e", 9) for f in found.values()}) == len(POLICIES)
    assert tokens <= planner("extractive", "sections", 700).room


def test_a_skipped_prompt_says_how_long_it_would_be() -> None:
    made = planner("extractive", "skip", 500)
    ((clip, frame, tokens),) = made.plan([5000, 0], lambda place: "", partial(many, ["A", "B"]))
    assert (clip.plan, clip.kept, clip.there, clip.texts_cut) == ("skip", (0, 0), 5000, 1)
    assert tokens == made.around(frame) + 5000


def test_chunks_of_a_user_keep_texts_together_and_split_only_what_is_too_long() -> None:
    texts = ["a " * 100, "b " * 100, "c " * 900, "", "d " * 100]
    there = [100, 100, 900, 0, 100]
    made = planner("extractive", "chunks", 600)
    found = made.plan(there, texts.__getitem__, partial(many, list("ABCDE")))
    cited = [clip.places for clip, _, _ in found]
    assert cited[0][:2] == (0, 1)
    assert [place for places in cited for place in places if place != 2] == [0, 1, 3, 4]
    assert sum(2 in places for places in cited) > 1
    for number, (clip, frame, _) in enumerate(found):
        assert (clip.chunk, clip.chunks) == (number, len(found))
        assert f"part {number + 1} of {len(found)}" in frame.head
        assert frame.labels == tuple("ABCDE"[p] for p in clip.places)
    assert sum(sum(clip.kept) for clip, _, _ in found) == 1200


def test_what_is_behind_the_most_chunks_is_told() -> None:
    text = "word " * 5000
    found = planner("extractive", "chunks", 400, chunks=3).plan([5000], lambda place: text, partial(one, "T"))
    assert len(found) == 3
    kept = sum(sum(clip.kept) for clip, _, _ in found)
    assert [clip.texts_cut for clip, _, _ in found] == [0, 0, 1]
    assert sum(clip.there for clip, _, _ in found) == 5000 > kept
    assert all(tokens <= 400 - ANSWER for _, _, tokens in found)


def test_a_mark_costs_more_where_letters_are_several_tokens() -> None:
    words, model = planner("extractive", "middle", 500), planner("vllm", "middle", 500)
    assert words.mark == 5
    assert model.mark >= engine("vllm").count(" [...] ") + 6
