"""What a forecast is, and what to do with it: outcomes, actions and what they pay, for the three tasks.

A forecast is a table with a row per case. Binary: ``probability`` of the event. Multiclass: ``probability_<class>``, in the
order of the classes. Regression: ``prediction``, an interval ``low`` to ``high``, the ``quantile`` to act on, its ``loss``.
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

FORESIGHT = "perfect foresight"
QUANTITY = ["prediction", "low", "high", "quantile", "loss"]


def is_class(stated: dict[str, Any]) -> bool:
    """Return whether the target is a class (binary or multiclass), not a quantity."""
    return stated["task"] != "regression"


def outcome(column: ir.Value, stated: dict[str, Any]) -> ir.Value:
    """Return the target as it is learned, null where it is not known.

    Classes: int64, the position in ``stated["classes"]`` of the value as text, so that of two the event is 1.
    Regression: float64.
    """
    if not is_class(stated):
        number = column.cast("float64")
        return ibis.cases((~(number.isnan() | number.isinf()), number))
    text, names = column.cast("string"), stated["classes"]
    if column.type().is_floating():  # 1.0 is the class 1
        text, names = text.re_replace(r"\.0$", ""), [name.removesuffix(".0") for name in names]
    positions = [(text == name, ibis.literal(number, "int64")) for number, name in enumerate(names)]
    return ibis.cases(*positions, else_=ibis.null("int64"))


def forecast_columns(stated: dict[str, Any]) -> list[str]:
    """Return the columns of a forecast."""
    if stated["task"] == "multiclass":
        return [f"probability_{name}" for name in stated["classes"]]
    return ["probability"] if stated["task"] == "binary" else list(QUANTITY)


def probabilities(predicted: pd.DataFrame, stated: dict[str, Any]) -> np.ndarray:
    """Return the probability of every class, in their order: float64, shape (n, classes)."""
    if stated["task"] == "multiclass":
        return predicted[forecast_columns(stated)].to_numpy("float64")
    event = predicted["probability"].to_numpy("float64")
    return np.column_stack([1 - event, event])


def event(target: np.ndarray, stated: dict[str, Any]) -> np.ndarray:
    """Return what descriptions look at: the event (1 or 0), the class in focus (1 or 0), or the quantity; float64."""
    target = np.asarray(target)
    return (target == _focus(stated)).astype("float64") if is_class(stated) else target.astype("float64")


def expected(predicted: pd.DataFrame, stated: dict[str, Any]) -> np.ndarray:
    """Return the forecast of `event`: its probability, or the predicted quantity; float64, shape (n,)."""
    return (
        probabilities(predicted, stated)[:, _focus(stated)] if is_class(stated) else predicted["prediction"].to_numpy()
    )


def level_name(stated: dict[str, Any]) -> str:
    """Return what the mean of `event` is called, such as ``share of events`` or ``mean price``."""
    if stated["task"] == "multiclass":
        return f'share of "{stated["focus"]}"'
    return "share of events" if stated["task"] == "binary" else f"mean {stated['target']}"


def show_level(value: float, stated: dict[str, Any]) -> str:
    """Return a mean of `event` as text: a share in per cent, or a quantity to four digits."""
    return f"{value:.1%}" if is_class(stated) else number(value)


def number(value: float, sign: str = "") -> str:
    """Return a quantity as text, to four digits, or whole from 1000 on; with ``sign="+"`` its sign is always shown."""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.4g}"


def one(stated: dict[str, Any]) -> str:
    """Return what one row is, with its article: ``a parcel``, ``an order``."""
    return f"a{'n' if stated['unit'][:1].lower() in 'aeiou' else ''} {stated['unit']}"


def payoff_matrix(stated: dict[str, Any]) -> pd.DataFrame:
    """Return what each action pays by class: a row per action, a column per class (float64), in their orders."""
    names = ["negative", "positive"] if stated["task"] == "binary" else stated["classes"]
    return pd.DataFrame.from_dict(stated["payoffs"], orient="index", columns=names).astype("float64")


def expected_payoff(predicted: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the expected payoff of every action, a column each; classes only."""
    matrix = payoff_matrix(stated)
    return pd.DataFrame(probabilities(predicted, stated) @ matrix.to_numpy().T, columns=matrix.index)


