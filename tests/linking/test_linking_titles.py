"""Titles and labels to comparable forms and a year."""

import pytest

from trawl.linking.titles import normalise, parse


@pytest.mark.parametrize(
    ("title", "forms", "year"),
    [
        ("Toy Story (1995)", ("toy story",), 1995),
        ("Visitors, The (Les Visiteurs) (1993)", ("the visitors", "les visiteurs"), 1993),
        ("Hate (Haine, La) (1995)", ("hate", "la haine"), 1995),
        ("Associate, The (L'Associe)(1982)", ("the associate", "lassocie"), 1982),
        ("Star Maker, The (Uomo delle stelle, L') (1995)", ("the star maker", "luomo delle stelle"), 1995),
        ("Promise, The (Versprechen, Das) (1994)", ("the promise", "das versprechen"), 1994),
        ("Leon (a.k.a. Leon: The Professional) (1994)", ("leon", "leon the professional"), 1994),
        (
            "Strike! (a.k.a. All I Wanna Do, The Hairy Bird) (1998)",
            ("strike", "the hairy bird", "all i wanna do"),
            1998,
        ),
        ("Before Midnight (1933 film)", ("before midnight",), 1933),
        ("Ben-Hur_(2016_film)", ("ben hur",), 2016),
        ("Heat (American film)", ("heat",), None),
        ("Captain Midnight (serial)", ("captain midnight",), None),
        ("(500) Days of Summer", ("500 days of summer",), None),
        ("Café au Lait", ("cafe au lait",), None),
        ("Kærlighed på Ø", ("kaerlighed pa o",), None),
        ("Rocky II", ("rocky 2",), None),
        ("Father of the Bride Part Two", ("father of the bride part 2",), None),
        ("Malcolm X", ("malcolm x",), None),
        ("Henry & June", ("henry and june",), None),
        ("G. I. Blues", ("gi blues",), None),
        ("天空の城", ("天空の城",), None),
        ("???", ("???",), None),
        ("(1995)", ("1995",), None),
        ("", ("",), None),
    ],
)
def test_forms_and_year(title: str, forms: tuple[str, ...], year: int | None) -> None:
    found = parse(title)
    assert (found.forms, found.year) == (forms, year)


def test_escapes_are_read_only_when_asked() -> None:
    assert parse("%22Crocodile%22 Dundee", decode=True).forms == ("crocodile dundee",)
    assert parse("%25C2%25A1Three Amigos!", decode=True).forms == ("three amigos",)
    assert parse("%22Crocodile%22 Dundee").forms == ("22crocodile 22 dundee",)
    assert parse("100% Wolf", decode=True).forms == ("100 wolf",)


def test_pieces_are_of_two_words_and_no_form() -> None:
    assert parse("Star Wars: Episode V - The Empire Strikes Back (1980)").pieces == (
        "star wars",
        "episode 5",
        "the empire strikes back",
    )
    assert parse("Alien: Resurrection").pieces == ()


def test_normalising_twice_changes_nothing() -> None:
    for text in ("Schindler's List", "M*A*S*H", "E.T. the Extra-Terrestrial", "Part III", "Élan — vital"):
        assert normalise(normalise(text)) == normalise(text)
