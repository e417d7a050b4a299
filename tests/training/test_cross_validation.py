"""Candidates are compared on rows that they have not seen: folds keep entities whole, classes in each, and follow time."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from sklearn.base import BaseEstimator
from sklearn.model_selection import cross_validate
from training_data import FEW, ONE, PARAMS, SPLITS, agree, folds_of, orders, parted

from ninefold.errors import DataError
from ninefold.features import FeatureSchema
from ninefold.metrics import COPIES, clusters, task_scores
from ninefold.problem import GUESSING, RANKING
from ninefold.training import Folds, candidates, cross_validation, learning_curve, selection, split

pytestmark = pytest.mark.usefixtures("project")
KNOWS = FeatureSchema(all=["id"], numeric=["id"])


class Recalls(BaseEstimator):
    """A model that knows the rows it was fitted on, by their number in the first column."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> "Recalls":
        self.classes_ = np.unique(y)
        self.rows_ = set(X["id"])
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = self.predict(X)
        return np.column_stack([1 - p, p] if len(self.classes_) == 2 else [1 - p, p / 2, p / 2])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.where(X["id"].isin(self.rows_), 0.99, 0.01)


@pytest.mark.parametrize("task", TASKS)
def test_an_entity_is_never_split_between_folds_and_every_row_is_in_one(task: str) -> None:
    problem, frame = statement(task, time=None, group=["customer"]), orders(task, 300)
    frame["customer"] = frame["customer"].where(frame["customer"] > 5)  # some have no name: they are one entity
    folds, names = cross_validation.at_random(frame, 2, 1, problem), frame["customer"].astype(str)
    assert not any(set(names.iloc[fold.fitted]) & set(names.iloc[fold.unseen]) for fold in folds)
    assert sorted(np.concatenate([fold.unseen for fold in folds])) == list(range(300))
    two = cross_validation.at_random(frame.assign(customer=np.arange(300) % 2), 5, 1, problem)
    assert [len(fold.unseen) for fold in two] == [150, 150]  # fewer entities than folds make fewer folds


@pytest.mark.parametrize("task", TASKS)
def test_copies_of_a_row_are_never_split_between_folds_or_parts(task: str) -> None:
    problem, frame = statement(task, time=None, key=["row"]), pd.concat([orders(task, 300)] * 3, ignore_index=True)
    frame["row"] = np.arange(900)
    plan = agree(frame.assign(**{COPIES: frame["id"]}), problem)  # as stage 04 reads them
    parts = split(frame, plan.split, problem)
    holdout = parts.pop("holdout")
    forecasts = Folds(parts, KNOWS, PARAMS, problem).validate({"mine": Recalls()})
    assert forecasts["mine"].iloc[:, 0].nunique() == 1
    assert not set(holdout["id"]) & {*parts["train"]["id"], *parts["validation"]["id"]}
    assert len(set(clusters(holdout, problem))) == holdout["id"].nunique(), "they count once in an interval"


@pytest.mark.parametrize("time", ["placed", None])
@pytest.mark.parametrize("task", TASKS)
def test_ranks_are_compared_within_a_fold(task: str, time: str | None) -> None:
    problem, frame = statement(task, time=time), orders(task, 900)
    plan, naive = agree(frame, problem), candidates(PARAMS, FEW, problem)[selection.NAIVE]
    parts = parted(frame, problem, plan)
    folds = Folds(parts, FEW, PARAMS, problem)
    compared = selection.compare(folds.unseen, folds.validate({selection.NAIVE: naive}), problem, plan)
    score = compared[RANKING[task]].item()
    assert score == pytest.approx(GUESSING[task], abs=1e-12), "no features rank no better than at random"


