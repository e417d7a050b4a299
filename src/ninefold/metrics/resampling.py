"""Intervals: which rows are correlated, and how far a figure may be from its true value.

Every interval treats whole clusters of rows as one observation. The jackknife gives by how much each cluster moves a
figure (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11); Student's t does the rest. Days may be
correlated with their neighbours, see `cosines`; entities and rows are independent.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import stats
from scipy.linalg import matmul_toeplitz

from ninefold import labels
from ninefold.problem import MEANING, Problem

LEAST_CLUSTERS = 5  # of fewer days or entities, intervals hold the true value less often than they say
MOST_CLUSTERS = 200  # more are merged: the jackknife computes a figure once for each
LOSSES = {name for scores in MEANING.values() for name in scores if scores[name][0] == "lower"}  # never negative
CORRELATION = 0.5  # of neighbouring days, for which intervals are exact; with less they are a little wide
COPIES = "@copies"  # the column that tells which rows are copies of one another, where there are any
Sums = TypeVar("Sums", np.ndarray, pd.DataFrame)
Statistic = Callable[[np.ndarray], Mapping[Any, float]]  # from the weights of rows, float64, to figures by name


def clusters(frame: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the cluster of each row, int64 from 0: the day where there is time, else the entity, else the row itself.

    Days are local, and in the order of time; copies of a row (``@copies``) are one cluster with it.
    """
    if problem.time:
        return pd.factorize(problem.local_days(frame), sort=True)[0]
    if problem.group:
        return frame.groupby(problem.group, sort=False, dropna=False).ngroup().to_numpy()
    return pd.factorize(frame[COPIES])[0] if COPIES in frame else np.arange(len(frame))


def cluster_name(problem: Problem) -> str:
    """Return what `clusters` are, in words."""
    return "days" if problem.time else "entities" if problem.group else "rows"


def count_clusters(cluster: np.ndarray) -> int:
    """Return the number of clusters."""
    return int(cluster.max(initial=-1)) + 1


def merged(cluster: np.ndarray, most: int, in_order: bool = False) -> np.ndarray:
    """Return the cluster of each row, int64 from 0; more than `most` are merged into so many: neighbours, or at random.

    Random groups: Wolter, Introduction to Variance Estimation, 2007. Remainders of clusters in order would follow a pattern.
    """
    count = count_clusters(cluster)
    if count <= most:
        return cluster
    return cluster * most // count if in_order else np.random.default_rng(0).permutation(count)[cluster] % most


