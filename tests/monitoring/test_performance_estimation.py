"""Worth before labels: estimates come true while relations hold, know their own error, and cannot see what changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement

from ninefold.metrics import EvaluationPlan, evaluation, scores
from ninefold.monitoring import performance_estimation, period
from ninefold.monitoring.period import Rows
from ninefold.problem import decisions
from ninefold.problem.metric_names import PRIMARY


def forecasts(task: str, seed: int, rows: int = 6000, days: int = 30, off: float = 0.0, moved: float = 0.0) -> Rows:
    """Return forecasts that are right but for `off`; days differ, and `moved` shifts what is forecast."""
    random, problem = np.random.default_rng(seed), statement(task)
    day = np.sort(random.integers(0, days, rows))
    signal = random.normal(moved, 1, rows)
    level = 0.2 * random.normal(size=days)[day]
    if task == "regression":
        said = 20 + 3 * signal
        target = said + level + off + random.normal(0, 1 + (signal > 0), rows)  # larger predictions are less sure
        low, high = said - 4, said + 4
        predicted = pd.DataFrame({"prediction": said, "low": low, "high": high, "quantile": said + 1, "loss": 2.0})
        return Rows(pd.DataFrame(index=range(rows)), predicted, target, day)

    def odds(by: Any) -> np.ndarray:
        values = np.exp(np.column_stack([0 * signal, 1.5 * signal - 0.5 + by, -signal]))[:, : len(problem.classes)]
        return values / values.sum(axis=1, keepdims=True)

    target = (random.random(rows)[:, None] > odds(level + off).cumsum(axis=1)).sum(axis=1).astype("float64")
    names = decisions.forecast_columns(problem)
    return Rows(pd.DataFrame(index=range(rows)), pd.DataFrame(odds(0)[:, -len(names) :], columns=names), target, day)


def estimate(holdout: Rows, now: Rows, task: str) -> dict[str, dict[str, float]]:
    problem = statement(task)
    plan = EvaluationPlan.model_construct(policies=decisions.policies(holdout.target, problem))
    blind = now._replace(target=np.full(len(now.target), np.nan))
    return performance_estimation.estimate(
        blind, performance_estimation.learn(holdout, problem), problem, plan, replicates=40
    )


def real(now: Rows, task: str, holdout: Rows) -> dict[str, float]:
    problem = statement(task)
    plan = EvaluationPlan.model_construct(policies=decisions.policies(holdout.target, problem))
    model, bar, _ = evaluation.against_baseline(now.target, now.predicted, problem, plan)
    found = scores.task_scores(now.target, now.predicted, problem)
    return {
        **found,
        "payoff": model.mean(),
        "gain": (model - bar).mean(),
        "outcome": decisions.event(now.target, problem).mean(),
    }


@pytest.mark.parametrize("task", TASKS)
def test_what_is_estimated_comes_true_also_where_forecasts_moved(task: str) -> None:
    inside, seeds = [], 5
    for seed in range(seeds):
        holdout, now = forecasts(task, seed), forecasts(task, 50 + seed, rows=1500, days=7, moved=0.5)
        found, true = estimate(holdout, now, task), real(now, task, holdout)
        assert set(found) >= {"payoff", "gain", "outcome", PRIMARY[task]}
        inside += [figure["low"] <= true[name] <= figure["high"] for name, figure in found.items()]
    assert np.mean(inside) > 0.8


@pytest.mark.parametrize("task", TASKS)
def test_an_estimate_is_near_the_truth_of_many_rows(task: str) -> None:
    holdout, now = forecasts(task, 1, rows=12_000), forecasts(task, 2, rows=12_000, moved=0.4)
    found, true = estimate(holdout, now, task), real(now, task, holdout)
    for name, figure in found.items():
        assert figure["value"] == pytest.approx(true[name], rel=0.06, abs=0.03), name
        assert figure["low"] < figure["value"] < figure["high"]


@pytest.mark.parametrize("task", TASKS)
def test_forecasts_that_are_wrong_on_the_holdout_are_calibrated(task: str) -> None:
    holdout, now = forecasts(task, 1, off=1.0), forecasts(task, 2, off=1.0)
    found, true = estimate(holdout, now, task), real(now, task, holdout)
    assert found["outcome"]["low"] < true["outcome"] < found["outcome"]["high"]
    assert abs(found["outcome"]["value"] - decisions.expected(now.predicted, statement(task)).mean()) > 0.05


def test_a_period_of_few_days_is_less_sure() -> None:
    holdout = forecasts("binary", 1)
    width = {
        days: (found := estimate(holdout, forecasts("binary", 2, rows=3000, days=days), "binary")["log_loss"])["high"]
        - found["low"]
        for days in (3, 30)
    }
    assert width[3] > 1.5 * width[30]


def test_what_it_cannot_see_is_said_and_true() -> None:
    """Relations that changed leave the estimate where it was: it assumes that they did not."""
    holdout, now = forecasts("binary", 1), forecasts("binary", 2, off=1.5)
    found, true = estimate(holdout, now, "binary"), real(now, "binary", holdout)
    assert true["log_loss"] > found["log_loss"]["high"] + 0.05
    assert "concept shift" in (performance_estimation.estimate.__doc__ or "")


def test_the_same_rows_give_the_same_estimate_and_none_give_none() -> None:
    holdout, now = forecasts("binary", 1), forecasts("binary", 2)
    assert estimate(holdout, now, "binary") == estimate(holdout, now, "binary")
    assert estimate(holdout, period.take(now, np.zeros(len(now.target), dtype="bool")), "binary") == {}
