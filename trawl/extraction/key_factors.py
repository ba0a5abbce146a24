"""The key factors of a domain: what a person who recommends would want to know (T 3.2.3, K Table 2, R 4.2.1).

One list serves the item prompt and the user prompt. It is data: a TOML file of the domain under `domains/`.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trawl.errors import ConfigError

_KINDS = ("values", "names", "sentences")
_KEYS = {"name", "question", "kind", "values", "patterns", "after", "before", "cues", "limit"}


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


def path_of(domain: str) -> Path:
    """The file of a domain's factors. Raises ConfigError when there is none."""
    path = Path(__file__).parent / "domains" / f"{domain}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
        raise ConfigError(f"extraction.domain = {domain!r}: no such list of key factors; there are {known}")
    return path


@cache
def load_factors(domain: str) -> tuple[Factor, ...]:
    """The factors of a domain, in the order of its file."""
    return parse_factors(path_of(domain).read_text(encoding="utf-8"), domain)


def parse_factors(text: str, where: str) -> tuple[Factor, ...]:
    """Raises ConfigError naming the factor and what is wrong with it."""
    try:
        rows = tomllib.loads(text).get("factor", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"key factors {where}: not valid TOML: {error}") from None
    if not rows:
        raise ConfigError(f"key factors {where}: no [[factor]] in it")
    return tuple(_factor(row, where) for row in rows)


def _factor(row: dict[str, object], where: str) -> Factor:
    spot = f"key factors {where}, factor {row.get('name', '?')!r}"
    unknown, missing = row.keys() - _KEYS, {"name", "question", "kind"} - row.keys()
    if unknown or missing:
        raise ConfigError(f"{spot}: unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    if row["kind"] not in _KINDS:
        raise ConfigError(f"{spot}: kind = {row['kind']!r}; one of {', '.join(_KINDS)}")
    factor = Factor(**{key: tuple(v) if isinstance(v, list) else v for key, v in row.items()})  # type: ignore[arg-type]
    for pattern in factor.patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{spot}: pattern {pattern!r}: {error}") from None
    return factor
