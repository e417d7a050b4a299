"""Budgets of lines: who adds some removes others. That of a copied project is in ``test_template``."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 350  # lines of a file of the engine


def lines(folder: str) -> dict[str, int]:
    """Return the number of lines of each Python file below a folder."""
    files = (ROOT / folder).rglob("*.py")
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8").count("\n") for file in files}


@pytest.mark.parametrize(("folder", "budget"), [("src/ninefold", 24_000), ("tests", 18_000)])
def test_the_lines_keep_their_budget(folder: str, budget: int) -> None:
    assert sum(lines(folder).values()) <= budget


def test_no_file_of_the_engine_is_long() -> None:
    assert {name: count for name, count in lines("src/ninefold").items() if count > LONGEST} == {}
