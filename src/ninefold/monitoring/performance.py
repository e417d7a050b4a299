"""Performance of each period by the labels known at its close: scores, calibration, slices, payoff."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ninefold.metrics import Evaluation, EvaluationPlan, intervals, means
from ninefold.monitoring.answers import AT_CLOSE, PERIOD, STATUS, outcomes, predictions
from ninefold.monitoring.drift import feature_kinds
from ninefold.problem import Problem
from ninefold.serving import Bundle
from ninefold.serving import bundle as packing
from ninefold.training import slices

MOST_ROWS = 50_000  # of a period, that are scored
Interval = dict[str, float]  # value, low, high
Figures = dict[str, Interval]
Periods = Iterator[tuple[str, Evaluation]]


def evaluation(rows: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> Evaluation:
    """Return the evaluation of the answers to rows whose outcomes are known."""
    return Evaluation(outcomes(rows, problem), predictions(rows, problem), rows, problem, plan)


def scores_by_period(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> dict[str, dict[str, Figures]]:
    """Return the scores of each period, see `scores_of`; periods in which all known outcomes are equal are absent."""
    return {period: scores_of(rows, rows.results()) for period, rows in _closed(frame, problem, plan, least=2)}


def scores_of(rows: Evaluation, results: Figures) -> dict[str, Figures]:
    """Return ``figures``, the results of `Evaluation.results` with ``gap`` and `skill`, and ``levels``: those that are finite.

    ``gap`` is the mean prediction less the mean outcome; ``levels`` are the shares of the classes, or the mean of the target.
    A figure without an interval (`metrics.estimate`) has its ``value`` alone.
    """
    target, problem = rows.target, rows.problem
    columns = {"share of events" if problem.is_class else f"mean {problem.target}": rows.observed}
    if problem.task == "multiclass":
        columns = {f'share of "{name}"': target == number for number, name in enumerate(problem.classes)}
    shares = list(columns) if problem.is_class else []
    columns["gap"] = rows.expected - rows.observed
    levels = intervals(partial(means, columns), rows.frame, problem, rows.plan.level, shares)
    figures = {**results, "gap": levels.pop("gap"), "skill": skill(results, target, problem)}
    return {"figures": _finite(figures), "levels": _finite(levels)}


def skill(results: Figures, target: np.ndarray, problem: Problem) -> Interval:
    """Return the Brier skill score against a prediction that knows the class shares of these very rows, or R2."""
    if not problem.is_class:
        return results["r2"]
    shares = np.bincount(target, minlength=2) / len(target)
    error = float(np.sum(shares * (1 - shares)))  # summed over classes; of two, `brier` counts only the event
    return {"value": 1 - results["brier"]["value"] / (error / 2 if len(problem.classes) == 2 else error)}


def calibration(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per period and decile, the ``predicted`` mean and ``value``, ``low``, ``high`` of the observed mean."""
    none = pd.DataFrame(columns=["predicted", "observed", "low", "high", "period"])
    tables = [each.calibration().assign(period=period) for period, each in _closed(frame, problem, plan)]
    return pd.concat(tables or [none]).rename(columns={"observed": "value"})


def policies(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per period, the mean payoff of each policy with its interval: ``period``, and what stage 07 returns."""
    none = pd.DataFrame(columns=["policy", "payoff", "low", "high", "period"])
    tables = [each.policies().assign(period=period) for period, each in _closed(frame, problem, plan)]
    return pd.concat(tables or [none])


def worse_slices(frame: pd.DataFrame, holdout: pd.DataFrame, bundle: Bundle, plan: EvaluationPlan) -> dict[str, Any]:
    """Return, per period, the ``slices`` with a significant bias that is larger than on the holdout.

    Each has ``subject`` ("origin is JFK"), ``rows``, ``gap`` (mean of predicted less observed), ``held``, the gap on the
    holdout (else 0), and ``worse``, by how much the gap is larger; the most significant first.
    """
    problem = bundle.problem
    categorical = [name for name in bundle.columns.categorical if name in feature_kinds(bundle)]
    columns = replace(bundle.columns, high_cardinality=[], numeric=[], categorical=categorical)
    before = slices.slices(evaluation(holdout, problem, plan), columns).set_index(["feature", "group"])["bias"]
    result = {}
    for period, rows in _closed(frame, problem, plan, least=2):
        table = slices.slices(rows, columns).query("flagged").rename(columns={"bias": "gap"})
        usual = before.reindex(pd.MultiIndex.from_frame(table[["feature", "group"]]), fill_value=0.0)
        table["subject"], table["held"] = table["feature"] + " is " + table["group"], usual.to_numpy("float64")
        table["worse"] = table["gap"].abs() - table["held"].abs()
        shown = table.loc[table["worse"] > 0, ["subject", "rows", "gap", "held", "worse"]]
        result[period] = {"slices": shown.to_dict("records")}
    return result


def _closed(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan, least: int = 1) -> Periods:
    """Yield the evaluation of each period by the labels known at its close, if these are at least so many different ones."""
    for period, known in frame[frame[STATUS] == AT_CLOSE].groupby(PERIOD, sort=False):
        rows = evaluation(packing.sample(known, MOST_ROWS), problem, plan)
        if len(np.unique(rows.target)) >= least:
            yield str(period), rows


def _finite(figures: Figures) -> Figures:
    finite = {name: {end: each for end, each in ends.items() if np.isfinite(each)} for name, ends in figures.items()}
    return {name: ends for name, ends in finite.items() if "value" in ends}
