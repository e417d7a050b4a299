"""Contributions sum to the prediction, treat equal features alike, and are exact where the exact value is known."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from odd_names import sound
from training_data import ONE, PARAMS, SCHEMA, folds_of, orders

from ninefold import training
from ninefold.errors import DataError
from ninefold.problem import decisions
from ninefold.training import cross_validation, sentences
from ninefold.training.explanation import as_text, explain
from project.figures import training as figures

NAMES = ["a", "b", "c", "d"]
Predict = Callable[[pd.DataFrame], np.ndarray]


def numbers(count: int, seed: int = 1) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(count, len(NAMES))), columns=NAMES)


def tangled(frame: pd.DataFrame) -> np.ndarray:
    """Three features interact, so that the order in which they become known matters."""
    a, b, c, d = (frame[name].to_numpy() for name in NAMES)
    return 10 + a * b * c + 2 * np.maximum(a, d) + b


def paired(frame: pd.DataFrame) -> np.ndarray:
    return (frame["a"] * frame["b"] + np.maximum(frame["c"], frame["d"])).to_numpy()


def exact(predict: Predict, row: pd.DataFrame, background: pd.DataFrame) -> np.ndarray:
    """Return Shapley values by their definition, over all orders."""
    values = dict.fromkeys(NAMES, 0.0)
    for order in permutations(NAMES):
        known = background
        for name in order:
            more = known.assign(**{name: row[name].iloc[0]})
            values[name] += (predict(more).mean() - predict(known).mean()) / 24
            known = more
    return np.array([*values.values()])


def adds_up(table: pd.DataFrame, predictions: np.ndarray) -> bool:
    summed = table.groupby("row")["contribution"].sum() + table["base"].iloc[0]
    return bool(np.abs(summed.to_numpy() - predictions).max() < 1e-9)


@pytest.mark.parametrize(("predict", "error"), [(tangled, 0.2), (paired, 0.0)])
def test_contributions_are_the_shapley_values_and_exact_where_features_interact_in_pairs_at_most(
    predict: Predict, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ninefold.training.explanation.PERMUTATIONS", 300 if predict is tangled else 4)
    row, background = numbers(1), numbers(10, seed=2)
    table = explain(predict, row, background, seed=0)
    assert table["base"].to_numpy() == pytest.approx(predict(background).mean(), abs=1e-12)
    assert adds_up(table, predict(row))
    off = np.abs(table["contribution"] - exact(predict, row, background))
    assert (off < np.minimum(4 * table["standard_error"], error) + 1e-9).all()


def test_what_the_model_does_not_use_or_all_rows_share_contributes_exactly_nothing() -> None:
    table = explain(lambda frame: tangled(frame.assign(d=0.0)), numbers(3), numbers(20, seed=2), seed=0)
    assert table.loc[table["feature"] == "d", ["contribution", "standard_error"]].eq(0).all(axis=None)
    table = explain(tangled, numbers(1).assign(b=3.0), numbers(20, seed=2).assign(b=3.0), seed=0)
    assert table["contribution"].eq(0).tolist() == [False, True, False, False]
    single = explain(lambda frame: frame["a"].to_numpy() ** 2, numbers(2)[["a"]], numbers(10, seed=2)[["a"]], seed=0)
    assert adds_up(single, numbers(2)["a"].to_numpy() ** 2)


def test_a_table_depends_on_the_seed_and_neither_on_other_rows_nor_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, background = numbers(3), numbers(20, seed=2)
    table = explain(tangled, rows, background, seed=5)
    assert not table.equals(explain(tangled, rows, background, seed=6))
    alone = explain(tangled, rows.iloc[[2]], background, seed=5)
    pd.testing.assert_frame_equal(alone.assign(row=2), table[table["row"] == 2].reset_index(drop=True))
    monkeypatch.setattr("ninefold.training.explanation.MOST_CELLS", 1000)
    pd.testing.assert_frame_equal(table, explain(tangled, rows, background, seed=5))


@pytest.mark.parametrize(("value", "date", "text"), [
    (2013.0, False, "2013"), (0.123456, False, "0.123"), (12345.678, False, "12,346"), (True, False, "True"),
    ("say $5", False, "say $5"), (pd.NaT, False, "missing"), (np.nan, True, "missing"),
    (18262.0, True, "2020-01-01"), (18262.5, True, "2020-01-01 12:00:00"), (float("inf"), False, "inf"),
])  # fmt: skip
def test_values_are_shown_as_one_reads_them(value: Any, date: bool, text: str) -> None:
    assert as_text(value, date) == text


def test_a_prediction_that_is_no_number_is_named() -> None:
    with pytest.raises(DataError, match=r"predict: found .* of which 0 are finite; expected 20 finite"):
        explain(lambda frame: np.full(len(frame), np.nan), numbers(20), numbers(20), seed=0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("features", "last"), [(3, r"\$0\$ {x = \$v\$ | `w`"), (9, "other features: 3")])
def test_the_six_largest_contributions_and_the_sum_of_the_others_are_shown(task: str, features: int, last: str) -> None:
    problem = statement(task, payoff_unit="$ $", unit="$order$")
    change, titles = 0.01 * np.arange(features) * (-1.0) ** np.arange(features), ["the 1st", "$5 of $6"]
    one = pd.DataFrame({"feature": [f"${number}$ {{x" for number in range(features)], "contribution": change})
    one = one.assign(value="$v$ | `w`", standard_error=0.001, base=0.5)
    table = pd.concat([one.assign(row=0), one.assign(row=1)], ignore_index=True)
    figure = figures.plot_contributions(table, titles, problem)
    figure.canvas.draw()
    _, axes = figure.axes
    lengths = [bar.get_width() for bar in axes.patches]
    assert np.abs(lengths[:6]) == pytest.approx(np.sort(np.abs(change))[::-1][:6])
    assert sum(lengths) == pytest.approx(change.sum())
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert (labels[0], *labels[-2:]) == (rf"\${features - 1}\$ {{x = \$v\$ | `w`", last, "prediction")
    sentence = sentences.describe_contributions(table, titles, problem)
    sound(sentence)
    shown = f"({change[-1]:+.4g})" if task == "regression" else f"({100 * change[-1]:+.1f} points)"
    assert all(words in sentence for words in ("the 1st", "average", shown))


@pytest.mark.parametrize("task", TASKS)
def test_the_feature_that_predicts_is_the_most_important_and_explains_extremes(project: Project, task: str) -> None:
    problem, frame = ONE[task], orders(task, 300, signal=4.0)
    model = cross_validation.fit(training.candidates(PARAMS, SCHEMA, problem)["boosting"], frame, SCHEMA, problem)
    folds, _ = folds_of(frame, problem, schema=SCHEMA)
    table = training.importance(model, frame, folds)
    assert table.loc[0, "feature"] == "amount"
    expected = decisions.expected(cross_validation.predict(model, frame.head(3), SCHEMA, problem), problem)
    added = training.explained(model, frame.head(3), folds)
    assert adds_up(added, expected)
