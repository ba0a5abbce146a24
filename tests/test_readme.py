"""The README stays true: its tables are those of the files of figures, its commands and paths exist."""

import re
import subprocess
import sys
from pathlib import Path

from trawl import recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tables_are_made_from_the_files() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "bench" / "readme.py"), "--check"], check=False)
    assert done.returncode == 0, "run python tests/bench/readme.py"


def test_recipes_and_files_that_it_names_exist() -> None:
    for name in re.findall(r"trawl run ([a-z0-9-]+)", README):
        assert name in recipes.shipped()
    for path in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / path).exists()
    for folder in re.findall(r"^\| `((?:trawl|jobs|tests)/[a-z/]*)`", README, flags=re.MULTILINE):
        assert (ROOT / folder).exists()


def test_nothing_is_left_to_fill_in() -> None:
    assert "-TEXT" not in README
