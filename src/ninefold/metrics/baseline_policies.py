"""Baselines: policies without a model, and forecasts without features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ninefold.metrics.plan import Split
from ninefold.metrics.scores import task_scores
from ninefold.metrics.splits import part_of
from ninefold.problem import FORESIGHT, Problem, decisions


def baselines(frame: pd.DataFrame, points: Split, problem: Problem) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the policies without a model, name to action, and their mean payoff: ``policy``, ``train``, ``validation``.

    The holdout stays locked until a model has been chosen.
    """
    part, target = part_of(frame, points, problem), frame[problem.target].to_numpy()
    policies = decisions.policies(target[part == "train"], problem)
    means = decisions.policy_payoffs(target, problem, policies).groupby(part).mean().T[["train", "validation"]]
    return policies, means.rename_axis("policy").rename_axis(None, axis=1).reset_index()


def best_baseline(table: pd.DataFrame) -> str:
    """Return the name of the best policy without a model on validation: the one that the model has to beat."""
    policies = table[table["policy"] != FORESIGHT]
    return str(policies.loc[policies["validation"].idxmax(), "policy"])


def potential_gain(table: pd.DataFrame) -> float:
    """Return the payoff per row, on validation, of perfect foresight above the best policy without a model."""
    payoffs = table.set_index("policy")["validation"]
    return float(payoffs[FORESIGHT] - payoffs[best_baseline(table)])


def naive(frame: pd.DataFrame, points: Split, problem: Problem) -> list[float]:
    """Return the forecast without features: the shares of the classes on open rows, or the mean of the quantity."""
    rows = frame[part_of(frame, points, problem) != "holdout"]
    return _indicators(rows[problem.target], problem).mean().tolist()


def reference_scores(frame: pd.DataFrame, points: Split, problem: Problem) -> pd.DataFrame:
    """Return the scores on validation of forecasts without features: ``forecast`` and a column per metric.

    *Training mean* always forecasts the training rows' shares of the classes, or their mean; where there is time, *last
    four weeks* forecasts those of the 28 days before the day.
    """
    part = part_of(frame, points, problem)
    validation = frame[part == "validation"]
    indicators = _indicators(frame[problem.target], problem)
    mean = indicators[part == "train"].mean()
    forecasts = {"training mean": np.tile(mean.to_numpy(), (len(validation), 1))}
    if problem.time:
        day = frame[problem.time].dt.normalize()
        sums = indicators.groupby(day).sum().rolling("28D", closed="left").sum()
        sizes = indicators.groupby(day).size().rolling("28D", closed="left").sum()
        recent = sums.div(sizes, axis=0).fillna(mean).reindex(day[validation.index])
        forecasts["last four weeks"] = recent.to_numpy()
    target, names = validation[problem.target].to_numpy(), decisions.forecast_columns(problem)
    rows = []
    for name, values in forecasts.items():
        columns = values[:, 1:] if problem.task == "binary" else values
        predicted = pd.DataFrame(columns, columns=names[: columns.shape[1]])
        rows.append({"forecast": name, **task_scores(target, predicted, problem)})
    return pd.DataFrame(rows)


def _indicators(target: pd.Series, problem: Problem) -> pd.DataFrame:
    """Return the columns whose mean is the naive forecast: one per class (1 or 0), or the quantity itself."""
    if not problem.is_class:
        return target.to_frame("prediction")
    return pd.DataFrame({number: (target == number).astype("float64") for number in range(len(problem.classes))})
