"""Figures and sentences of stage 08, deployment."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold import display, plotting
from ninefold.problem import Problem, decisions, listed
from ninefold.serving.bundle import Bundle
from ninefold.serving.client import refused_well
from ninefold.serving.deployment import LATENCY, TOLERANCE, Params

LONGEST = 40  # characters of a label
ORDER = {"binary": "probability", "multiclass": "expected payoff", "regression": "prediction"}


def plot_decisions(answers: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the actions over the probability, or the quantity acted on over the prediction."""
    fig, axes = plotting.canvas("What did the service decide?", height=3.2)
    (_draw_actions if problem.is_class else _draw_quantities)(axes, answers, problem)
    for handle in axes.legend(frameon=False).legend_handles:
        handle.set_alpha(1)
    return fig


def plot_deciles(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the expected and the actual payoff by decile of the answers, and that of policies without a model."""
    fig, axes = plotting.canvas("Did the decisions pay what was expected?", height=3.4)
    lines = table.set_index("decile").drop(columns=["level", "rows"])
    for name, style in zip(lines.columns.drop(["expected", "paid"]), cycle(("--", ":", "-."))):
        axes.plot(lines[name], color=plotting.GREY, ls=style, label=plotting.label(name, LONGEST))
    axes.plot(lines["expected"], color=plotting.SKY, marker="o", label="expected by the service")
    axes.plot(lines["paid"], color=plotting.BLUE, marker="o", label="paid on the holdout")
    payoff = plotting.label(f"payoff per {problem.unit}", LONGEST)
    axes.set(xlabel=f"decile of the answers, by {ORDER[problem.task]}", ylabel=payoff, xticks=table["decile"])
    axes.legend(frameon=False)
    return fig


def describe_bundle(bundle: Bundle) -> str:
    """Return what a row of the bundle must and may hold."""
    keys = listed([display.code(field["name"]) for field in bundle.signature if field["required"]])
    return (
        f"Bundle **{bundle.version}**; features: {len(bundle.features)}; of these, history that is looked up where a row "
        f"lacks it: {len(bundle.online)} (as of {bundle.moment or 'no time'}); fields that a row must hold, the keys of its "
        f"history: {keys or 'none'}. Others may be left out."
    )


def describe_answers(compared: pd.DataFrame) -> str:
    """Return the differences between the answers and offline ones."""
    return (
        f"The largest difference between {compared['rows'].sum():,} answers and offline ones is "
        f"**{compared['difference'].max():.3g}** (limit {TOLERANCE:g}); actions that differ: {compared['actions'].sum()}."
    )


def describe_refusals(refused: pd.DataFrame) -> str:
    """Return how many bad requests were refused."""
    return f"**{refused_well(refused)} of {len(refused)}** bad requests were refused with a 4xx status."


def describe_decisions(answers: pd.DataFrame, problem: Problem) -> str:
    """Return how often each action was chosen, or how far the quantity is from the prediction; also an alt text."""
    middle = decisions.show_level(float(np.median(decisions.expected(answers, problem))), problem)
    if not problem.is_class:
        moved = decisions.number((answers["action"] - answers["prediction"]).mean(), sign="+")
        chose = f"the quantity acted on less the prediction is {moved} on average"
    else:
        shares = answers["action"].value_counts(normalize=True)
        actions = [f"*{action}* in {shares.get(action, 0.0):.0%}" for action in problem.actions]
        chose = f"the service chose {listed(actions)}"
    forecasts = "probabilities" if problem.is_class else "predictions"
    of = f" of {display.code(problem.focus)}" if problem.task == "multiclass" else ""
    return f"Over {len(answers):,} answers {chose}; half of the {forecasts}{of} are below {middle}."


def describe_deciles(table: pd.DataFrame, problem: Problem) -> str:
    """Return the expected and the actual payoff, and where they differ most; also an alt text."""
    worst = table.loc[(table["paid"] - table["expected"]).abs().idxmax()]
    means = (np.average(table[name], weights=table["rows"]) for name in ("expected", "paid"))
    expected, paid, *at_worst = (
        decisions.number(each, sign="+") for each in (*means, worst["expected"], worst["paid"])
    )
    return (
        f"The decisions were expected to pay {expected} per {problem.unit} and paid {paid}. The two differ most in decile "
        f"{worst['decile']:.0f} by {ORDER[problem.task]}: {at_worst[0]} expected, {at_worst[1]} paid."
    )


def describe_latency(within: bool, params: Params) -> str:
    """Return the budget and whether it was kept."""
    return (
        f"95 of 100 single-row requests must be answered within {params.latency_budget_ms:g} ms: "
        f"**{'they were' if within else 'they were not'}**. The times of the last run are in `{LATENCY}`, not in this "
        "report, so that equal runs give equal reports."
    )


def _draw_actions(axes: Axes, answers: pd.DataFrame, problem: Problem) -> None:
    event = f"probability that the {problem.unit} {problem.positive}"
    name = event if problem.task == "binary" else "probability of the likeliest class"
    likeliest = answers[decisions.forecast_columns(problem)].max(axis=1)
    groups = [likeliest[answers["action"] == action] for action in problem.actions]
    names = [plotting.label(action, LONGEST) for action in problem.actions]
    labels = [f"{each} ({len(group) / len(answers):.0%})" for each, group in zip(names, groups, strict=True)]
    colors = [color for color, _ in zip(cycle(plotting.PALETTE), groups)]
    axes.hist(groups, bins=np.linspace(0, 1, 51).tolist(), stacked=True, color=colors, label=labels)
    if problem.break_even is not None:
        axes.axvline(problem.break_even, color=plotting.RED, ls="--", lw=1.2, label="break-even")
    axes.set(xlabel=plotting.plain(name), ylabel="answers")
    plotting.as_share(axes, "x")


def _draw_quantities(axes: Axes, answers: pd.DataFrame, problem: Problem) -> None:
    shown = answers.sort_values("prediction")
    x, ends = shown["prediction"], shown["prediction"].iloc[[0, -1]]
    axes.vlines(x, shown["low"], shown["high"], color=plotting.SKY, alpha=0.15, lw=1, label="interval")
    axes.plot(ends, ends, color=plotting.GREY, ls="--", lw=1, label="the prediction itself")
    axes.scatter(x, shown["action"], s=8, color=plotting.BLUE, alpha=0.6, label="quantity acted on")
    names = [plotting.label(name, LONGEST) for name in (f"prediction of {problem.target}", problem.target)]
    axes.set(xlabel=names[0], ylabel=names[1])
