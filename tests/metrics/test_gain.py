"""The gain is over the best policy without a model, and more confidence lowers its floor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from training_data import ONE, agree, orders, parted

from ninefold.metrics import EvaluationPlan, evaluation
from ninefold.problem import Problem


def plan(problem: Problem) -> EvaluationPlan:
    return EvaluationPlan.model_validate(
        {
            "primary": {"name": "log_loss", "better": "lower"},
            "thresholds": problem.success,
            "split": {"by": "rows"},
            "bootstrap": {"replicates": 40, "level": 0.95, "seed": 1},
            "policies": {"always act": "act", "always wait": "wait"},
            "naive": [0.75, 0.25],
        }
    )


def test_the_gain_is_over_the_best_policy_without_a_model() -> None:
    target = np.array([1, 0, 0, 0, 1, 0, 0, 0] * 10)
    predicted = pd.DataFrame({"probability": np.where(target == 1, 0.9, 0.1)})
    frame = pd.DataFrame({"placed": pd.Series(np.repeat(pd.date_range("2020-01-01", periods=10), 8))})
    problem = statement()
    evaluated = (target, predicted, frame, problem, plan(problem))
    results = evaluation.evaluate(*evaluated)
    # Foresight pays -1 for each of 20 events; always acting and always waiting both pay -80 for 80 rows.
    assert results["payoff"]["value"] == pytest.approx(-0.25)
    assert results["gain"]["value"] == pytest.approx(0.75)
    assert results["observed"]["value"] == 0.25
    naive = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert results["improvement"]["value"] == pytest.approx(naive + np.log(0.9))
    assert evaluation.gain_floor(*evaluated) == pytest.approx(0.75)  # every day is the same


def test_more_confidence_lowers_the_floor() -> None:
    random, problem, floors = np.random.default_rng(2), statement(), []
    target = random.integers(0, 2, 600)
    predicted = pd.DataFrame({"probability": np.clip(target * 0.3 + random.random(600) * 0.6, 0, 1)})
    frame = pd.DataFrame({"placed": pd.Series(np.repeat(pd.date_range("2020-01-01", periods=30), 20))})
    for confidence in (0.8, 0.9, 0.99):
        asked = problem.changed(success=problem.success.model_copy(update={"confidence": confidence}))
        floors.append(evaluation.gain_floor(target, predicted, frame, asked, plan(problem)))
    assert floors[0] > floors[1] > floors[2]


@pytest.mark.parametrize("task", TASKS)
def test_the_naive_prediction_improves_on_itself_by_nothing(task: str) -> None:
    problem, frame = ONE[task], orders(task)
    agreed = agree(frame, problem)
    holdout = parted(frame, problem, agreed)["holdout"]
    naive = evaluation.naive_forecast(len(holdout), problem, agreed)
    results = evaluation.evaluate(holdout[problem.target].to_numpy(), naive, holdout, problem, agreed)
    assert [results["improvement"][end] for end in ("low", "high")] == pytest.approx([0, 0])
