"""Figures and sentences on the holdout: how good the chosen model is, what it is worth, what it relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.metrics import FOLLOW, cluster_name, threshold, with_interval
from ninefold.problem import FORESIGHT, PRIMARY, RANKING, Problem, decisions, title
from ninefold.training.params import Params
from ninefold.training.stage import Results, beats_naive

MOST_POINTS = 3000  # residuals in a figure
MOST_FEATURES = 15
REFERENCE: dict[str, Any] = {"color": plotting.GREY, "ls": "--", "lw": 1}


def plot_calibration(curve: pd.DataFrame, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw observed against predicted means by decile, over the distribution of the predictions."""
    fig, (axes, below) = plotting.canvas(
        "Do the predictions mean what they say?", height=4.4, nrows=2, sharex=True, height_ratios=[3, 1]
    )
    ends, shares = curve.to_numpy(), problem.is_class
    low, high = (0.0, ends.max() * 1.08) if shares else (ends.min(), ends.max())
    axes.plot([low, high], [low, high], label="perfect", **REFERENCE)
    errors = [curve["observed"] - curve["low"], curve["high"] - curve["observed"]]
    bars: dict[str, Any] = {"marker": "o", "capsize": 3, "elinewidth": 1, "color": plotting.BLUE}
    axes.errorbar(curve["predicted"], curve["observed"], yerr=errors, label="holdout, by decile, with interval", **bars)
    axes.set(ylabel="observed share" if shares else f"observed {decisions.level_name(problem)}")
    axes.legend(frameon=False)
    expected = decisions.expected(predicted, problem)
    below.hist(expected, bins=np.linspace(0, 1, 51) if shares else 50, color=plotting.SKY)
    what = f"probability that the {problem.unit} {problem.positive}" if shares else problem.target
    below.set(xlabel=plotting.plain(f"predicted {what}"), ylabel="rows")
    if shares:
        axes.set_xlim(0, max(high, 0.02))
        _as_shares(axes)
        plotting.as_share(below, "x")
    return fig


def plot_errors(
    curves: dict[str, pd.DataFrame], target: np.ndarray, predicted: pd.DataFrame, problem: Problem
) -> Figure:
    """Draw the ROC and precision-recall curves; of quantities, the residuals."""
    if problem.is_class:
        return plot_ranking(curves, float(decisions.event(target, problem).mean()))
    return plot_residuals(target, predicted, problem)


def plot_ranking(curves: dict[str, pd.DataFrame], event_rate: float) -> Figure:
    """Draw the ROC curve, and precision by recall; a random ranking has the precision `event_rate`."""
    fig, (left, right) = plotting.canvas("How well does it tell events from the rest?", height=3.3, ncols=2)
    roc, precision = curves["roc"], curves["precision"]
    left.plot([0, 1], [0, 1], **REFERENCE)
    left.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=plotting.BLUE, lw=2)
    left.set(xlabel="false positive rate", ylabel="true positive rate")
    right.axhline(event_rate, label="random ranking", **REFERENCE)
    right.plot(precision["recall"], precision["precision"], color=plotting.BLUE, lw=2)
    right.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    right.legend(frameon=False)
    for axes in (left, right):
        _as_shares(axes)
    return fig


def plot_residuals(target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the residuals of quantities by the size of the prediction, with their median and the mean interval."""
    fig, axes = plotting.canvas("Where is it wrong, and by how much?", height=3.2)
    prediction = predicted["prediction"].to_numpy()
    sample = np.random.default_rng(0).permutation(len(prediction))[:MOST_POINTS]
    points: dict[str, Any] = {"s": 6, "alpha": 0.3, "color": plotting.SKY, "linewidths": 0, "rasterized": True}
    axes.scatter(prediction[sample], (target - prediction)[sample], **points)
    ranks = pd.Series(prediction).rank(method="first")
    columns = {"prediction": prediction, "error": target - prediction}
    columns |= {end: predicted[end].to_numpy() - prediction for end in ("low", "high")}
    by_size = pd.DataFrame(columns).groupby(pd.qcut(ranks, min(12, len(ranks)), labels=False))
    mean = by_size.mean()
    axes.axhline(0, color=plotting.GREY, lw=1)
    axes.plot(
        mean["prediction"], by_size["error"].median(), color=plotting.BLUE, marker="o", ms=4, label="median error"
    )
    band: dict[str, Any] = {"color": plotting.BLUE, "alpha": 0.12, "label": "predicted interval"}
    axes.fill_between(mean["prediction"], mean["low"], mean["high"], **band)
    axes.set(xlabel=plotting.plain(f"predicted {problem.target}"), ylabel="outcome less prediction")
    axes.legend(frameon=False)
    return fig


def plot_prices(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain over the best policy without a model, as prices move one at a time, with intervals."""
    fig, axes = plotting.canvas("Does it still pay when prices move?", height=0.36 * len(table) + 1)
    names = [row.price if row.factor == 1 else f"{row.price} × {row.factor:g}" for row in table.itertuples()]
    errors = [table["gain"] - table["low"], table["high"] - table["gain"]]
    colors = [plotting.BLUE if factor == 1 else plotting.SKY for factor in table["factor"]]
    axes.axvline(0, color=plotting.GREY, lw=1)
    _bars(axes, names, table["gain"], xerr=errors, color=colors)
    axes.set(xlabel=plotting.plain(f"gain per {problem.unit} ({problem.payoff_unit})"))
    return fig


def plot_policies(table: pd.DataFrame, problem: Problem, most: int = 8) -> Figure:
    """Draw what each policy pays per row on the holdout, with intervals; of many policies the best ones."""
    rest = table[~table["policy"].isin([FOLLOW, FORESIGHT])].nlargest(most, "payoff")
    table = table[table["policy"].isin([FOLLOW, FORESIGHT, *rest["policy"]])]
    fig, axes = plotting.canvas("What is it worth to follow the model?", height=0.42 * len(table) + 1)
    colors = [plotting.BLUE, *[plotting.GREY] * (len(table) - 2), plotting.GREEN]
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["payoff"].to_numpy())
    _bars(axes, table["policy"], table["payoff"], xerr=errors, color=colors)
    axes.set(xlabel=plotting.plain(f"mean payoff per {problem.unit} ({problem.payoff_unit})"))
    return fig


