"""What a forecast is worth on rows it never saw: scores and payoffs with intervals, against what needs no model."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.metrics import precision_recall_curve, roc_curve

from ninefold.core import decisions
from ninefold.core.scores import PRIMARY, Bootstrap, blocks, draws, intervals, one_score, scores

FOLLOW = "follow the model"
FACTORS = (0.5, 1.5)  # by which prices are moved


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
    naive, proper = naive_forecast(len(target), stated, agreed), PRIMARY[stated["task"]]
    mean = {"payoff": model, "gain": model - best, "acted": acted}
    mean |= {"observed": decisions.event(target, stated), "predicted": decisions.expected(predicted, stated)}
    if not decisions.is_class(stated):
        mean["covered"] = ((target >= predicted["low"]) & (target <= predicted["high"])).to_numpy()

    def statistic(weight: np.ndarray) -> dict[str, float]:
        found = scores(target, predicted, stated, weight)
        bar = one_score(proper, target, naive, stated, weight)
        return {**found, **_mean(mean, weight), "improvement": bar - found[proper]}

    return intervals(statistic, blocks(frame, stated), Bootstrap(**agreed["bootstrap"]))


def policies(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return the mean payoff per row of each policy with its interval: ``policy``, ``payoff``, ``low``, ``high``."""
    payoffs = decisions.policy_payoffs(target, stated, agreed)
    payoffs.insert(0, FOLLOW, decisions.payoff(decisions.decide(predicted, stated)["action"], target, stated))
    paid = partial(_mean, {name: payoffs[name].to_numpy() for name in payoffs})
    found = intervals(paid, blocks(frame, stated), Bootstrap(**agreed["bootstrap"]))
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
    gain = partial(_mean, {"gain": model - best})
    return intervals(gain, blocks(frame, stated), Bootstrap(**one_sided))["gain"]["low"]


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
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    model: BaseEstimator,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> dict[str, pd.DataFrame]:
    """Return the curves that ``dvc plots`` compares: ``calibration``, ``roc``, ``precision``, and ``payoff`` by threshold.

    ``calibration``: mean `decisions.expected` and `decisions.event` by tenth of the former, with the interval of the
    latter over resampled blocks. ``roc`` and ``precision`` (by recall): of the event; of quantities, of an outcome above
    the median. ``payoff``: against the probability from which on one acts; for several classes the highest probability
    from which on one follows the model, and the best constant policy below it; for quantities the quantile of the errors
    that one acts on.
    """
    happened, said = decisions.event(target, stated), decisions.expected(predicted, stated)
    tenths = _calibration(happened, said, blocks(frame, stated), Bootstrap(**agreed["bootstrap"]))
    if not decisions.is_class(stated):
        happened = happened > np.median(happened)
    false, true, _ = roc_curve(happened, said)
    precision, recall, _ = precision_recall_curve(happened, said)
    return {
        "calibration": tenths,
        "roc": _thin({"false_positive_rate": false, "true_positive_rate": true}),
        "precision": _thin({"recall": recall[::-1], "precision": precision[::-1]}),
        "payoff": _payoff_curve(target, predicted, model, stated, agreed),
    }


def price_moves(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    model: BaseEstimator,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> pd.DataFrame:
    """Return what following the model would pay if one price were half, or half as much again.

    Of classes a price is all that an action pays; of quantities the cost of a unit too high, or too low. Actions are
    chosen anew, by the moved prices, and so is the best policy without a model, on these very rows.

    Returns
    -------
    DataFrame
        ``price``, ``factor``, ``payoff`` per row, ``unmoved`` (what the actions of the stated prices would pay then),
        ``gain`` over the best policy without a model, with ``low`` and ``high``; the first row is as stated.
    """
    block, bootstrap = blocks(frame, stated), Bootstrap(**agreed["bootstrap"])
    before, rows = decisions.decide(predicted, stated)["action"], []
    for price, factor in [("as stated", 1.0), *((name, by) for name in _prices(stated) for by in FACTORS)]:
        moved = _moved(stated, price, factor)
        actions = before if factor == 1 else _decide(predicted, model, moved)
        paid = decisions.payoff(actions, target, moved)
        policies = {"policies": decisions.policies(target, moved)}
        bars = decisions.policy_payoffs(target, moved, policies).drop(columns=decisions.FORESIGHT)
        gain = paid - bars[bars.mean().idxmax()].to_numpy()
        found = intervals(partial(_mean, {"gain": gain}), block, bootstrap)
        unmoved = decisions.payoff(before, target, moved).mean()
        rows.append((price, factor, paid.mean(), unmoved, *found["gain"].values()))
    return pd.DataFrame(rows, columns=["price", "factor", "payoff", "unmoved", "gain", "low", "high"])


def threshold(stated: dict[str, Any]) -> float | None:
    """Return the threshold in use on the scale of the payoff curve: the break-even, or the quantile; else none."""
    return stated["break_even"] if decisions.is_class(stated) else decisions.critical_ratio(stated["costs"])


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


def _mean(values: dict[str, np.ndarray], weight: np.ndarray) -> dict[str, float]:
    """Return the weighted mean of each figure."""
    return {name: float(np.average(one, weights=weight)) for name, one in values.items()}


def _calibration(happened: np.ndarray, said: np.ndarray, block: np.ndarray, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return ``predicted`` and ``observed`` by tenth of the forecast, with ``low`` and ``high`` of the latter."""
    tenth = pd.qcut(pd.Series(said).rank(method="first"), min(10, len(said)), labels=False).to_numpy()
    count, size = int(tenth.max()) + 1, int(block.max()) + 1
    cell = block * count + tenth
    sums, rows = (
        np.bincount(cell, weights, size * count).reshape(size, count) for weights in (happened, np.ones(len(said)))
    )
    drawn = np.array(list(draws(size, bootstrap.replicates, bootstrap.seed)))
    with np.errstate(invalid="ignore"):  # a draw may hold no row of a tenth
        observed = (drawn @ sums) / (drawn @ rows)
    tail = (1 - bootstrap.level) / 2
    low, high = np.nanquantile(observed, [tail, 1 - tail], axis=0)
    means = pd.DataFrame({"predicted": said, "observed": happened}).groupby(tenth).mean()
    return means.assign(low=low, high=high).reset_index(drop=True)


def _thin(curve: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return a curve with at most 201 points, its ends among them."""
    frame = pd.DataFrame(curve)
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, 201).astype(int))].reset_index(drop=True)


def _prices(stated: dict[str, Any]) -> list[str]:
    """Return the prices that can move: actions that pay anything, or the costs."""
    if not decisions.is_class(stated):
        return list(stated["costs"])
    return [action for action, pays in stated["payoffs"].items() if any(pays.values())]


def _moved(stated: dict[str, Any], price: str, factor: float) -> dict[str, Any]:
    if factor == 1:
        return stated
    if not decisions.is_class(stated):
        return {**stated, "costs": {**stated["costs"], price: factor * stated["costs"][price]}}
    pays = {name: factor * value for name, value in stated["payoffs"][price].items()}
    return {**stated, "payoffs": {**stated["payoffs"], price: pays}}


def _decide(predicted: pd.DataFrame, model: BaseEstimator, moved: dict[str, Any]) -> pd.Series:
    """Return the actions under moved prices; of quantities by the quantile of all errors, not of those of like predictions."""
    if decisions.is_class(moved):
        return decisions.decide(predicted, moved)["action"]
    shift = np.interp(decisions.critical_ratio(moved["costs"]), model.levels_, model.shifts_)
    return predicted["prediction"] + shift
