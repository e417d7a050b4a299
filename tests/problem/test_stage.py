"""Stage 01: the problem is stated whole before there is data, and its payoffs leave something to decide."""

from typing import Any

import pytest
from conftest import CLASSES, TASKS, Project, statement
from odd_names import drawn, sound

from ninefold import artifacts
from ninefold.errors import ParamsError
from ninefold.params import load
from ninefold.problem import stage
from ninefold.problem.statement import Problem
from project.figures.problem import plot_decision

PAYOFFS = {"act": {"positive": -1.0, "negative": -1.0}, "wait": {"positive": -4.0, "negative": 0.0}}
OWN = {name: {other: float(name == other) for other in CLASSES} for name in CLASSES}
DOMINATED = {**PAYOFFS, "panic": {"positive": -5.0, "negative": -5.0}}
ALWAYS_WAIT = {**PAYOFFS, "act": {"positive": -9.0, "negative": -9.0}}
LEVELS = TASKS["multiclass"]["payoffs"]
MORE = {"min_payoff_gain": 0, "confidence": 0.9}


@pytest.mark.parametrize(("task", "changes", "message"), [
    ("binary", {"payoffs": {"act": PAYOFFS["act"], "wait": PAYOFFS["act"]}}, "problem: found .* payoffs differ"),
    ("binary", {"horizon": "2"}, 'problem.horizon: found "2"'),
    ("binary", {"timezone": "Mars/Base"}, 'problem.timezone: found "Mars/Base", expected .* IANA'),
    ("binary", {"payoffs": None}, "payoffs for task binary; they are missing"),
    ("binary", {"costs": {"over": 1, "under": 1}}, "found costs, which are for another task"),
    ("regression", {"costs": None}, "costs for task regression"),
    ("regression", {"costs": {"over": 0, "under": 1}}, "problem.costs.over: found 0"),
    ("multiclass", {"payoffs": {**LEVELS, "wait": {"small": 1}}}, "wait for each of small, mid .* found small"),
    ("binary", {"classes": ["0", "0"]}, "every class, and every label, once"),
    ("binary", {"classes": ["a", "b", "c"]}, "two classes for task binary"),
    ("multiclass", {"classes": None}, "classes for task multiclass"),
    ("multiclass", {"focus": "huge"}, "focus to be one of the classes"),
    ("multiclass", {"positive": None}, "positive: a verb phrase"),
    ("regression", {"success": {"scores": {"roc_auc": 1}, **MORE}}, "success.scores of rmse, mae.*; found roc_auc"),
])  # fmt: skip
def test_a_statement_that_does_not_fit_is_refused(project: Project, task: str, changes: Any, message: str) -> None:
    for key, value in {**TASKS[task], **changes}.items():
        project.set(f"problem.{key}", value)
    with pytest.raises(ParamsError, match=f"(?s){message}"):
        load("problem")


@pytest.mark.parametrize(("task", "changes", "failed"), [
    *((task, {}, []) for task in TASKS),
    ("binary", {"payoffs": DOMINATED}, ["each action is best somewhere"]),
    ("multiclass", {"payoffs": {**LEVELS, "panic": dict.fromkeys(CLASSES, -2)}}, ["each action is best somewhere"]),
    ("multiclass", {"payoffs": {**LEVELS, "hedge": dict.fromkeys(CLASSES, 0.5)}}, []),  # best between the classes
    ("multiclass", {"payoffs": {**OWN, "hedge": dict.fromkeys(CLASSES, 0.3334)}}, []),  # in a corner of them
    ("multiclass", {"payoffs": {**OWN, "hedge": dict.fromkeys(CLASSES, 1 / 3)}}, ["each action is best somewhere"]),
    ("multiclass", {"payoffs": {**OWN, "again": OWN[CLASSES[0]]}}, ["each action is best somewhere"]),
    ("binary", {"payoffs": ALWAYS_WAIT}, ["each action is best somewhere", "break-even probability"]),
    ("regression", {"costs": {"over": 1, "under": 1e4}}, ["quantile to act on"]),
])  # fmt: skip
def test_the_gate_passes_if_the_payoffs_leave_something_to_decide(task: Any, changes: Any, failed: Any) -> None:
    assert [check.name for check in stage.checks(statement(task, **changes)) if not check.passed] == failed


@pytest.mark.usefixtures("project")
def test_the_statement_fills_in_what_params_leave_out_and_is_read_as_written() -> None:
    binary, classes, quantity = statement(), statement("multiclass", focus=None), statement("regression", time=None)
    assert (binary.classes, binary.focus, binary.group, binary.actions) == (["0", "1"], "1", None, ["act", "wait"])
    assert classes.focus == CLASSES[-1]
    assert (quantity.classes, quantity.actions, quantity.break_even, quantity.time) == (None, [], None, None)
    for problem in (binary, classes, quantity):
        problem.save()
        artifacts.publish()
        assert Problem.load() == problem


def test_the_texts_use_the_words_of_the_params() -> None:
    problem, always = statement(), statement(payoffs=ALWAYS_WAIT)
    text = stage.sentence(problem) + stage.conclusion(problem)
    for word in ("Which orders will come back?", "the shop", "call the customer", "order comes back is below 0.25"):
        assert word in text
    assert stage.conclusion(always) == "Wait is always best under these payoffs: there is nothing to decide."
    assert [check.value for check in stage.checks(statement(payoffs=DOMINATED)) if not check.passed] == ["panic"]


@pytest.mark.parametrize("time", ["placed", None])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_told_and_drawn(task: str, time: str | None) -> None:
    problem = statement(task, time=time)
    sound(stage.sentence(problem), stage.conclusion(problem), stage.sensitivity(problem, 2.0))
    sound(*stage.headline(problem).values())
    assert ("2 hours" in stage.sentence(problem)) == (time is not None)
    drawn(plot_decision(problem))
    assert set(stage.metrics(problem)) == {"break_even", "actions", "risks"}
