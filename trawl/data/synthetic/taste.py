"""Planted tastes: who likes which themes, moods, genres and directors, and what they therefore watch and rate.

    z (users, K)   taste of a user: own draw + what goes with gender, age and occupation; about N(0, I)
    f (films, K)   what a film offers, unit vectors in expectation: themes and moods weigh most, genres little
    score = TASTE z.f + APPEAL (themes and mood that please everybody) + MERIT + BIAS of the user + NOISE

Only a film's page tells its themes, mood and people: an id with few ratings cannot, and of the item's fields the
genres alone say a little.
"""

from dataclasses import dataclass

import numpy as np

from trawl.data.synthetic import words
from trawl.data.synthetic.films import Films, Floats, Ints, generator

K = 5
BLOCK = 256  # users with one stream
AGES = ("1", "18", "25", "35", "45", "50", "56")  # MovieLens' codes
OCCUPATIONS = 21
_WEIGHTS = {"genres": 0.4, "themes": 0.7, "mood": 0.45, "director": 0.35}  # squares sum to about 1
_GENDERS = (0.7, 0.3)
_AGES = (0.04, 0.18, 0.35, 0.20, 0.09, 0.08, 0.06)
_SHARES = np.array([*_GENDERS, *_AGES, *[1 / OCCUPATIONS] * OCCUPATIONS])  # of users in each group
_OWN, _GROUP = 0.8, 0.35
_TASTE, _APPEAL, _MERIT, _BIAS, _NOISE = 0.9, 0.45, 0.3, 0.3, 0.8
_SPREAD = float(np.sqrt(sum(w * w for w in (_TASTE, _APPEAL, _MERIT, _BIAS, _NOISE))))
_STEPS = (-1.35, -0.75, 0.0, 0.95)  # of the score in standard deviations: the stars' borders
_CHOICE = 0.5  # how much taste decides what is watched
_START, _DAY = 956_700_000, 86_400


@dataclass(frozen=True)
class Tables:
    """Latent vectors of what films and users are made of."""

    genres: Floats
    themes: Floats
    mood: Floats
    director: Floats
    groups: Floats  # (2 + ages + occupations, K)
    theme_appeal: Floats
    mood_appeal: Floats


def tables(seed: int, directors: int) -> Tables:
    """The same for every shard of a world."""
    rng = generator(seed, 3)

    def units(count: int) -> Floats:
        found = rng.normal(0, 1, (count, K))
        out: Floats = found / np.linalg.norm(found, axis=1, keepdims=True)
        return out

    return Tables(
        genres=units(len(words.GENRES)),
        themes=units(len(words.THEMES)),
        mood=units(len(words.MOODS)),
        groups=units(2 + len(AGES) + OCCUPATIONS),
        theme_appeal=rng.normal(0, 1, len(words.THEMES)),
        mood_appeal=rng.normal(0, 1, len(words.MOODS)),
        director=units(directors),
    )


def offers(films: Films, t: Tables) -> Floats:
    """(n, K) what each film offers to tastes."""
    parts = {
        "genres": _mean(t.genres, films.genres),
        "themes": _mean(t.themes, films.themes),
        "mood": t.mood[films.mood],
        "director": t.director[films.director],
    }
    out = np.zeros((len(films.mood), K))
    for name, vectors in parts.items():
        out += _WEIGHTS[name] * vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return out


def appeal(films: Films, t: Tables) -> Floats:
    """(n,) about N(0, 1): how much a film's themes and mood please everybody."""
    both = _mean(t.theme_appeal[:, None], films.themes)[:, 0] + t.mood_appeal[films.mood]
    out: Floats = both / np.sqrt(1.75)
    return out


def _mean(vectors: Floats, which: Ints) -> Floats:
    """Mean over the columns of `which` that are not -1."""
    there = (which >= 0)[:, :, None]
    total: Floats = (vectors[which] * there).sum(axis=1) / there.sum(axis=1)
    return total


@dataclass(frozen=True)
class Profiles:
    """What is known of a block of users."""

    gender: Ints  # 0 = M, 1 = F
    age: Ints  # position in AGES
    occupation: Ints


