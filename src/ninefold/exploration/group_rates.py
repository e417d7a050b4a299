"""The event rate, or the mean of the target, in groups of rows; intervals allow for correlated rows of one cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ninefold.exploration.univariate import edges
from ninefold.metrics import clustered_variance, count_clusters, influence, student
from ninefold.problem import Problem

# Columns of the frames that these functions take: `decisions.event` (float64), the cluster of the row (int64 from 0).
LABEL, CLUSTER = "@label", "@cluster"
MOST_VALUES = 31  # a numeric column with more values than a month has days is cut into bins
MOST_CLUSTERS = 400  # more are merged into so many random groups (Wolter, Introduction to Variance Estimation, 2007)
ROWS_PER_VALUE = 20  # with fewer, values are binned
MOST_GROUPS = 500  # of a column; smaller groups are omitted


def rates(frame: pd.DataFrame, group: pd.Series, problem: Problem, level: float, min_rows: int) -> pd.DataFrame:
    """Return the mean of the label in each group of enough rows, with an interval over clusters of correlated rows.

    Shares: Wilson's interval with the number of rows divided by the design effect, which is measured from the sums of
    clusters (Dean and Pagano, Survey Methodology 41, 2015); it is never narrower than Wilson's of independent rows.
    Where the variance cannot be measured (no event, only events, or one cluster), each cluster counts as one row.
    Quantities: Student's interval of a ratio mean, linearised, from the same sums; missing where there is one cluster.

    Returns
    -------
    DataFrame
        ``group``, ``rows``, ``clusters`` (int64), ``mean``, ``low``, ``high``, in the order of the groups.
    """
    sums, sizes = cells(frame, group, min_rows)
    rows, clusters = sizes.sum(), (sizes > 0).sum()
    mean, variance = sums.sum() / rows, clustered_variance(influence(sums, sizes), clusters)
    t = pd.Series(student(level, clusters), rows.index)
    if problem.is_class:
        binomial = mean * (1 - mean)
        measured = (clusters > 1) & (binomial > 0)
        size = (binomial / variance.where(variance > 0)).fillna(np.inf).clip(lower=1).clip(upper=rows)
        size = size if measured.all() else size.where(measured, _distinct(frame, group).reindex(rows.index))
        centre = (mean + t**2 / (2 * size)) / (1 + t**2 / size)
        half = t / (1 + t**2 / size) * np.sqrt(binomial / size + t**2 / (4 * size**2))
    else:
        centre, half = mean, (t * np.sqrt(variance)).where(clusters > 1)
    table = {"rows": rows, "clusters": clusters, "mean": mean, "low": centre - half, "high": centre + half}
    return pd.DataFrame(table).rename_axis("group").reset_index()


def groups(values: pd.Series, bins: int) -> pd.Series:
    """Return the group of each row, as an ordered category: a value, or a bin named by its ends, or missing."""
    time = pd.api.types.is_datetime64_any_dtype(values)
    if not (time or pd.api.types.is_numeric_dtype(values)) or _few(values, bins):
        return _named(values.astype("category"))
    numbers = values.astype("int64").where(values.notna()).astype("float64") if time else values
    bin_of = pd.Series(np.searchsorted(edges(numbers, bins), numbers, side="right"), values.index)
    bin_of = bin_of.where(values.notna())
    ends = values.groupby(bin_of).agg(["min", "max"])
    codes = pd.Index(ends.index).get_indexer(bin_of)
    return pd.Series(pd.Categorical.from_codes(codes, _bin_names(ends), ordered=True), values.index)


def cells(frame: pd.DataFrame, group: pd.Series, min_rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sum of the labels, and the number of rows, of each cluster (line) and group (column) of enough rows."""
    category = group.astype("category").cat
    code = category.codes.to_numpy()
    rows = np.bincount(code[code >= 0], minlength=len(category.categories))
    large = np.flatnonzero(rows >= max(min_rows, 1))
    largest = np.sort(large[np.argsort(-rows[large], kind="stable")[:MOST_GROUPS]])
    place = np.full(len(rows) + 1, -1)  # missing is code -1, and so the last
    place[largest] = np.arange(len(largest))
    inside = place[code] >= 0
    cluster = (frame[CLUSTER].to_numpy() % MOST_CLUSTERS)[inside]
    shape = (count_clusters(cluster), len(largest))
    cell, names = cluster * len(largest) + place[code[inside]], pd.Index(category.categories[largest], dtype=None)
    sums = np.bincount(cell, frame[LABEL].to_numpy()[inside], minlength=shape[0] * shape[1])
    sizes = np.bincount(cell, minlength=shape[0] * shape[1])
    return pd.DataFrame(sums.reshape(shape), columns=names), pd.DataFrame(sizes.reshape(shape), columns=names)


