"""The simplest candidate about as good as the best is chosen; a blend is added where it is better."""

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project
from training_data import FEW, MODELS, ONE, PARAMS, agree, orders

from ninefold.metrics import estimate, naive_forecast, scorer
from ninefold.problem import PRIMARY, decisions
from ninefold.training import candidates, selection


@pytest.mark.parametrize(("behind", "errors", "expected"), [
    ([0.3, 0.2, 0.1, 0.0], [0.01, 0.05, 0.05, 0.0], "c"),
    ([0.3, 0.2, 0.04, 0.0], [0.01, 0.05, 0.05, 0.0], "b"),
    ([0.3, 0.05, 0.04, 0.0], [0.01, 0.06, 0.05, 0.0], "a"),
    ([0.001, 0.2, 0.1, 0.0], [0.01, 0.05, 0.05, 0.0], "c"),  # the naive one never by simplicity
    ([0.0, 0.2, 0.1, 0.01], [0.0, 0.05, 0.05, 0.2], selection.NAIVE),
])  # fmt: skip
def test_the_simplest_within_a_standard_error_of_the_best_is_chosen(
    behind: list[float], errors: list[float], expected: str
) -> None:
    models = [selection.NAIVE, "a", "b", "c"]
    assert selection.choose(pd.DataFrame({"model": models, "behind": behind, "standard error": errors})) == expected


@pytest.mark.parametrize(("primary", "better"), [("log_loss", "lower"), ("brier", "lower"), ("roc_auc", "higher")])
def test_candidates_are_compared_on_the_same_rows(primary: str, better: str) -> None:
    random, problem, frame = np.random.default_rng(3), ONE["binary"], orders("binary", 800)
    p = np.clip(0.15 + 0.5 * frame["returned"] + random.normal(0, 0.2, 800), 0.02, 0.98)
    worse = np.clip(p + random.normal(0, 0.1, 800), 0.02, 0.98)
    forecasts = {name: pd.DataFrame({"probability": each}) for name, each in {"worse": worse, "good": p}.items()}
    plan = agree(frame, problem)
    metric = plan.primary.model_copy(update={"name": primary, "better": better})
    table = selection.compare(frame, forecasts, problem, plan.model_copy(update={"primary": metric})).set_index("model")
    assert table.loc["good", ["behind", "standard error"]].tolist() == [0, 0]
    assert table.loc["worse", "behind"] == pytest.approx(abs(table[primary].diff().iloc[1]))
    # Unpaired, the standard error would be that of each by itself, many times as large.
    target = frame["returned"].to_numpy()
    each = lambda weight: {name: scorer(primary, target, said, problem)(weight) for name, said in forecasts.items()}  # noqa: E731
    alone = estimate(each, frame, problem)[0]["error"]
    assert 0 < table.loc["worse", "standard error"] < 0.6 * np.hypot(*alone)


@pytest.mark.parametrize("task", TASKS)
def test_a_blend_is_better_than_its_parts_where_their_errors_are_independent(project: Project, task: str) -> None:
    problem, frame, random = ONE[task], orders(task, 300), np.random.default_rng(1)
    target, names, plan = frame[problem.target].to_numpy(), decisions.forecast_columns(problem), agree(frame, problem)
    forecasts, single = {selection.NAIVE: naive_forecast(300, problem, plan)}, candidates(PARAMS, FEW, problem)
    for name in MODELS:
        if task == "regression":
            forecasts[name] = pd.DataFrame({column: target + random.normal(0, 9, 300) for column in names})
            continue
        p = np.exp(np.eye(len(problem.classes))[target] + random.normal(0, 1, (300, len(problem.classes))))
        forecasts[name] = pd.DataFrame((p / p.sum(axis=1, keepdims=True))[:, -len(names) :], columns=names)
    estimators, blended = selection.blend(single, frame, forecasts, problem)
    scores = selection.compare(frame, blended, problem, plan).set_index("model")[PRIMARY[task]]
    assert scores.idxmin() == selection.BLEND
    assert sum(estimators[selection.BLEND].weights) == pytest.approx(1)
    assert selection.BLEND not in selection.blend(single, frame, forecasts, problem, enabled=False)[1]


def test_a_model_that_helps_a_little_but_not_by_half_is_blended_in() -> None:
    problem, frame, random = ONE["regression"], orders("regression", 300), np.random.default_rng(1)
    errors = {"good": random.normal(0, 1, 300), "poor": random.normal(0, 2, 300)}
    forecasts = {name: decisions.forecast(frame[problem.target] + each, problem) for name, each in errors.items()}
    estimators, _ = selection.blend(dict.fromkeys(errors), frame, forecasts, problem)
    assert estimators[selection.BLEND].weights == pytest.approx([0.8, 0.2], abs=0.06)
