from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import Project

from ninefold import problem
from ninefold.core import io
from ninefold.core.errors import ParamsError
from ninefold.core.params import load

PAYOFFS = {"act": {"positive": -1.0, "negative": -1.0}, "wait": {"positive": -4.0, "negative": 0.0}}
DOMINATED = {**PAYOFFS, "panic": {"positive": -5.0, "negative": -5.0}}


def stated(project: Project, payoffs: dict[str, Any]) -> dict[str, Any]:
    project.set("problem.payoffs", payoffs)
    return problem.statement(load("problem"))


def failed(statement: dict[str, Any]) -> list[str]:
    return [check.name for check in problem.checks(statement) if not check.passed]


def test_the_break_even_is_where_the_best_action_changes() -> None:
    assert problem.break_even(PAYOFFS) == pytest.approx(0.25)


def test_a_dearer_action_moves_the_break_even_up() -> None:
    dearer = {**PAYOFFS, "act": {"positive": -2.0, "negative": -2.0}}
    assert problem.break_even(dearer) == pytest.approx(0.5)


def test_there_is_no_break_even_where_one_action_is_always_best() -> None:
    assert problem.break_even({**PAYOFFS, "act": {"positive": -9.0, "negative": -9.0}}) is None


def test_a_crossing_below_the_best_line_is_no_break_even() -> None:
    lines = {"a": (-1.0, -1.0), "b": (-4.0, 0.0), "c": (-12.0, -2.0), "d": (-3.0, -3.0)}
    payoffs = {name: {"positive": y, "negative": n} for name, (y, n) in lines.items()}
    assert problem.break_even(payoffs) == pytest.approx(0.25)


def test_the_best_action_has_the_highest_expected_payoff() -> None:
    assert problem.best_action(np.array([0.0, 0.2, 0.3, 1.0]), PAYOFFS).tolist() == ["wait", "wait", "act", "act"]


def test_expected_payoffs_are_weighed_by_the_probability() -> None:
    values = problem.expected_payoff(np.array([0.0, 0.5, 1.0]), PAYOFFS)
    assert values["act"].tolist() == [-1, -1, -1]
    assert values["wait"].tolist() == [0, -2, -4]


def test_each_row_pays_by_its_action_and_its_outcome() -> None:
    paid = problem.payoff(np.array(["act", "act", "wait", "wait"]), np.array([1, 0, 1, 0]), PAYOFFS)
    assert paid.tolist() == [-1, -1, -4, 0]


def test_equal_payoffs_are_refused_because_nothing_is_left_to_decide(project: Project) -> None:
    project.set("problem.payoffs", {"act": PAYOFFS["act"], "wait": PAYOFFS["act"]})
    with pytest.raises(ParamsError, match=r"problem.payoffs: found .*expected actions whose payoffs differ"):
        load("problem")


def test_a_horizon_without_a_unit_is_refused(project: Project) -> None:
    project.set("problem.horizon", "2")
    with pytest.raises(ParamsError, match=r'problem.horizon: found "2"'):
        load("problem")


def test_a_sound_statement_passes_its_gate(project: Project) -> None:
    assert failed(stated(project, PAYOFFS)) == []


def test_an_action_that_is_never_best_fails_the_gate(project: Project) -> None:
    statement = stated(project, DOMINATED)
    assert failed(statement) == ["each action is best somewhere"]
    assert any(check.value == "panic" for check in problem.checks(statement))


def test_payoffs_under_which_one_action_is_always_best_fail_the_gate(project: Project) -> None:
    statement = stated(project, {**PAYOFFS, "act": {"positive": -9.0, "negative": -9.0}})
    assert failed(statement) == ["each action is best somewhere", "break-even probability"]
    assert problem.verdict(statement) == "Wait is always best under these payoffs: there is nothing to decide."


def test_the_statement_is_written_and_read_as_it_is(project: Project) -> None:
    statement = stated(project, PAYOFFS)
    problem.save(statement)
    io.publish()
    assert problem.load() == statement
    assert statement["break_even"] == pytest.approx(0.25)
    assert statement["actions"] == ["act", "wait"]


def test_the_texts_use_the_words_of_the_params(project: Project) -> None:
    statement = stated(project, PAYOFFS)
    text = problem.sentence(statement) + problem.verdict(statement)
    for word in ("Which orders will come back?", "the shop", "call the customer", "order comes back is below 25%"):
        assert word in text
    assert "25%" in problem.describe_expected_payoff(statement)


def test_there_is_a_baseline_policy_for_every_action(project: Project) -> None:
    policies = problem.baseline_policies(stated(project, DOMINATED))
    assert policies["policy"].tolist() == ["always act", "always wait", "always panic"]
