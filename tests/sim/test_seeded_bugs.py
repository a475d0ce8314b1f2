"""Every seeded bug can still be planted: its text stands exactly once, and what comes out is Python."""

import ast
from pathlib import Path

import pytest
from tools.seeded_bugs.__main__ import Misfit, planted
from tools.seeded_bugs.bugs import BUGS, Bug, Edit

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """M19: a bug that no longer fits its code would prove nothing."""
    for path, text in planted(bug, SOURCE).items():
        assert text != path.read_text()
        ast.parse(text)


def test_a_bug_that_does_not_fit_is_refused() -> None:
    """A text that stands twice, or not at all, is an error and no bug."""
    with pytest.raises(Misfit):
        planted(Bug("x", "", (Edit("domain/caps.py", "return", "x"),)), SOURCE)
    with pytest.raises(Misfit):
        planted(Bug("x", "", (Edit("domain/caps.py", "no such text", "x"),)), SOURCE)


def test_there_are_enough_of_them() -> None:
    """M19 asks for twelve."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 14
    for bug in BUGS:
        assert all((SOURCE.parent / test).exists() for test in bug.tests)
