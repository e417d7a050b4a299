"""From a table that nobody has prepared to a running project: `ninefold init`, then all nine stages, or a refusal that helps.

The projects are copies as a user makes them: Copier copies the template, and the engine is installed from its commit.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from clones import Clone, copied, lighten, set_up, template
from sklearn.datasets import load_wine

from ninefold.stages import STAGES, label

RANDOM = np.random.default_rng(7)
Copy = Callable[[Path], Clone]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Return what makes copies of the template in which one installed engine runs."""
    origin = template(tmp_path_factory.mktemp("template"))
    first = copied(origin.folder, tmp_path_factory.mktemp("first") / "project")
    done = set_up(first)
    assert done.returncode == 0, done.stdout + done.stderr

    def made(folder: Path) -> Clone:
        shutil.copytree(first.folder, folder, ignore=shutil.ignore_patterns(".venv"))
        return Clone(folder, first.environment)

    return made


def begun(copy: Copy, folder: Path, table: pd.DataFrame, *options: str, **how: object) -> Clone:
    """Return a project that was begun with a table, its state before and after committed."""
    project, name = copy(folder / "project"), "orders.csv"
    table.to_csv(folder / name, index=False, **how)
    done = project.run("ninefold", "init", str(folder / name), *options, "--yes")
    assert done.returncode == 0, done.stderr
    project.changed = project.run("git", "status", "--porcelain", "-uall").stdout.splitlines()
    lighten(project.folder)
    project.commit("begin")
    return project


