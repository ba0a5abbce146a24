import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_world import ARMS, HOSTILE, data_run, whole_run

from trawl.config import Config, flat
from trawl.errors import AskedWrongly
from trawl.report import build, page
from trawl.report.page import _bytes, _duration, _short, _toml
from trawl.store import Store

SECTIONS = (
    "short",
    "read",
    "linked",
    "extracted",
    "encoded",
    "mined",
    "trained",
    "neighbours",
    "stages",
    "recipe",
    "artifacts",
)
VOID = {"meta", "img", "br", "source", "link", "input", "hr"}


class Page(HTMLParser):
    """Reads a page and raises on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {k: v or "" for k, v in attrs}
        self.tags.append((tag, found))
        if tag == "section":
            self.section = found["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.text[self.section] = " ".join(f"{self.text.get(self.section, '')} {data}".split())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a whole run and its page."""
    store = Store(str(tmp_path_factory.mktemp("whole")))
    build(store, whole_run(store))
    return store


@pytest.fixture
def text(whole: Store) -> str:
    return whole.read_text("runs", "whole", "report.html")


def test_build_returns_the_path_of_the_page(store: Store) -> None:
    path = build(store, data_run(store))
    assert path == store.path("runs", "early", "report.html")
    assert [n for n in store.names("runs", "early") if n.endswith(".tmp")] == []


def test_no_page_for_a_run_that_is_not_there(store: Store) -> None:
    with pytest.raises(AskedWrongly, match="no run"):
        build(store, "nothing")
    assert not store.exists("runs", "nothing")


def test_the_page_is_well_formed_and_has_every_section(text: str) -> None:
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert tuple(a["id"] for tag, a in page.tags if tag == "section") == SECTIONS
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    assert links == {f"#{name}" for name in SECTIONS} | {"../index.html"}


def test_the_page_needs_nothing_from_outside(text: str) -> None:
    page = Page(text)
    assert [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "form", "base")] == []
    for _, found in page.tags:
        for name in ("src", "srcset", "href"):
            assert found.get(name, "#").startswith(("data:image/svg+xml;base64,", "#", "../index.html"))
        assert [name for name in found if name.startswith("on")] == []
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_page_says_what_the_token_budget_cut(text: str) -> None:
    found = Page(text).text["extracted"]
    assert "Token budget" in found
    # The first of four prompts about items, one of its texts: 25 of 325 tokens.
    assert "items middle extracted &amp; <b>aligned</b>".replace("&amp;", "&") in found
    assert "4 1 25.0 % 1 0 0 0 325 300 25 0 7.7 %" in found


def test_text_of_outside_is_escaped(text: str) -> None:
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>aligned</b>" not in text
    page = Page(text)
    assert HOSTILE in page.text["linked"]
    assert HOSTILE in page.text["extracted"]
    assert list(ARMS)[1] in page.text["short"]


def test_the_figures_stand_on_the_page(text: str) -> None:
    page = Page(text)
    short = page.text["short"]
    assert f"the best arm is {list(ARMS)[1]} (AUC 0.7600)" in short
    assert "+0.0500 test AUC against none (95 % interval +0.0123 to +0.0900, which excludes 0)" in short
    assert "cold AUC" in short
    assert "20" in page.text["read"]
    assert "of 5 items whose entity is known, 4 are linked, 3 of them to an accepted entity" in page.text["linked"]
    assert "ok 4 66.7 %" in page.text["extracted"]
    assert "90.0 %" in page.text["mined"]
    assert "abc1234" in page.text[""]


def test_every_picture_says_in_words_what_it_shows(text: str) -> None:
    alts = [a["alt"] for tag, a in Page(text).tags if tag == "img"]
    # Slices by items, differences, similarity, tokens in and out, in-degrees; AUC, rec, items, whole (users: all zero).
    assert len(alts) == 1 + 2 + 1 + 2 + 1 + 4
    assert all(len(alt) > 30 for alt in alts)
    assert "users: the first serves 9 of 10 anchors" in " ".join(alts)


def test_a_run_of_data_alone(store: Store) -> None:
    page = Page(Path(build(store, data_run(store))).read_text(encoding="utf-8"))
    assert tuple(a["id"] for tag, a in page.tags if tag == "section") == SECTIONS
    assert [name for name in SECTIONS if "Not made in this run." in page.text[name]] == [
        "linked",
        "extracted",
        "encoded",
        "mined",
        "trained",
        "neighbours",
    ]
    assert "No arm of this run has been trained" in page.text["short"]
    assert "img" not in [tag for tag, _ in page.tags]


def test_the_same_run_gives_the_same_page(whole: Store, text: str) -> None:
    assert Path(build(whole, "whole")).read_text(encoding="utf-8") == text


def test_a_page_can_be_built_before_the_first_result(store: Store) -> None:
    whole_run(store)
    store.remove("runs", "whole", "comparisons.json")
    store.remove("runs", "whole", "result.json")
    page = Page(Path(build(store, "whole")).read_text(encoding="utf-8"))
    assert "No arm of this run has been trained" in page.text["short"]
    assert "recommendation loss" in " ".join(a["alt"] for tag, a in page.tags if tag == "img")


def test_characters_that_turn_or_break_text_are_replaced(store: Store) -> None:
    name = data_run(store)
    record = store.read_text("runs", name, "run.json").replace("abc1234", "abc\\u202e\\u0000")
    store.write_text(record, "runs", name, "run.json")
    page = Path(build(store, name)).read_text(encoding="utf-8")
    assert "abc��" in page
    assert "\x00" not in page


def test_the_recipe_stands_there_in_full(text: str) -> None:
    shown = Page(text).text["recipe"]
    for key in flat(Config().model_dump(mode="json")):
        assert key.rpartition(".")[2] in shown
    assert "extraction.source =" in shown


def test_toml_keeps_sections_apart() -> None:
    assert _toml({"name": "x", "a": {"b": 1, "c": {"d": "é"}}}) == 'name = "x"\n\n[a]\nb = 1\nc.d = "é"'


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 00 s"), (3725, "1 h 02 min"), (None, "–")]
)
def test_durations(seconds: float | None, words: str) -> None:
    assert _duration(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (5 * 2**50, "5,120.0 TiB")]
)
def test_sizes(size: int, words: str) -> None:
    assert _bytes(size) == words


def test_short_keeps_what_fits() -> None:
    assert _short("abc", 3) == "abc"
    assert _short("abcd efgh", 6) == "abcd…"


def test_tables_that_are_wider_than_the_screen_show_it_and_keep_their_lines() -> None:
    style = (Path(page.__file__).parent / "style.css").read_text(encoding="utf-8")
    style = style.partition("@media (max-width")[0]
    rules = dict(re.findall(r"([^{}]+?)\s*\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)))
    rules = {" ".join(names.split()): rule for names, rule in rules.items()}
    assert "border-collapse: separate" in rules["table"], "lines of collapsed borders stay behind sticky cells"
    assert "local" in rules[".wide"] and "scroll" in rules[".wide"], "a shadow while there is more to the right"
    assert "--best" in rules[".wide tbody tr.best > th"], "stronger than `.wide tbody th`, which is opaque"
    assert "--best" in rules["tr.best > td"]
