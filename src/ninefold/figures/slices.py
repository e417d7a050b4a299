"""Figures and sentences on the parts of the holdout: where the forecast is off, whether it holds along time, for whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ninefold.core import decisions, plots, show
from ninefold.core.fairness import OTHERS
from ninefold.core.scores import block_name
from ninefold.core.slices import FLIPS

MOST = 15  # parts in a figure
MOST_GROUPS = 30  # groups in a figure
RATES = {
    "selection_rate": (plots.BLUE, "o", "selected"),
    "true_positive_rate": (plots.GREEN, "^", "selected, of events"),
    "false_positive_rate": (plots.ORANGE, "v", "selected, of the others"),
}
WHOLE = 0.9  # of the flagged parts that lean one way, from which on it is the level that is off
SHARES = ("selection_rate", "true_positive_rate", "false_positive_rate", "observed", "predicted")


def plot_slices(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the bias of the parts of which one can be surest that they have one, with intervals, the surest on top."""
    question, top = "Where is the forecast off?", table.head(MOST)
    if top.empty:
        return _nothing(question)
    fig, axes = plots.canvas(question, height=0.27 * len(top) + 1.3)
    places, flagged = np.arange(len(top)), top["flagged"].to_numpy(dtype=bool)
    for which, color, label in ((flagged, plots.RED, "off beyond chance"), (~flagged, plots.BLUE, "may be chance")):
        rows = top[which]
        if len(rows):
            ends = [rows["bias"] - rows["bias_low"], rows["bias_high"] - rows["bias"]]
            bars = [end.clip(lower=0) for end in ends]  # rounding may leave less than nothing
            axes.errorbar(
                rows["bias"], places[which], xerr=bars, fmt="o", ms=5, color=color, elinewidth=1.4, label=label
            )
    axes.axvline(0, color=plots.GREY, ls="--", lw=1)
    names = [f"{_label(row.feature)}: {_label(row.group, 26)}  ({row.rows:,})" for row in top.itertuples()]
    axes.set_yticks(places, names, fontsize=8)
    axes.set(ylim=(len(top) - 0.5, -0.5), xlabel=plots.plain(f"predicted less observed {decisions.level_name(stated)}"))
    axes.grid(axis="y", visible=False)
    _differences(axes, stated)
    fig.legend(frameon=False, ncols=2, loc="outside lower center")
    return fig


