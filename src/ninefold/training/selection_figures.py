"""Figures and sentences on the choice of a model: candidates, search, folds, calibration, learning curve."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan
from ninefold.problem import Problem, decisions, title
from ninefold.training.cross_validation import FOLD
from ninefold.training.holdout import LockedHoldout
from ninefold.training.params import Params
from ninefold.training.selection import NAIVE
from ninefold.training.tuning import as_text


def plot_learning(curve: pd.DataFrame, plan: EvaluationPlan) -> Figure:
    """Draw the primary metric on unseen rows by how many rows the model is fitted on."""
    fig, axes = plotting.canvas("Would more rows help?", height=2.8)
    axes.plot(curve["rows"], curve["score"], marker="o", color=plotting.BLUE, lw=2)
    axes.set(xlabel="rows that the model is fitted on", ylabel=title(plan.primary.name))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    return fig


def options_table(tuned: Params) -> pd.DataFrame:
    """Return the options of the candidates: ``candidate``, ``model``, ``options`` as text."""
    rows = [(name, one.model, as_text(one.options())) for name, one in tuned.candidates.items()]
    return pd.DataFrame(rows, columns=["candidate", "model", "options"])


def describe_parts(
    parts: dict[str, pd.DataFrame], holdout: LockedHoldout, schema: FeatureSchema, problem: Problem
) -> str:
    """Return how many rows are in each part, as a sentence."""
    sizes = ", ".join(f"**{len(rows):,}** for {name}" for name, rows in parts.items())
    share = len(holdout) / (len(holdout) + sum(map(len, parts.values())))
    newest = ", the newest" if problem.time else ""
    return (
        f"{len(schema.all)} features; rows: {sizes}; **{len(holdout):,}** are in the locked holdout, {share:.0%} of "
        f"all{newest}."
    )


def describe_search(trials: pd.DataFrame, tuned: Params, plan: EvaluationPlan) -> str:
    """Return what the search tried and its best result, as a sentence."""
    if trials.empty:
        return (
            "No search: every candidate keeps the options of params. `training.search.budget`, in trials or in time, "
            "such as `40` or `10m`, lets Optuna search for better ones."
        )
    whole, metric = trials.dropna(subset=["score"]), title(plan.primary.name)
    best = whole.loc[whole["score"] == whole["best"].iloc[-1]].iloc[0]
    first = whole["score"].iloc[: len(tuned.candidates)]
    before = first.min() if plan.primary.better == "lower" else first.max()
    return (
        f"**{len(trials)} trials**, {len(whole)} of them on all rows. The best {metric} is "
        f"{decisions.number(best['score'])}, by {display.code(best['candidate'])} with {best['options']}; with the options "
        f"of params it is {decisions.number(before)}. The best of many trials is biased upwards; the holdout is not."
    )


def describe_folds(rows: pd.DataFrame, problem: Problem) -> str:
    """Return in which folds models were compared, as a sentence."""
    count = rows[FOLD].nunique()
    folds = f"in {count} fold{'s' * (count > 1)}"
    if not problem.time:
        how = "every open row by models that had not seen it" if count > 1 else "the validation part"
        return f"Compared on {len(rows):,} rows, {folds}: {how}."
    first, last = (f"{time:%Y-%m-%d}" for time in (rows[problem.time].min(), rows[problem.time].max()))
    return f"Compared on {len(rows):,} rows of {first} to {last}, {folds}, each predicted from the rows before it."


def describe_choice(compared: pd.DataFrame, name: str, plan: EvaluationPlan) -> str:
    """Return which model was chosen, and why, as a sentence."""
    table, number = compared.set_index("model"), decisions.number
    best, chosen = str(table["behind"].idxmin()), table.loc[name]
    metric, score = title(plan.primary.name), number(chosen[plan.primary.name])
    if name == NAIVE:
        return f"By {metric} **no candidate is better than the prediction without features** ({score})."
    start = f"By {metric} **{name.replace('_', ' ')}** is chosen, with {score}"
    rest = table.drop([name, NAIVE], errors="ignore")
    if name == best and rest.empty:
        return f"{start}: the only candidate."
    if name == best:
        second = str(rest["behind"].idxmin())
        behind, error = rest.loc[second, "behind"], rest.loc[second, "standard error"]
        return f"{start}, the best; {second.replace('_', ' ')} is {number(behind)} behind (standard error {number(error)})."
    return (
        f"{start}: the simplest of those that are less than a standard error behind the best, {best.replace('_', ' ')} "
        f"({number(chosen['behind'])} better, standard error {number(chosen['standard error'])})."
    )


def describe_calibration(table: pd.DataFrame, method: str, params: Params, problem: Problem) -> str:
    """Return which calibration was chosen, and what it does, as a sentence."""
    if not problem.is_class:
        interval = table.set_index("interval").loc["conformal"]
        return (
            f"An interval of {params.interval:.0%} holds {interval['holds']:.1%} of the outcomes of the other half; its mean "
            f"width is {decisions.number(interval['width'])}. The model's intervals come from the errors of both halves."
        )
    by_method = table.set_index("calibration")
    raw, observed = (decisions.show_level(by_method.loc["none", name], problem) for name in ("mean", "observed"))
    loss = by_method["log_loss"]
    used = f"**{method}** calibration is used, with a log loss of {loss[method]:.4f} against {loss['none']:.4f}"
    if method == "none":
        used = f"they are used as they are: no calibration has a log loss clearly below {loss['none']:.4f}"
    return f"On the second half the raw probabilities average {raw}, the observed share is {observed}; {used}."


def describe_learning(curve: pd.DataFrame, plan: EvaluationPlan) -> str:
    """Return what more rows change, as a sentence; also an alt text."""
    if len(curve) < 2:
        return "There are too few rows for a learning curve."
    half, full = curve.iloc[-2], curve.iloc[-1]
    better = (half["score"] - full["score"]) * (1 if plan.primary.better == "lower" else -1)
    return (
        f"{full['rows']:,.0f} rows instead of {half['rows']:,.0f} make {title(plan.primary.name)} "
        f"{'better' if better > 0 else 'worse'} by {decisions.number(abs(better))}, on one part of the data."
    )
