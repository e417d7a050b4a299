"""What a forecast is and what follows from it: targets as they are learned, actions, and what they pay."""

from __future__ import annotations

from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import CLASSES, TASKS, statement

from ninefold import engine
from ninefold.problem import decisions
from ninefold.problem.statement import Problem

PAYOFFS = {"act": {"positive": -1.0, "negative": -1.0}, "wait": {"positive": -4.0, "negative": 0.0}}


def encoded(values: list[Any], problem: Problem) -> list[Any]:
    table = engine.connect().create_table("t", pd.DataFrame({"place": range(len(values)), "y": values}))
    found = table.select("place", y=decisions.outcome(table["y"], problem)).order_by("place").to_pyarrow()
    assert str(found["y"].type) == ("double" if problem.task == "regression" else "int64")
    return found["y"].to_pylist()


def chances(p: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(p, columns=decisions.forecast_columns(statement("multiclass")))


def crossing(payoffs: dict[str, dict[str, float]]) -> float | None:
    return statement(payoffs=payoffs).break_even


def test_the_target_is_encoded_by_the_position_of_its_class() -> None:
    assert encoded([0, 1, None], statement()) == [0, 1, None]
    assert encoded(["no", "yes", None], statement(classes=["no", "yes"])) == [0, 1, None]
    assert encoded([True, False, None], statement(classes=["false", "true"])) == [1, 0, None]
    assert encoded([*CLASSES[::-1], None], statement("multiclass")) == [2, 1, 0, None]


def test_a_class_that_a_float_holds_is_the_same_class() -> None:
    assert encoded([0.0, 1.0, None], statement()) == [0, 1, None]
    assert encoded([0.0, 1.5], statement(classes=["0.0", "1.5"])) == [0, 1]


def test_a_class_that_is_not_stated_is_an_outcome_not_known() -> None:
    assert encoded(["small", "huge", "Small"], statement("multiclass")) == [0, None, None]
    assert encoded([0, 1, 7], statement()) == [0, 1, None]


def test_a_quantity_is_learned_as_it_is() -> None:
    assert encoded([3, None, -1], statement("regression")) == [3.0, None, -1.0]
    assert encoded([float("inf"), 2.5], statement("regression")) == [None, 2.5]


@pytest.mark.parametrize("task", TASKS)
def test_a_forecast_has_the_columns_of_its_task(task: str) -> None:
    expected = {
        "binary": ["probability"],
        "multiclass": [f"probability_{name}" for name in CLASSES],
        "regression": ["prediction", "low", "high", "quantile", "loss"],
    }
    assert decisions.forecast_columns(statement(task)) == expected[task]


def test_the_break_even_is_where_the_best_action_changes() -> None:
    assert crossing(PAYOFFS) == pytest.approx(0.25)


def test_a_dearer_action_moves_the_break_even_up() -> None:
    assert crossing({**PAYOFFS, "act": {"positive": -2.0, "negative": -2.0}}) == pytest.approx(0.5)


def test_there_is_no_break_even_where_one_action_is_always_best() -> None:
    assert crossing({**PAYOFFS, "act": {"positive": -9.0, "negative": -9.0}}) is None


def test_a_crossing_below_the_best_line_is_no_break_even() -> None:
    lines = {"a": (-1.0, -1.0), "b": (-4.0, 0.0), "c": (-12.0, -2.0), "d": (-3.0, -3.0)}
    assert crossing({name: {"positive": y, "negative": n} for name, (y, n) in lines.items()}) == pytest.approx(0.25)


def test_the_best_action_has_the_highest_expected_payoff() -> None:
    found = statement().best_action(np.array([0.0, 0.2, 0.3, 1.0]))
    assert found.tolist() == ["wait", "wait", "act", "act"]


def test_expected_payoffs_are_weighed_by_the_probability() -> None:
    values = decisions.expected_payoff(pd.DataFrame({"probability": [0.0, 0.5, 1.0]}), statement())
    assert values["act"].tolist() == [-1, -1, -1]
    assert values["wait"].tolist() == [0, -2, -4]


def test_each_class_moves_the_decision_by_its_probability() -> None:
    decided = decisions.decide(chances([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9]]), statement("multiclass"))
    assert decided["action"].tolist() == ["stock", "order", "wait"]
    assert decided["expected_payoff"].tolist() == pytest.approx([0.8 - 0.1 - 0.2, -0.1 + 0.8, 0.9])


def test_payoffs_are_read_by_the_name_of_the_class_whatever_their_order() -> None:
    turned = {action: dict(reversed(paid.items())) for action, paid in TASKS["multiclass"]["payoffs"].items()}
    first, second = statement("multiclass"), statement("multiclass", payoffs=turned)
    pd.testing.assert_frame_equal(first.payoff_matrix, second.payoff_matrix)


