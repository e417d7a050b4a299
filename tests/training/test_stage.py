"""Stage 07 from candidates to gate: one model is chosen on rows it had not seen, and evaluated once on the holdout."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from training_data import FEW, MODELS, ONE, PARAMS, SCHEMA, agree, orders, parted

from ninefold import artifacts, gate
from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.metrics import FOLLOW, EvaluationPlan, evaluation, part_of
from ninefold.problem import FORESIGHT, RANKING, Problem, decisions
from ninefold.training import (
    Blend,
    Calibrated,
    Params,
    WithInterval,
    calibration,
    candidates,
    cross_validation,
    finish,
    model_file,
    newest,
    selection,
    stage,
    validate,
)

TIMES = pytest.mark.parametrize(
    "changes", [{}, {"time": None}, {"time": None, "group": ["customer"]}], ids=["time", "rows", "group"]
)


class Run(NamedTuple):
    """What the notebook of the stage holds at its end."""

    name: str
    method: str
    model: BaseEstimator
    compared: pd.DataFrame
    predicted: pd.DataFrame
    results: dict[str, dict[str, float]]
    floor: float
    holdout: pd.DataFrame
    plan: EvaluationPlan

    def failed(self, name: str, problem: Problem) -> list[str]:
        checks = stage.checks(name, self.results, self.floor, problem, self.plan)
        return [check.name for check in checks if not check.passed]


def run(
    frame: pd.DataFrame,
    problem: Problem,
    params: Params = PARAMS,
    schema: FeatureSchema = FEW,
    holdout: pd.DataFrame | None = None,
) -> Run:
    """Do what the notebook of the stage does, in its order."""
    plan = agree(frame, problem)
    parts = parted(frame, problem, plan)
    holdout = parts["holdout"] if holdout is None else holdout
    estimators = candidates(params, schema, problem)
    rows, forecasts = validate(estimators, parts, schema, params, problem)
    estimators, forecasts = selection.blend(estimators, rows, forecasts, params.blend, problem)
    compared = selection.compare(rows, forecasts, problem, plan)
    name = selection.choose(compared)
    recent, unseen = newest(rows, forecasts[name], problem)
    method = calibration.choose(calibration.compare(unseen, recent, 0.9, problem), recent, params.calibration, problem)
    fitted = finish(estimators[name], parts, schema, problem)
    model = calibration.adjust(fitted, method, unseen, recent, params.interval, problem)
    target, predicted = holdout[problem.target].to_numpy(), cross_validation.predict(model, holdout, schema, problem)
    evaluated = (target, predicted, holdout, problem, plan)
    results, floor = evaluation.evaluate(*evaluated), evaluation.gain_floor(*evaluated)
    return Run(name, method, model, compared, predicted, results, floor, holdout, plan)


@pytest.fixture(autouse=True)
def _project(project: Project) -> Project:
    """Stand in the tiny project, which brings no candidates of its own."""
    return project


@TIMES
@pytest.mark.parametrize("task", TASKS)
def test_a_signal_passes_the_gate(task: str, changes: dict[str, Any]) -> None:
    problem = statement(task, **changes)
    done = run(orders(task, 900, signal=3.0), problem)
    assert done.failed(done.name, problem) == []
    assert done.results[RANKING[task]]["low"] > (0.7 if problem.is_class else 0.6)
    target = done.holdout[problem.target].to_numpy()
    policies = evaluation.policies(target, done.predicted, done.holdout, problem, done.plan)
    assert policies["policy"].iloc[0] == FOLLOW
    assert policies.set_index("policy")["payoff"].idxmax() == FORESIGHT
    # However good the scores are, the candidate without features does not pass, nor a gain below the required one.
    assert done.failed(selection.NAIVE, problem) == ["model chosen"]
    assert not stage.beats_naive(selection.NAIVE, done.results, done.floor)
    success = problem.success.model_copy(update={"min_payoff_gain": 1e6})
    assert done.failed("line", problem.changed(success=success)) == ["gain over the best policy without a model"]


@TIMES
@pytest.mark.parametrize("task", TASKS)
def test_noise_passes_the_gate_with_none_of_twenty_seeds(task: str, changes: dict[str, Any]) -> None:
    few = PARAMS.model_copy(update={"candidates": {name: PARAMS.candidates[name] for name in ("line", "boosting")}})
    problem = statement(task, **changes)
    for seed in range(20):
        frame = orders(task, 240, signal=3.0, seed=seed)
        frame[problem.target] = np.random.default_rng(seed).permutation(frame[problem.target])
        done = run(frame, problem, few)
        assert done.failed(done.name, problem), seed


@pytest.mark.parametrize("changes", [{}, {"time": None, "group": ["customer"]}], ids=["time", "group"])
@pytest.mark.parametrize("task", TASKS)
def test_the_holdout_changes_neither_choice_nor_model(task: str, changes: dict[str, Any]) -> None:
    frame, problem = orders(task, 300), statement(task, **changes)
    first = run(frame, problem)
    other = first.holdout.assign(amount=-first.holdout["amount"])
    other[problem.target] = first.holdout[problem.target].to_numpy()[::-1]
    second = run(frame, problem, holdout=other)
    assert (first.name, first.method) == (second.name, second.method)
    pd.testing.assert_frame_equal(first.compared, second.compared)
    again = cross_validation.predict(second.model, first.holdout, FEW, problem)
    pd.testing.assert_frame_equal(first.predicted, again)
    assert first.results != second.results


@pytest.mark.parametrize("method", calibration.METHODS)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_final_model_is_calibrated_as_params_say(task: str, method: str) -> None:
    done = run(orders(task, 300), ONE[task], PARAMS.model_copy(update={"calibration": method}))
    assert done.method == method
    assert isinstance(done.model, Calibrated) == (method != "none")
    p = decisions.probabilities(done.predicted, ONE[task])
    assert ((p > 0) & (p < 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_intervals_of_quantities_hold_their_share_where_errors_vary() -> None:
    known, random = load_diabetes(as_frame=True), np.random.default_rng(7)
    spread = np.linalg.cholesky(known.data.cov() + 1e-9 * np.eye(10))
    X = pd.DataFrame(random.normal(size=(20_000, 10)) @ spread.T, columns=known.data.columns)
    expected = LinearRegression().fit(known.data, known.target).predict(X) + 2e4 * X["bmi"] * X["bp"]
    noise = random.gamma(2, 1, 20_000) - 2  # skewed, and larger where more is expected
    frame = X.assign(id=np.arange(20_000), price=expected + (0.15 * expected.abs() + 15) * noise)
    schema, few = FeatureSchema(all=list(X), numeric=list(X)), {"boosting": PARAMS.candidates["boosting"]}
    done = run(frame, ONE["regression"], PARAMS.model_copy(update={"candidates": few}), schema)
    assert isinstance(done.model, WithInterval)
    assert 0.88 <= done.results["covered"]["value"] <= 0.92
    price, predicted = done.holdout["price"], done.predicted
    inside = (price >= predicted["low"]) & (price <= predicted["high"])
    assert inside.groupby(pd.qcut(predicted["prediction"], 5, labels=False)).mean().between(0.84, 0.95).all()
    # The quantity acted on is the 75 % quantile, as a unit too low costs three times a unit too high.
    assert (price <= predicted["quantile"]).mean() == pytest.approx(0.75, abs=0.03)
    assert -predicted["loss"].mean() == pytest.approx(done.results["payoff"]["value"], rel=0.1)


@pytest.mark.parametrize(("limit", "passes"), [(0.6, True), (0.999, False)])
def test_a_criterion_of_the_problem_is_a_check_of_the_gate(limit: float, passes: bool) -> None:
    success = {"scores": {"roc_auc": limit, "brier": 0.9}, "min_payoff_gain": 0, "confidence": 0.9}
    problem = statement(time=None, success=success)
    done = run(orders("binary", 600, signal=3.0), problem)
    checks = {check.name: check for check in stage.checks("line", done.results, done.floor, problem, done.plan)}
    assert checks["holdout ROC AUC"].passed == passes
    assert checks["holdout Brier score"].limit == "<= 0.9"


@pytest.mark.parametrize("name", [selection.NAIVE, *MODELS, selection.BLEND])
@pytest.mark.parametrize("task", TASKS)
def test_two_runs_give_the_same_file_which_predicts_the_same(project: Project, task: str, name: str) -> None:
    problem, frame = ONE[task], orders(task, 150)
    single = candidates(PARAMS, SCHEMA, problem)
    if name == selection.BLEND:
        single[name] = Blend([single["boosting"], single["line"]], [0.5, 0.5])
    files, place = [], project.folder / "model.skops"
    for _ in range(2):
        model = cross_validation.fit(single[name], frame, SCHEMA, problem)
        predicted = cross_validation.predict(model, frame, SCHEMA, problem)
        method = "isotonic" if name == "line" else "sigmoid"
        model = calibration.adjust(model, method, predicted, frame, 0.9, problem)
        model_file.dump(model, place)
        files.append(place.read_bytes())
    assert files[0] == files[1]
    one, other = (cross_validation.predict(each, frame, SCHEMA, problem) for each in (model, model_file.load(place)))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_saved_predicts_the_same_and_repeats(project: Project, task: str) -> None:
    problem, frame = ONE[task], orders(task, 300)
    online = project.folder / "data/online/online.json"
    artifacts.write_json({"features": [{"name": "amount", "kind": "numeric"}]}, online)
    write(frame, project)
    files = []
    for _ in range(2):
        done = run(frame, problem)
        target = done.holdout[problem.target].to_numpy()
        curves = evaluation.curves(target, done.predicted, done.holdout, done.model, problem, done.plan)
        description = stage.describe(done.name, done.method, done.results, {}, PARAMS, done.plan)
        stage.save(done.model, description, curves)
        artifacts.publish()
        files.append({**project.bytes("models"), **project.bytes("reports")})
    assert files[0] == files[1]
    loaded, description = stage.load()
    predicted = cross_validation.predict(loaded, done.holdout, FEW, problem)
    pd.testing.assert_frame_equal(predicted, done.predicted, check_exact=True)
    assert description["holdout"] == gate.tidy(done.results)
    assert description["split"] == {"by": "rows"}


def write(frame: pd.DataFrame, project: Project) -> None:
    artifacts.write_table(frame, project.folder / "data/features/period=all/part-0.parquet")


@pytest.mark.parametrize("task", TASKS)
def test_rows_of_known_outcome_and_time_are_read_in_their_parts(project: Project, task: str) -> None:
    problem, frame = statement(task), orders(task, 300)
    plan, unknown = agree(frame, problem), frame.tail(20).copy()
    unknown[problem.target] = np.nan
    write(pd.concat([frame, unknown, frame.head(20).assign(placed=pd.NaT)], ignore_index=True), project)
    parts, expected = stage.read(problem, plan), parted(frame, problem, plan)
    assert {name: len(rows) for name, rows in parts.items()} == {name: len(rows) for name, rows in expected.items()}
    assert parts["train"][problem.target].dtype == ("int64" if problem.is_class else "float64")
    open_parts, holdout = stage.read_locked(problem, plan)
    assert list(open_parts) == ["train", "validation"]
    assert len(holdout) == len(expected["holdout"])


def test_a_part_with_one_outcome_is_refused(project: Project) -> None:
    frame, problem = orders("binary", 300), ONE["binary"]
    plan = agree(frame, problem)
    part = part_of(frame, plan.split, problem)
    write(frame[(part != "validation") | (frame["returned"] == 0)], project)
    with pytest.raises(DataError, match=r"data/features: validation has \d+ rows and not two different outcomes"):
        stage.read(problem, plan)
