"""What a forecast is and what follows from it: targets as they are learned, actions, and what they pay."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, TASKS, statement

from ninefold import engine
from ninefold.problem import decisions


def chances(p: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(p, columns=decisions.forecast_columns(statement("multiclass")))


@pytest.mark.parametrize(("task", "changes", "values", "expected"), [
    ("binary", {}, [0, 1, None], [0, 1, None]),
    ("binary", {}, [0.0, 1.0, 7.0], [0, 1, None]),  # a float holds a class, or one that is not stated
    ("binary", {"classes": ["no", "yes"]}, ["no", "yes", None], [0, 1, None]),
    ("binary", {"classes": ["0.0", "1.5"]}, [0.0, 1.5, None], [0, 1, None]),
    ("binary", {"classes": ["false", "true"]}, [True, False, None], [1, 0, None]),
    ("multiclass", {}, [*CLASSES[::-1], "huge", "Small", None], [2, 1, 0, None, None, None]),
    ("regression", {}, [3, None, -1], [3.0, None, -1.0]),
    ("regression", {}, [float("inf"), 2.5], [None, 2.5]),
])  # fmt: skip
def test_the_target_is_encoded(task: Any, changes: Any, values: Any, expected: Any) -> None:
    table = engine.connect().create_table("t", pd.DataFrame({"place": range(len(values)), "y": values}))
    outcome = decisions.outcome(table["y"], statement(task, **changes))
    found = table.select("place", y=outcome).order_by("place").to_pyarrow()["y"]
    assert str(found.type) == ("double" if task == "regression" else "int64")
    assert found.to_pylist() == expected


@pytest.mark.parametrize(("lines", "point"), [
    ({"act": (-1, -1), "wait": (-4, 0)}, 0.25),
    ({"act": (-2, -2), "wait": (-4, 0)}, 0.5),
    ({"act": (-9, -9), "wait": (-4, 0)}, None),  # one action is always best
    ({"a": (-1, -1), "b": (-4, 0), "c": (-12, -2), "d": (-3, -3)}, 0.25),  # other lines cross below the best one
])  # fmt: skip
def test_the_break_even_is_where_the_best_action_changes(lines: Any, point: Any) -> None:
    payoffs = {name: {"positive": positive, "negative": negative} for name, (positive, negative) in lines.items()}
    assert statement(payoffs=payoffs).break_even == (pytest.approx(point) if point else None)


def test_there_is_a_policy_for_each_action_and_foresight_takes_the_best_for_each_outcome() -> None:
    problem, known = statement("multiclass"), np.array([0, 1, 2])
    paid = decisions.policy_payoffs(known, problem, decisions.policies(known, problem))
    always = {"always stock": [1, -1, -2], "always order": [-1, 1, 0], "always wait": [-2, 0, 1]}
    assert paid.to_dict("list") == {**always, decisions.FORESIGHT: [1, 1, 1]}


def test_each_class_moves_the_decision_by_its_probability() -> None:
    turned = {action: dict(reversed(paid.items())) for action, paid in TASKS["multiclass"]["payoffs"].items()}
    for problem in (statement("multiclass"), statement("multiclass", payoffs=turned)):  # read by name, in any order
        decided = decisions.decide(chances([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]]), problem)
        assert decided["action"].tolist() == ["stock", "order", "wait"]
        assert decided["expected_payoff"].tolist() == pytest.approx([0.8 - 0.1 - 0.2, -0.1 + 0.8, 0.9])
    predicted = pd.DataFrame({"prediction": [5.0], "low": [1.0], "high": [9.0], "quantile": [6.0], "loss": [2.0]})
    decided = decisions.decide(predicted, statement("regression"))
    assert decided.to_dict("records") == [{"action": 6.0, "expected_payoff": -2.0}]


def test_each_row_pays_by_its_action_and_its_outcome() -> None:
    for task, actions, outcomes, paid in (
        ("binary", ["act", "act", "wait", "wait"], [1, 0, 1, 0], [-1, -1, -4, 0]),
        ("multiclass", ["stock", "stock", "wait"], [0, 2, 1], [1, -2, 0]),
        ("regression", [12.0, 8.0, 10.0], [10.0] * 3, [-2, -6, 0]),
    ):
        assert decisions.payoff(np.array(actions), np.array(outcomes), statement(task)).tolist() == paid


def test_the_quantile_of_the_critical_ratio_costs_least() -> None:
    problem, demand = statement("regression"), np.random.default_rng(1).gamma(3, 20, 20_000)
    assert problem.ratio == 0.75
    pays = lambda quantity: decisions.payoff(np.full(len(demand), quantity), demand, problem).mean()  # noqa: E731
    best = max(np.quantile(demand, np.linspace(0.05, 0.95, 91)), key=pays)
    (policy,) = decisions.policies(demand, problem).values()
    assert policy == pytest.approx(best, rel=0.02)
    assert pays(policy) >= pays(best) > pays(demand.mean())


def test_the_event_is_the_class_in_focus_and_its_forecast_that_class_probability() -> None:
    events = {"multiclass": ([0, 1, 2], [0, 1, 0]), "binary": ([0, 1], [0, 1]), "regression": ([2], [2])}
    for task, (known, expected) in events.items():
        assert decisions.event(np.array(known), statement(task)).tolist() == expected
    assert decisions.expected(chances([[0.2, 0.3, 0.5]]), statement("multiclass")).tolist() == [0.3]
    assert decisions.expected(pd.DataFrame({"probability": [0.4]}), statement()).tolist() == [0.4]
