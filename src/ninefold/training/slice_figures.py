"""Figures and sentences on slices of the holdout: where predictions are biased, over time, by protected group; tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ninefold import display, plotting
from ninefold.metrics import cluster_name
from ninefold.problem import Problem, decisions
from ninefold.training.fairness import OTHERS
from ninefold.training.significance import FLIPS

MOST = 15  # slices in a figure
MOST_GROUPS = 30  # groups in a figure
RATES = {
    "selection_rate": (plotting.BLUE, "o", "selection rate"),
    "true_positive_rate": (plotting.GREEN, "^", "true positive rate"),
    "false_positive_rate": (plotting.ORANGE, "v", "false positive rate"),
}
MOSTLY = 0.9  # of the flagged slices that are biased alike, from which on the whole is biased
SHARES = (*RATES, "observed", "predicted")
P_VALUES = ("p", "q", "loss_p", "loss_q")
LEGEND: dict[str, Any] = {"frameon": False, "ncols": 2, "loc": "lower left", "bbox_to_anchor": (0, 1)}


def plot_slices(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the bias of the most significant slices, with intervals."""
    question, top = "Where are predictions biased?", table.head(MOST)
    if top.empty:
        return _empty(question)
    fig, axes = plotting.canvas(question, height=0.27 * len(top) + 1.3)
    flagged = top["flagged"].to_numpy(dtype=bool)
    for rows, color, label in ((flagged, plotting.RED, "significant"), (~flagged, plotting.BLUE, "not significant")):
        bias, places = top.loc[rows, "bias"], np.flatnonzero(rows)
        # Rounding may make an end negative.
        bars = [(bias - top["bias_low"][rows]).clip(lower=0), (top["bias_high"][rows] - bias).clip(lower=0)]
        if rows.any():
            axes.errorbar(bias, places, xerr=bars, fmt="o", ms=5, color=color, elinewidth=1.4, label=label)
    axes.axvline(0, color=plotting.GREY, ls="--", lw=1)
    _name_rows(axes, top, "feature")
    axes.set_xlabel(plotting.plain(f"predicted less observed {decisions.level_name(problem)}"))
    if problem.is_class:  # differences of shares are in points
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}" if value else "0"))
        axes.set_xlabel(f"{axes.get_xlabel()} (points)")
    fig.legend(frameon=False, ncols=2, loc="outside lower center")
    return fig


