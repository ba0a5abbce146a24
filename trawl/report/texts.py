"""Numbers of extraction and encoding: statuses, tokens, cuts, what the encoder saw."""

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc

from trawl.report.record import Record, Variant, share, whose
from trawl.schemas import STATUSES


@dataclass(frozen=True)
class Answers:
    """One version of item_answers or user_answers."""

    kind: str  # item or user
    source: str
    arms: str
    rows: int
    statuses: tuple[tuple[str, int, float | None], ...]  # status, rows, share
    reasons: tuple[tuple[str, int], ...]  # the commonest reasons of rows without text
    tokens_in: int
    tokens_out: int
    seconds: float
    again: int  # rows that took more than one attempt
    prompts: int
    cut_prompts: float | None  # share of the prompts that had to leave something out
    cut_tokens: float | None  # share of the texts' tokens left out
    asked: int  # prompts that were sent for this table
    from_cache: int  # answers that were there already


@dataclass(frozen=True)
class Vectors:
    """One version of item_embeddings or user_embeddings."""

    kind: str
    source: str
    arms: str
    rows: int
    with_text: float | None
    dimension: int
    tokens_read: int
    tokens_there: int

    @property
    def unread(self) -> float | None:
        return share(self.tokens_there - self.tokens_read, self.tokens_there)


def source_of(record: Record, variant: Variant) -> str:
    """The knowledge source in words: `extracted`, or `shuffled extracted`."""
    source = str(record.setting(variant, "extraction.source"))
    return f"shuffled {record.setting(variant, 'extraction.shuffle_of')}" if source == "shuffled" else source


def answers(record: Record) -> list[Answers]:
    """Every version of the answers in the first repetition, items before users."""
    return [_answers(record, kind, v) for kind in ("item", "user") for v in record.variants(f"{kind}_answers")]


def _answers(record: Record, kind: str, variant: Variant) -> Answers:
    sums: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for table in record.batches(variant, ["reason", "tokens_in", "tokens_out", "seconds", "attempts"]):
        for name in ("tokens_in", "tokens_out", "seconds"):
            sums[name] += pc.sum(table.column(name)).as_py() or 0
        sums["again"] += int(pc.sum(pc.greater(table.column("attempts"), 1)).as_py() or 0)
        for row in table.column("reason").drop_null().value_counts().to_pylist():
            if row["values"]:
                reasons[row["values"][:200]] += row["counts"]
        reasons = Counter(dict(reasons.most_common(1000)))
    rows, found = variant.manifest.rows, variant.manifest.statuses
    prompts = _prompts(record, kind, variant)
    return Answers(
        kind=kind,
        source=source_of(record, variant),
        arms=whose(variant, record),
        rows=rows,
        statuses=tuple((s, found[s], share(found[s], rows)) for s in STATUSES if found.get(s)),
        reasons=tuple(reasons.most_common(5)),
        tokens_in=int(sums["tokens_in"]),
        tokens_out=int(sums["tokens_out"]),
        seconds=float(sums["seconds"]),
        again=int(sums["again"]),
        prompts=int(prompts["rows"]),
        cut_prompts=share(prompts["cut_rows"], prompts["rows"]),
        cut_tokens=share(prompts["cut"], prompts["cut"] + prompts["kept"]),
        asked=int(variant.manifest.notes.get("asked", 0)),
        from_cache=int(variant.manifest.notes.get("from_cache", 0)),
    )


def _prompts(record: Record, kind: str, variant: Variant) -> Counter[str]:
    sums: Counter[str] = Counter()
    prompts = record.beside(variant, f"{kind}_prompts")
    if prompts is None or source_of(record, variant) == "none":
        return sums
    for rows in record.batches(prompts, ["plan", "cut", "kept"]):
        table = rows.filter(pc.not_equal(rows.column("plan"), "skip"))  # these are counted among the statuses
        sums["rows"] += table.num_rows
        sums["cut"] += pc.sum(table.column("cut")).as_py() or 0
        sums["cut_rows"] += int(pc.sum(pc.greater(table.column("cut"), 0)).as_py() or 0)
        sums["kept"] += pc.sum(pc.list_flatten(table.column("kept"))).as_py() or 0
    return sums


def vectors(record: Record) -> list[Vectors]:
    """Every version of the embeddings in the first repetition, items before users."""
    return [_vectors(record, kind, v) for kind in ("item", "user") for v in record.variants(f"{kind}_embeddings")]


def _vectors(record: Record, kind: str, variant: Variant) -> Vectors:
    sums: Counter[str] = Counter()
    for table in record.batches(variant, ["has_text", "tokens_read", "tokens_there"]):
        for name in ("has_text", "tokens_read", "tokens_there"):
            sums[name] += pc.sum(table.column(name)).as_py() or 0
    one = next((t for t in record.batches(variant, ["vector"], 1) if t.num_rows), None)
    return Vectors(
        kind=kind,
        source=source_of(record, variant),
        arms=whose(variant, record),
        rows=variant.manifest.rows,
        with_text=share(sums["has_text"], variant.manifest.rows),
        dimension=len(one.column(0)[0]) if one is not None else 0,
        tokens_read=int(sums["tokens_read"]),
        tokens_there=int(sums["tokens_there"]),
    )
