"""Calibration corrects distorted probabilities, and leaves right ones alone."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from training_data import ONE

from ninefold.features import FeatureSchema
from ninefold.problem import decisions
from ninefold.training import Calibrated, Calibrator, calibration, cross_validation


def distorted(rows: int, classes: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities that are overconfident and shifted to the last class, true ones, and outcomes."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(classes, 1.5), rows)
    target = (random.random((rows, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    p = true**2.5 * np.linspace(1, 3, classes)
    return p / p.sum(axis=1, keepdims=True), true, target


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_calibration_corrects_a_distorted_prediction_and_hardly_changes_a_right_one(classes: int, method: str) -> None:
    p, true, target = distorted(4000, classes)
    later, best, outcome = distorted(4000, classes, seed=2)
    corrected = Calibrated(None, method).fit_map(p, target).adjust(later)
    raw, loss, least = (log_loss(outcome, each) for each in (later, corrected, best))
    assert loss - least < 0.25 * (raw - least)
    assert (corrected > 0).all()
    np.testing.assert_allclose(corrected.sum(axis=1), 1)
    np.testing.assert_allclose(corrected.mean(axis=0), np.bincount(outcome) / len(outcome), atol=0.03)
    same = Calibrated(None, method).fit_map(true, target).adjust(best)
    assert log_loss(outcome, same) < least + 0.02
    target = np.arange(90) % classes  # predictions that were certain, and right
    p = Calibrated(None, method).fit_map(np.eye(classes)[target], target).adjust(np.eye(classes)[target])
    assert ((p > 0) & (p < 1)).all()
    assert (p.argmax(axis=1) == target).all()


def test_a_class_that_is_not_among_the_outcomes_stays_possible() -> None:
    p, _, target = distorted(500, 3)
    calibrated = Calibrated(None, "sigmoid").fit_map(p[target != 1], target[target != 1]).adjust(p)
    assert (calibrated[:, 1] > 0).all()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_model_that_never_saw_a_declared_class_predicts_it_as_hardly_possible(method: str) -> None:
    problem, random = ONE["multiclass"], np.random.default_rng(0)
    X = pd.DataFrame({"x": random.normal(size=400)})
    target = 2 * (X["x"] + random.logistic(size=400) > 0).astype("int64")  # never the class in the middle
    model = LogisticRegression().fit(X, target)
    p = np.zeros((400, 3))
    p[:, [0, 2]] = model.predict_proba(X)
    calibrated = Calibrated(model, method).fit_map(p, target.to_numpy())
    found = calibrated.predict_proba(X)
    np.testing.assert_array_equal(found, calibrated.adjust(p))
    as_compiled = calibrated.adjust(model.predict_proba(X))  # as the compiled predictor calls it
    np.testing.assert_array_equal(found, as_compiled)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert 0 < found[:, 1].min() <= found[:, 1].max() < 0.01
    assert set(calibrated.predict(X)) == {0, 2}
    schema = FeatureSchema(all=["x"], numeric=["x"])
    answers = cross_validation.predict(calibrated, X, schema, problem)
    np.testing.assert_array_equal(answers.to_numpy(), found)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibration_is_chosen_where_predictions_are_distorted_and_only_there(task: str) -> None:
    problem, names = ONE[task], decisions.forecast_columns(ONE[task])
    p, true, target = distorted(6000, len(problem.classes))
    wrong, right = (pd.DataFrame(each[:, -len(names) :], columns=names) for each in (p, true))
    distort, correct = (Calibrator(each, pd.DataFrame({problem.target: target}), problem) for each in (wrong, right))
    table = distort.compare()
    corrected = table.set_index("calibration").loc[distort.choose(table, "auto")]
    assert corrected["log_loss"] < table["log_loss"][0] - 0.05
    assert abs(corrected["mean"] - corrected["observed"]) < 0.02
    assert correct.choose(correct.compare(), "auto") == "none"


def test_the_calibration_that_params_name_is_used_and_auto_needs_rows_of_both_classes() -> None:
    table = pd.DataFrame({"calibration": list(calibration.METHODS), "log_loss": [0.1, 0.5, 0.05]})
    rows = pd.DataFrame({"returned": [0, 1] * 400})
    few = Calibrator(pd.DataFrame(), rows, ONE["binary"])
    assert few.choose(table, "sigmoid") == "sigmoid"
    assert few.choose(table, "auto") == "none"  # too few rows for isotonic
    assert few._replace(rows=pd.concat([rows] * 2)).choose(table, "auto") == "isotonic"
    assert few._replace(problem=ONE["regression"]).choose(table, "auto") == "conformal"
    rows = pd.DataFrame({"returned": [0] * 30 + [0, 1] * 15})
    one = Calibrator(pd.DataFrame({"probability": np.linspace(0.1, 0.9, 60)}), rows, ONE["binary"])
    assert one.compare()["log_loss"].nunique() == 1  # from a half of one outcome nothing can be learned
    assert one.choose(one.compare(), "auto") == "none"
