"""What a check found."""

from collections.abc import Sequence
from dataclasses import dataclass

from trawl.config import Config

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


@dataclass(frozen=True)
class Finding:
    """One line: the check, how it stands, what was seen, what to do about it (empty where it is well)."""

    check: str
    state: str
    what: str
    todo: str = ""


@dataclass(frozen=True)
class Patient:
    """What is looked at: the recipe, once for each of its arms, and the store."""

    cfgs: tuple[Config, ...]
    store: str

    @property
    def cfg(self) -> Config:
        return self.cfgs[0]


def worst(findings: Sequence[Finding]) -> str:
    """The state of all together."""
    states = {finding.state for finding in findings}
    return FAIL if FAIL in states else WARN if WARN in states else OK
