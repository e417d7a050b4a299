"""What decision, for whom, with what costs, against which baseline policy?

Reads: ``params.yaml``, section ``problem``.
Writes: ``data/problem.json``, the statement that every later stage reads.
Gate: the statement is complete, and the payoffs leave something to decide.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from ninefold.core import decisions, gate, io, plots, show
from ninefold.core.params import Duration, Name, Section, Text
from ninefold.core.scores import MEANING, title

OUTCOMES = ("positive", "negative")  # of a binary target: the event happens, or not


class Uses(Section):
    """What each kind of analytics is for in this project."""

    descriptive: Text
    predictive: Text
    prescriptive: Text


class Costs(Section):
    """What one unit costs by which the quantity acted on is too high (over), or too low (under)."""

    over: float = Field(gt=0)
    under: float = Field(gt=0)


class Success(Section):
    """What makes the project worth having, measured on the holdout."""

    scores: dict[Text, float] = Field(default_factory=dict)
    min_payoff_gain: float = Field(ge=0)
    confidence: float = Field(gt=0.75, lt=1)


class Params(Section):
    """Section ``problem`` of ``params.yaml``."""

    title: Text
    question: Text
    unit: Text
    units: Text
    table: Name
    key: list[Name] = Field(min_length=1)
    time: Name | None = None
    group: list[Name] | None = Field(default=None, min_length=1)
    task: Literal["binary", "multiclass", "regression"] = "binary"
    target: Name
    classes: list[Name] | None = Field(default=None, min_length=2)
    focus: Name | None = None
    positive: Text | None = None
    horizon: Duration = "0h"
    owner: Text
    action_meaning: Text
    uses: Uses
    payoff_unit: Text
    payoffs: dict[Text, dict[Name, float]] | None = Field(default=None, min_length=2)
    costs: Costs | None = None
    success: Success
    risks: list[Text] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_the_task(self) -> Params:
        needed, foreign = ("costs", "payoffs") if self.task == "regression" else ("payoffs", "costs")
        if getattr(self, needed) is None:
            raise ValueError(f"{needed} for task {self.task}; they are missing")
        if getattr(self, foreign) is not None:
            raise ValueError(f"{needed} for task {self.task}; found {foreign}, which are for another task")
        if self.task == "multiclass" and not self.classes:
            raise ValueError("classes for task multiclass: all values of the target, as text")
        if self.task == "binary" and self.classes and len(self.classes) != 2:
            raise ValueError(f"two classes for task binary, the second is the event; found {len(self.classes)}")
        if self.task != "regression" and self.positive is None:
            raise ValueError("positive: a verb phrase that says what the event is, such as 'arrives late'")
        if self.classes and len(set(self.classes)) < len(self.classes):
            raise ValueError(f"every class once; found {', '.join(self.classes)}")
        if self.classes and self.focus is not None and self.focus not in self.classes:
            raise ValueError(f"focus to be one of the classes, {', '.join(self.classes)}; found {self.focus}")
        if strange := sorted(set(self.success.scores) - set(MEANING[self.task])):
            raise ValueError(f"success.scores of {', '.join(MEANING[self.task])}; found {', '.join(strange)}")
        return self

    @model_validator(mode="after")
    def _payoffs_decide(self) -> Params:
        wanted = list(OUTCOMES) if self.task == "binary" else self.classes or []
        for action, paid in (self.payoffs or {}).items():
            if sorted(paid) != sorted(wanted):
                raise ValueError(f"payoffs.{action} for each of {', '.join(wanted)}; found {', '.join(paid)}")
        if self.payoffs and len({tuple(sorted(paid.items())) for paid in self.payoffs.values()}) < 2:
            raise ValueError("actions whose payoffs differ; with equal ones there is nothing to decide")
        return self


def statement(params: Params) -> dict[str, Any]:
    """Return the problem as plain values: what later stages, and people, read.

    ``classes`` and ``focus`` are filled in, ``actions`` are in the order of params, and ``break_even`` is the
    probability at which the best of the actions on a binary target changes.
    """
    stated = params.model_dump(mode="json")
    if params.task == "regression":
        return {**stated, "classes": None, "focus": None, "actions": [], "break_even": None}
    classes = params.classes or ["0", "1"]
    focus = classes[-1] if params.task == "binary" or params.focus is None else params.focus
    stated |= {"classes": classes, "focus": focus, "actions": list(params.payoffs or {}), "break_even": None}
    return {**stated, "break_even": decisions.break_even(stated) if params.task == "binary" else None}


def baseline_policies(stated: dict[str, Any]) -> pd.DataFrame:
    """Return the policies that need no model: ``policy``, and what it pays by outcome."""
    if not decisions.is_class(stated):
        ratio = decisions.critical_ratio(stated["costs"])
        rows = [("always the same quantity", f"the {ratio:.0%} quantile of the training outcomes: the best single one")]
        return pd.DataFrame(rows, columns=["policy", "which"])
    table = _named(decisions.payoff_matrix(stated), stated)
    return table.assign(action="always " + table["action"]).rename(columns={"action": "policy"})


def sentence(stated: dict[str, Any]) -> str:
    """Return the decision as one sentence, in Markdown."""
    when = f", {stated['horizon']} before {show.code(stated['time'])}" if stated["time"] else ""
    if not decisions.is_class(stated):
        return (
            f"**{stated['question']}** For every {stated['unit']}, {stated['owner']} chooses a quantity{when}: "
            f"{stated['action_meaning']}. What it should have been is known later, as {show.code(stated['target'])}."
        )
    event = f"{show.code(stated['target'])} is *{stated['focus']}*"
    return (
        f"**{stated['question']}** For every {stated['unit']}, {stated['owner']} chooses between "
        f"{listed([f'*{action}*' for action in stated['actions']])}{when}. To act means to {stated['action_meaning']}. "
        f"The event to foresee is that the {stated['unit']} {stated['positive']} ({event})."
    )


def uses(stated: dict[str, Any]) -> pd.DataFrame:
    """Return the three kinds of analytics, the question of each, and the stages that answer it."""
    stages = {"descriptive": "03, 05", "predictive": "06, 07, 08", "prescriptive": "04, 07, 09"}
    rows = [(kind, question, stages[kind]) for kind, question in stated["uses"].items()]
    return pd.DataFrame(rows, columns=["kind", "question", "stages"])


def payoff_table(stated: dict[str, Any]) -> pd.DataFrame:
    """Return what decisions pay, for reading: a line per action and a column per outcome, or the costs of a quantity."""
    if decisions.is_class(stated):
        return _named(decisions.payoff_matrix(stated), stated)
    costs = stated["costs"]
    rows = [("one unit too high", -costs["over"]), ("one unit too low", -costs["under"]), ("exactly right", 0.0)]
    return pd.DataFrame(rows, columns=["the quantity acted on is", "pays"])


def success_criteria(stated: dict[str, Any]) -> pd.DataFrame:
    """Return what the project is held to on the holdout: ``criterion``, ``at least`` (or most), ``meaning``."""
    success, meaning = stated["success"], MEANING[stated["task"]]
    rows = [
        (title(name), f"{'<=' if meaning[name][0] == 'lower' else '>='} {limit:g}", meaning[name][1])
        for name, limit in success["scores"].items()
    ]
    rows += [
        ("payoff gain", f">= {success['min_payoff_gain']:g}", f"per {stated['unit']}, above the best policy without a model"),
        ("confidence", f">= {success['confidence']:g}", "that the gain is above zero, for rows like those of the holdout"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["criterion", "limit", "meaning"])


def bullets(lines: list[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def listed(words: list[str]) -> str:
    """Return words as a list to read: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def describe_decision(stated: dict[str, Any]) -> str:
    """Return what the figure of the decision shows, in words."""
    if stated["task"] == "regression":
        costs, ratio = stated["costs"], decisions.critical_ratio(stated["costs"])
        return (
            f"A unit too low costs {costs['under']:g}, a unit too high {costs['over']:g}; so it pays to act on the "
            f"{ratio:.0%} quantile of what may come, not on the mean. An interval is what the decision needs, beside a "
            "prediction."
        )
    if stated["task"] == "multiclass":
        matrix = decisions.payoff_matrix(stated)
        spread = float(matrix.max().max() - matrix.min().min())
        return (
            f"Each class has its best action; the best and the worst of all pairs differ by {spread:g}. The decision "
            "weighs the probabilities of all classes, so each has to be a well-calibrated one."
        )
    low, high = decisions.at_probability(np.array([0.0, 1.0]), stated)
    if stated["break_even"] is None:
        return f"One action, {low}, has the highest expected payoff at every probability."
    return (
        f"Below a probability of {stated['break_even']:.2g} the best action is {low}; above it, {high}. "
        "A probability is all that the decision needs, so it has to be a well-calibrated one."
    )