def test_each_row_pays_by_its_action_and_its_outcome() -> None:
    paid = decisions.payoff(np.array(["act", "act", "wait", "wait"]), np.array([1, 0, 1, 0]), statement())
    assert paid.tolist() == [-1, -1, -4, 0]
    paid = decisions.payoff(np.array(["stock", "stock", "wait"]), np.array([0, 2, 1]), statement("multiclass"))
    assert paid.tolist() == [1, -2, 0]


def test_a_quantity_pays_by_how_far_it_was_off_and_in_which_direction() -> None:
    paid = decisions.payoff(np.array([12.0, 8.0, 10.0]), np.full(3, 10.0), statement("regression"))
    assert paid.tolist() == [-2, -6, 0]


def test_the_quantile_of_the_critical_ratio_costs_least() -> None:
    problem, demand = statement("regression"), np.random.default_rng(1).gamma(3, 20, 20_000)
    assert problem.ratio == 0.75
    tried = np.quantile(demand, np.linspace(0.05, 0.95, 91))
    paid = [decisions.payoff(np.full(len(demand), quantity), demand, problem).mean() for quantity in tried]
    best = tried[int(np.argmax(paid))]
    (policy,) = decisions.policies(demand, problem).values()
    assert policy == pytest.approx(best, rel=0.02)
    assert decisions.payoff(np.full(len(demand), policy), demand, problem).mean() >= max(paid)
    assert max(paid) > decisions.payoff(np.full(len(demand), demand.mean()), demand, problem).mean()


def test_one_acts_on_the_quantile_of_a_quantity_and_expects_its_loss() -> None:
    predicted = pd.DataFrame({"prediction": [5.0], "low": [1.0], "high": [9.0], "quantile": [6.0], "loss": [2.0]})
    decided = decisions.decide(predicted, statement("regression"))
    assert decided.to_dict("records") == [{"action": 6.0, "expected_payoff": -2.0}]


@pytest.mark.parametrize("task", TASKS)
def test_nobody_earns_more_than_perfect_foresight(task: str) -> None:
    problem, random = statement(task), np.random.default_rng(3)
    target = random.normal(10, 3, 50) if task == "regression" else random.integers(0, len(problem.classes), 50)
    table = decisions.policy_payoffs(target, problem, decisions.policies(target, problem))
    assert table.columns[-1] == decisions.FORESIGHT
    assert (table.drop(columns=decisions.FORESIGHT).le(table[decisions.FORESIGHT], axis=0)).all().all()


def test_foresight_takes_the_best_action_for_each_outcome() -> None:
    assert decisions.foresight(np.array([0, 1]), statement()).tolist() == [0, -1]
    assert decisions.foresight(np.array([0, 1, 2]), statement("multiclass")).tolist() == [1, 1, 1]
    assert decisions.foresight(np.array([3.5]), statement("regression")).tolist() == [0]


def test_there_is_a_policy_for_every_action() -> None:
    assert decisions.policies(np.array([0, 1]), statement()) == {"always act": "act", "always wait": "wait"}
    assert list(decisions.policies(np.array([0]), statement("multiclass")).values()) == ["stock", "order", "wait"]


def test_the_event_is_the_class_in_focus_and_its_forecast_that_class_probability() -> None:
    problem = statement("multiclass")
    assert decisions.event(np.array([0, 1, 2]), problem).tolist() == [0, 1, 0]
    assert decisions.expected(chances([[0.2, 0.3, 0.5]]), problem).tolist() == [0.3]
    assert decisions.event(np.array([0, 1]), statement()).tolist() == [0, 1]
    assert decisions.expected(pd.DataFrame({"probability": [0.4]}), statement()).tolist() == [0.4]
    assert decisions.event(np.array([2, 3]), statement("regression")).tolist() == [2, 3]


def test_the_level_is_named_and_shown_in_the_words_of_the_task() -> None:
    named = {task: decisions.level_name(statement(task)) for task in TASKS}
    assert named == {"binary": "share of events", "multiclass": 'share of "mid size"', "regression": "mean price"}
    assert decisions.show_level(0.234, statement()) == "23.4%"
    assert decisions.show_level(12.3456, statement("regression")) == "12.35"


def test_one_probability_stands_for_both_classes() -> None:
    p = decisions.probabilities(pd.DataFrame({"probability": [0.25]}), statement())
    assert p.tolist() == [[0.75, 0.25]]


def test_an_encoded_target_stays_lazy() -> None:
    table = ibis.table({"y": "string"}, name="t")
    assert decisions.outcome(table["y"], statement("multiclass")).type().is_int64()
