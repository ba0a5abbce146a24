"""What caps cost: some targets are computed again on the whole graph, and both answers are compared.

The targets are those of the smallest hash of their number, so they are the same wherever and in whatever pieces the
side is mined. They are so few that computing them takes at most `SHARE` of the mining by count of steps, or `_FREE`
steps where that is less; targets that would take a tenth of that alone are left out and counted.

Exact means: candidates, shared features, pair counts and scores from whole lists and rows. For cosine the self scores
of the `_LEADERS` candidates that stand highest by the run's own self scores are exact as well; behind them none is
looked for. A partner that was found and is not among the exact `_LOOKED` best counts as one of score 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trawl.swing.cap_plan import CapPlan
from trawl.swing.caps import hash_pairs
from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Floats, Ints
from trawl.swing.kernel import Partners, Swing
from trawl.swing.ranking import rounded

SHARE = 0.1  # of the steps of the mining
_FREE = 1e8  # steps that the sample may always take: about half a second
_MOST = 400  # targets
_LEADERS = 30
_LOOKED = 200
_ALONE = 0.1  # of what the sample may cost: a target above it is left out
_FEW = 20  # targets that say nothing yet
_POOR_FIRST, _POOR_SCORE = 0.7, 0.95


class Source(Protocol):
    """The whole graph, or as much of it as some targets touch; the formula divides by what `topk` is given."""

    def cost(self, target: int) -> float:
        """Steps that mining this target takes: entries of its features' lists and cells of its table."""
        ...

    def blocks(self, targets: Ints) -> Iterator[tuple[Swing, Ints, Ints]]:
        """(swing, anchors, places) of ascending targets, some at a time, over their whole rows and lists.

        anchors: the number of each anchor of that graph, ascending; places: of the targets among them.
        """
        ...

    def degrees(self, anchors: Ints) -> Ints:
        """Features of some anchors, in full."""
        ...


class InMemory:
    """A whole graph in this process."""

    def __init__(self, graph: Bipartite, formula: Formula) -> None:
        self.graph, self.swing = graph, Swing(graph, divided(formula))

    def cost(self, target: int) -> float:
        graph = self.graph
        features = graph.rows[graph.rows_ptr[target] : graph.rows_ptr[target + 1]]
        return float(graph.lengths[features].sum()) + float(len(features)) ** 2

    def blocks(self, targets: Ints) -> Iterator[tuple[Swing, Ints, Ints]]:
        yield self.swing, np.arange(self.graph.n), targets

    def degrees(self, anchors: Ints) -> Ints:
        return np.asarray(self.graph.degrees[anchors], dtype=np.int64)


def divided(formula: Formula) -> Formula:
    """The same, dividing by what it is given of all anchors where it normalises at all."""
    return formula if formula.normalize == "none" else replace(formula, normalize="cosine")


@dataclass(frozen=True, kw_only=True)
class CapError:
    """Sums over targets that have an exact partner; those of parts add up."""

    targets: int = 0
    left_out: int = 0  # too costly to compute exactly
    same: int = 0  # whose best partner is the exact one
    listed: int = 0  # whose exact best partner stands among the k
    recall: float = 0.0  # share of the exact k partners that were found
    score: float = 0.0  # exact scores of the k found, by those of the exact k

    @classmethod
    def merged(cls, parts: Sequence["CapError"]) -> "CapError":
        return cls(**{name: sum(getattr(part, name) for part in parts) for name in asdict(cls())})

    def as_dict(self) -> dict[str, Any]:
        """Means over the targets, None where there is none."""
        means = {name: getattr(self, name) / self.targets if self.targets else None for name in _MEANS}
        return {"targets": self.targets, "left_out": self.left_out, **means}


_MEANS = ("same", "listed", "recall", "score")


def words(error: dict[str, Any], top_k: int) -> str:
    """One line for people, of `CapError.as_dict`."""
    if not error["targets"]:
        return "cap error: no target was cheap enough to be computed exactly"
    return (
        f"cap error: of {error['targets']} targets computed exactly the best partner is the same for "
        f"{error['same']:.1%}, and in the top {top_k} for {error['listed']:.1%}; recall@{top_k} {error['recall']:.1%}; "
        f"score kept {error['score']:.1%}"
    )


