"""Notebooks of one's own: numbered and named, of the plan anatomy, and running at once on any lake."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import Project, statement

from ninefold import artifacts, metrics, pin
from ninefold.errors import DataError, NinefoldError
from ninefold.metrics import EvaluationPlan
from ninefold.reports import own_notebook, runner
from ninefold.stages import label

ROOT = Path(__file__).resolve().parents[2]
SPLIT = {"validation": 0.2, "holdout": 0.2}
PLAN = metrics.Params.model_validate({"primary": "rmse", "split": SPLIT, "level": 0.9})


@pytest.fixture
def shelf(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The tiny project with a pipeline, and the nine notebooks' names taken."""
    shutil.copy2(ROOT / "dvc.yaml", project.folder / "dvc.yaml")
    for slug in ("exploration", "features"):
        artifacts.write_text(own_notebook.TEMPLATE.read_text(), project.folder / f"notebooks/{label(slug)}.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return project


def lay_lake(project: Project, task: str, time: str | None) -> None:
    """Write a lake of 60 rows with names that mean something to Markdown, and what stages 01, 04 and 05 say of it."""
    problem = statement(task, table="things", key=["id"], time=time, target="out`come", units="things")
    target = [problem.classes[i % len(problem.classes)] if problem.classes else i * 1.5 for i in range(60)]
    rows = {"id": range(60), "cost $ a*b|c": [f"<{i % 4}>" for i in range(60)], "out`come": target, "empty": None}
    frame = pd.DataFrame(rows)
    if time:
        frame[time] = pd.date_range("2020-01-01", periods=60, freq="6h")
    project.lake("things", frame)
    split = metrics.split(metrics.labelled(problem, []), PLAN, problem)
    primary = {"name": "log_loss", "better": "lower"}
    problem.save()
    EvaluationPlan(primary=primary, thresholds=problem.success, split=split, level=PLAN.level).save()
    artifacts.publish()
    artifacts.write_json({}, project.folder / "data/exploration.json")


def test_a_notebook_gets_the_next_number_and_a_name_from_its_title(shelf: Project) -> None:
    first = own_notebook.add("Seasonality by region")
    second = own_notebook.add("  Größe &\n Preis: ΑΒΓ 季節 №2! ")
    assert first.name == "05b_seasonality_by_region.ipynb"
    assert second.name == "05c_grosse_preis_αβγ_季節_no2.ipynb"
    assert runner.own() == [first.stem, second.stem]
    first.unlink()
    assert own_notebook.add("many words " * 30).name == f"05d_{'many_words_' * 5}many.ipynb"
    assert len(own_notebook.add("季" * 300).name.encode()) <= 200


def test_numbers_go_on_after_z_and_sort_in_their_order(shelf: Project) -> None:
    names = [own_notebook.add(f"title {count}").stem for count in range(30)]
    assert names == sorted(names)
    assert [names[24][:5], names[25][:5], names[26][:5]] == ["05z_t", "05zb_", "05zc_"]
    assert all(label(name) == name for name in names)


@pytest.mark.parametrize(("title", "message"), [
    (" \n", "holds no letter and no digit to name a file by; say in a few words what it is about, as in: ninefold"),
    ("!? — …", "holds no letter and no digit to name a file by"),
    ("seasonality!", "notebooks/05b_seasonality.ipynb is there already"),
    ("Féatures", "notebooks/06_features.ipynb is there already; open that one, or choose another title"),
])  # fmt: skip
def test_a_title_that_names_no_new_file_is_refused(shelf: Project, title: Any, message: Any) -> None:
    own_notebook.add("Seasonality")
    before = shelf.bytes("notebooks")
    with pytest.raises(NinefoldError, match=re.escape(message)):
        own_notebook.add(title)
    assert shelf.bytes("notebooks") == before


def test_it_has_the_anatomy_of_the_others(shelf: Project) -> None:
    place = own_notebook.add("A *first* look")
    notebook = nbformat.read(place, 4)
    assert nbformat.writes(notebook) + "\n" == place.read_text()  # as Jupyter saves it
    cells = notebook.cells
    headings = [line for cell in cells for line in cell.source.splitlines() if line.startswith("## ")]
    assert cells[0].source.startswith("# 05b · A \\*first\\* look\n\n*")
    assert cells[2].metadata["tags"] == ["parameters"]
    assert cells[2].source == 'section = "05b_a_first_look"\noverrides = {}'
    assert headings[0] == "## Inputs"
    assert headings[-3:] == ["## Your analysis", "## Conclusion", "## Gate"]
    assert any("# YOURS:" in cell.source for cell in cells if cell.cell_type == "code")
    assert not [cell.id for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize(("task", "time"), [("binary", "when"), ("multiclass", None), ("regression", "when")])
def test_it_runs_at_once_on_any_task_with_and_without_time(shelf: Project, task: str, time: str | None) -> None:
    lay_lake(shelf, task, time)
    name = own_notebook.add("First look").stem
    runner.refresh_sources()
    runner.execute(name)
    record = json.loads((shelf.folder / f"reports/metrics/{name}.json").read_text())
    assert record["gate"]["passed"]
    assert "cost $ a*b|c" in record["conclusion"]
    text = (shelf.folder / f"reports/notebooks/{name}.ipynb").read_text()
    assert "05_exploration" in text
    assert '"ename"' not in text


@pytest.mark.parametrize("text", ["own: [exploration]", "own: [[]]", "- a", "own: [", "own: 7"])
def test_a_damaged_list_is_named_and_an_empty_one_is_none(shelf: Project, text: str) -> None:
    own_notebook.add("Gone").unlink()
    with pytest.raises(DataError, match=r"own.yaml: lists 05b_gone, but notebooks/05b_gone.ipynb is not there; delete"):
        runner.refresh_sources()
    for empty in ("", "own:\n", "own: []\n"):
        (shelf.folder / "notebooks/own.yaml").write_text(empty)
        assert runner.own() == []
    (shelf.folder / "notebooks/own.yaml").write_text(text)
    with pytest.raises(DataError, match=r"notebooks/own.yaml: (found|not readable)"):
        runner.own()


def test_every_own_notebook_is_a_stage_of_the_pipeline() -> None:
    assert (ROOT / runner.OWN).read_text() == own_notebook.HEAD + "own: []\n"
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stage = pipeline["stages"]["own"]
    assert pipeline["vars"] == [runner.OWN, pin.FILE]
    assert (stage["foreach"], stage["do"]["cmd"]) == ("${own}", "ninefold stage ${item}")
    assert set(stage["do"]["deps"]) >= {"reports/sources/${item}.ipynb", "data/lake", "${ninefold.code}"}
    assert runner.OWN in pipeline["stages"]["site"]["deps"]
