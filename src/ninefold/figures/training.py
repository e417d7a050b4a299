"""Figures and sentences of stage 07: which model was chosen, how good it is, what it is worth, what it relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold.core import decisions, plots, show
from ninefold.core.decisions import FORESIGHT
from ninefold.core.evaluation import FOLLOW, threshold
from ninefold.core.fitting import FOLD
from ninefold.core.holdout import Sealed
from ninefold.core.scores import PRIMARY, RANKING, block_name, title, with_interval
from ninefold.core.search import worded
from ninefold.core.selection import NAIVE
from ninefold.training import Params, beats_naive


def plot_calibration(curve: pd.DataFrame, predicted: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw what was observed against what was predicted, by tenth, over how often each prediction occurs."""
    title = "Do the predictions mean what they say?"
    fig, (axes, below) = plots.canvas(title, height=4.4, nrows=2, sharex=True, height_ratios=[3, 1])
    said, shares = decisions.expected(predicted, stated), decisions.is_class(stated)
    ends = curve.to_numpy()
    low, high = (0.0, ends.max() * 1.08) if shares else (ends.min(), ends.max())
    axes.plot([low, high], [low, high], color=plots.GREY, ls="--", lw=1, label="perfect")
    errors = [curve["observed"] - curve["low"], curve["high"] - curve["observed"]]
    bars: dict[str, Any] = {"marker": "o", "capsize": 3, "elinewidth": 1, "color": plots.BLUE}
    axes.errorbar(curve["predicted"], curve["observed"], yerr=errors, label="holdout, by tenth, with interval", **bars)
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


def plot_errors(
    curves: dict[str, pd.DataFrame], target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any]
) -> Figure:
    """Draw how well events are told from the rest; of quantities, the errors by the size of the prediction."""
    if decisions.is_class(stated):
        return plot_ranking(curves, float(decisions.event(target, stated).mean()), stated)
    return plot_residuals(target, predicted, stated)


def plot_ranking(curves: dict[str, pd.DataFrame], happened: float, stated: dict[str, Any]) -> Figure:
    """Draw the ROC curve, and precision by recall; whoever guesses stands at `happened`, the share of events."""
    fig, (left, right) = plots.canvas("How well does it tell events from the rest?", height=3.3, ncols=2)
    roc, precision = curves["roc"], curves["precision"]
    guessing: dict[str, Any] = {"color": plots.GREY, "ls": "--", "lw": 1}
    left.plot([0, 1], [0, 1], **guessing)
    left.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=plots.BLUE, lw=2)
    left.set(xlabel="share of the others called events", ylabel="share of events found")
    right.axhline(happened, label="guessing", **guessing)
    right.plot(precision["recall"], precision["precision"], color=plots.BLUE, lw=2)
    right.set(xlabel="share of events found", ylabel="events among what is found", ylim=(0, 1.02))
    right.legend(frameon=False)
    for axis in (left, right):
        plots.as_share(axis, "x")
        plots.as_share(axis)
    return fig


