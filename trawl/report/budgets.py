"""What the token budget did to the texts: prompts cut, divided into chunks or skipped, and the tokens left out."""

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc

from trawl.report.record import Record, Variant, share, whose

_SUMMED = ("there", "cut", "texts_cut")


@dataclass(frozen=True)
class Budget:
    """One version of item_prompts or user_prompts. Tokens are those of the texts."""

    kind: str  # item or user
    policy: str
    arms: str
    prompts: int
    whole: int  # prompts that hold all of their texts
    cut: int  # prompts that leave something out and are asked
    texts_cut: int
    chunked: int  # entities whose texts are divided
    chunks: int  # prompts that they are divided over
    skipped: int  # entities that are not asked
    there: int
    kept: int
    lost_cut: int  # tokens that cuts left out
    lost_skipped: int

    @property
    def cut_share(self) -> float | None:
        return share(self.cut, self.prompts - self.skipped)

    @property
    def lost_share(self) -> float | None:
        return share(self.lost_cut + self.lost_skipped, self.there)


def budgets(record: Record) -> list[Budget]:
    """Every version of the prompts in the first repetition, items before users."""
    return [_budget(record, kind, v) for kind in ("item", "user") for v in record.variants(f"{kind}_prompts")]


def _budget(record: Record, kind: str, variant: Variant) -> Budget:
    sums: Counter[str] = Counter()
    for table in record.batches(variant, ["plan", "chunk", "chunks", *_SUMMED]):
        skips, cut = pc.equal(table.column("plan"), "skip"), pc.greater(table.column("cut"), 0)
        divided = pc.greater(table.column("chunks"), 1)
        for name, rows in (
            ("whole", pc.invert(cut)),
            ("cut_rows", pc.and_(cut, pc.invert(skips))),
            ("skipped", skips),
            ("chunks", divided),
            ("chunked", pc.and_(divided, pc.equal(table.column("chunk"), 0))),
        ):
            sums[name] += pc.sum(rows).as_py() or 0
        for name in _SUMMED:
            sums[name] += pc.sum(table.column(name)).as_py() or 0
        sums["lost_skipped"] += pc.sum(table.filter(skips).column("cut")).as_py() or 0
        sums["skipped_texts"] += pc.sum(table.filter(skips).column("texts_cut")).as_py() or 0
    return Budget(
        kind=kind,
        policy=str(variant.manifest.config.get("extraction.over_budget", "middle")),
        arms=whose(variant, record),
        prompts=variant.manifest.rows,
        whole=sums["whole"],
        cut=sums["cut_rows"],
        texts_cut=sums["texts_cut"] - sums["skipped_texts"],
        chunked=sums["chunked"],
        chunks=sums["chunks"],
        skipped=sums["skipped"],
        there=sums["there"],
        kept=sums["there"] - sums["cut"],
        lost_cut=sums["cut"] - sums["lost_skipped"],
        lost_skipped=sums["lost_skipped"],
    )
