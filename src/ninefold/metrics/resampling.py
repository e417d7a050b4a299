"""Resampling: which rows are correlated, and intervals that take it into account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import stats

from ninefold.metrics.scores import one_score, row_losses
from ninefold.params import Section
from ninefold.problem import Problem

LEAST_CLUSTERS = 8  # with fewer days or entities, the spread between them cannot be estimated
Sums = TypeVar("Sums", np.ndarray, pd.DataFrame)


class Bootstrap(Section):
    """Intervals by resampling whole clusters: days where there is time, else entities, else rows."""

    replicates: int = Field(ge=20, le=10_000)
    level: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)


def clusters(frame: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the cluster of each row, int64 from 0: rows of one cluster are correlated and are resampled together.

    The day where there is time, else the entity, else the row itself. With fewer than `LEAST_CLUSTERS` days, the entity
    or the row takes their place.
    """
    if problem.time:
        days = pd.factorize(frame[problem.time].dt.normalize())[0]
        if days.max(initial=-1) + 1 >= LEAST_CLUSTERS:
            return days
    if problem.group:
        return frame.groupby(problem.group, sort=False, dropna=False).ngroup().to_numpy()
    return np.arange(len(frame))


def cluster_name(problem: Problem) -> str:
    """Return what `clusters` are, in words."""
    return "days" if problem.time else "entities" if problem.group else "rows"


def count_clusters(cluster: np.ndarray) -> int:
    """Return the number of clusters."""
    return int(cluster.max(initial=-1)) + 1


def draws(clusters: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield, per replicate, how often each cluster is drawn with replacement: int64, shape (clusters,)."""
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(random.integers(0, clusters, clusters), minlength=clusters)


def percentile_interval(samples: pd.DataFrame, level: float) -> tuple[pd.Series, pd.Series]:
    """Return the low and the high end of the percentile interval of each column; missing samples are omitted."""
    tail = (1 - level) / 2
    return samples.quantile(tail), samples.quantile(1 - tail)


def intervals(
    statistic: Callable[[np.ndarray], dict[str, float]], cluster: np.ndarray, bootstrap: Bootstrap
) -> dict[str, dict[str, float]]:
    """Return each value of `statistic` as ``{"value", "low", "high"}``: a percentile interval over resampled clusters.

    Cluster bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.6.

    Parameters
    ----------
    statistic : callable
        From row weights (float64, shape (n,)) to named values.
    cluster : ndarray of int, shape (n,)
        What `clusters` returned.
    bootstrap : Bootstrap
    """
    count = count_clusters(cluster)
    samples = [
        statistic(draw[cluster].astype("float64")) for draw in draws(count, bootstrap.replicates, bootstrap.seed)
    ]
    value = statistic(np.ones(len(cluster)))
    low, high = percentile_interval(pd.DataFrame(samples), bootstrap.level)
    return {name: {"value": value[name], "low": low[name], "high": high[name]} for name in value}


def replicates(
    metric: str,
    target: np.ndarray,
    forecasts: dict[str, pd.DataFrame],
    cluster: np.ndarray,
    problem: Problem,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return a metric of several forecasts over the same resampled clusters: a row per draw, a column per forecast.

    Differences between columns are paired.
    """
    count = count_clusters(cluster)
    weights, rows = np.array([*draws(count, bootstrap.replicates, bootstrap.seed)]), np.bincount(cluster, None, count)
    values: dict[str, Any] = {}
    for name, predicted in forecasts.items():
        losses = row_losses(metric, target, predicted, problem)
        if losses is None:
            values[name] = [
                one_score(metric, target, predicted, problem, draw[cluster].astype("float64")) for draw in weights
            ]
        else:
            mean = (weights @ np.bincount(cluster, losses, count)) / (weights @ rows)
            values[name] = np.sqrt(mean) if metric == "rmse" else mean
    return pd.DataFrame(values)


def influence(sums: Sums, sizes: Sums) -> Sums:
    """Return by how much each cluster (line) moves the mean of each group (column): Taylor linearisation of a ratio.

    `sums` and `sizes` are the sums and the numbers of rows. Wolter, Introduction to Variance Estimation, 2007.
    """
    rows = sizes.sum(axis=0)
    return (sums - sizes * (sums.sum(axis=0) / rows)) / rows


def clustered_variance(moves: Sums, clusters: Any) -> Any:
    """Return the variance of clustered means, from what `influence` returned and the number of clusters of each."""
    return (moves**2).sum(axis=0) * clusters / np.maximum(clusters - 1, 1)


def student(level: float, clusters: Any, comparisons: int = 1) -> Any:
    """Return Student's t of so few clusters at a level of confidence, for one of so many comparisons (Bonferroni)."""
    return stats.t.ppf(1 - (1 - level) / (2 * comparisons), np.maximum(clusters - 1, 1))


def with_interval(figure: dict[str, float] | None) -> str:
    """Return a value with its interval, ``0.738 (0.702 to 0.770)``; the value alone without one, a dash without a value."""
    if not figure:
        return "–"
    interval = f" ({_short(figure['low'])} to {_short(figure['high'])})" if "low" in figure else ""
    return f"{_short(figure['value'])}{interval}"


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


# Names of before, for rooms that still use them.
