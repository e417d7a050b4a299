"""Compare stage 07 with LightGBM tuned by FLAML, given as much time, on the same features and the same split.

The example's departures (run the pipeline first), and four tables of scikit-learn. FLAML is no dependency of the project:
`pip install 'flaml[automl]'`. Both see training and validation rows, and are holdouts on the same holdout.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from common import HERE, machine, merge_rows, read_rows, write_section
from sklearn import datasets

from ninefold import metrics, training
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan
from ninefold.params import load
from ninefold.problem import PRIMARY, RANKING, Params, Problem, decisions, title
from ninefold.training import calibration, cross_validation, selection, tuning

Score = Callable[[np.ndarray], float]
RESULTS = HERE / "quality.csv"
TABLES = ("flights", "breast_cancer", "diabetes", "wine", "digits")
LEVEL = 0.95
CANDIDATES = {  # every kind of model, with the options that it has by itself: the search has to find better ones
    "linear": {"model": "linear"},
    "forest": {"model": "extra_trees"},
    "boosting": {"model": "gradient_boosting"},
}


class Task(NamedTuple):
    """Rows in their parts, and what is to be predicted."""

    parts: dict[str, pd.DataFrame]
    schema: FeatureSchema
    problem: Problem
    plan: EvaluationPlan
    params: training.Params


def flights(budget: str) -> Task:
    """Return the example as the pipeline left it, with its own candidates and options."""
    problem, plan = Problem.load(), EvaluationPlan.load()
    params = load("training", {"search": {"budget": budget}})
    return Task(training.read(problem, plan), FeatureSchema.load(), problem, plan, params)


def of_scikit_learn(name: str, budget: str, repeat: int) -> Task:
    """Return a table of scikit-learn, split by the hash of a key that differs from repeat to repeat."""
    table = getattr(datasets, f"load_{name}")(as_frame=True).frame
    names = [f"f{number}" for number in range(table.shape[1] - 1)]
    frame = table.set_axis([*names, "target"], axis=1).assign(id=np.arange(len(table)) + 100_000 * repeat)
    classes = [str(value) for value in sorted(frame["target"].unique())] if name != "diabetes" else None
    problem = _problem(name, classes)
    frame["target"] = frame["target"].astype("float64" if classes is None else "int64")
    settings = metrics.Params(
        primary=PRIMARY[problem.task],
        split={"validation": 0.15, "holdout": 0.25, "min_rarest": 1},
        level=LEVEL,
    )
    points = metrics.split(frame, settings, problem)
    policies, baselines = metrics.baselines(frame, points, problem)
    plan = metrics.make_plan(frame, points, policies, baselines, settings, problem)
    part = metrics.part_of(frame, points, problem)
    schema = FeatureSchema(all=names, numeric=names)
    asked = {"seed": repeat, "candidates": CANDIDATES, "search": {"budget": budget}, "importance_rows": 100}
    parts = {one: frame[part == one].reset_index(drop=True) for one in metrics.PARTS}
    return Task(parts, schema, problem, plan, training.Params.model_validate(asked))


def ours(task: Task) -> tuple[pd.DataFrame, str]:
    """Return the forecast of the holdout by what the notebook of stage 07 does, and the name of the model."""
    parts, schema, problem, plan, params = task
    opened = {name: rows for name, rows in parts.items() if name != "holdout"}
    tuned, trials = training.tune(training.Task.of(opened, schema, params, problem, plan))
    candidates = training.candidates(tuned, schema, problem)
    rows, forecasts = training.validate(candidates, opened, schema, params, problem)
    candidates, forecasts = selection.blend(candidates, rows, forecasts, params.blend, problem)
    name = selection.choose(selection.compare(rows, forecasts, problem, plan))
    recent, unseen = training.newest(rows, forecasts[name], problem)
    method = calibration.choose(
        calibration.compare(unseen, recent, params.interval, problem), recent, params.calibration, problem
    )
    fitted = training.finish(candidates[name], opened, schema, problem)
    model = calibration.adjust(fitted, method, unseen, recent, params.interval, problem)
    return cross_validation.predict(model, parts["holdout"], schema, problem), f"{name}, {len(trials)} trials"


def theirs(task: Task, seconds: float, seed: int) -> tuple[pd.DataFrame, str]:
    """Return the forecast of the holdout by LightGBM, tuned by FLAML for so many seconds; by time where there is time."""
    from flaml import AutoML

    logging.getLogger("flaml").setLevel(logging.ERROR)
    parts, schema, problem, plan, _ = task
    encoded = {name: rows[schema.all].copy() for name, rows in parts.items()}
    for name in schema.categorical:
        known = pd.concat([encoded["train"][name], encoded["validation"][name]]).dropna().unique()
        for frame in encoded.values():
            frame[name] = pd.Categorical(frame[name], categories=sorted(known))
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


def compare(name: str, budget: str, repeats: int) -> list[dict[str, Any]]:
    """Return the figures of one table: of each metric the value of both, and their difference with its interval."""
    descriptions, seconds, holdouts = [], [], []
    for repeat in range(1 if name == "flights" else repeats):
        task = flights(budget) if name == "flights" else of_scikit_learn(name, budget, repeat)
        with tempfile.TemporaryDirectory() as memory:
            tuning.MEMORY, tuning.TRIALS = f"{memory}/search", f"{memory}/dvclive"
            started = time.perf_counter()
            mine, what = ours(task)
            seconds.append(time.perf_counter() - started)
        other, how = theirs(task, seconds[-1], repeat)
        descriptions.append((what, how))
        holdouts.append((task.parts["holdout"], mine, other))
        print(f"{name} {repeat}: {what}; FLAML {how}; {seconds[-1]:.0f} s each", file=sys.stderr, flush=True)
    rows, mine, other = (pd.concat(each, ignore_index=True) for each in zip(*holdouts, strict=True))
    # A row may be in the holdouts of several repeats: these are one entity.
    clustered = task.problem if name == "flights" else task.problem.changed(group=["id"])
    rows = rows if name == "flights" else rows.assign(id=rows["id"] % 100_000)
    target, both = rows[task.problem.target].to_numpy(), {"ours": mine, "flaml": other}
    figures = {
        metric: [metrics.scorer(metric, target, each, task.problem) for each in both.values()]
        for metric in (PRIMARY[task.problem.task], RANKING[task.problem.task])
    }
    if name == "flights":
        actions = [decisions.decide(each, task.problem)["action"] for each in both.values()]
        figures["payoff"] = [partial(_mean, decisions.payoff(each, target, task.problem)) for each in actions]
    found = [_row(metric, *pair, rows, clustered) for metric, pair in figures.items()]
    shared = {"rows": len(rows), "seconds": f"{np.mean(seconds):.0f}", "model": descriptions[0][0]}
    return [{"table": name, **row, **shared} for row in found]


def report(rows: list[dict[str, str]]) -> list[str]:
    """Return the section of the report."""
    better = {"log_loss": "lower", "rmse": "lower"}
    lines = [
        "## As good as AutoML",
        "",
        "Stage 07 (search, folds, blend, choice, calibration) against LightGBM tuned by FLAML, given the same time on the same",
        f"features and rows; evaluated on a holdout that neither saw. Intervals ({LEVEL:.0%}) are of the difference, by days",
        "of the departures, and rows of the other tables, whose holdouts are those of several splits. A difference above",
        "zero is in our favour.",
        "",
        f"Machine: {machine()}. Versions: {_versions()}.",
        "",
        "| table | rows | seconds, each | metric | ours | FLAML | difference | interval | |",
        "|---|---:|---:|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        low, high = float(row["low"]), float(row["high"])
        said = "better" if low > 0 else "worse" if high < 0 else "no difference"
        which = f"{title(row['metric'])} ({better.get(row['metric'], 'higher')} is better)"
        lines.append(
            f"| {row['table']} | {int(row['rows']):,} | {row['seconds']} | {which} | {float(row['ours']):.4g} | "
            f"{float(row['flaml']):.4g} | {float(row['difference']):+.3g} | {low:+.3g} to {high:+.3g} | {said} |"
        )
    worse = [f"{row['table']} ({title(row['metric'])})" for row in rows if float(row["high"]) < 0]
    lines += [
        "",
        f"Significantly worse: {', '.join(worse) or 'nowhere'}. Four small tables and one large one are no proof for yours.",
        "",
        "Made by `python benchmarks/quality.py --help`, from [quality.csv](quality.csv).",
    ]
    return lines


def main() -> None:
    """Measure what is asked for, and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(TABLES), help="of " + ", ".join(TABLES))
    parser.add_argument("--budget", default="1m", help="time of the search, such as 1m (all of it takes longer)")
    parser.add_argument("--repeats", type=int, default=3, help="splits of each table of scikit-learn")
    options = parser.parse_args()
    if importlib.util.find_spec("flaml") is None:
        raise SystemExit("error: FLAML is not installed; pip install 'flaml[automl]'")
    warnings.filterwarnings("ignore")
    for name in options.tables.split(","):
        if name not in TABLES:
            raise SystemExit(f"error: --tables: found {name}, expected of {', '.join(TABLES)}")
        rows = compare(name, options.budget, options.repeats)
        merge_rows(RESULTS, rows, ["table", "metric"], lambda row: (TABLES.index(row["table"]), row["metric"]))
    write_section("quality", report(read_rows(RESULTS)))


