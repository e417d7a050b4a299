"""Figures of stage 05 that take more than a cell: distributions, the outcome over time, by group and by two columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import labels, plotting
from ninefold.exploration import Exploration
from ninefold.plotting import BLUE, GREY, ORANGE, label, short
from ninefold.problem import Problem, decisions
from project.figures import histograms

MOST_PANELS, HALF = 12, 12  # panels of a figure; groups of a panel from either end
MOST_GROUPS = 50  # of a category for associations: the others are one


def profile(df: pd.DataFrame, outcome: pd.Series, roles: Mapping[str, str], categories: Sequence[str]) -> pd.DataFrame:
    """Return, per column, its role, its association with the outcome (`associations`), a histogram for each outcome, values."""
    shown = outcome.value_counts(sort=False).nlargest(4).index
    table = pd.DataFrame({"role": [roles.get(name, "") for name in df]}, index=pd.Index(df.columns, name="column"))
    table["association"] = associations(df, categories, [str(outcome.name)])
    table = table.join(histograms({f"{labels.of(outcome.name)}: {each}": df[outcome == each] for each in shown}))
    return table.assign(values=[describe_values(df[name]) for name in df])


def describe_values(values: pd.Series) -> str:
    """Return the lowest, the median and the highest of numbers or times; of others the most frequent values and their shares."""
    known = values.dropna()
    if known.empty:
        return ""
    if pd.api.types.is_datetime64_any_dtype(known):
        return " / ".join(f"{each:%Y-%m-%d}" for each in (known.min(), known.median(), known.max()))
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
        ends = (float(each) for each in (known.min(), known.median(), known.max()))
        return " / ".join(
            f"{each:.0f}" if abs(each) >= 100 else f"{each:.3g}" for each in ends
        )  # it may be a year or an id
    return ", ".join(
        f"{plotting.cut(each, 16)} {share:.1%}" for each, share in known.value_counts(normalize=True).head(3).items()
    )


def associations(df: pd.DataFrame, categories: Sequence[str] = (), others: Sequence[str] | None = None) -> pd.DataFrame:
    """Return how closely each column is associated with the `others` (all): 0 to 1, or -1 to 1 of two numbers.

    Numbers and times have ranks, everything else and the named `categories` are groups. Two ranks: Spearman's correlation.
    Two groups: Cramér's V, corrected for bias (Bergsma, Journal of the Korean Statistical Society 42, 2013). Ranks and groups:
    the correlation ratio, corrected for the number of groups (Kelley, PNAS 21, 1935). Of a column that does not vary: NaN.
    """
    coded = {name: _coded(df[name], name in categories) for name in df}
    others = list(df) if others is None else others
    return pd.DataFrame({other: {name: _association(coded[name], coded[other]) for name in df} for other in others})


def _coded(values: pd.Series, category: bool) -> pd.Series:
    """Return numbers and times as float64, and others as categories, of which all but the most frequent are one."""
    if pd.api.types.is_datetime64_any_dtype(values):
        values = values.astype("int64").where(values.notna())
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and not category:
        return values.astype("float64").where(np.isfinite)
    frequent = values.value_counts().index[:MOST_GROUPS]
    return pd.Series(frequent.get_indexer(values), values.index).where(values.notna()).astype("category")


def _association(one: pd.Series, other: pd.Series) -> float:
    known = one.notna() & other.notna()
    one, other, rows = one[known], other[known], int(known.sum())
    if min(one.nunique(), other.nunique()) < 2 or rows < 3:
        return np.nan
    numbers = [each for each in (one, other) if each.dtype == "float64"]
    if len(numbers) == 2:
        return one.corr(other, "spearman")
    if numbers:
        rank, group = numbers[0].rank(), other if numbers[0] is one else one
        within = rank.sub(rank.groupby(group, observed=True).transform("mean")).pow(2).sum() / (rank.var(ddof=0) * rows)
        return np.sqrt(max(0.0, 1 - within * (rows - 1) / max(rows - group.nunique(), 1)))
    table = pd.crosstab(one, other).to_numpy()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / rows
    lines = np.array(table.shape)
    excess = ((table - expected) ** 2 / expected).sum() / rows - (lines - 1).prod() / (rows - 1)
    most = (lines - (lines - 1) ** 2 / (rows - 1)).min() - 1
    return np.sqrt(max(0.0, excess) / most) if most > 0 else np.nan


def plot_course(along: pd.DataFrame, explore: Exploration) -> Figure:
    """Draw the outcome along time (or the order of the rows) with its interval, and where validation begins."""
    fig, axes = plotting.canvas("Does the outcome change over time?")
    period, band, problem = along["period"].min(), f"{explore.level:.0%} interval", explore.problem
    axes.fill_between(along["group"], along["low"], along["high"], color=BLUE, alpha=0.18, lw=0, label=band)
    axes.plot(along["group"], along["mean"], marker="o", markersize=5, label=f"by {period}")
    axes.axhline(explore.overall()["mean"], color=GREY, ls="--", lw=1, label="overall")
    if problem.time:
        axes.axvline(pd.Timestamp(explore.plan.split.validation), color=ORANGE, lw=1.5, label="validation begins")
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(period if problem.time else "part of the table, in key order")
    axes.set_ylim(0 if problem.is_class else None)
    name_level(axes, "y", problem)
    fig.legend(frameon=False, ncols=4, loc="outside lower center")
    return fig


def plot_ordered(table: pd.DataFrame, explore: Exploration) -> Figure:
    """Draw the outcome along the groups of each ordered column, a panel each, with intervals and the overall mean."""
    question, columns = "How does the outcome change along each scale?", list(table.groupby("column", sort=False))
    mean = explore.overall()["mean"]
    fig, panels = plotting.panels(question, min(len(columns), MOST_PANELS), 2.4, sharey=True)
    for axes, (column, rows) in zip(panels, columns, strict=False):
        places, step = range(len(rows)), -(-len(rows) // 12)
        axes.errorbar(places, rows["mean"], plotting.reach(rows, "mean"), fmt="-o", ms=4, lw=1.5, elinewidth=1.2)
        axes.axhline(mean, color=GREY, ls="--", lw=1)
        axes.set_title(label(column))
        axes.set_xticks(places[::step], [short(name, 18) for name in rows["group"].iloc[::step]])
        axes.tick_params(axis="x", labelsize=8, rotation=40 if rows["group"].str.len().max() > 4 else 0)
        if explore.problem.is_class:
            axes.set_ylim(0, 1.05 * table["high"].max())
            plotting.as_share(axes)
    fig.supylabel(plotting.plain(decisions.level_name(explore.problem)), fontsize=9)
    return fig


def plot_nominal(table: pd.DataFrame, explore: Exploration) -> Figure:
    """Draw the outcome in the groups of each unordered column, sorted; of many groups, the highest and the lowest."""
    question, columns = "Which groups stand out?", list(table.groupby("column", sort=False))
    mean = explore.overall()["mean"]
    tallest = min(2 * HALF, max((len(groups) for _, groups in columns), default=0))
    fig, panels = plotting.panels(question, min(len(columns), MOST_PANELS), 0.2 * tallest + 1, sharex=True)
    for axes, (column, groups) in zip(panels, columns, strict=False):
        title, rows = label(column), groups.sort_values("mean", ascending=False, kind="stable")
        if len(rows) > 2 * HALF:
            title = f"{title} ({HALF} highest, {HALF} lowest)"
            rows = pd.concat([rows.head(HALF), rows.tail(HALF)])
            axes.axhline(HALF - 0.5, color=GREY, lw=0.8, ls=":")
        names = [plotting.cut(name, 24) for name in rows["group"]]
        reach = plotting.reach(rows, "mean")
        axes.errorbar(rows["mean"], range(len(rows)), xerr=reach, fmt="o", ms=4, elinewidth=1.2)
        axes.axvline(mean, color=GREY, ls="--", lw=1)
        plotting.name_lines(axes, names)
        axes.set(title=title, ylim=(tallest - 0.5, -0.5))
        name_level(axes, "x", explore.problem)
    return fig


def name_level(axes: Axes, which: str, problem: Problem) -> None:
    """Label an axis with what the mean of the outcome is called, in per cent if it is a share."""
    axes.set(**{f"{which}label": plotting.plain(decisions.level_name(problem))})
    if problem.is_class:
        plotting.as_share(axes, which)
