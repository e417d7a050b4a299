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
from ninefold.training import WithInterval, selection, sentences, tuning

SCHEMA = FeatureSchema(all=[ODD["amount"], ODD["shop"]], numeric=[ODD["amount"]], categorical=[ODD["shop"]])
PARAMS = training.Params(seed=1, candidates={"a_line": {"model": "linear"}}, importance_rows=100)
TRIALS = [tuning.Trial("a_line", {"C": 0.1}, [0.5], 1.0), tuning.Trial("a_line", {"C": 3.0}, [0.4], 1.0)]


@pytest.mark.parametrize(("task", "time"), ALL)
def test_every_figure_is_drawn_and_every_sentence_has_no_holes(project: Project, task: str, time: str | None) -> None:
    frame, problem, plan = rows(task, time)
    done = run(frame, problem, PARAMS, SCHEMA, plan=plan, name="a_line")
    results = done.chosen.results
    learning = training.learning_curve(done.estimators["a_line"], done.forecasts["a_line"], done.folds, plan)
    curves, policies = done.evaluation.curves(done.model), done.evaluation.policies()
    prices = done.evaluation.price_moves(done.model)
    importance = training.importance(done.model, done.holdout, done.folds)
    sound(
        sentences.describe_choice(done.compared, "a_line", plan),
        sentences.describe_choice(done.compared, selection.NAIVE, plan),
        sentences.describe_parts(done.parts, done.locked, SCHEMA, problem),
        sentences.describe_search(tuning.table([], 1, 1), PARAMS, plan),
        sentences.describe_search(tuning.table(TRIALS, 1, 1), PARAMS, plan),
        sentences.describe_learning(learning, plan),
        sentences.describe_learning(learning.head(1), plan),
        sentences.describe_prices(prices, problem),
        sentences.describe_policies(policies, results, problem),
        sentences.describe_threshold(curves["payoff"], problem),
        sentences.describe_importance(importance, problem),
        sentences.describe_curve(curves["calibration"], problem),
        *sentences.headline(results, problem).values(),
    )
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
    sound(sentences.describe_curve(curves["calibration"], problem))
    sound(sentences.describe_threshold(curves["payoff"], problem))
