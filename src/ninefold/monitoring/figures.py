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
from ninefold.monitoring.params import Params
from ninefold.monitoring.tables import LAST_PERIODS, change_text, count_text, sign_text
from ninefold.problem import ERROR, RANKING, Problem, decisions, listed, title

MOST = 12  # periods in a figure, the last ones
POLICIES = 5  # in a figure, the best ones
LONGEST = 32  # characters of a label


def plot_drift(drifts: pd.DataFrame, params: Params, most: int = 24) -> Figure:
    """Draw the PSI of the features that moved most, per period beside the holdout; bold where a feature drifted."""
    table = drifts.pivot(index="feature", columns="period", values="psi")
    table = table[[HOLDOUT, *sorted(set(table) - {HOLDOUT})[-MOST:]]] if len(table) else table
    table = table.loc[table.max(axis=1).sort_values(ascending=False).index[:most]]
    bold = (
        drifts.pivot(index="feature", columns="period", values="drifted")
        .loc[table.index, table.columns]
        .eq(True)
        .to_numpy()
    )
    fig, axes = plotting.canvas("Which inputs have moved?", width=7, height=0.27 * len(table) + 1.4)
    if table.empty:
        axes.text(0.5, 0.5, "the model sees nothing but the time, which moves by itself", ha="center")
        axes.set_axis_off()
        return fig
    limit = max(params.alerts.inputs.limit, 1e-9)
    shades = axes.imshow(table, cmap="Blues", vmin=0, vmax=4 * limit, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        text = "–" if value != value else f"{value:.2f}"
        style = {"color": "white" if value > 2 * limit else "#333333", "fontsize": 8}
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontweight="bold" if bold[row, column] else "normal",
            **style,
        )
    axes.axvline(0.5, color="white", lw=6)
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=45 if len(table.columns) > 8 else 0)
    axes.set_yticks(range(len(table)), [plotting.label(name, LONGEST) for name in table.index])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    fig.colorbar(shades, ax=axes, label="PSI", extend="max", shrink=0.6 if len(table) > 8 else 1)
    return fig


def plot_performance(records: list[dict[str, Any]], baseline: dict[str, Any], problem: Problem) -> Figure:
    """Draw three figures with their intervals, of the holdout and of each period: ranking, error, and gap."""
    ranking, error, level = RANKING[problem.task], ERROR[problem.task], decisions.level_name(problem)
    shown = {
        ranking: f"{title(ranking)} (higher is better)",
        error: f"{title(error)} (lower is better)",
        "gap": f"predicted less observed\n{level}",
    }
    spans = [(HOLDOUT, baseline["figures"]), *((record["period"], record["figures"]) for record in records[-MOST:])]
    fig, panels = plotting.canvas("Is it as good as it was on the holdout?", height=_height(spans), ncols=len(shown))
    for axes, (name, text) in zip(panels, shown.items(), strict=True):
        reference = baseline["figures"].get(name)
        if reference:
            axes.axhspan(reference["low"], reference["high"], color=plotting.SKY, alpha=0.25, lw=0)
        known = [(place, figures[name]) for place, (_, figures) in enumerate(spans) if name in figures]
        ends = pd.DataFrame([figure for _, figure in known], columns=["value", "low", "high"])
        _points(axes, [place for place, _ in known], ends["value"], ends, plotting.BLUE, "")
        axes.set_title(plotting.plain(text), fontsize=9)
        _period_axis(axes, [period for period, _ in spans], room=2)
    panels[-1].axhline(0, color=plotting.GREY, lw=1)
    if problem.is_class:
        plotting.as_share(panels[-1])
    return fig


