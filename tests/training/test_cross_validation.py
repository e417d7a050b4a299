"""Folds keep entities whole and classes in each, and follow time where there is time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from training_data import FEW, ONE, PARAMS, orders, task_of

from ninefold.training import candidates, cross_validation


@pytest.mark.parametrize("task", TASKS)
def test_an_entity_is_never_split_between_folds_and_every_row_is_in_one(task: str) -> None:
    problem, frame = statement(task, time=None, group=["customer"]), orders(task, 300)
    frame["customer"] = frame["customer"].where(frame["customer"] > 5)  # some have no name: they are one entity
    folds = cross_validation.at_random(frame, 2, 1, problem)
    assert len(folds) == 2
    names = frame["customer"].astype(str)
    for fold in folds:
        assert not set(names.iloc[fold.fitted]) & set(names.iloc[fold.unseen])
    assert sorted(np.concatenate([fold.unseen for fold in folds])) == list(range(300))
    two = cross_validation.at_random(frame.assign(customer=np.arange(300) % 2), 5, 1, problem)
    assert [len(fold.unseen) for fold in two] == [150, 150]  # fewer entities than folds make fewer folds


@pytest.mark.filterwarnings("error")
def test_a_rare_class_makes_fewer_folds_and_is_in_each() -> None:
    frame = orders("binary", 60).assign(returned=[1, 1, *[0] * 58])
    folds = cross_validation.at_random(frame, 5, 1, ONE["binary"])
    assert [frame["returned"].iloc[fold.unseen].sum() for fold in folds] == [1, 1]


def test_a_class_that_is_not_in_training_has_probability_zero() -> None:
    problem, frame = ONE["multiclass"], orders("multiclass", 60)
    frame["size"] = [2, *[1] * 20, *[0] * 39]
    for estimator in candidates(PARAMS, FEW, problem).values():
        model = cross_validation.fit(estimator, frame.tail(59), FEW, problem)
        assert (cross_validation.predict(model, frame, FEW, problem).iloc[:, -1] == 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_each_fold_is_predicted_from_rows_before_it_whose_outcomes_were_known(task: str) -> None:
    params = PARAMS.model_copy(update={"gap": "2d"})
    whole = task_of(orders(task, 900), statement(task), params)
    assert len(whole.folds) == 2
    for fold in whole.folds:
        before, after = whole.rows["placed"].iloc[fold.fitted], whole.rows["placed"].iloc[fold.unseen]
        assert before.max() < after.min() - pd.Timedelta("2d")
        assert after.min() == after.min().normalize()
    assert not set(whole.folds[0].unseen) & set(whole.folds[1].unseen)


def test_a_fold_with_too_little_before_it_is_left_out() -> None:
    frame = orders("binary", 300)
    folds = task_of(frame, statement(), PARAMS.model_copy(update={"folds": 20})).folds
    assert 1 < len(folds) < 5
    assert all(len(fold.fitted) >= len(fold.unseen) for fold in folds)
