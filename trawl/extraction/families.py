"""The families of prompts: whose texts stand in a prompt, what else does, and in which words.

    trawl     item: its text.  user: profile and the texts of the last k items before the cut-off (T 3.2)
    kellmrec  item: as trawl.  user: profile, rated history, and what was extracted of these items (K 3.2.2)
    kar       item: title and fields.  user: profile and rated history; no text from outside (R 4.2)

A family is a record: all that a stage asks of it stands here, and nowhere else is its name compared with anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trawl.config import Config
from trawl.extraction import prompts
from trawl.extraction.key_factors import Domain
from trawl.extraction.prompts import Frame

ITEM_TEXTS, ITEM_ANSWERS = "item_texts", "item_answers"  # the tables that texts in prompts come from


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is known of whom a prompt is about. Users: their items oldest first, the marks in words; items: one item."""

    titles: Sequence[str]
    years: Sequence[int | None] = ()
    fields: Sequence[Mapping[str, Sequence[str]]] = ()
    marks: Sequence[str] = ()
    profile: Mapping[str, Sequence[str]]

    def descriptions(self) -> list[str]:
        """Each item by title, year and fields, in one line."""
        return [prompts.described(*item) for item in zip(self.titles, self.years, self.fields, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Side:
    """The prompts of one side. `frame`: all but the texts."""

    frame: Callable[[Domain, Subject], Frame]
    texts: str = ""  # the table whose texts stand in the prompt; empty: none do
    described: bool = False  # the frame needs years and fields of items
    rated: bool = False  # the history stands there with what the user thought of each item


@dataclass(frozen=True)
class Family:
    """Both sides of a family."""

    item: Side
    user: Side

    def side(self, name: str) -> Side:
        return self.item if name == "item" else self.user


def _trawl_item(domain: Domain, who: Subject) -> Frame:
    return prompts.item_frame(who.titles[0], domain.factors, domain.words)


def _trawl_user(domain: Domain, who: Subject) -> Frame:
    return prompts.user_frame(who.titles, who.profile, domain.factors, domain.words)


def _kellmrec_user(domain: Domain, who: Subject) -> Frame:
    return prompts.kellmrec_user_frame(who.titles, who.marks, who.profile, domain.factors, domain.words)


def _kar_item(domain: Domain, who: Subject) -> Frame:
    return prompts.kar_item_frame(who.descriptions()[0], domain.factors, domain.words)


def _kar_user(domain: Domain, who: Subject) -> Frame:
    return prompts.kar_user_frame(who.descriptions(), who.marks, who.profile, domain.factors, domain.words)


_TRAWL = Family(Side(frame=_trawl_item, texts=ITEM_TEXTS), Side(frame=_trawl_user, texts=ITEM_TEXTS))
FAMILIES = {
    "trawl": _TRAWL,
    "kellmrec": Family(_TRAWL.item, Side(frame=_kellmrec_user, texts=ITEM_ANSWERS, rated=True)),
    "kar": Family(
        Side(frame=_kar_item, described=True),
        Side(frame=_kar_user, described=True, rated=True),
    ),
}


def side_of(side: str, cfg: Config) -> Side:
    """The prompts of a side. Raw texts are the answers themselves: nobody is asked, so the family has no say."""
    return FAMILIES["trawl" if cfg.extraction.base == "raw" else cfg.extraction.family].side(side)


def reads(side: str, cfg: Config) -> tuple[str, ...]:
    """The tables that the prompts of a side are made of and rendered from, beside behaviour."""
    texts = side_of(side, cfg).texts
    # Shuffled answers stand with other items: the prompts say whose each one was.
    prompted = ("item_prompts",) if texts == ITEM_ANSWERS and cfg.extraction.source == "shuffled" else ()
    return (*(("users",) if side == "user" else ()), "items", *prompted, *((texts,) if texts else ()))


def keys(side: str, cfg: Config) -> tuple[str, ...]:
    """The recipe keys of the family that change this side's prompts: none where they are trawl's."""
    mine = side_of(side, cfg)
    own = ("extraction.family",) if mine is not _TRAWL.side(side) else ()
    return (*own, *(("extraction.history",) if mine.rated else ()))
