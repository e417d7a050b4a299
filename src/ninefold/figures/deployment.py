"""The figures and the sentences of stage 08, deployment."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ninefold.core import decisions, plots, show
from ninefold.deployment import LATENCY, TOLERANCE, Params
from ninefold.problem import listed
from ninefold.serving.bundle import Bundle
from ninefold.serving.client import refused_well

LONGEST = 40  # characters of a label; longer ones would push the picture aside


def plot_decisions(answers: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw which action each forecast led to: over the probability, or the quantity over the prediction."""
    fig, axes = plots.canvas("What did the service decide?", height=3.2)
    if decisions.is_class(stated):
        _draw_actions(axes, answers, stated)
    else:
        _draw_quantities(axes, answers, stated)
    for handle in axes.legend(frameon=False).legend_handles:
        handle.set_alpha(1)
    return fig


def plot_deciles(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the expected and the actual payoff by tenth of the answers, and that of policies without a model."""
    fig, axes = plots.canvas("Did the decisions pay what they promised?", height=3.4)
    others = [name for name in table if name not in ("tenth", "level", "expected", "paid", "rows")]
    for name, style in zip(others, cycle(("--", ":", "-."))):
        axes.plot(table["tenth"], table[name], color=plots.GREY, ls=style, label=plots.label(name, LONGEST))
    axes.plot(table["tenth"], table["expected"], color=plots.SKY, marker="o", label="expected by the service")
    axes.plot(table["tenth"], table["paid"], color=plots.BLUE, marker="o", label="paid on the holdout")
    axes.set(
        xlabel=f"tenth of the answers, by {_order(stated)}", ylabel=plots.label(f"payoff per {stated['unit']}", LONGEST)
    )
    axes.set_xticks(table["tenth"])
    axes.legend(frameon=False)
    return fig


def describe_bundle(bundle: Bundle) -> str:
    """Return what was packed, in words."""
    needed = [show.code(field["name"]) for field in bundle.signature if field["required"]]
    keys = f"A row must hold {listed(needed)}, by which history is looked up" if needed else "No field is required"
    history, count = "", len(bundle.features)
    if bundle.online:
        history = f", {len(bundle.online)} of them history, looked up as of {bundle.moment} (UTC) where a row lacks it"
    return (
        f"Bundle **{bundle.version}** takes {count} feature{'' if count == 1 else 's'}{history}. {keys}; what else is not "
        "known may be left out."
    )


def describe_answers(compared: pd.DataFrame) -> str:
    """Return how far the answers are from offline ones, in words."""
    apart, differ = compared["difference"].max(), int(compared["actions"].sum())
    return (
        f"Over {compared['rows'].sum():,} answers in {len(compared)} ways of asking, the largest difference from offline "
        f"is **{apart:.3g}** (at most {TOLERANCE:g} is allowed), and {differ or 'no'} action{'' if differ == 1 else 's'} "
        f"differ{'s' if differ == 1 else ''}."
    )


def describe_refusals(refused: pd.DataFrame) -> str:
    """Return how the bad requests ended, in words."""
    return (
        f"**{refused_well(refused)} of {len(refused)}** bad requests were refused with a 4xx status; the service still "
        "answered after them."
    )


def describe_decisions(answers: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what was decided, in words; also the alt text of its figure."""
    middle, count = float(np.median(decisions.expected(answers, stated))), len(answers)
    if not decisions.is_class(stated):
        moved = float((answers["action"] - answers["prediction"]).mean())
        return (
            f"Over {count:,} answers the quantity acted on is {decisions.number(abs(moved))} {'above' if moved >= 0 else 'below'} the "
            f"prediction on average; half of the predictions are below {decisions.show_level(middle, stated)}."
        )
    shares = (answers["action"] == action for action in stated["actions"])
    chosen = [f"*{action}* in {share.mean():.0%}" for action, share in zip(stated["actions"], shares, strict=True)]
    what = "probabilities" if stated["task"] == "binary" else f"probabilities of {show.code(stated['focus'])}"
    return f"Of {count:,} answers the service chose {listed(chosen)}; half of the {what} are below {middle:.1%}."


def describe_deciles(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return where the payoff was furthest from what was expected, in words; also the alt text of its figure."""
    gap = table["paid"] - table["expected"]
    worst = table.loc[gap.abs().idxmax()]
    expected, paid = (np.average(table[name], weights=table["rows"]) for name in ("expected", "paid"))
    level = (
        decisions.number(worst["level"], "+")
        if stated["task"] == "multiclass"
        else decisions.show_level(worst["level"], stated)
    )
    return (
        f"The decisions were expected to pay {decisions.number(expected, '+')} per {stated['unit']} and paid {decisions.number(paid, '+')}. The two are "
        f"furthest apart in tenth {worst['tenth']:.0f}, where the {_order(stated)} averages {level}: "
        f"{decisions.number(worst['expected'], '+')} expected, {decisions.number(worst['paid'], '+')} paid."
    )


def describe_latency(within: bool, params: Params) -> str:
    """Return the budget and whether it was kept, in words; the times themselves differ from run to run."""
    return (
        f"95 of 100 single-row requests have to be answered within {params.latency_budget_ms:g} ms: "
        f"**{'they were' if within else 'they were not'}**. The times of the last run on this machine are in "
        f"`{LATENCY}`; they are kept out of this report, so that equal runs give equal reports."
    )


def _draw_actions(axes: Axes, answers: pd.DataFrame, stated: dict[str, Any]) -> None:
    binary = stated["task"] == "binary"
    p = answers["probability"] if binary else answers[decisions.forecast_columns(stated)].max(axis=1)
    groups = [p[answers["action"] == action] for action in stated["actions"]]
    labels = [
        f"{plots.label(action, LONGEST)} ({len(group) / len(answers):.0%})"
        for action, group in zip(stated["actions"], groups, strict=True)
    ]
    colors = list(islice(cycle(plots.PALETTE), len(groups)))
    axes.hist(groups, bins=np.linspace(0, 1, 51).tolist(), stacked=True, color=colors, label=labels)
    if stated["break_even"] is not None:
        axes.axvline(stated["break_even"], color=plots.RED, ls="--", lw=1.2, label="break-even")
    event = (
        f"probability that the {stated['unit']} {stated['positive']}"
        if binary
        else "probability of the likeliest class"
    )
    axes.set(xlabel=plots.plain(event), ylabel="answers")
    plots.as_share(axes, "x")


def _draw_quantities(axes: Axes, answers: pd.DataFrame, stated: dict[str, Any]) -> None:
    shown = answers.sort_values("prediction")
    ends = shown["prediction"].iloc[[0, -1]]
    axes.vlines(shown["prediction"], shown["low"], shown["high"], color=plots.SKY, alpha=0.15, lw=1, label="interval")
    axes.plot(ends, ends, color=plots.GREY, ls="--", lw=1, label="the prediction itself")
    axes.scatter(shown["prediction"], shown["action"], s=8, color=plots.BLUE, alpha=0.6, label="quantity acted on")
    axes.set(
        xlabel=plots.label(f"prediction of {stated['target']}", LONGEST), ylabel=plots.label(stated["target"], LONGEST)
    )


def _order(stated: dict[str, Any]) -> str:
    return {"binary": "probability", "multiclass": "expected payoff", "regression": "prediction"}[stated["task"]]
