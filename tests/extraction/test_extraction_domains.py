"""Domains: shipped lists against planted answers, lists of the user's own, languages, and what is said of bad ones."""

import re
from pathlib import Path
from typing import Any

import pytest
from extraction_world import CountingEngine, base, config, rows, run, with_knowledge

from trawl import pipeline
from trawl.errors import ConfigError, InputError
from trawl.extraction import engines
from trawl.extraction.engines import Request, Settings, make_engine
from trawl.extraction.key_factors import load_domain, load_factors, parse_domain, shipped
from trawl.extraction.prompts import item_frame
from trawl.extraction.words import ENGLISH, Words, fill, languages, words_of
from trawl.stage import fingerprint
from trawl.store import Store

OWN = """
language = "zh"
[words]
answer = "Say it in one line each."
[[factor]]
name = "Taste"
question = "How does it taste?"
kind = "values"
values = ["Sweet", "辣", "甜味"]
"""
FACTOR = '[[factor]]\nname = "A"\nquestion = "?"\nkind = "values"'
PAGES = {
    "books": (
        "The Long Pier is a 1974 literary fiction novel by Ana M. López. It is written in lyrical prose. The story "
        "follows a lighthouse keeper in Scotland. It won the Booker Prize. It has 320 pages and is haunting.",
        {
            "Genre": "literary fiction",
            "Author": "Ana M. López",
            "Writing style": "It is written in lyrical prose.",
            "Setting": "scotland",
            "Length and complexity": "long, 320 pages",
            "Time period": "1974",
            "Mood": "haunting",
            "Quality and acclaim": "It won the Booker Prize.",
        },
    ),
    "news": (
        "President Ana López announced a climate deal in Brazil on Monday, according to the Daily Herald. The plan "
        "could affect a million residents. Experts explain what it means. It is an exclusive.",
        {
            "Topic": "climate",
            "Region": "brazil",
            "Style": "exclusive",
            "Freshness": "monday",
            "Clarity": "Experts explain what it means.",
            "Impact": "The plan could affect a million residents.",
        },
    ),
    "generic": (
        "The Aero 3 is a lightweight tent made by Hill Gear. It is ideal for beginners. The elegant design won an "
        "award in 2019. It costs $120.",
        {
            "Category": "The Aero 3 is a lightweight tent made by Hill Gear.",
            "Maker": "Hill Gear",
            "Use and audience": "It is ideal for beginners.",
            "Style and mood": "elegant",
            "Time": "2019",
            "Price and effort": "$120.",
        },
    ),
    "articles": (
        "作者：李雪松、王小明。本文讲述唐代长安的美食文化。北京大学教授陈平原认为，唐朝的饮食影响了日本。“真好吃！”他说。"
        "2019年3月，故宫推出了一份深度攻略，适合历史爱好者收藏。张艺谋执导的电影在西安拍摄。",
        {
            "主题": "美食, 文化, 历史, 电影",
            "人物": "李雪松, 王小明, 陈平原, 张艺谋",
            "机构与品牌": "北京大学, 故宫",
            "地区": "北京, 日本, 西安",
            "时间": "唐代, 唐朝, 2019年3月",
            "风格": "深度, 攻略",
            "读者": "2019年3月，故宫推出了一份深度攻略，适合历史爱好者收藏。",
        },
    ),
}


def asked(factors: Any, *texts: str, extracted: bool = False) -> dict[str, str]:
    engine = make_engine("extractive", Settings(factors))
    request = Request("d", "prompt", texts, tuple("x" for _ in texts), 256, extracted)
    (reply,) = engine.answer([request])
    return dict(line.split(": ", 1) for line in reply.text.splitlines())


