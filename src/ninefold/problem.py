"""What decision, for whom, with what costs, against which baseline policy?

Reads: ``params.yaml``, section ``problem``.
Writes: ``data/problem.json``, the statement that every later stage reads.
Gate: the statement is complete, and the payoffs leave something to decide.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, StringConstraints, field_validator

from ninefold.core import gate, io, plots
from ninefold.core.params import Section

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Duration = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?[mhd]$")]


class Payoff(Section):
    """What an action pays if the event happens, and if it does not."""

    positive: float
    negative: float


class Uses(Section):
    """What each kind of analytics is for in this project."""

    descriptive: Text
    predictive: Text
    prescriptive: Text


class Success(Section):
    """What makes the project worth having, measured on the holdout."""

    min_roc_auc: float = Field(ge=0.5, le=1)
    min_payoff_gain: float = Field(ge=0)
    confidence: float = Field(gt=0.75, lt=1)


class Params(Section):
    """Section ``problem`` of ``params.yaml``."""

    title: Text
    question: Text
    unit: Text
    units: Text
    table: Text
    key: list[Text] = Field(min_length=1)
    time: Text
    target: Text
    positive: Text
    horizon: Duration
    owner: Text
    action_meaning: Text
    uses: Uses
    payoff_unit: Text
    payoffs: dict[Text, Payoff] = Field(min_length=2)
    success: Success
    risks: list[Text] = Field(min_length=1)

    @field_validator("payoffs")
    @classmethod
    def _no_idle_action(cls, payoffs: dict[str, Payoff]) -> dict[str, Payoff]:
        if len({(payoff.positive, payoff.negative) for payoff in payoffs.values()}) < 2:
            raise ValueError("actions whose payoffs differ; with equal ones there is nothing to decide")
        return payoffs


def statement(params: Params) -> dict[str, Any]:
    """Return the problem as plain values: what later stages, and people, read.

    Its ``break_even`` is the probability at which the best action changes; ``actions`` are in the order of params.
    """
    stated = params.model_dump(mode="json")
    return {**stated, "actions": list(params.payoffs), "break_even": break_even(stated["payoffs"])}


def payoff_matrix(payoffs: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the payoffs as a table: a row per action, columns ``positive`` and ``negative`` (float64)."""
    return pd.DataFrame.from_dict(payoffs, orient="index", columns=["positive", "negative"]).astype("float64")


