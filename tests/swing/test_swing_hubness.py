import numpy as np
import pytest

from trawl.swing import hubness


def test_one_partner_for_all_is_a_collapse():
    found = hubness(np.zeros(200, dtype=int), 250)
    assert (found.anchors, found.without, found.distinct, found.largest, found.ten) == (250, 50, 1, 1.0, 1.0)
    assert found.collisions == pytest.approx(199)  # a batch of 256 holds at most the 199 others
    assert "swing.normalize = cosine" in found.warning


def test_a_partner_each_is_none():
    found = hubness(np.arange(5000), 5000)
    assert (found.without, found.distinct, found.collisions, found.warning) == (0, 5000, 0.0, "")


def test_collisions_by_drawing_batches():
    partners = np.random.default_rng(0).zipf(1.7, 3000) % 500
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(300):
        batch = partners[rng.choice(3000, 256, replace=False)]
        drawn.append(((batch[:, None] == batch).sum(1) - 1).mean())
    assert hubness(partners, 3000).collisions == pytest.approx(np.mean(drawn), rel=0.03)


def test_no_positive_at_all():
    found = hubness(np.empty(0, dtype=int), 7)
    assert (found.without, found.distinct, found.largest, found.collisions, found.warning) == (7, 0, 0.0, 0.0, "")