def own(tmp_path: Path, text: str = OWN, name: str = "mine.toml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_what_is_shipped() -> None:
    assert shipped() == ["articles", "books", "generic", "movies", "news"]
    for name in shipped():
        factors = load_factors(name)
        assert 8 <= len(factors) <= 12
        assert all(f.values or f.patterns or f.after or f.before or f.cues for f in factors), name
    assert languages() == ["en", "zh"]
    assert load_domain("movies").words == ENGLISH == words_of("en", {}, "here")


@pytest.mark.parametrize("domain", PAGES)
def test_planted_answers_per_domain(domain: str) -> None:
    page, planted = PAGES[domain]
    found = asked(load_factors(domain), page)
    assert {name: found.get(name) for name in planted} == planted


def test_chinese_articles_are_asked_in_chinese() -> None:
    domain = load_domain("articles")
    prompt = item_frame("标题", domain.factors, domain.words).render(["文本。"])
    assert prompt.startswith("下面是关于一个内容的文本")
    assert all(factor.question in prompt for factor in domain.factors)
    assert "<<<TEXT 1>>> 标题\n文本。\n<<<END 1>>>" in prompt
    assert not re.search(r"[A-Za-z]{2,}", re.sub(r"<<<(TEXT|END) 1>>>", "", prompt))
    assert item_frame("标题", domain.factors, domain.words).render([""]).count("（无文本）") == 1


def test_over_several_chinese_texts_the_most_frequent_comes_first() -> None:
    texts = ["一篇美食文章。", "一篇科技文章。", "关于科技的文章。"]
    assert asked(load_factors("articles"), *texts)["主题"] == "科技, 美食"


def test_words_of_other_scripts_end_no_word() -> None:
    domain = parse_domain(OWN, "own")
    assert asked(domain.factors, "这个很Sweet甜味的菜不辣。") == {"Taste": "sweet, 甜味, 辣"}
    assert asked(domain.factors, "Sweetness is all.") == {}


def test_answers_are_read_by_their_lines() -> None:
    said = "- **Genre**: a gripping Western, war\n2. Actors: Bo Li, Ana M. López\nAnd it was directed by Carl Dor."
    found = asked(load_factors("movies"), said, extracted=True)
    assert found == {"Genre": "western, war", "Director": "Carl Dor", "Actors": "Bo Li, Ana M. López"}
    assert "Actors" not in asked(load_factors("movies"), said)


def test_a_list_of_one_s_own_reaches_the_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CountingEngine()
    monkeypatch.setitem(engines.ENGINES, "extractive", lambda settings: engine)
    store = Store(str(tmp_path / "store"))
    done = run(store, with_knowledge(store, base(store), {4: "Sweet."}), config(domain=own(tmp_path)))
    assert len(rows(store, done, "item_prompts")) == 1
    assert all("- Taste: How does it taste?" in r.prompt and "Say it in one line" in r.prompt for r in engine.asked)
    assert all(r.prompt.startswith("下面是") for r in engine.asked)


def test_a_list_counts_by_its_content(tmp_path: Path) -> None:
    def mark(domain: str) -> str:
        stage, cfg = pipeline.stages()["item_prompts"], config(domain=domain)
        return fingerprint(stage, cfg, dict.fromkeys(stage.reads(cfg), "x"))

    first = own(tmp_path)
    (tmp_path / "moved").mkdir()
    assert mark(own(tmp_path / "moved")) == mark(first) == mark(f"file://{first}")
    assert mark(own(tmp_path, f"{OWN}limit = 3", "other.toml")) != mark(first)
    before = mark(first)
    own(tmp_path, OWN.replace("taste?", "smell?"))
    assert load_factors(first)[0].question == "How does it smell?"
    assert mark(first) != before
    assert mark("books") != mark("movies")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('colour = "red"', "unknown keys ['colour']; it has [[factor]], language and [words]"),
        ('language = "xx"', "language = 'xx'; there are en, zh"),
        ("[words]\nansver = 'x'", "words.ansver: no such text; there are trawl_item"),
        ("[words]\nanswer = 3", "words.answer: must be a text that is not empty"),
        (
            "[words]\ntrawl_item = 'Look: {factors}'",
            "words.trawl_item: missing {rules}; its places: {factors}, {rules}",
        ),
        ("[words]\nrules = '{title}'", "words.rules: unknown {title}; its places: none"),
        ("[words]\nrules = '<<<END 1>>>'", "words.rules: three angle brackets"),
        ("words = 3", "words must be a table"),
        ("factor = 3", "no [[factor]]"),
        ('[[factor]]\nname = "A"\nquestion = 3\nkind = "values"', "factor 'A': question must be one line of text"),
        ('[[factor]]\nname = "A\\nB"\nquestion = "?"\nkind = "values"', "name must be one line"),
        ('[[factor]]\nname = "A"\nquestion = "<<<END 1>>>"\nkind = "values"', "factor 'A': question must be"),
        ('[[factor]]\nname = "A: B"\nquestion = "?"\nkind = "values"', "name must hold no colon"),
        ('[[factor]]\nname = "A"\nquestion = "?"\nkind = "values"\nlimit = 0', "factor 'A': limit must be a whole"),
        ('[[factor]]\nname = "A"\nquestion = "?"\nkind = "values"\nvalues = "x"', "factor 'A': values must be a list"),
        (
            '[[factor]]\nname = "A"\nquestion = "?"\nkind = "values"\nvalues = ["-"]',
            "factor 'A': values '-': holds no letter",
        ),
        ('[[factor]]\nname = "A"\nquestion = "?"\nkind = "values"\npatterns = ["a*"]', "pattern 'a*': matches nothing"),
        ('[[factor]]\nname = "A"\nquestion = "?"\nkind = "values"\npatterns = ["x", "(?i)y"]', "patterns: together no"),
        ('[[factor]]\nname = "A"\nquestion = "?"\nkind = "names"\ncolour = 1', "factor 'A': unknown keys ['colour']"),
        ('[[factor]]\nname = "A"\nquestion = "?"\nkind = "names"\n' * 2, "factor 'A': name stands there twice"),
    ],
)
def test_a_bad_list_is_one_line_with_file_factor_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = own(tmp_path, text if "factor]" in text or "factor =" in text else f"{text}\n{FACTOR}")
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load_factors(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_missing_is_told_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.toml: no such file"):
        pipeline.plan(config(domain=str(tmp_path / "nothing.toml")).override("data.synthetic.users=10"))
    with pytest.raises(
        ConfigError, match=r"'cars': no such list of key factors; there are articles, books.*\.toml file"
    ):
        pipeline.plan(config(domain="cars"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(InputError, match=r"latin\.toml: cannot be read"):
        load_factors(str(tmp_path / "latin.toml"))


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert fill("{a} and {b}", a="{b}", b="{a}") == "{b} and {a}"
    assert set(Words.__dataclass_fields__) >= {"rules", "kar_rules", "suggest"}


def test_other_cues_are_another_engine(tmp_path: Path) -> None:
    """They stand in no prompt: without this, answers found by the old cues would be served for the new ones."""

    def revision(factors: Any) -> str:
        return make_engine("extractive", Settings(factors)).revision

    assert revision(load_factors("movies")) == "1"
    plain = revision(parse_domain(OWN, "own").factors)
    assert plain != revision(parse_domain(OWN.replace("辣", "酸"), "own").factors) != "1"
    store = Store(str(tmp_path / "store"))
    marks = with_knowledge(store, base(store), {1: "sweet 甜味"})
    texts = []
    for text in (OWN, OWN.replace('"Sweet", ', "")):
        done = run(store, marks, config(domain=own(tmp_path, text)), "item_texts", "item_prompts", "item_answers")
        texts.append(rows(store, done, "item_answers")[0]["text"])
    assert texts == ["Taste: sweet, 甜味", "Taste: 甜味"]
