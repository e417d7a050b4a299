"""The nine notebooks as they are stored; that they are clean is shown in ``tests/project``."""

import importlib
import re
from pathlib import Path

import nbformat
import pytest

from ninefold.params import MODULES

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(place.stem for place in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_written_as_jupyter_saves_it_and_asks_the_question_of_its_module(name: str) -> None:
    """Else the first save would change every line, and an update of the template would take it for edited."""
    text = (ROOT / f"notebooks/{name}.ipynb").read_text()
    notebook = nbformat.reads(text, 4)
    assert nbformat.writes(notebook) + "\n" == text
    assert not [cell.id for cell in notebook.cells if set(cell.metadata) - {"tags"}]
    module = importlib.import_module(MODULES[name[3:]])
    title, question, *_ = [line for line in notebook.cells[0].source.splitlines() if line]
    assert title == f"# {name[:2]} · {name[3:].capitalize()}"
    assert question == f"*{(module.__doc__ or '').splitlines()[0]}*"


def test_the_example_lives_in_the_params_and_the_users_code_alone() -> None:
    words = re.compile(r"flight|airline|airport", re.IGNORECASE)
    places = [place for place in (ROOT / "src/ninefold").rglob("*") if place.is_file() and place.suffix != ".pyc"]
    places += (ROOT / "notebooks").glob("*.ipynb")
    assert not [place.name for place in places if words.search(place.read_text())]
