"""Figures and sentences of stage 08, deployment."""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice

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


def plot_decisions(answers: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the actions over the probability, or the quantity acted on over the prediction."""
    fig, axes = plotting.canvas("What did the service decide?", height=3.2)
    if problem.is_class:
        _draw_actions(axes, answers, problem)
    else:
        _draw_quantities(axes, answers, problem)
    for handle in axes.legend(frameon=False).legend_handles:
        handle.set_alpha(1)
    return fig


def plot_deciles(table: pd.DataFrame, problem: Problem) -> Figure:
    """Draw the expected and the actual payoff by decile of the answers, and that of policies without a model."""
    fig, axes = plotting.canvas("Did the decisions pay what was expected?", height=3.4)
    others = [name for name in table if name not in ("decile", "level", "expected", "paid", "rows")]
    for name, style in zip(others, cycle(("--", ":", "-."))):
        axes.plot(table["decile"], table[name], color=plotting.GREY, ls=style, label=plotting.label(name, LONGEST))
    axes.plot(table["decile"], table["expected"], color=plotting.SKY, marker="o", label="expected by the service")
    axes.plot(table["decile"], table["paid"], color=plotting.BLUE, marker="o", label="paid on the holdout")
    axes.set(
        xlabel=f"decile of the answers, by {_order(problem)}",
        ylabel=plotting.label(f"payoff per {problem.unit}", LONGEST),
    )
    axes.set_xticks(table["decile"])
    axes.legend(frameon=False)
    return fig


def describe_bundle(bundle: Bundle) -> str:
    """Return what a row of the bundle must and may hold, in words."""
    required = [display.code(field["name"]) for field in bundle.signature if field["required"]]
    keys = f"A row must hold {listed(required)}, the keys of its history" if required else "No field is required"
    history, count = "", len(bundle.features)
    if bundle.online:
        history = f", {len(bundle.online)} of them history, looked up as of {bundle.moment} (UTC) where a row lacks it"
    return f"Bundle **{bundle.version}** takes {count} feature{'s' * (count != 1)}{history}. {keys}; others may be left out."


def describe_answers(compared: pd.DataFrame) -> str:
    """Return the differences between the answers and offline ones, in words."""
    apart, differ = compared["difference"].max(), int(compared["actions"].sum())
    return (
        f"The largest difference between {compared['rows'].sum():,} answers and offline ones is **{apart:.3g}** (limit "
        f"{TOLERANCE:g}); {differ or 'no'} action{'' if differ == 1 else 's'} differ{'s' if differ == 1 else ''}."
    )


def describe_refusals(refused: pd.DataFrame) -> str:
    """Return how many bad requests were refused, in words."""
    return f"**{refused_well(refused)} of {len(refused)}** bad requests were refused with a 4xx status."


def describe_decisions(answers: pd.DataFrame, problem: Problem) -> str:
    """Return how often each action was chosen, or how far the quantity is from the prediction; also an alt text."""
    middle, count = float(np.median(decisions.expected(answers, problem))), len(answers)
    if not problem.is_class:
        moved = float((answers["action"] - answers["prediction"]).mean())
        return (
            f"Over {count:,} answers the quantity acted on is {decisions.number(abs(moved))} "
            f"{'above' if moved >= 0 else 'below'} the prediction on average; half of the predictions are below "
            f"{decisions.show_level(middle, problem)}."
        )
    shares = answers["action"].value_counts(normalize=True)
    actions = [f"*{action}* in {shares.get(action, 0.0):.0%}" for action in problem.actions]
    forecast = "probabilities" if problem.task == "binary" else f"probabilities of {display.code(problem.focus)}"
    return f"Of {count:,} answers the service chose {listed(actions)}; half of the {forecast} are below {middle:.1%}."


def describe_deciles(table: pd.DataFrame, problem: Problem) -> str:
    """Return the expected and the actual payoff, and where they differ most; also an alt text."""
    worst = table.loc[(table["paid"] - table["expected"]).abs().idxmax()]
    expected, paid = (np.average(table[name], weights=table["rows"]) for name in ("expected", "paid"))
    money = partial(decisions.number, sign="+")
    level = money(worst["level"]) if problem.task == "multiclass" else decisions.show_level(worst["level"], problem)
    return (
        f"The decisions were expected to pay {money(expected)} per {problem.unit} and paid {money(paid)}. The two differ "
        f"most in decile {worst['decile']:.0f}, where the {_order(problem)} averages {level}: {money(worst['expected'])} "
        f"expected, {money(worst['paid'])} paid."
    )


def describe_latency(within: bool, params: Params) -> str:
    """Return the budget and whether it was kept, in words."""
    return (
        f"95 of 100 single-row requests must be answered within {params.latency_budget_ms:g} ms: "
        f"**{'they were' if within else 'they were not'}**. The times of the last run are in `{LATENCY}`, not in this "
        "report, so that equal runs give equal reports."
    )


def _draw_actions(axes: Axes, answers: pd.DataFrame, problem: Problem) -> None:
    binary = problem.task == "binary"
    p = answers["probability"] if binary else answers[decisions.forecast_columns(problem)].max(axis=1)
    groups = [p[answers["action"] == action] for action in problem.actions]
    labels = [
        f"{plotting.label(action, LONGEST)} ({len(group) / len(answers):.0%})"
        for action, group in zip(problem.actions, groups, strict=True)
    ]
    colors = list(islice(cycle(plotting.PALETTE), len(groups)))
    axes.hist(groups, bins=np.linspace(0, 1, 51).tolist(), stacked=True, color=colors, label=labels)
    if problem.break_even is not None:
        axes.axvline(problem.break_even, color=plotting.RED, ls="--", lw=1.2, label="break-even")
    event = (
        f"probability that the {problem.unit} {problem.positive}" if binary else "probability of the likeliest class"
    )
    axes.set(xlabel=plotting.plain(event), ylabel="answers")
    plotting.as_share(axes, "x")


def _draw_quantities(axes: Axes, answers: pd.DataFrame, problem: Problem) -> None:
    shown = answers.sort_values("prediction")
    ends = shown["prediction"].iloc[[0, -1]]
    axes.vlines(
        shown["prediction"], shown["low"], shown["high"], color=plotting.SKY, alpha=0.15, lw=1, label="interval"
    )
    axes.plot(ends, ends, color=plotting.GREY, ls="--", lw=1, label="the prediction itself")
    axes.scatter(shown["prediction"], shown["action"], s=8, color=plotting.BLUE, alpha=0.6, label="quantity acted on")
    axes.set(
        xlabel=plotting.label(f"prediction of {problem.target}", LONGEST),
        ylabel=plotting.label(problem.target, LONGEST),
    )


def _order(problem: Problem) -> str:
    return {"binary": "probability", "multiclass": "expected payoff", "regression": "prediction"}[problem.task]
