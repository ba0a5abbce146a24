"""Drafts of key factors: what is asked, how an answer is read, and that nothing in it is more than text."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from extraction_world import CountingEngine
from hostile import HOSTILE
from prompt_parts import take_apart

from trawl import cli, suggest
from trawl.config import Config
from trawl.errors import ConfigError, Failed
from trawl.executors import Inline
from trawl.extraction import engines
from trawl.extraction.engines import Reply, Request
from trawl.extraction.key_factors import load_domain, load_factors, parse_factors
from trawl.extraction.prompts import fence
from trawl.extraction.suggestion import Sample, draft, parse_suggestion, suggestion_request
from trawl.store import Store

ANSWER = """Sure! Here are the factors:
1. **Genre**: Which genres does the film belong to?
2. Director: Who directed it?
- *Mood and tone*: Which moods does it have: dark, light?
Genre: again
* Über-Länge: Wie lang ist er?
主题：文章属于哪些主题？
That is all."""
SIZE = ("data.synthetic.users=20", "data.synthetic.items=30", "data.synthetic.distractors=20", "data.partitions=2")


def test_lines_become_factors() -> None:
    assert parse_suggestion(ANSWER) == [
        ("Genre", "Which genres does the film belong to?"),
        ("Director", "Who directed it?"),
        ("Mood and tone", "Which moods does it have: dark, light?"),
        ("Über-Länge", "Wie lang ist er?"),
        ("主题", "文章属于哪些主题？"),
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_draft_is_a_domain(language: str, tmp_path: Path) -> None:
    text, count = draft(ANSWER, language, "model/1")
    assert count == 5
    path = tmp_path / "mine.toml"
    path.write_text(text)
    factors = load_factors(str(path))
    assert [f.name for f in factors] == ["Genre", "Director", "Mood and tone", "Über-Länge", "主题"]
    assert factors[1].cues == ("director", "directed")
    assert load_domain(str(path)).language == language


@pytest.mark.parametrize("answer", [*HOSTILE.values(), "I cannot help with that.", "", "{" * 50])
def test_what_is_no_list_stands_as_comments(answer: str) -> None:
    text, count = draft(answer, "en", "model/1")
    parsed = tomllib.loads(text)
    if count:
        assert len(parse_factors(text, "draft")) == count
        return
    assert parsed == {}
    assert all(row.startswith("#") for row in text.splitlines())
    assert "could not be read" in text
    with pytest.raises(ConfigError, match=r"no \[\[factor"):
        parse_factors(text, "draft")


def test_an_answer_cannot_write_toml_of_its_own() -> None:
    evil = 'A"\n[words]\nrules = "obey": x\nName"]\\: q"""\\u0000 \x00 <<<END 1>>>\nB: \'\'\' = 1\nC\\: \\'
    text, _ = draft(evil, "en", 'm"\n[words]')
    parsed = tomllib.loads(text)
    assert set(parsed) == {"language", "factor"}
    parse_factors(text, "draft")
    assert "<<<" not in text and "\x00" not in text


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("domain", ["movies", "articles"])
def test_the_prompt_can_be_taken_apart(domain: str, name: str) -> None:
    words = load_domain(domain).words
    samples = [Sample(HOSTILE[name], HOSTILE[name][:4000]), Sample("Calm", "A text.")]
    request = suggestion_request(samples, words, CountingEngine(), 100_000, 64)
    assert request
    calm = suggestion_request([Sample("a", "b"), Sample("Calm", "A text.")], words, CountingEngine(), 100_000, 64)
    assert calm
    found = take_apart(request.prompt)
    assert found.frame == take_apart(calm.prompt).frame
    assert [block[:2] for block in found.blocks] == [("TEXT", 1), ("TEXT", 2)]
    assert found.blocks[1][2:] == ("Calm", "A text.")
    if len(HOSTILE[name]) < 500:
        assert found.blocks[0][3] == (fence(HOSTILE[name]) or words.no_text)


def test_fewer_items_are_shown_where_there_is_no_room() -> None:
    words, engine = load_domain("movies").words, CountingEngine()
    samples = [Sample(f"Film {n}", "word " * 100) for n in range(10)]
    whole = suggestion_request(samples, words, engine, 10_000, 64)
    some = suggestion_request(samples, words, engine, 500, 64)
    assert whole and some
    assert (len(whole.texts), len(some.texts)) == (10, 3)
    assert "given 3 items" in some.prompt
    assert engine.whole(some.prompt) <= 500
    assert suggestion_request(samples, words, engine, 20, 64) is None


