"""What decision, for whom, with what costs, against which baseline policy?

Reads: ``params.yaml``, section ``problem``.
Writes: ``data/problem.json``, the statement that every later stage reads.
Gate: the payoffs leave something to decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ninefold import display, gate, plotting
from ninefold.problem import decisions
from ninefold.problem.metric_names import MEANING, title
from ninefold.problem.statement import OUTCOMES, Costs, Problem


def baseline_policies(problem: Problem) -> pd.DataFrame:
    """Return the policies that need no model: ``policy``, and what it pays by outcome."""
    if not problem.is_class:
        ratio = problem.ratio
        rows = [("always the same quantity", f"the {ratio:.0%} quantile of the training outcomes: the best single one")]
        return pd.DataFrame(rows, columns=["policy", "which"])
    table = _named(problem.payoff_matrix, problem)
    return table.assign(action="always " + table["action"]).rename(columns={"action": "policy"})


def sentence(problem: Problem) -> str:
    """Return the decision as one sentence, in Markdown."""
    when = f", {problem.horizon} before {display.code(problem.time)}" if problem.time else ""
    if not problem.is_class:
        return (
            f"**{problem.question}** For every {problem.unit}, {problem.owner} chooses a quantity{when}: "
            f"{problem.action_meaning}. What it should have been is known later, as {display.code(problem.target)}."
        )
    event = f"{display.code(problem.target)} is *{problem.focus}*"
    return (
        f"**{problem.question}** For every {problem.unit}, {problem.owner} chooses between "
        f"{listed([f'*{action}*' for action in problem.actions])}{when}. To act means to {problem.action_meaning}. "
        f"The event to predict is that the {problem.unit} {problem.positive} ({event})."
    )


def uses(problem: Problem) -> pd.DataFrame:
    """Return the three kinds of analytics, the question of each, and the stages that answer it."""
    stages = {"descriptive": "03, 05", "predictive": "06, 07, 08", "prescriptive": "04, 07, 09"}
    rows = [(kind, question, stages[kind]) for kind, question in problem.uses]
    return pd.DataFrame(rows, columns=["kind", "question", "stages"])


def payoff_table(problem: Problem) -> pd.DataFrame:
    """Return what decisions pay, for reading: a line per action and a column per outcome, or the costs of a quantity."""
    if problem.is_class:
        return _named(problem.payoff_matrix, problem)
    costs = problem.costs
    rows = [("one unit too high", -costs.over), ("one unit too low", -costs.under), ("exactly right", 0.0)]
    return pd.DataFrame(rows, columns=["the quantity acted on is", "pays"])


def success_criteria(problem: Problem) -> pd.DataFrame:
    """Return what the project is held to on the holdout: ``criterion``, ``at least`` (or most), ``meaning``."""
    success, meaning = problem.success, MEANING[problem.task]
    rows = [
        (title(name), f"{'<=' if meaning[name][0] == 'lower' else '>='} {limit:g}", meaning[name][1])
        for name, limit in success.scores.items()
    ]
    rows += [
        ("payoff gain", f">= {success.min_payoff_gain:g}", f"per {problem.unit}, above the best policy without a model"),
        ("confidence", f">= {success.confidence:g}", "that the gain is above zero, for rows like those of the holdout"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["criterion", "limit", "meaning"])


def bullets(lines: list[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def listed(words: list[str]) -> str:
    """Return words as a list to read: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def describe_decision(problem: Problem) -> str:
    """Return what the figure of the decision shows, in words."""
    if problem.task == "regression":
        costs, ratio = problem.costs, problem.ratio
        return (
            f"A unit too low costs {costs.under:g}, a unit too high {costs.over:g}; so it pays to act on the "
            f"{ratio:.0%} quantile of what may come, not on the mean. An interval is what the decision needs, beside a "
            "prediction."
        )
    if problem.task == "multiclass":
        matrix = problem.payoff_matrix
        spread = float(matrix.max().max() - matrix.min().min())
        return (
            f"Each class has its best action; the best and the worst of all pairs differ by {spread:g}. The decision "
            "weighs the probabilities of all classes, so each has to be a well-calibrated one."
        )
    low, high = problem.best_action(np.array([0.0, 1.0]))
    if problem.break_even is None:
        return f"One action, {low}, has the highest expected payoff at every probability."
    return (
        f"Below a probability of {problem.break_even:.2g} the best action is {low}; above it, {high}. "
        "A probability is all that the decision needs, so it has to be a well-calibrated one."
    )


def plot_decision(problem: Problem) -> Figure:
    """Draw what decides: payoffs over the probability, payoffs by class, or the cost of an error in the quantity."""
    draw = {"binary": _plot_probability, "multiclass": _plot_classes, "regression": _plot_costs}
    return draw[problem.task](problem)


def checks(problem: Problem) -> list[gate.Check]:
    """Return the gate: the payoffs leave something to decide."""
    if not problem.is_class:
        ratio = problem.ratio
        return [gate.holds("quantile to act on", 0.01 <= ratio <= 0.99, ratio, "between 0.01 and 0.99")]
    idle = [action for action in problem.actions if action not in _best_somewhere(problem)]
    checks = [
        gate.holds("each action is best somewhere", not idle, ", ".join(idle) or "all", "no action that never pays")
    ]
    if problem.task == "binary":
        point = problem.break_even
        checks.append(gate.holds("break-even probability", point is not None, point, "between 0 and 1"))
    return checks


def metrics(problem: Problem) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    point = problem.break_even if problem.is_class else problem.ratio
    return {"break_even": point, "actions": len(problem.actions), "risks": len(problem.risks)}


