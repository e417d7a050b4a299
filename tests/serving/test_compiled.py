"""The compiled predictor of a model: the same forecasts as the pipeline, or it is not used, and says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundles import CASES, lay_out, pack
from conftest import TASKS, Project
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from training_data import MODELS, ONE, SCHEMA, WORDS, orders

from ninefold.features.schema import FeatureSchema
from ninefold.problem import decisions
from ninefold.serving import bundle as packing
from ninefold.serving import compiled, compiled_encoders, compiled_models
from ninefold.serving.bundle import Bundle
from ninefold.serving.compiled_encoders import Columns
from ninefold.serving.fields import as_rows
from ninefold.training import Blend, Calibrated, DateParts, WithInterval, cross_validation, model_file
from ninefold.training.models import Candidate

NAMES = SCHEMA.all
NARROW = dataclasses.replace(SCHEMA, high_cardinality=[])  # 300 streets as codes, of which 250 fit
BREAK_EVEN = 0.25
ALONE = 50  # messy rows that are also asked one by one


@cache
def fitted(name: str, task: str, narrow: bool = False) -> Any:
    """Return a model fitted on orders, as it comes out of its file."""
    schema = NARROW if narrow else SCHEMA
    model = Candidate(**MODELS[name]).estimator(1, schema, ONE[task])
    return through_file(cross_validation.fit(model, orders(task), schema, ONE[task], cores=1))


def through_file(model: Any) -> Any:
    place = Path("model.skops").absolute()
    model_file.dump(model, place)
    return model_file.load(place)


def messy(count: int = 300) -> pd.DataFrame:
    """Return rows as callers send them: gaps, unknown and empty categories, huge and negative numbers, days far away."""
    random, rows = np.random.default_rng(7), orders("binary", count, seed=9)

    def strewn(column: pd.Series, *values: Any) -> pd.Series:
        drawn = [values[number] for number in random.integers(0, len(values), count)]
        return column.where(random.random(count) < 0.7, pd.Series(drawn, dtype=column.dtype))

    far = [-719_162.0, 2_932_896.99, -99_999.999, 100_000.0, -0.25, 18_000.999_999_999, 18_262.5, np.nan]
    return pd.DataFrame(
        {
            "amount": strewn(rows["amount"], 0.0, -0.0, 1e12, -1e12, 1e30, -7.5, np.nan),
            "shop": strewn(rows["shop"], "A", "", "never seen", "b ", None),
            "street": strewn(rows["street"], "s9999", "", None),
            "note": strewn(rows["note"].astype("str"), "", "never seen", f"{WORDS[0]} " * 50, "red\nnaïve red", None),
            "signup": strewn(rows["signup"], *far),
        }
    )


def columns_of(frame: pd.DataFrame) -> Columns:
    return [frame[name].tolist() for name in NAMES]


def apart(model: Any, task: str, schema: FeatureSchema = SCHEMA) -> float:
    """Return the largest difference between both forms on messy rows, as a share of values above 1."""
    frame = messy()
    made = compiled.compile_model(model, NAMES, ONE[task])
    assert made.reason == ""
    assert made.forecast is not None
    found = made.forecast(columns_of(frame))
    wanted = cross_validation.predict(model, frame, schema, ONE[task]).to_numpy("float64")
    rows = list(zip(*columns_of(frame), strict=True))[:ALONE]
    alone = np.vstack([made.forecast([[value] for value in row]) for row in rows])
    assert found.shape == wanted.shape
    scale = np.maximum(np.abs(wanted), 1)
    return float(max((np.abs(found - wanted) / scale).max(), (np.abs(alone - wanted[:ALONE]) / scale[:ALONE]).max()))


@pytest.fixture(autouse=True)
def _project(project: Project) -> Project:
    """Stand in the tiny project."""
    return project


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_forecasts_messy_rows_as_its_pipeline_does(name: str, task: str) -> None:
    assert apart(fitted(name, task), task) <= 1e-12


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["boosting", "light"])
def test_categories_beyond_those_that_fit_are_pooled_as_the_pipeline_pools_them(name: str, task: str) -> None:
    assert apart(fitted(name, task, narrow=True), task, NARROW) <= 1e-12


@pytest.mark.parametrize("task", TASKS)
def test_boosting_is_equal_to_the_last_bit(task: str) -> None:
    assert apart(fitted("boosting", task), task) == 0


@pytest.mark.parametrize("task", TASKS)
def test_a_blend_is_the_same_weighted_mean(task: str) -> None:
    parts = [fitted(name, task) for name in ("line", "boosting", "forest")]
    assert apart(Blend(parts, [0.2, 0.5, 0.3]), task) <= 1e-12


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_probabilities_are_set_right_in_the_same_way(method: str, task: str) -> None:
    model, rows = fitted("boosting", task), orders(task, seed=5)
    target = rows[ONE[task].target].to_numpy()
    adjusted = Calibrated(model, method).fit_map(model.predict_proba(rows[NAMES]), target)
    assert apart(through_file(adjusted), task) <= 1e-12


def test_a_quantity_has_the_same_interval() -> None:
    model, rows = fitted("forest", "regression"), orders("regression", seed=5)
    target = rows[ONE["regression"].target].to_numpy()
    ready = WithInterval(model, over=1, under=3).fit_errors(model.predict(rows[NAMES]), target)
    assert apart(through_file(ready), "regression") <= 1e-12


@pytest.mark.parametrize("trend", [True, False])
def test_parts_of_a_date_are_those_of_pandas(trend: bool) -> None:
    random = np.random.default_rng(0)
    days = np.concatenate(
        [
            random.uniform(-110_000, 110_000, 2000),
            random.integers(-99_999, 99_999, 500) + random.choice([1e-9, -1e-9, 1e-12, 0.5, 1 / 24, 59 / 1440], 500),
            random.integers(-30_000, 30_000, 500) + random.integers(0, 86_400, 500) / 86_400,
            [np.nan, 0.0, -1.0],
        ]
    )
    parts = DateParts(trend).fit(pd.DataFrame({"day": days}))
    made = compiled_encoders.compile_encoder(parts, ["day"])([days.tolist()])
    np.testing.assert_array_equal(made, parts.transform(pd.DataFrame({"day": days})))


class Own(TransformerMixin, BaseEstimator):
    """A transformer that a project brought."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Own:
        self.fitted_ = True
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        return X.fillna(0).to_numpy("float64")


