"""Figures and sentences of stage 07 hold for every task, and for names that mean something to matplotlib."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project
from odd_names import ALL, ODD, drawn, rows, sound
from sklearn.dummy import DummyRegressor

from ninefold import metrics, training
from ninefold.features import FeatureSchema
from ninefold.metrics import evaluation
from ninefold.problem import decisions
from ninefold.training import WithInterval, calibration, cross_validation, figures, search, selection, tuning
from ninefold.training import selection_figures as choice
from ninefold.training.holdout import LockedHoldout

SCHEMA = FeatureSchema(all=[ODD["amount"], ODD["shop"]], numeric=[ODD["amount"]], categorical=[ODD["shop"]])
PARAMS = training.Params(seed=1, candidates={"a_line": {"model": "linear"}}, importance_rows=100)
TRIALS = tuning.table(
    [search.Trial("a_line", {"C": 0.1}, [0.5], 1.0), search.Trial("a_line", {"C": 3.0}, [0.4], 1.0)], 1, 1
)


@pytest.mark.parametrize(("task", "time"), ALL)
def test_the_model_is_drawn_and_told(project: Project, task: str, time: str | None) -> None:
    frame, problem, plan = rows(task, time)
    part = metrics.part_of(frame, plan.split, problem)
    parts = {name: frame[part == name].reset_index(drop=True) for name in metrics.PARTS}
    candidates = training.candidates(PARAMS, SCHEMA, problem)
    chosen, forecasts = training.validate(candidates, parts, SCHEMA, PARAMS, problem)
    compared = selection.compare(chosen, forecasts, problem, plan)
    table = calibration.compare(forecasts["a_line"], chosen, 0.9, problem)
    method = calibration.choose(table, chosen, "auto", problem)
    fitted = training.finish(candidates["a_line"], parts, SCHEMA, problem)
    model = calibration.adjust(fitted, method, forecasts["a_line"], chosen, 0.9, problem)
    whole = training.Task.of(parts, SCHEMA, PARAMS, problem, plan)
    learning = training.learning_curve(candidates["a_line"], chosen, forecasts["a_line"], whole)
    locked = LockedHoldout(parts.pop("holdout"))
    holdout = locked.open(model)
    target, predicted = holdout[problem.target].to_numpy(), cross_validation.predict(model, holdout, SCHEMA, problem)
    results = evaluation.evaluate(target, predicted, holdout, problem, plan)
    policies = evaluation.policies(target, predicted, holdout, problem, plan)
    curves = evaluation.curves(target, predicted, holdout, model, problem, plan)
    prices = evaluation.price_moves(target, predicted, holdout, model, problem, plan)
    importance = training.importance(model, holdout, SCHEMA, problem, PARAMS)
    assert all(np.isfinite(curve.to_numpy()).all() for curve in curves.values())
    drawn(figures.plot_calibration(curves["calibration"], predicted, problem))
    drawn(figures.plot_policies(policies, problem))
    drawn(figures.plot_policies(policies, problem, most=1))
    drawn(figures.plot_threshold(curves["payoff"], problem))
    drawn(figures.plot_importance(importance, problem))
    drawn(choice.plot_learning(learning, plan))
    drawn(figures.plot_prices(prices, problem))
    drawn(figures.plot_errors(curves, target, predicted, problem))
    for name in ("a_line", selection.NAIVE):
        sound(
            choice.describe_choice(compared, name, plan),
            figures.conclusion(name, results, 0.1, problem),
            figures.conclusion(name, results, -0.1, problem),
        )
    sound(
        choice.describe_parts(parts, locked, SCHEMA, problem),
        choice.describe_search(tuning.table([], 1, 1), PARAMS, plan),
        choice.describe_search(TRIALS, PARAMS, plan),
        choice.describe_folds(chosen, problem),
        figures.describe_errors(results, target, predicted, PARAMS, problem),
        figures.describe_prices(prices, problem),
        figures.describe_prices(prices.head(1), problem),
        choice.describe_learning(learning, plan),
        choice.describe_learning(learning.head(1), plan),
        choice.describe_calibration(table, method, PARAMS, problem),
        figures.describe_results(results, problem),
        figures.describe_policies(policies, results, problem),
        figures.describe_threshold(curves["payoff"], problem),
        figures.describe_importance(importance, problem),
        figures.describe_curve(curves["calibration"], problem),
        *figures.headline(results, problem).values(),
    )
    assert "a line" in choice.describe_choice(compared, "a_line", plan)
    assert figures.results_table(results)["figure"].is_unique


@pytest.mark.parametrize("task", TASKS)
def test_a_forecast_that_is_always_the_same_can_be_drawn(task: str) -> None:
    frame, problem, plan = rows(task, None)
    target, predicted = frame[problem.target].to_numpy(), evaluation.naive_forecast(400, problem, plan)
    model = WithInterval(DummyRegressor()).fit_errors(np.zeros(400), target) if task == "regression" else None
    curves = evaluation.curves(target, predicted, frame, model, problem, plan)
    drawn(figures.plot_calibration(curves["calibration"], predicted, problem))
    drawn(figures.plot_threshold(curves["payoff"], problem))
    sound(figures.describe_curve(curves["calibration"], problem), figures.describe_threshold(curves["payoff"], problem))


@pytest.mark.parametrize("task", TASKS)
def test_the_threshold_in_use_lies_on_the_curve_near_its_best(task: str) -> None:
    frame, problem, plan = rows(task, None)
    target = frame[problem.target].to_numpy()
    if task == "regression":
        predicted = evaluation.naive_forecast(400, problem, plan)
        model = WithInterval(DummyRegressor(), 0.9, **problem.costs.model_dump()).fit_errors(
            np.repeat(plan.naive, 400), target
        )
        curve = evaluation.curves(target, predicted, frame, model, problem, plan)["payoff"]
        assert evaluation.threshold(problem) == 0.75
    else:
        random, count = np.random.default_rng(1), len(problem.classes)
        p = random.dirichlet(np.ones(count), 4000)
        target = (random.random((4000, 1)) > p.cumsum(axis=1)).sum(axis=1)
        names = decisions.forecast_columns(problem)
        predicted = pd.DataFrame(p[:, -len(names) :], columns=names)
        frame = pd.DataFrame(index=range(4000))
        curve = evaluation.curves(target, predicted, frame, None, problem, plan)["payoff"]
        assert evaluation.threshold(problem) == (0.25 if task == "binary" else None)
    used = evaluation.threshold(problem) or 0.0
    value = np.interp(used, curve["threshold"], curve["payoff"])
    span = curve["payoff"].max() - curve["payoff"].min()
    assert curve["payoff"].max() - value < 0.05 * span
