"""Performance of each period by the labels known at its close: scores, calibration, slices, payoff, week by week."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ninefold.metrics import EvaluationPlan, clusters, evaluation, intervals
from ninefold.monitoring.answers import AT_CLOSE, LATER, PERIOD, STATUS, outcomes, predictions
from ninefold.problem import Problem, decisions
from ninefold.serving import Bundle
from ninefold.serving import bundle as packing
from ninefold.training import slices

MOST_ROWS = 50_000  # of a period, whose scores are resampled
Interval = dict[str, float]  # value, low, high


def scores_by_period(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> dict[str, dict[str, Any]]:
    """Return the scores of each period, see `scores_of`; periods in which all known outcomes are equal are absent."""
    result = {}
    for period, rows in closed(frame):
        target = outcomes(rows, problem)
        if len(np.unique(target)) > 1:
            results = evaluation.evaluate(target, predictions(rows, problem), rows, problem, plan)
            result[period] = scores_of(results, rows, problem, plan)
    return result


def scores_of(
    results: dict[str, Interval], rows: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> dict[str, dict[str, Interval]]:
    """Return ``figures``, the results of `evaluation.evaluate` with ``gap`` and ``skill``, and ``levels``.

    ``gap`` is the mean of `decisions.expected` less that of `decisions.event`; ``skill`` see `skill`; ``levels`` are the
    shares of the classes, or the mean of the target. What is not finite, of too few rows, is left out.
    """
    target, predicted = outcomes(rows, problem), predictions(rows, problem)
    columns = {"gap": decisions.expected(predicted, problem) - decisions.event(target, problem)}
    if problem.task == "multiclass":
        columns |= {f'share of "{name}"': target == number for number, name in enumerate(problem.classes)}
    else:
        columns[decisions.level_name(problem)] = decisions.event(target, problem)

    def means(weight: np.ndarray) -> dict[str, float]:
        return {name: float(np.average(values, weights=weight)) for name, values in columns.items()}

    levels = intervals(means, clusters(rows, problem), plan.bootstrap)
    figures = {**results, "gap": levels.pop("gap"), "skill": skill(results, target, problem)}
    return {"figures": _finite(figures), "levels": _finite(levels)}


def skill(results: dict[str, Interval], target: np.ndarray, problem: Problem) -> Interval:
    """Return the Brier skill score (``1 - brier / reference``), or R2.

    The reference is a prediction that knows the class shares, or the mean, of these very rows. Unlike an error, skill
    does not change because outcomes are more mixed.
    """
    if not problem.is_class:
        return results["r2"]
    shares = np.bincount(target, minlength=2) / len(target)
    error = float(np.sum(shares * (1 - shares)))  # summed over classes; of two, `brier` counts only the event
    return {"value": 1 - results["brier"]["value"] / (error / 2 if len(problem.classes) == 2 else error)}


def closed(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each period with its rows whose label was known at its close: at most `MOST_ROWS`, spread evenly."""
    for period, rows in frame[frame[STATUS] == AT_CLOSE].groupby(PERIOD, sort=False):
        yield str(period), packing.sample(rows, MOST_ROWS)


def calibration(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan, bins: int = 10) -> pd.DataFrame:
    """Return, per period and decile of the prediction, the ``predicted`` and the observed mean.

    Returns
    -------
    DataFrame
        ``period``, ``predicted``, and ``value``, ``low``, ``high`` of the observed mean.
    """
    tables = []
    for period, rows in closed(frame):
        predicted = pd.Series(decisions.expected(predictions(rows, problem), problem))
        observed = decisions.event(outcomes(rows, problem), problem)
        rank = predicted.rank(method="first").to_numpy() - 1
        decile = (rank * min(bins, len(rank)) // len(rank)).astype(int)

        def means(weight: np.ndarray, decile: np.ndarray = decile, observed: np.ndarray = observed) -> dict[str, float]:
            with np.errstate(invalid="ignore"):  # the blocks of a draw may lack a decile
                values = np.bincount(decile, weight * observed) / np.bincount(decile, weight)
            return {str(number): float(value) for number, value in enumerate(values)}

        table = pd.DataFrame(intervals(means, clusters(rows, problem), plan.bootstrap).values())
        tables.append(table.assign(period=period, predicted=predicted.groupby(decile).mean().to_numpy()))
    return pd.concat(tables) if tables else pd.DataFrame(columns=["value", "low", "high", "period", "predicted"])


def policies(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per period, the mean payoff of each policy with its interval: ``period``, and what stage 07 returns."""
    tables = [
        evaluation.policies(outcomes(rows, problem), predictions(rows, problem), rows, problem, plan).assign(
            period=period
        )
        for period, rows in closed(frame)
    ]
    return pd.concat(tables) if tables else pd.DataFrame(columns=["policy", "payoff", "low", "high", "period"])


def weekly(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the means of `decisions.expected` and `decisions.event` per week (UTC) of rows with a label.

    Returns
    -------
    DataFrame
        ``week``, ``predicted``, ``observed``, ``rows``; none without time.
    """
    known = frame[frame[STATUS].isin([AT_CLOSE, LATER])]
    if not problem.time or known.empty:
        return pd.DataFrame(columns=["week", "predicted", "observed", "rows"])
    table = pd.DataFrame(
        {
            "week": known[problem.time].dt.to_period("W").dt.start_time.to_numpy(),
            "predicted": decisions.expected(predictions(known, problem), problem),
            "observed": decisions.event(outcomes(known, problem), problem),
            "rows": 1,
        }
    )
    return table.groupby("week", as_index=False).agg({"predicted": "mean", "observed": "mean", "rows": "sum"})


def worse_slices(
    frame: pd.DataFrame, holdout: pd.DataFrame, bundle: Bundle, plan: EvaluationPlan
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return, per period, the ``slices`` with a significant bias that is larger than on the holdout.

    Returns
    -------
    dict
        Period -> ``slices``: ``subject`` ("origin is JFK"), ``rows``, ``gap`` (mean of predicted less observed),
        ``held``, the gap on the holdout (0 where it had too few such rows), and ``worse``, by how much the gap is larger;
        the most significant first.
    """
    problem, columns = bundle.problem, replace(bundle.columns, high_cardinality=[], numeric=[])
    if not columns.categorical:
        return {}

    def biases(rows: pd.DataFrame) -> pd.DataFrame:
        return slices.slices(outcomes(rows, problem), predictions(rows, problem), rows, columns, problem, plan)

    before = biases(holdout).set_index(["feature", "group"])["bias"]
    result: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for period, rows in closed(frame):
        worse = []
        if len(np.unique(outcomes(rows, problem))) > 1:
            for each in biases(rows).query("flagged").itertuples():
                baseline_parts = float(before.get((each.feature, each.group), 0.0))
                gap = {"subject": f"{each.feature} is {each.group}", "rows": int(each.rows), "gap": each.bias}
                worse.append({**gap, "held": baseline_parts, "worse": abs(each.bias) - abs(baseline_parts)})
        result[period] = {"slices": [each for each in worse if each["worse"] > 0]}
    return result


def _finite(figures: dict[str, Any]) -> dict[str, Interval]:
    return {
        name: figure
        for name, figure in figures.items()
        if all(value is not None and np.isfinite(value) for value in figure.values())
    }
