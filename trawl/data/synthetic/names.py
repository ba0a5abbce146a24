"""Made-up names and titles, misspelt titles, moved articles. One small stream of draws per name."""

from collections.abc import Sequence
from typing import TypeVar

from trawl.data.synthetic import words
from trawl.data.synthetic.films import generator

T = TypeVar("T")
_PERSON, _TITLE, _SLIP = 11, 12, 13


class Dice:
    """Uniform draws of the stream (seed, tag, counter), one after another."""

    def __init__(self, seed: int, tag: int, counter: int) -> None:
        self._rng = generator(seed, tag, counter)
        self._draws: list[float] = []

    def roll(self) -> float:
        if not self._draws:
            self._draws = self._rng.random(64).tolist()
        return self._draws.pop()

    def below(self, count: int) -> int:
        return int(self.roll() * count)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]


def word(dice: Dice) -> str:
    """A capitalised word of two or three syllables that means nothing."""
    syllables = [dice.pick(words.ONSETS) + dice.pick(words.VOWELS) for _ in range(2 + dice.below(2))]
    return ("".join(syllables) + dice.pick(words.CODAS)).capitalize()


def person(seed: int, index: int) -> str:
    """First and last name of the person of that index."""
    dice = Dice(seed, _PERSON, index)
    return f"{word(dice)} {word(dice)}"


def label(seed: int, film: int) -> str:
    """The right title of a film, article in front, without the year."""
    dice = Dice(seed, _TITLE, film)
    adjective, noun, name = dice.pick(words.ADJECTIVES), dice.pick(words.NOUNS), word(dice)
    patterns = (
        f"The {adjective} {noun} of {name}",
        f"A {noun} in {name}",
        f"{name}'s {adjective} {noun}",
        f"The {noun}s of {name}",
        f"{name} and the {adjective} {noun}",
        f"An Evening with {name} {word(dice)}",
    )
    return dice.pick(patterns)


def item_title(seed: int, film: int, slip: bool) -> str:
    """The title as a catalogue has it: `The Visitors` -> `Visitors, The`, misspelt where `slip`."""
    title = label(seed, film)
    article, _, rest = title.partition(" ")
    if article not in ("The", "A", "An"):
        return misspell(title, seed, film) if slip else title
    return f"{misspell(rest, seed, film) if slip else rest}, {article}"


def misspell(title: str, seed: int, film: int) -> str:
    """A letter dropped, doubled or replaced, at times one more at the end: edit distance 1 or 2, never 0."""
    dice = Dice(seed, _SLIP, film)
    at = 1 + dice.below(len(title) - 1)
    slips = (
        title[:at] + title[at + 1 :],
        title[:at] + title[at] + title[at:],
        title[:at] + ("x" if title[at] != "x" else "z") + title[at + 1 :],
    )
    return dice.pick(slips) + ("q" if dice.roll() < 0.3 else "")
