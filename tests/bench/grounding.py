"""Grounding on labels by construction: people, years and titles exchanged between films of one decade must be found.

    TRAWL_DATA=FOLDER python tests/bench/grounding.py [--tune] [--films N] [--out FILE]

FOLDER holds wikipedia-films.parquet (entity_id, label, year, text), film-facts.parquet (entity_id, relation, value)
and, for the second corpus, ml-1m-llm-item-texts.parquet (item_id, text) with ml-1m-entity-links.tsv.

A source is a film's text. Its right version says the same: people with initials, without accents, with a letter
wrong, by surname, titles in quotes or with the article moved. In the wrong version of a kind half of the mentions of
that kind are another film's of the same decade. Recall: exchanged mentions that are reported. Precision: reported
mentions that were exchanged, over the wrong and the right version together. Films are halved by a hash of their id:
`--tune` looks at one half and prints the threshold to take; everything else is the other half. Also: answers beside
another film's source, and rows per second.
"""

import argparse
import hashlib
import json
import os
import random
import re
import sys
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from trawl.extraction.engines import Request
from trawl.extraction.engines.extractive import ExtractiveEngine
from trawl.extraction.grounded import wording_of
from trawl.extraction.grounding import CLOSE, Grounder
from trawl.extraction.key_factors import load_factors
from trawl.extraction.mentions import mentions

KINDS = ("people", "years", "titles")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_NO_PEOPLE = {"distributor"}
Span = tuple[int, int]


@dataclass
class Film:
    """A film with its source text and what stands in it where: people by full name, years, the film's title."""

    name: str
    title: str
    year: int
    text: str
    spans: dict[str, list[Span]] = field(default_factory=dict)

    @property
    def decade(self) -> int:
        return self.year // 10

    @property
    def drawn(self) -> bytes:
        return hashlib.blake2b(self.name.encode(), digest_size=8).digest()

    @property
    def held_out(self) -> bool:
        return self.drawn[0] % 2 == 0


