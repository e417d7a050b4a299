"""The figures of stage 09 and their sentences, which are alt texts too; where nothing has arrived, of the holdout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.metrics import FOLLOW, with_interval
from ninefold.monitoring.answers import HOLDOUT
from ninefold.monitoring.arrivals import Parts, Record
from ninefold.monitoring.params import Params
from ninefold.monitoring.tables import figures_by_period, sign_text
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

MOST, FEATURES, POLICIES = 12, 24, 5  # in a figure: the last periods, the features that moved most, the best policies
LAST = 5  # periods with a calibration curve, and named in a sentence
ONLY_TIME = "The model sees nothing but the time of the event, which moves by itself."


def empty_figure(question: str, text: str) -> Figure:
    """Draw a text instead of a figure for which there is no row."""
    fig, axes = plotting.canvas(question, height=1.4)
    axes.text(0.5, 0.5, text, ha="center")
    axes.set_axis_off()
    return fig


def plot_drift(drifts: pd.DataFrame, params: Params) -> Figure:
    """Draw the PSI of the features that moved most, per period beside the holdout; bold where a feature drifted."""
    import seaborn as sns

    table = drifts.pivot(index="feature", columns="period", values="psi")
    table = table.reindex(columns=[HOLDOUT, *sorted(set(table) - {HOLDOUT})[-MOST:]])
    table = table.loc[table.max(axis=1).sort_values(ascending=False).index[:FEATURES]]
    question = "Which inputs have moved?"
    if table.empty:
        return empty_figure(question, ONLY_TIME)
    fig, axes = plotting.canvas(question, width=8, height=0.27 * len(table) + 1.4)
    sns.heatmap(
        table, vmin=0, vmax=4 * max(params.alerts.inputs.limit, 1e-9), cmap="Blues", annot=True, fmt=".2f",
        annot_kws={"fontsize": 8}, yticklabels=[plotting.label(name) for name in table.index], cbar=False, ax=axes,
    )  # fmt: skip
    drifted = drifts.pivot(index="feature", columns="period", values="drifted").loc[table.index, table.columns].eq(True)
    for text, is_bold in zip(axes.texts, drifted.to_numpy()[table.notna().to_numpy()], strict=True):
        text.set_fontweight("bold" if is_bold else "normal")
    axes.axvline(1, color="white", lw=3)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axes.tick_params(axis="x", rotation=45 if len(table.columns) > 8 else 0)
    return fig


def plot_performance(records: list[Record], baseline: Record, problem: Problem) -> Figure:
    """Draw three figures with their intervals, of the holdout and of each period: ranking, error, and gap."""
    ranking, error = RANKING[problem.task], ERROR[problem.task]
    titles = {
        ranking: f"{title(ranking)} (higher is better)",
        error: f"{title(error)} (lower is better)",
        "gap": f"predicted less observed\n{decisions.level_name(problem)}",
    }
    spans = figures_by_period(records[-MOST:], baseline)
    fig, panels = plotting.canvas("Is it as good as it was on the holdout?", height=3.2, ncols=len(titles))
    for axes, (name, text) in zip(panels, titles.items(), strict=True):
        values = pd.DataFrame([figures.get(name, {}) for figures in spans.values()], columns=["value", "low", "high"])
        axes.axhspan(values["low"][0], values["high"][0], color=plotting.SKY, alpha=0.25, lw=0)
        _points(axes, range(len(spans)), values)
        axes.set_title(plotting.plain(text), fontsize=9)
        _period_axis(axes, list(spans), room=2)
    panels[-1].axhline(0, color=plotting.GREY, lw=1)
    if problem.is_class:
        plotting.as_share(panels[-1])
    return fig


def plot_calibration(curves: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the observed against the predicted mean by decile of the prediction, on the holdout and in the last periods."""
    holdout, *later = curves["period"].unique()
    names = [holdout, *later[-LAST:]]
    fig, panels = plotting.canvas(
        "Do the predictions still mean what they say?",
        width=min(8.0, 2.7 * len(names) + 1), height=3, ncols=len(names), sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    ends = curves[["predicted", "low", "high"]].to_numpy("float64")
    line = [min(0.0, np.nanmin(ends)) if problem.is_class else np.nanmin(ends), np.nanmax(ends)]
    for axes, name in zip(panels[0], names, strict=True):
        part = curves[curves["period"] == name]
        axes.plot(line, line, color=plotting.GREY, ls="--", lw=1, label="perfect")
        _points(axes, part["predicted"], part, label="by decile")
        axes.plot(part["predicted"], part["value"], color=plotting.BLUE, lw=1)
        axes.set_title(name, fontsize=9)
    level, first = plotting.plain(decisions.level_name(problem)), panels[0][0]
    if problem.is_class:
        plotting.as_share(first)
        plotting.as_share(first, "x")
    first.set_ylabel(f"observed {level}")
    first.legend(frameon=False, fontsize=8, loc="upper left")
    fig.supxlabel(f"predicted {level}", fontsize=9)
    return fig


def plot_weeks(weeks: pd.DataFrame, volume: pd.DataFrame, baseline: Record, problem: Problem) -> Figure:
    """Draw the predicted and the observed level per week, from the holdout on; dotted lines are where periods begin."""
    question = "Are predicted and observed the same?"
    if weeks.empty:
        return empty_figure(question, "Without time there are no weeks.")
    fig, axes = plotting.canvas(question, height=3)
    for name, color, style in (("observed", plotting.ORANGE, "-"), ("predicted", plotting.BLUE, "--")):
        axes.plot(weeks["week"], weeks[name], color=color, ls=style, marker="o", ms=4, label=name)
    for start in volume["start"]:
        axes.axvline(start, color=plotting.GREY, lw=0.8, ls=":")
    axes.set(xlabel="week (UTC)", ylabel=plotting.plain(decisions.level_name(problem)))
    axes.tick_params(axis="x", rotation=30)
    if problem.is_class:
        axes.set_ylim(0, None)
        plotting.as_share(axes)
    axes.legend(frameon=False)
    return fig


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what following the model pays per row, on the holdout and in each period, beside the best other policies."""
    means = table.groupby("policy", sort=False)["payoff"].mean().drop([decisions.FORESIGHT, FOLLOW])
    shown = [FOLLOW, *means.nlargest(POLICIES).index]
    holdout, *later = table["period"].unique()
    names = [holdout, *later[-MOST:]]
    fig, axes = plotting.canvas("Is it still worth following the model?", height=3.2)
    for number, policy in enumerate(shown):
        part = table[table["policy"] == policy].set_index("period").reindex(names).rename(columns={"payoff": "value"})
        places = np.arange(len(names)) + 0.12 * (number - (len(shown) - 1) / 2)
        _points(axes, places, part, plotting.PALETTE[number], plotting.label(policy))
    _period_axis(axes, names)
    axes.set_ylabel(plotting.plain(f"payoff per {problem.unit}\n({problem.payoff_unit})"))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, parts: Parts, problem: Problem) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return ONLY_TIME
    counts = drifts.groupby("period")["drifted"].sum()
    names = [HOLDOUT, *counts.index.drop(HOLDOUT)[-LAST:]]
    top = drifts[(drifts["period"] != HOLDOUT) | (len(names) == 1)].sort_values("psi").iloc[-1]
    text = (
        f"Features that drifted, of {drifts['feature'].nunique()}: {_by_period({name: str(counts[name]) for name in names})}. "
        f"The largest PSI is {top['psi']:.2f}, of {display.code(top['feature'])} in {top['period']}."
    )
    if problem.time and len(frame):
        fitted = pd.concat([parts[name][problem.time] for name in ("train", "validation")])
        if new := len(set(frame[problem.time].dt.month) - set(fitted.dt.month)):
            text += f" {new} of these calendar months are not in the training rows: season and change look alike."
    return text


def describe_performance(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    spans, texts = figures_by_period(records, baseline), []
    for name, sign in ((RANKING[problem.task], 1), (ERROR[problem.task], -1), ("skill", 1)):
        later = {period: figures[name] for period, figures in spans.items() if period != HOLDOUT and name in figures}
        worst = min(later, key=lambda period: sign * later[period]["value"], default="")
        since = f", and at worst {with_interval(later[worst])} in {worst}" if worst else ""
        texts.append(f"The {title(name)} is {with_interval(spans[HOLDOUT].get(name))} on the holdout{since}.")
    return f"{' '.join(texts)} The skill compares with a prediction that knows the period's own level."


def describe_calibration(records: list[Record], baseline: Record, problem: Problem) -> str:
    """Return by how much the predictions are off on the holdout and in the last periods; also an alt text."""
    spans = figures_by_period(records[-LAST:], baseline)
    gaps = {period: with_interval(figures["gap"]) for period, figures in spans.items() if "gap" in figures}
    level = decisions.level_name(problem)
    return f"Predicted less observed {level}: {_by_period(gaps)}. Above zero the model predicts too much."


def describe_weeks(weeks: pd.DataFrame, baseline: Record, problem: Problem) -> str:
    """Return in which week the prediction was farthest off; without time, how far on the holdout; also an alt text."""
    level, worst = decisions.level_name(problem), {name: each["value"] for name, each in baseline["figures"].items()}
    where = "on the holdout; without time there are no weeks"
    if len(weeks):
        worst = weeks.loc[(weeks["predicted"] - weeks["observed"]).abs().idxmax()]
        where = f"is farthest off in the week of {worst['week'].date()}, of {len(weeks)} weeks"
    predicted, observed = (decisions.show_level(worst[name], problem) for name in ("predicted", "observed"))
    return f"The {level} {where}: {predicted} predicted, {observed} observed."


def describe_policies(table: pd.DataFrame) -> str:
    """Return what the model paid more than the best policy without one, in each of the last periods; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    others = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - others.max(axis=1), others.idxmax(axis=1)
    later = won.index.drop(HOLDOUT)
    texts = {name: f"{sign_text(won[name])} against *{best[name]}*" for name in [HOLDOUT, *later[-LAST:]]}
    end = f" It paid more in {(won[later] > 0).sum()} of {len(later)} later periods." if len(later) else ""
    return f"Per row, against the best policy without a model, following the model paid: {_by_period(texts)}.{end}"


def _by_period(texts: dict[str, str]) -> str:
    return listed([f"{text} {'on the' if period == HOLDOUT else 'in'} {period}" for period, text in texts.items()])


def _points(axes: Axes, x: Any, values: pd.DataFrame, color: str = plotting.BLUE, label: str = "") -> None:
    """Draw ``value`` with the interval from ``low`` to ``high``."""
    errors = values[["low", "high"]].sub(values["value"], axis=0).abs().to_numpy("float64").T
    axes.errorbar(x, values["value"], yerr=errors, fmt="o", ms=5, lw=1.4, capsize=3, color=color, label=label)


def _period_axis(axes: Axes, names: list[str], room: int = 5) -> None:
    """Name the periods below, turned where more than `room`, and then every second one of more than three times as many."""
    step, is_turned = -(-len(names) // (3 * room)), len(names) > room
    axes.set_xticks(range(0, len(names), step), names[::step])
    axes.tick_params(axis="x", rotation=45 if is_turned else 0)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="x", visible=False)