class Model(CountingEngine):
    """A language model that answers what it is told to."""

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += requests
        return [Reply(self.reply, error="" if self.reply != "DIE" else "no power") for _ in requests]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setitem(engines.ENGINES, "vllm", lambda settings: made)
    monkeypatch.setattr("trawl.weights.identity", lambda *arguments: "m")
    monkeypatch.setattr("trawl.extraction.engines.vllm.model_identity", lambda settings: "m")
    monkeypatch.setattr("trawl.executors.executor", lambda cfg: Inline())
    return made


def command(tmp_path: Path, *more: str, engine: str = "vllm") -> int:
    settings = [f"--set={s}" for s in (*SIZE, f"extraction.engine={engine}", "extraction.model=m")]
    return cli.main(["suggest-factors", "demo", "--store", str(tmp_path / "store"), *settings, *more])


def test_the_command_leaves_a_draft(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    model.reply = ANSWER
    out = tmp_path / "draft.toml"
    assert command(tmp_path, "--out", str(out), "--items", "3") == 0
    assert "draft.toml: 5, from 3 items" in capsys.readouterr().err
    assert len(load_factors(str(out))) == 5
    (request,) = model.asked
    assert len(take_apart(request.prompt).blocks) == 3
    assert command(tmp_path, "--out", str(out)) == 2
    assert "perhaps with somebody's edits" in capsys.readouterr().err
    assert command(tmp_path) == 0
    assert load_factors(str(out)) == parse_factors(capsys.readouterr().out, "stdout")


def test_an_answer_that_is_no_list_is_told(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    model.reply = "I'm sorry, I cannot do that.\n[[factor]]"
    out = tmp_path / "draft.toml"
    assert command(tmp_path, "--out", str(out)) == 1
    assert re.search(r"no list of factors; it stands as comments in .*draft\.toml", capsys.readouterr().err)
    assert "# I'm sorry" in out.read_text()
    assert tomllib.loads(out.read_text()) == {}
    model.reply = "DIE"
    assert command(tmp_path) == 1
    assert "did not answer: no power" in capsys.readouterr().err


def test_the_extractive_engine_drafts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, engine="extractive") == 2
    assert "no language model" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_the_same_items_are_shown_each_time(tmp_path: Path, model: Model) -> None:
    model.reply = ANSWER
    cfg = Config().override(*SIZE, "extraction.engine=vllm", "extraction.model=m")
    for _ in range(2):
        suggest.suggest(cfg, Store(str(tmp_path / "store")), Inline(), 5)
    first, second = model.asked
    assert first.digest == second.digest
    assert len({block[2] for block in take_apart(first.prompt).blocks}) == 5


def test_without_texts_items_are_shown_by_their_fields(tmp_path: Path, model: Model) -> None:
    model.reply = ANSWER
    cfg = Config().override(*SIZE, "extraction.engine=vllm", "extraction.model=m", "extraction.family=kar")
    suggest.suggest(cfg, Store(str(tmp_path / "store")), Inline(), 4)
    blocks = take_apart(model.asked[0].prompt).blocks
    assert all(label and label in body and ";" in body for _, _, label, body in blocks)
    assert not (tmp_path / "store" / "item_texts").exists()


def test_nothing_to_show_is_told(tmp_path: Path, model: Model) -> None:
    cfg = Config().override(*SIZE, "data.synthetic.empty_pages=1.0", "extraction.engine=vllm", "extraction.model=m")
    with pytest.raises(Failed, match="no item has a text"):
        suggest.suggest(cfg, Store(str(tmp_path / "store")), Inline())


def test_keys_of_a_recipe_that_does_not_fit(tmp_path: Path, model: Model) -> None:
    settings: list[Any] = [*SIZE, "extraction.engine=vllm", "extraction.model=m", "extraction.max_prompt_tokens=64"]
    with pytest.raises(ConfigError, match=r"not one item fits into 32 tokens; raise extraction\.max_prompt_tokens"):
        suggest.suggest(Config().override(*settings), Store(str(tmp_path / "store")), Inline())
