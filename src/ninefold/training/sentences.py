"""Tables and sentences of stage 07: how the model was chosen, what it is worth, where it is biased, what it relies on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ninefold import display, plotting
from ninefold.features import FeatureSchema
from ninefold.metrics import FOLLOW, EvaluationPlan, against_zero, cluster_name, threshold, with_interval
from ninefold.problem import FORESIGHT, RANKING, Problem, decisions, title
from ninefold.training.params import Params
from ninefold.training.selection import NAIVE
from ninefold.training.stage import LockedHoldout, Results, beats_naive
from ninefold.training.tuning import as_text

RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
MOSTLY = 0.9  # of the flagged slices that are biased alike, from which on the whole is biased
IN_WORDS = 3  # contributions to a prediction
LONG_LOSS = 7  # days without a gain at the end of the holdout, from which on a sentence says so


def options_table(tuned: Params) -> pd.DataFrame:
    """Return the options of the candidates: ``candidate``, ``model``, ``options`` as text."""
    rows = [(name, one.model, as_text(one.options())) for name, one in tuned.candidates.items()]
    return pd.DataFrame(rows, columns=["candidate", "model", "options"])


def results_table(results: Results) -> pd.DataFrame:
    """Return what `evaluation.evaluate` returned as a table: ``figure``, ``value``, ``low``, ``high``."""
    return pd.DataFrame([{"figure": title(name), **figure} for name, figure in results.items()])


def formats(table: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    """Return how to show the columns of these tables that hold shares, or `p`."""
    shares = (*RATES, "observed", "predicted") if problem.is_class else RATES
    shown = dict.fromkeys(shares, display.SHARE) | dict.fromkeys(("p", "q"), _p)
    return {name: form for name, form in shown.items() if name in table}


def describe_parts(
    parts: dict[str, pd.DataFrame], holdout: LockedHoldout, schema: FeatureSchema, problem: Problem
) -> str:
    """Return how many rows are in each part, as a sentence."""
    sizes = ", ".join(f"**{len(rows):,}** for {name}" for name, rows in parts.items())
    share = len(holdout) / (len(holdout) + sum(map(len, parts.values())))
    where = f"in the locked holdout, {share:.0%} of all{', the newest' if problem.time else ''}"
    return f"{len(schema.all)} features; rows: {sizes}; **{len(holdout):,}** are {where}."


def describe_search(trials: pd.DataFrame, tuned: Params, plan: EvaluationPlan) -> str:
    """Return what the search tried and its best result, as a sentence."""
    if trials.empty:
        return "No search: every candidate keeps the options of params; see `training.search.budget`."
    whole, metric = trials.dropna(subset=["score"]), title(plan.primary.name)
    best = whole.loc[whole["score"] == whole["best"].iloc[-1]].iloc[0]
    first = decisions.number(whole["best"].iloc[len(tuned.candidates) - 1])
    return (
        f"**{len(trials)} trials**, {len(whole)} of them on all rows. The best {metric} is "
        f"{decisions.number(best['score'])}, by {display.code(best['candidate'])} with {best['options']}; with the options "
        f"of params it is {first}."
    )


def describe_choice(compared: pd.DataFrame, name: str, plan: EvaluationPlan) -> str:
    """Return which model was chosen, and why, as a sentence."""
    table, number, metric = compared.set_index("model"), decisions.number, title(plan.primary.name)
    score, rest = number(table.loc[name, plan.primary.name]), table.drop([name, NAIVE], errors="ignore")
    if name == NAIVE:
        return f"**No candidate is better than the prediction without features** ({metric} {score})."
    why, other = "the simplest of those less than a standard error behind the best", name
    if name == table["behind"].idxmin():
        why, other = "the best", rest["behind"].idxmin() if len(rest) else name
    behind, error = (number(table.loc[other, column]) for column in ("behind", "standard error"))
    chosen, other = (str(each).replace("_", " ") for each in (name, other))
    return f"**{chosen}** is chosen ({metric} {score}): {why}; {other} is {behind} behind the best (standard error {error})."


def describe_learning(curve: pd.DataFrame, plan: EvaluationPlan) -> str:
    """Return what more rows change, as a sentence; also an alt text."""
    scores = " to ".join(decisions.number(score) for score in curve["score"].tail(2))
    rows = " to ".join(f"{count:,}" for count in curve["rows"].tail(2))
    return f"With {rows} rows {title(plan.primary.name)} is {scores} ({plan.primary.better} is better), on one part of the data."


def describe_curve(curve: pd.DataFrame, problem: Problem) -> str:
    """Return how far predicted and observed means differ by decile."""
    scale, unit = (100, " points") if problem.is_class else (1, "")
    gap = scale * (curve["predicted"] - curve["observed"]).abs()
    return f"By decile, predicted and observed means differ by {gap.mean():.3g}{unit} on average, {gap.max():.3g}{unit} at most."


def describe_errors(
    results: Results, target: np.ndarray, predicted: pd.DataFrame, params: Params, problem: Problem
) -> str:
    """Return how good the ranking is, or how large the errors of quantities are."""
    if problem.is_class:
        guess = {RANKING[problem.task]: 0.5, "average_precision": results["observed"]["value"]}
        known = {name: value for name, value in guess.items() if name in results}
        texts = (f"{title(name)} {with_interval(results[name])}, at random {each:.3g}" for name, each in known.items())
        return f"{'; '.join(texts)}."
    error, number = np.asarray(target) - predicted["prediction"].to_numpy(), decisions.number
    return (
        f"Half of the errors are below {number(np.median(np.abs(error)))}, and the interval of {params.interval:.0%} "
        f"holds {results['covered']['value']:.1%} of the outcomes; the median error is {number(np.median(error), '+')}."
    )


def describe_policies(table: pd.DataFrame, results: Results, problem: Problem) -> str:
    """Return what following the model is worth, as sentences; also the alt text of its figure."""
    by_policy, gain, number = table.set_index("policy")["payoff"], results["gain"], decisions.number
    rest = by_policy.drop([FOLLOW, FORESIGHT])
    room = by_policy[FORESIGHT] - rest.max()
    share = f", {gain['value'] / room:.0%} of the gain of perfect foresight" if room > 0 else ""
    return (
        f"Following the model pays {number(by_policy[FOLLOW], '+')} per {problem.unit}, the best constant policy on these "
        f"rows ({rest.idxmax()}) {number(rest.max(), '+')}: a gain of {against_zero(gain)}{share}. The action differs from that "
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
    uncertain = [f"{display.code(row.price)} × {row.factor:g}" for row in moved[~(moved["low"] > 0)].itertuples()]
    return (
        f"At the current prices the gain is {gain.iloc[0]} per {problem.unit}; with one price halved or raised by half, it is "
        f"between {gain[table['gain'].idxmin()]} and {gain[table['gain'].idxmax()]}. It is not distinguishable from zero, or below, with: "
        f"{', '.join(uncertain) or 'none'}."
    )


def describe_slices(table: pd.DataFrame, problem: Problem) -> str:
    """Return in which slices predictions are biased, and the most significant one; also an alt text."""
    if table.empty:
        return f"No slice has enough rows of enough {cluster_name(problem)}; that is no evidence of even quality."
    scale, unit = (100, " points") if problem.is_class else (1, "")
    biased, facts = table[table["flagged"]], ""
    for first in biased.head(1).to_dict("records"):
        name = f"{display.code(first['feature'])} = {display.code(plotting.cut(first['group'], 60))}"
        bias, low, high = (decisions.number(scale * first[end], "+") for end in ("bias", "bias_low", "bias_high"))
        facts = (
            f" The most significant is {name}, {first['rows']:,} rows: predicted less observed is {bias}{unit} (interval "
            f"{low} to {high})."
        )
    over = (biased["bias"] > 0).mean()
    if len(biased) > len(table) / 2 and not 1 - MOSTLY < over < MOSTLY:
        facts += f" Nearly all are too {'high' if over > 0.5 else 'low'}: predictions are biased as a whole."
    return (
        f"In **{len(biased):,} of {len(table):,}** slices with enough rows predictions are significantly biased, corrected "
        f"for their number.{facts} The whole interval of the gain is below zero in {(table['high'] < 0).sum():,}."
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
        f"the {unit} of {most['period']:%Y-%m-%d}: {predicted} against {observed}."
    )


def describe_gains(spread: dict[str, Any]) -> str:
    """Return how the gain is spread over days, entities or rows (`slices.concentration`), as a sentence; also an alt text."""
    units = {"entity": "entities"}.get(spread["unit"], f"{spread['unit']}s")
    texts = [f"The gain is positive in {spread['positive']:.0%} of {spread['count']:,} {units}"]
    if spread["largest"] is not None:
        texts.append(f"the three largest make {spread['largest']:.0%} of it")
    if spread.get("loss_days", 0) >= LONG_LOSS:
        texts.append(f"the last {spread['loss_days']} days sum to a loss")
    return f"{'; '.join(texts)}."


def describe_importance(table: pd.DataFrame, problem: Problem) -> str:
    """Return the three most important features, as a sentence."""
    top = ", ".join(f"{display.code(row.feature)} ({row.loss:.3f})" for row in table.head(3).itertuples())
    return f"The features whose shuffling costs most {title(RANKING[problem.task])}: {top}."


def largest(part: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the largest contributions to one prediction, each with its ``name``, and in a last row the sum of the others."""
    pairs = zip(part["feature"], part["value"], strict=True)
    names = [f"{plotting.cut(feature, 32)} = {plotting.cut(value, 24)}" for feature, value in pairs]
    table = part.assign(name=names).sort_values("contribution", key=np.abs, ascending=False, kind="stable")
    if (rest := table.iloc[most:]).empty:
        return table
    others = {
        "name": f"other features: {len(rest)}",
        "contribution": rest["contribution"].sum(),
        "standard_error": np.nan,
    }
    return pd.concat([table.head(most), pd.DataFrame([others])])


