"""The words of prompts in one language: what stands around the texts, as templates with named places.

Shipped languages are files under `languages/`; a domain's own file names one of them and may replace single texts. The
places are filled in one pass, so that outside text which looks like a place stays what it is.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trawl.errors import ConfigError

_PLACE = re.compile(r"\{(\w+)\}")
_FOLDER = Path(__file__).parent / "languages"
# Of each text the places it may have; those that it cannot do without stand in the second set.
_PLACES: dict[str, tuple[set[str], set[str]]] = {
    "trawl_item": ({"factors", "rules"}, {"factors", "rules"}),
    "trawl_user": ({"count", "factors", "rules"}, {"factors", "rules"}),
    "kellmrec_user": ({"count", "factors", "rules"}, {"factors", "rules"}),
    "kar_item": ({"factors", "kar_rules"}, {"factors", "kar_rules"}),
    "kar_user": ({"count", "factors", "kar_rules"}, {"factors", "kar_rules"}),
    "item": ({"item"}, {"item"}),
    "chosen": ({"history"}, {"history"}),
    "json_answer": ({"blank"}, {"blank"}),
    "part": ({"number", "of"}, set()),
    "reduce": ({"notes", "about", "factors"}, {"factors"}),
    "note": ({"number", "of"}, set()),
    "about": ({"profile"}, {"profile"}),
    "rated": ({"rating"}, {"rating"}),
    "suggest": ({"count"}, set()),
}
_NONE: tuple[set[str], set[str]] = (set(), set())


@dataclass(frozen=True, kw_only=True)
class Words:
    """One text per place of use; see languages/en.toml for what they say."""

    trawl_item: str
    trawl_user: str
    kellmrec_user: str
    kar_item: str
    kar_user: str
    item: str
    about: str
    chosen: str
    rules: str
    kar_rules: str
    answer: str
    json_answer: str
    kar_answer: str
    no_text: str
    rated: str
    liked: str
    disliked: str
    part: str
    reduce: str
    reduce_item: str
    reduce_user: str
    reduce_answer: str
    note: str
    suggest: str
    suggest_answer: str


def fill(template: str, **values: str) -> str:
    """The template with its places filled; what is filled in is not looked at again."""
    return _PLACE.sub(lambda place: values[place[1]], template)


def languages() -> list[str]:
    """The languages that are shipped."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def words_of(language: str, changes: Mapping[str, object], where: str) -> Words:
    """A shipped language with some texts replaced. Raises ConfigError naming `where`, the text and its fault."""
    if language not in languages():
        raise ConfigError(f"{where}: language = {language!r}; there are {', '.join(languages())}")
    for name, text in changes.items():
        _check(name, text, where)
    return Words(**{**_shipped(language), **{name: str(text) for name, text in changes.items()}})


def _check(name: str, text: object, where: str) -> None:
    spot = f"{where}, words.{name}"
    if name not in Words.__dataclass_fields__:
        raise ConfigError(f"{spot}: no such text; there are {', '.join(Words.__dataclass_fields__)}")
    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"{spot}: must be a text that is not empty")
    known, needed = _PLACES.get(name, _NONE)
    there = set(_PLACE.findall(text))
    if there - known or needed - there:
        told = ", ".join(f"{{{place}}}" for place in sorted(known)) or "none"
        faults = [f"missing {{{p}}}" for p in sorted(needed - there)]
        faults += [f"unknown {{{p}}}" for p in sorted(there - known)]
        raise ConfigError(f"{spot}: {', '.join(faults)}; its places: {told}")
    if re.search(r"[<>]{3}", text.replace("<<<...>>>", "")):
        raise ConfigError(
            f"{spot}: three angle brackets in a row are kept for delimiters; only <<<...>>> may name them"
        )


@cache
def _shipped(language: str) -> dict[str, str]:
    return tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


ENGLISH = words_of("en", {}, "English")