def plot_calibration(curves: pd.DataFrame, problem: Problem, most: int = 6) -> Figure:
    """Draw the observed against the predicted mean by decile of the forecast, on the holdout and in the last periods."""
    periods = list(dict.fromkeys(curves["period"]))
    names = [*periods[:1], *periods[1:][1 - most :]]
    width = min(8.0, 2.7 * len(names) + 1)
    fig, panels = plotting.canvas(
        "Do the forecasts still mean what they say?",
        width=width, height=3, ncols=len(names), sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    ends = curves[["predicted", "low", "high"]].to_numpy("float64")
    line = [min(0.0, np.nanmin(ends)) if problem.is_class else np.nanmin(ends), np.nanmax(ends)]
    for axes, name in zip(panels[0], names, strict=True):
        part = curves[curves["period"] == name]
        axes.plot(line, line, color=plotting.GREY, ls="--", lw=1, label="perfect")
        _points(axes, part["predicted"], part["value"], part, plotting.BLUE, "by decile")
        axes.plot(part["predicted"], part["value"], color=plotting.BLUE, lw=1)
        axes.set_title(name, fontsize=9)
    level = plotting.plain(decisions.level_name(problem))
    if problem.is_class:
        plotting.as_share(panels[0][0])
        plotting.as_share(panels[0][0], "x")
    panels[0][0].set_ylabel(f"observed {level}")
    panels[0][0].legend(frameon=False, fontsize=8, loc="upper left")
    fig.supxlabel(f"predicted {level}", fontsize=9)
    return fig


def plot_weeks(weeks: pd.DataFrame, volume: pd.DataFrame, baseline: dict[str, Any], problem: Problem) -> Figure:
    """Draw the predicted and the observed level per week, from the holdout on; without time, both of the holdout."""
    if weeks.empty:
        return _plot_level(baseline, problem)
    fig, axes = plotting.canvas("Did it see the turns coming?", height=3)
    for name, color, style in (("observed", plotting.ORANGE, "-"), ("predicted", plotting.BLUE, "--")):
        axes.plot(weeks["week"], weeks[name], color=color, ls=style, marker="o", ms=4, label=name)
    axes.fill_between(weeks["week"], weeks["predicted"], weeks["observed"], color=plotting.GREY, alpha=0.15, lw=0)
    for start in volume["start"]:
        axes.axvline(start, color=plotting.GREY, lw=0.8, ls=":")
    if len(volume):
        axes.axvspan(weeks["week"].min(), volume["start"].iloc[0], color=plotting.SKY, alpha=0.15, lw=0, label=HOLDOUT)
    axes.set(xlabel="week (UTC)", ylabel=plotting.plain(decisions.level_name(problem)))
    axes.tick_params(axis="x", rotation=30)
    if problem.is_class:
        axes.set_ylim(0, None)
        plotting.as_share(axes)
    axes.legend(frameon=False)
    return fig


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what following the model pays per row, on the holdout and in each period, beside the best other policies."""
    means = table.groupby("policy", sort=False)["payoff"].mean().drop(decisions.FORESIGHT)
    others = means.drop(FOLLOW).nlargest(POLICIES).index
    periods = list(dict.fromkeys(table["period"]))
    names = [*periods[:1], *periods[1:][-MOST:]]
    fig, axes = plotting.canvas("Is it still worth following the model?", height=_height(names))
    for number, policy in enumerate([FOLLOW, *others]):
        part = table[table["policy"] == policy].set_index("period").reindex(names)
        offset = 0.12 * (number - len(others) / 2)
        color = plotting.PALETTE[number % len(plotting.PALETTE)]
        _points(axes, np.arange(len(names)) + offset, part["payoff"], part, color, plotting.label(policy, LONGEST))
    _period_axis(axes, names)
    axes.set_ylabel(plotting.plain(f"payoff per {problem.unit}\n({problem.payoff_unit})"))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def describe_drift(drifts: pd.DataFrame, frame: pd.DataFrame, parts: dict[str, pd.DataFrame], problem: Problem) -> str:
    """Return which features moved, and whether a season is seen for the first time; also an alt text."""
    if drifts.empty:
        return "The model sees nothing but the time of the event, which moves by itself."
    counts = drifts.groupby("period")["drifted"].sum()
    on_holdout, rest = counts[HOLDOUT], counts.drop(HOLDOUT)
    top = drifts[(drifts["period"] != HOLDOUT) | rest.empty].sort_values("psi").iloc[-1]
    farthest = f"The farthest is {display.code(top['feature'])} in {top['period']}, with a PSI of {top['psi']:.2f}."
    features = count_text(drifts["feature"].nunique(), "feature")
    if rest.empty:
        return (
            f"On the holdout, where the model was accepted, {on_holdout} of {features} drifted: the measure for what comes. "
            f"{farthest.replace('in holdout', 'on it')}"
        )
    learned = pd.concat([parts[name][problem.time] for name in ("train", "validation")])
    new = set(frame[problem.time].dt.month) - set(learned.dt.month)
    season = (
        f" {len(new)} of these calendar months were in no row that the model was fitted on: season and change look alike."
        if new
        else ""
    )
    return (
        f"Drifted, of {features}: {listed([f'{n} in {period}' for period, n in rest.iloc[-LAST_PERIODS:].items()])}; "
        f"on the holdout, where the model was accepted, it was {on_holdout}. {farthest}{season}"
    )


def describe_performance(records: list[dict[str, Any]], baseline: dict[str, Any], problem: Problem) -> str:
    """Return how the periods compare with the holdout, as sentences; also an alt text."""
    ranking, error = RANKING[problem.task], ERROR[problem.task]
    reference, level = baseline["figures"], decisions.level_name(problem)
    shown = [record for record in records if {ranking, error, "observed"} <= set(record["figures"])]
    if not shown:
        return (
            f"The baseline, on the holdout: {title(ranking)} {with_interval(reference.get(ranking))}, {title(error)} "
            f"{with_interval(reference.get(error))}. Every period will be compared with it."
        )
    low = min(shown, key=lambda record: record["figures"][ranking]["value"])
    worst = max(shown, key=lambda record: record["figures"][error]["value"])
    figures, skills = (
        worst["figures"],
        [with_interval(_bare(each.get("skill"))) for each in (worst["figures"], reference)],
    )
    mixed = "mixed" if problem.is_class else "spread"
    return (
        f"The {title(ranking)} was {with_interval(_bare(reference.get(ranking)))} on the holdout; its lowest since is "
        f"{with_interval(low['figures'][ranking])}, in {low['period']}. The {title(error)} is worst in {worst['period']}, "
        f"{with_interval(figures[error])}, where the {level} was {decisions.show_level(figures['observed']['value'], problem)}: "
        f"the more {mixed} the outcomes, the harder they are to predict. Against a forecast that knows the period's own "
        f"level the skill is {skills[0]} there, {skills[1]} on the holdout."
    )


def describe_calibration(records: list[dict[str, Any]], baseline: dict[str, Any], problem: Problem) -> str:
    """Return by how much the forecasts are off on the holdout and in the last periods; also an alt text."""
    spans = [(record["period"], record["figures"]) for record in records[-LAST_PERIODS:]]
    gaps = [("on the holdout", baseline["figures"]["gap"])]
    gaps += [(f"in {period}", figures["gap"]) for period, figures in spans if "gap" in figures]
    texts = [f"{change_text(gap['value'], problem)}{_range(gap, problem)} {where}" for where, gap in gaps]
    level = decisions.level_name(problem)
    return f"Predicted less observed {level}: {listed(texts)}. Above zero the model predicts too much of it."


def describe_weeks(weeks: pd.DataFrame, baseline: dict[str, Any], problem: Problem) -> str:
    """Return in which week the forecast was farthest off; without time, how far on the holdout; also an alt text."""
    level = decisions.level_name(problem)
    if weeks.empty:
        predicted, observed = (
            decisions.show_level(baseline["figures"][name]["value"], problem) for name in ("predicted", "observed")
        )
        return f"On the holdout the {level} was predicted to be {predicted}, and was {observed}. Without time there are no weeks."
    off = (weeks["predicted"] - weeks["observed"]).abs()
    worst = weeks.loc[off.idxmax()]
    predicted, observed = (decisions.show_level(worst[name], problem) for name in ("predicted", "observed"))
    together = weeks["predicted"].corr(weeks["observed"]) if len(weeks) > 2 else np.nan
    rise = f" Over all weeks they go together with a correlation of {together:.2f}." if together == together else ""
    return (
        f"Of {count_text(len(weeks), 'week')}, the holdout's included, the {level} predicted and observed are farthest apart in "
        f"that of {worst['week'].date()}: {predicted} predicted, {observed} observed.{rise}"
    )


def describe_policies(table: pd.DataFrame) -> str:
    """Return in which periods the model paid more than every policy without one; also an alt text."""
    means = table.pivot(index="period", columns="policy", values="payoff").drop(columns=decisions.FORESIGHT)
    rest = means.drop(columns=FOLLOW)
    won, best = means[FOLLOW] - rest.max(axis=1), rest.idxmax(axis=1)
    on_holdout = f"On the holdout following the model paid {sign_text(won[HOLDOUT])} per row against *{best[HOLDOUT]}*, the best policy without one"
    later = won.drop(HOLDOUT)
    if later.empty:
        return f"{on_holdout}: the baseline for what comes."
    listing = listed(
        [f"{sign_text(won[period])} against *{best[period]}* in {period}" for period in later.index[-LAST_PERIODS:]]
    )
    return f"{on_holdout}. Since then it paid more in {(later > 0).sum()} of {count_text(len(later), 'period')}, per row: {listing}."


def _plot_level(baseline: dict[str, Any], problem: Problem) -> Figure:
    names = [name for name in ("observed", "predicted") if name in baseline["figures"]]
    levels = pd.DataFrame([baseline["figures"][name] for name in names], columns=["value", "low", "high"])
    fig, axes = plotting.canvas("Was the level predicted on the holdout?", height=1.6)
    errors = np.abs(levels[["low", "high"]].to_numpy().T - levels["value"].to_numpy())
    axes.errorbar(
        levels["value"], range(len(names)), xerr=errors, fmt="o", ms=5, lw=1.4, capsize=3, color=plotting.BLUE
    )
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(-0.6, len(names) - 0.4), xlabel=plotting.plain(decisions.level_name(problem)))
    if problem.is_class:
        plotting.as_share(axes, "x")
    return fig


def _points(axes: Axes, x: Any, y: pd.Series, ends: pd.DataFrame, color: str, label: str) -> None:
    errors = np.abs(ends[["low", "high"]].to_numpy("float64").T - y.to_numpy("float64"))
    axes.errorbar(x, y, yerr=errors, fmt="o", ms=5, lw=1.4, capsize=3, color=color, label=label)


def _period_axis(axes: Axes, names: list[str], room: int = 5) -> None:
    """Name the periods below, as many as there is room for: the holdout, and the later ones counted from the last."""
    step = max(1, -(-(len(names) - 1) // (3 * room)))
    places = [0, *range(len(names) - 1, 0, -step)] if len(names) > 1 else [0]
    turned = len(names) > room
    axes.set_xticks(
        places, [names[place] for place in places], rotation=45 if turned else 0, ha="right" if turned else "center"
    )
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.grid(axis="x", visible=False)


def _height(periods: list[Any]) -> float:
    return 3.2 if len(periods) > 1 else 2.2  # the holdout alone needs little room


def _bare(figure: dict[str, float] | None) -> dict[str, float] | None:
    return {"value": figure["value"]} if figure else None


def _range(figure: dict[str, float], problem: Problem) -> str:
    low, high = (change_text(figure[end], problem).removesuffix(" points") for end in ("low", "high"))
    return f" ({low} to {high})"
