"""Figures and sentences of stage 07: which model was chosen, how good it is, what it is worth, what it relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold.core import decisions, plots, show
from ninefold.core.decisions import FORESIGHT
from ninefold.core.evaluation import FOLLOW, PROPER, threshold
from ninefold.core.scores import RANKING, block_name, title, with_interval
from ninefold.training import NAIVE, beats_naive


def plot_calibration(curve: pd.DataFrame, predicted: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw what was observed against what was predicted, by tenth, over how often each prediction occurs."""
    title = "Do the predictions mean what they say?"
    fig, (axes, below) = plots.canvas(title, height=4.4, nrows=2, sharex=True, height_ratios=[3, 1])
    said, shares = decisions.expected(predicted, stated), decisions.is_class(stated)
    ends = curve.to_numpy()
    low, high = (0.0, ends.max() * 1.08) if shares else (ends.min(), ends.max())
    axes.plot([low, high], [low, high], color=plots.GREY, ls="--", lw=1, label="perfect")
    axes.plot(curve["predicted"], curve["observed"], marker="o", color=plots.BLUE, label="holdout, by tenth")
    axes.set(ylabel=f"observed {decisions.level_name(stated)}" if not shares else "observed share")
    axes.legend(frameon=False)
    below.hist(said, bins=np.linspace(0, 1, 51) if shares else 50, color=plots.SKY)
    what = f"probability that the {stated['unit']} {stated['positive']}" if shares else stated["target"]
    below.set(xlabel=plots.plain(f"predicted {what}"), ylabel="rows")
    if shares:
        axes.set_xlim(0, max(high, 0.02))
        for axis in (axes, below):
            plots.as_share(axis, "x")
        plots.as_share(axes)
    return fig


def plot_policies(table: pd.DataFrame, stated: dict[str, Any], most: int = 8) -> Figure:
    """Draw what each policy pays per row on the holdout, with intervals; of many policies the best ones."""
    rest = table[~table["policy"].isin([FOLLOW, FORESIGHT])].nlargest(most, "payoff")
    table = table[table["policy"].isin([FOLLOW, FORESIGHT, *rest["policy"]])]
    fig, axes = plots.canvas("What is it worth to follow the model?", height=0.42 * len(table) + 1)
    colors = [plots.BLUE, *[plots.GREY] * (len(table) - 2), plots.GREEN]
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["payoff"].to_numpy())
    names = [plots.plain(name) for name in table["policy"]]
    axes.barh(names, table["payoff"], xerr=errors, color=colors, error_kw={"lw": 1.2, "capsize": 3})
    axes.invert_yaxis()
    axes.set(xlabel=plots.plain(f"mean payoff per {stated['unit']} ({stated['payoff_unit']})"))
    axes.grid(axis="y", visible=False)
    return fig