def plot_threshold(curve: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the payoff against the decision threshold, and the threshold that is used."""
    fig, axes = plotting.canvas("Would another threshold have paid more?", height=3)
    axes.plot(curve["threshold"], curve["payoff"], color=plotting.BLUE, lw=2)
    used = threshold(problem)
    if used is not None:
        axes.axvline(used, color=plotting.RED, ls="--", lw=1.2, label="used: it follows from the prices")
        axes.legend(frameon=False)
    meaning = {
        "binary": "the other action above this probability",
        "multiclass": "follow the model above this highest probability, else the best single action",
        "regression": "quantile of the predicted distribution that one acts on",
    }
    axes.set(xlabel=meaning[problem.task], ylabel=plotting.plain(f"payoff per {problem.unit}"))
    plotting.as_share(axes, "x")
    return fig


def plot_importance(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the permutation importance of the fifteen most important features."""
    top = table.head(MOST_FEATURES)
    fig, axes = plotting.canvas("What does the model rely on?", height=max(1.6, 0.22 * len(top) + 0.9))
    _bars(axes, top["feature"], top["loss"], xerr=top["std"], color=plotting.BLUE)
    axes.set(xlabel=f"loss of {_ranking(problem)} when the feature is shuffled")
    return fig


def results_table(results: Results) -> pd.DataFrame:
    """Return what `evaluation.evaluate` returned as a table: ``figure``, ``value``, ``low``, ``high``."""
    rows = [(title(name), *figure.values()) for name, figure in results.items()]
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high"])


def describe_results(results: Results, problem: Problem) -> str:
    """Return the scores on the holdout, as sentences."""
    observed, predicted = results["observed"]["value"], results["predicted"]["value"]
    off = abs(predicted - observed)
    by = f"{100 * off:.1f} points" if problem.is_class else decisions.number(off)
    criteria = [f"{title(name)} {with_interval(results[name])}" for name in problem.success.scores]
    return (
        f"On the holdout {_ranking(problem)} is **{with_interval(results[RANKING[problem.task]])}**; "
        f"{title(PRIMARY[problem.task])} is lower than the naive prediction's by {with_interval(results['improvement'])}. "
        + (f"Criteria of the plan: {', '.join(criteria)}. " if criteria else "")
        + f"The mean prediction is {decisions.show_level(predicted, problem)}, the mean outcome "
        f"{decisions.show_level(observed, problem)}: {by} too {'high' if predicted > observed else 'low'}. "
        f"The intervals hold for {cluster_name(problem)} like those of the holdout, not for drift."
    )


def describe_policies(table: pd.DataFrame, results: Results, problem: Problem) -> str:
    """Return what following the model is worth, as sentences; also the alt text of its figure."""
    by_policy, number = table.set_index("policy")["payoff"], decisions.number
    rest = by_policy.drop([FOLLOW, FORESIGHT])
    room = by_policy[FORESIGHT] - rest.max()
    share = f", {results['gain']['value'] / room:.0%} of the gain of perfect foresight" if room > 0 else ""
    return (
        f"Following the model pays {number(by_policy[FOLLOW], '+')} per {problem.unit}, the best policy without one "
        f"({rest.idxmax()}) {number(rest.max(), '+')}: a gain of {with_interval(results['gain'])}{share}. The action "
        f"differs from that policy's in {results['acted']['value']:.0%} of the rows."
    )


def describe_threshold(curve: pd.DataFrame, problem: Problem) -> str:
    """Return how far the threshold in use is from the best in hindsight, as a sentence; also an alt text."""
    best, used = curve.loc[curve["payoff"].idxmax()], threshold(problem)
    now = np.interp(used or 0.0, curve["threshold"], curve["payoff"])
    what = "to follow the model always" if used is None else f"the {used:.2g} that follows from the prices"
    return (
        f"In hindsight the best threshold on the holdout is {best['threshold']:.2g}, which pays "
        f"{decisions.number(best['payoff'], '+')}; {what}, fixed beforehand, pays {decisions.number(now, '+')}."
    )


def describe_prices(table: pd.DataFrame, problem: Problem) -> str:
    """Return how the gain changes with prices, as sentences; also an alt text."""
    base, moved, number = table.iloc[0], table.iloc[1:], decisions.number
    start = f"At the current prices the gain is {number(base['gain'], '+')} per {problem.unit}"
    if moved.empty:
        return f"{start}; no price can be moved."
    worst, uncertain = moved.loc[moved["gain"].idxmin()], moved[moved["low"] <= 0]
    names = ", ".join(f"{display.code(row.price)} × {row.factor:g}" for row in uncertain.itertuples())
    return (
        f"{start}; with one price halved, or half as high again, it is between {number(moved['gain'].min(), '+')} "
        f"({display.code(worst['price'])} × {worst['factor']:g}) and {number(moved['gain'].max(), '+')}. It is "
        f"{f'not significantly above zero with {names}' if names else 'significantly above zero with each of them'}. The "
        "actions follow the prices, the model stays."
    )


def describe_errors(
    results: Results, target: np.ndarray, predicted: pd.DataFrame, params: Params, problem: Problem
) -> str:
    """Return how good the ranking is, or how large the errors of quantities are; also an alt text."""
    if not problem.is_class:
        error, number = np.asarray(target) - predicted["prediction"].to_numpy(), decisions.number
        inside = ((target >= predicted["low"]) & (target <= predicted["high"])).mean()
        return (
            f"Half of the errors are below {number(np.median(np.abs(error)))}, and the interval of {params.interval:.0%} "
            f"holds {inside:.1%} of the outcomes; the median error is {number(np.median(error), '+')}."
        )
    ranked = with_interval(results[RANKING[problem.task]])
    text = f"{_ranking(problem)} is {ranked}, where a random ranking has 0.5 and a perfect one 1."
    if "average_precision" in results:
        average, rate = with_interval(results["average_precision"]), results["observed"]["value"]
        text += f" Average precision is {average}, where a random ranking has {rate:.3f}."
    return text


def describe_importance(table: pd.DataFrame, problem: Problem) -> str:
    """Return the three most important features, as a sentence; also an alt text."""
    top = ", ".join(f"{display.code(row.feature)} ({row.loss:.3f})" for row in table.head(3).itertuples())
    return f"Shuffled one at a time, these features cost most {_ranking(problem)}: {top}."


def describe_curve(curve: pd.DataFrame, problem: Problem) -> str:
    """Return how far predicted and observed means differ by decile; also an alt text."""
    gap = (curve["predicted"] - curve["observed"]).abs() * (100 if problem.is_class else 1)
    unit = " points" if problem.is_class else ""
    return f"By decile, predicted and observed means differ by {gap.mean():.3g}{unit} on average, {gap.max():.3g}{unit} at most."


def headline(results: Results, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    score, gain = results[RANKING[problem.task]], with_interval(results["gain"])
    return {f"{_ranking(problem)} on the holdout": with_interval(score), "gain per row": gain}


def conclusion(name: str, results: Results, floor: float, problem: Problem) -> str:
    """Return the conclusion of the stage."""
    beaten, model = beats_naive(name, results, floor), name.replace("_", " ")
    worth = "worth" if results["gain"]["value"] >= problem.success.min_payoff_gain else "not yet worth"
    ranking = f"{_ranking(problem)} {with_interval(results[RANKING[problem.task]])}"
    gain = f"{with_interval(results['gain'])} per {problem.unit} over the best policy without a model"
    if not beaten:
        return (
            f"Nothing significantly beats the baseline: on unseen rows {model} gains {gain} ({ranking}). Not worth "
            "deploying; better data or other features may be."
        )
    return f"{model.capitalize()} gains {gain} on unseen rows ({ranking}): {worth} deploying."


def _ranking(problem: Problem) -> str:
    return title(RANKING[problem.task])


def _bars(axes: Axes, names: Any, values: pd.Series, **style: Any) -> None:
    """Draw horizontal bars with intervals, the first on top."""
    axes.barh(range(len(values)), values, error_kw={"lw": 1.2, "capsize": 3}, **style)
    axes.set_yticks(range(len(values)), [plotting.plain(name) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


def _as_shares(axes: Axes) -> None:
    for which in ("x", "y"):
        plotting.as_share(axes, which)
