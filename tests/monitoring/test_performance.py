"""Worth before labels: estimates come true while relations hold, know their own error, and cannot see what changed."""

import numpy as np
import pytest
from conftest import TASKS, statement
from monitoring_rows import rows, table

from ninefold.metrics import EvaluationPlan, against_baseline, scores
from ninefold.monitoring import performance, period
from ninefold.monitoring.period import Rows
from ninefold.problem import PRIMARY, decisions


def predicted(task: str, seed: int, days: int = 30, daily: int = 200, **planted: float) -> Rows:
    return rows(table(task, days, seed, daily, 0.2, **planted), task)


def estimate(holdout: Rows, now: Rows, task: str) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return the estimates for a period without its outcomes, and what these are worth."""
    problem = statement(task)
    plan = EvaluationPlan.model_construct(policies=decisions.policies(holdout.target, problem))
    blind = now._replace(target=now.target * np.nan)
    model, best, _ = against_baseline(now.target, now.predicted, problem, plan)
    true = {"payoff": model.mean(), "gain": (model - best).mean()}
    true |= {"outcome": decisions.event(now.target, problem).mean()}
    true |= scores.task_scores(now.target, now.predicted, problem)
    return performance.estimate(blind, holdout, problem, plan, replicates=40), true


@pytest.mark.parametrize("task", TASKS)
def test_what_is_estimated_comes_true_also_where_predictions_moved(task: str) -> None:
    inside = []
    for seed in range(2, 7):
        found, true = estimate(predicted(task, seed), predicted(task, 50 + seed, days=7, inputs=0.5), task)
        assert set(found) >= {"payoff", "gain", "outcome", PRIMARY[task]}
        inside += [figure["low"] <= true[name] <= figure["high"] for name, figure in found.items()]
    assert np.mean(inside) > 0.8


@pytest.mark.parametrize("off", [0.0, 0.5])
@pytest.mark.parametrize("task", TASKS)
def test_an_estimate_is_near_the_truth_also_where_predictions_are_wrong_on_the_holdout(task: str, off: float) -> None:
    holdout, now = (predicted(task, seed, 60, outcomes=off, inputs=inputs) for seed, inputs in ((1, 0.0), (2, 0.4)))
    found, true = estimate(holdout, now, task)
    for name, figure in found.items():
        assert figure["value"] == pytest.approx(true[name], rel=0.06, abs=0.03), name
        assert figure["low"] < figure["value"] < figure["high"]
    wrong = abs(found["outcome"]["value"] - decisions.expected(now.predicted, statement(task)).mean())
    assert (wrong > 0.05) == bool(off)


def test_relations_that_changed_are_not_seen() -> None:
    found, true = estimate(predicted("binary", 1), predicted("binary", 2, outcomes=1.5), "binary")
    assert true["log_loss"] > found["log_loss"]["high"] + 0.05


def test_the_same_rows_give_the_same_estimate_and_none_give_none() -> None:
    holdout, now, problem = predicted("binary", 1), predicted("binary", 2), statement("binary")
    assert estimate(holdout, now, "binary") == estimate(holdout, now, "binary")
    plan = EvaluationPlan.model_construct()
    assert performance.estimate(period.take(now, np.arange(0)), holdout, problem, plan) == {}