def warning(error: dict[str, Any], top_k: int) -> str:
    """One line with the remedy when caps cost much; else empty."""
    if not error["targets"]:
        return ""
    if error["targets"] < _FEW:
        return f"only {error['targets']} targets were computed exactly: the cap error is no more than a hint"
    if error["same"] >= _POOR_FIRST and error["score"] >= _POOR_SCORE:
        return ""
    return (
        f"caps change the positives: {words(error, top_k)}; raise swing.exact_steps or the caps "
        "(swing.users_per_item, swing.items_per_user, swing.target_features), or set them to exact"
    )


def sampled(plan: CapPlan, formula: Formula, anchors: Ints, count: int) -> Ints:
    """Which of these anchors' numbers are in the sample; `count`: of all anchors that have a feature."""
    if plan.exact or not count:
        return anchors[:0]
    passes, each = (2, 1 + _LEADERS) if formula.normalize == "cosine" else (1, 1)
    wanted = min(_MOST, max(SHARE * passes * plan.steps, _FREE) / (each * plan.exact_steps / count))
    keys = hash_pairs(plan.caps.seed + 1, anchors, np.zeros(len(anchors), dtype=np.int64))
    return anchors[keys < np.uint64(min(wanted / count, 1.0) * (2**64 - 2**11))]


def measured(
    source: Source,
    formula: Formula,
    found: Partners,
    targets: Ints,
    top_k: int,
    *,
    own: Floats | None = None,
    limit_steps: float = np.inf,
) -> CapError:
    """`found`: the capped partners of (at least) the targets; own (n,): the capped run's self scores, for cosine.

    limit_steps: targets whose own lists and table cost more are left out, see `limit_of`.
    """
    parts = [_one(source, formula, found, int(u), top_k, own, limit_steps) for u in targets]
    return CapError.merged(parts)


def limit_of(plan: CapPlan) -> float:
    """Steps that one target of the sample may cost."""
    return _ALONE * max(SHARE * plan.steps, _FREE)


def _one(
    source: Source,
    formula: Formula,
    found: Partners,
    target: int,
    top_k: int,
    own: Floats | None,
    limit_steps: float,
) -> CapError:
    if source.cost(target) > limit_steps:
        return CapError(left_out=1)
    swing, anchors, places = next(source.blocks(np.array([target])))
    by = None if formula.normalize == "none" else _divisors(source, formula, anchors, own)
    mine = swing.topk(places, max(_LOOKED, 10 * top_k), by)
    if not len(mine.partner):
        return CapError()
    partners, scores = anchors[mine.partner], mine.score
    capped = found.partner[found.anchor == target][:top_k]
    if formula.normalize == "cosine":
        assert by is not None
        scores = _mended(source, target, mine, anchors, by, np.isin(partners, capped))
    order = np.lexsort((partners, -rounded(scores)))[:top_k]
    best = partners[order]
    return CapError(
        targets=1,
        same=int(len(capped) > 0 and capped[0] == best[0]),
        listed=int(best[0] in capped),
        recall=float(np.isin(best, capped).mean()),
        score=float(scores[np.isin(partners, capped)].sum() / scores[order].sum()),
    )


def _divisors(source: Source, formula: Formula, anchors: Ints, own: Floats | None) -> Floats:
    if formula.normalize == "degree":
        return source.degrees(anchors).astype(np.float64) ** 2
    assert own is not None, "cosine needs the self scores of the capped run"
    return own[anchors]


def _mended(
    source: Source, target: int, mine: Partners, anchors: Ints, by: Floats, capped: npt.NDArray[np.bool_]
) -> Floats:
    """(c,) scores of `mine` by exact self scores: of the leaders and of the partners that were found; else 0."""
    chosen = np.union1d(np.arange(min(_LEADERS, len(capped))), np.flatnonzero(capped))
    exact = _self_scores(source, np.append(anchors[mine.partner[chosen]], target))
    before = by[mine.partner[chosen]] * by[mine.anchor[0]]
    out = np.zeros(len(capped))
    out[chosen] = mine.score[chosen] * np.sqrt(before / (exact[:-1] * exact[-1]))
    return out


def _self_scores(source: Source, anchors: Ints) -> Floats:
    """Exact self scores of some anchors, in their order."""
    distinct, place = np.unique(anchors, return_inverse=True)
    exact = [swing.self_scores(places) for swing, _, places in source.blocks(distinct)]
    return np.asarray(np.concatenate(exact)[place], dtype=np.float64)