def own_model(rows: pd.DataFrame, column: str, target: str = "returned") -> Any:
    model = make_pipeline(ColumnTransformer([("own", Own(), [column])]), LogisticRegression())
    return model.fit(rows, rows[target])


def test_what_is_not_known_has_no_compiled_predictor_and_says_what_it_is() -> None:
    rows = orders("binary")
    for model, what in (
        (own_model(rows, "amount", ONE["binary"].target), "Own"),
        (DummyClassifier().fit(rows[NAMES], rows[ONE["binary"].target]), "DummyClassifier"),
        (Blend([fitted("line", "binary"), DummyClassifier()], [0.5, 0.5]), "DummyClassifier"),
    ):
        made = compiled.compile_model(model, NAMES, ONE["binary"])
        assert made.forecast is None
        assert made.reason == f"{what} has no compiled predictor"


def test_a_forest_too_large_to_hold_twice_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_models, "MOST_NODES", 10)
    made = compiled.compile_model(fitted("forest", "binary"), NAMES, ONE["binary"])
    assert made.forecast is None
    assert "nodes (at most 10) has no compiled predictor" in made.reason


def test_a_library_that_holds_its_parts_otherwise_is_a_reason_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*_: Any) -> None:
        raise AttributeError("no '_predictors'")

    monkeypatch.setattr(compiled, "compile_estimator", changed)
    made = compiled.compile_model(fitted("boosting", "binary"), NAMES, ONE["binary"])
    assert made == compiled.CompiledPredictor(None, "not compiled: AttributeError: no '_predictors'")


def test_a_bundle_of_an_own_model_answers_by_its_pipeline(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    other = dataclasses.replace(bundle, model=own_model(parts["train"], "amount"))
    assert other.fast_reason == "Own has no compiled predictor"
    frame = parts["holdout"].head(5)
    assert other.predict(frame)["probability"].tolist() == other.model.predict_proba(frame)[:, 1].tolist()


def shifted(values: np.ndarray) -> np.ndarray:
    return values + np.where(np.arange(len(values)) == 3, 1e-6, 0)[:, None]


def failing(values: np.ndarray) -> np.ndarray:
    raise KeyError("eve")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (shifted, "it is 1e-06 from the pipeline in probe 3, expected at most 1e-09"),
        (lambda values: values * np.nan, "it is inf from the pipeline in probe 0"),
        (lambda values: values[:-1], "it has shape (50, 1), the pipeline (51, 1)"),
        (failing, "it fails where the pipeline answers: KeyError: 'eve'"),
    ],
)
def test_a_wrong_compiled_predictor_is_found_when_the_bundle_is_read_and_not_used(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[np.ndarray], np.ndarray], says: str
) -> None:
    right = bundle.compiled.forecast
    assert right is not None
    monkeypatch.setattr(
        compiled, "compile_model", lambda *_: compiled.CompiledPredictor(lambda columns: wrong(right(columns)))
    )
    read = packing.Bundle.load()
    assert read.compiled.forecast is None
    assert read.fast_reason.startswith(f"the compiled predictor is not used: {says}")
    row = bundle.described["example"]
    assert read.answer([row]) == bundle.answer([row])


