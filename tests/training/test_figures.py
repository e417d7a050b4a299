"""Figures and sentences of stage 07 hold for every task, and for names that mean something to matplotlib."""

import numpy as np
import pytest
from conftest import TASKS, Project
from odd_names import ALL, ODD, rows, sound
from sklearn.dummy import DummyRegressor
from training_data import run

from ninefold import gate, training
from ninefold.features import FeatureSchema
from ninefold.metrics import Evaluation, naive_forecast
from ninefold.training import WithInterval, selection, sentences

SCHEMA = FeatureSchema(all=[ODD["amount"], ODD["shop"]], numeric=[ODD["amount"]], categorical=[ODD["shop"]])
PARAMS = training.Params(seed=1, candidates={"a_line": {"model": "linear"}}, importance_rows=100)


@pytest.mark.parametrize(("task", "time"), ALL)
def test_every_figure_is_drawn_and_every_sentence_has_no_holes(project: Project, task: str, time: str | None) -> None:
    frame, problem, plan = rows(task, time)
    done = run(frame, problem, PARAMS, SCHEMA, plan=plan, name="a_line")
    results = done.chosen.results
    sound(
        sentences.describe_choice(done.compared, "a_line", plan),
        sentences.describe_choice(done.compared, selection.NAIVE, plan),
        sentences.describe_policies(done.evaluation.policies(), results, problem),
        *sentences.headline(results, problem).values(),
    )
    assert np.isfinite(done.evaluation.price_moves(done.model)["gain"]).all()
    assert "a line" in sentences.describe_choice(done.compared, "a_line", plan)
    chosen, failing = training.Chosen("a_line", "none", results, 0.1), gate.holds("too good", False, 1, "< 0.99")
    assert "Deploy." in sentences.conclusion(chosen, [], problem)
    assert "Do not deploy: the gate fails (too good)." in sentences.conclusion(chosen, [failing], problem)
    for name, floor in (("a_line", -0.1), (selection.NAIVE, 0.1)):
        chosen = training.Chosen(name, "none", results, floor)
        assert sentences.conclusion(chosen, [], problem).startswith("Nothing significantly beats")


@pytest.mark.parametrize("task", TASKS)
def test_a_prediction_that_is_always_the_same_can_be_drawn(task: str) -> None:
    frame, problem, plan = rows(task, None)
    target, predicted = frame[problem.target].to_numpy(), naive_forecast(400, problem, plan)
    model = WithInterval(DummyRegressor()).fit_errors(np.zeros(400), target) if task == "regression" else None
    curves = Evaluation(target, predicted, frame, problem, plan).curves(model)
    assert np.isfinite(curves["calibration"]["predicted"]).all()
