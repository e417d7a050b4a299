"""What a forecast is, and what to do with it: outcomes, actions and what they pay, for the three tasks.

A forecast is a table with a row per case. Binary: ``probability`` of the event. Multiclass: ``probability_<class>``, in the
order of the classes. Regression: ``prediction``, an interval ``low`` to ``high``, the ``quantile`` to act on, its ``loss``.
"""

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import labels
from ninefold.problem.statement import Problem

number = labels.number
FORESIGHT = "perfect foresight"
QUANTITY = ["prediction", "low", "high", "quantile", "loss"]


def outcome(column: ir.Value, problem: Problem) -> ir.Value:
    """Return the target as it is learned, null where not known: int64, the position of its class, or a float64 quantity."""
    if not problem.is_class:
        number = column.cast("float64")
        return ibis.cases((~(number.isnan() | number.isinf()), number))
    text, names = column.cast("string"), problem.classes
    if column.type().is_floating():  # 1.0 is the class 1
        text, names = text.re_replace(r"\.0$", ""), [name.removesuffix(".0") for name in names]
    positions = [(text == name, ibis.literal(number, "int64")) for number, name in enumerate(names)]
    return ibis.cases(*positions, else_=ibis.null("int64"))


def forecast_columns(problem: Problem) -> list[str]:
    """Return the columns of a forecast."""
    if problem.task == "multiclass":
        return [f"probability_{name}" for name in problem.classes]
    return ["probability"] if problem.task == "binary" else list(QUANTITY)


def forecast(values: np.ndarray, problem: Problem) -> pd.DataFrame:
    """Return a forecast from probabilities, shape (n, classes), or from n quantities, which have no interval yet."""
    names = forecast_columns(problem)
    if problem.is_class:
        return pd.DataFrame(values[:, -len(names) :], columns=names)
    return pd.DataFrame({name: 0.0 if name == "loss" else np.ravel(values) for name in names})


def probabilities(predicted: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the probability of every class, in their order: float64, shape (n, classes)."""
    if problem.task == "multiclass":
        return predicted[forecast_columns(problem)].to_numpy("float64")
    event = predicted["probability"].to_numpy("float64")
    return np.column_stack([1 - event, event])


def event(target: np.ndarray, problem: Problem) -> np.ndarray:
    """Return what descriptions look at: the event (1 or 0), the class in focus (1 or 0), or the quantity; float64."""
    target = np.asarray(target)
    return (target == problem.focus_index).astype("float64") if problem.is_class else target.astype("float64")


def expected(predicted: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the forecast of `event`: its probability, or the predicted quantity; float64, shape (n,)."""
    if problem.is_class:
        return probabilities(predicted, problem)[:, problem.focus_index]
    return predicted["prediction"].to_numpy()


def level_name(problem: Problem) -> str:
    """Return what the mean of `event` is called, such as ``event rate`` or ``mean price``."""
    if problem.task == "multiclass":
        return f'share of "{problem.class_labels.get(problem.focus, problem.focus)}"'
    return "event rate" if problem.task == "binary" else f"mean {labels.of(problem.target)}"


def show_level(value: float, problem: Problem) -> str:
    """Return a mean of `event` as text: a share in per cent, or a quantity to three digits."""
    return f"{value:.1%}" if problem.is_class else number(value)


def one(problem: Problem) -> str:
    """Return what one row is, with its article: ``a parcel``, ``an order``."""
    return f"a{'n' if problem.unit[:1].lower() in 'aeiou' else ''} {problem.unit}"


def expected_payoff(predicted: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return the expected payoff of every action, a column each; classes only."""
    matrix = problem.payoff_matrix
    return pd.DataFrame(probabilities(predicted, problem) @ matrix.to_numpy().T, columns=matrix.index)


def decide(predicted: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """Return, per row, the ``action`` of the highest expected payoff (the first where they tie), and ``expected_payoff``.

    Regression: the action is the quantile ``under / (under + over)`` of what may come, of least expected cost (the
    newsvendor's problem; Arrow, Harris and Marschak, Optimal Inventory Policy, 1951).
    """
    actions, payoffs = choose(predicted[forecast_columns(problem)].to_numpy("float64"), problem)
    return pd.DataFrame({"action": actions, "expected_payoff": payoffs}, index=predicted.index)


def choose(values: np.ndarray, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the actions and expected payoffs of `decide` for the values of a forecast, shape (n, columns)."""
    if not problem.is_class:
        return values[:, QUANTITY.index("quantile")], -values[:, QUANTITY.index("loss")]
    p = np.column_stack([1 - values, values]) if problem.task == "binary" else values
    expected = p @ problem.payoff_matrix.to_numpy().T
    return np.array(problem.actions, dtype=object)[expected.argmax(axis=1)], expected.max(axis=1)


def payoff(actions: np.ndarray | pd.Series, target: np.ndarray, problem: Problem) -> np.ndarray:
    """Return what each row pays, given the action taken and the outcome: float64, shape (n,)."""
    if not problem.is_class:
        excess = np.asarray(actions, dtype="float64") - np.asarray(target, dtype="float64")
        return -np.where(excess > 0, problem.costs.over * excess, -problem.costs.under * excess)
    matrix = problem.payoff_matrix
    row = matrix.index.get_indexer(pd.Index(actions))
    return matrix.to_numpy()[row, np.asarray(target).astype("int64")]


def policies(target: np.ndarray, problem: Problem) -> dict[str, Any]:
    """Return the baseline policies, name to action: always the same, of quantities the one best on `target`."""
    if problem.is_class:
        return {f"always {action}": action for action in problem.actions}
    best = float(np.quantile(np.asarray(target, dtype="float64"), problem.ratio))
    return {f"always {number(best)}": best}


def policy_payoffs(target: np.ndarray, problem: Problem, policies: dict[str, Any]) -> pd.DataFrame:
    """Return, per row, what each baseline policy pays, and last what perfect foresight would: a column each."""
    rows = len(target)
    paid = {name: payoff(np.repeat(np.array([action]), rows), target, problem) for name, action in policies.items()}
    best = problem.payoff_matrix.max().to_numpy()[np.asarray(target).astype("int64")] if problem.is_class else 0.0
    return pd.DataFrame({**paid, FORESIGHT: best})