def plot_over_time(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the gain of each period with its interval, and below it what was predicted and what came."""
    unit = table["unit"].iloc[0] if len(table) else "period"
    question = f"Does it hold from {unit} to {unit}?"
    if table.empty:
        return _nothing(question)
    fig, (axes, below) = plots.canvas(question, height=4.6, nrows=2, sharex=True, height_ratios=[3, 2])
    when = table["period"]
    axes.fill_between(when, table["low"], table["high"], color=plots.BLUE, alpha=0.18, lw=0, label="interval")
    axes.plot(when, table["gain"], color=plots.BLUE, marker="o", ms=4, label="gain over the best policy without it")
    axes.axhline(0, color=plots.GREY, ls="--", lw=1)
    axes.set_ylabel(plots.plain(f"gain per {plots.cut(stated['unit'], 20)}\n({plots.cut(stated['payoff_unit'], 20)})"))
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    for name, color, style in (("observed", plots.ORANGE, "-"), ("predicted", plots.BLUE, "--")):
        below.plot(when, table[name], color=color, ls=style, marker="o", ms=4, label=name)
    below.set(xlabel=f"{unit} (UTC)", ylabel=plots.label(decisions.level_name(stated), 26))
    if decisions.is_class(stated):
        below.set_ylim(0, None)
        plots.as_share(below)
    below.tick_params(axis="x", rotation=30)
    below.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    fig.align_ylabels()
    return fig


def plot_fairness(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw how often the rows of each group are selected: all of them, the events, and the others."""
    question, top = "Who gets another action?", table.head(MOST_GROUPS)
    if not decisions.is_class(stated):
        question = "For whom is much predicted?"
    if top.empty:
        return _nothing(question)
    fig, axes = plots.canvas(question, height=0.27 * len(top) + 1.3)
    places = np.arange(len(top))
    shown = {name: look for name, look in RATES.items() if name in top}
    for number, (name, (color, marker, label)) in enumerate(shown.items()):
        offset = 0.14 * (number - (len(shown) - 1) / 2)  # or equal rates would hide each other
        axes.plot(top[name], places + offset, marker, ms=6, color=color, label=label)
    names = [f"{_label(row.column)}: {_label(row.group, 26)}  ({row.rows:,})" for row in top.itertuples()]
    axes.set_yticks(places, names, fontsize=8)
    for edge in np.flatnonzero(top["column"].ne(top["column"].shift())[1:]) + 0.5:
        axes.axhline(edge, color=plots.GREY, lw=0.8, ls=":")
    axes.set(ylim=(len(top) - 0.5, -0.5), xlim=(-0.02, 1.02), xlabel="share of rows")
    axes.grid(axis="y", visible=False)
    plots.as_share(axes, "x")
    fig.legend(frameon=False, ncols=3, loc="outside lower center")
    return fig


def formats(table: pd.DataFrame, stated: dict[str, Any]) -> dict[str, Any]:
    """Return how to show the columns of these tables that hold shares, or `p`."""
    shares = {name: lambda value: "–" if value != value else f"{value:.1%}" for name in SHARES if name in table}
    if not decisions.is_class(stated):
        shares = {name: form for name, form in shares.items() if name.endswith("_rate")}
    return {**shares, **{name: _p for name in ("p", "q", "loss_p", "loss_q") if name in table}}


def describe_slices(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return in which parts the forecast is off, and what that does and does not mean; also an alt text."""
    if table.empty:
        return (
            f"No slice has enough rows of enough {block_name(stated)} to be judged by itself; that says nothing of how "
            "even the forecast is."
        )
    off = table[table["flagged"]]
    rest = _loss_and_gain(int(table["differs"].sum()), int((table["high"] < 0).sum()))
    if off.empty:
        return (
            f"Of the {len(table):,} parts with enough rows none has an average that is off beyond chance. That is no "
            f"proof that the forecast is even: a small part has to be far off to be told from luck among so many. {rest}"
        )
    worst = off.iloc[0]
    return (
        f"In **{len(off):,} of {len(table):,}** parts with enough rows the forecast is off on average beyond chance, "
        f"though so many were looked at. The surest is {_part(worst)}, {worst['rows']:,} rows: {_bias(worst, stated)}. "
        f"{_leaning(off, table)}{rest}"
    )


def describe_over_time(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return whether the model gained in every period, and how near the level was; also an alt text."""
    if table.empty and not stated["time"]:
        return f"The {stated['units']} have no time, so there is no course to look at."
    if table.empty:
        return "The holdout spans too few periods of enough rows to show a course."
    unit, gap = table["unit"].iloc[0], table["predicted"] - table["observed"]
    least, most = table.loc[table["gain"].idxmin()], table.loc[gap.abs().idxmax()]
    above, below = int((table["low"] > 0).sum()), int((table["high"] < 0).sum())
    number = decisions.number
    return (
        f"Over {len(table)} {unit}s the gain per {stated['unit']} is between {number(table['gain'].min(), '+')} and "
        f"{number(table['gain'].max(), '+')}, the least in the {unit} of {least['period']:%Y-%m-%d}. Its "
        f"interval lies above zero in {above} of them and below in {below}. Predicted and observed differ most in the "
        f"{unit} of {most['period']:%Y-%m-%d}: {decisions.show_level(most['predicted'], stated)} against "
        f"{decisions.show_level(most['observed'], stated)}. Each interval stands for itself and knows its own {unit} "
        "alone; none says what the next will be."
    )


def describe_tests(table: pd.DataFrame) -> str:
    """Return whether the forecast is better than what needs no model, and what the p values do not mean."""
    if table.empty:
        return "Nothing was tested."
    lines = [_tested(row) for _, row in table.iterrows()]
    return (
        f"{' '.join(lines)} A p value is how often exchanging the signs of whole blocks (days, entities or rows) at random "
        "does as well. It is not the chance that the model is useless, it says nothing of how large the advantage is, and it "
        "holds for a holdout that was opened once: whoever looks, changes the model and looks again makes it too small."
    )


def describe_fairness(table: pd.DataFrame, gaps: pd.DataFrame) -> str:
    """Return the gaps between the groups of the protected columns, and what they do not mean; also an alt text."""
    if table.empty:
        return "No protected column is declared (`training.protected`), so nothing is said of who gets what."
    selected = "has a prediction above the median one"
    if "true_positive_rate" in table:  # of classes
        selected = "gets another action than the best policy without a model gives to all"
    lines = [_unequal(row) for _, row in gaps.iterrows()]
    pooled = f" Values of few rows are pooled as {show.code(OTHERS)}." if (table["group"] == OTHERS).any() else ""
    return (
        f"A row is selected if it {selected}. {' '.join(lines)}{pooled} A gap is no proof "
        "of unfair treatment, nor its absence of a fair one: groups may differ in what happens to them, the measures "
        "cannot all be equal at once, and of columns that are not declared nothing is known."
    )


def describe_worst(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the row that was forecast worst, and what single rows do not mean."""
    if table.empty:
        return "There is no row to look at."
    row, key = table.iloc[0], stated["key"]
    named = ", ".join(f"{show.code(name)} {show.code(row.iloc[place])}" for place, name in enumerate(key))
    return (
        f"The worst forecast is that of {named}: {_said(row, stated)}. Large losses befall a right forecast too; what "
        "these rows share, and whether their outcomes were recorded rightly, is worth a look, one of them alone is not."
    )


def _nothing(question: str) -> Figure:
    fig, axes = plots.canvas(question, height=1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "too few rows to show anything", ha="center", va="center", transform=axes.transAxes)
    return fig


def _label(name: Any, most: int = 24) -> str:
    return plots.label(" ".join(str(name).split()) or '""', most)


def _part(row: pd.Series) -> str:
    return f"{show.code(row['feature'])} = {show.code(plots.cut(str(row['group']), 60))}"


def _differences(axes: Axes, stated: dict[str, Any]) -> None:
    """Write differences of shares in points."""
    if decisions.is_class(stated):
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}" if value else "0"))
        axes.set_xlabel(f"{axes.get_xlabel()} (points)")


def _bias(row: pd.Series, stated: dict[str, Any]) -> str:
    """Return by how much a part is off, as the end of a sentence."""
    over = row["bias"] > 0
    ends = (row["bias_low"], row["bias_high"]) if over else (-row["bias_high"], -row["bias_low"])
    by, low, high = (_points(value, stated) for value in (abs(row["bias"]), *ends))
    unit = " points" if decisions.is_class(stated) else ""
    return f"it {'over' if over else 'under'}states by {by}{unit} (interval {low} to {high})"


def _points(value: float, stated: dict[str, Any]) -> str:
    return f"{100 * value:.1f}" if decisions.is_class(stated) else decisions.number(value)


def _leaning(off: pd.DataFrame, table: pd.DataFrame) -> str:
    """Return whether it is the level of the whole that is off, or parts; parts overlap."""
    over = float((off["bias"] > 0).mean())
    if len(off) > len(table) / 2 and max(over, 1 - over) >= WHOLE:
        way = "overstate" if over > 0.5 else "understate"
        return f"Nearly all of them {way}: it is the level of the whole that is off, more than single parts. "
    return "Parts overlap, so a fault of one shows, thinned, in others that hold its rows. "


def _loss_and_gain(differ: int, lose: int) -> str:
    """Return in how many parts the loss is another, and the gain below zero."""
    loss = "In none does the loss surely differ from that of all other rows. "
    if differ:
        loss = (
            f"In {differ:,} the loss differs from that of all other rows beyond chance: harder or easier parts, which is "
            "no fault of the forecast. "
        )
    if not lose:
        return f"{loss}In none does the whole interval of the gain lie below zero."
    return (
        f"{loss}In {lose:,} the whole interval of the gain lies below zero: there the best policy without a model paid "
        "more, though of many parts a few show that by luck."
    )


def _tested(row: pd.Series) -> str:
    name, _, what = row["comparison"].rpartition(": ")  # a user's name may hold anything
    measure, _, against = what.partition(" against ")
    low, high = decisions.number(row["low"]), decisions.number(row["high"])
    better = row["difference"] > 0
    verb = f"{'higher' if measure == 'payoff' else 'lower'} than" if better else "no better than"
    by = f"that of {against}, by a mean of {decisions.number(row['difference'])} a row"
    of = f" of {show.code(name)}" if name else ""
    return f"The {measure}{of} is {verb} {by} (interval {low} to {high}; {_is_p(row['p'])})."


def _is_p(p: float) -> str:
    least = 1 / (1 + FLIPS)
    return f"p = {p:.4f}, the least that {FLIPS:,} draws can show" if p <= least else f"p = {_p(p)}"


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _unequal(row: pd.Series) -> str:
    name, rate = show.code(row["column"]), row["rate"]
    if row["value"] != row["value"]:
        return f"By {name} the {rate} cannot be compared: fewer than two groups have rows enough."
    low, high = (f"{100 * row[end]:.1f}" for end in ("low", "high"))
    beyond = "beyond chance" if row["low"] > 0 else "which may be chance"
    return (
        f"By {name} the {row['measure']} is {100 * row['value']:.1f} points (interval {low} to {high}), {beyond}: "
        f"the {rate} is highest for {show.code(row['highest'])} and lowest for {show.code(row['lowest'])}."
    )


def _said(row: pd.Series, stated: dict[str, Any]) -> str:
    if not decisions.is_class(stated):
        return f"{decisions.number(row['forecast'])} was predicted and {decisions.number(row['outcome'])} came"
    if stated["task"] == "binary":
        given = f"the event had a probability of {row['forecast']:.3f}"
    else:
        given = f"{show.code(row['forecast'])} was most probable, and what came had a probability of {row['probability']:.3f}"
    return f"{given}; {show.code(row['outcome'])} came"
