"""The notebooks as git stores them: source without outputs, one cell of parameters, the gate at the end."""

import ast
import subprocess
from functools import cache

import nbformat
import pytest
from nbformat import NotebookNode

from ninefold import artifacts
from ninefold.reports import runner
from ninefold.stages import STAGES, label

NAMES = [*map(label, STAGES), *runner.own()]


@cache
def stored(name: str) -> NotebookNode:
    """Return a notebook as git's index holds it, or, where git does not hold it yet, the file."""
    path = f"notebooks/{name}.ipynb"
    shown = subprocess.run(["git", "show", f":./{path}"], cwd=artifacts.path("."), capture_output=True, check=False)
    text = shown.stdout.decode() if shown.returncode == 0 else artifacts.path(path).read_text(encoding="utf-8")
    return nbformat.reads(text, as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs(name: str) -> None:
    cells = [cell for cell in stored(name).cells if cell.cell_type == "code"]
    executed = [cell.id for cell in cells if cell.outputs or cell.execution_count is not None]
    remedy = "run `make setup`, which installs git's filter, and `git add --renormalize notebooks`"
    assert not executed, f"notebooks/{name}.ipynb holds outputs of {', '.join(executed)}; {remedy}"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_valid_and_its_cells_have_different_ids(name: str) -> None:
    nbformat.validate(stored(name))
    ids = [cell.id for cell in stored(name).cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_one_cell_is_tagged_parameters_and_holds_literals(name: str) -> None:
    tagged = [cell.source for cell in stored(name).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    values = {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(tagged[0]).body}
    assert values == {"section": name if name in runner.own() else name[3:], "overrides": {}}


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_is_the_last_cell(name: str) -> None:
    cells = stored(name).cells
    assert cells[-1].cell_type == "code"
    assert ast.unparse(ast.parse(cells[-1].source).body[-1]).startswith("gate.close(section, ")
    assert sum("gate.close(" in cell.source for cell in cells if cell.cell_type == "code") == 1