def difference(
    sums: pd.DataFrame,
    sizes: pd.DataFrame,
    pair: tuple[str, str],
    *,
    shares: bool,
    level: float,
    pairs: int = 1,
) -> tuple[float, float, float]:
    """Return the mean of the first group less that of the second, and its interval, for one of so many pairs.

    A group of only events, or of none, has no variance; its end of Wilson's interval, each cluster a row, replaces it
    (as in Newcombe's hybrid, Statistics in Medicine 17, 1998, method 10). Shares differ by no more than 1.
    """
    rows = [sizes[name].to_numpy("float64") for name in pair]
    events = [sums[name].to_numpy() for name in pair]
    mean = [values.sum() / size.sum() for values, size in zip(events, rows, strict=True)]
    first, second = (influence(values, size) for values, size in zip(events, rows, strict=True))
    clusters = int(((rows[0] > 0) | (rows[1] > 0)).sum())
    t = student(level, clusters, pairs)
    gap = mean[0] - mean[1]
    below = above = t * np.sqrt(clustered_variance(first - second, clusters))
    if shares:
        reach = [t**2 / ((size > 0).sum() + t**2) for size in rows]  # from 0 or 1 to the other end of Wilson's interval
        down = np.hypot(reach[0] if mean[0] == 1 else 0, reach[1] if mean[1] == 0 else 0)
        up = np.hypot(reach[0] if mean[0] == 0 else 0, reach[1] if mean[1] == 1 else 0)
        below, above = min(np.hypot(below, down), 1 + gap), min(np.hypot(above, up), 1 - gap)
    return float(gap), float(gap - below), float(gap + above)


def _distinct(frame: pd.DataFrame, group: pd.Series) -> pd.Series:
    """Return the number of clusters of each group."""
    return frame[CLUSTER].groupby(group.astype("category"), observed=True).nunique()


def _few(values: pd.Series, bins: int) -> bool:
    """Return whether a numeric column has so few values, and enough rows of each, that each can be a group."""
    distinct = values.nunique()
    return distinct <= MOST_VALUES and (distinct <= bins or values.notna().sum() >= ROWS_PER_VALUE * distinct)


def _bin_names(ends: pd.DataFrame) -> list[str]:
    """Return the names of bins by their ends: in short, or in full where short names are not unique."""
    names: list[str] = []
    for text in (_short, str):
        written = ends.map(text).to_numpy()
        names = [low if low == high else f"{low} – {high}" for low, high in written]
        if len(set(names)) == len(names):
            break
    return names


def _named(values: pd.Series) -> pd.Series:
    """Return categories of numbers or times with short names, where these are unique."""
    known = values.cat.categories
    if pd.api.types.is_bool_dtype(known):  # a list of these would pick rows of a table, not columns
        return values.cat.rename_categories(known.map(str))
    if not (pd.api.types.is_float_dtype(known) or isinstance(known, pd.DatetimeIndex)):
        return values
    names = [_short(value) for value in known]
    return values.cat.rename_categories(names if len(set(names)) == len(names) else [str(value) for value in known])


def _short(value: Any) -> str:
    """Return a number to four digits, and whole if it is long; or the day of a time."""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


# Names of before, for rooms that still use them.
