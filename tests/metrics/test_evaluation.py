"""What a forecast is worth: its gain over baseline policies, curves with intervals, and other prices."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from sklearn.dummy import DummyRegressor

from ninefold.metrics import Evaluation, EvaluationPlan
from ninefold.problem import decisions
from ninefold.training import WithInterval

PLAN = EvaluationPlan(
    primary={"name": "log_loss", "better": "lower"},
    thresholds={"scores": {}, "min_payoff_gain": 0, "confidence": 0.9},
    split={"by": "time", "validation": "2020-02-01", "holdout": "2020-02-20"},
    level=0.9,
    naive=[0.75, 0.25],
)
POLICIES = PLAN.model_copy(update={"policies": {"always act": "act", "always wait": "wait"}})


def right(task: str, count: int = 4000, days: int = 40) -> tuple[Evaluation, Any]:
    """Return outcomes that come as a forecast says, and its model."""
    random, problem, model = np.random.default_rng(5), statement(task), None
    frame = pd.DataFrame({"placed": pd.date_range("2020-01-01", periods=days).repeat(count // days)})
    if task == "regression":
        expected = random.uniform(0, 100, count)
        model = WithInterval(DummyRegressor(), 0.9, **problem.costs.model_dump())
        target = expected + random.normal(0, 10, count)
        model.fit_errors(expected, target)
        predicted = model.around(expected)
    else:
        p = random.dirichlet(np.ones(len(problem.classes)), count)
        target = (random.random((count, 1)) > p.cumsum(axis=1)).sum(axis=1)
        names = decisions.forecast_columns(problem)
        predicted = pd.DataFrame(p[:, -len(names) :], columns=names)
    policies = decisions.policies(target, problem)
    plan = PLAN.model_copy(update={"policies": policies, "best_baseline": next(iter(policies))})
    return Evaluation(target, predicted, frame, problem, plan), model


@pytest.mark.parametrize("task", TASKS)
def test_prices_are_as_stated_halved_and_half_as_high_again_and_actions_that_follow_pay_more(task: str) -> None:
    evaluation, model = right(task)
    target, predicted, _, problem, plan = evaluation
    table = evaluation.price_moves(model)
    paid = decisions.payoff(decisions.decide(predicted, problem)["action"], target, problem).mean()
    best = decisions.policy_payoffs(target, problem, plan.policies).drop(columns=decisions.FORESIGHT).mean().max()
    first, moved = table.iloc[0], table.iloc[1:]
    names = ["over", "under"] if task == "regression" else list(problem.payoffs)
    wanted = [["current", 1.0], *([name, by] for name in names for by in (0.5, 1.5))]
    assert table[["price", "factor"]].to_numpy().tolist() == wanted
    assert first[["payoff", "unmoved", "gain"]].tolist() == pytest.approx([paid, paid, paid - best])
    assert first["low"] < first["gain"] < first["high"]
    # The forecast is right, so whoever follows the moved prices earns at least as much, but for luck.
    assert (moved["payoff"] >= moved["unmoved"] - 0.01 * moved["unmoved"].abs()).all()
    assert (moved["payoff"] > moved["unmoved"]).any()
    assert (moved["gain"] > 0).all()


def test_a_price_is_moved_for_each_outcome() -> None:
    target, predicted = np.array([1, 0] * 50), pd.DataFrame({"probability": [1.0, 0.0] * 50})
    frame = pd.DataFrame({"placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(100), "D")})
    evaluation = Evaluation(target, predicted, frame, statement(), POLICIES)
    table = evaluation.price_moves(None).set_index(["price", "factor"])
    # Foresight acts on events (-1) and waits otherwise (0); acting always pays -1, waiting always -4 on half the rows.
    for place, paid in {("current", 1.0): 0.5, ("act", 0.5): 0.25, ("act", 1.5): 0.75}.items():
        assert table.loc[place, ["payoff", "gain"]].tolist() == [-paid, paid]
    free = statement(payoffs={"act": {"positive": 2, "negative": -1}, "wait": {"positive": 0, "negative": 0}})
    table = evaluation._replace(problem=free).price_moves(None)
    assert table["price"].tolist() == ["current", "act", "act"], "a price of nothing does not change"


@pytest.mark.parametrize("task", TASKS)
def test_calibration_has_intervals_that_hold_a_right_forecast(task: str) -> None:
    evaluation, _ = right(task)

    def held(forecast: pd.DataFrame) -> int:
        curve = evaluation._replace(predicted=forecast).calibration()
        assert len(curve) == 10
        assert curve["observed"].between(curve["low"], curve["high"]).all()
        return curve["predicted"].between(curve["low"], curve["high"]).sum()

    assert held(evaluation.predicted) >= 7
    if task != "multiclass":  # of which the rest of the probability would be another class's
        assert held(evaluation.predicted * 0.5) <= 3


def test_precision_ends_at_the_share_of_events() -> None:
    evaluation, model = right("binary")
    curve, target = evaluation.curves(model)["precision"], evaluation.target
    assert (len(curve) <= 201, curve["recall"].is_monotonic_increasing) == (True, True)
    assert curve["precision"].iloc[-1] == pytest.approx(target.mean())
    assert curve["precision"].iloc[5:50].mean() > target.mean()


def test_the_gain_is_over_the_best_policy_without_a_model() -> None:
    target = np.array([1, 0, 0, 0, 1, 0, 0, 0] * 10)
    predicted = pd.DataFrame({"probability": np.where(target == 1, 0.9, 0.1)})
    frame = pd.DataFrame({"placed": pd.date_range("2020-01-01", periods=10).repeat(8)})
    evaluation = Evaluation(target, predicted, frame, statement(), POLICIES)
    results = evaluation.results()
    naive = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    # Foresight pays -1 for each of 20 events; always acting and always waiting both pay -80 for 80 rows.
    wanted = {"payoff": -0.25, "gain": 0.75, "observed": 0.25, "improvement": naive + np.log(0.9)}
    assert {name: results[name]["value"] for name in wanted} == pytest.approx(wanted)
    assert evaluation.gain_floor() == pytest.approx(0.75)  # every day is the same
    noisy = evaluation._replace(predicted=pd.DataFrame({"probability": np.random.default_rng(2).random(80)}))
    asked = [statement(success={"scores": {}, "min_payoff_gain": 0, "confidence": share}) for share in (0.8, 0.99)]
    less, more = (noisy._replace(problem=problem).gain_floor() for problem in asked)
    assert more < less