def plot_decision(stated: dict[str, Any]) -> Figure:
    """Draw what decides: payoffs over the probability, payoffs by class, or the cost of an error in the quantity."""
    draw = {"binary": _plot_probability, "multiclass": _plot_classes, "regression": _plot_costs}
    return draw[stated["task"]](stated)


def checks(stated: dict[str, Any]) -> list[gate.Check]:
    """Return the gate: a complete statement whose payoffs leave something to decide."""
    written = [
        gate.at_least("risks written down", len(stated["risks"]), 1),
        gate.at_least("payoff gain asked for", stated["success"]["min_payoff_gain"], 0),
    ]
    if not decisions.is_class(stated):
        ratio = decisions.critical_ratio(stated["costs"])
        return [*written, gate.holds("quantile to act on", 0.01 <= ratio <= 0.99, ratio, "between 0.01 and 0.99")]
    idle = [action for action in stated["actions"] if action not in _best_somewhere(stated)]
    found = [
        *written,
        gate.at_least("actions to choose from", len(stated["actions"]), 2),
        gate.holds("each action is best somewhere", not idle, ", ".join(idle) or "all", "no action that never pays"),
    ]
    if stated["task"] == "binary":
        point = stated["break_even"]
        found.append(gate.holds("break-even probability", point is not None, point, "between 0 and 1"))
    return found