def describe_contributions(table: pd.DataFrame, titles: Sequence[str], problem: Problem) -> str:
    """Return what moved each prediction most, as a sentence each."""
    texts = []
    for (_, part), name in zip(table.groupby("row"), titles, strict=True):
        base, top = part["base"].iloc[0], largest(part, IN_WORDS).head(IN_WORDS).itertuples()
        level, average = (decisions.show_level(value, problem) for value in (base + part["contribution"].sum(), base))
        moved = ", ".join(f"{display.code(row.name)} ({_change(row.contribution, problem)})" for row in top)
        texts.append(
            f"{display.code(name)}: {level} against {average} on average of the background, mostly by {moved}."
        )
    return " ".join(texts)


def headline(results: Results, problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    names = {f"{title(RANKING[problem.task])} on the holdout": RANKING[problem.task], "gain per row": "gain"}
    return {label: with_interval(results[name]) for label, name in names.items()}


def conclusion(name: str, results: Results, floor: float, problem: Problem) -> str:
    """Return the conclusion of the stage."""
    gain, least = results["gain"], f"above {floor:.3f} with {problem.success.confidence:.0%} confidence"
    sure = f"{with_interval(gain)}, {least}" if floor > 0 else against_zero(gain)
    facts = (
        f"The gain of {name.replace('_', ' ')} per {problem.unit} over the best policy without a model, on unseen rows, is "
        f"{sure} ({title(RANKING[problem.task])} {with_interval(results[RANKING[problem.task]])})"
    )
    if not beats_naive(name, results, floor):
        return f"Nothing significantly beats the baseline. {facts}: not worth deploying."
    worth = "worth" if gain["value"] >= problem.success.min_payoff_gain else "not yet worth"
    return f"{facts}: {worth} deploying."


def _change(contribution: float, problem: Problem) -> str:
    return f"{100 * contribution:+.1f} points" if problem.is_class else decisions.number(contribution, "+")


def _p(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"
