"""Encoded rows as stage 06 writes them, what stage 07 needs beside them, and a search whose best options are known."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement

from ninefold.features import FeatureSchema
from ninefold.metrics import Evaluation, EvaluationPlan, make_plan, part_of, split
from ninefold.metrics import Params as MetricsParams
from ninefold.problem import PRIMARY, Problem
from ninefold.training import Calibrator, Chosen, Folds, Params, candidates, cross_validation, selection, tuning
from ninefold.training.models import Range
from ninefold.training.stage import LockedHoldout

SCHEMA = FeatureSchema(
    all=["amount", "shop", "street", "note", "signup"],
    numeric=["amount"],
    categorical=["shop", "street"],
    high_cardinality=["street"],
    text=["note"],
    dates=["signup"],
)
FEW = FeatureSchema(all=["amount", "shop"], numeric=["amount"], categorical=["shop"])
MODELS: dict[str, dict[str, Any]] = {
    "line": {"model": "linear", "rare": 5},
    "boosting": {"model": "gradient_boosting", "max_iter": 10, "max_leaf_nodes": 6},
    "forest": {"model": "extra_trees", "n_estimators": 10, "min_samples_leaf": 3},
    "bagging": {"model": "random_forest", "n_estimators": 10, "min_samples_leaf": 3},
    "light": {"model": "lightgbm", "max_iter": 10, "max_leaf_nodes": 6},
}
PARAMS = Params(seed=1, folds=2, candidates=MODELS, importance_rows=500)
WORDS = np.array(["red", "green", "slow", "fast", "new", "old", "small", "big"])
HOW: list[dict[str, Any]] = [{}, {"time": None}, {"time": None, "group": ["customer"]}]
SPLITS = pytest.mark.parametrize("changes", HOW, ids=["time", "rows", "group"])
ONE = {task: statement(task, time=None) for task in TASKS}  # a problem of each task, without time
START: dict[str, dict[str, Any]] = {"hill": {"x": 3.0, "steps": 50, "kept": 7}, "flat": {"any": 1}}
SPACES = {"hill": {"x": Range(-4.0, 4.0), "steps": Range(1, 100, log=True)}, "flat": {}}


def orders(task: str, count: int = 600, signal: float = 2.0, seed: int = 4) -> pd.DataFrame:
    """Return encoded rows: gaps, rare and unknown categories, words, days; one number predicts the target."""
    random = np.random.default_rng(seed)
    amount = random.normal(size=count)
    score = signal * amount + random.logistic(size=count)
    target: Any = (score > 1).astype("int64")
    if task == "multiclass":
        target = (score > -1).astype("int64") + (score > 1)
    if task == "regression":
        target = np.round(100 + 10 * score)  # whole numbers, as counts are
    day, customer = np.sort(random.integers(0, 100, count)), random.integers(0, count // 3, count)
    amounts, shop = pd.Series(amount).mask(random.random(count) < 0.05), random.choice(["a", "b", None], count)
    street = [f"s{number}" for number in random.integers(0, 300, count)]
    note = pd.Series([" ".join(random.choice(WORDS, 3)) for _ in range(count)]).mask(random.random(count) < 0.1)
    signup = pd.Series(18_000.0 + random.integers(0, 700, count)).mask(random.random(count) < 0.1)
    frame = pd.DataFrame({"id": np.arange(count), "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(day, "D")})
    frame = frame.assign(customer=customer, amount=amounts, shop=pd.Series(shop, dtype="str"))
    frame = frame.assign(street=pd.Series(street, dtype="str"), note=note, signup=signup)
    return frame.assign(**{ONE[task].target: target})


def agree(frame: pd.DataFrame, problem: Problem) -> EvaluationPlan:
    """Return the evaluation plan for these rows."""
    params = MetricsParams(primary=PRIMARY[problem.task], split={"validation": 0.2, "holdout": 0.25}, level=0.95)
    points = split(frame, params, problem)
    return make_plan(frame, points, params, problem)


def parted(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> dict[str, pd.DataFrame]:
    """Return the rows by part of the split."""
    part = part_of(frame, plan.split, problem)
    return {name: frame[part == name].reset_index(drop=True) for name in ("train", "validation", "holdout")}


def folds_of(
    frame: pd.DataFrame, problem: Problem, params: Params = PARAMS, schema: FeatureSchema = FEW
) -> tuple[Folds, EvaluationPlan]:
    """Return what candidates are validated on, and the plan."""
    plan = agree(frame, problem)
    return Folds(parted(frame, problem, plan), schema, params, problem), plan


def run(
    frame: pd.DataFrame, problem: Problem, params: Params = PARAMS, schema: FeatureSchema = FEW, **given: Any
) -> Any:
    """Do what the notebook of the stage does, in its order; return what it holds at its end.

    `given` may hold a plan, other rows of the holdout, or the name of the chosen model.
    """
    plan = given.get("plan") or agree(frame, problem)
    parts = parted(frame, problem, plan)
    locked = LockedHoldout(given.get("holdout", parts.pop("holdout")))
    folds = Folds(parts, schema, params, problem)
    estimators = candidates(params, schema, problem, folds)
    forecasts = folds.validate(estimators)
    estimators, forecasts = selection.blend(estimators, folds.unseen, forecasts, problem, params.blend)
    compared = selection.compare(folds.unseen, forecasts, problem, plan)
    name = given.get("name") or selection.choose(compared)
    recent, latest = folds.newest(forecasts[name])
    calibrator = Calibrator(latest, recent, problem, params.interval)
    method = calibrator.choose(calibrator.compare(), params.calibration)
    fitted = cross_validation.fit(estimators[name], folds.rows, schema, problem)
    model = calibrator.calibrate(fitted, method)
    holdout = locked.open(model)
    target, predicted = holdout[problem.target].to_numpy(), cross_validation.predict(model, holdout, schema, problem)
    evaluation = Evaluation(target, predicted, holdout, problem, plan)
    chosen = Chosen(name, method, evaluation.results(), evaluation.gain_floor())
    return SimpleNamespace(**locals())


def distance(name: str, options: dict[str, Any], rung: int, seconds: float = 0, calls: str | None = None) -> float:
    """Return how far a point is from the best one, blurred before the last rung; leave a trace in `calls`."""
    time.sleep(seconds)
    if calls:
        with open(calls, "a", encoding="utf-8") as stream:
            stream.write(f"{name} {options} {rung}\n")
    return 5.0 if name == "flat" else abs(options["x"] - 1) + abs(options["steps"] - 10) / 50 + 0.01 * (2 - rung)


def trials_of(
    memory: Path, budget: int | str = 20, rungs: int = 1, seed: int = 1, score: Any = distance
) -> list[tuning.Trial]:
    """Return the trials of a search for the point of least distance."""
    return list(tuning.search(tuning.Space(START, SPACES, rungs, seed), score, budget, memory))