def decide(predicted: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, per row, the ``action`` of the highest expected payoff (the first where they tie), and ``expected_payoff``.

    Regression: the action is the quantity to act on, the quantile ``under / (under + over)`` of what may come, which
    has the least expected cost (the newsvendor's problem; Arrow, Harris and Marschak, Optimal Inventory Policy, 1951).
    """
    if not is_class(stated):
        return pd.DataFrame({"action": predicted["quantile"], "expected_payoff": -predicted["loss"]})
    values = expected_payoff(predicted, stated)
    best = values.to_numpy().argmax(axis=1)
    names = values.columns.to_numpy(dtype=object)[best]
    return pd.DataFrame({"action": names, "expected_payoff": values.to_numpy().max(axis=1)}, index=predicted.index)


def payoff(actions: np.ndarray | pd.Series, target: np.ndarray, stated: dict[str, Any]) -> np.ndarray:
    """Return what each row pays, given the action taken and the outcome: float64, shape (n,)."""
    if not is_class(stated):
        return -cost(np.asarray(actions, dtype="float64") - np.asarray(target, dtype="float64"), stated["costs"])
    matrix = payoff_matrix(stated)
    row = matrix.index.get_indexer(pd.Index(actions))
    return matrix.to_numpy()[row, np.asarray(target).astype("int64")]


def cost(excess: np.ndarray, costs: dict[str, float]) -> np.ndarray:
    """Return what it costs to act on a quantity that is too high by `excess` (too low where negative)."""
    return np.where(excess > 0, costs["over"] * excess, -costs["under"] * excess)


def critical_ratio(costs: dict[str, float]) -> float:
    """Return the quantile that has the least expected cost: ``under / (under + over)``, 0-1."""
    return costs["under"] / (costs["under"] + costs["over"])


def policies(target: np.ndarray, stated: dict[str, Any]) -> dict[str, Any]:
    """Return the policies that need no model, name to action: always the same one.

    Of quantities there are too many to try; the one that was best on `target`, the training rows, stands for all.
    """
    if is_class(stated):
        return {f"always {action}": action for action in stated["actions"]}
    best = float(np.quantile(np.asarray(target, dtype="float64"), critical_ratio(stated["costs"])))
    return {f"always {number(best)}": best}


def policy_payoffs(target: np.ndarray, stated: dict[str, Any], agreed: dict[str, Any]) -> pd.DataFrame:
    """Return, per row, what each policy without a model pays, and last what perfect foresight would: a column each."""
    rows = len(target)
    paid = {
        name: payoff(np.repeat(np.array([action]), rows), target, stated) for name, action in agreed["policies"].items()
    }
    return pd.DataFrame({**paid, FORESIGHT: foresight(target, stated)})


def foresight(target: np.ndarray, stated: dict[str, Any]) -> np.ndarray:
    """Return what the best action for each outcome pays: float64, shape (n,)."""
    if not is_class(stated):
        return np.zeros(len(target))
    return payoff_matrix(stated).to_numpy().max(axis=0)[np.asarray(target).astype("int64")]


def break_even(stated: dict[str, Any]) -> float | None:
    """Return the lowest probability at which the best action changes, or None; binary only.

    Two actions with payoff lines ``n + p (y - n)`` are equal at ``p = (n2 - n1) / ((y1 - n1) - (y2 - n2))``.
    """
    matrix = payoff_matrix(stated)
    slope, start = (matrix["positive"] - matrix["negative"]).to_numpy(), matrix["negative"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = ((start[:, None] - start) / (slope - slope[:, None])).ravel()
    crossings = np.sort(crossings[np.isfinite(crossings) & (crossings > 0) & (crossings < 1)])
    for point in crossings:
        below, above = at_probability(np.array([point - 1e-9, point + 1e-9]), stated)
        if below != above:
            return float(point)
    return None


def at_probability(probability: np.ndarray, stated: dict[str, Any]) -> np.ndarray:
    """Return the best action at each probability of the event; binary only."""
    return decide(pd.DataFrame({"probability": np.asarray(probability, dtype="float64")}), stated)["action"].to_numpy()


def _focus(stated: dict[str, Any]) -> int:
    return 1 if stated["task"] == "binary" else stated["classes"].index(stated["focus"])
