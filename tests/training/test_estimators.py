"""Parts of dates, words, and weighted means of models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from ninefold.training import Blend, DateParts, EmptyAsZero, Words

TIMES = pd.Series(pd.to_datetime(["1970-01-01", "2020-02-29 07:20", None, "1969-12-31 23:00"], format="ISO8601"))
DAYS = ((TIMES - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_frame("day")
PARTS = [[0, 1, 1, 3, 0], [18321 + 7 / 24 + 20 / 1440, 2, 29, 5, 7 + 1 / 3], [np.nan] * 5, [-1 / 24, 12, 31, 2, 23]]


def test_days_and_timestamps_of_any_unit_become_the_parts_of_the_calendar() -> None:
    result = DateParts().fit_transform(DAYS)
    np.testing.assert_allclose(result, PARTS, atol=0.02)
    for unit in ("s", "us", "ns"):
        times = TIMES.astype(f"datetime64[{unit}]").to_frame("day")
        np.testing.assert_array_equal(result, DateParts().fit_transform(times))
    beyond = DateParts().fit_transform(pd.DataFrame({"day": [1e9, -1e9]}))  # the calendar of pandas
    assert beyond[:, 0].tolist() == [1e9, -1e9]
    assert np.isnan(beyond[:, 1:]).all()


def test_only_columns_without_any_value_become_zero() -> None:
    rows = np.array([[1.0, np.nan, np.nan], [np.nan, np.nan, 2.0]])
    result = EmptyAsZero().fit(rows).transform(np.array([[np.nan, 7.0, np.nan]]))
    np.testing.assert_array_equal(result, [[np.nan, 0.0, np.nan]])


@pytest.mark.parametrize("kind", ["str", object])
@pytest.mark.parametrize("parts", [None, 3])
def test_rare_words_weigh_more_and_missing_texts_have_none(parts: int | None, kind: type | str) -> None:
    column = pd.Series(["red car", "red bike", "red car", None, "Café car", "the red car"] * 3, dtype=kind)
    result = Words(parts).fit(column).transform(pd.Series(["red", None, "never seen", "CAFE"], dtype=kind))
    result = result if parts else result.toarray()
    assert result.shape[1] == (parts or 9)
    norms = np.linalg.norm(result, axis=1)
    assert norms[1:3].tolist() == [0, 0]
    assert norms[0] > 0
    words = Words().fit(column)
    rarity = dict(zip(words.words_.split("\n"), words.weigh_.idf_, strict=True))
    assert rarity["red"] < rarity["bike"]
    assert "red car" in rarity


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [None, "", "!?", "one", "one two three"])
@pytest.mark.parametrize("parts", [None, 30])
def test_texts_that_say_nothing_are_accepted(parts: int | None, text: str | None) -> None:
    result = Words(parts).fit_transform(pd.Series([text] * 5))
    assert result.shape[0] == 5
    assert result.shape[1] >= 1
    assert np.isfinite(result if parts else result.toarray()).all()
    rare = pd.Series([f"word{number}" for number in range(5)])
    assert not np.any(Words().fit_transform(rare).toarray())


def test_a_blend_predicts_the_weighted_mean() -> None:
    rows = pd.DataFrame({"x": np.random.default_rng(1).normal(size=200)})
    target = (rows["x"] > 0).astype(int)
    models = [LogisticRegression().fit(rows, target), DummyClassifier(strategy="prior").fit(rows, target)]
    mean = 0.75 * models[0].predict_proba(rows) + 0.25 * models[1].predict_proba(rows)
    blend = Blend(models, [0.75, 0.25])
    np.testing.assert_allclose(blend.predict_proba(rows), mean)
    assert (blend.predict(rows) == mean.argmax(axis=1)).all()
    assert blend.classes_.tolist() == [0, 1]
    lines = [LinearRegression().fit(rows, target), LinearRegression().fit(rows, 2 * target)]
    np.testing.assert_allclose(Blend(lines, [0.5, 0.5]).predict(rows), 1.5 * lines[0].predict(rows))
