"""Figures and sentences on the holdout: how good the chosen model is, what it is worth, what it relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from ninefold import display, plotting
from ninefold.metrics import FOLLOW, cluster_name, threshold, with_interval
from ninefold.problem import FORESIGHT, PRIMARY, RANKING, Problem, decisions, title
from ninefold.training.params import Params
from ninefold.training.stage import Results, beats_naive

MOST_POINTS = 3000  # residuals in a figure
MOST_FEATURES, MOST_POLICIES = 15, 8
REFERENCE: dict[str, Any] = {"color": plotting.GREY, "ls": "--", "lw": 1}
LINE: dict[str, Any] = {"color": plotting.BLUE, "marker": "o", "ms": 4}


def plot_calibration(curve: pd.DataFrame, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw observed against predicted means by decile, over the distribution of the predictions."""
    grid: dict[str, Any] = {"height": 4.4, "nrows": 2, "sharex": True, "height_ratios": [3, 1]}
    fig, (axes, below) = plotting.canvas("Do the predictions mean what they say?", **grid)
    low, high, limits, what = curve.min(axis=None), curve.max(axis=None), None, problem.target
    if problem.is_class:
        low, high, limits = 0.0, max(high * 1.08, 0.02), (0, 1)
        what = f"probability that the {problem.unit} {problem.positive}"
        axes.set_xlim(0, high)
        for panel, which in ((axes, "x"), (axes, "y"), (below, "x")):
            plotting.as_share(panel, which)
    axes.plot([low, high], [low, high], label="perfect", **REFERENCE)
    style: dict[str, Any] = {"label": "holdout, by decile, with interval", "capsize": 3, "elinewidth": 1, **LINE}
    axes.errorbar(curve["predicted"], curve["observed"], yerr=reach(curve, "observed"), **style)
    axes.set(ylabel=plotting.plain(f"observed {decisions.level_name(problem)}"))
    axes.legend(frameon=False)
    below.hist(decisions.expected(predicted, problem), bins=50, range=limits, color=plotting.SKY)
    below.set(xlabel=plotting.plain(f"predicted {what}"), ylabel="rows")
    return fig


def plot_errors(
    curves: dict[str, pd.DataFrame], target: np.ndarray, predicted: pd.DataFrame, problem: Problem
) -> Figure:
    """Draw the ROC and precision-recall curves; of quantities, the residuals."""
    if not problem.is_class:
        return plot_residuals(target, predicted, problem)
    fig, (left, right) = plotting.canvas("How well does it tell events from the rest?", height=3.3, ncols=2)
    (false, true), (recall, precision) = (curves[name].to_numpy().T for name in ("roc", "precision"))
    style: dict[str, Any] = {"chance_level_kw": REFERENCE, "curve_kwargs": {"color": plotting.BLUE}}
    style["plot_chance_level"], rate = True, decisions.event(target, problem).mean()
    RocCurveDisplay(fpr=false, tpr=true).plot(left, **style)
    PrecisionRecallDisplay(precision, recall, prevalence_pos_label=rate).plot(right, **style)
    return fig


