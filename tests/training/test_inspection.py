"""What a finished model relies on, and in which groups it ranks worst."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project
from training_data import FEW, ONE, PARAMS, SCHEMA, orders

from ninefold.features import FeatureSchema
from ninefold.problem import decisions
from ninefold.training import candidates, cross_validation, inspection


@pytest.mark.parametrize("task", TASKS)
def test_the_feature_that_predicts_is_the_most_important_and_explains_extreme_predictions(
    project: Project, task: str
) -> None:
    problem, frame = ONE[task], orders(task, 300, signal=4.0)
    model = cross_validation.fit(candidates(PARAMS, SCHEMA, problem)["boosting"], frame, SCHEMA, problem)
    table = inspection.importance(model, frame, SCHEMA, problem, PARAMS)
    assert table.loc[0, "feature"] == "amount"
    assert set(table["feature"]) == set(SCHEMA.all)
    predicted = cross_validation.predict(model, frame, SCHEMA, problem)
    rows = inspection.extremes(frame, predicted, problem)
    expected = decisions.expected(cross_validation.predict(model, rows, SCHEMA, problem), problem)
    assert expected[0] == decisions.expected(predicted, problem).min()
    assert expected[2] == decisions.expected(predicted, problem).max()
    added = inspection.explained(model, rows, frame, SCHEMA, PARAMS, problem)
    total = added.groupby("row")["contribution"].sum() + added["base"].iloc[0]
    assert total.to_numpy() == pytest.approx(expected)


def test_groups_are_the_values_of_a_category_or_the_quarters_of_a_number() -> None:
    frame, problem = orders("binary", 600), ONE["binary"]
    predicted = pd.DataFrame({"probability": np.random.default_rng(1).random(600)})
    assert inspection.by_group(frame, predicted, FEW, problem)["group"].str.startswith("shop: ").all()
    number = FeatureSchema(all=["amount"], numeric=["amount"])
    quarters = inspection.by_group(frame, predicted, number, problem)
    names = ("highest quarter", "lowest quarter", "second", "third")
    assert sorted(quarters["group"]) == [f"amount: {name}" for name in names]
    assert quarters["rows"].sum() == frame["amount"].notna().sum()
    assert inspection.by_group(frame.assign(amount=np.nan), predicted, number, problem).empty