def places(text: str, words: str) -> list[Span]:
    return [m.span() for m in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", text)]


def mark(film: Film, people: Sequence[str]) -> Film:
    """Where people, years and the title stand; a span inside another is left out."""
    found = {
        "people": [span for name in people for span in places(film.text, name)],
        "titles": places(film.text, film.title),
        "years": [m.span() for m in _YEAR.finditer(film.text)],
    }
    taken: list[Span] = []
    for kind in ("titles", "people", "years"):
        film.spans[kind] = []
        for begin, end in sorted(found[kind], key=lambda s: s[0] - s[1]):
            if all(end <= b or begin >= e for b, e in taken):
                taken.append((begin, end))
                film.spans[kind].append((begin, end))
    return film


def plain(label: str) -> str:
    return re.sub(r"\s*\([^)]*\)$", "", label.replace("_", " ")).strip()


def people_of(folder: Path) -> dict[str, list[str]]:
    facts: dict[str, list[str]] = defaultdict(list)
    for row in pq.read_table(folder / "film-facts.parquet").to_pylist():
        name = plain(row["value"])
        if row["relation"] not in _NO_PEOPLE and " " in name and name not in facts[row["entity_id"]]:
            facts[row["entity_id"]].append(name)
    return facts


def pages(folder: Path, facts: dict[str, list[str]]) -> list[Film]:
    """Films with an encyclopaedia's introduction and known people."""
    rows = pq.read_table(folder / "wikipedia-films.parquet").to_pylist()
    films = [Film(r["entity_id"], plain(r["label"]), r["year"], r["text"]) for r in rows if r["text"] and r["year"]]
    return [mark(f, facts[f.name]) for f in films if f.name in facts]


def written(folder: Path, facts: dict[str, list[str]]) -> list[Film]:
    """Films with a text that a language model wrote and known people."""
    path = folder / "ml-1m-llm-item-texts.parquet"
    if not path.exists():
        return []
    texts = {str(r["item_id"]): r["text"] for r in pq.read_table(path).to_pylist()}
    out = []
    for line in (folder / "ml-1m-entity-links.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        item, title, entities = line.split("\t")
        known = [e for e in entities.split("|") if e in facts]
        year = re.search(r"\((\d{4})\)$", title)
        if known and year and texts.get(item):
            out.append(mark(Film(known[0], plain(known[0]), int(year[1]), texts[item]), facts[known[0]]))
    return out


def restyled(kind: str, words: str, rng: random.Random) -> str:
    """The same in another form, or as it is in about a third of the cases."""
    forms = {"people": _people_forms, "titles": _title_forms, "years": _year_forms}[kind](words, rng)
    return rng.choice([*forms, *[words] * (len(forms) // 2)])


def _people_forms(words: str, rng: random.Random) -> list[str]:
    first, _, last = words.rpartition(" ")
    bare = unicodedata.normalize("NFKD", words.replace("-", " "))
    out = [
        f"{first[0]}. {last}",
        f"{words}’s",
        words.upper(),
        f"{rng.choice(('Director', 'Actor', 'Producer'))} {words}",
        "".join(sign for sign in bare if not unicodedata.combining(sign)),
    ]
    if last[0].isupper() and len(last) > 3:
        out.append(last)
    if len(last) > 5:
        at = rng.randrange(2, len(last) - 1)
        out.append(f"{first} {last[:at]}{rng.choice(('', *'aeinorst'))}{last[at + 1 :]}")
    return out


def _title_forms(words: str, rng: random.Random) -> list[str]:
    moved = [f'"{words[4:]}, The"'] if words.startswith("The ") else []
    return [f"“{words}”", f"'{words}'", f'"{words.lower().capitalize()}"', f"《{words}》", *moved]


def _year_forms(words: str, rng: random.Random) -> list[str]:
    return [f"{words[:3]}0s"]


class Pool:
    """What films of a decade have, to exchange."""

    def __init__(self, films: Sequence[Film]) -> None:
        self.of: dict[tuple[str, int], list[str]] = defaultdict(list)
        for film in films:
            self.of["titles", film.decade].append(film.title)
            for begin, end in film.spans["people"]:
                self.of["people", film.decade].append(film.text[begin:end])

    def other(self, kind: str, film: Film, words: str, rng: random.Random) -> str | None:
        """Of another film of the decade, and nowhere in this film's text."""
        low = film.text.lower()
        for _ in range(20):
            if kind == "years":
                found = str(int(words[:3]) * 10 + rng.randrange(10))
            else:
                found = rng.choice(self.of[kind, film.decade])
            if found.lower() not in low:
                return found
        return None


def version(film: Film, wrong: str, pool: Pool, rng: random.Random) -> tuple[str, list[Span]]:
    """The text with everything restyled and half of one kind (none for "") exchanged, and where the exchanged stand."""
    spans = sorted((b, e, kind) for kind in KINDS for b, e in film.spans[kind])
    chosen = film.spans[wrong] if wrong else []
    bad = set(rng.sample(chosen, (len(chosen) + 1) // 2))
    out, exchanged, done, length = [], [], 0, 0
    for begin, end, kind in spans:
        words = film.text[begin:end]
        other = pool.other(kind, film, words, rng) if (begin, end) in bad else None
        # A decade would be right for another year of it, and a title in quotation marks needs no others.
        before = film.text[:begin][-3:]
        if kind == "years":
            keep = bool(other) or not before.endswith(("(", "in ", " a "))
        else:
            keep = kind == "titles" and before.endswith(('"', "'", "“"))
        new = other or words if keep else restyled(kind, other or words, rng)
        length += begin - done
        out += [film.text[done:begin], new]
        if other:
            exchanged.append((length, length + len(new)))
        length, done = length + len(new), end
    return "".join((*out, film.text[done:])), exchanged


@dataclass
class Count:
    """exchanged: mentions made wrong; found: of them reported; reported: all mentions reported; true: of them wrong."""

    exchanged: int = 0
    found: int = 0
    reported: int = 0
    true: int = 0
    false_texts: int = 0  # right versions with anything reported
    texts: int = 0

    @property
    def precision(self) -> float:
        return self.true / self.reported if self.reported else float("nan")

    @property
    def recall(self) -> float:
        return self.found / self.exchanged if self.exchanged else float("nan")

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def count(films: Sequence[Film], pool: Pool, grounder: Grounder, shown: list[str] | None = None) -> dict[str, Count]:
    """Over all films. `shown`: gets what is missed and what is reported wrongly."""
    out = {kind: Count() for kind in KINDS}
    for film in films:
        for kind in KINDS:
            if not film.spans[kind]:
                continue
            one = out[kind]
            for wrong in (kind, ""):
                rng = random.Random(f"{film.name} {kind}")
                text, exchanged = version(film, wrong, pool, rng)
                reported = grounder.unsupported(mentions(text, grounder.wording), [film.text, film.title])
                spans = [(m.begin, m.end) for m in reported]
                one.exchanged += len(exchanged)
                hits = [any(overlap(e, s) for s in spans) for e in exchanged]
                true = [any(overlap(e, s) for e in exchanged) for s in spans]
                one.found, one.reported, one.true = (
                    one.found + sum(hits),
                    one.reported + len(spans),
                    one.true + sum(true),
                )
                one.texts += not wrong
                one.false_texts += not wrong and bool(spans)
                if shown is not None:
                    shown += [
                        f"missed {kind}: {text[b:e]!r} in {text[max(0, b - 60) : e + 40]!r}"
                        for (b, e), h in zip(exchanged, hits, strict=True)
                        if not h
                    ]
                    shown += [
                        f"wrongly {m.kind} ({kind}): {m.text!r} in {film.text[:300]!r}"
                        for m, t in zip(reported, true, strict=True)
                        if not t
                    ]
    return out


def null(films: Sequence[Film], other: Sequence[Film], grounder: Grounder) -> dict[str, tuple[float, int]]:
    """Mean share of answers beside their film's source and beside another film's."""
    source = {film.name: film for film in other}
    pairs = [(film, source[film.name]) for film in films if film.name in source]
    order = np.random.default_rng(0).permutation(len(pairs))
    out = {}
    for name, picked in (("matched", range(len(pairs))), ("shuffled", np.roll(order, 1)[np.argsort(order)])):
        shares = []
        for (film, _), at in zip(pairs, picked, strict=True):
            found = grounder.ground(film.text, [pairs[at][1].text, pairs[at][1].title])
            shares += [found.share] if found.share is not None else []
        out[name] = (float(np.mean(shares)), len(shares))
    return out


def requests(films: Sequence[Film], users: int, items: int) -> Iterator[Request]:
    """Prompts of users who chose popular films more often."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(1, len(films) + 1) ** 0.6
    for user in range(users):
        mine = rng.choice(len(films), size=items, replace=False, p=odds / odds.sum())
        texts = tuple(films[n].text for n in mine)
        yield Request(str(user), "", texts, tuple(films[n].name for n in mine), 256)


def speed(films: Sequence[Film], engine: ExtractiveEngine, items: int, turn: int = 0) -> float:
    """Rows per CPU second of a process that begins with nothing prepared; with `turn` beside others' texts."""
    asked = list(requests(films, 2000, items))
    answers = [reply.text for reply in engine.answer(asked)]
    answers = [*answers[turn:], *answers[:turn]]
    grounder = Grounder(wording_of(engine.factors))
    started = time.process_time()
    for request, answer in zip(asked, answers, strict=True):
        grounder.ground(answer, request.texts)
    return len(asked) / (time.process_time() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true", help="look at the tuning half instead of the held-out one")
    parser.add_argument("--films", type=int, default=1500, help="most films of a corpus and half")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N mistakes of each corpus")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder = Path(os.environ.get("TRAWL_DATA", ""))
    if not os.environ.get("TRAWL_DATA") or not (folder / "film-facts.parquet").exists():
        print("skipped: TRAWL_DATA names no folder with wikipedia-films.parquet and film-facts.parquet")
        return 0
    factors = load_factors("movies")
    facts = people_of(folder)
    corpora = {"pages": pages(folder, facts), "written": written(folder, facts)}
    closes = (70, 75, 80, 85, 90, 100) if args.tune and not args.show else (CLOSE,)
    found: dict[str, Any] = {"close": CLOSE, "half": "tuning" if args.tune else "held-out"}
    for name, films in corpora.items():
        half = sorted((f for f in films if f.held_out != args.tune), key=lambda f: f.drawn)[: args.films]
        if not half:
            continue
        pool = Pool(half)
        print(f"{name}: {len(half)} films of the {found['half']} half")
        for close in closes:
            shown: list[str] = []
            counts = count(half, pool, Grounder(wording_of(factors), close), shown)
            for kind, one in counts.items():
                print(
                    f"  {close:3g} {kind:7} precision {one.precision:.4f} recall {one.recall:.4f} f1 {one.f1:.4f} "
                    f"({one.exchanged} exchanged, {one.reported} reported; "
                    f"{one.false_texts} of {one.texts} right texts reported)"
                )
                found[f"{name} {kind} {close:g}"] = vars(one) | {"precision": one.precision, "recall": one.recall}
            random.Random(0).shuffle(shown)
            print("\n".join(shown[: args.show]))
    if not args.tune:
        measure(corpora, Grounder(wording_of(factors)), ExtractiveEngine(factors), found)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def measure(
    corpora: dict[str, list[Film]], grounder: Grounder, engine: ExtractiveEngine, found: dict[str, Any]
) -> None:
    """The null control and the speed."""
    films = [film for film in corpora["pages"] if film.held_out][:1500]
    answered = [
        Film(f.name, f.title, f.year, engine.answer([Request("", "", (f.text,), (f.name,), 256)])[0].text)
        for f in films
    ]
    for name, mine in (
        ("extractive answers", answered),
        ("written texts", [f for f in corpora["written"] if f.held_out]),
    ):
        if mine:
            found[name] = null(mine, films, grounder)
            print(
                f"{name} beside the page of",
                ", ".join(f"{what} film: {m:.3f} of mentions ({n})" for what, (m, n) in found[name].items()),
            )
    for items, turn in ((1, 0), (15, 0), (15, 1000)):
        what = f"{items} texts per row{', of somebody else' if turn else ''}"
        found[what] = speed(films, engine, items, turn)
        print(f"{what}: {found[what]:,.0f} rows per CPU second")


if __name__ == "__main__":
    sys.exit(main())