def plot_residuals(target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the residuals of quantities by the size of the prediction, with their median and the mean interval."""
    fig, axes = plotting.canvas("Where is it wrong, and by how much?", height=3.2)
    value = predicted["prediction"]
    rows = predicted[["low", "high"]].sub(value, axis=0).assign(prediction=value, error=target - value)
    sample = rows.sample(min(len(rows), MOST_POINTS), random_state=0)
    axes.scatter(sample["prediction"], sample["error"], s=6, alpha=0.3, color=plotting.SKY, lw=0, rasterized=True)
    by_size = rows.groupby(pd.qcut(rows["prediction"].rank(method="first"), min(12, len(rows)), labels=False))
    mean, median = by_size.mean(), by_size["error"].median()
    axes.axhline(0, color=plotting.GREY, lw=1)
    axes.plot(mean["prediction"], median, label="median error", **LINE)
    ends = mean["prediction"], mean["low"], mean["high"]
    axes.fill_between(*ends, color=plotting.BLUE, alpha=0.12, label="predicted interval")
    axes.set(xlabel=plotting.plain(f"predicted {problem.target}"), ylabel="outcome less prediction")
    axes.legend(frameon=False)
    return fig


def plot_prices(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the gain over the best policy without a model, as prices move one at a time, with intervals."""
    names = [row.price if row.factor == 1 else f"{row.price} × {row.factor:g}" for row in table.itertuples()]
    colors = [plotting.BLUE if factor == 1 else plotting.SKY for factor in table["factor"]]
    label = f"gain per {problem.unit} ({problem.payoff_unit})"
    return bars("Does it still pay when prices move?", names, table["gain"], reach(table, "gain"), colors, label)


def plot_policies(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw what each policy pays per row on the holdout, with intervals; of many policies the best ones."""
    fixed = table["policy"].isin([FOLLOW, FORESIGHT])
    table = table[fixed | table.index.isin(table[~fixed].nlargest(MOST_POLICIES, "payoff").index)]
    colors = [plotting.BLUE, *[plotting.GREY] * (len(table) - 2), plotting.GREEN]
    label, ends = f"mean payoff per {problem.unit} ({problem.payoff_unit})", reach(table, "payoff")
    return bars("What is it worth to follow the model?", table["policy"], table["payoff"], ends, colors, label)


def plot_threshold(curve: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the payoff against the decision threshold, and the threshold that is used."""
    fig, axes = plotting.canvas("Would another threshold have paid more?", height=3)
    axes.plot(curve["threshold"], curve["payoff"], color=plotting.BLUE, lw=2)
    if (used := threshold(problem)) is not None:
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
    top, label = table.head(MOST_FEATURES), f"loss of {title(RANKING[problem.task])} when the feature is shuffled"
    return bars("What does the model rely on?", top["feature"], top["loss"], top["std"], plotting.BLUE, label)


def results_table(results: Results) -> pd.DataFrame:
    """Return what `evaluation.evaluate` returned as a table: ``figure``, ``value``, ``low``, ``high``."""
    return pd.DataFrame([{"figure": title(name), **figure} for name, figure in results.items()])


def describe_results(results: Results, problem: Problem) -> str:
    """Return the scores on the holdout, as sentences."""
    predicted, observed = (decisions.show_level(results[name]["value"], problem) for name in ("predicted", "observed"))
    scores = dict.fromkeys([RANKING[problem.task], *problem.success.scores])
    shown = ", ".join(f"{title(name)} **{with_interval(results[name])}**" for name in scores)
    return (
        f"On the holdout: {shown}; {title(PRIMARY[problem.task])} is lower than the naive prediction's by "
        f"{with_interval(results['improvement'])}. The mean prediction is {predicted}, the mean outcome {observed}. The "
        f"intervals hold for {cluster_name(problem)} like those of the holdout, not for drift."
    )


def describe_policies(table: pd.DataFrame, results: Results, problem: Problem) -> str:
    """Return what following the model is worth, as sentences; also the alt text of its figure."""
    by_policy, gain, number = table.set_index("policy")["payoff"], results["gain"], decisions.number
    rest = by_policy.drop([FOLLOW, FORESIGHT])
    room = by_policy[FORESIGHT] - rest.max()
    share = f", {gain['value'] / room:.0%} of the gain of perfect foresight" if room > 0 else ""
    return (
        f"Following the model pays {number(by_policy[FOLLOW], '+')} per {problem.unit}, the best policy without one "
        f"({rest.idxmax()}) {number(rest.max(), '+')}: a gain of {with_interval(gain)}{share}. The action differs from that "
        f"policy's in {results['acted']['value']:.0%} of the rows."
    )


def describe_threshold(curve: pd.DataFrame, problem: Problem) -> str:
    """Return how far the threshold in use is from the best in hindsight, as a sentence."""
    best, used = curve.loc[curve["payoff"].idxmax()], threshold(problem)
    now = np.interp(used or 0.0, curve["threshold"], curve["payoff"])
    what = "to follow the model always" if used is None else f"the {used:.2g} that follows from the prices"
    return (
        f"In hindsight the best threshold on the holdout is {best['threshold']:.2g}, which pays "
        f"{decisions.number(best['payoff'], '+')}; {what}, fixed beforehand, pays {decisions.number(now, '+')}."
    )


def describe_prices(table: pd.DataFrame, problem: Problem) -> str:
    """Return how the gain changes with prices, as sentences."""
    gain, moved = table["gain"].map(lambda value: decisions.number(value, "+")), table.iloc[1:]
    uncertain = [f"{display.code(row.price)} × {row.factor:g}" for row in moved[moved["low"] <= 0].itertuples()]
    return (
        f"At the current prices the gain is {gain.iloc[0]} per {problem.unit}; with one price halved, or half as high again, "
        f"it is between {gain[table['gain'].idxmin()]} and {gain[table['gain'].idxmax()]}. Not significantly above zero with: "
        f"{', '.join(uncertain) or 'none'}. The actions follow the prices, the model stays."
    )


def describe_errors(
    results: Results, target: np.ndarray, predicted: pd.DataFrame, params: Params, problem: Problem
) -> str:
    """Return how good the ranking is, or how large the errors of quantities are."""
    if problem.is_class:
        guess = {RANKING[problem.task]: 0.5, "average_precision": results["observed"]["value"]}
        known = {name: value for name, value in guess.items() if name in results}
        texts = (f"{title(name)} {with_interval(results[name])}, at random {each:.3g}" for name, each in known.items())
        return f"{'; '.join(texts)}; a perfect ranking has 1."
    error, number = np.asarray(target) - predicted["prediction"].to_numpy(), decisions.number
    return (
        f"Half of the errors are below {number(np.median(np.abs(error)))}, and the interval of {params.interval:.0%} "
        f"holds {results['covered']['value']:.1%} of the outcomes; the median error is {number(np.median(error), '+')}."
    )


def describe_importance(table: pd.DataFrame, problem: Problem) -> str:
    """Return the three most important features, as a sentence."""
    top = ", ".join(f"{display.code(row.feature)} ({row.loss:.3f})" for row in table.head(3).itertuples())
    return f"Shuffled one at a time, these features cost most {title(RANKING[problem.task])}: {top}."


def describe_curve(curve: pd.DataFrame, problem: Problem) -> str:
    """Return how far predicted and observed means differ by decile."""
    gap, unit = (
        (curve["predicted"] - curve["observed"]).abs() * (100 if problem.is_class else 1),
        " points" * problem.is_class,
    )
    return f"By decile, predicted and observed means differ by {gap.mean():.3g}{unit} on average, {gap.max():.3g}{unit} at most."


def headline(results: Results, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    names = {f"{title(RANKING[problem.task])} on the holdout": RANKING[problem.task], "gain per row": "gain"}
    return {label: with_interval(results[name]) for label, name in names.items()}


def conclusion(name: str, results: Results, floor: float, problem: Problem) -> str:
    """Return the conclusion of the stage."""
    facts = (
        f"{name.replace('_', ' ').capitalize()} gains {with_interval(results['gain'])} per {problem.unit} over the best policy "
        f"without a model on unseen rows ({title(RANKING[problem.task])} {with_interval(results[RANKING[problem.task]])})"
    )
    if not beats_naive(name, results, floor):
        return f"Nothing significantly beats the baseline. {facts}: not worth deploying."
    worth = "worth" if results["gain"]["value"] >= problem.success.min_payoff_gain else "not yet worth"
    return f"{facts}: {worth} deploying."


def reach(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return how far an interval goes below and above its value: float64, shape (2, n)."""
    return np.abs(table[["low", "high"]].to_numpy().T - table[name].to_numpy())


def bars(question: str, names: Any, values: Any, ends: Any, color: Any, label: str) -> Figure:
    """Draw horizontal bars with intervals, the first on top."""
    fig, axes = plotting.canvas(question, height=0.3 * len(values) + 1)
    axes.barh(range(len(values)), values, xerr=ends, color=color, error_kw={"lw": 1.2, "capsize": 3})
    axes.set_yticks(range(len(values)), [plotting.plain(name) for name in names])
    axes.set(xlabel=plotting.plain(label))
    axes.axvline(0, color=plotting.GREY, lw=1)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    return fig
