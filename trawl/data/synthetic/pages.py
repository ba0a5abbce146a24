"""Encyclopaedia-like pages: the sentences that say what a film is, lost among sentences that say nothing about it."""

from trawl.data.synthetic import words
from trawl.data.synthetic.films import Films
from trawl.data.synthetic.names import Dice, label, person, word

_PAGE, _OTHER = 21, 22
_NEARBY = (" II", " Returns", ": The Beginning", " and Other Stories", " Revisited")


def page(films: Films, row: int, seed: int, film: int, noise: float) -> str:
    """The page of a film: about `noise` irrelevant sentences per relevant one, the lead first, the others mixed."""
    dice = Dice(seed, _PAGE, film)
    relevant = _relevant(films, row, seed, label(seed, film), dice)
    want = noise * len(relevant)
    count = int(want) + (dice.roll() < want % 1)
    rest = relevant[1:] + [_irrelevant(int(films.year[row]), dice) for _ in range(count)]
    order = sorted(range(len(rest)), key=lambda _: dice.roll())
    return " ".join([relevant[0], *(rest[i] for i in order)])


def _relevant(films: Films, row: int, seed: int, title: str, dice: Dice) -> list[str]:
    country, adjective = words.COUNTRIES[films.country[row]]
    facts = {
        "label": title,
        "year": str(films.year[row]),
        "country": country,
        "adjective": adjective,
        "genres": " ".join(words.GENRES[g].lower() for g in films.genres[row] if g >= 0),
        "director": person(seed, 2 * int(films.director[row]) + 1),
        "cast": "{}, {} and {}".format(*(person(seed, 2 * int(a)) for a in films.cast[row])),
        "hero": dice.pick(words.HEROES),
        "period": words.PERIODS[films.period[row]],
        "mood": dice.pick(words.MOODS[films.mood[row]]),
        "award": words.AWARDS[films.award[row]],
    }
    first, second = (dice.pick(words.THEMES[t]) for t in films.themes[row])
    patterns = [(words.LEAD, ""), (words.PEOPLE, ""), (words.THEME, first), (words.MOOD, ""), (words.PLACE, "")]
    patterns += [(words.SECOND_THEME, second)] if films.themes[row][1] >= 0 else []
    patterns += [(words.AWARD, "")] if films.award[row] >= 0 else []
    return [dice.pick(choices).format(**facts, theme=theme) for choices, theme in patterns]


def _irrelevant(year: int, dice: Dice) -> str:
    return dice.pick(words.NOISE).format(
        name=word(dice),
        day=1 + dice.below(28),
        month=dice.pick(words.MONTHS),
        number=2 + dice.below(95),
        small=2 + dice.below(9),
        early=1500 + dice.below(400),
        later=year + dice.below(15),
    )


def distractor(seed: int, number: int, items: int) -> tuple[str, int | None, str | None, int]:
    """(label, years from its film's or none, text or none, its film) of an entity that no item means.

    A quarter has the title of a film and another year, a quarter nearly the title, the others a title of their own.
    """
    dice = Dice(seed, _OTHER, number)
    film, kind = dice.below(items), dice.roll()
    title = label(seed, film) if kind < 0.5 else label(seed, items + number)
    title += dice.pick(_NEARBY) if 0.25 <= kind < 0.5 else ""
    shift = (3 + dice.below(30)) * (1 if dice.roll() < 0.5 else -1) if kind < 0.25 else dice.below(9) - 4
    text = None
    if dice.roll() < 0.6:
        genre = dice.pick(words.GENRES).lower()
        text = " ".join([f"{title} is a {genre} film.", *(_irrelevant(1970, dice) for _ in range(3))])
    missing = kind >= 0.5 and dice.roll() < 0.05
    return title, None if missing else shift, text, film
