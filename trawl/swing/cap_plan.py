"""Whether a side is mined exactly, and which caps it gets where that would cost too much.

Two caps, and what each does to a score s(u, v):

- `lists`: of each feature, so many anchors stand in the list that targets walk (users per item for user targets, items
  per user for item targets). A candidate is then found by a sample of what it shares with the target.
- `rows`: of each target, so many of its own features are walked (items of a user target, users of an item target). The
  lists stay whole: all candidates are measured by the same sample of the target's features.

What they cost on MovieLens-1M, all ratings, 300 targets a side (tests/bench/swing_caps.py): the share of targets that
keep their best partner, by the printed formula / by cosine.

    cap                        1000          500           200           100
    user targets, lists     .997 / .993   .990 / .927   .967 / .797   .903 / .617
    user targets, rows      1    / 1      1    / .973   .957 / .857   .860 / .677
    item targets, lists*    .990 / .980   .970 / .950   .943 / .877   .890 / .803
    item targets, rows      .993 / .993   .980 / .933   .900 / .813   .790 / .627

(* with 100 candidates scored on whole rows instead of 50.) The same lists taken as they are, without scaled counts and
whole rows (`sampled`), keep .61 / .41 of the users at 500. What destroys the printed formula is to cut the interactions
themselves: with 1,000 items per user .11 of the users keep their partner, with 1,000 users per item .17 of the items;
no key does that. So auto begins with both caps at 10,000 and goes no lower than it must.

The cost that is bounded is `steps`: entries of lists that are walked, and cells of the targets' tables of pairs. It
follows from degrees alone, so a graph has one plan wherever it is mined.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from trawl.swing.degrees import Degrees
from trawl.swing.graph import LEADERS

Rule = int | str  # a number, auto or exact
AUTO, EXACT = "auto", "exact"
# (rows, lists) from the most to the least exact; the first that fits the bound is taken, else the last.
_LADDER = ((10_000, 10_000), (5000, 5000), (2000, 2000), (2000, 1000), (1000, 500), (1000, 200))


class Settings(Protocol):
    """The keys of the recipe's section `swing` that are about caps; see there."""

    @property
    def users_per_item(self) -> Rule: ...
    @property
    def items_per_user(self) -> Rule: ...
    @property
    def target_features(self) -> Rule: ...
    @property
    def cap_seed(self) -> int: ...
    @property
    def exact_steps(self) -> float: ...
    @property
    def leaders(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Caps:
    """At most so many anchors in each feature's list, and features in each target's row; 0: all of them."""

    lists: int = 0
    rows: int = 0
    seed: int = 0
    leaders: int = LEADERS  # see `graph.Bipartite`

    @property
    def any(self) -> bool:
        return bool(self.lists or self.rows)


@dataclass(frozen=True, kw_only=True)
class CapPlan:
    """What was decided for one side. `cut_lists`, `cut_rows`: how many are longer than their cap."""

    side: Literal["user", "item"]
    caps: Caps
    exact_steps: float  # of a run without caps
    steps: float  # with them
    bound: float
    cut_lists: int
    cut_rows: int

    @property
    def exact(self) -> bool:
        return not (self.cut_lists or self.cut_rows)

    @property
    def words(self) -> str:
        """One line for people."""
        if self.exact:
            return f"exact ({self.exact_steps:.1e} steps)"
        feature, other = ("item", "users") if self.side == "user" else ("user", "items")
        said = []
        if self.cut_lists:
            said.append(f"{other} per {feature}: {self.caps.lists:,} ({self.cut_lists:,} {feature}s have more)")
        if self.cut_rows:
            said.append(
                f"{feature}s per {self.side} target: {self.caps.rows:,} ({self.cut_rows:,} {self.side}s have more)"
            )
        return f"capped, {'; '.join(said)}; {self.steps:.1e} steps instead of {self.exact_steps:.1e}"

    def as_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("exact_steps", "steps", "bound", "cut_lists", "cut_rows")}
        return {"lists": self.caps.lists, "rows": self.caps.rows, "seed": self.caps.seed, "words": self.words, **plain}


def planned(side: Literal["user", "item"], settings: Settings, degrees: Degrees, lengths: Degrees) -> CapPlan:
    """The caps of one side. degrees: features of each anchor; lengths: anchors of each feature, both in full.

    auto: none while the whole costs at most `exact_steps`; else the first step of the ladder that fits. A cap that the
    recipe names is kept as it is, and so is `exact`.
    """
    lists = settings.users_per_item if side == "user" else settings.items_per_user
    rows, bound = settings.target_features, settings.exact_steps
    exact = _fixed(rows, lists, (0, 0))
    tries = [exact, *(_fixed(rows, lists, step) for step in _LADDER)]
    fitting = (pair for pair in tries if steps(degrees, lengths, *pair) <= bound)
    chosen = next(fitting, tries[-1])
    return CapPlan(
        side=side,
        caps=Caps(rows=chosen[0], lists=chosen[1], seed=settings.cap_seed, leaders=settings.leaders),
        exact_steps=steps(degrees, lengths, 0, 0),
        steps=steps(degrees, lengths, *chosen),
        bound=bound,
        cut_lists=_above(lengths, chosen[1]),
        cut_rows=_above(degrees, chosen[0]),
    )


def _fixed(rows: Rule, lists: Rule, auto: tuple[int, int]) -> tuple[int, int]:
    """(rows, lists) where auto is what is given."""
    found = [
        value if rule == AUTO else 0 if rule == EXACT else int(rule)
        for rule, value in zip((rows, lists), auto, strict=True)
    ]
    return found[0], found[1]


def steps(degrees: Degrees, lengths: Degrees, rows: int = 0, lists: int = 0) -> float:
    """Entries of lists that all targets walk + cells of their tables, under caps (0: none).

    A list of n anchors is walked by n targets, min(n, lists) entries each; under `rows` by as many fewer as edges are
    left out. A target of degree d has a table of min(d, rows)² cells.
    """
    length, own = lengths.lowest.astype(np.float64), degrees.lowest.astype(np.float64)
    walked = np.minimum(length, lists) if lists else length
    kept = np.minimum(own, rows) if rows else own
    edges = float((degrees.counts * own).sum())
    share = float((degrees.counts * kept).sum()) / edges if edges else 1.0
    return share * float((lengths.counts * length * walked).sum()) + float((degrees.counts * kept * kept).sum())


def _above(histogram: Degrees, cap: int) -> int:
    return int(histogram.counts[histogram.lowest > cap].sum()) if cap else 0


def settings_of(**given: Any) -> Settings:
    """The recipe's defaults with some keys changed, for use without a recipe. Raises ConfigError."""
    from trawl.config import Config

    found: Settings = Config().override(*((f"swing.{name}", value) for name, value in given.items())).swing
    return found
