"""What decision, for whom, with what costs, against which baseline policy?

Reads: ``params.yaml``, section ``problem``.
Writes: ``data/problem.json``, the statement that every later stage reads.
Gate: the payoffs leave something to decide.
"""

from typing import Any

import numpy as np
from scipy import optimize

from ninefold import gate, labels
from ninefold.problem import decisions
from ninefold.problem.statement import Problem
from ninefold.sentences import render


def sentence(problem: Problem) -> str:
    """Return the decision as one sentence, in Markdown."""
    actions = [f"*{each}*" for each in problem.actions]
    return render("problem", "sentence", problem=problem, listed=listed, actions=actions)


def bullets(lines: list[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def listed(words: list[str], most: int = 1000) -> str:
    """Return words as a list to read: ``a, b and c``; of too many ``a, b and 7 more``."""
    words = words if len(words) <= most else [*words[:most], f"{len(words) - most} more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def checks(problem: Problem) -> list[gate.Check]:
    """Return the gate: the payoffs leave something to decide."""
    if not problem.is_class:
        ratio = problem.ratio
        return [gate.holds("NF103 quantile to act on", 0.01 <= ratio <= 0.99, ratio, "between 0.01 and 0.99")]
    idle = ", ".join(action for action in problem.actions if action not in _best_somewhere(problem))
    result = [gate.holds("NF101 each action is best somewhere", not idle, idle or "all", "no action that never pays")]
    if problem.task == "binary":
        point = problem.break_even
        result.append(gate.holds("NF102 break-even probability", point is not None, point, "between 0 and 1"))
    return result


def metrics(problem: Problem) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    point = problem.break_even if problem.is_class else problem.ratio
    return {"break_even": point, "actions": len(problem.actions), "risks": len(problem.risks)}


def headline(problem: Problem) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    figures = {
        "binary": {"break-even probability": _turning_point(problem)},
        "multiclass": {"classes": str(len(problem.classes or [])), "actions": str(len(problem.actions))},
        "regression": {"acts on": f"the {_turning_point(problem)} quantile"},
    }
    return figures[problem.task] | ({"decided": f"{labels.duration(problem.horizon)} ahead"} if problem.time else {})


def conclusion(problem: Problem) -> str:
    """Return the bottom line."""
    return render("problem", "conclusion", problem=problem, point=_turning_point(problem), one=decisions.one(problem))


def sensitivity(problem: Problem, factor: float) -> str:
    """Return, as a sentence, how the decision moves when its first price (of a quantity: of a unit too low) changes."""
    price = problem.actions[0] if problem.is_class else "under"
    now, then = _turning_point(problem), _turning_point(problem.at_price(price, factor))
    return render("problem", "sensitivity", problem=problem, price=price, factor=factor, now=now, then=then)


def _turning_point(problem: Problem) -> str:
    if problem.task == "regression":
        return f"{problem.ratio:.0%}"
    if problem.task == "binary":
        return "none" if problem.break_even is None else f"{problem.break_even:.2g}"
    return str(problem.payoff_matrix.mean(axis=1).idxmax())


def _best_somewhere(problem: Problem) -> set[str]:
    """Return the actions, of equal ones the first, that lead for some probabilities (>= 0, sum 1), by linear programs."""
    payoffs = problem.payoff_matrix.drop_duplicates()
    values = payoffs.to_numpy() / max(payoffs.abs().to_numpy().max(), 1e-300)
    count, best = values.shape[1], set[str]()
    for number, action in enumerate(payoffs.index):
        others = np.delete(values, number, axis=0) - values[number]  # p @ others <= -lead
        below = {"A_ub": np.column_stack([others, np.ones(len(others))]), "b_ub": np.zeros(len(others))}
        sums, bounds = {"A_eq": [[*[1.0] * count, 0.0]], "b_eq": [1.0]}, [*[(0, 1)] * count, (None, None)]
        least = optimize.linprog([*[0.0] * count, -1.0], **below, **sums, bounds=bounds)
        if (others @ least.x[:count].clip(0, 1)).max() < -1e-12:
            best.add(str(action))
    return best
