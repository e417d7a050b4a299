import errno
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import nbformat
import pytest
from conftest import Project
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from ninefold import artifacts
from ninefold.cli import app
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


def write(project: Project, *sources: str, name: str = "01_problem") -> Path:
    place = project.folder / f"notebooks/{name}.ipynb"
    place.parent.mkdir(exist_ok=True)
    nbformat.write(tiny(*sources), place)
    return place


def test_a_clean_copy_changes_with_the_source_of_its_notebook_alone(project: Project) -> None:
    place = write(project, "1 + 1")
    runner.refresh_sources()
    before = project.bytes("reports/sources")
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


def test_a_full_disk_is_one_line_and_what_was_written_before_stays_whole(project: Project, monkeypatch: Any) -> None:
    write(project, "1 + 1")
    runner.refresh_sources()
    before = project.bytes("reports/sources")
    write(project, "1 + 2")

    def fill(place: Path, content: bytes) -> None:
        place.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fill)
    done = CliRunner().invoke(app, ["sources"])
    assert re.fullmatch(
        r"error: the disk is full \(.*: '.*/01_problem.ipynb'\); make room and run this again; .*\n", done.output
    )
    assert (done.exit_code, project.bytes("reports/sources")) == (1, before)


@pytest.mark.parametrize("command", [["sources"], ["stage", "problem"], ["site"]])
def test_commands_that_write_outputs_hold_the_lock_of_the_project(
    command: Any, project: Project, monkeypatch: Any
) -> None:
    lock = Mock(side_effect=DataError("locked"))
    monkeypatch.setattr(artifacts, "alone", lock)
    assert "locked" in CliRunner().invoke(app, command).output
    assert lock.call_args.args[0] == project.folder / artifacts.LOCK


def test_the_same_stage_run_twice_gives_the_same_bytes(stage: Project) -> None:
    log = "import sys, time; print(time.time(), file=sys.stderr)"
    write(stage, "from ninefold.params import load\nparams = load(section, overrides)", log, "params.title")
    runner.execute("problem")
    first = stage.bytes("reports/notebooks")
    runner.execute("problem")
    assert stage.bytes("reports/notebooks") == first
    assert b"Returned orders" in first["reports/notebooks/01_problem.ipynb"]


def test_an_own_notebook_runs_under_its_full_name_with_the_params_of_stage_05(stage: Project) -> None:
    write(stage, "print(section, overrides)", name="05b_mine")
    runner.execute("05b_mine", {"bins": 7})
    ran = stage.bytes("reports/notebooks")["reports/notebooks/05b_mine.ipynb"]
    assert b"05b_mine {" in ran
    assert b"'bins': 7" in ran


def test_a_cell_that_raises_is_named_and_its_run_kept_beside_the_earlier_report(stage: Project) -> None:
    write(stage, "print('good')")
    runner.execute("problem")
    before = stage.bytes("reports/notebooks")
    write(stage, "print('so far')", "# why\nraise ValueError('no such thing')", "print('never')")
    says = r"01_problem: cell 4 \('# why'\) raised ValueError: no such thing"
    with pytest.raises(runner.StageFailed, match=says):
        runner.execute("problem")
    assert stage.bytes("reports/notebooks") == before
    kept = nbformat.reads(stage.bytes("reports/failed")["reports/failed/01_problem.ipynb"].decode(), 4)
    assert [output.get("text") for output in kept.cells[-3].outputs] == ["so far\n"]
    assert kept.cells[-1].outputs == []
    assert [cell.id for cell in kept.cells[:4]] == ["cell-00", "cell-01", "injected-parameters", "cell-02"]
    write(stage, "print('good')")
    runner.execute("problem")
    assert not stage.bytes("reports/failed")


def test_no_secret_enters_a_notebook_or_the_error_of_its_run(stage: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t0ken-of-the-shop")
    url = "url = 'postgresql://ann:' + 'top' + 'secret@host/db'"
    shown = "import os; print(url); {'url': url, 'token': os.environ['SHOP_TOKEN']}"
    write(stage, url, shown)
    runner.execute("problem")
    (passed,) = stage.bytes("reports/notebooks").values()
    assert b"postgresql://ann:***@host/db" in passed
    write(stage, url, shown, "raise ValueError(f\"401 for {url}: {os.environ['SHOP_TOKEN']}\")")
    with pytest.raises(runner.StageFailed, match=r"401 for postgresql://ann:\*\*\*@host/db: \*\*\*") as error:
        runner.execute("problem")
    (failed,) = stage.bytes("reports/failed").values()
    for secret in (b"topsecret", b"t0ken-of"):
        assert secret not in passed + failed + str(error.value).encode()


def test_a_wrong_override_and_a_missing_or_broken_notebook_are_named_before_anything_runs(project: Project) -> None:
    place = write(project, "1 + 1")
    with pytest.raises(ParamsError, match=r"problem.titel: unknown key; did you mean 'title'"):
        runner.execute("problem", {"titel": "x"})
    assert not project.bytes("reports/notebooks")
    place.write_text("{}")
    with pytest.raises(DataError, match=r"01_problem.ipynb: not a notebook"):
        runner.read(place)
    place.unlink()
    with pytest.raises(DataError, match=r"01_problem.ipynb: not found"):
        runner.read(place)
