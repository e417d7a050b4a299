"""The whole pipeline, run once in a copy of the repository, and every baseline that only a whole run can keep."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from browser import in_jupyterlab
from clones import Clone, copy_of_the_repository

from ninefold.params import parse
from ninefold.stages import STAGES, label
from ninefold.testing import project as testing
from ninefold.testing import sampling

ENGINE = "src/ninefold"
VOLATILE = ("reports/timings/", "reports/sources/", "src/", "params.yaml", "dvc.yaml")


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a clone in which the pipeline has run, from nothing."""
    clone = copy_of_the_repository(tmp_path_factory.mktemp("clone"))
    done = clone.run("dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    clone.changed = clone.run("git", "status", "--porcelain").stdout.splitlines()
    clone.commit("as it ran")
    return clone


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a copy of the project in which the pipeline has run on a sample, as the project's own test lets it."""
    folder = tmp_path_factory.mktemp("light") / "project"
    sampling.copy_project(folder, sampling.choose(8_000))
    assert testing.repro(folder) == ""
    return Clone(folder)


@pytest.fixture
def broken(pipeline: Clone) -> Any:
    """Return the clone for breaking something in it; all is fixed afterwards."""
    yield pipeline
    pipeline.restore()
    pipeline.run("dvc", "checkout", "--force")


@pytest.mark.parametrize("run", ["pipeline", "light"])
def test_nine_gates_pass_and_ten_pages_exist(request: pytest.FixtureRequest, run: str) -> None:
    clone = request.getfixturevalue(run)
    for slug in STAGES:
        gate = clone.json(f"reports/metrics/{label(slug)}.json")["gate"]
        assert gate["passed"], slug
        assert {"name", "value", "limit", "passed"} <= set(gate["checks"][0])
        assert (clone.folder / f"reports/{label(slug)}.html").stat().st_size > 10_000
    assert (clone.folder / "reports/index.html").exists()


def test_the_model_is_worth_deploying_as_dvc_shows_its_metrics(pipeline: Clone) -> None:
    files = next(iter(json.loads(pipeline.run("dvc", "metrics", "show", "--json").stdout).values()))["data"]
    found = files["reports/metrics/07_training.json"]["data"]["metrics"]
    auc, policies = found["holdout"]["roc_auc"], found["policies"]
    assert auc["value"] >= 0.67
    assert auc["low"] < auc["value"] < auc["high"]
    trivial = [values["payoff"] for name, values in policies.items() if name.startswith("always ")]
    assert len(trivial) == 2
    assert policies["follow the model"]["payoff"] > max(trivial)


def test_december_is_alerted_in_its_first_week_and_the_weeks_before_are_quiet(pipeline: Clone) -> None:
    found = pipeline.json("reports/metrics/09_monitoring.json")["metrics"]["periods"]
    alerts = {period["period"]: period["alerts"] for period in found}
    assert len(alerts) == 13
    assert {"error", "calibration"} <= set(alerts["2013-12-03"])
    assert sum(bool(each) for period, each in alerts.items() if period < "2013-12") <= 1
    told = pipeline.json("data/monitoring/strategies.json")["strategies"]
    retrained = {each["strategy"]: each["retrainings"] > 0 for each in told}
    assert retrained == {"never": False, "every month": True, "when the monitor says so": True}
    assert all(each["gain_low"] <= each["gain"] <= each["gain_high"] for each in told)
    assert "retraining every month gains" in (pipeline.folder / "reports/09_monitoring.html").read_text()


def test_the_run_leaves_git_clean_but_for_the_lock_and_a_second_one_runs_no_stage(pipeline: Clone) -> None:
    assert [line for line in pipeline.changed if not line.endswith("dvc.lock")] == []
    again = pipeline.run("dvc", "repro")
    assert again.returncode == 0
    assert ("Running stage" in again.stdout, "up to date" in again.stdout) == (False, True)


def test_the_run_leaves_a_warehouse_that_answers_in_sql(pipeline: Clone) -> None:
    assert (pipeline.folder / "data/warehouse.duckdb").exists()
    rows = pipeline.json("reports/metrics/03_processing.json")["metrics"]["rows"]
    tables = " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS rows FROM lake.{name}" for name in rows)
    done = pipeline.run("ninefold", "sql", "--csv", tables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["name,rows", *(f"{name},{count}" for name, count in rows.items())]
    asked = "SELECT value FROM metrics.figures WHERE stage = 'training' AND name = 'holdout.roc_auc.value'"
    auc = pipeline.json("reports/metrics/07_training.json")["metrics"]["holdout"]["roc_auc"]["value"]
    assert pipeline.run("ninefold", "sql", "--csv", asked).stdout.split() == ["value", str(auc)]
    periods = "SELECT DISTINCT period FROM predictions.answers ORDER BY 1"
    found = pipeline.run("ninefold", "sql", "--csv", periods).stdout.split()
    assert (found[:2], found[-2:], len(found)) == (["period", "2013-10-01"], ["2013-12-24", "holdout"], 15)


@pytest.mark.parametrize("slug", STAGES)
def test_a_stage_is_hermetic_and_repeats(light: Clone, slug: str, tmp_path: Path) -> None:
    """In a folder with only its declared dependencies and params, a stage makes its declared outputs, bit for bit.

    Nbval runs the executed notebook again there, and compares every output, plots included. That the whole example
    repeats is seen where it runs: its metrics are those in git.
    """
    stage = yaml.safe_load((light.folder / "dvc.yaml").read_text())["stages"][slug]
    declared = {
        key: [next(iter(e)) if isinstance(e, dict) else e for e in stage.get(key, [])] for key in stage if key != "cmd"
    }
    declared["deps"] = [name.replace("${ninefold.code}", ENGINE) for name in declared["deps"]]
    for name in [*declared["deps"], "ninefold.yaml", "dvc.yaml", "src/project/__init__.py"]:
        source, target = light.folder / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == ENGINE:
            target.symlink_to(source)  # compiled already
        elif source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    params = parse((light.folder / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(json.dumps(chosen(params, declared["params"])))
    notebook = f"reports/notebooks/{label(slug)}.ipynb"
    assert any(cell.get("outputs") for cell in nbformat.read(light.folder / notebook, 4).cells)
    (tmp_path / notebook).parent.mkdir(parents=True)
    shutil.copy2(light.folder / notebook, tmp_path / notebook)
    before = contents(tmp_path).keys()
    nbval = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", notebook)
    done = Clone(tmp_path).run(*nbval)
    assert done.returncode == 0, done.stdout[-3000:]
    outputs = [*declared["outs"], *declared["metrics"], *declared.get("plots", [])]
    written = {name for name in contents(tmp_path).keys() - before if "__pycache__" not in name}
    assert {name for name in written if not name.startswith((*VOLATILE, *outputs))} == set()
    for output in outputs:
        assert contents(tmp_path / output) == contents(light.folder / output), output


def test_a_failing_gate_stops_the_pipeline_and_its_report_says_why(broken: Clone) -> None:
    lake = contents(broken.folder / "data/lake")
    record = (broken.folder / "reports/metrics/03_processing.json").read_text()
    broken.edit_params("max_quarantined: 0.001", "max_quarantined: 0.0")
    done = broken.run("dvc", "repro")
    assert done.returncode != 0
    assert "Running stage 'metrics'" not in done.stdout
    assert "quarantined share: found" in done.stderr
    page, index = (broken.folder / f"reports/{name}.html" for name in ("03_processing", "index"))
    assert "quarantined share" in page.read_text()
    assert "failed" in index.read_text().lower()
    assert contents(broken.folder / "data/lake") == lake
    assert (broken.folder / "reports/metrics/03_processing.json").read_text() == record


def test_a_corrupted_raw_file_is_named_and_nothing_is_lost(broken: Clone) -> None:
    victim = broken.folder / "data/raw/weather/2013-03.parquet"
    lake = contents(broken.folder / "data/lake")
    victim.write_bytes(victim.read_bytes()[:1000])
    for command in (["dvc", "repro"], ["ninefold", "stage", "processing"]):
        done = broken.run(*command)
        assert done.returncode != 0
        assert "data/raw/weather/2013-03.parquet: " in done.stderr
        assert "dvc checkout" in done.stderr
        assert "Traceback" not in done.stderr
    assert contents(broken.folder / "data/lake") == lake


def test_in_jupyterlab_code_reloads_and_neither_a_what_if_nor_outputs_make_a_stage_run(
    light: Clone, tmp_path: Path
) -> None:
    clone = Clone(shutil.copytree(light.folder, tmp_path / "my project"))
    figures, before = clone.folder / "src/project/figures/exploration.py", contents(clone.folder / "data")
    with in_jupyterlab(clone.folder, "notebooks/05_exploration.ipynb", tmp_path) as lab:

        def run(cell: int, overrides: str = "{}") -> str:
            lab(f'shared.cells[2].setSource(`section = "exploration"\\noverrides = {overrides}`)')
            for each in (2, 4, cell):
                lab(f"(view.activeCellIndex = {each}, run('notebook:run-cell'))")
            return lab(f"JSON.stringify(shared.cells[{cell}].getOutputs())")

        def out_of_date() -> list[str]:
            lab("run('docmanager:save')")
            assert clone.run("ninefold", "sources").returncode == 0
            return list(json.loads(clone.run("dvc", "status", "--json").stdout))

        assert lab("run('notebook:run-all-cells')") is True
        aligned = "getComputedStyle(cell).textAlign === (cell.matches('.number') ? 'right' : 'left')"
        assert lab(f"[...document.querySelectorAll('.nf-table :is(th, td)')].every(cell => {aligned})")
        drawing = lab("shared.cells.findIndex(cell => cell.getSource().includes('plot_course('))")
        figure, code = run(drawing), figures.read_text()
        assert (figure.count("<img"), "image/png" in figure) == (1, False)  # once
        for title, same in (("Did the outcome change", False), ("Does the outcome change", True)):
            figures.write_text(code.replace("Does the outcome change", title))
            assert (run(drawing) == figure) is same
        assert "overrides in the cell tagged parameters: exploration.bin: unknown key" in run(4, '{"bin": 3}')
        assert "What-if: overrides {'bins': 3}; results go to data/whatif" in run(4, '{"bins": 3}')
        assert lab("run('notebook:run-all-cells')") is True
        after = contents(clone.folder / "data")
        assert {name: after[name] for name in after if not name.startswith("whatif/")} == before != after
        assert run(4)
        assert out_of_date() == ["sources"]
        lab("void shared.insertCell(5, {cell_type: 'code', source: 'pass'})")
        assert out_of_date() == ["sources", "exploration"]
        ready = "then(it => it.context.ready.then(() => it.sessionContext.ready)).then(() => true)"
        assert lab(f"run('docmanager:open', {{path: 'notebooks/07_training.ipynb'}}).{ready}") is True
        place = "shared.cells.findIndex(cell => cell.getSource().includes('{}'))"
        model, board = (
            lab(place.format(text)) for text in ("# models[", "leaderboard(forecasts")
        )  # a model of one's own
        lab(f"shared.cells[{model}].setSource(shared.cells[{model}].getSource().replace(/# (from|models)/g, '$1'))")
        assert lab(f"(view.activeCellIndex = {board + 1}, run('notebook:run-all-above'))") is True
        assert "neighbors" in lab(f"JSON.stringify(shared.cells[{board}].getOutputs())")


def test_a_changed_param_concerns_only_its_stage_and_what_follows(broken: Clone) -> None:
    broken.edit_params("      over: [2h, 6h]", "      over: [3h, 6h]")
    changed = json.loads(broken.run("dvc", "status", "--json").stdout)
    assert "features" in changed
    assert not set(changed) & set(STAGES[: STAGES.index("features")])


def chosen(params: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Return some params alone, such as the section ``training``, or ``engine.backend`` of another."""
    found: dict[str, Any] = {}
    for path in paths:
        *sections, key = path.split(".")
        inner, outer = found, params
        for section in sections:
            inner, outer = inner.setdefault(section, {}), outer[section]
        inner[key] = outer[key]
    return found


def contents(place: Path) -> dict[str, bytes]:
    assert place.exists(), place
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    return {str(file.relative_to(place)): file.read_bytes() for file in files}
