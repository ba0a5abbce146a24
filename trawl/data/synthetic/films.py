"""What each film is: genres, themes, moods, people, place, year, fame. Vectorised, by blocks of their own randomness.

A film's attributes depend on (seed, index) and the numbers of people only, never on how the work is cut up.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from trawl.data.synthetic import words

BLOCK = 1024
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def generator(seed: int, tag: int, counter: int = 0) -> np.random.Generator:
    """A stream of its own for (seed, tag, counter)."""
    key = np.array([seed % 2**64, tag], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, counter], np.uint64)))


@dataclass(frozen=True)
class Films:
    """Attributes of films first .. first + n - 1 (from 0), one row each; -1 = none."""

    genres: Ints  # (n, 2), the second may be none
    themes: Ints  # (n, 2), the second may be none
    mood: Ints
    director: Ints
    cast: Ints  # (n, 3)
    country: Ints
    period: Ints
    award: Ints
    year: Ints
    weight: Floats  # how often it is watched
    merit: Floats  # standard normal; awards go with it
    unlinked: Floats  # uniform draws, below a share = yes
    empty: Floats
    misspelt: Floats


def films(seed: int, first: int, last: int, directors: int, actors: int) -> Films:
    """Attributes of films first .. last - 1."""
    blocks = [
        _block(seed, b, directors, actors) for b in range(first // BLOCK, (max(last, first + 1) - 1) // BLOCK + 1)
    ]
    cut = slice(first - first // BLOCK * BLOCK, last - first // BLOCK * BLOCK)
    return Films(**{f.name: np.concatenate([getattr(b, f.name) for b in blocks])[cut] for f in fields(Films)})


def _block(seed: int, number: int, directors: int, actors: int) -> Films:
    rng = generator(seed, 1, number)

    def draw(count: int) -> Ints:
        return (rng.random(BLOCK) * count).astype(np.int64)

    def skewed(count: int) -> Ints:  # some people work far more than others
        return (rng.random(BLOCK) ** 1.7 * count).astype(np.int64)

    def other(taken: Ints, count: int, share: float) -> Ints:
        value = (taken + 1 + draw(count - 1)) % count
        return np.where(rng.random(BLOCK) < share, value, -1)

    genre, theme = draw(len(words.GENRES)), draw(len(words.THEMES))
    star = skewed(actors)
    merit = rng.normal(0, 1, BLOCK)
    rare = rng.random(BLOCK) < 0.45  # films that few have watched
    fame = np.exp(rng.normal(0, 1.0, BLOCK)) * np.where(rare, 0.04, 1.0)
    return Films(
        genres=np.stack([genre, other(genre, len(words.GENRES), 0.6)], axis=1),
        themes=np.stack([theme, other(theme, len(words.THEMES), 0.5)], axis=1),
        mood=draw(len(words.MOODS)),
        director=skewed(directors),
        cast=np.stack(
            [star, (star + 1 + draw(actors // 2 - 1)) % actors, (star + actors // 2 + draw(2)) % actors], axis=1
        ),
        country=draw(len(words.COUNTRIES)),
        period=draw(len(words.PERIODS)),
        award=np.where(merit + rng.normal(0, 0.6, BLOCK) > 0.8, draw(len(words.AWARDS)), -1),
        year=2001 - (rng.random(BLOCK) ** 2 * 70).astype(np.int64),
        weight=fame,
        merit=merit,
        unlinked=rng.random(BLOCK),
        empty=rng.random(BLOCK),
        misspelt=rng.random(BLOCK),
    )


def crew(items: int) -> tuple[int, int]:
    """(directors, actors) of a world of so many films."""
    return max(6, items // 10), max(12, items // 5)
