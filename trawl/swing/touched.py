"""Which anchors of a graph may have other partners, scores or counts than in an earlier one; all others keep theirs.

Notation of `formula`: F_u the row of u, L_i the list of feature i. Both graphs are compared as they stand, so caps and
windows need no rules of their own: a list is a feature's walked anchors with their edge weights, whatever made it.

    s(u, v) = sum over i, j in F_u, v in L_i, v in L_j, of x_ui x_uj x_vi x_vj w_i w_j / (alpha + |L_i ∩ L_j ∪ {u}|)

reads F_u and x_u (the row of u), and L_i with x_vi for the features i of u alone: whether v stands there, how many
stand in L_i and in both L_i and L_j, and w_i, by the length of the list.
So s(u, v) is the same, for all v at once, unless

  1. the row of u changed, or
  2. u holds a feature whose list changed.

(2) is no looser than it must be where the sums include i = j: |L_i| stands in 1 / (alpha + |L_i|) for all who hold i.
Without i = j it is conservative: of the holders of i only those who also hold another feature of who came or went
have other scores. What a score is divided by is a matter of v, too:

  cosine  s(v, v), which may have changed where v is touched by 1 or 2, or where its row is a sample and the number of
          its features in full changed: then all who share a listed feature with v are touched as well.
  degree  |F_v|, in full: the same for the v who has another number of features.

A v that is gone was in the lists of its features, so these have changed: 2. A v that is new: likewise.

Lists that are samples (`sampled`): pair counts are scaled up by how long the lists are in full, and the whole rows of
leaders are read, of which only the target's features matter. Both are the same while the whole lists of these are.

Edge weights are compared up to one common factor, a power of two: see Window.weights. It changes no order and no
cosine; unnormalised scores are multiplied with it (`remine`).
"""

import numpy as np
import numpy.typing as npt

from trawl.swing.formula import Formula
from trawl.swing.graph import Bipartite, Ints
from trawl.swing.ids import Numbers
from trawl.swing.sides import SideGraph

Flags = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float32] | None
Entries = tuple[Ints, Numbers, Weights]  # pointer, entries and their weights: the rows or the lists of a graph


def touched(
    before: SideGraph, now: SideGraph, anchors: Numbers, features: Numbers, formula: Formula, scale: float = 1.0
) -> Flags:
    """(n of now,) the anchors that have to be mined.

    anchors, features: the number in `before` of each anchor and feature of `now`, -1 for what is not there; ascending
    where it is. scale: weights of `before` times this are those of `now`.
    """
    old, new = before.graph, now.graph
    changed_rows = ~_same(
        (old.rows_ptr, _renumbered(old.rows, features, old.p), old.row_values),
        (new.rows_ptr, new.rows, new.row_values),
        anchors,
        scale,
    )
    changed_lists = ~_same(
        (old.lists_ptr, _renumbered(old.lists, anchors, old.n), old.list_values),
        (new.lists_ptr, new.lists, new.list_values),
        features,
        scale,
    )
    if old.full_rows is not None or new.full_rows is not None:
        one, two = before.whole, now.whole
        changed_lists |= ~_same(
            (one.lists_ptr, _renumbered(one.lists, anchors, one.n), one.list_values),
            (two.lists_ptr, two.lists, two.list_values),
            features,
            scale,
        )
    out = changed_rows | _any(changed_lists[new.rows], new.rows_ptr)
    if formula.normalize == "none":
        return out
    there = anchors >= 0
    other = ~there  # degree: what scores are divided by; cosine: what self scores of a sampled row are scaled up to
    other[there] = before.degrees[anchors[there]] != now.degrees[there]
    out = out | other
    return out | _neighbours(new, out if formula.normalize == "cosine" else other)


def reached(graph: Bipartite, anchors: Flags) -> Flags:
    """(n,) these anchors and those who stand in the lists of their features: whose self scores their cosines need."""
    listed = np.zeros(graph.p, dtype=np.bool_)
    listed[graph.rows[np.repeat(anchors, graph.degrees)]] = True
    out = anchors.copy()
    out[graph.lists[np.repeat(listed, graph.lengths)]] = True
    return out


def _neighbours(graph: Bipartite, anchors: Flags) -> Flags:
    """(n,) who holds a feature in whose list one of `anchors` stands."""
    return _any(_any(anchors[graph.lists], graph.lists_ptr)[graph.rows], graph.rows_ptr)


def _any(flags: Flags, pointer: Ints) -> Flags:
    """(len(pointer) - 1,) whether any of the flags between two pointers is set."""
    sums = np.concatenate([[0], np.cumsum(flags, dtype=np.int64)])
    return np.asarray(sums[pointer[1:]] > sums[pointer[:-1]])


def _same(old: Entries, new: Entries, place: Numbers, scale: float) -> Flags:
    """(rows of new,) which have the same entries and weights as the row of old at `place`. Entries ascend in both."""
    (old_ptr, old_entries, old_values), (new_ptr, new_entries, new_values) = old, new
    size = np.diff(new_ptr)
    out = (place >= 0) & (size == np.append(np.diff(old_ptr), 0)[place])
    at_new = np.flatnonzero(np.repeat(out, size))
    step = at_new - np.repeat(new_ptr[:-1][out], size[out])
    at_old = np.repeat(old_ptr[place[out]], size[out]) + step
    differ = old_entries[at_old] != new_entries[at_new]
    if old_values is not None and new_values is not None:
        differ |= old_values[at_old] * np.float32(scale) != new_values[at_new]
    ends = np.concatenate([[0], np.cumsum(size[out])])
    out[out] = ~_any(differ, ends)
    return np.asarray(out)


def _renumbered(entries: Numbers, place: Numbers, count: int) -> Numbers:
    """Entries of the old graph by their numbers in the new one, -1 for those that are gone."""
    number = np.full(count, -1, dtype=np.int32)
    there = place >= 0
    number[place[there]] = np.flatnonzero(there)
    return np.asarray(number[entries])
