from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from conftest import Project
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ninefold.errors import DataError, ParamsError
from ninefold.reports import runner

SRC = Path(__file__).resolve().parents[2] / "src"
PARAMETERS = 'section = "problem"\noverrides = {}'


def tiny(*sources: str) -> NotebookNode:
    """Return a notebook with a title, a cell tagged ``parameters``, and the code."""
    cells = [new_markdown_cell("# A stage", id="title")]
    cells.append(new_code_cell(PARAMETERS, id="parameters", metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source, id=f"code-{index}") for index, source in enumerate(sources)]
    return new_notebook(cells=cells, metadata=runner.METADATA)


@pytest.fixture
def stage(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Let the kernel find the package, wherever the test stands."""
    monkeypatch.setenv("PYTHONPATH", str(SRC))
    return project


def write(project: Project, *sources: str) -> None:
    place = project.folder / "notebooks/01_problem.ipynb"
    place.parent.mkdir(exist_ok=True)
    nbformat.write(tiny(*sources), place)


def test_a_clean_copy_changes_with_the_source_of_its_notebook_alone(project: Project) -> None:
    write(project, "1 + 1")
    runner.refresh_sources()
    before = project.bytes("reports/sources")
    place = project.folder / "notebooks/01_problem.ipynb"
    ran = nbformat.read(place, 4)
    ran.cells[2].outputs = [new_output("execute_result", data={"text/plain": "2"}, execution_count=3)]
    ran.metadata["language_info"]["version"] = "3.99"
    nbformat.write(ran, place)
    runner.refresh_sources()
    assert project.bytes("reports/sources") == before
    write(project, "1 + 2")
    runner.refresh_sources()
    assert project.bytes("reports/sources") != before
    place.unlink()
    runner.refresh_sources()
    assert not project.bytes("reports/sources")


def test_stripping_removes_all_that_differs_between_equal_runs() -> None:
    def run(number: int) -> NotebookNode:
        injected = new_code_cell("overrides = {}", id=f"random{number}", metadata={"tags": ["injected-parameters"]})
        notice = new_markdown_cell("An error", id=f"n{number}", metadata={"tags": ["papermill-error-cell-tag"]})
        ran = tiny("work()")
        ran.cells = [notice, *ran.cells[:2], injected, *ran.cells[2:]]
        cell = ran.cells[-1]
        cell.execution_count = 3
        cell.metadata = {"papermill": {"duration": number}, "execution": {"iopub.execute_input": f"2020-01-0{number}"}}
        cell.outputs = [
            new_output("stream", name="stderr", text=f"{number} s"),
            new_output("display_data", data={"text/plain": "42"}, metadata={"at": number}),
        ]
        ran.metadata["papermill"] = {"output_path": f"/tmp/{number}", "start_time": str(number)}
        return ran

    first, second = (runner.strip(run(number)) for number in (1, 2))
    assert first == second
    assert first.cells[-1].execution_count == 3
    assert [output.data for output in first.cells[-1].outputs] == [{"text/plain": "42"}]
    assert [cell.get("id") for cell in first.cells] == ["title", "parameters", "injected-parameters", "code-0"]


def test_the_same_stage_run_twice_gives_the_same_bytes(stage: Project) -> None:
    log = "import sys, time; print(time.time(), file=sys.stderr)"
    write(stage, "from ninefold.params import load\nparams = load(section, overrides)", log, "params.title")
    runs = []
    for _ in range(2):
        runner.execute("problem")
        runs.append(stage.bytes("reports/notebooks"))
    assert runs[0] == runs[1]
    assert b"Returned orders" in runs[0]["reports/notebooks/01_problem.ipynb"]


def test_an_own_notebook_runs_under_its_full_name_with_the_params_of_stage_05(stage: Project) -> None:
    place = stage.folder / "notebooks/05b_mine.ipynb"
    place.parent.mkdir(exist_ok=True)
    nbformat.write(tiny("print(section, overrides)"), place)
    runner.execute("05b_mine", {"bins": 7})
    ran = stage.bytes("reports/notebooks")["reports/notebooks/05b_mine.ipynb"]
    assert b"05b_mine {" in ran
    assert b"'bins': 7" in ran


def test_a_wrong_override_is_refused_before_anything_runs(project: Project) -> None:
    write(project, "1 + 1")
    with pytest.raises(ParamsError, match=r"problem.titel: unknown key; did you mean 'title'"):
        runner.execute("problem", {"titel": "x"})
    assert not project.bytes("reports/notebooks")


def test_a_cell_that_raises_is_named_and_its_run_kept_beside_the_earlier_report(stage: Project) -> None:
    write(stage, "print('good')")
    runner.execute("problem")
    before = stage.bytes("reports/notebooks")
    write(stage, "print('so far')", "# why\nraise ValueError('no such thing')", "print('never')")
    with pytest.raises(runner.StageFailed) as error:
        runner.execute("problem")
    assert "01_problem: cell 4 ('# why') raised ValueError: no such thing" in str(error.value)
    assert stage.bytes("reports/notebooks") == before
    kept = json.loads(stage.bytes("reports/failed")["reports/failed/01_problem.ipynb"])
    printed = [output["text"] for cell in kept["cells"] for output in cell.get("outputs", []) if "text" in output]
    assert ["so far\n"] in [text if isinstance(text, list) else [text] for text in printed]
    assert not any("never" in str(text) for text in printed)
    write(stage, "print('good')")
    runner.execute("problem")
    assert not stage.bytes("reports/failed")


def test_a_missing_or_broken_notebook_is_named(project: Project) -> None:
    place = project.folder / "notebooks/01_problem.ipynb"
    with pytest.raises(DataError, match=r"01_problem.ipynb: not found"):
        runner.read(place)
    place.parent.mkdir()
    place.write_text("{}")
    with pytest.raises(DataError, match=r"01_problem.ipynb: not a notebook"):
        runner.read(place)