def customers(rows: int) -> pd.DataFrame:
    """Return a table whose names and values are as people make them."""
    words = ["the", "parcel", "came", "to", "my", "house", "and", "it", "was", "with", "box", "again", "today"]
    bad, good = ["broken", "late", "refund", "angry"], ["great", "lovely", "perfect", "happy"]
    upset = RANDOM.random(rows) < 0.3
    ends = [RANDOM.choice(bad if mood ^ (RANDOM.random() < 0.2) else good) for mood in upset]
    comments = [" ".join([*RANDOM.choice(words, 12), end]) for end in ends]
    days = pd.Timestamp("2023-01-05") + pd.to_timedelta(RANDOM.integers(0, 400 * 24, rows), unit="h")
    return pd.DataFrame({
        "select": RANDOM.choice(["x", "y"], rows), "Größe (cm)": RANDOM.normal(170, 10, rows).round(1),
        "a.b": RANDOM.normal(size=rows).round(3),
        "rare": np.where(RANDOM.random(rows) < 0.9, np.nan, RANDOM.normal(size=rows)),
        "user": RANDOM.choice([f"u{number}" for number in range(rows // 2)], rows),
        "vip?": RANDOM.choice(["Y", "N"], rows), "same": 1, "comment": comments,
        "created at": days.strftime("%d/%m/%Y %H:%M"), "returned": np.where(upset, "yes", "no"),
    })  # fmt: skip


def run(project: Clone) -> None:
    done = project.run("dvc", "repro")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    for slug in STAGES:
        assert project.json(f"reports/metrics/{label(slug)}.json")["gate"]["passed"], slug
        assert (project.folder / f"reports/{label(slug)}.html").stat().st_size > 10_000


def test_text_dates_gaps_and_odd_names_go_through_all_nine_stages_once_a_leak_is_named_and_a_month_is_let_in(
    copy: Copy, tmp_path: Path
) -> None:
    table = customers(2500)
    table["refund.code"] = np.where(table["returned"] == "yes", "R1", "-0")
    project = begun(copy, tmp_path, table, "--target", "returned")
    modules = [f"src/project/{name}.py" for name in ("__init__", "collection", "processing", "features", "training")]
    sources = ["data/source/orders.csv.dvc", "data/source/.gitignore"]
    notebooks = [f"notebooks/{label(slug)}.ipynb" for slug in STAGES]
    assert {line[3:] for line in project.changed} <= {"params.yaml", *modules, *notebooks, *sources}
    place = project.folder / "params.yaml"
    params = yaml.safe_load(place.read_text())
    params["collection"]["as_of"] = "2023-12-31"  # what comes after is replayed as if it arrived now
    place.write_text(yaml.safe_dump(params, sort_keys=False))
    done = project.run("dvc", "repro")
    assert (done.returncode != 0, "Running stage 'features'" in done.stdout) == (True, False)
    assert "columns that leak the outcome: found refund.code" in done.stderr
    assert "ninefold drop refund.code --why" in done.stderr
    assert "refund.code" in (project.folder / "reports/index.html").read_text()
    params["exploration"]["known_later"] = {"refund.code": "written once it came back"}
    params["features"]["categorical"].remove("refund.code")
    place.write_text(yaml.safe_dump(params, sort_keys=False))
    run(project)
    found = project.json("reports/metrics/07_training.json")["metrics"]["holdout"]
    assert found["roc_auc"]["low"] > 0.6
    assert not any("flight" in page.read_text().lower() for page in (project.folder / "reports").glob("*.html"))
    periods = project.json("reports/metrics/09_monitoring.json")["metrics"]["periods"]
    assert [period["period"] for period in periods] == ["2024-01", "2024-02"]
    assert "Running stage" not in project.run("dvc", "repro").stdout
    retrain(project)


def retrain(project: Clone) -> None:
    """Put the model into production, and let a month in; the challenger is promoted, or all is as it was."""
    project.run("git", "branch", "-M", "main")
    project.commit("a first model")
    assert project.run("ninefold", "promote").returncode == 0
    before, bundle = project.run("git", "rev-parse", "main").stdout, project.json("models/bundle/bundle.json")
    done = project.run("ninefold", "retrain")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    assert re.search(r"champion v0.0.1: gain .* holdout rows of \d+ days, 2023-\d\d-\d\d to 2024-01-31", done.stdout)
    kept = "does not significantly beat" in done.stdout
    branch = "retrain/2024-01-31" if kept else "main"
    assert (project.run("git", "rev-parse", "main").stdout == before) == kept
    assert project.run("git", "rev-parse", f"{branch}^").stdout == before
    collected = project.run("git", "show", f"{branch}:reports/metrics/02_collection.json").stdout
    assert json.loads(collected)["metrics"]["as_of"] == "2024-01-31"
    assert project.run("git", "branch", "--show-current").stdout == "main\n"
    assert project.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in project.run("dvc", "status").stdout
    assert (project.json("models/bundle/bundle.json") == bundle) == kept
    fetched = project.run("dvc", "get", "-q", ".", "models/bundle", "--rev", branch, "-o", "../challenger")
    assert fetched.returncode == 0, fetched.stderr
    assert project.json("../challenger/bundle.json") != bundle


def test_a_quantity_is_predicted_with_intervals(copy: Copy, tmp_path: Path) -> None:
    rows = 1500
    table = pd.DataFrame({"area": RANDOM.uniform(20, 200, rows).round(1), "city": RANDOM.choice(["a", "b", "c"], rows)})
    table["price"] = (3 * table["area"] + 50 * (table["city"] == "a") + RANDOM.normal(0, 25, rows)).round(2)
    project = begun(copy, tmp_path, table, "--target", "price", sep=";", decimal=",")
    run(project)
    found = project.json("reports/metrics/07_training.json")["metrics"]["holdout"]
    assert found["r2"]["value"] > 0.9
    assert 0.84 < found["covered"]["value"] < 0.96
    table.drop(columns="price").to_csv(tmp_path / "new.csv", index=False)  # as a caller would send it: features alone
    scored = project.run("ninefold", "predict", str(tmp_path / "new.csv"), str(tmp_path / "scored.csv"))
    assert scored.returncode == 0, scored.stderr
    answers = pd.read_csv(tmp_path / "scored.csv")
    assert (answers["low"] < answers["high"]).all()
    assert np.corrcoef(answers["prediction"], table["price"])[0, 1] > 0.95


def test_several_classes_without_time_and_few_rows_then_a_model_that_learns_nothing(copy: Copy, tmp_path: Path) -> None:
    wine = load_wine(as_frame=True)
    table = wine.data.assign(kind=wine.target.map({0: "barolo", 1: "grignolino", 2: "barbera"}))
    project = begun(copy, tmp_path, table, "--target", "kind")
    stopped = project.run("dvc", "repro")  # a score so good is a question, which the user answers
    names = " ".join(re.findall("ninefold keep (.+) --why", stopped.stderr))  # on unseen rows, on the holdout
    kept = project.run("ninefold", "keep", *sorted(set(names.split())), "--why", "measured in the bottle")
    assert (stopped.returncode != 0, kept.returncode) == (True, 0), kept.stderr
    project.commit("keep")
    run(project)
    assert project.json("reports/metrics/07_training.json")["metrics"]["holdout"]["accuracy"]["value"] > 0.9
    place = project.folder / "params.yaml"
    params = yaml.safe_load(place.read_text())
    params["training"]["candidates"] = {"linear": {"model": "linear", "C": 1e-9}}
    place.write_text(yaml.safe_dump(params, sort_keys=False))
    done = project.run("dvc", "repro")
    assert re.findall("Running stage '(training|deployment)'", done.stdout) == ["training"]
    assert (done.returncode != 0, "Nothing significantly beats the baseline" in done.stderr) == (True, True)
    for page in ("07_training", "index"):
        assert "Nothing significantly beats the baseline" in (project.folder / f"reports/{page}.html").read_text()