def headline(problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    ahead = {"decided": f"{problem.horizon} ahead"} if problem.time else {}
    if not problem.is_class:
        return {"acts on": f"the {problem.ratio:.0%} quantile", **ahead}
    if problem.task == "multiclass":
        return {"classes": str(len(problem.classes)), "actions": str(len(problem.actions)), **ahead}
    point = problem.break_even
    return {"break-even probability": "none" if point is None else f"{point:.2g}", **ahead}


def conclusion(problem: Problem) -> str:
    """Return the bottom line."""
    ahead = f", {problem.horizon} ahead" if problem.time else ""
    if not problem.is_class:
        return (
            f"Act on the {problem.ratio:.0%} quantile of {problem.target}: the project has "
            f"to say how high it may come for each {problem.unit}{ahead}."
        )
    if problem.task == "multiclass":
        return (
            f"{len(problem.actions)} actions for {len(problem.classes)} classes: the project has to say how probable "
            f"each class is for each {problem.unit}{ahead}."
        )
    low, high = problem.best_action(np.array([0.0, 1.0]))
    if problem.break_even is None:
        return f"{low.capitalize()} is always best under these payoffs: there is nothing to decide."
    return (
        f"{low.capitalize()} while the probability that {decisions.one(problem)} {problem.positive} is below "
        f"{problem.break_even:.2g}, {high} above it: the project has to tell the two apart{ahead}."
    )


def sensitivity(problem: Problem, factor: float) -> str:
    """Return, as a sentence, how the decision moves when its first price changes by a factor."""
    if not problem.is_class:
        costs = Costs(over=problem.costs.over, under=factor * problem.costs.under)
        now, then = (f"{each.critical_ratio:.0%}" for each in (problem.costs, costs))
        return f"If being too low cost {factor:g} times as much, the quantile to act on would move from **{now}** to **{then}**."
    first = problem.actions[0]
    dearer = {**problem.payoffs, first: {key: factor * value for key, value in problem.payoffs[first].items()}}
    changed = problem.changed(payoffs=dearer)
    if problem.task == "binary":
        now, then = ("none" if point is None else f"{point:.2g}" for point in (problem.break_even, changed.break_even))
        return f"If what *{first}* pays were {factor:g} times as much, the break-even would move from **{now}** to **{then}**."
    uniform = pd.DataFrame(1 / len(problem.classes), index=[0], columns=decisions.forecast_columns(problem))
    now, then = (decisions.decide(uniform, each)["action"].iloc[0] for each in (problem, changed))
    return (
        f"When all classes are equally probable the best action is *{now}*; if what *{first}* pays were {factor:g} times "
        f"as much, it would be *{then}*."
    )


def _named(matrix: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return a payoff matrix for reading: the column ``action``, then the outcomes in words."""
    if problem.task == "binary":
        matrix = matrix[list(OUTCOMES)].set_axis([problem.positive, "does not"], axis=1)
    return matrix.rename_axis("action").reset_index()


def _best_somewhere(problem: Problem) -> set[str]:
    """Return the actions that are best for some probabilities of the classes: corners, and draws between them."""
    count = len(problem.classes)
    drawn = np.random.default_rng(0).dirichlet(np.full(count, 0.3), 5000)
    p = np.vstack([np.eye(count), drawn, np.linspace([0, 1], [1, 0], 1001)] if count == 2 else [np.eye(count), drawn])
    values = p @ problem.payoff_matrix.to_numpy().T
    return {problem.actions[number] for number in values.argmax(axis=1)}


def _plot_probability(problem: Problem) -> Figure:
    grid = pd.DataFrame({"probability": np.linspace(0, 1, 101)})
    values = decisions.expected_payoff(grid, problem)
    fig, axes = plotting.canvas("From which probability on does which action pay?")
    for color, name in zip(plotting.PALETTE, values, strict=False):
        axes.plot(grid["probability"], values[name], color=color, lw=2, label=plotting.plain(name))
    if problem.break_even is not None:
        axes.axvline(problem.break_even, color=plotting.GREY, ls="--", lw=1)
        axes.annotate(f"break-even {problem.break_even:.2g}", (problem.break_even + 0.01, values.min().min()))
    label = f"probability that the {problem.unit} {problem.positive}"
    axes.set(xlabel=plotting.plain(label), ylabel=plotting.plain(problem.payoff_unit))
    plotting.as_share(axes, "x")
    axes.legend(title="action", frameon=False)
    return fig


def _plot_classes(problem: Problem) -> Figure:
    matrix = problem.payoff_matrix
    fig, axes = plotting.canvas("What does each action pay, by class?", height=0.4 * len(matrix) + 1.4)
    shades = axes.imshow(matrix, cmap="Blues", aspect="auto")
    middle = (matrix.max().max() + matrix.min().min()) / 2
    for (row, column), value in np.ndenumerate(matrix.to_numpy()):
        axes.text(column, row, f"{value:g}", ha="center", va="center", color="white" if value > middle else "#333333")
    axes.set_xticks(range(matrix.shape[1]), [plotting.plain(name) for name in matrix.columns])
    axes.set_yticks(range(len(matrix)), [plotting.plain(name) for name in matrix.index])
    axes.set(xlabel="class that it turns out to be", ylabel="action")
    axes.grid(visible=False)
    fig.colorbar(shades, ax=axes, label=plotting.plain(problem.payoff_unit))
    return fig


def _plot_costs(problem: Problem) -> Figure:
    grid = np.linspace(-1, 1, 201)
    fig, axes = plotting.canvas("What does it cost to be wrong?")
    axes.plot(grid, -decisions.cost(grid, problem.costs), color=plotting.BLUE, lw=2)
    axes.axvline(0, color=plotting.GREY, ls="--", lw=1)
    axes.set(xlabel="units by which the quantity acted on is too low (left) or too high (right)")
    axes.set_ylabel(plotting.plain(f"pays ({problem.payoff_unit})"))
    return fig
