"""docs/swing.md: its Python is run, what it prints is what the page shows, its commands are real."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from trawl import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "swing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
# What does not come with `pip install .` cannot be imported; nor is pydantic, which the recipe alone needs.
WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "torch", "transformers", "vllm", "pydantic", "pandas"}:
            raise ModuleNotFoundError(f"{name} is not here")
sys.meta_path.insert(0, Refuse())
"""


def test_its_examples_print_what_it_shows(tmp_path):
    code = "\n".join(text for kind, text in BLOCKS if kind == "python")
    shown = "".join(text for kind, text in BLOCKS if kind == "text")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


@pytest.mark.parametrize("command", [line for kind, text in BLOCKS if not kind for line in text.splitlines()])
def test_its_commands_are_real(command):
    words = shlex.split(command)
    assert words[0] == "trawl"
    cli._parser().parse_args(words[1:])