def _problem(name: str, classes: list[str] | None) -> Problem:
    task = "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"
    values: dict[str, Any] = {
        "title": name, "question": "Which?", "unit": "row", "units": "rows", "table": name, "key": ["id"],
        "target": "target", "task": task, "owner": "us", "action_meaning": "do", "payoff_unit": "unit",
        "uses": {"descriptive": "What?", "predictive": "Which?", "prescriptive": "What to do?"},
        "success": {"scores": {}, "min_payoff_gain": 0, "confidence": 0.9}, "risks": ["none"],
    }  # fmt: skip
    if classes is None:
        values["costs"] = {"over": 1, "under": 1}
    elif task == "binary":
        values |= {"positive": "is one", "payoffs": {"one": {"positive": 1, "negative": -1}, "other": {"positive": -1, "negative": 1}}}  # fmt: skip
    else:
        values |= {
            "classes": classes, "positive": "is one",
            "payoffs": {one: {other: float(one == other) for other in classes} for one in classes},
        }  # fmt: skip
    return Problem.of(Params.model_validate(values))


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(values, weights=weight))


def _row(metric: str, ours: Score, flaml: Score, rows: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    sign, every = -1 if metric in ("log_loss", "rmse") else 1, np.ones(len(rows))
    difference = metrics.intervals(lambda weight: {metric: sign * (ours(weight) - flaml(weight))}, rows, problem, LEVEL)
    low, high = (difference[metric][end] for end in ("low", "high"))
    return {
        "metric": metric, "ours": f"{ours(every):.6g}", "flaml": f"{flaml(every):.6g}",
        "difference": f"{difference[metric]['value']:.6g}", "low": f"{low:.6g}", "high": f"{high:.6g}",
    }  # fmt: skip


def _versions() -> str:
    import flaml
    import lightgbm
    import sklearn

    return f"scikit-learn {sklearn.__version__}, FLAML {flaml.__version__}, LightGBM {lightgbm.__version__}"


if __name__ == "__main__":
    main()
