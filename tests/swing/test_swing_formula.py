import pytest
from pydantic import ValidationError

from trawl.config import Config
from trawl.errors import ConfigError
from trawl.sections_swing import Swing as Section
from trawl.swing import Formula, Swing
from trawl.swing.stage import formula_of, keys


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"alpha": -0.1}, "swing.alpha = -0.1"),
        ({"alpha": float("nan")}, "swing.alpha"),
        ({"alpha": float("inf")}, "swing.alpha"),
        ({"normalize": "l2"}, "choose none, cosine or degree"),
        ({"node_weight": "log"}, "choose none, sqrt or power"),
        ({"node_a": -1}, "swing.node_a"),
        ({"node_b": float("nan")}, "swing.node_b"),
        ({"inverted": True}, "swing.inverted = true: only with swing.normalize = none"),
        ({"inverted": True, "normalize": "none", "node_weight": "sqrt"}, "swing.inverted"),
    ],
)
def test_what_makes_no_formula_is_refused_in_one_line(wrong, named):
    with pytest.raises(ConfigError, match=named) as error:
        Formula(**wrong)
    assert "\n" not in str(error.value)


def test_the_recipe_gives_the_formula():
    cfg = Config().override("swing.normalize=degree", "swing.node_weight=power", "swing.node_b=0.5", "swing.alpha=0")
    assert formula_of(cfg) == Formula(normalize="degree", node_weight="power", node_b=0.5, alpha=0.0)
    assert formula_of(Config()) == Formula()
    with pytest.raises(ValidationError, match="inverted"):
        Section(inverted=True)


def test_a_key_counts_only_where_it_changes_the_result():
    plain = set(keys("user", Config()))
    assert not plain & {"swing.node_weight", "swing.node_a", "swing.node_b", "swing.inverted"}
    assert set(keys("user", Config().override("swing.node_weight=sqrt"))) - plain == {"swing.node_weight"}
    power = {"swing.node_weight", "swing.node_a", "swing.node_b"}
    assert set(keys("user", Config().override("swing.node_weight=power"))) - plain == power
    assert set(keys("user", Config().override("swing.normalize=none", "swing.inverted=true"))) - plain == {
        "swing.inverted"
    }


def test_threads_are_at_least_one():
    from trawl.swing import bipartite

    with pytest.raises(ConfigError, match="threads"):
        Swing(bipartite([0], [0], (1, 1)), threads=0)