def metrics(stated: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    point = stated["break_even"] if decisions.is_class(stated) else decisions.critical_ratio(stated["costs"])
    return {"break_even": point, "actions": len(stated["actions"]), "risks": len(stated["risks"])}


def headline(stated: dict[str, Any]) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    ahead = {"decided": f"{stated['horizon']} ahead"} if stated["time"] else {}
    if not decisions.is_class(stated):
        return {"acts on": f"the {decisions.critical_ratio(stated['costs']):.0%} quantile", **ahead}
    if stated["task"] == "multiclass":
        return {"classes": str(len(stated["classes"])), "actions": str(len(stated["actions"])), **ahead}
    point = stated["break_even"]
    return {"break-even probability": "none" if point is None else f"{point:.2g}", **ahead}


def verdict(stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    ahead = f", {stated['horizon']} ahead" if stated["time"] else ""
    if not decisions.is_class(stated):
        return (
            f"Act on the {decisions.critical_ratio(stated['costs']):.0%} quantile of {stated['target']}: the project has "
            f"to say how high it may come for each {stated['unit']}{ahead}."
        )
    if stated["task"] == "multiclass":
        return (
            f"{len(stated['actions'])} actions for {len(stated['classes'])} classes: the project has to say how probable "
            f"each class is for each {stated['unit']}{ahead}."
        )
    low, high = decisions.at_probability(np.array([0.0, 1.0]), stated)
    if stated["break_even"] is None:
        return f"{low.capitalize()} is always best under these payoffs: there is nothing to decide."
    return (
        f"{low.capitalize()} while the probability that {decisions.one(stated)} {stated['positive']} is below "
        f"{stated['break_even']:.2g}, {high} above it: the project has to tell the two apart{ahead}."
    )


def sensitivity(stated: dict[str, Any], factor: float) -> str:
    """Return, as a sentence, how the decision moves when its first price changes by a factor."""
    if not decisions.is_class(stated):
        costs = {**stated["costs"], "under": factor * stated["costs"]["under"]}
        now, then = (f"{decisions.critical_ratio(each):.0%}" for each in (stated["costs"], costs))
        return f"If being too low cost {factor:g} times as much, the quantile to act on would move from **{now}** to **{then}**."
    first = stated["actions"][0]
    dearer = {**stated["payoffs"], first: {key: factor * value for key, value in stated["payoffs"][first].items()}}
    changed = {**stated, "payoffs": dearer}
    if stated["task"] == "binary":
        now, then = (
            "none" if point is None else f"{point:.2g}"
            for point in (stated["break_even"], decisions.break_even(changed))
        )
        return f"If what *{first}* pays were {factor:g} times as much, the break-even would move from **{now}** to **{then}**."
    uniform = pd.DataFrame(1 / len(stated["classes"]), index=[0], columns=decisions.forecast_columns(stated))
    now, then = (decisions.decide(uniform, each)["action"].iloc[0] for each in (stated, changed))
    return (
        f"When all classes are equally probable the best action is *{now}*; if what *{first}* pays were {factor:g} times "
        f"as much, it would be *{then}*."
    )


def save(stated: dict[str, Any]) -> None:
    """Write ``data/problem.json``."""
    io.write_json(stated, io.output("data/problem.json"))


def load() -> dict[str, Any]:
    """Read the statement that `save` wrote."""
    return io.read_json("data/problem.json")


def _named(matrix: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return a payoff matrix for reading: the column ``action``, then the outcomes in words."""
    if stated["task"] == "binary":
        matrix = matrix[list(OUTCOMES)].set_axis([stated["positive"], "does not"], axis=1)
    return matrix.rename_axis("action").reset_index()


def _best_somewhere(stated: dict[str, Any]) -> set[str]:
    """Return the actions that are best for some probabilities of the classes: corners, and draws between them."""
    count = len(stated["classes"])
    drawn = np.random.default_rng(0).dirichlet(np.full(count, 0.3), 5000)
    p = np.vstack([np.eye(count), drawn, np.linspace([0, 1], [1, 0], 1001)] if count == 2 else [np.eye(count), drawn])
    values = p @ decisions.payoff_matrix(stated).to_numpy().T
    return {stated["actions"][number] for number in values.argmax(axis=1)}


def _plot_probability(stated: dict[str, Any]) -> Figure:
    grid = pd.DataFrame({"probability": np.linspace(0, 1, 101)})
    values = decisions.expected_payoff(grid, stated)
    fig, axes = plots.canvas("From which probability on does which action pay?")
    for color, name in zip(plots.PALETTE, values, strict=False):
        axes.plot(grid["probability"], values[name], color=color, lw=2, label=plots.plain(name))
    if stated["break_even"] is not None:
        axes.axvline(stated["break_even"], color=plots.GREY, ls="--", lw=1)
        axes.annotate(f"break-even {stated['break_even']:.2g}", (stated["break_even"] + 0.01, values.min().min()))
    label = f"probability that the {stated['unit']} {stated['positive']}"
    axes.set(xlabel=plots.plain(label), ylabel=plots.plain(stated["payoff_unit"]))
    plots.as_share(axes, "x")
    axes.legend(title="action", frameon=False)
    return fig


def _plot_classes(stated: dict[str, Any]) -> Figure:
    matrix = decisions.payoff_matrix(stated)
    fig, axes = plots.canvas("What does each action pay, by class?", height=0.4 * len(matrix) + 1.4)
    shades = axes.imshow(matrix, cmap="Blues", aspect="auto")
    middle = (matrix.max().max() + matrix.min().min()) / 2
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        axes.text(column, row, f"{value:g}", ha="center", va="center", color="white" if value > middle else "#333333")
    axes.set_xticks(range(matrix.shape[1]), [plots.plain(name) for name in matrix.columns])
    axes.set_yticks(range(len(matrix)), [plots.plain(name) for name in matrix.index])
    axes.set(xlabel="class that it turns out to be", ylabel="action")
    axes.grid(visible=False)
    fig.colorbar(shades, ax=axes, label=plots.plain(stated["payoff_unit"]))
    return fig


def _plot_costs(stated: dict[str, Any]) -> Figure:
    grid = np.linspace(-1, 1, 201)
    fig, axes = plots.canvas("What does it cost to be wrong?")
    axes.plot(grid, -decisions.cost(grid, stated["costs"]), color=plots.BLUE, lw=2)
    axes.axvline(0, color=plots.GREY, ls="--", lw=1)
    axes.set(xlabel="units by which the quantity acted on is too low (left) or too high (right)")
    axes.set_ylabel(plots.plain(f"pays ({stated['payoff_unit']})"))
    return fig
