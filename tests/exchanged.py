"""Films of which people, years and titles are exchanged with films of their decade: labels made by construction."""

import hashlib
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

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
