"""Stage 01: the problem is stated whole before there is data, and its payoffs leave something to decide."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import CLASSES, TASKS, Project, statement
from matplotlib.figure import Figure

from ninefold import artifacts
from ninefold.errors import ParamsError
from ninefold.params import load
from ninefold.problem import stage
from ninefold.problem.statement import Problem

PAYOFFS = {"act": {"positive": -1.0, "negative": -1.0}, "wait": {"positive": -4.0, "negative": 0.0}}
DOMINATED = {**PAYOFFS, "panic": {"positive": -5.0, "negative": -5.0}}


def failed(problem: Problem) -> list[str]:
    return [check.name for check in stage.checks(problem) if not check.passed]


def refused(project: Project, task: str = "binary", **changes: Any) -> str:
    for key, value in {**TASKS[task], **changes}.items():
        project.set(f"problem.{key}", value)
    with pytest.raises(ParamsError) as error:
        load("problem")
    return str(error.value)


def test_equal_payoffs_are_refused_because_nothing_is_left_to_decide(project: Project) -> None:
    message = refused(project, payoffs={"act": PAYOFFS["act"], "wait": PAYOFFS["act"]})
    assert "problem: found" in message
    assert "expected actions whose payoffs differ" in message


def test_a_horizon_without_a_unit_is_refused(project: Project) -> None:
    assert 'problem.horizon: found "2"' in refused(project, horizon="2")


def test_every_task_needs_its_own_prices(project: Project) -> None:
    assert "payoffs for task binary; they are missing" in refused(project, payoffs=None)
    assert "found costs, which are for another task" in refused(project, payoffs=PAYOFFS, costs={"over": 1, "under": 1})
    assert "costs for task regression" in refused(project, "regression", costs=None)
    assert "problem.costs.over: found 0" in refused(project, "regression", costs={"over": 0, "under": 1})


def test_every_action_pays_for_every_class(project: Project) -> None:
    paid = {**TASKS["multiclass"]["payoffs"], "wait": {"small": 1}}
    message = refused(project, "multiclass", payoffs=paid)
    assert f"payoffs.wait for each of {', '.join(CLASSES)}; found small" in message


def test_classes_are_stated_once_and_the_focus_is_one_of_them(project: Project) -> None:
    assert "every class once" in refused(project, classes=["0", "0"])
    assert "two classes for task binary" in refused(project, classes=["a", "b", "c"])
    assert "classes for task multiclass" in refused(project, "multiclass", classes=None)
    assert "focus to be one of the classes" in refused(project, "multiclass", focus="huge")
    assert "positive: a verb phrase" in refused(project, "multiclass", positive=None)


def test_a_criterion_is_a_metric_of_the_task(project: Project) -> None:
    success = {"scores": {"roc_auc": 0.7}, "min_payoff_gain": 0, "confidence": 0.9}
    assert "success.scores of rmse, mae" in refused(project, "regression", success=success)


@pytest.mark.parametrize("task", TASKS)
def test_a_sound_statement_passes_its_gate(task: str) -> None:
    assert failed(statement(task)) == []


def test_an_action_that_is_never_best_fails_the_gate() -> None:
    problem = statement(payoffs=DOMINATED)
    assert failed(problem) == ["each action is best somewhere"]
    assert any(check.value == "panic" for check in stage.checks(problem))
    idle = {**TASKS["multiclass"]["payoffs"], "panic": dict.fromkeys(CLASSES, -2)}
    assert failed(statement("multiclass", payoffs=idle)) == ["each action is best somewhere"]


def test_an_action_that_is_best_only_between_the_classes_passes_the_gate() -> None:
    hedge = {**TASKS["multiclass"]["payoffs"], "hedge": dict.fromkeys(CLASSES, 0.5)}
    assert failed(statement("multiclass", payoffs=hedge)) == []


def test_payoffs_under_which_one_action_is_always_best_fail_the_gate() -> None:
    problem = statement(payoffs={**PAYOFFS, "act": {"positive": -9.0, "negative": -9.0}})
    assert failed(problem) == ["each action is best somewhere", "break-even probability"]
    assert stage.conclusion(problem) == "Wait is always best under these payoffs: there is nothing to decide."


def test_a_quantile_that_no_data_can_tell_fails_the_gate() -> None:
    assert failed(statement("regression", costs={"over": 1, "under": 1e4})) == ["quantile to act on"]


@pytest.mark.parametrize("task", TASKS)
def test_the_statement_is_written_and_read_as_it_is(project: Project, task: str) -> None:
    problem = statement(task)
    problem.save()
    artifacts.publish()
    assert Problem.load() == problem


def test_the_statement_fills_in_what_params_leave_out() -> None:
    problem = statement()
    assert (problem.classes, problem.focus, problem.group) == (["0", "1"], "1", None)
    assert problem.actions == ["act", "wait"]
    assert problem.break_even == pytest.approx(0.25)
    assert statement("multiclass", focus=None).focus == CLASSES[-1]
    quantity = statement("regression", time=None)
    assert (quantity.classes, quantity.actions, quantity.break_even, quantity.time) == (None, [], None, None)


def test_the_texts_use_the_words_of_the_params() -> None:
    problem = statement()
    text = stage.sentence(problem) + stage.conclusion(problem)
    for word in ("Which orders will come back?", "the shop", "call the customer", "order comes back is below 0.25"):
        assert word in text
    assert "0.25" in stage.describe_decision(problem)


@pytest.mark.parametrize("time", ["placed", None])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_told_and_drawn(task: str, time: str | None) -> None:
    problem = statement(task, time=time)
    told = [stage.sentence(problem), stage.conclusion(problem), stage.describe_decision(problem)]
    told += [stage.sensitivity(problem, 2.0), *stage.headline(problem).values()]
    assert all(text and "None" not in text and "nan" not in text for text in told)
    assert ("2h" in stage.sentence(problem)) == (time is not None)
    assert isinstance(stage.plot_decision(problem), Figure)
    for table in (stage.payoff_table(problem), stage.baseline_policies(problem), stage.success_criteria(problem)):
        assert len(table)
    assert set(stage.metrics(problem)) == {"break_even", "actions", "risks"}


def test_there_is_a_baseline_policy_for_every_action() -> None:
    policies = stage.baseline_policies(statement(payoffs=DOMINATED))
    assert policies["policy"].tolist() == ["always act", "always wait", "always panic"]


def test_a_criterion_says_whether_it_is_a_floor_or_a_ceiling() -> None:
    success = {"scores": {"roc_auc": 0.7, "log_loss": 0.5}, "min_payoff_gain": 0.1, "confidence": 0.9}
    limits = stage.success_criteria(statement(success=success)).set_index("criterion")["limit"]
    assert limits.to_dict() == {
        "ROC AUC": ">= 0.7",
        "log loss": "<= 0.5",
        "payoff gain": ">= 0.1",
        "confidence": ">= 0.9",
    }