def expected_payoff(probability: np.ndarray, payoffs: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Return the expected payoff of every action, a column each.

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
        Of the event, 0-1.
    payoffs : dict
        Action -> ``{"positive": ..., "negative": ...}``.
    """
    matrix = payoff_matrix(payoffs)
    p = np.asarray(probability, dtype="float64")[:, None]
    return pd.DataFrame(
        p * matrix["positive"].to_numpy() + (1 - p) * matrix["negative"].to_numpy(), columns=matrix.index
    )


def best_action(probability: np.ndarray, payoffs: dict[str, dict[str, float]]) -> np.ndarray:
    """Return, per row, the name of the action with the highest expected payoff (the first one where they tie)."""
    values = expected_payoff(probability, payoffs)
    return values.columns.to_numpy()[values.to_numpy().argmax(axis=1)]


def payoff(actions: np.ndarray, outcomes: np.ndarray, payoffs: dict[str, dict[str, float]]) -> np.ndarray:
    """Return what each row pays, given the action taken and the outcome (1 or 0): float64, shape (n,)."""
    matrix = payoff_matrix(payoffs)
    row = matrix.index.get_indexer(pd.Index(actions))
    return matrix.to_numpy()[row, np.where(np.asarray(outcomes) == 1, 0, 1)]


def break_even(payoffs: dict[str, dict[str, float]]) -> float | None:
    """Return the lowest probability at which the best action changes, or None if one action is always best.

    Two actions with payoff lines ``n + p (y - n)`` are equal at ``p = (n2 - n1) / ((y1 - n1) - (y2 - n2))``.
    """
    matrix = payoff_matrix(payoffs)
    slope, start = (matrix["positive"] - matrix["negative"]).to_numpy(), matrix["negative"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = ((start[:, None] - start) / (slope - slope[:, None])).ravel()
    crossings = np.sort(crossings[np.isfinite(crossings) & (crossings > 0) & (crossings < 1)])
    for point in crossings:
        below, above = best_action(np.array([point - 1e-9, point + 1e-9]), payoffs)
        if below != above:
            return float(point)
    return None


def baseline_policies(stated: dict[str, Any]) -> pd.DataFrame:
    """Return the policies that need no model, one per action: do it always."""
    return pd.DataFrame(
        [
            (f"always {action}", row["positive"], row["negative"])
            for action, row in payoff_matrix(stated["payoffs"]).iterrows()
        ],
        columns=["policy", "pays if it happens", "pays if not"],
    )


def sentence(stated: dict[str, Any]) -> str:
    """Return the decision as one sentence, in Markdown."""
    return (
        f"**{stated['question']}** For every {stated['unit']}, {stated['owner']} chooses between "
        f"{' and '.join(f'*{action}*' for action in stated['actions'])}, {stated['horizon']} before "
        f"`{stated['time']}`. To act means to {stated['action_meaning']}. The event to foresee is that the "
        f"{stated['unit']} {stated['positive']} (`{stated['target']} = 1`)."
    )


def uses(stated: dict[str, Any]) -> pd.DataFrame:
    """Return the three kinds of analytics, the question of each, and the stages that answer it."""
    stages = {"descriptive": "03, 05", "predictive": "06, 07, 08", "prescriptive": "04, 07, 09"}
    rows = [(kind, question, stages[kind]) for kind, question in stated["uses"].items()]
    return pd.DataFrame(rows, columns=["kind", "question", "stages"])


def payoff_table(stated: dict[str, Any]) -> pd.DataFrame:
    """Return the payoff matrix for reading: a line per action, a column per outcome."""
    matrix = payoff_matrix(stated["payoffs"])
    matrix.columns = [stated["positive"], "does not"]
    return matrix.rename_axis("action").reset_index()


def success_criteria(stated: dict[str, Any]) -> pd.DataFrame:
    """Return what the project is held to on the holdout: ``criterion``, ``at least``, ``meaning``."""
    success = stated["success"]
    rows = [
        ("ROC AUC", success["min_roc_auc"], "the chance that a random event is ranked above a random non-event"),
        ("payoff gain", success["min_payoff_gain"], f"per {stated['unit']}, above the best policy without a model"),
        ("confidence", success["confidence"], "that the gain is above zero, on days like those of the holdout"),
    ]
    return pd.DataFrame(rows, columns=["criterion", "at least", "meaning"])


def bullets(lines: list[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def describe_expected_payoff(stated: dict[str, Any]) -> str:
    """Return what the figure of expected payoffs shows, in words."""
    low, high = best_action(np.array([0.0, 1.0]), stated["payoffs"])
    if stated["break_even"] is None:
        return f"One action, {low}, has the highest expected payoff at every probability."
    return (
        f"Below a probability of {stated['break_even']:.0%} the best action is {low}; above it, {high}. "
        "A probability is all that the decision needs, so it has to be a well-calibrated one."
    )


def plot_expected_payoff(stated: dict[str, Any]) -> Figure:
    """Draw the expected payoff of each action against the probability of the event, with the break-even point."""
    grid = np.linspace(0, 1, 101)
    values = expected_payoff(grid, stated["payoffs"])
    fig, axes = plots.canvas("From which probability on does acting pay?")
    for color, name in zip(plots.PALETTE, values, strict=False):
        axes.plot(grid, values[name], color=color, lw=2, label=name)
    if stated["break_even"] is not None:
        axes.axvline(stated["break_even"], color=plots.GREY, ls="--", lw=1)
        axes.annotate(f"break-even {stated['break_even']:.0%}", (stated["break_even"] + 0.01, values.min().min()))
    axes.set(xlabel=f"probability that the {stated['unit']} {stated['positive']}", ylabel=stated["payoff_unit"])
    plots.as_share(axes, "x")
    axes.legend(title="action", frameon=False)
    return fig


def checks(stated: dict[str, Any]) -> list[gate.Check]:
    """Return the gate: a complete statement whose payoffs leave something to decide."""
    best = set(best_action(np.linspace(0, 1, 1001), stated["payoffs"]))
    idle = [action for action in stated["actions"] if action not in best]
    point = stated["break_even"]
    return [
        gate.at_least("risks written down", len(stated["risks"]), 1),
        gate.at_least("actions to choose from", len(stated["actions"]), 2),
        gate.holds("each action is best somewhere", not idle, ", ".join(idle) or "all", "no action that never pays"),
        gate.holds("break-even probability", point is not None, point, "between 0 and 1"),
        gate.at_least("payoff gain asked for", stated["success"]["min_payoff_gain"], 0),
    ]


def metrics(stated: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {"break_even": stated["break_even"], "actions": len(stated["actions"]), "risks": len(stated["risks"])}


def headline(stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    point = stated["break_even"]
    return {
        "break-even probability": "none" if point is None else f"{point:.0%}",
        "decided": f"{stated['horizon']} ahead",
    }


def verdict(stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    low, high = best_action(np.array([0.0, 1.0]), stated["payoffs"])
    if stated["break_even"] is None:
        return f"{low.capitalize()} is always best under these payoffs: there is nothing to decide."
    return (
        f"{low.capitalize()} while the probability that a {stated['unit']} {stated['positive']} is below "
        f"{stated['break_even']:.0%}, {high} above it: the project has to tell the two apart "
        f"{stated['horizon']} ahead."
    )


def save(stated: dict[str, Any]) -> None:
    """Write ``data/problem.json``."""
    io.write_json(stated, io.output("data/problem.json"))


def load() -> dict[str, Any]:
    """Read the statement that `save` wrote."""
    return io.read_json("data/problem.json")
