"""The few estimators of our own: dates as numbers, forecasts set right, intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss

from ninefold.core.estimators import Blend, Calibrated, DateParts, EmptyAsZero, WithInterval, Words

MOMENTS = pd.Series(pd.to_datetime(["1970-01-01", "2020-02-29 07:20", None, "1969-12-31 23:00"], format="ISO8601"))
PARTS = [[0, 1, 1, 3, 0], [18321 + 7 / 24 + 20 / 1440, 2, 29, 5, 7 + 1 / 3], [np.nan] * 5, [-1 / 24, 12, 31, 2, 23]]


def distorted(rows: int, classes: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities that are too sure of themselves and shifted to the last class, true ones, and outcomes."""
    random = np.random.default_rng(seed)
    true = random.dirichlet(np.full(classes, 1.5), rows)
    target = (random.random((rows, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    said = true**2.5 * np.linspace(1, 3, classes)
    return said / said.sum(axis=1, keepdims=True), true, target


def test_days_become_the_parts_of_the_calendar() -> None:
    days = (MOMENTS - pd.Timestamp(0)) / pd.Timedelta(days=1)
    found = DateParts().fit_transform(days.to_frame("day"))
    np.testing.assert_allclose(found, PARTS, atol=0.02)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_moments_and_their_days_are_the_same_dates(unit: str) -> None:
    days = ((MOMENTS - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_frame("day")
    found = DateParts().fit_transform(MOMENTS.astype(f"datetime64[{unit}]").to_frame("day"))
    np.testing.assert_array_equal(found, DateParts().fit_transform(days))


def test_a_date_beyond_the_calendar_keeps_its_number_and_has_no_parts() -> None:
    found = DateParts().fit_transform(pd.DataFrame({"day": [1e9, -1e9]}))
    assert found[:, 0].tolist() == [1e9, -1e9]
    assert np.isnan(found[:, 1:]).all()


def test_only_columns_without_any_value_become_zero() -> None:
    rows = np.array([[1.0, np.nan, np.nan], [np.nan, np.nan, 2.0]])
    found = EmptyAsZero().fit(rows).transform(np.array([[np.nan, 7.0, np.nan]]))
    np.testing.assert_array_equal(found, [[np.nan, 0.0, np.nan]])


@pytest.mark.parametrize("parts", [None, 3])
def test_words_are_weighed_by_how_rare_they_are_and_missing_texts_have_none(parts: int | None) -> None:
    texts = ["red car", "red bike", "red car", None, "Café car", "the red car"] * 3
    for kind in ("str", object):
        column = pd.Series(texts, dtype=kind)
        found = Words(parts).fit(column).transform(pd.Series(["red", None, "never seen", "CAFE"], dtype=kind))
        found = found if parts else found.toarray()
        assert found.shape[1] == (parts or 9)
        norms = np.linalg.norm(found, axis=1)
        assert norms[1:3].tolist() == [0, 0]
        assert norms[0] > 0
    words = Words().fit(pd.Series(texts))
    rarity = dict(zip(words.words_.split("\n"), words.weigh_.idf_, strict=True))
    assert rarity["red"] < rarity["bike"]
    assert "red car" in rarity


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", [None, "", "!?", "one", "one two three"])
@pytest.mark.parametrize("parts", [None, 30])
def test_texts_that_say_nothing_are_borne_in_silence(parts: int | None, text: str | None) -> None:
    column = pd.Series([text] * 5)
    found = Words(parts).fit_transform(column)
    assert found.shape[0] == 5
    assert found.shape[1] >= 1
    assert np.isfinite(found if parts else found.toarray()).all()
    rare = pd.Series([f"word{number}" for number in range(5)])
    assert not np.any(Words().fit_transform(rare).toarray())


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_calibration_mends_a_distorted_forecast(classes: int, method: str) -> None:
    said, _, target = distorted(4000, classes)
    later, true, truth = distorted(4000, classes, seed=2)
    mended = Calibrated(None, method).fit_map(said, target).adjust(later)
    raw, found, best = (log_loss(truth, p) for p in (later, mended, true))
    assert found - best < 0.25 * (raw - best)
    assert mended.shape == later.shape
    assert (mended > 0).all()
    np.testing.assert_allclose(mended.sum(axis=1), 1)
    np.testing.assert_allclose(mended.mean(axis=0), np.bincount(truth) / len(truth), atol=0.03)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_hardly_touches_a_forecast_that_is_right(method: str) -> None:
    _, said, target = distorted(4000, 3)
    _, later, truth = distorted(4000, 3, seed=2)
    mended = Calibrated(None, method).fit_map(said, target).adjust(later)
    assert log_loss(truth, mended) < log_loss(truth, later) + 0.02


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_calibrated_forecast_is_never_certain(classes: int, method: str) -> None:
    target = np.arange(90) % classes
    mended = Calibrated(None, method).fit_map(np.eye(classes)[target], target).adjust(np.eye(classes)[target])
    assert ((mended > 0) & (mended < 1)).all()
    assert (mended.argmax(axis=1) == target).all()


def test_a_class_that_calibration_never_saw_stays_possible() -> None:
    said, _, target = distorted(500, 3)
    seen = target != 1
    mended = Calibrated(None, "sigmoid").fit_map(said[seen], target[seen]).adjust(said)
    assert (mended[:, 1] > 0).all()
    np.testing.assert_allclose(mended.sum(axis=1), 1)


def test_a_calibrated_model_answers_for_rows() -> None:
    rows = pd.DataFrame({"x": np.random.default_rng(1).normal(size=400)})
    target = (rows["x"] > 0.5).astype(int).to_numpy()
    model = LogisticRegression().fit(rows, target)
    found = Calibrated(model, "sigmoid").fit_map(model.predict_proba(rows), target)
    assert found.predict_proba(rows).shape == (400, 2)
    assert (found.predict(rows) == target).mean() > 0.95
    assert found.classes_.tolist() == [0, 1]


def test_a_blend_forecasts_the_weighted_mean() -> None:
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


def spread(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions, and outcomes whose errors grow with them and lean to one side."""
    random = np.random.default_rng(seed)
    prediction = random.uniform(1, 10, rows)
    return prediction, prediction * (1 + 0.3 * (random.gamma(2, 1, rows) - 2))


class Told:
    """A model that has the predictions already."""

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return rows["told"].to_numpy()


def forecast(model: WithInterval, prediction: np.ndarray) -> pd.DataFrame:
    return model.forecast(pd.DataFrame({"told": prediction}))


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_an_interval_holds_the_share_it_names(level: float) -> None:
    model = WithInterval(Told(), level).fit_errors(*spread(3000, 1))
    prediction, outcome = spread(20_000, 2)
    found = forecast(model, prediction)
    held = pd.Series((outcome >= found["low"]) & (outcome <= found["high"]))
    assert held.mean() == pytest.approx(level, abs=0.025)
    # Within bins of the prediction, not only on average: errors grow with it, and so do the intervals.
    by_size = held.groupby(pd.qcut(prediction, 4, labels=False)).mean()
    assert by_size.between(level - 0.05, level + 0.05).all()
    assert (found["low"] <= found["high"]).all()


def test_an_interval_from_few_errors_holds_its_share_on_average() -> None:
    held = []
    for seed in range(200):
        model = WithInterval(Told(), 0.8).fit_errors(*spread(30, seed))
        prediction, outcome = spread(200, 1000 + seed)
        found = forecast(model, prediction)
        held.append(((outcome >= found["low"]) & (outcome <= found["high"])).mean())
    assert np.mean(held) == pytest.approx(0.8, abs=0.03)


def test_the_ends_are_the_errors_that_split_conformal_prediction_names() -> None:
    error = np.random.default_rng(1).permutation(99).astype("float64")
    model = WithInterval(Told(), 0.9).fit_errors(np.zeros(99), error)
    found = forecast(model, np.zeros(1))
    # Of 99 errors, the 5th and the 95th: the next one lies outside with a chance of 5 in 100 at either end.
    assert found.loc[0, ["low", "high"]].tolist() == pytest.approx([4, 94], abs=1)


def test_the_quantile_acted_on_costs_less_than_any_shift_of_it() -> None:
    model = WithInterval(Told(), 0.9, over=1, under=4).fit_errors(*spread(4000, 3))
    prediction, outcome = spread(20_000, 4)
    found = forecast(model, prediction)

    def cost(quantity: np.ndarray) -> float:
        return float(np.where(quantity > outcome, quantity - outcome, 4 * (outcome - quantity)).mean())

    least = cost(found["quantile"].to_numpy())
    assert least < cost(prediction)
    assert all(least < cost(found["quantile"].to_numpy() * factor) for factor in (0.9, 1.1))
    assert found["loss"].mean() == pytest.approx(least, rel=0.05)  # what it expects to pay is what it pays


def test_one_prediction_for_all_rows_has_one_interval() -> None:
    error = np.random.default_rng(1).normal(size=1000)
    found = forecast(WithInterval(Told(), 0.9).fit_errors(np.full(1000, 5.0), 5 + error), np.array([4.0, 5.0, 6.0]))
    assert np.isfinite(found.to_numpy()).all()
    assert found["high"].sub(found["low"]).nunique() <= 2


def test_an_interval_can_be_learned_from_a_single_error() -> None:
    found = forecast(WithInterval(Told(), 0.9).fit_errors(np.array([1.0]), np.array([3.0])), np.array([10.0]))
    assert found.loc[0, ["low", "high", "quantile"]].tolist() == [12, 12, 12]
