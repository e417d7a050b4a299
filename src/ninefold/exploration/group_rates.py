"""The event rate, or the mean of the target, in groups of rows; intervals allow for correlated rows of one cluster."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from ninefold import timestamps
from ninefold.exploration.params import Params
from ninefold.exploration.univariate import edges
from ninefold.metrics import cluster_sums, clustered_variance, influence, merged, student
from ninefold.problem import Problem

# Columns of the frames that these functions take: the encoded outcome, `decisions.event` (float64), the cluster of the row
# (int64 from 0), its local time, its part of the split.
OURS = OUTCOME, LABEL, CLUSTER, CLOCK, PART = "@outcome", "@label", "@cluster", "@clock", "@part"
MOST_VALUES = 31  # a numeric column with more values than a month has days is cut into bins
MOST_CLUSTERS = 400  # more may be merged into so many
MOST_CELLS = 2_000_000  # of clusters and groups, beyond which clusters are merged
ROWS_PER_VALUE = 20  # with fewer, values are binned
MOST_GROUPS = 500  # of a column; smaller groups are omitted
MOST_CROSSED = 6  # columns among which to look for two that say more together
PIECES = 20  # of a table without time
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MOST_PERIODS = 130  # points that a line over time can show
SPAN = {"D": ("day", 1), "W": ("week", 7), "M": ("month", 30.4), "Y": ("year", 365.25)}


def rates(frame: pd.DataFrame, group: pd.Series, problem: Problem, level: float, min_rows: int) -> pd.DataFrame:
    """Return the mean of the label in each group of enough rows, with an interval over clusters of correlated rows.

    Shares: Wilson's interval with the number of rows divided by the design effect, which is measured from the sums of
    clusters (Dean and Pagano, Survey Methodology 41, 2015); it is never narrower than Wilson's of independent rows.
    Where the variance cannot be measured (no event, only events, or one cluster), each cluster counts as one row.
    Quantities: Student's interval of a ratio mean, linearised, from the same sums; missing where there is one cluster.
    Returns ``group``, ``rows``, ``clusters`` (int64), ``mean``, ``low``, ``high``, in the order of the groups.
    """
    sums, sizes = cells(frame, group, min_rows)
    rows, clusters = sizes.sum(), (sizes > 0).sum()
    distinct = frame[CLUSTER].groupby(group.astype("category"), observed=True).nunique().reindex(rows.index)
    mean, variance = sums.sum() / rows, clustered_variance(influence(sums, sizes), clusters)
    t = pd.Series(student(level, clusters), rows.index)
    if problem.is_class:
        binomial = mean * (1 - mean)
        size = (binomial / variance.where(variance > 0)).fillna(np.inf).clip(lower=1).clip(upper=rows)
        size = size.where((clusters > 1) & (binomial > 0), distinct)
        centre = (mean + t**2 / (2 * size)) / (1 + t**2 / size)
        half = t / (1 + t**2 / size) * np.sqrt(binomial / size + t**2 / (4 * size**2))
    else:
        centre, half = mean, (t * np.sqrt(variance)).where(clusters > 1)
    table = {"rows": rows, "clusters": distinct, "mean": mean, "low": centre - half, "high": centre + half}
    return pd.DataFrame(table).rename_axis("group").reset_index()


def candidates(frame: pd.DataFrame) -> list[str]:
    """Return the columns of `read` that could become features."""
    return [column for column in frame if column not in OURS]


def least(frame: pd.DataFrame, params: Params) -> int:
    """Return the fewest rows of a group that is shown: ``min_rows``, or a hundredth of the rows, 10 to 500."""
    return params.min_rows or int(np.clip(len(frame) // 100, 10, 500))


def outcomes(frame: pd.DataFrame, problem: Problem, level: float) -> pd.DataFrame:
    """Return ``class``, ``rows``, ``share``, ``low``, ``high`` (0-1), the most frequent first; or ``quantile``, ``value``."""
    if not problem.is_class:
        names = {0: "lowest", 0.05: "5%", 0.25: "25%", 0.5: "median", 0.75: "75%", 0.95: "95%", 1: "highest"}
        values = [*np.quantile(frame[LABEL], list(names)), frame[LABEL].std(ddof=0)]
        return pd.DataFrame({"quantile": [*names.values(), "standard deviation"], "value": values})
    rows = []
    for number, name in enumerate(problem.classes):
        event = pd.DataFrame({CLUSTER: frame[CLUSTER], LABEL: (frame[OUTCOME] == number).astype("float64")})
        rows.append((name, int(event[LABEL].sum()), *overall(event, problem, level).values()))
    table = pd.DataFrame(rows, columns=["class", "rows", "share", "low", "high"])
    return table.sort_values("rows", ascending=False, ignore_index=True, kind="stable")


def overall(frame: pd.DataFrame, problem: Problem, level: float) -> dict[str, float]:
    """Return the mean of the outcome over all rows, with its interval: ``mean``, ``low``, ``high``."""
    row = rates(frame, pd.Series("all", frame.index), problem, level, 0).iloc[0]
    return {name: float(row[name]) for name in ("mean", "low", "high")}


def course(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return the `rates` along time, or, in a table without time, along the order of its key.

    ``period`` is ``day``, ``week``, ``month``, ``year`` (the finest with enough rows in each), or ``piece``, of equally
    many rows; ``group`` its first moment, or its number.
    """
    rows = least(frame, params)
    if problem.time:
        unit = _period(frame[CLOCK], rows)
        table = rates(frame, frame[CLOCK].dt.to_period(unit).dt.start_time, problem, level, rows)
        if len(table) > 1:
            return table.assign(period=SPAN[unit][0])
    pieces = int(np.clip(len(frame) // rows, 2, PIECES))
    piece = pd.Series(np.arange(len(frame)) * pieces // max(len(frame), 1), frame.index)
    starts = frame[CLOCK].groupby(piece).transform("first") if problem.time else piece + 1
    return rates(frame, starts, problem, level, 1).assign(period="piece")


def by_group(frame: pd.DataFrame, columns: list[str], params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return the mean of the outcome per `groups` of each column, but the small ones: ``column`` and those of `rates`."""
    order = ["column", "group", "rows", "clusters", "mean", "low", "high"]
    fewest, tables = least(frame, params), [pd.DataFrame(columns=order)]
    for name in columns:
        table = rates(frame, groups(frame[name], params.bins), problem, level, fewest)
        tables += [table.astype({"group": str}).assign(column=name)[order]] if len(table) else []
    return pd.concat(tables[1:] or tables, ignore_index=True)


def gaps(
    frame: pd.DataFrame, columns: list[str], params: Params, problem: Problem, level: float, part: str | None = None
) -> pd.DataFrame:
    """Return, per column, the gap between its highest and its lowest group, the most significant first.

    The interval, of cluster sums, is widened for the choice of the two groups among all pairs (Bonferroni), so ``low``,
    which orders the table, is what is left of the gap without sampling noise. With `part`, the same two groups of all rows
    are compared on the rows of that part alone; the pair is fixed then, so the interval is not widened.
    """
    rows = []
    for column in columns:
        group = groups(frame[column], params.bins)
        if largest := largest_gap(*cells(frame, group, least(frame, params)), shares=problem.is_class, level=level):
            (top, bottom), mean, gap = largest
            if part:
                inside = frame[PART] == part
                table = cells(frame[inside], group[inside], 1)
                if not {top, bottom} <= set(table[0]):
                    continue  # a group without rows there
                mean = table[0].sum() / table[1].sum()
                gap = difference(*table, (top, bottom), shares=problem.is_class, level=level)
            rows.append((column, str(top), str(bottom), mean[top], mean[bottom], *gap))
    names = ["column", "highest", "lowest", "mean of highest", "mean of lowest", "gap", "low", "high"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("low", ascending=False, ignore_index=True, kind="stable")


def cross(frame: pd.DataFrame, ranked: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return the mean of the outcome where two scales meet, NaN where there are few rows; empty if there are no such two.

    The first pair of `_scales`, or of the column with the most significant gap and one of the next, of which at
    least half of the cells, and of the rows, can be shown. The axes are named by the scales.
    """
    rows = least(frame, params)
    bins = params.bins if len(frame) >= 4 * rows * params.bins**2 else 3
    top = list(ranked["column"].head(MOST_CROSSED))
    pairs = (([top[0], other], [_largest(groups(frame[name], bins)) for name in (top[0], other)]) for other in top[1:])
    for names, scales in chain(_scales(frame[CLOCK]), pairs):
        cells = frame[LABEL].groupby([pd.Series(scale, frame.index) for scale in scales], observed=True)
        table = cells.agg(["mean", "size"])
        shown = table["size"] >= rows
        grid = table["mean"].where(shown).unstack().tail(MOST_VALUES)
        grid = grid.dropna(axis=0, how="all").dropna(axis=1, how="all")
        known = table.loc[shown, "size"].sum() >= len(frame) / 2 and grid.notna().mean(axis=None) >= 0.5
        if known and min(grid.shape) > 1:
            return grid.rename_axis(index=names[0], columns=names[1])
    return pd.DataFrame()


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
            return category.cat.rename_categories(_names([(value, value) for value in known]))
        return category
    numbers = values.astype("int64").where(values.notna()).astype("float64") if time else values
    bin_of = pd.Series(np.searchsorted(edges(numbers, bins), numbers, side="right"), values.index)
    bin_of = bin_of.where(values.notna())
    ends = values.groupby(bin_of).agg(["min", "max"])
    names = _names([*ends.itertuples(index=False, name=None)])
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
    """Return the mean of the first group less that of the second, and its interval, for one of so many pairs.

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


def _largest(values: pd.Series) -> pd.Series:
    """Return the twelve largest groups, the others missing."""
    return values.where(values.isin(values.value_counts().index[:12])).cat.remove_unused_categories()


def _names(ends: Iterable[Any]) -> list[str]:
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


def time_parts(clock: pd.Series) -> dict[str, Any]:
    """Return what the local time tells of a row, by name, as fine as the times are: weekday, hour, month and year."""
    if clock.isna().all():
        return {}
    weekday = pd.Categorical.from_codes(clock.dt.day_of_week, WEEKDAYS, ordered=True)
    parts = {"weekday": weekday, "hour": clock.dt.hour, "month": clock.dt.month, "year": clock.dt.year}
    if (clock - clock.dt.normalize()).nunique() > 2:  # two: one time of the day, in summer and in winter
        return parts
    del parts["hour"]
    if timestamps.days_of(clock) > 1:  # all on one weekday, or days that stand for months
        del parts["weekday"]
        return parts if clock.dt.month.nunique() > 1 else {}
    return parts


def _scales(clock: pd.Series) -> list[tuple[list[str], list[Any]]]:
    """Return the pairs of scales that the local time tells, the finest first: their names, their values by row."""
    if not (parts := time_parts(clock)):
        return []
    parts["month"] = pd.Categorical.from_codes(parts["month"] - 1, MONTHS, ordered=True)
    pairs = (["weekday", "hour"], ["weekday", "month"], ["year", "month"])
    return [(names, [parts[name] for name in names]) for names in pairs if parts.keys() >= set(names)]


def _period(clock: pd.Series, rows: int) -> str:
    """Return the finest period that gives a readable line: enough rows in most, few holes, not too many points."""
    days = (clock.max() - clock.min()).days + 1
    for unit, (_, length) in SPAN.items():
        counts = clock.dt.to_period(unit).value_counts()
        holes = len(counts) < 0.5 * days / length
        if (unit != "D" or days <= 28) and len(counts) <= MOST_PERIODS and counts.median() >= rows and not holes:
            return unit
    return "Y" if days > 2 * 365 else "M" if days > 60 else "W" if days > 14 else "D"
