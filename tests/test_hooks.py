"""What the user's code does decides on what is made: a change of it is seen, in whatever file of the project it is."""

import importlib
from pathlib import Path

import pytest

from ninefold import hooks

FILES = {
    "__init__.py": "",
    "processing.py": "from functools import partial\n\nfrom project import rates\nfrom project.deep.er import name\n\n\n"
    "def refine(tables):\n    return tables\n\n\npart = partial(refine, 1)\n",
    "rates.py": "from . import tax\n",
    "tax.py": "VAT = 0.2\n",
    "deep/__init__.py": "",
    "deep/er.py": "from ..sums import total\nimport project.rates\n\nname = 'x'\n",
    "sums.py": "def total():\n    return 0\n",
    "training.py": "OTHER = 1\n",
}


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_imports: None) -> Path:
    """Put a project of several files in the place of ``src/project``; return its folder."""
    for name, text in FILES.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "project"


def digest() -> tuple[str, str]:
    found = hooks.project("processing", "refine", lambda *_: None)
    return hooks.digest(found), hooks.digest(importlib.import_module("project.processing").part)


@pytest.mark.parametrize("name", [name for name in (*FILES, "new.py") if "__init__" not in name])
def test_a_change_of_what_a_function_uses_is_seen_and_of_nothing_else(code: Path, name: str) -> None:
    """Else a new model would make the lake again, and a stage depend on files that it does not declare."""
    before = digest()
    (code / name).write_text(FILES.get(name, "") + "# changed\n")
    assert set(digest()) & set(before) == (set(before) if name in ("training.py", "new.py") else set())
