"""The models that params can name take columns of every kind, messy ones too."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project
from pydantic import ValidationError
from sklearn.dummy import DummyRegressor
from training_data import FEW, MODELS, ONE, PARAMS, SCHEMA, orders

from ninefold.errors import ParamsError
from ninefold.features import FeatureSchema
from ninefold.metrics import task_scores
from ninefold.problem import decisions
from ninefold.training import candidates, cross_validation, models, selection

pytestmark = pytest.mark.usefixtures("project")


def fitted(name: str, frame: pd.DataFrame, task: str, schema: FeatureSchema = SCHEMA) -> Any:
    return cross_validation.fit(candidates(PARAMS, schema, ONE[task])[name], frame, schema, ONE[task])


def predicted(name: str, frame: pd.DataFrame, task: str, schema: FeatureSchema = SCHEMA) -> pd.DataFrame:
    return cross_validation.predict(fitted(name, frame, task, schema), frame, schema, ONE[task])


@pytest.mark.parametrize("name", [selection.NAIVE, *MODELS])
@pytest.mark.parametrize("task", TASKS)
def test_every_candidate_predicts_messy_rows(task: str, name: str) -> None:
    problem, frame = ONE[task], orders(task, 300)
    frame.loc[:150, "amount"] = np.nan
    strange = frame.head(4).assign(amount=[np.nan, 1e12, -1e12, 0], shop=["never seen", None, "a", ""], street=None)
    strange = strange.assign(note=[None, "", "ünï 漢字", "!"], signup=[np.nan, 1e9, -5, 18_000])
    model = fitted(name, frame, task)
    for rows in (frame, strange):
        result = cross_validation.predict(model, rows, SCHEMA, problem)
        assert (list(result), len(result)) == (decisions.forecast_columns(problem), len(rows))
        assert np.isfinite(result.to_numpy()).all()
        if problem.is_class:
            p = decisions.probabilities(result, problem)
            assert ((p >= 0) & (p <= 1)).all()
            np.testing.assert_allclose(p.sum(axis=1), 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("column", [
    {"amount": np.nan, "signup": np.nan},
    {"amount": 1.0, "signup": 18_000.0},
    {"shop": None, "street": None, "note": None},
    {"shop": "a", "street": "b", "note": "the same words"},
    {"note": [f"word{number}" for number in range(120)]},
    {"note": "!?"},
])  # fmt: skip
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_column_without_values_or_with_a_single_one_is_accepted(task: str, column: dict[str, Any]) -> None:
    frame = orders(task, 120).assign(**column).astype(dict.fromkeys(["shop", "street", "note"], "str"))
    for name in MODELS:
        assert np.isfinite(predicted(name, frame, task).to_numpy()).all(), name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("task", TASKS)
def test_one_kind_of_features_is_enough(task: str, name: str) -> None:
    kinds = ("numeric", "categorical", "text", "dates")
    for feature, kind in zip(("amount", "street", "note", "signup"), kinds, strict=True):
        schema = FeatureSchema(all=[feature], **{kind: [feature]})
        assert np.isfinite(predicted(name, orders(task, 150), task, schema).to_numpy()).all(), feature


@pytest.mark.parametrize("name", MODELS)
def test_words_predict_what_nothing_else_does(name: str) -> None:
    frame, schema = orders("binary", 400, signal=0.0), FeatureSchema(all=["note"], text=["note"])
    frame["returned"] = frame["note"].str.contains("red", na=False).astype("int64")
    model, later = fitted(name, frame.head(250), "binary", schema), frame.tail(150)
    result = cross_validation.predict(model, later, schema, ONE["binary"])
    assert task_scores(later["returned"].to_numpy(), result, ONE["binary"])["roc_auc"] > 0.95


def test_the_projects_own_candidates_are_added_to_those_of_params(project: Project) -> None:
    own = models.linear({"C": 0.01, "rare": 2}, 1, FEW, ONE["regression"])
    project.functions["training", "candidates"] = lambda *_: {"mine": own, "line": DummyRegressor()}
    estimators = candidates(PARAMS, FEW, ONE["regression"])
    assert list(estimators) == [selection.NAIVE, *MODELS, "mine"]
    assert isinstance(estimators["line"], DummyRegressor)


@pytest.mark.parametrize("model", models.OPTIONS)
def test_an_option_of_another_model_is_refused(model: str) -> None:
    foreign: dict[str, Any] = {"max_iter": 5} if model == "linear" else {"C": 1.0}
    with pytest.raises(ValidationError, match=f"options of {model}: .*; found {next(iter(foreign))}"):
        models.Candidate(model=model, **foreign)
    assert models.Candidate(model=model).options() == models.OPTIONS[model]


def test_a_model_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ParamsError, match="run `make setup`, or name"):
        candidates(PARAMS, FEW, ONE["binary"])