def plot_threshold(curve: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the payoff against the threshold of the policy, and the threshold that is used."""
    fig, axes = plots.canvas("Would another threshold have paid more?", height=3)
    axes.plot(curve["threshold"], curve["payoff"], color=plots.BLUE, lw=2)
    used = threshold(stated)
    if used is not None:
        label = "used: it follows from the prices"
        axes.axvline(used, color=plots.RED, ls="--", lw=1.2, label=label)
        axes.legend(frameon=False)
    meaning = {
        "binary": "the other action above this probability",
        "multiclass": "follow the model above this highest probability, else the best single action",
        "regression": "quantile of what may come that one acts on",
    }
    axes.set(xlabel=meaning[stated["task"]], ylabel=plots.plain(f"payoff per {stated['unit']}"))
    plots.as_share(axes, "x")
    return fig


def plot_importance(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw by how much the ranking falls when a feature is shuffled, for the fifteen largest."""
    top = table.head(15)
    fig, axes = plots.canvas("What does the model rely on?", height=max(1.6, 0.22 * len(top) + 0.9))
    names = [plots.plain(name) for name in top["feature"]]
    axes.barh(range(len(top)), top["loss"], xerr=top["std"], color=plots.BLUE, error_kw={"lw": 1})
    axes.set_yticks(range(len(top)), names)
    axes.invert_yaxis()
    axes.set(xlabel=f"loss of {_ranking(stated)} when the feature is shuffled")
    axes.grid(axis="y", visible=False)
    return fig


def results_table(results: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the figures of `evaluation.evaluate` for reading: ``figure``, ``value``, ``low``, ``high``."""
    rows = [(title(name), *figure.values()) for name, figure in results.items()]
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high"])


def describe_parts(parts: dict[str, pd.DataFrame], signed: dict[str, list[str]], stated: dict[str, Any]) -> str:
    """Return how many rows are in each part, as a sentence."""
    sizes = ", ".join(f"**{len(rows):,}** for {name}" for name, rows in parts.items())
    share = len(parts["holdout"]) / sum(map(len, parts.values()))
    newest = ", the newest" if stated["time"] else ""
    return f"{len(signed['all'])} features; rows: {sizes}. The holdout is {share:.0%} of them{newest}."


def describe_choice(
    table: pd.DataFrame, rows: pd.DataFrame, name: str, stated: dict[str, Any], agreed: dict[str, Any]
) -> str:
    """Return which model was chosen and by how much, as a sentence."""
    metric = agreed["primary"]["name"]
    scored = table.set_index("model")[metric]
    rest = scored.drop(name)
    second = rest.idxmin() if agreed["primary"]["better"] == "lower" else rest.idxmax()
    if name == NAIVE:
        return (
            f"By {title(metric)} **no candidate is better than the forecast that sees no features** "
            f"({decisions.number(scored[name])}; the next is {second.replace('_', ' ')} with {decisions.number(rest[second])})."
        )
    return (
        f"By {title(metric)} on {len(rows):,} rows that it had not seen **{name.replace('_', ' ')}** is best "
        f"with {decisions.number(scored[name])}; the next is {second.replace('_', ' ')} with {decisions.number(rest[second])}."
    )


def describe_adjustment(table: pd.DataFrame, method: str, params: Any, stated: dict[str, Any]) -> str:
    """Return which way of setting the forecast right was chosen, and what it does, as a sentence."""
    if not decisions.is_class(stated):
        found = table.set_index("interval").loc["conformal"]
        return (
            f"An interval of {params.interval:.0%} held {found['holds']:.1%} of the outcomes of the other half; it is "
            f"{decisions.number(found['width'])} wide on average. The errors of all these rows make the intervals of the model."
        )
    scored = table.set_index("calibration")
    raw, seen = (
        decisions.show_level(value, stated) for value in (scored.loc["none", "mean"], scored["observed"].iloc[0])
    )
    return (
        f"On the second half the raw probabilities average {raw} where {seen} happened; the calibration used is "
        f"**{method}**, with a log loss of {scored.loc[method, 'log_loss']:.4f} against "
        f"{scored.loc['none', 'log_loss']:.4f} without."
    )


def describe_results(results: dict[str, dict[str, float]], stated: dict[str, Any], agreed: dict[str, Any]) -> str:
    """Return what the holdout says, as sentences."""
    seen, said = results["observed"]["value"], results["predicted"]["value"]
    off = (
        f"{100 * abs(said - seen):.1f} points"
        if decisions.is_class(stated)
        else f"{decisions.number(abs(said - seen))}"
    )
    direction = "over" if said > seen else "under"
    criteria = [f"{title(name)} {with_interval(results[name])}" for name in stated["success"]["scores"]]
    better = with_interval(results["improvement"])
    return (
        f"On the holdout {_ranking(stated)} is **{with_interval(results[RANKING[stated['task']]])}**; "
        f"{title(PROPER[stated['task']])} is lower than the naive forecast's by {better}. "
        + (f"Agreed criteria: {', '.join(criteria)}. " if criteria else "")
        + f"The forecast averages {decisions.show_level(said, stated)}, what came {decisions.show_level(seen, stated)}: "
        f"it {direction}states by {off}. The intervals hold for {block_name(stated)} like those of the holdout; a change of the world "
        "is not in them."
    )


def describe_policies(table: pd.DataFrame, results: dict[str, dict[str, float]], stated: dict[str, Any]) -> str:
    """Return what following the model is worth, as sentences; also the alt text of its figure."""
    by_policy = table.set_index("policy")["payoff"]
    rest = by_policy.drop([FOLLOW, FORESIGHT])
    room = by_policy[FORESIGHT] - rest.max()
    won = f", which is {results['gain']['value'] / room:.0%} of what perfect foresight would win" if room > 0 else ""
    return (
        f"Following the model pays {decisions.number(by_policy[FOLLOW], '+')} per {stated['unit']}, the best policy without one "
        f"({rest.idxmax()}) {decisions.number(rest.max(), '+')}: a gain of {with_interval(results['gain'])}{won}. The action differs from "
        f"that policy's in {results['acted']['value']:.0%} of the rows."
    )


def describe_threshold(curve: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return how far the threshold in use is from the best in hindsight, as a sentence; also an alt text."""
    best, used = curve.loc[curve["payoff"].idxmax()], threshold(stated)
    at = 0.0 if used is None else used
    now = np.interp(at, curve["threshold"], curve["payoff"])
    what = "to follow the model always" if used is None else f"the {at:.2g} that follows from the prices"
    return (
        f"In hindsight the best threshold on the holdout would have been {best['threshold']:.2g}, paying "
        f"{decisions.number(best['payoff'], '+')}; {what}, fixed beforehand, pays {decisions.number(now, '+')}."
    )


def describe_importance(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the three features that the model relies on most, as a sentence; also an alt text."""
    top = ", ".join(f"{show.code(row.feature)} ({row.loss:.3f})" for row in table.head(3).itertuples())
    return f"Shuffled one at a time, these cost most {_ranking(stated)}: {top}."


def describe_curve(curve: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what the calibration figure shows, in words."""
    gap = (curve["predicted"] - curve["observed"]).abs()
    scale, unit = (100, " points") if decisions.is_class(stated) else (1, "")
    return (
        f"By tenth, predicted and observed means differ by {scale * gap.mean():.3g}{unit} on average and "
        f"{scale * gap.max():.3g}{unit} at most."
    )


def headline(results: dict[str, dict[str, float]], stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    score, gain = results[RANKING[stated["task"]]], with_interval(results["gain"])
    return {f"{_ranking(stated)} on the holdout": with_interval(score), "gain per row": gain}


def verdict(name: str, results: dict[str, dict[str, float]], floor: float, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    gain, ranking = results["gain"], with_interval(results[RANKING[stated["task"]]])
    if not beats_naive(name, results, floor):
        return (
            f"Nothing surely beats the baseline: on rows that it never saw, {name.replace('_', ' ')} gains "
            f"{with_interval(gain)} per {stated['unit']} over the best policy without a model, at a {_ranking(stated)} of "
            f"{ranking}. Not worth deploying; better data or other features may be."
        )
    enough = gain["value"] >= stated["success"]["min_payoff_gain"]
    return (
        f"{name.replace('_', ' ').capitalize()}, on rows that it never saw, gains {with_interval(gain)} per "
        f"{stated['unit']} over the best policy without a model, at a {_ranking(stated)} of {ranking}: "
        f"{'worth' if enough else 'not yet worth'} deploying."
    )


def _ranking(stated: dict[str, Any]) -> str:
    return title(RANKING[stated["task"]])