@pytest.mark.filterwarnings("error")
def test_a_rare_class_makes_fewer_folds_and_one_that_is_not_in_training_has_probability_zero() -> None:
    frame = orders("binary", 60).assign(returned=[1, 1, *[0] * 58])
    folds = cross_validation.at_random(frame, 5, 1, ONE["binary"])
    assert [frame["returned"].iloc[fold.unseen].sum() for fold in folds] == [1, 1]
    problem, frame = ONE["multiclass"], orders("multiclass", 60).assign(size=[2, *[1] * 20, *[0] * 39])
    for estimator in candidates(PARAMS, FEW, problem).values():
        model = cross_validation.fit(estimator, frame.tail(59), FEW, problem)
        assert (cross_validation.predict(model, frame, FEW, problem).iloc[:, -1] == 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_each_fold_is_predicted_from_rows_before_it_whose_outcomes_were_known(task: str) -> None:
    folds, _ = folds_of(orders(task, 900), statement(task, label_delay="46h"))
    assert folds.get_n_splits() == 2
    for fitted, unseen in folds.split(folds.rows):
        before, after = folds.rows["placed"].iloc[fitted], folds.rows["placed"].iloc[unseen]
        assert before.max() == after.min() - pd.Timedelta("2d")  # decided 2 hours before
        assert after.min() == after.min().normalize()
    assert not set(folds.pairs[0].unseen) & set(folds.pairs[1].unseen)


def test_a_fold_begins_with_a_local_day() -> None:
    frame = pd.DataFrame({"placed": pd.date_range("2020-03-01 05:00", periods=960, freq="h"), "returned": [0, 1] * 480})
    problem = statement(timezone="America/New_York")  # four hours behind UTC since 8 March
    first, _ = cross_validation.by_time(frame, 240, 2, problem)
    assert str(frame["placed"].iloc[first.unseen[0]]) == "2020-03-21 04:00:00"


def test_no_model_learns_an_outcome_that_is_not_known_when_the_next_part_begins() -> None:
    problem, frame = statement(label_delay="30d"), orders("binary", 900)
    frame["placed"] += 3 * (frame["placed"] - frame["placed"].min())  # over 400 days
    points = agree(frame, problem).split
    parts = split(frame, points, problem)
    final = Folds(parts, KNOWS, PARAMS, problem).rows
    newest = pd.Timestamp(points.holdout) - pd.Timedelta("30d 2h")
    assert set(final["id"]) == set(frame["id"][frame["placed"] <= newest])
    few = Folds(parts, KNOWS, PARAMS, problem.changed(label_delay="200d"))
    newest = parts["validation"]["placed"].min() - pd.Timedelta("200d 2h")
    assert few.rows["placed"].iloc[few.pairs[0].fitted].max() <= newest
    with pytest.raises(DataError, match=r"found 0 different outcomes .* problem.label_delay of 300d; expected two"):
        Folds(parts, KNOWS, PARAMS, problem.changed(label_delay="300d"))


@SPLITS
@pytest.mark.parametrize("task", TASKS)
def test_no_row_that_chooses_was_seen_by_the_model_that_predicts_it(task: str, changes: dict[str, Any]) -> None:
    problem, frame = statement(task, **changes), orders(task, 300)
    parts = parted(frame, problem, agree(frame, problem))
    folds = Folds(parts, KNOWS, PARAMS, problem)
    forecasts = folds.validate({"mine": Recalls()})
    assert forecasts["mine"].iloc[:, 0].nunique() == 1
    assert set(folds.rows["id"]) == {*parts["train"]["id"], *parts["validation"]["id"]}, "and no row of the holdout"
    recent, _ = folds.newest(forecasts["mine"])
    assert not problem.time or folds.unseen["placed"].is_monotonic_increasing
    assert sorted(recent["id"]) == sorted(parts["validation"]["id"] if problem.time else folds.rows["id"])


@pytest.mark.parametrize(("time", "folds", "most"), [("placed", 1, 20_000), (None, 1, 20_000), (None, 2, 100)])
def test_with_one_fold_or_many_rows_the_validation_part_chooses(
    monkeypatch: pytest.MonkeyPatch, time: str | None, folds: int, most: int
) -> None:
    monkeypatch.setattr(cross_validation, "MOST_FOLDED", most)
    frame, problem = orders("binary", 300), statement(time=time)
    parts, params = parted(frame, problem, agree(frame, problem)), PARAMS.model_copy(update={"folds": folds})
    assert sorted(Folds(parts, KNOWS, params, problem).unseen["id"]) == sorted(parts["validation"]["id"])


@pytest.mark.parametrize("task", TASKS)
def test_a_learning_curve_ends_with_the_score_of_all_rows(task: str) -> None:
    problem, frame = statement(task), orders(task, 900, signal=4.0)
    (folds, plan), estimator = folds_of(frame, problem), candidates(PARAMS, FEW, problem)["line"]
    forecast = folds.validate({"line": estimator})["line"]
    curve = learning_curve(estimator, forecast, folds, plan)
    assert curve["rows"].iloc[-1] == len(folds.pairs[-1].fitted)
    recent, predicted = folds.newest(forecast)
    score = task_scores(recent[problem.target].to_numpy(), predicted, problem)[plan.primary.name]
    assert curve["score"].iloc[-1] == pytest.approx(score)


@SPLITS
@pytest.mark.parametrize("task", TASKS)
def test_the_folds_are_a_cross_validator_of_scikit_learn(task: str, changes: dict[str, Any]) -> None:
    problem, frame = statement(task, **changes), orders(task, 300)
    folds, _ = folds_of(frame, problem)
    models, X, y = candidates(PARAMS, FEW, problem, folds), folds.rows[FEW.all], folds.rows[problem.target]
    found = cross_validate(models["boosting"], X, y, cv=folds, return_estimator=True, error_score="raise")
    predicted = folds.predictions(found["estimator"])
    pd.testing.assert_frame_equal(predicted, folds.validate(models)["boosting"], check_exact=True)
    assert len(folds.unseen) == len(predicted)
    with pytest.raises(DataError, match=r"cv: found 10 rows to split, expected the \d+ of its rows"):
        cross_validate(models["boosting"], X[:10], y[:10], cv=folds)


def test_boosting_does_not_stop_early_where_a_class_is_too_rare_to_validate_on() -> None:
    stops = PARAMS.candidates["boosting"].model_copy(update={"early_stopping": True})
    params, frame = PARAMS.model_copy(update={"candidates": {"boosting": stops}}), orders("binary", 600)
    rare = frame.assign(returned=(np.arange(600) % 20 == 0).astype("int64"))
    for rows, stopping in ((frame, True), (rare, False)):
        folds, _ = folds_of(rows, ONE["binary"], params)
        boosting = candidates(params, FEW, ONE["binary"], folds)["boosting"]
        assert boosting[-1].early_stopping == stopping
