"""What a forecast is worth on new rows: scores and payoffs with intervals, against policies without a model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.metrics import precision_recall_curve, roc_curve

from ninefold.metrics.plan import EvaluationPlan
from ninefold.metrics.resampling import (
    Bootstrap,
    clusters,
    count_clusters,
    draws,
    intervals,
    percentile_interval,
)
from ninefold.metrics.scores import one_score, task_scores
from ninefold.problem import PRIMARY, Costs, Problem, decisions

FOLLOW = "follow the model"
FACTORS = (0.5, 1.5)  # by which prices are multiplied


def evaluate(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> dict[str, dict[str, float]]:
    """Return every metric of the task, and the payoffs, with intervals over resampled clusters (days, entities or rows).

    Parameters
    ----------
    target : ndarray, shape (n,)
        Encoded as by `decisions.outcome`.
    predicted : DataFrame
        The forecast.
    frame : DataFrame
        The same rows, with time and group.
    problem : Problem
    plan : EvaluationPlan

    Returns
    -------
    dict
        Name -> ``{"value", "low", "high"}``: the scores; ``payoff`` per row of the policy that follows the model;
        ``gain`` over the best policy without a model (the best one on these very rows, the hardest to beat); ``acted``
        (share of rows with another action than that policy's); ``observed`` and ``predicted``, the means of
        `decisions.event` and `decisions.expected`; ``improvement``, by which the proper score (log loss, or root mean
        squared error) is lower than the naive forecast's of stage 04; for quantities ``covered``, the share of outcomes
        in their intervals.
    """
    model, best, acted = against_baseline(target, predicted, problem, plan)
    naive, proper = naive_forecast(len(target), problem, plan), PRIMARY[problem.task]
    mean = {"payoff": model, "gain": model - best, "acted": acted}
    mean |= {"observed": decisions.event(target, problem), "predicted": decisions.expected(predicted, problem)}
    if not problem.is_class:
        mean["covered"] = ((target >= predicted["low"]) & (target <= predicted["high"])).to_numpy()

    def statistic(weight: np.ndarray) -> dict[str, float]:
        scores = task_scores(target, predicted, problem, weight)
        baseline = one_score(proper, target, naive, problem, weight)
        return {**scores, **_mean(mean, weight), "improvement": baseline - scores[proper]}

    return intervals(statistic, clusters(frame, problem), plan.bootstrap)


def policies(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> pd.DataFrame:
    """Return the mean payoff per row of each policy with its interval: ``policy``, ``payoff``, ``low``, ``high``."""
    payoffs = decisions.policy_payoffs(target, problem, plan.policies)
    payoffs.insert(0, FOLLOW, decisions.payoff(decisions.decide(predicted, problem)["action"], target, problem))
    mean = partial(_mean, {name: payoffs[name].to_numpy() for name in payoffs})
    values = intervals(mean, clusters(frame, problem), plan.bootstrap)
    rows = [(name, *values[name].values()) for name in payoffs]
    return pd.DataFrame(rows, columns=["policy", "payoff", "low", "high"])


def gain_floor(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> float:
    """Return the gain per row that the model exceeds with the confidence that the problem requires.

    The lower end of a one-sided interval over resampled clusters, for the gain that `evaluate` defines.
    """
    model, best, _ = against_baseline(target, predicted, problem, plan)
    one_sided = plan.bootstrap.model_copy(update={"level": 2 * problem.success.confidence - 1})
    return intervals(partial(_mean, {"gain": model - best}), clusters(frame, problem), one_sided)["gain"]["low"]


def against_baseline(
    target: np.ndarray, predicted: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, per row, the model's payoff, that of the best policy without one on these rows, and whether actions differ."""
    payoffs = decisions.policy_payoffs(target, problem, plan.policies).drop(columns=decisions.FORESIGHT)
    policy, actions = payoffs.mean().idxmax(), decisions.decide(predicted, problem)["action"]
    acted = (actions != plan.policies[policy]).to_numpy()
    return decisions.payoff(actions, target, problem), payoffs[policy].to_numpy(), acted


def naive_forecast(rows: int, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the forecast without features that stage 04 fixed, the same for every row."""
    values, names = plan.naive, decisions.forecast_columns(problem)
    if problem.is_class:
        values = values[1:] if problem.task == "binary" else values
        return pd.DataFrame(np.tile(values, (rows, 1)), columns=names)
    return pd.DataFrame({name: np.repeat(0.0 if name == "loss" else values[0], rows) for name in names})


def curves(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    model: BaseEstimator,
    problem: Problem,
    plan: EvaluationPlan,
) -> dict[str, pd.DataFrame]:
    """Return the curves that ``dvc plots`` compares: ``calibration``, ``roc``, ``precision``, and ``payoff`` by threshold.

    ``calibration``: mean `decisions.expected` and `decisions.event` by decile of the former, with the interval of the
    latter over resampled clusters. ``roc`` and ``precision`` (by recall): of the event; for quantities, of an outcome
    above the median. ``payoff``: by the probability from which the action for the event is taken; for several classes
    by the highest probability from which the model is followed, instead of the best constant policy; for quantities by
    the quantile of the errors that is acted on.
    """
    observed, expected = decisions.event(target, problem), decisions.expected(predicted, problem)
    deciles = _calibration(observed, expected, clusters(frame, problem), plan.bootstrap)
    event = observed if problem.is_class else observed > np.median(observed)
    false, true, _ = roc_curve(event, expected)
    precision, recall, _ = precision_recall_curve(event, expected)
    return {
        "calibration": deciles,
        "roc": _subsample({"false_positive_rate": false, "true_positive_rate": true}),
        "precision": _subsample({"recall": recall[::-1], "precision": precision[::-1]}),
        "payoff": _payoff_curve(target, predicted, model, problem, plan),
    }


def price_moves(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    model: BaseEstimator,
    problem: Problem,
    plan: EvaluationPlan,
) -> pd.DataFrame:
    """Return what following the model would pay if one price were half, or half as much again.

    A price is all payoffs of an action, or the cost of a unit too high or too low. Actions, and the best policy without
    a model on these rows, are chosen anew under the changed prices.

    Returns
    -------
    DataFrame
        ``price``, ``factor``, ``payoff`` per row, ``unmoved`` (payoff of the actions chosen under current prices),
        ``gain`` over the best policy without a model, with ``low`` and ``high``; the first row has the current prices.
    """
    cluster, rows = clusters(frame, problem), []
    current = decisions.decide(predicted, problem)["action"]
    for price, factor in [("current", 1.0), *((name, by) for name in _prices(problem) for by in FACTORS)]:
        changed = _at_price(problem, price, factor)
        actions = current if factor == 1 else _decide(predicted, model, changed)
        payoff = decisions.payoff(actions, target, changed)
        baselines = decisions.policy_payoffs(target, changed, decisions.policies(target, changed))
        baselines = baselines.drop(columns=decisions.FORESIGHT)
        gain = partial(_mean, {"gain": payoff - baselines[baselines.mean().idxmax()].to_numpy()})
        unmoved = decisions.payoff(current, target, changed).mean()
        interval = intervals(gain, cluster, plan.bootstrap)["gain"]
        rows.append((price, factor, payoff.mean(), unmoved, *interval.values()))
    return pd.DataFrame(rows, columns=["price", "factor", "payoff", "unmoved", "gain", "low", "high"])


def threshold(problem: Problem) -> float | None:
    """Return the threshold in use on the scale of the payoff curve: the break-even, or the quantile; else None."""
    return problem.break_even if problem.is_class else problem.ratio


def _payoff_curve(
    target: np.ndarray, predicted: pd.DataFrame, model: BaseEstimator, problem: Problem, plan: EvaluationPlan
) -> pd.DataFrame:
    grid = np.round(np.linspace(0, 1, 101), 2)
    if problem.task == "regression":
        grid, actions = model.levels_, [predicted["prediction"] + shift for shift in model.shifts_]
    elif problem.task == "binary":
        low, high = problem.best_action(np.array([0.0, 1.0]))
        actions = [np.where(predicted["probability"] > step, high, low) for step in grid]
    else:
        highest = decisions.probabilities(predicted, problem).max(axis=1)
        chosen, default = decisions.decide(predicted, problem)["action"], plan.policies[plan.best_baseline]
        actions = [np.where(highest >= step, chosen, default) for step in grid]
    payoffs = [decisions.payoff(action, target, problem).mean() for action in actions]
    return pd.DataFrame({"threshold": grid, "payoff": payoffs})


def _mean(values: dict[str, np.ndarray], weight: np.ndarray) -> dict[str, float]:
    return {name: float(np.average(each, weights=weight)) for name, each in values.items()}


def _calibration(observed: np.ndarray, expected: np.ndarray, cluster: np.ndarray, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return ``predicted`` and ``observed`` by decile of the forecast, with ``low`` and ``high`` of the latter."""
    decile = pd.qcut(pd.Series(expected).rank(method="first"), min(10, len(expected)), labels=False).to_numpy()
    deciles, count = int(decile.max()) + 1, count_clusters(cluster)
    cell = cluster * deciles + decile
    sums, rows = (
        np.bincount(cell, weights, count * deciles).reshape(count, deciles)
        for weights in (observed, np.ones(len(cell)))
    )
    weights = np.array([*draws(count, bootstrap.replicates, bootstrap.seed)])
    with np.errstate(invalid="ignore"):  # a draw may have no row of a decile
        low, high = percentile_interval(pd.DataFrame((weights @ sums) / (weights @ rows)), bootstrap.level)
    means = pd.DataFrame({"predicted": expected, "observed": observed}).groupby(decile).mean()
    return means.assign(low=low, high=high).reset_index(drop=True)


def _subsample(curve: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return a curve with at most 201 points, its ends among them."""
    frame = pd.DataFrame(curve)
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, 201).astype(int))].reset_index(drop=True)


def _prices(problem: Problem) -> list[str]:
    """Return the prices that can change: actions that pay anything, or the costs."""
    if not problem.is_class:
        return list(Costs.model_fields)
    return [action for action, payoffs in problem.payoffs.items() if any(payoffs.values())]


def _at_price(problem: Problem, price: str, factor: float) -> Problem:
    """Return the problem with one price multiplied by a factor."""
    if factor == 1:
        return problem
    if not problem.is_class:
        return problem.changed(costs=problem.costs.model_copy(update={price: factor * getattr(problem.costs, price)}))
    payoffs = {name: factor * value for name, value in problem.payoffs[price].items()}
    return problem.changed(payoffs={**problem.payoffs, price: payoffs})


def _decide(predicted: pd.DataFrame, model: BaseEstimator, problem: Problem) -> pd.Series:
    """Return the actions under other prices; for quantities by the quantile of all errors of the model."""
    if problem.is_class:
        return decisions.decide(predicted, problem)["action"]
    return predicted["prediction"] + np.interp(problem.ratio, model.levels_, model.shifts_)