def plot_residuals(target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the errors of quantities by the size of the prediction, with their middle and the interval that was promised."""
    fig, axes = plots.canvas("Where is it wrong, and by how much?", height=3.2)
    said = predicted["prediction"].to_numpy()
    shown = np.random.default_rng(0).permutation(len(said))[:3000]
    axes.scatter(said[shown], (target - said)[shown], s=6, alpha=0.3, color=plots.SKY, linewidths=0, rasterized=True)
    bins = pd.qcut(pd.Series(said).rank(method="first"), min(12, len(said)), labels=False)
    ends = pd.DataFrame({"said": said, "low": predicted["low"] - said, "high": predicted["high"] - said})
    middle = pd.DataFrame({"said": said, "error": target - said}).groupby(bins).agg({"said": "mean", "error": "median"})
    steps = ends.groupby(bins).mean()
    axes.axhline(0, color=plots.GREY, lw=1)
    axes.plot(middle["said"], middle["error"], color=plots.BLUE, marker="o", ms=4, label="median error")
    axes.fill_between(
        steps["said"], steps["low"], steps["high"], color=plots.BLUE, alpha=0.12, label="promised interval"
    )
    axes.set(xlabel=plots.plain(f"predicted {stated['target']}"), ylabel="outcome less prediction")
    axes.legend(frameon=False)
    return fig


def plot_learning(curve: pd.DataFrame, agreed: dict[str, Any]) -> Figure:
    """Draw the agreed metric on rows that the model had not seen by how many rows it was fitted on."""
    fig, axes = plots.canvas("Would more rows help?", height=2.8)
    axes.plot(curve["rows"], curve["score"], marker="o", color=plots.BLUE, lw=2)
    axes.set(xlabel="rows that the model is fitted on", ylabel=title(agreed["primary"]["name"]))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    return fig


def plot_prices(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the gain over the best policy without a model, as prices move one at a time, with intervals."""
    fig, axes = plots.canvas("Does it still pay when prices move?", height=0.36 * len(table) + 1)
    names = [
        plots.plain(row.price if row.factor == 1 else f"{row.price} × {row.factor:g}") for row in table.itertuples()
    ]
    errors = [table["gain"] - table["low"], table["high"] - table["gain"]]
    colors = [plots.BLUE if factor == 1 else plots.SKY for factor in table["factor"]]
    axes.barh(names, table["gain"], xerr=errors, color=colors, error_kw={"lw": 1.2, "capsize": 3})
    axes.axvline(0, color=plots.GREY, lw=1)
    axes.invert_yaxis()
    axes.set(xlabel=plots.plain(f"gain per {stated['unit']} ({stated['payoff_unit']})"))
    axes.grid(axis="y", visible=False)
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


def describe_parts(
    parts: dict[str, pd.DataFrame], holdout: Sealed, signed: dict[str, list[str]], stated: dict[str, Any]
) -> str:
    """Return how many rows are in each part, as a sentence."""
    sizes = ", ".join(f"**{len(rows):,}** for {name}" for name, rows in parts.items())
    share = len(holdout) / (len(holdout) + sum(map(len, parts.values())))
    newest = ", the newest" if stated["time"] else ""
    return (
        f"{len(signed['all'])} features; rows: {sizes}; **{len(holdout):,}** are sealed: the holdout, {share:.0%} of "
        f"all{newest}."
    )


def options_table(tuned: Params) -> pd.DataFrame:
    """Return the options with which candidates go on: ``candidate``, ``model``, ``options`` in words."""
    rows = [(name, one.model, worded(one.options())) for name, one in tuned.candidates.items()]
    return pd.DataFrame(rows, columns=["candidate", "model", "options"])


def describe_search(trials: pd.DataFrame, tuned: Params, agreed: dict[str, Any]) -> str:
    """Return what the search tried and found, as a sentence."""
    if trials.empty:
        return (
            "No search: every candidate keeps the options of params. `training.search.budget`, in trials or in time, "
            "such as `40` or `10m`, lets Optuna look for better ones."
        )
    whole, metric = trials.dropna(subset=["score"]), title(agreed["primary"]["name"])
    best = whole["best"].iloc[-1]
    first = whole["score"].iloc[: len(tuned.candidates)]
    given = first.min() if agreed["primary"]["better"] == "lower" else first.max()
    found = whole.loc[whole["score"] == best].iloc[0]
    return (
        f"**{len(trials)} trials**, {len(whole)} of them on all rows. The best {metric} is {decisions.number(best)}, by "
        f"{show.code(found['candidate'])} with {found['options']}; the options of params came to "
        f"{decisions.number(given)}. The best of many trials looks better than it is: only the holdout tells by how much."
    )


def describe_folds(rows: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return in which folds models were compared, as a sentence."""
    count = rows[FOLD].nunique()
    if not stated["time"]:
        how = "every open row by models that had not seen it" if count > 1 else "the validation part"
        return f"Compared on {len(rows):,} rows, in {count} fold{'s' * (count > 1)}: {how}."
    first, last = (f"{moment:%Y-%m-%d}" for moment in (rows[stated["time"]].min(), rows[stated["time"]].max()))
    return (
        f"Compared on {len(rows):,} rows of {first} to {last}, in {count} fold{'s' * (count > 1)}, each forecast by models "
        "that were fitted on what came before it."
    )


def describe_choice(compared: pd.DataFrame, name: str, agreed: dict[str, Any]) -> str:
    """Return which model was chosen, and why that one, as a sentence."""
    metric = agreed["primary"]["name"]
    table = compared.set_index("model")
    best = str(table["behind"].idxmin())
    chosen, scored = table.loc[name], f"{decisions.number(table.loc[name, metric])}"
    if name == NAIVE:
        return f"By {title(metric)} **no candidate is better than the forecast that sees no features** ({scored})."
    said = f"By {title(metric)} **{name.replace('_', ' ')}** is chosen, with {scored}"
    if name == best:
        rest = table.drop([name, NAIVE], errors="ignore")
        if rest.empty:
            return f"{said}: the only candidate."
        second = str(rest["behind"].idxmin())
        return (
            f"{said}, the best; {second.replace('_', ' ')} is {decisions.number(rest.loc[second, 'behind'])} behind "
            f"(standard error {decisions.number(rest.loc[second, 'standard error'])})."
        )
    return (
        f"{said}: the simplest of those that are less than a standard error behind the best, which is "
        f"{best.replace('_', ' ')} ({decisions.number(chosen['behind'])} better, standard error "
        f"{decisions.number(chosen['standard error'])})."
    )


def describe_adjustment(table: pd.DataFrame, method: str, params: Params, stated: dict[str, Any]) -> str:
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
    loss = scored.loc["none", "log_loss"]
    used = f"the calibration used is **{method}**, with a log loss of {scored.loc[method, 'log_loss']:.4f} against {loss:.4f}"
    if method == "none":
        used = f"**none** is used: no other way has a log loss that is surely below its {loss:.4f}"
    return f"On the second half the raw probabilities average {raw} where {seen} happened; {used}."


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
        f"{title(PRIMARY[stated['task']])} is lower than the naive forecast's by {better}. "
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


def describe_prices(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what moving prices do to the gain, as sentences; also an alt text."""
    base, moved = table.iloc[0], table.iloc[1:]
    if moved.empty:
        return f"The gain is {decisions.number(base['gain'], '+')} per {stated['unit']}; no price can be moved."
    worst, lost = moved.loc[moved["gain"].idxmin()], moved[moved["low"] <= 0]
    named = ", ".join(f"{show.code(row.price)} × {row.factor:g}" for row in lost.itertuples())
    unsure = f"It is not surely above zero with {named}." if len(lost) else "It is surely above zero with each of them."
    return (
        f"As prices stand the gain is {decisions.number(base['gain'], '+')} per {stated['unit']}; with each price halved or half "
        f"as high again, one at a time, it is between {decisions.number(moved['gain'].min(), '+')} "
        f"({show.code(worst['price'])} × {worst['factor']:g}) and {decisions.number(moved['gain'].max(), '+')}. {unsure} "
        "The model stays; only the actions follow the prices."
    )


def describe_errors(
    results: dict[str, dict[str, float]],
    target: np.ndarray,
    predicted: pd.DataFrame,
    params: Params,
    stated: dict[str, Any],
) -> str:
    """Return what the curves of the ranking say, or how large the errors of quantities are; also an alt text."""
    if not decisions.is_class(stated):
        return describe_residuals(target, predicted, params)
    precision = ""
    if "average_precision" in results:
        precision = (
            f" The mean precision over all recalls is {with_interval(results['average_precision'])}, where guessing comes to "
            f"{results['observed']['value']:.3f}."
        )
    ranked = with_interval(results[RANKING[stated["task"]]])
    return f"{_ranking(stated)} is {ranked}; 0.5 is guessing, 1 tells all events from the rest.{precision}"


def describe_residuals(target: np.ndarray, predicted: pd.DataFrame, params: Params) -> str:
    """Return how large the errors of quantities are, as a sentence."""
    error = np.asarray(target) - predicted["prediction"].to_numpy()
    half = np.quantile(np.abs(error), 0.5)
    held = ((target >= predicted["low"]) & (target <= predicted["high"])).mean()
    return (
        f"Half of the errors are below {decisions.number(half)}, and the interval of {params.interval:.0%} holds {held:.1%} of the "
        f"outcomes; the median error is {decisions.number(float(np.median(error)), '+')}."
    )


def describe_learning(curve: pd.DataFrame, agreed: dict[str, Any]) -> str:
    """Return what more rows did to the metric, as a sentence; also an alt text."""
    if len(curve) < 2:
        return "Too few rows to take fewer of them."
    half, whole = curve.iloc[-2], curve.iloc[-1]
    sign = 1 if agreed["primary"]["better"] == "lower" else -1
    better = sign * (half["score"] - whole["score"])
    return (
        f"Twice as many rows, {whole['rows']:,.0f} in place of {half['rows']:,.0f}, made {title(agreed['primary']['name'])} "
        f"{'better' if better > 0 else 'worse'} by {decisions.number(abs(better))}, measured on one part of the data alone."
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
