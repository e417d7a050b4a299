"""Figures and sentences on slices of the holdout: where predictions are biased, over time, by protected group; tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.metrics import cluster_name
from ninefold.problem import Problem, decisions
from ninefold.training import figures
from ninefold.training.fairness import OTHERS
from ninefold.training.significance import FLIPS

MOST = 15  # slices in a figure
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
MOSTLY = 0.9  # of the flagged slices that are biased alike, from which on the whole is biased


def plot_slices(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the bias of the most significant slices, with intervals; differences of shares are in points."""
    question, top, unit = "Where are predictions biased?", table.head(MOST), 100 if problem.is_class else 1
    if top.empty:
        return _empty(question)
    names = [f"{_name(row.feature, 24)}: {_name(row.group, 26)}  ({row.rows:,})" for row in top.itertuples()]
    bias = unit * top[["bias", "bias_low", "bias_high"]].set_axis(["bias", "low", "high"], axis=1)
    colors, points = np.where(top["flagged"], plotting.RED, plotting.SKY), " (points)" * problem.is_class
    label = f"predicted less observed {decisions.level_name(problem)}{points}, significant in red"
    return figures.bars(question, names, bias["bias"], figures.reach(bias, "bias"), colors, label)


def plot_over_time(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain of each period with its interval, and below it predicted and observed means."""
    if table.empty:
        return _empty("Does it hold from period to period?")
    unit, periods = table["unit"].iloc[0], table["period"]
    grid: dict[str, Any] = {"height": 4.6, "nrows": 2, "sharex": True, "height_ratios": [3, 2]}
    fig, (axes, below) = plotting.canvas(f"Does it hold from {unit} to {unit}?", **grid)
    axes.fill_between(periods, table["low"], table["high"], color=plotting.BLUE, alpha=0.18, lw=0, label="interval")
    for panel, name, color, style, label in (
        (axes, "gain", plotting.BLUE, "-", "gain over the best policy without it"),
        (below, "observed", plotting.ORANGE, "-", "observed"),
        (below, "predicted", plotting.BLUE, "--", "predicted"),
    ):
        panel.plot(periods, table[name], color=color, ls=style, marker="o", ms=4, label=label)
        panel.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    axes.axhline(0, color=plotting.GREY, ls="--", lw=1)
    axes.set_ylabel(f"gain per {plotting.label(problem.unit, 20)}\n({plotting.label(problem.payoff_unit, 20)})")
    below.set(xlabel=f"{unit} (UTC)", ylabel=plotting.label(decisions.level_name(problem), 26))
    if problem.is_class:
        below.set_ylim(0, None)
        plotting.as_share(below)
    below.tick_params(axis="x", rotation=30)
    fig.align_ylabels()
    return fig


def formats(table: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    """Return how to show the columns of these tables that hold shares, or `p`."""
    shares = (*RATES, "observed", "predicted") if problem.is_class else RATES
    shown = dict.fromkeys(shares, display.SHARE) | dict.fromkeys(("p", "q"), _p)
    return {name: form for name, form in shown.items() if name in table}


def describe_slices(table: pd.DataFrame, problem: Problem) -> str:
    """Return in which slices predictions are biased, and what that means; also an alt text."""
    if table.empty:
        return f"No slice has enough rows of enough {cluster_name(problem)}; that is no evidence of even quality."
    biased, unit, scale = table[table["flagged"]], " points" * problem.is_class, 100 if problem.is_class else 1
    facts = "Among so many, small slices need a large bias to be significant." if biased.empty else ""
    for first in biased.head(1).to_dict("records"):
        name = f"{display.code(first['feature'])} = {display.code(plotting.cut(str(first['group']), 60))}"
        bias, low, high = (decisions.number(scale * first[end], "+") for end in ("bias", "bias_low", "bias_high"))
        facts = (
            f"The most significant is {name}, {first['rows']:,} rows: predicted less observed is {bias}{unit} (interval {low} "
            f"to {high}). Slices overlap: a bias in one shows in others."
        )
    over = (biased["bias"] > 0).mean()
    if len(biased) > len(table) / 2 and not 1 - MOSTLY < over < MOSTLY:
        facts += f" Nearly all are too {'high' if over > 0.5 else 'low'}: predictions are biased as a whole."
    return (
        f"In **{len(biased):,} of {len(table):,}** slices with enough rows predictions are significantly biased, corrected "
        f"for their number. {facts} The whole interval of the gain is below zero in {(table['high'] < 0).sum():,}, a few of "
        "which may be sampling noise."
    )


def describe_over_time(table: pd.DataFrame, problem: Problem) -> str:
    """Return whether the model gained in every period, and the largest bias; also an alt text."""
    if table.empty:
        return "Nothing to show over time: the rows have no time, or the holdout spans too few periods of enough rows."
    unit, gap, number = table["unit"].iloc[0], table["predicted"] - table["observed"], decisions.number
    least, most = table.loc[table["gain"].idxmin()], table.loc[gap.abs().idxmax()]
    predicted, observed = (decisions.show_level(most[name], problem) for name in ("predicted", "observed"))
    return (
        f"Over {len(table)} {unit}s the gain per {problem.unit} is between {number(least['gain'], '+')} ({unit} of "
        f"{least['period']:%Y-%m-%d}) and {number(table['gain'].max(), '+')}; its interval is above zero in "
        f"{(table['low'] > 0).sum()} of them and below in {(table['high'] < 0).sum()}. Predicted and observed differ most in "
        f"the {unit} of {most['period']:%Y-%m-%d}: {predicted} against {observed}. Each interval holds for its own {unit}, not "
        "for the next."
    )


def describe_tests(table: pd.DataFrame) -> str:
    """Return whether the model is better than what needs no model, and what the p values mean."""
    tests = []
    for row in table.to_dict("records"):
        mean, low, high = (decisions.number(row[name], "+") for name in ("difference", "low", "high"))
        better = "better" if row["difference"] > 0 else "no better"
        facts = f"{better}, by {mean} a row (interval {low} to {high}; p = {_p(row['p'])})"
        tests.append(f"{row['comparison'].capitalize()}: {facts}.")
    return (
        f"{' '.join(tests)} A p value is the share of {FLIPS:,} random signs of whole clusters (days, entities or rows) that do "
        "as well. It holds for a holdout that is opened once: it is too small if the model is changed after a look at it."
    )


def describe_fairness(table: pd.DataFrame, gaps: pd.DataFrame) -> str:
    """Return the gaps between the groups of the protected columns, and what they do not mean."""
    if table.empty:
        return "No protected column is declared (`training.protected`), so no groups are compared."
    selected = "its prediction is above the median"
    if "true_positive_rate" in table:  # of classes
        selected = "it gets another action than the best policy without a model"
    return (
        f"A row is selected if {selected}. {' '.join(map(_gap, gaps.to_dict('records')))} Groups of few rows are pooled as "
        f"{display.code(OTHERS)}. A gap is no proof of unfair treatment, nor its absence of fair treatment: groups may differ "
        "in their outcomes, and not all measures can be equal at once."
    )


def describe_worst(table: pd.DataFrame, problem: Problem) -> str:
    """Return the row of the largest loss, and what single rows do not mean."""
    row = table.iloc[0]
    key = ", ".join(f"{display.code(name)} {display.code(row.iloc[place])}" for place, name in enumerate(problem.key))
    shown = {name: row[name] for name in ("forecast", "outcome", "probability") if name in row}
    texts = [value if isinstance(value, str) else decisions.number(value) for value in shown.values()]
    facts = ", ".join(f"{name} {display.code(text)}" for name, text in zip(shown, texts, strict=True))
    return (
        f"The largest loss is that of {key}: {facts}. Right predictions have large losses too: look at what these rows have "
        "in common, and whether their outcomes were recorded correctly, not at one of them alone."
    )


def _empty(question: str) -> Figure:
    fig, axes = plotting.canvas(question, height=1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "too few rows to show anything", ha="center", va="center", transform=axes.transAxes)
    return fig


def _name(name: Any, most: int) -> str:
    return plotting.cut(" ".join(str(name).split()) or '""', most)


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _gap(row: dict[str, Any]) -> str:
    name, rate = display.code(row["column"]), row["rate"]
    if pd.isna(row["value"]):
        return f"By {name} the {rate} cannot be compared: fewer than two groups have enough rows."
    value, low, high = (f"{100 * row[end]:.1f}" for end in ("value", "low", "high"))
    significant = "significant" if row["low"] > 0 else "not significant"
    ends = f"highest for {display.code(row['highest'])} and lowest for {display.code(row['lowest'])}"
    return f"By {name} the {row['measure']} is {value} points (interval {low} to {high}), {significant}: the {rate} is {ends}."
