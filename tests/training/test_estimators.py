"""Parts of dates, words, and weighted means of models."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from ninefold.training import Blend, DateParts, Words

TIMES = pd.Series(pd.to_datetime(["1970-01-01", "2020-02-29 07:20", None, "1969-12-31 23:00"], format="ISO8601"))
DAYS = ((TIMES - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_frame("day")
PARTS = [[0, 1, 1, 3, 0], [18321 + 7 / 24 + 20 / 1440, 2, 29, 5, 7 + 1 / 3], [np.nan] * 5, [-1 / 24, 12, 31, 2, 23]]


def test_days_and_timestamps_of_any_unit_become_the_parts_of_the_calendar() -> None:
    result = DateParts().fit_transform(DAYS)
    np.testing.assert_allclose(result, PARTS, atol=0.02)
    for unit in ("s", "us", "ns"):
        times = TIMES.astype(f"datetime64[{unit}]").to_frame("day")
        np.testing.assert_array_equal(result, DateParts().fit_transform(times))
    beyond = DateParts().fit_transform(pd.DataFrame({"day": [1e9]}))  # the calendar of pandas
    np.testing.assert_array_equal(beyond, [[1e9, *[np.nan] * 4]])


def test_the_calendar_is_local_but_a_date_without_hours_is_the_same_everywhere() -> None:
    times = [["2013-07-01 02:00", "1990-05-01"], ["2013-11-03 05:00", None], ["2013-11-03 06:00", "1990-05-03"]]
    frame = pd.DataFrame(times, columns=["placed", "born"]).apply(pd.to_datetime)
    result = DateParts(trend=False, timezone="America/New_York").fit_transform(frame).reshape(3, 2, 4)
    assert result[:, 0].tolist() == [[6, 30, 6, 22], [11, 3, 6, 1], [11, 3, 6, 1]], "1:00 comes twice"
    np.testing.assert_array_equal(result[:, 1], [[5, 1, 1, 0], [np.nan] * 4, [5, 3, 3, 0]])


@pytest.mark.parametrize("kind", ["str", object])
@pytest.mark.parametrize("parts", [None, 3])
def test_rare_words_weigh_more_and_missing_texts_have_none(parts: int | None, kind: type | str) -> None:
    column = pd.Series(["red car", "red bike", "red car", None, "Café car", "the red car"] * 3, dtype=kind)
    words = Words(parts).fit(column)
    result = words.transform(pd.Series(["red", None, "never seen", "CAFE"], dtype=kind))
    norms = np.linalg.norm(result if parts else result.toarray(), axis=1)
    assert (norms > 0).tolist() == [True, False, False, True]
    assert result.shape[1] == (parts or 9)
    rarity = dict(zip(words.words_.split("\n"), words.weigh_.idf_, strict=True))
    assert rarity["red"] < rarity["red car"] < rarity["bike"]


def test_a_blend_predicts_the_weighted_mean() -> None:
    rows = pd.DataFrame({"x": np.random.default_rng(1).normal(size=200)})
    target = (rows["x"] > 0).astype(int)
    models = [LogisticRegression().fit(rows, target), DummyClassifier(strategy="prior").fit(rows, target)]
    mean = 0.75 * models[0].predict_proba(rows) + 0.25 * models[1].predict_proba(rows)
    blend = Blend(models, [0.75, 0.25])
    np.testing.assert_allclose(blend.predict_proba(rows), mean)
    assert (blend.predict(rows) == mean.argmax(axis=1)).all()
    lines = [LinearRegression().fit(rows, target), LinearRegression().fit(rows, 2 * target)]
    np.testing.assert_allclose(Blend(lines, [0.5, 0.5]).predict(rows), 1.5 * lines[0].predict(rows))
