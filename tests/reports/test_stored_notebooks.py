"""The style of the nine notebooks as git stores them; that they are clean is shown in ``tests/project``."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from ninefold.params import MODULES

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(place.stem for place in (ROOT / "notebooks").glob("*.ipynb"))


@cache
def stored(name: str) -> NotebookNode:
    """Return a notebook as git's index holds it, or, where it is not there yet, as it lies on disk."""
    path = f"notebooks/{name}.ipynb"
    shown = subprocess.run(["git", "show", f":{path}"], cwd=ROOT, capture_output=True, check=False)
    text = shown.stdout.decode() if shown.returncode == 0 else (ROOT / path).read_text()
    return nbformat.reads(text, as_version=4)


def code(name: str) -> list[str]:
    return [cell.source for cell in stored(name).cells if cell.cell_type == "code"]


def tree(name: str) -> ast.Module:
    return ast.parse("\n".join(code(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_cell_has_no_metadata_but_tags(name: str) -> None:
    for cell in stored(name).cells:
        assert set(cell.metadata) <= {"tags"}, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_notebook_is_written_as_jupyter_saves_it(name: str) -> None:
    """Else the first save would change every line, and an update of the template would take it for edited."""
    text = (ROOT / f"notebooks/{name}.ipynb").read_text()
    assert nbformat.writes(nbformat.reads(text, 4)) + "\n" == text


@pytest.mark.parametrize("name", NAMES)
def test_params_are_loaded_the_same_way_everywhere(name: str) -> None:
    assert code(name)[2].startswith("params = load(section, overrides)\ndisplay.params(params)")


@pytest.mark.parametrize("name", NAMES)
def test_the_title_and_the_question_are_those_of_the_module(name: str) -> None:
    module = importlib.import_module(MODULES[name[3:]])
    title, question, *_ = [line for line in stored(name).cells[0].source.splitlines() if line]
    assert title == f"# {name[:2]} · {name[3:].capitalize()}"
    assert question == f"*{(module.__doc__ or '').splitlines()[0]}*"


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_caption_and_a_meaning(name: str) -> None:
    calls = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    figures = [call for call in calls if ast.unparse(call.func) == "display.figure"]
    for call in figures:
        assert {"caption", "meaning"} <= {keyword.arg for keyword in call.keywords}, ast.unparse(call)


@pytest.mark.parametrize("name", NAMES)
def test_the_place_for_your_analysis_is_marked(name: str) -> None:
    cells = stored(name).cells
    start = next(i for i, cell in enumerate(cells) if cell.source.startswith("## Your analysis"))
    assert "# YOURS:" in cells[start + 1].source


def test_the_example_lives_in_the_params_and_the_users_code_alone() -> None:
    words = re.compile(r"flight|airline|airport", re.IGNORECASE)
    files = (place for place in (ROOT / "src/ninefold").rglob("*") if place.is_file() and place.suffix != ".pyc")
    texts = {str(place.relative_to(ROOT)): place.read_text() for place in files}
    texts |= {name: "\n".join(cell.source for cell in stored(name).cells) for name in NAMES}
    assert not [name for name, text in texts.items() if words.search(text)]
