"""The runner of drills: what it collects, remembers, runs again, and writes."""

import subprocess
import sys
from pathlib import Path

import pytest
from drills import run as drills

DRILL = """
import pytest

@pytest.mark.slow
def test_good() -> None:
    '''It holds.'''

@pytest.mark.slow
def test_bad() -> None:
    '''It | breaks.'''
    assert False

@pytest.mark.slow
def test_elsewhere() -> None:
    pytest.skip("no GPU here")

def test_quick() -> None:
    pass
"""


@pytest.fixture
def round_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three drills and a state of its own."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(DRILL)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow: x"]\n')
    (tmp_path / "docs").mkdir()
    plugin = Path(drills.__file__).with_name("listing.py")
    (tmp_path / "tests" / "drills").mkdir()
    (tmp_path / "tests" / "drills" / "listing.py").write_text(plugin.read_text())
    for name, value in {"ROOT": tmp_path, "STATE": tmp_path / ".drills", "PAGE": tmp_path / "docs/drills.md"}.items():
        monkeypatch.setattr(drills, name, value)
    monkeypatch.setattr(drills.code_digest, "__defaults__", (tmp_path,))
    monkeypatch.setattr(drills.load, "__defaults__", (tmp_path / ".drills",))
    monkeypatch.setattr(drills.save, "__defaults__", (tmp_path / ".drills",))
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.delenv("FORCE", raising=False)
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The drills that a round ran, by the name of their function."""
    lines = capsys.readouterr().err.splitlines()
    return [line.rpartition("::")[2] for line in lines if line.startswith("[")]


def test_a_round_goes_on_where_it_stood(
    round_of: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert drills.main() == 1
    assert ran(capsys) == ["test_good", "test_bad", "test_elsewhere"]
    text = (round_of / "docs" / "drills.md").read_text()
    assert "1 of 3 passed with the code as it is" in text
    assert "| test_x.py::test_good | It holds. | passed |" in text
    assert "| test_x.py::test_bad | It   breaks. | failed |" in text
    assert "skipped (no GPU here)" in text
    assert str(round_of) not in text
    assert drills.main() == 1  # what failed is tried again, what passed is not
    assert ran(capsys) == ["test_bad"]
    file = round_of / "tests" / "test_x.py"
    file.write_text(file.read_text().replace("assert False", "assert True"))
    assert drills.main() == 0  # the code changed: all of it again
    assert ran(capsys) == ["test_good", "test_bad", "test_elsewhere"]
    assert drills.main() == 0
    assert ran(capsys) == []
    monkeypatch.setenv("FORCE", "1")
    monkeypatch.setattr(sys, "argv", ["run.py", "good"])
    assert drills.main() == 0
    assert ran(capsys) == ["test_good"]


def test_an_outcome_of_earlier_code_is_said_to_be_one() -> None:
    old = drills.Outcome("tests/a.py::t", "w", drills.PASSED, 2.0, "2026-01-01", "old")
    text = drills.page([("tests/a.py::t", "w"), ("tests/a.py::u", "w")], {old.drill: old}, "new")
    assert "0 of 2 passed" in text
    assert "passed, with earlier code" in text
    assert "| a.py::u | w | not run |" in text


def test_every_slow_test_of_this_project_is_collected() -> None:
    names = [node for node, _ in drills.drills("tests/drills/test_kill_the_driver.py")]
    assert names
    assert all("test_kill_the_driver.py::" in name for name in names)


def test_the_state_is_not_part_of_the_repository() -> None:
    found = subprocess.run(
        ["git", "check-ignore", ".drills/outcomes.json"], cwd=drills.ROOT, capture_output=True, check=False
    )
    assert found.returncode in (0, 128)  # 128: not a checkout