def profiles(seed: int, block: int) -> Profiles:
    """The profiles of a block of users; they depend on nothing but the seed."""
    rng = generator(seed, 4, block)
    return Profiles(
        gender=(rng.random(BLOCK) < _GENDERS[1]).astype(np.int64),
        age=np.searchsorted(np.cumsum(_AGES)[:-1], rng.random(BLOCK)).astype(np.int64),
        occupation=(rng.random(BLOCK) * OCCUPATIONS).astype(np.int64),
    )


@dataclass(frozen=True)
class Viewers:
    """What is behind the ratings of a block of users."""

    taste: Floats  # (n, K)
    bias: Floats  # standard normal: generous or strict
    activity: Floats  # log-normal with mean 1


def viewers(seed: int, block: int, t: Tables) -> Viewers:
    """The users of a block: a taste of their own and the taste of their gender, age and occupation."""
    rng, known = generator(seed, 6, block), profiles(seed, block)
    groups = t.groups[known.gender] + t.groups[2 + known.age] + t.groups[2 + len(AGES) + known.occupation]
    groups -= _SHARES @ t.groups  # so that the average user has no taste
    return Viewers(
        taste=_OWN * rng.normal(0, 1, (BLOCK, K)) + _GROUP * np.sqrt(K) * groups,
        bias=rng.normal(0, 1, BLOCK),
        activity=np.exp(rng.normal(-0.125, 0.5, BLOCK)),
    )


@dataclass(frozen=True)
class Catalogue:
    """What ratings need to know of all films; every worker makes its own."""

    offers: Floats  # (films, K)
    plain: Floats  # (films,) the part of the score that is the same for everybody
    reach: Floats  # (films,) cumulative share of being come across


def catalogue(films: Films, t: Tables) -> Catalogue:
    """The catalogue of these films."""
    reach = np.cumsum(films.weight)
    plain = _APPEAL * appeal(films, t) + _MERIT * films.merit
    plain -= plain @ films.weight / reach[-1]  # so that every seed has about the same share of likes
    return Catalogue(offers(films, t), plain, reach / reach[-1])


@dataclass(frozen=True)
class Views:
    """Ratings of a block, user by user in the order of time."""

    user: Ints  # within the block
    film: Ints
    stars: Ints
    time: Ints
    score: Floats  # without noise: what an oracle of the planted tastes knows


def views(seed: int, block: int, people: Viewers, films: Catalogue, mean: int) -> Views:
    """Who watched what, when, and the stars they gave; `mean` ratings per user, 4 to 3 * mean of different films."""
    rng = generator(seed, 5, block)
    most = min(3 * mean, max(4, len(films.plain) // 2))
    wanted = np.clip(np.rint(people.activity * mean), 4, most).astype(np.int64)
    came = np.searchsorted(films.reach, rng.random((BLOCK, 4 * most)), side="right")
    came = np.sort(np.minimum(came, len(films.plain) - 1), axis=1)
    liking = np.einsum("bck,bk->bc", films.offers[came], people.taste)
    keen = _CHOICE * liking + rng.gumbel(0, 1, came.shape)
    keen[:, 1:][came[:, 1:] == came[:, :-1]] = -np.inf  # each film once
    best = np.argsort(-keen, axis=1)[:, :most]
    taken = np.isfinite(np.take_along_axis(keen, best, axis=1)) & (np.arange(best.shape[1]) < wanted[:, None])
    shuffled = np.argsort(rng.random(best.shape) + ~taken, axis=1)  # time knows nothing of liking; the untaken last
    best, taken = np.take_along_axis(best, shuffled, axis=1), np.take_along_axis(taken, shuffled, axis=1)
    film, liking = np.take_along_axis(came, best, axis=1), np.take_along_axis(liking, best, axis=1)
    score = _TASTE * liking + films.plain[film] + _BIAS * people.bias[:, None]
    noisy = (score + _NOISE * rng.normal(0, 1, score.shape)) / _SPREAD
    pauses = (rng.exponential(40, score.shape) * (rng.random(score.shape) > 0.3)).astype(np.int64)  # some tie
    time = _START + (rng.random((BLOCK, 1)) * 900).astype(np.int64) * _DAY + np.cumsum(pauses, axis=1)
    user = np.broadcast_to(np.arange(BLOCK)[:, None], film.shape)
    stars = 1 + np.searchsorted(np.array(_STEPS), noisy)
    return Views(user[taken], film[taken], stars[taken], time[taken], score[taken])