def cosines(rows: np.ndarray) -> np.ndarray:
    """Return the waves whose products with the moves of some days, squared and summed, are the variance: (waves, days).

    Equal-weighted cosines (Lazarus, Lewis, Stock and Watson, Journal of Business and Economic Statistics 36, 2018), one for
    five days and at least two, scaled so that the variance is unbiased for the mean of days of so many `rows` that have the
    `CORRELATION`, decaying geometrically.
    """
    days, weight = len(rows), rows / rows.mean()
    waves = np.cos(np.pi * np.outer(np.arange(1, max(2, days // 5) + 1), (np.arange(days) + 0.5) / days))
    shares = waves * weight  # of each day in the waves of the moves, which are from the common mean
    shares -= np.outer(shares.sum(axis=1), weight / days)
    correlation = CORRELATION ** np.arange(days)
    measured, true = ((each * matmul_toeplitz(correlation, each)).sum() for each in (shares.T, weight[:, None]))
    return waves * np.sqrt(true / measured)


def subsample(rows: int, most: int) -> np.ndarray:
    """Return the positions of `most` of so many rows, spread evenly (of all if there are fewer): int64."""
    count = min(rows, most)
    return np.arange(count) * (rows - 1) // max(count - 1, 1)


def means(values: Mapping[str, np.ndarray], weight: np.ndarray) -> dict[str, float]:
    """Return the weighted mean of each of some columns, float64: with `partial`, a statistic for `intervals`."""
    return {name: float(np.average(each, weights=weight)) for name, each in values.items()}


def estimate(statistic: Statistic, frame: pd.DataFrame, problem: Problem) -> tuple[pd.DataFrame, int]:
    """Return the ``value`` and the standard ``error`` of each figure of `statistic`, and their degrees of freedom.

    Computed without each cluster in turn; the error is NaN of fewer than `LEAST_CLUSTERS`, or without a figure for one.
    """
    cluster = merged(clusters(frame, problem), MOST_CLUSTERS, in_order=bool(problem.time))
    value, count = pd.Series(statistic(np.ones(len(cluster))), dtype="float64"), count_clusters(cluster)
    if count < LEAST_CLUSTERS:
        return pd.DataFrame({"value": value, "error": np.nan}), 1
    replicates = [statistic((cluster != each).astype("float64")) for each in range(count)]
    without = pd.DataFrame(replicates).to_numpy("float64")
    moves = (without.mean(axis=0) - without) * (count - 1) / count
    waves = cosines(np.bincount(cluster)) if problem.time else np.eye(count) * np.sqrt(count / (count - 1))
    table = pd.DataFrame({"value": value, "error": np.sqrt(((waves @ moves) ** 2).sum(axis=0))})
    return table, len(waves) if problem.time else count - 1


def intervals(
    statistic: Statistic, frame: pd.DataFrame, problem: Problem, level: float, shares: Collection[Any] = ()
) -> dict[Any, dict[str, float]]:
    """Return each figure of `statistic` as ``{"value", "low", "high"}``, an interval of a level of confidence (0-1).

    The ends of `shares`, figures from 0 to 1, are symmetric in the arcsine of the root, and so stay between 0 and 1. They are
    NaN where `estimate` knows no error. `frame` holds the time or the entity of the rows.
    """
    table, degrees = estimate(statistic, frame, problem)
    value, error = table.to_numpy().T
    reach = student(level, degrees + 1) * error
    least = np.select([table.index.isin([*LOSSES]), table.index == "rank_correlation"], [0.0, -1.0], -np.inf)
    most = np.where(table.index.isin(["rank_correlation", "r2"]), 1.0, np.inf)
    low, high = np.maximum(value - reach, least), np.minimum(value + reach, most)
    inside = table.index.isin(list(shares)) & (value > 0) & (value < 1)
    root = np.sqrt(value[inside])
    angle, turn = np.arcsin(root), reach[inside] / (2 * root * np.sqrt(1 - root**2))
    low[inside], high[inside] = (np.sin(np.clip(angle + each, 0, np.pi / 2)) ** 2 for each in (-turn, turn))
    ends = zip(table.index, value.tolist(), low.tolist(), high.tolist(), strict=True)
    return {name: {"value": middle, "low": below, "high": above} for name, middle, below, above in ends}


def influence(sums: Sums, sizes: Sums) -> Sums:
    """Return by how much each cluster (line) moves the mean of each group (column): a ratio's linearisation (Wolter, 2007)."""
    rows = sizes.sum(axis=0)
    return (sums - sizes * (sums.sum(axis=0) / rows)) / rows


def clustered_variance(moves: Sums, clusters: Any, in_order: bool = False) -> Any:
    """Return the variance of means from `influence` and their numbers of clusters; of days `in_order` at least by `cosines`."""
    variance = (moves**2).sum(axis=0) * clusters / np.maximum(clusters - 1, 1)
    return np.maximum(variance, ((cosines(np.ones(len(moves))) @ moves) ** 2).sum(axis=0)) if in_order else variance


def student(level: float, clusters: Any, comparisons: int = 1) -> Any:
    """Return Student's t of so few clusters at a level of confidence, for one of so many comparisons (Bonferroni)."""
    return stats.t.ppf(1 - (1 - level) / (2 * comparisons), np.maximum(clusters - 1, 1))


def with_interval(figure: dict[str, float] | None) -> str:
    """Return a value with its interval, in three digits: ``0.738 (0.702 to 0.770)``; alone without one, a dash without a value."""
    values = [figure[name] for name in ("value", "low", "high") if figure and pd.notna(figure.get(name))]
    largest = max(map(abs, values), default=0)
    places = labels.decimals(largest) - 1 if 0 < largest < 0.01 else min(labels.decimals(largest), 3)
    shown = [f"{each:,.{places}f}" for each in values]
    return f"{shown[0]} ({' to '.join(shown[1:])})" if shown[1:] else "".join(shown) or "–"


def against_zero(figure: dict[str, float] | None) -> str:
    """Return a difference with its interval, and that it is not distinguishable from zero where the interval covers zero."""
    covers = figure and "low" in figure and not (figure["low"] > 0 or figure["high"] < 0)
    return f"{with_interval(figure)}{', not distinguishable from zero' if covers else ''}"


def cluster_sums(values: np.ndarray | None, cluster: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Return the sum of values (None: the number of rows) by cluster (line) and group (column; -1 is none): float64."""
    inside = group >= 0
    shape = (count_clusters(cluster), groups)
    cell, weights = cluster[inside] * groups + group[inside], None if values is None else np.asarray(values)[inside]
    return np.bincount(cell, weights, shape[0] * groups).reshape(shape).astype("float64")
