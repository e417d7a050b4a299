"""Candidates are compared on rows that they have not seen, each prediction beside its own row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from sklearn.base import BaseEstimator
from training_data import FEW, ONE, PARAMS, agree, orders, parted, task_of

from ninefold.features import FeatureSchema
from ninefold.metrics import task_scores
from ninefold.problem import RANKING
from ninefold.training import candidates, validation

KNOWS = FeatureSchema(all=["id"], numeric=["id"])


class Recalls(BaseEstimator):
    """A model that knows the rows it was fitted on, by their number in the first column."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Recalls:
        self.classes_ = np.unique(y)
        self.rows_ = set(X["id"])
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = self.predict(X)
        return np.column_stack([1 - p, p] if len(self.classes_) == 2 else [1 - p, p / 2, p / 2])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.where(X["id"].isin(self.rows_), 0.99, 0.01)


@pytest.mark.parametrize(
    "changes", [{}, {"time": None}, {"time": None, "group": ["customer"]}], ids=["time", "rows", "group"]
)
@pytest.mark.parametrize("task", TASKS)
def test_no_row_that_chooses_was_seen_by_the_model_that_predicts_it(task: str, changes: dict[str, Any]) -> None:
    problem, frame = statement(task, **changes), orders(task, 300)
    parts = parted(frame, problem, agree(frame, problem))
    rows, forecasts = validation.validate({"mine": Recalls()}, parts, KNOWS, PARAMS, problem)
    assert forecasts["mine"].iloc[:, 0].nunique() == 1
    final = validation.finish(Recalls(), parts, KNOWS, problem)
    assert final.rows_ == {*parts["train"]["id"], *parts["validation"]["id"]}  # both, and no row of the holdout
    recent, predicted = validation.newest(rows, forecasts["mine"], problem)
    assert len(predicted) == len(recent)
    if problem.time:
        assert rows["placed"].is_monotonic_increasing
        assert sorted(recent["id"]) == sorted(parts["validation"]["id"])
    else:
        assert sorted(recent["id"]) == sorted(final.rows_)


@pytest.mark.parametrize("task", TASKS)
def test_each_prediction_is_beside_its_own_row_in_random_order(project: Project, task: str) -> None:
    problem, frame = ONE[task], orders(task, 300, signal=9.0)
    parts = parted(frame, problem, agree(frame, problem))
    rows, forecasts = validation.validate(candidates(PARAMS, FEW, problem), parts, FEW, PARAMS, problem)
    known = rows["amount"].notna()
    scores = task_scores(rows[problem.target].to_numpy()[known], forecasts["line"][known], problem)
    assert scores[RANKING[task]] > 0.9
    assert rows["id"].tolist() != sorted(rows["id"])  # so that its halves are alike
    assert {len(forecast) for forecast in forecasts.values()} == {len(rows)}


@pytest.mark.parametrize("case", ["one fold", "one fold of time", "many rows"])
def test_with_one_fold_or_many_rows_the_validation_part_chooses(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    problem = statement() if case == "one fold of time" else ONE["binary"]
    params = PARAMS if case == "many rows" else PARAMS.model_copy(update={"folds": 1})
    monkeypatch.setattr(validation, "MOST_FOLDED", 100 if case == "many rows" else 20_000)
    frame = orders("binary", 300)
    parts = parted(frame, problem, agree(frame, problem))
    rows, _ = validation.validate({"mine": Recalls()}, parts, KNOWS, params, problem)
    assert sorted(rows["id"]) == sorted(parts["validation"]["id"])
    assert (rows["id"].tolist() == sorted(rows["id"])) == (case == "one fold of time")


def test_the_last_fold_stays_even_if_nothing_can_be_learned_before_it() -> None:
    problem, frame = statement(), orders("binary", 300)
    parts = parted(frame, problem, agree(frame, problem))
    parts["train"]["returned"] = 0
    assert len(validation.folded(parts, FEW, PARAMS, problem)[1]) == 1


@pytest.mark.parametrize("task", TASKS)
def test_a_learning_curve_ends_with_the_score_of_all_rows(project: Project, task: str) -> None:
    problem, frame = statement(task), orders(task, 900, signal=4.0)
    whole = task_of(frame, problem)
    estimator = {"line": candidates(PARAMS, FEW, problem)["line"]}
    rows, forecasts = validation.validate(estimator, parted(frame, problem, whole.plan), FEW, PARAMS, problem)
    curve = validation.learning_curve(estimator["line"], rows, forecasts["line"], whole)
    assert curve["rows"].is_monotonic_increasing
    assert curve["rows"].iloc[-1] == len(whole.folds[-1].fitted)
    target = rows[problem.target].to_numpy()
    last = (rows["@fold"] == rows["@fold"].max()).to_numpy()
    score = task_scores(target[last], forecasts["line"][last], problem)[whole.plan.primary.name]
    assert curve["score"].iloc[-1] == pytest.approx(score)