def plot_over_time(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain of each period with its interval, and below it predicted and observed means."""
    unit = table["unit"].iloc[0] if len(table) else "period"
    question = f"Does it hold from {unit} to {unit}?"
    if table.empty:
        return _empty(question)
    fig, (axes, below) = plotting.canvas(question, height=4.6, nrows=2, sharex=True, height_ratios=[3, 2])
    periods = table["period"]
    axes.fill_between(periods, table["low"], table["high"], color=plotting.BLUE, alpha=0.18, lw=0, label="interval")
    axes.plot(
        periods, table["gain"], color=plotting.BLUE, marker="o", ms=4, label="gain over the best policy without it"
    )
    axes.axhline(0, color=plotting.GREY, ls="--", lw=1)
    unit_name, payoff_unit = plotting.cut(problem.unit, 20), plotting.cut(problem.payoff_unit, 20)
    axes.set_ylabel(plotting.plain(f"gain per {unit_name}\n({payoff_unit})"))
    for name, color, style in (("observed", plotting.ORANGE, "-"), ("predicted", plotting.BLUE, "--")):
        below.plot(periods, table[name], color=color, ls=style, marker="o", ms=4, label=name)
    below.set(xlabel=f"{unit} (UTC)", ylabel=plotting.label(decisions.level_name(problem), 26))
    if problem.is_class:
        below.set_ylim(0, None)
        plotting.as_share(below)
    below.tick_params(axis="x", rotation=30)
    for each in (axes, below):
        each.legend(borderaxespad=0.2, **LEGEND)
    fig.align_ylabels()
    return fig


def plot_fairness(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the rates at which the rows of each group are selected."""
    question = "Who gets another action?" if problem.is_class else "For whom are predictions high?"
    top = table.head(MOST_GROUPS)
    if top.empty:
        return _empty(question)
    fig, axes = plotting.canvas(question, height=0.27 * len(top) + 1.3)
    rates = {name: look for name, look in RATES.items() if name in top}
    for number, (name, (color, marker, label)) in enumerate(rates.items()):
        offset = 0.14 * (number - (len(rates) - 1) / 2)  # or equal rates would hide each other
        axes.plot(top[name], np.arange(len(top)) + offset, marker, ms=6, color=color, label=label)
    for edge in np.flatnonzero(top["column"].ne(top["column"].shift())[1:]) + 0.5:
        axes.axhline(edge, color=plotting.GREY, lw=0.8, ls=":")
    _name_rows(axes, top, "column")
    axes.set(xlim=(-0.02, 1.02), xlabel="share of rows")
    plotting.as_share(axes, "x")
    fig.legend(frameon=False, ncols=3, loc="outside lower center")
    return fig


def formats(table: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    """Return how to show the columns of these tables that hold shares, or `p`."""
    shares = [name for name in SHARES if name in table and (problem.is_class or name in RATES)]
    shown = {name: lambda value: "–" if value != value else f"{value:.1%}" for name in shares}
    return {**shown, **{name: _p for name in P_VALUES if name in table}}


def describe_slices(table: pd.DataFrame, problem: Problem) -> str:
    """Return in which slices predictions are biased, and what that means; also an alt text."""
    if table.empty:
        return f"No slice has enough rows of enough {cluster_name(problem)}; that is no evidence of even quality."
    biased, differ, lose = table[table["flagged"]], int(table["differs"].sum()), int((table["high"] < 0).sum())
    rest = (
        f"The loss differs significantly from that of all other rows in {differ:,} of them: they are harder or easier. "
        f"The whole interval of the gain is below zero in {lose:,}, a few of which may be sampling noise."
    )
    if biased.empty:
        return (
            f"Of the {len(table):,} slices with enough rows none is significantly biased. Among so many, small slices need "
            f"a large bias to be significant. {rest}"
        )
    first = biased.iloc[0]
    over = float((biased["bias"] > 0).mean())
    whole = ""
    if len(biased) > len(table) / 2 and max(over, 1 - over) >= MOSTLY:
        whole = f" Nearly all of them {'over' if over > 0.5 else 'under'}state: predictions are biased as a whole."
    name = f"{display.code(first['feature'])} = {display.code(plotting.cut(str(first['group']), 60))}"
    return (
        f"In **{len(biased):,} of {len(table):,}** slices with enough rows predictions are significantly biased, corrected "
        f"for their number. The most significant is {name}, {first['rows']:,} rows: {_bias(first, problem)}.{whole} Slices "
        f"overlap, so that a bias in one shows in others. {rest}"
    )


def describe_over_time(table: pd.DataFrame, problem: Problem) -> str:
    """Return whether the model gained in every period, and the largest bias; also an alt text."""
    if table.empty:
        few = (
            "The holdout spans too few periods of enough rows."
            if problem.time
            else f"The {problem.units} have no time."
        )
        return f"{few} There is nothing to show over time."
    unit, gap = table["unit"].iloc[0], table["predicted"] - table["observed"]
    least, most = table.loc[table["gain"].idxmin()], table.loc[gap.abs().idxmax()]
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    number, level = decisions.number, decisions.show_level
    return (
        f"Over {len(table)} {unit}s the gain per {problem.unit} is between {number(table['gain'].min(), '+')} ({unit} of "
        f"{least['period']:%Y-%m-%d}) and {number(table['gain'].max(), '+')}. Its interval is above zero in {above} of them "
        f"and below in {below}. Predicted and observed differ most in the {unit} of {most['period']:%Y-%m-%d}: "
        f"{level(most['predicted'], problem)} against {level(most['observed'], problem)}. Each interval holds for its own "
        f"{unit}, not for the next."
    )


def describe_tests(table: pd.DataFrame) -> str:
    """Return whether the model is better than what needs no model, and what the p values mean."""
    if table.empty:
        return "Nothing was tested."
    return (
        f"{' '.join(_test(row) for _, row in table.iterrows())} A p value is the share of random signs of whole blocks (days, "
        "entities or rows) that do as well. It holds for a holdout that is opened once: it is too small if the model is "
        "changed after a look at it."
    )


def describe_fairness(table: pd.DataFrame, gaps: pd.DataFrame) -> str:
    """Return the gaps between the groups of the protected columns, and what they do not mean; also an alt text."""
    if table.empty:
        return "No protected column is declared (`training.protected`), so no groups are compared."
    selected = "its prediction is above the median"
    if "true_positive_rate" in table:  # of classes
        selected = "it gets another action than the best policy without a model"
    pooled = f" Groups of few rows are pooled as {display.code(OTHERS)}." if (table["group"] == OTHERS).any() else ""
    return (
        f"A row is selected if {selected}. {' '.join(_gap(row) for _, row in gaps.iterrows())}{pooled} A gap is no proof of "
        "unfair treatment, nor its absence of fair treatment: groups may differ in their outcomes, and not all measures "
        "can be equal at once."
    )


def describe_worst(table: pd.DataFrame, problem: Problem) -> str:
    """Return the row of the largest loss, and what single rows do not mean."""
    if table.empty:
        return "There are no rows."
    row = table.iloc[0]
    key = ", ".join(f"{display.code(name)} {display.code(row.iloc[place])}" for place, name in enumerate(problem.key))
    text = f"{decisions.number(row['forecast'])} was predicted, the outcome is" if not problem.is_class else ""
    if problem.task == "binary":
        text = f"the event had a probability of {row['forecast']:.3f}, the outcome is"
    elif problem.is_class:
        text = f"{display.code(row['forecast'])} was most probable; of probability {row['probability']:.3f} was the outcome,"
    outcome = display.code(row["outcome"]) if problem.is_class else decisions.number(row["outcome"])
    return (
        f"The largest loss is that of {key}: {text} {outcome}. Right predictions have large losses too: look at what "
        "these rows have in common, and whether their outcomes were recorded correctly, not at one of them alone."
    )


def _empty(question: str) -> Figure:
    fig, axes = plotting.canvas(question, height=1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "too few rows to show anything", ha="center", va="center", transform=axes.transAxes)
    return fig


def _name_rows(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """Name the rows of a figure by group and number of rows, the first on top."""
    columns = (table[name] for name in (column, "group", "rows"))
    names = [f"{_label(name)}: {_label(group, 26)}  ({rows:,})" for name, group, rows in zip(*columns, strict=True)]
    axes.set_yticks(np.arange(len(table)), names, fontsize=8)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _label(name: Any, most: int = 24) -> str:
    return plotting.label(" ".join(str(name).split()) or '""', most)


def _bias(row: pd.Series, problem: Problem) -> str:
    """Return the bias of a slice, as the end of a sentence."""
    over, factor = row["bias"] > 0, 100 if problem.is_class else 1
    ends = (row["bias_low"], row["bias_high"]) if over else (-row["bias_high"], -row["bias_low"])
    show = "{:.1f}".format if problem.is_class else decisions.number
    by, low, high = (show(factor * value) for value in (abs(row["bias"]), *ends))
    unit = " points" if problem.is_class else ""
    return f"they {'over' if over else 'under'}state by {by}{unit} (interval {low} to {high})"


def _test(row: pd.Series) -> str:
    measure, _, other = row["comparison"].partition(" against ")
    low, high, mean = (decisions.number(row[name]) for name in ("low", "high", "difference"))
    better = "higher than" if measure == "payoff" else "lower than"
    least = 1 / (1 + FLIPS)
    p = f"p = {least:.4f}, the least that {FLIPS:,} draws can show" if row["p"] <= least else f"p = {_p(row['p'])}"
    return (
        f"The {measure} is {better if row['difference'] > 0 else 'no better than'} that of {other}, by a mean of {mean} a row "
        f"(interval {low} to {high}; {p})."
    )


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _gap(row: pd.Series) -> str:
    name, rate = display.code(row["column"]), row["rate"]
    if row["value"] != row["value"]:
        return f"By {name} the {rate} cannot be compared: fewer than two groups have enough rows."
    low, high = (f"{100 * row[end]:.1f}" for end in ("low", "high"))
    return (
        f"By {name} the {row['measure']} is {100 * row['value']:.1f} points (interval {low} to {high}), "
        f"{'significant' if row['low'] > 0 else 'not significant'}: the {rate} is highest for {display.code(row['highest'])} "
        f"and lowest for {display.code(row['lowest'])}."
    )
