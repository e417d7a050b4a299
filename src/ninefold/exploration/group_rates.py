"""The event rate, or the mean of the target, in groups of rows; intervals allow for correlated rows of one cluster."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ninefold.exploration.rows import CLUSTER, LABEL
from ninefold.exploration.univariate import edges
from ninefold.metrics import cluster_sums, clustered_variance, influence, merged, student

MOST_VALUES = 31  # a numeric column with more values than a month has days is cut into bins
MOST_CLUSTERS = 400  # more may be merged into so many
MOST_CELLS = 2_000_000  # of clusters and groups, beyond which clusters are merged
ROWS_PER_VALUE = 20  # with fewer, values are binned
MOST_GROUPS = 500  # of a column; smaller groups are omitted
MOST_PERIODS = 130  # points that a line over time can show
SPAN = {"D": ("day", 1), "W": ("week", 7), "M": ("month", 30.4), "Y": ("year", 365.25)}


def groups(values: pd.Series, bins: int) -> pd.Series:
    """Return the group of each row, as an ordered category: a value, or a bin named by its ends, or missing."""
    time, distinct = pd.api.types.is_datetime64_any_dtype(values), values.nunique()
    few = distinct <= MOST_VALUES and (distinct <= bins or values.notna().sum() >= ROWS_PER_VALUE * distinct)
    if few or not (time or pd.api.types.is_numeric_dtype(values)):
        category = values.astype("category")
        known = category.cat.categories
        if pd.api.types.is_bool_dtype(known):  # a list of these would pick rows of a table, not columns
            return category.cat.rename_categories(known.map(str))
        if pd.api.types.is_float_dtype(known) or isinstance(known, pd.DatetimeIndex):
            return category.cat.rename_categories(range_names([(value, value) for value in known]))
        return category
    numbers = values.astype("int64").where(values.notna()).astype("float64") if time else values
    bin_of = pd.Series(np.searchsorted(edges(numbers, bins), numbers, side="right"), values.index)
    bin_of = bin_of.where(values.notna())
    ends = values.groupby(bin_of).agg(["min", "max"])
    names = range_names([*ends.itertuples(index=False, name=None)])
    codes = pd.Index(ends.index).get_indexer(bin_of)
    return pd.Series(pd.Categorical.from_codes(codes, names, ordered=True), values.index)


def cells(frame: pd.DataFrame, group: pd.Series, min_rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the sum of the labels, and the number of rows, of each cluster (line) and group (column) of enough rows.

    Clusters are merged only where they would give more than `MOST_CELLS`, and never into fewer than `MOST_CLUSTERS`.
    """
    category = group.astype("category").cat
    code = category.codes.to_numpy()
    rows = pd.Series(np.bincount(code[code >= 0], minlength=len(category.categories)))
    largest = np.sort(rows[rows >= max(min_rows, 1)].nlargest(MOST_GROUPS).index)
    place = pd.Index(largest).get_indexer(code)
    inside, names = place >= 0, pd.Index(category.categories[largest], dtype=None)
    cluster = merged(frame[CLUSTER].to_numpy(), max(MOST_CLUSTERS, MOST_CELLS // max(len(largest), 1)))
    cells_of = cluster[inside], place[inside], len(largest)
    sums, sizes = cluster_sums(frame[LABEL].to_numpy()[inside], *cells_of), cluster_sums(None, *cells_of)
    return pd.DataFrame(sums, columns=names), pd.DataFrame(sizes.astype("int64"), columns=names)


def difference(
    sums: pd.DataFrame, sizes: pd.DataFrame, pair: tuple[str, str], *, shares: bool, level: float, pairs: int = 1
) -> tuple[float, float, float]:
    """Return the mean of the first group minus that of the second, and its interval, for one of so many pairs.

    A group of only events, or of none, has no variance; its end of Wilson's interval, each cluster a row, replaces it
    (as in Newcombe's hybrid, Statistics in Medicine 17, 1998, method 10). Shares differ by no more than 1.
    """
    two = [(sums[name].to_numpy(), sizes[name].to_numpy("float64")) for name in pair]
    (first, rows), (second, others) = two
    mean, clusters = [events.sum() / size.sum() for events, size in two], int(((rows > 0) | (others > 0)).sum())
    t, gap = student(level, clusters, pairs), mean[0] - mean[1]
    below = above = t * np.sqrt(clustered_variance(influence(first, rows) - influence(second, others), clusters))
    if shares:
        # From 0 or 1 to the other end of Wilson's interval.
        reach = [t**2 / ((size > 0).sum() + t**2) for _, size in two]
        down = np.hypot(reach[0] if mean[0] == 1 else 0, reach[1] if mean[1] == 0 else 0)
        up = np.hypot(reach[0] if mean[0] == 0 else 0, reach[1] if mean[1] == 1 else 0)
        below, above = min(np.hypot(below, down), 1 + gap), min(np.hypot(above, up), 1 - gap)
    return float(gap), float(gap - below), float(gap + above)


def largest_gap(
    sums: pd.DataFrame, sizes: pd.DataFrame, *, shares: bool, level: float, rates: int = 1
) -> tuple[tuple[Any, Any], pd.Series, tuple[float, float, float]] | None:
    """Return the groups of the highest and the lowest mean, all means, and their `difference`; None for one group.

    Its interval is for one chosen among all pairs of groups, of so many `rates`.
    """
    mean, count = sums.sum() / sizes.sum(), sizes.shape[1]
    if count < 2:
        return None
    top = mean.idxmax()
    pair, pairs = (top, mean.drop(top).idxmin()), rates * count * (count - 1) // 2
    return pair, mean, difference(sums, sizes, pair, shares=shares, level=level, pairs=pairs)


def range_names(ends: Iterable[Any]) -> list[str]:
    """Return the names of ranges by their ends, short where these are unique."""
    for text in (_short, str):
        shown = [(text(low), text(high)) for low, high in ends]
        names = [low if low == high else f"{low} – {high}" for low, high in shown]
        if len(set(names)) == len(names):
            break
    return names


def _short(value: Any) -> str:
    """Return a number to four digits, and whole if it is long; or the day of a time."""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"


def finest_period(clock: pd.Series, rows: int) -> str:
    """Return the finest period that gives a readable line: enough rows in most, few holes, not too many points."""
    days = (clock.max() - clock.min()).days + 1
    for unit, (_, length) in SPAN.items():
        counts = clock.dt.to_period(unit).value_counts()
        holes = len(counts) < 0.5 * days / length
        if (unit != "D" or days <= 28) and len(counts) <= MOST_PERIODS and counts.median() >= rows and not holes:
            return unit
    return "Y" if days > 2 * 365 else "M" if days > 60 else "W" if days > 14 else "D"
