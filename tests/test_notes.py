"""What is said of a recipe's keys: the comments around their fields, and the values that their types name."""

from typing import Literal

from pydantic import BaseModel

from trawl.config import Config
from trawl.notes import described


class Below(BaseModel):
    """A section in a section."""

    plain: int = 0
    beside: int = 1  # steps


class Planted(BaseModel):
    """One of each kind."""

    # two lines stand
    # above.
    above: str = ""
    both: str = ""  # the end

    # what is set apart from it
    levels: tuple[Literal["low", "high"], ...] = ("low",)
    own: Literal["a", "b"] | str = (  # or your own
        "a"
    )
    below: Below = Below()


def test_comments_above_and_beside_a_field_and_its_values() -> None:
    assert [(note.key, note.text) for note in described(Planted)] == [
        ("above", "two lines stand above"),
        ("both", "the end"),
        ("levels", "what is set apart from it; of low, high"),
        ("own", "or your own; one of a, b"),
        ("below.plain", ""),
        ("below.beside", "steps"),
    ]


def test_every_key_of_a_recipe_says_what_it_means() -> None:
    assert [note.key for note in described(Config) if not note.text] == []
