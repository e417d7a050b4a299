"""Figures of stage 05 that take more than a cell: distributions, the outcome over time, by group and by two columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import plotting
from ninefold.exploration import Exploration
from ninefold.plotting import BLUE, GREEN, GREY, ORANGE, RED, SKY, label, short
from ninefold.problem import Problem, decisions

MOST_PANELS, HALF = 12, 12  # panels of a figure; groups of a panel from either end
MOST_GROUPS, WEAK = (
    50,
    0.3,
)  # of a category for associations: the others are one; those that have no number in the figure
STATUS = {"in advance": BLUE, "known later": GREY, "justified": GREEN, "identifier": SKY, "suspicious": RED}


def describe_values(values: pd.Series) -> str:
    """Return the lowest, the median and the highest of numbers or times; of others the most frequent values and their shares."""
    known = values.dropna()
    if known.empty:
        return ""
    if pd.api.types.is_datetime64_any_dtype(known):
        return " / ".join(f"{each:%Y-%m-%d}" for each in (known.min(), known.median(), known.max()))
    if pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
        return " / ".join(decisions.number(float(each)) for each in (known.min(), known.median(), known.max()))
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


def plot_associations(table: pd.DataFrame) -> Figure:
    """Draw the associations between columns as shades, and those that are not weak as numbers, too."""
    fig, axes = plotting.canvas("Which columns are associated?", height=0.28 * len(table) + 1.6)
    texts = table.map(lambda value: f"{value:.1f}" if abs(value) >= WEAK else "")
    shown = table.rename(plotting.label).rename(columns=plotting.label)
    style = {"annot": texts, "fmt": "", "annot_kws": {"size": 7}, "cbar_kws": {"label": "association"}}
    sns.heatmap(shown, vmin=-1, vmax=1, cmap="vlag", xticklabels=True, yticklabels=True, ax=axes, **style)
    axes.tick_params(labelsize=8)
    return fig


def plot_histograms(df: pd.DataFrame, columns: Sequence[str], outcome: pd.Series) -> Figure:
    """Draw the histogram of numeric columns for each outcome, a panel each."""
    fig, panels = plotting.panels("How do the distributions differ by outcome?", min(len(columns), MOST_PANELS), 2)
    for axes, column in zip(panels, columns, strict=False):
        values = df[column].astype("float64").where(np.isfinite)
        style = {"stat": "density", "common_norm": False, "element": "step", "alpha": 0.25, "bins": 30}
        sns.histplot(x=values, hue=outcome.map(short), ax=axes, **style)
        axes.set(xlabel=label(column), ylabel="", yticks=[])
    legends = [legend for axes in panels if (legend := axes.get_legend())]
    for legend in legends:
        legend.remove()
    if legends:
        names = [text.get_text() for text in legends[0].get_texts()]
        fig.legend(
            list(filter(None, legends[0].legend_handles)), names, frameon=False, ncols=6, loc="outside lower center"
        )
    return fig


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
        plotting.points(axes, names, rows, "mean", mean)
        axes.set(title=title, ylim=(tallest - 0.5, -0.5))
        name_level(axes, "x", explore.problem)
    return fig


def plot_cross(grid: pd.DataFrame, explore: Exploration) -> Figure:
    """Draw the mean outcome where two columns meet, as shades and numbers."""
    question, problem = "Do two columns together say more?", explore.problem
    if grid.empty:
        return plotting.empty(question)
    fig, axes = plotting.canvas(question, height=max(2.6, 0.3 * len(grid) + 1.2))
    low, form, ticks = (0.0, ".0%", "{x:.0%}") if problem.is_class else (None, ".3g", None)
    legend = {"label": plotting.plain(decisions.level_name(problem)), "format": ticks}
    table = grid.set_axis([short(name, 14) for name in grid], axis=1).set_axis([short(name, 20) for name in grid.index])
    style = {"annot": True, "annot_kws": {"fontsize": 7}, "linewidths": 1, "cmap": "Blues", "cbar_kws": legend}
    sns.heatmap(table, vmin=low, fmt=form, ax=axes, **style)
    axes.tick_params(labelsize=8, rotation=0)
    axes.tick_params(axis="x", rotation=30 if table.columns.str.len().max() > 4 else 0)
    zone = f" ({problem.timezone})" if grid.columns.name == "hour" and problem.time else ""
    axes.set(xlabel=label(grid.columns.name) + zone, ylabel=label(grid.index.name))
    return fig


def name_level(axes: Axes, which: str, problem: Problem) -> None:
    """Label an axis with what the mean of the outcome is called, in per cent if it is a share."""
    axes.set(**{f"{which}label": plotting.plain(decisions.level_name(problem))})
    if problem.is_class:
        plotting.as_share(axes, which)
