"""What one choice of a crossed experiment is worth, the others averaged: a row per comparison.

A value is the mean, over the levels of the other axes, of the difference of two arms of the same repetition; its
interval is Student's over the repetitions, a star stands after Holm's correction over the table. A level that not all
repetitions of a comparison have yet leaves that repetition out. The hybrid adapter, which reads user texts too, and the
raw one, which has no contrastive loss, stand in no average but where they are named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tables import LOSSES, Cells, Gap, header, holm, line, read, show, student

TEXTS, TRAINED = ("raw", "extracted", "given"), ("linear", "mlp", "moe")


@dataclass(frozen=True)
class Contrast:
    """`ours` less `theirs`, levels of one axis (0 knowledge, 1 adapter, 2 loss); none: less the arm without any."""

    what: str
    axis: int
    ours: str
    theirs: str | None = None
    knowledge: tuple[str, ...] = TEXTS
    adapters: tuple[str, ...] = TRAINED
    losses: tuple[str, ...] = LOSSES

    def pairs(self, reference: str) -> Iterator[tuple[str, str]]:
        """The arms that are compared."""
        axes = [self.knowledge, self.adapters, self.losses]
        axes[self.axis] = (self.ours,)
        for levels in product(*axes):
            other = [*levels]
            other[self.axis] = self.theirs or ""
            yield "+".join(levels), "+".join(other) if self.theirs else reference


CONTRASTS = (
    *(Contrast(f"{text} texts over no knowledge", 0, text) for text in (*TEXTS, "shuffled")),
    *(Contrast(f"{text} over shuffled texts", 0, text, "shuffled") for text in TEXTS),
    Contrast("given over raw texts", 0, "given", "raw"),
    Contrast("extracted over raw texts", 0, "extracted", "raw"),
    Contrast("linear adapter over raw vectors, no loss", 1, "linear", "raw", losses=("plain",)),
    Contrast("mlp over linear", 1, "mlp", "linear"),
    Contrast("mixture of experts over mlp", 1, "moe", "mlp"),
    Contrast("contrastive loss, literal", 2, "literal", "plain"),
    Contrast("contrastive loss, cosine", 2, "cosine", "plain"),
    Contrast("contrastive loss, cosine, on shuffled texts", 2, "cosine", "plain", knowledge=("shuffled",)),
    Contrast("cosine over literal", 2, "cosine", "literal"),
)


def gap(cells: Cells, contrast: Contrast, metric: str) -> tuple[Gap | None, int]:
    """The mean difference and the number of repetitions that have all of its arms."""
    backbone, reference = cells.rows[0]["backbone"], cells.rows[0]["reference"]
    both = [(cells.of(backbone, a), cells.of(backbone, b)) for a, b in contrast.pairs(reference)]
    shared = sorted(set.intersection(*(set(a) & set(b) for a, b in both)))
    return student([sum(a[r][metric] - b[r][metric] for a, b in both) / len(both) for r in shared]), len(shared)


def contrasts(name: str) -> str:
    """The table of a file of cells; `name:cold` for the rows of cold items."""
    cells = read(name)
    found = {(c.what, m): gap(cells, c, m) for c in CONTRASTS for m in ("auc", "gauc")}
    bound = holm(one for one, _ in found.values())
    lines = [header(["what, on average over the rest", "n", "dAUC", "dgAUC"])]
    for contrast in CONTRASTS:
        shown = [show(found[contrast.what, m][0], bound) for m in ("auc", "gauc")]
        lines.append(line([contrast.what, str(found[contrast.what, "auc"][1]), *shown]))
    return "\n".join(lines)
