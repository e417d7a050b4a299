"""Resampling: which rows are correlated, and intervals that take it into account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import stats

from ninefold.metrics.scores import one_score, row_losses
from ninefold.params import Section
from ninefold.problem import Problem

LEAST_CLUSTERS = 8  # with fewer days or entities, the spread between them cannot be estimated
COPIES = "@copies"  # the column that tells which rows are copies of one another, where there are any
Sums = TypeVar("Sums", np.ndarray, pd.DataFrame)


class Bootstrap(Section):
    """Intervals by resampling whole clusters: days where there is time, else entities, else rows."""

    replicates: int = Field(ge=20, le=10_000)
    level: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)

    def one_sided(self, confidence: float) -> Bootstrap:
        """Return the bootstrap whose intervals have a lower end that is exceeded with this confidence."""
        return self.model_copy(update={"level": 2 * confidence - 1})


def clusters(frame: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the cluster of each row, int64 from 0: rows of one cluster are correlated and are resampled together.

    The day where there is time, else the entity, else the row itself with its copies (``@copies``). With fewer than
    `LEAST_CLUSTERS` days, the entity or the row takes their place.
    """
    if problem.time:
        days = pd.factorize(problem.local_times(frame).dt.normalize())[0]
        if count_clusters(days) >= LEAST_CLUSTERS:
            return days
    if problem.group:
        return frame.groupby(problem.group, sort=False, dropna=False).ngroup().to_numpy()
    return pd.factorize(frame[COPIES])[0] if COPIES in frame else np.arange(len(frame))


def cluster_name(problem: Problem) -> str:
    """Return what `clusters` are, in words."""
    return "days" if problem.time else "entities" if problem.group else "rows"


def count_clusters(cluster: np.ndarray) -> int:
    """Return the number of clusters."""
    return int(cluster.max(initial=-1)) + 1


def merged(cluster: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Return the cluster of each row, int64 from 0; more than `most` are merged at random into so many.

    Random groups: Wolter, Introduction to Variance Estimation, 2007. Remainders of clusters in order would follow a pattern.
    """
    count = count_clusters(cluster)
    return cluster if count <= most else np.random.default_rng(seed).permutation(count)[cluster] % most


def draws(clusters: int, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield, per replicate, how often each cluster occurs in a sample with replacement: int64, shape (clusters,)."""
    random = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(random.integers(0, clusters, clusters), minlength=clusters)


def draw_matrix(cluster: np.ndarray, bootstrap: Bootstrap) -> np.ndarray:
    """Return all `draws` of the clusters of some rows: int64, shape (replicates, clusters)."""
    return np.array([*draws(count_clusters(cluster), bootstrap.replicates, bootstrap.seed)])


def percentile_interval(samples: pd.DataFrame, level: float) -> tuple[pd.Series, pd.Series]:
    """Return the low and the high end of the percentile interval of each column; missing samples are omitted."""
    tail = (1 - level) / 2
    return samples.quantile(tail), samples.quantile(1 - tail)


def means(values: Mapping[str, np.ndarray], weight: np.ndarray) -> dict[str, float]:
    """Return the weighted mean of each of some columns, float64: with `partial`, a statistic for `intervals`."""
    return {name: float(np.average(each, weights=weight)) for name, each in values.items()}


def intervals(
    statistic: Callable[[np.ndarray], dict[str, float]], cluster: np.ndarray, bootstrap: Bootstrap
) -> dict[str, dict[str, float]]:
    """Return each value of `statistic` as ``{"value", "low", "high"}``: a percentile interval over resampled clusters.

    `statistic` maps row weights (float64, shape (n,)) to named values; `cluster` is from `clusters` (int, shape (n,)).
    Cluster bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.6.
    """
    weights = draws(count_clusters(cluster), bootstrap.replicates, bootstrap.seed)
    samples = [statistic(draw[cluster].astype("float64")) for draw in weights]
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
    """Return a metric over the same resampled clusters: a row per draw, a column per forecast; differences are paired."""
    weights, rows, values = draw_matrix(cluster, bootstrap), np.bincount(cluster), dict[str, Any]()
    for name, predicted in forecasts.items():
        losses = row_losses(metric, target, predicted, problem)
        if losses is None:
            of_rows = (draw[cluster].astype("float64") for draw in weights)
            values[name] = [one_score(metric, target, predicted, problem, weight) for weight in of_rows]
        else:
            mean = (weights @ np.bincount(cluster, losses)) / (weights @ rows)
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
    values = [figure[name] for name in ("value", "low", "high") if figure and name in figure]
    shown = [f"{each:.3f}" if abs(each) < 100 else f"{each:,.0f}" for each in values]
    return f"{shown[0]} ({' to '.join(shown[1:])})" if shown[1:] else "".join(shown) or "–"


def against_zero(figure: dict[str, float] | None) -> str:
    """Return a difference with its interval, and that it is not distinguishable from zero where the interval covers zero."""
    covers = figure and "low" in figure and not (figure["low"] > 0 or figure["high"] < 0)
    return f"{with_interval(figure)}{', not distinguishable from zero' if covers else ''}"


def cluster_sums(values: np.ndarray | None, cluster: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return the sum of values (None: the number of rows) by cluster (line) and group (column): float64.

    Rows of group -1 are in none.
    """
    inside = group >= 0
    shape = (count_clusters(cluster), groups)
    cell, weights = cluster[inside] * groups + group[inside], None if values is None else np.asarray(values)[inside]
    return np.bincount(cell, weights, shape[0] * groups).reshape(shape).astype("float64")
