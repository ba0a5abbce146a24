"""The key factors of a domain: what a person who recommends would want to know (T 3.2.3, K Table 2, R 4.2.1).

One list serves the item prompt and the user prompt. It is data: a TOML file under `domains/`, or the user's own at a
path or URI, which may also choose the language of the prompts and replace single texts of theirs:

    language = "zh"                # en where it is left out
    [words]                        # texts of languages/en.toml to be said otherwise
    answer = "..."
    [[factor]]
    name = "Genre"
    question = "Which genres does it belong to, or do they prefer?"
    kind = "values"                # how the extractive engine looks for it; see domains/movies.toml
    values = ["comedy", "drama"]
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trawl.environment import source_digest
from trawl.errors import ConfigError, InputError
from trawl.extraction.words import ENGLISH, Words, words_of
from trawl.raw import Remote, source

_KINDS = ("values", "names", "sentences")
_TEXTS = ("name", "question", "kind")
_LISTS = ("values", "patterns", "after", "before", "cues")
_TOP = {"factor", "language", "words"}
_MOST = 64  # factors of a list
_LETTER = re.compile(r"[^\W_]")
_BREAKS = re.compile(r"[<>]{3}|[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # what would break the frame of a prompt


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One factor: the question put to an LLM, and what the extractive engine looks for. `limit`: most answers."""

    name: str
    question: str
    kind: str
    values: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    limit: int = 8


@dataclass(frozen=True)
class Domain:
    """What a domain's file says: its factors, in order, and the words of its prompts."""

    factors: tuple[Factor, ...]
    words: Words = ENGLISH
    language: str = "en"


def is_own(domain: str) -> bool:
    """Whether `extraction.domain` is a file of the user's: a path or URI, not a shipped name."""
    return domain.endswith(".toml") or "/" in domain


def shipped() -> list[str]:
    """Names of the domains that come with the package."""
    return sorted(path.stem for path in (Path(__file__).parent / "domains").glob("*.toml"))


def path_of(domain: str) -> str:
    """The path or URI of a domain's file. Raises ConfigError when there is no such shipped one."""
    if is_own(domain):
        return domain
    if domain not in shipped():
        raise ConfigError(
            f"extraction.domain = {domain!r}: no such list of key factors; there are {', '.join(shipped())}, or give "
            "the path of a .toml file of your own"
        )
    return str(Path(__file__).parent / "domains" / f"{domain}.toml")


def domain_keys(domain: str) -> tuple[str, ...]:
    """The key by which a domain counts in fingerprints: a file of the user's counts by its content alone."""
    return () if is_own(domain) else ("extraction.domain",)


def domain_sources(domain: str) -> dict[str, str]:
    """The domain's file as a raw input, known to be good. Raises ConfigError, InputError."""
    load_domain(domain)
    return {"factors": path_of(domain)}


def load_factors(domain: str) -> tuple[Factor, ...]:
    """The factors of a domain, in the order of its file. Raises ConfigError, InputError."""
    return load_domain(domain).factors


def load_domain(domain: str) -> Domain:
    """A domain by shipped name, path or URI. Raises ConfigError (what is wrong in it), InputError (it is missing)."""
    return _loaded(domain, source_digest(path_of(domain)))


@cache
def _loaded(domain: str, digest: str) -> Domain:
    """Read once per process while the content stays."""
    path = source(path_of(domain))
    try:
        if isinstance(path, Remote):
            with path.open() as file:
                text = file.read().decode("utf-8")
        else:
            text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.at(domain, "", f"cannot be read ({error})", "check extraction.domain") from None
    return parse_domain(text, domain)


def parse_factors(text: str, where: str) -> tuple[Factor, ...]:
    """Raises ConfigError naming the factor and what is wrong with it."""
    return parse_domain(text, where).factors


def parse_domain(text: str, where: str) -> Domain:
    """A domain from the text of its file. Raises ConfigError naming file, factor and key."""
    spot = f"key factors {where}"
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{spot}: not valid TOML: {error}") from None
    rows, words = tree.get("factor", []), tree.get("words", {})
    if unknown := tree.keys() - _TOP:
        raise ConfigError(f"{spot}: unknown keys {sorted(unknown)}; it has [[factor]], language and [words]")
    if not isinstance(words, dict):
        raise ConfigError(f"{spot}: words must be a table, [words]")
    if not rows or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{spot}: no [[factor]] in it")
    if len(rows) > _MOST:
        raise ConfigError(f"{spot}: {len(rows)} factors; at most {_MOST}")
    factors = tuple(_factor(row, spot) for row in rows)
    names = [factor.name.casefold() for factor in factors]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"{spot}, factor {factors[number].name!r}: name stands there twice")
    language = tree.get("language", "en")
    return Domain(factors, words_of(language, words, spot), language)


def _factor(row: Mapping[str, Any], where: str) -> Factor:
    spot = f"{where}, factor {row.get('name', '?')!r}"
    unknown, missing = row.keys() - {*_TEXTS, *_LISTS, "limit"}, set(_TEXTS) - row.keys()
    if unknown or missing:
        raise ConfigError(f"{spot}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    for key in _TEXTS:
        if not isinstance(row[key], str) or not row[key].strip() or _BREAKS.search(row[key]):
            raise ConfigError(f"{spot}: {key} must be one line of text without three angle brackets in a row")
    if row["kind"] not in _KINDS:
        raise ConfigError(f"{spot}: kind = {row['kind']!r}; one of {', '.join(_KINDS)}")
    if ":" in row["name"]:
        raise ConfigError(f"{spot}: name must hold no colon; one ends it in the answers")
    limit = row.get("limit", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ConfigError(f"{spot}: limit must be a whole number of at least 1")
    for key in _LISTS:
        _check_list(row.get(key, []), f"{spot}: {key}", key)
    try:
        re.compile("|".join(row.get("patterns", [])))  # the engine looks for all of them at once
    except re.error as error:
        raise ConfigError(f"{spot}: patterns: together no valid expression: {error}") from None
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    return Factor(**values)


def _check_list(values: object, spot: str, key: str) -> None:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ConfigError(f"{spot} must be a list of texts")
    for value in values:
        if not _LETTER.search(value) and key != "patterns":
            raise ConfigError(f"{spot} {value!r}: holds no letter or digit")
        try:
            found = re.compile(value if key == "patterns" else re.escape(value))
        except re.error as error:
            raise ConfigError(f"{spot.removesuffix('s')} {value!r}: {error}") from None
        if key == "patterns" and found.match(""):
            raise ConfigError(f"{spot.removesuffix('s')} {value!r}: matches nothing at all, so everywhere")
