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
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from exchanged import KINDS, Film, Pool, Span, pages, people_of, version, written

from trawl.extraction.engines import Request
from trawl.extraction.engines.extractive import ExtractiveEngine
from trawl.extraction.grounded import wording_of
from trawl.extraction.grounding import CLOSE, Grounder
from trawl.extraction.key_factors import load_factors
from trawl.extraction.mentions import mentions


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


def speed(films: Sequence[Film], engine: ExtractiveEngine, users: int, items: int, turn: int = 0) -> float:
    """Rows per CPU second of a process that begins with nothing prepared; with `turn` beside others' texts."""
    asked = list(requests(films, users, items))
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
    parser.add_argument("--users", type=int, default=2000, help="rows whose seconds are taken")
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
    found: dict[str, Any] = {"close": CLOSE, "half": "tuning" if args.tune else "held-out"}
    half = {
        name: sorted((f for f in films if f.held_out != args.tune), key=lambda f: f.drawn)[: args.films]
        for name, films in corpora.items()
    }
    for name, films in half.items():
        print(f"{name}: {len(films)} films of the {found['half']} half")
    closes = (70, 75, 80, 85, 90, 100) if args.tune and not args.show else (CLOSE,)
    means = {close: judge(half, Grounder(wording_of(factors), close), args.show, found) for close in closes}
    if len(means) > 1:
        best = max(means, key=lambda close: means[close])
        print(f"threshold to take: {best} (mean f1 {means[best]:.4f}); the code has {CLOSE:g}")
    if not args.tune:
        measure(corpora, Grounder(wording_of(factors)), ExtractiveEngine(factors), args.users, found)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def judge(half: Mapping[str, Sequence[Film]], grounder: Grounder, show: int, found: dict[str, Any]) -> float:
    """Print and keep the counts of each corpus and kind; returns the mean of their f1."""
    scores = []
    for name, films in half.items():
        shown: list[str] = []
        for kind, one in count(films, Pool(films), grounder, shown).items():
            print(
                f"  {grounder.close:3g} {name:7} {kind:6} precision {one.precision:.4f} recall {one.recall:.4f} "
                f"({one.exchanged} exchanged, {one.reported} reported; "
                f"{one.false_texts} of {one.texts} right texts reported)",
                flush=True,
            )
            found[f"{name} {kind} {grounder.close:g}"] = vars(one) | {"precision": one.precision, "recall": one.recall}
            scores += [one.f1] if one.exchanged else []
        random.Random(0).shuffle(shown)
        print("\n".join(shown[:show]), end="\n" if show else "")
    return float(np.mean(scores))


def measure(
    corpora: dict[str, list[Film]], grounder: Grounder, engine: ExtractiveEngine, users: int, found: dict[str, Any]
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
    for items, turn in ((1, 0), (15, 0), (15, users // 2)):
        what = f"{items} texts per row{', of somebody else' if turn else ''}"
        found[what] = speed(films, engine, users, items, turn)
        print(f"{what}: {found[what]:,.0f} rows per CPU second")


if __name__ == "__main__":
    sys.exit(main())