def test_a_difference_that_changes_an_action_counts_however_small() -> None:
    problem = ONE["binary"].changed(
        payoffs={"act": {"positive": -1, "negative": -1}, "wait": {"positive": -4, "negative": 0}}
    )
    wanted = pd.DataFrame({"probability": [BREAK_EVEN - 1e-12, 0.9]})
    made = compiled.CompiledPredictor(lambda _: np.array([[BREAK_EVEN + 1e-12], [0.9]]))
    assert "another action in 1 of 2 probes" in compiled.verify(made, [], lambda: wanted, problem).reason


def test_a_pipeline_that_fails_on_probes_is_a_reason_and_no_error() -> None:
    def refuses() -> pd.DataFrame:
        raise ValueError("too large")

    made = compiled.verify(compiled.CompiledPredictor(lambda _: np.zeros((1, 1))), [], refuses, ONE["binary"])
    assert made == compiled.CompiledPredictor(None, "not compared: the pipeline fails on probes: ValueError: too large")


@pytest.mark.parametrize("case", CASES)
def test_answers_of_a_bundle_are_those_of_its_pipeline(project: Project, case: str) -> None:
    parts = lay_out(case)
    bundle = pack(parts)
    assert bundle.fast_reason == ""
    sent = as_rows(parts["holdout"], bundle.signature) + compiled.probes(
        bundle.described["example"], bundle.signature, bundle.reference
    )
    slow = dataclasses.replace(bundle)
    vars(slow)["compiled"] = compiled.CompiledPredictor(None, "left out")
    for start in range(0, len(sent), 40):
        rows = sent[start : start + 40]
        found, wanted = bundle.answer(rows), slow.answer(rows)
        assert found.records == wanted.records
        assert found.unseen == wanted.unseen
        assert [{key: type(value) for key, value in record.items()} for record in found.records] == [
            {key: type(value) for key, value in record.items()} for record in wanted.records
        ]
        frame = bundle.complete(rows).set_index(pd.Index([f"row {number}" for number in range(len(rows))]))
        pd.testing.assert_frame_equal(bundle.decide(frame), slow.decide(frame), check_exact=True)
        assert bundle.decide(frame)[bundle.answers].to_dict("records") == found.records


def test_rows_alone_are_answered_as_thousands_at_once(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    assert bundle.fast_reason == ""
    rows = as_rows(parts["train"], bundle.signature)
    together = bundle.answer(rows).records
    assert len(rows) > compiled.FEW
    assert [bundle.answer([row]).records[0] for row in rows] == together


def test_few_rows_never_reach_the_pipeline_and_many_always_do(
    bundle: Bundle, parts: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, asked = bundle.complete(as_rows(parts["train"].head(compiled.FEW + 1), bundle.signature)), []
    by_pipeline = Bundle._by_pipeline
    monkeypatch.setattr(Bundle, "_by_pipeline", lambda self, rows: asked.append(len(rows)) or by_pipeline(self, rows))
    bundle.predict(frame.head(1))
    bundle.predict(frame.head(compiled.FEW))
    assert asked == []
    bundle.predict(frame)
    assert asked == [compiled.FEW + 1]


def test_an_infinite_number_is_left_to_the_pipeline(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    frame = parts["holdout"].head(3).assign(amount=[1.0, np.inf, -np.inf])
    wanted = cross_validation.predict(bundle.model, frame, bundle.columns, bundle.problem)
    assert bundle.predict(frame)["probability"].tolist() == wanted["probability"].tolist()


def test_probes_are_the_same_for_the_same_bundle_and_hold_what_may_come(bundle: Bundle) -> None:
    described = (bundle.described["example"], bundle.signature, bundle.reference)
    rows = compiled.probes(*described)
    assert rows == compiled.probes(*described)
    assert rows[0] == bundle.described["example"]
    assert len(rows) == 1 + compiled.PROBES
    held = {name: [row[name] for row in rows[1:] if name in row] for name in bundle.features}
    assert None in held["channel"]
    assert compiled.UNKNOWN in held["channel"]
    assert "web" in held["channel"]
    assert {None, 1e9, -1e9} <= set(held["amount"])
    assert set(bundle.reference["features"]["amount"]["edges"]) & set(held["amount"])


@pytest.mark.parametrize("task", TASKS)
def test_actions_and_payoffs_are_those_of_the_policy(task: str) -> None:
    problem, random = ONE[task], np.random.default_rng(0)
    names = decisions.forecast_columns(problem)
    values = random.dirichlet(np.ones(len(names)), 500) if task == "multiclass" else random.random((500, len(names)))
    wanted = decisions.decide(pd.DataFrame(values, columns=names), problem)
    actions, payoffs = compiled.decide(values, problem)
    assert actions == wanted["action"].tolist()
    assert payoffs == wanted["expected_payoff"].tolist()
