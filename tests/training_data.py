"""Encoded rows as stage 06 writes them, and what stage 07 needs beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from conftest import TASKS, statement

from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan, baselines, make_plan, part_of, split
from ninefold.metrics import Params as MetricsParams
from ninefold.problem import PRIMARY, Problem
from ninefold.training import Params, Task

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
ONE = {task: statement(task, time=None) for task in TASKS}  # a problem of each task, without time


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
    frame = pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.sort(random.integers(0, 100, count)), "D"),
            "customer": random.integers(0, count // 3, count),
            "amount": pd.Series(amount).mask(random.random(count) < 0.05),
            "shop": pd.Series(random.choice(["a", "b", None], count), dtype="str"),
            "street": pd.Series([f"s{number}" for number in random.integers(0, 300, count)], dtype="str"),
            "note": pd.Series([" ".join(random.choice(WORDS, 3)) for _ in range(count)]).mask(
                random.random(count) < 0.1
            ),
            "signup": pd.Series(18_000.0 + random.integers(0, 700, count)).mask(random.random(count) < 0.1),
        }
    )
    frame[ONE[task].target] = target
    return frame


def agree(frame: pd.DataFrame, problem: Problem) -> EvaluationPlan:
    """Return the evaluation plan for these rows."""
    params = MetricsParams(
        primary=PRIMARY[problem.task],
        split={"validation": 0.2, "holdout": 0.25},
        bootstrap={"replicates": 20, "level": 0.95, "seed": 1},
    )
    points = split(frame, params, problem)
    policies, table = baselines(frame, points, problem)
    return make_plan(frame, points, policies, table, params, problem)


def parted(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> dict[str, pd.DataFrame]:
    """Return the rows by part of the split."""
    part = part_of(frame, plan.split, problem)
    return {name: frame[part == name].reset_index(drop=True) for name in ("train", "validation", "holdout")}


def task_of(frame: pd.DataFrame, problem: Problem, params: Params = PARAMS, schema: FeatureSchema = FEW) -> Task:
    """Return what candidates are validated on."""
    plan = agree(frame, problem)
    return Task.of(parted(frame, problem, plan), schema, params, problem, plan)
