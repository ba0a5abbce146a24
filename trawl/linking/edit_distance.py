"""Title -> entity by normalised edit similarity, with the year as evidence and the right to abstain (T 4.3, K 4.4).

Similarity is 1 - L / max(len) of two forms (K eq. 5 prints the distance itself), times 0.97 where the title gave only
one side of a colon. Equal forms link when the years are within the tolerance or one side names none; less than equal
forms link when they reach the threshold in the same year. A far year speaks against even an equal title, as remakes
share titles; forms with other numbers in them are never compared, as sequels are near in letters. The best pair is the
one of highest similarity, then nearest year, then with text, then the smaller entity id; the others that were as good
in similarity and year are counted as ties.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz.distance import Levenshtein

from trawl.linking.candidates import TrigramIndex
from trawl.linking.titles import Title, parse

EXACT, EDIT, NONE = "exact", "edit", "none"
_ESCAPE = "%[0-9A-F]{2}"  # in an id: mostly the second copy of a page whose id is plain
_PIECE = 0.97  # a subtitle alone is weaker evidence than the title
LINKS = pa.schema(
    [
        ("id", pa.string()),
        ("rank", pa.int32()),
        ("entity_id", pa.string()),
        ("similarity", pa.float64()),
        ("method", pa.string()),
        ("ties", pa.int32()),
    ]
)


@dataclass
class Labels:
    """The forms of the knowledge base's labels, each distinct form once, and whose they are.

    Form f belongs to the entities owner[start[f] : start[f + 1]]; year 0 = none.
    """

    index: TrigramIndex
    start: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    year: npt.NDArray[np.int32]
    has_text: npt.NDArray[np.bool_]
    ids: pa.Array
    order: npt.NDArray[np.int64] = field(repr=False)  # place of each entity: by id, but ids with %27 and the like last

    @staticmethod
    def build(entities: pa.Table, *, decode: bool = False) -> "Labels":
        """From entity_id, label and, where there, year and text. The year column goes before a year in the label."""
        forms: dict[str, int] = {}
        numbers, owners, years = [], [], []
        for row, label in enumerate(_strings(entities, "label")):
            title = parse(label, decode=decode)
            years.append(title.year or 0)
            for form in title.forms:
                numbers.append(forms.setdefault(form, len(forms)))
                owners.append(row)
        number = np.array(numbers, dtype=np.int64)
        by_form = np.argsort(number, kind="stable")
        ids = entities.column("entity_id").cast(pa.string()).combine_chunks()
        keys = pa.table({"id": ids, "copy": pc.match_substring_regex(ids, _ESCAPE)})
        order = np.empty(len(ids), dtype=np.int64)
        order[pc.sort_indices(keys, [("copy", "ascending"), ("id", "ascending")]).to_numpy()] = np.arange(len(ids))
        return Labels(
            index=TrigramIndex(list(forms)),
            start=np.concatenate([[0], np.cumsum(np.bincount(number, minlength=len(forms)))]),
            owner=np.array(owners, dtype=np.int64)[by_form],
            year=_years(entities, years),
            has_text=_has_text(entities),
            ids=ids,
            order=order,
        )


@dataclass(frozen=True)
class _Pair:
    """One entity as a candidate; `apart` = years between, None where one side names no year."""

    entity: int
    similarity: float
    apart: int | None


def link(
    titles: pa.Table,
    entities: pa.Table,
    *,
    threshold: float,
    year_tolerance: int,
    candidates: int,
    decode: bool = False,
) -> pa.Table:
    """Titles (id, title[, year]) x entities (entity_id, label[, year][, text]) -> LINKS.

    One row per title in the order of titles; an unlinked one has method "none", a null entity_id and the similarity of
    the best candidate that was rejected, null when there was none.
    """
    labels = Labels.build(entities, decode=decode)
    return Linker(labels, threshold=threshold, year_tolerance=year_tolerance, candidates=candidates).link(titles)


class Linker:
    """Links titles to labels that were normalised once."""

    def __init__(self, labels: Labels, *, threshold: float, year_tolerance: int, candidates: int) -> None:
        self.labels, self.threshold, self.tolerance, self.candidates = labels, threshold, year_tolerance, candidates

    def link(self, titles: pa.Table) -> pa.Table:
        """As the function `link`."""
        parsed = [parse(title) for title in _strings(titles, "title")]
        years = _years(titles, [title.year or 0 for title in parsed])
        found: list[tuple[_Pair | None, int]] = [(None, 0)] * len(parsed)
        for row, pairs in self._equal(parsed, years):
            found[row] = self._choose(pairs)
        left = [row for row, (best, _) in enumerate(found) if best is None or not self._links(best)]
        for row, pairs in self._similar(parsed, years, left):
            found[row] = self._choose(pairs)
        return self._table(titles.column("id").cast(pa.string()), found)

    def _equal(self, parsed: list[Title], years: npt.NDArray[np.int32]) -> Iterator[tuple[int, list[_Pair]]]:
        """Entities of which a form is equal to a form of the title."""
        rows = [row for row, title in enumerate(parsed) for _ in title.forms]
        numbers = self.labels.index.equal([form for title in parsed for form in title.forms])
        groups: dict[int, list[_Pair]] = {}
        for row, number in zip(rows, numbers.tolist(), strict=True):
            if number >= 0:
                groups.setdefault(row, []).extend(self._pairs(number, 1.0, int(years[row])))
        yield from groups.items()

    def _similar(
        self, parsed: list[Title], years: npt.NDArray[np.int32], rows: Sequence[int]
    ) -> Iterator[tuple[int, list[_Pair]]]:
        """Entities of the forms that are most similar to a form or piece of the title."""
        asked = [(row, form, 1.0) for row in rows for form in parsed[row].forms]
        asked += [(row, form, _PIECE) for row in rows for form in parsed[row].pieces]
        hits = self.labels.index.similar([form for _, form, _ in asked], self.candidates)
        groups: dict[int, list[_Pair]] = {row: [] for row in rows}
        for (row, form, factor), numbers in zip(asked, hits, strict=True):
            digits = _digits(form)
            for number in numbers.tolist():
                there = self.labels.index.texts[number].as_py()
                if digits == _digits(there):
                    similarity = factor * Levenshtein.normalized_similarity(form, there)
                    groups[row].extend(self._pairs(number, similarity, int(years[row])))
        yield from groups.items()

    def _pairs(self, number: int, similarity: float, year: int) -> Iterator[_Pair]:
        for entity in self.labels.owner[self.labels.start[number] : self.labels.start[number + 1]].tolist():
            there = int(self.labels.year[entity])
            yield _Pair(entity, similarity, abs(year - there) if year and there else None)

    def _links(self, pair: _Pair) -> bool:
        if pair.similarity == 1.0:
            return pair.apart is None or pair.apart <= self.tolerance
        return pair.similarity >= self.threshold and pair.apart == 0

    def _choose(self, pairs: Iterable[_Pair]) -> tuple[_Pair | None, int]:
        """The best pair, and how many other entities were as good; those that link go before those that do not."""
        best: dict[int, _Pair] = {}
        for pair in pairs:
            if pair.entity not in best or self._rank(pair) < self._rank(best[pair.entity]):
                best[pair.entity] = pair
        if not best:
            return None, 0
        ranked = sorted(best.values(), key=self._rank)
        return ranked[0], sum(self._rank(pair)[:3] == self._rank(ranked[0])[:3] for pair in ranked[1:])

    def _rank(self, pair: _Pair) -> tuple[bool, float, int, bool, int]:
        apart = self.tolerance if pair.apart is None else pair.apart
        text = bool(self.labels.has_text[pair.entity])
        return not self._links(pair), -round(pair.similarity, 9), apart, not text, int(self.labels.order[pair.entity])

    def _table(self, ids: pa.ChunkedArray, found: list[tuple[_Pair | None, int]]) -> pa.Table:
        chosen = [(pair, ties) if pair and self._links(pair) else (None, 0) for pair, ties in found]
        similarity = [pair.similarity if pair else None for pair, _ in found]
        columns = {
            "id": ids,
            "rank": [0] * len(found),
            "entity_id": self.labels.ids.take(pa.array([p.entity if p else None for p, _ in chosen], pa.int64())),
            "similarity": similarity,
            "method": [(EXACT if p.similarity == 1.0 else EDIT) if p else NONE for p, _ in chosen],
            "ties": [ties for _, ties in chosen],
        }
        return pa.table({name: columns[name] for name in LINKS.names}).cast(LINKS)


def _digits(form: str) -> list[str]:
    """The words that hold digits: another number is another film, however near the letters."""
    return sorted(word for word in form.split() if any(map(str.isdigit, word)))


def _strings(table: pa.Table, column: str) -> Iterator[str]:
    for chunk in table.column(column).chunks:
        for start in range(0, len(chunk), 65536):
            yield from (text or "" for text in chunk.slice(start, 65536).to_pylist())


def _years(table: pa.Table, parsed: list[int]) -> npt.NDArray[np.int32]:
    """The column `year` where it is there and not null, else the year of the title itself; 0 = unknown."""
    own = np.array(parsed, dtype=np.int32)
    if "year" not in table.column_names:
        return own
    given = np.asarray(table.column("year").cast(pa.int32()).fill_null(0).to_numpy(), dtype=np.int32)
    return np.where(given > 0, given, own)


def _has_text(table: pa.Table) -> npt.NDArray[np.bool_]:
    if "text" not in table.column_names:
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray(pc.utf8_length(table.column("text")).fill_null(0).to_numpy() > 0)
