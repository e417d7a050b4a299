"""What a forecast is worth on rows it never saw: scores and payoffs with intervals, against what needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_curve

from ninefold.core import decisions
from ninefold.core.scores import Bootstrap, blocks, intervals, scores

FOLLOW = "follow the model"
PROPER = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}


def evaluate(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> dict[str, dict[str, float]]:
    """Return every metric of the task, and the payoffs, with intervals over resampled blocks (days, entities or rows).

    Parameters
    ----------
    target : ndarray, shape (n,)
        Encoded as `decisions.outcome` has it.
    predicted : DataFrame
        The forecast.
    frame : DataFrame
        The same rows, with time and group.
    stated, agreed : dict
        The problem, and what stage 04 agreed.

    Returns
    -------
    dict
        Name -> ``{"value", "low", "high"}``: the scores; ``payoff`` per row of the policy that follows the model;
        ``gain`` over the best policy without a model (the best one on these very rows, so that the bar is highest);
        ``acted`` (share of rows with another action than that policy's); ``observed`` and ``predicted``, the means of
        `decisions.event` and `decisions.expected`; ``improvement``, by which the proper score (log loss, or root mean
        squared error) is lower than the naive forecast's of stage 04; for quantities ``covered``, the share of outcomes
        in their intervals.
    """
    model, best, acted = against_baseline(target, predicted, stated, agreed)
    naive, proper = naive_forecast(len(target), stated, agreed), PROPER[stated["task"]]
    mean = {"payoff": model, "gain": model - best, "acted": acted}
    mean |= {"observed": decisions.event(target, stated), "predicted": decisions.expected(predicted, stated)}
    if not decisions.is_class(stated):
        mean["covered"] = ((target >= predicted["low"]) & (target <= predicted["high"])).to_numpy()

    def statistic(weight: np.ndarray) -> dict[str, float]:
        found = scores(target, predicted, stated, weight)
        named = {name: float(np.average(values, weights=weight)) for name, values in mean.items()}
        bar = proper_score(target, naive, stated, weight)
        return {**found, **named, "improvement": bar - found[proper]}

    return intervals(statistic, blocks(frame, stated), Bootstrap(**agreed["bootstrap"]))


def policies(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return the mean payoff per row of each policy with its interval: ``policy``, ``payoff``, ``low``, ``high``."""
    payoffs = decisions.policy_payoffs(target, stated, agreed)
    payoffs.insert(0, FOLLOW, decisions.payoff(decisions.decide(predicted, stated)["action"], target, stated))

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {name: float(np.average(payoffs[name], weights=weight)) for name in payoffs}

    found = intervals(statistic, blocks(frame, stated), Bootstrap(**agreed["bootstrap"]))
    rows = [(name, found[name]["value"], found[name]["low"], found[name]["high"]) for name in payoffs]
    return pd.DataFrame(rows, columns=["policy", "payoff", "low", "high"])


def gain_floor(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> float:
    """Return the gain per row that the model exceeds with the confidence that the problem asks for.

    The lower end of a one-sided interval over resampled blocks, for the gain that `evaluate` defines.
    """
    model, best, _ = against_baseline(target, predicted, stated, agreed)
    one_sided = {**agreed["bootstrap"], "level": 2 * stated["success"]["confidence"] - 1}

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {"gain": float(np.average(model - best, weights=weight))}

    return intervals(statistic, blocks(frame, stated), Bootstrap(**one_sided))["gain"]["low"]


def against_baseline(
    target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each row pays by the model, and by the best policy without one on these rows; and where they differ."""
    payoffs = decisions.policy_payoffs(target, stated, agreed).drop(columns=decisions.FORESIGHT)
    policy, actions = payoffs.mean().idxmax(), decisions.decide(predicted, stated)["action"]
    acted = (actions != agreed["policies"][policy]).to_numpy()
    return decisions.payoff(actions, target, stated), payoffs[policy].to_numpy(), acted


def naive_forecast(rows: int, stated: dict[str, Any], agreed: dict[str, Any]) -> pd.DataFrame:
    """Return the forecast that sees no features, agreed in stage 04: a row like the other."""
    values, names = agreed["naive"], decisions.forecast_columns(stated)
    if decisions.is_class(stated):
        values = values[1:] if stated["task"] == "binary" else values
        return pd.DataFrame(np.tile(values, (rows, 1)), columns=names)
    return pd.DataFrame({name: np.repeat(0.0 if name == "loss" else values[0], rows) for name in names})


def curves(
    target: np.ndarray, predicted: pd.DataFrame, model: BaseEstimator, stated: dict[str, Any], agreed: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """Return the curves that ``dvc plots`` compares: ``calibration``, ``roc``, and ``payoff`` by threshold.

    ``calibration``: mean `decisions.expected` and `decisions.event` by tenth of the former. ``roc``: of the event; of
    quantities, of an outcome above the median. ``payoff``: against the probability from which on one acts; for several
    classes the highest probability from which on one follows the model, and the best constant policy below it; for
    quantities the quantile of the errors that one acts on.
    """
    happened, said = decisions.event(target, stated), decisions.expected(predicted, stated)
    if decisions.is_class(stated):
        observed, mean = calibration_curve(happened, said, n_bins=10, strategy="quantile")
        means = pd.DataFrame({"predicted": mean, "observed": observed})
    else:
        tenth = pd.qcut(pd.Series(said).rank(method="first"), min(10, len(said)), labels=False)
        means = pd.DataFrame({"predicted": said, "observed": happened}).groupby(tenth).mean()
        happened = happened > np.median(happened)
    false, true, _ = roc_curve(happened, said)
    keep = np.unique(np.linspace(0, len(false) - 1, 201).astype(int))
    return {
        "calibration": means.reset_index(drop=True),
        "roc": pd.DataFrame({"false_positive_rate": false[keep], "true_positive_rate": true[keep]}),
        "payoff": _payoff_curve(target, predicted, model, stated, agreed),
    }


def threshold(stated: dict[str, Any]) -> float | None:
    """Return the threshold in use on the scale of the payoff curve: the break-even, or the quantile; else none."""
    return stated["break_even"] if decisions.is_class(stated) else decisions.critical_ratio(stated["costs"])


def proper_score(
    target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any], weight: np.ndarray | None = None
) -> float:
    """Return the proper score alone, where it is all that is asked for: many times as fast as all scores."""
    if decisions.is_class(stated):
        p = decisions.probabilities(predicted, stated)[np.arange(len(target)), target.astype("int64")]
        return float(np.average(-np.log(np.clip(p, np.finfo("float64").eps, 1)), weights=weight))
    return float(np.sqrt(np.average((predicted["prediction"].to_numpy() - target) ** 2, weights=weight)))


def _payoff_curve(
    target: np.ndarray, predicted: pd.DataFrame, model: BaseEstimator, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    if stated["task"] == "regression":
        grid = model.levels_
        paid = [decisions.payoff(predicted["prediction"] + shift, target, stated).mean() for shift in model.shifts_]
        return pd.DataFrame({"threshold": grid, "payoff": paid})
    grid = np.round(np.linspace(0, 1, 101), 2)
    if stated["task"] == "binary":
        low, high = decisions.at_probability(np.array([0.0, 1.0]), stated)
        paid = [
            decisions.payoff(np.where(predicted["probability"] > step, high, low), target, stated).mean()
            for step in grid
        ]
        return pd.DataFrame({"threshold": grid, "payoff": paid})
    sure, action = decisions.probabilities(predicted, stated).max(axis=1), decisions.decide(predicted, stated)["action"]
    default = agreed["policies"][agreed["best_baseline"]]
    paid = [decisions.payoff(np.where(sure >= step, action, default), target, stated).mean() for step in grid]
    return pd.DataFrame({"threshold": grid, "payoff": paid})
