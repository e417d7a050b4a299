"""The compiled predictor of a model: the same forecasts as the pipeline, or it is not used, and says why."""

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
from sklearn.dummy import DummyClassifier
from training_data import MODELS, ONE, SCHEMA, WORDS, orders

from ninefold.serving import bundle as packing
from ninefold.serving import compiled, compiled_parts
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.training import Blend, Calibrated, DateParts, WithInterval, cross_validation, model_file
from ninefold.training.models import Candidate

NAMES = SCHEMA.all
NARROW = dataclasses.replace(SCHEMA, high_cardinality=[])  # 300 streets as codes, of which 250 fit
BREAK_EVEN = 0.25
ALONE = 50  # messy rows that are also asked one by one
pytestmark = pytest.mark.usefixtures("project")


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
    return pd.DataFrame({
        "amount": strewn(rows["amount"], 0.0, -0.0, 1e12, -1e12, 1e30, -7.5, np.nan),
        "shop": strewn(rows["shop"], "A", "", "never seen", "b ", None),
        "street": strewn(rows["street"], "s9999", "", None),
        "note": strewn(rows["note"].astype("str"), "", "never seen", f"{WORDS[0]} " * 50, "red\nnaïve red", None),
        "signup": strewn(rows["signup"], *far),
    })  # fmt: skip


def apart(model: Any, task: str, narrow: bool = False) -> float:
    """Return the largest difference between both forms on messy rows, as a share of values above 1."""
    frame = messy()
    columns = [frame[name].tolist() for name in NAMES]
    forecast = compiled.compile_model(model, NAMES, ONE[task])
    wanted = cross_validation.predict(model, frame, NARROW if narrow else SCHEMA, ONE[task]).to_numpy("float64")
    rows = list(zip(*columns, strict=True))[:ALONE]
    alone = np.vstack([forecast([[value] for value in row]) for row in rows])
    values = np.vstack([forecast(columns), alone])
    expected = np.vstack([wanted, wanted[:ALONE]])
    assert values.shape == expected.shape
    return float((np.abs(values - expected) / np.maximum(np.abs(expected), 1)).max())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("name", "narrow"), [*((name, False) for name in MODELS), ("boosting", True), ("light", True)])
def test_every_model_forecasts_messy_rows_as_its_pipeline_does(name: str, narrow: bool, task: str) -> None:
    exact = name == "boosting"  # to the last bit
    assert apart(fitted(name, task, narrow), task, narrow) <= (0 if exact else 1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_blends_calibration_and_intervals_are_those_of_the_pipeline(task: str) -> None:
    boosting, forest, rows = fitted("boosting", task), fitted("forest", task), orders(task, seed=5)
    target = rows[ONE[task].target].to_numpy()
    assert apart(Blend([fitted("line", task), boosting, forest], [0.2, 0.5, 0.3]), task) <= 1e-12
    if task == "regression":
        made: list[Any] = [WithInterval(forest, over=1, under=3).fit_errors(forest.predict(rows[NAMES]), target)]
    else:
        forecast = boosting.predict_proba(rows[NAMES])
        made = [Calibrated(boosting, method).fit_map(forecast, target) for method in ("sigmoid", "isotonic")]
    for ready in made:
        assert apart(through_file(ready), task) <= 1e-12


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_parts_of_a_date_are_those_of_pandas(zone: str) -> None:
    random = np.random.default_rng(0)
    days = random.uniform(-110_000, 110_000, 2000)
    near = random.integers(-99_999, 99_999, 500) + random.choice([1e-9, -1e-9, 1e-12, 0.5, 1 / 24, 59 / 1440], 500)
    seconds = random.integers(-30_000, 30_000, 500) + random.integers(0, 86_400, 500) / 86_400
    column = pd.Series(np.concatenate([days, near, seconds, [np.nan, 0.0, -1.0]]))
    date = pd.to_datetime(column.where(column.abs() < 100_000), unit="D", utc=True).dt.tz_convert(zone).dt
    wanted = np.column_stack([column, date.month, date.day, date.day_of_week, date.hour + date.minute / 60])
    parts = DateParts(trend=True, timezone=zone).fit(pd.DataFrame({"day": column}))
    encode = compiled_parts.compile_encoder(parts, ["day"])
    np.testing.assert_array_equal(encode([column.tolist()]), wanted)


def reason(model: Any, forecast: Callable[[], pd.DataFrame] = pd.DataFrame) -> str:
    """Return why a model has no compiled predictor."""
    made = compiled.compiled_predictor(model, {name: [] for name in NAMES}, forecast, ONE["binary"])
    assert made.forecast is None
    return made.reason


def test_what_is_not_known_has_no_compiled_predictor_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    line = fitted("line", "binary")
    assert reason(Blend([line, DummyClassifier()], [0.5, 0.5])) == "DummyClassifier has no compiled predictor"
    failed = "not compared: the pipeline fails on probes: ZeroDivisionError: division by zero"
    assert reason(line, lambda: 1 / 0) == failed
    monkeypatch.setattr(compiled_parts, "MOST_NODES", 10)
    assert "nodes (at most 10) has no compiled predictor" in reason(fitted("forest", "binary"))
    monkeypatch.setattr(compiled, "compile_estimator", lambda *_: 1 / 0)  # a library that holds its parts otherwise
    assert reason(line) == "not compiled: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(("wrong", "says"), [
    (lambda values: values + 1e-6 * np.eye(len(values), 1, -3), "it is 1e-06 from the pipeline in probe 3"),
    (lambda values: values * np.nan, "it is inf from the pipeline in probe 0"),
    (lambda values: {}["eve"], "it fails where the pipeline answers: KeyError: 'eve'"),
])  # fmt: skip
def test_a_wrong_compiled_predictor_is_found_and_not_used(bundle: Any, monkeypatch: Any, wrong: Any, says: str) -> None:
    right = bundle.compiled.forecast
    assert right is not None
    monkeypatch.setattr(compiled, "compile_model", lambda *_: lambda columns: wrong(right(columns)))
    read = packing.Bundle.load()
    assert read.compiled.forecast is None
    assert read.compiled.reason.startswith(f"the compiled predictor is not used: {says}")
    row = bundle.described["example"]
    assert read.answer([row]) == bundle.answer([row])


def test_a_difference_that_changes_an_action_counts_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = pd.DataFrame({"probability": [BREAK_EVEN - 1e-12, 0.9]})
    monkeypatch.setattr(compiled, "compile_model", lambda *_: lambda _: np.array([[BREAK_EVEN + 1e-12], [0.9]]))
    assert "another action in 1 of 2 probes" in reason(None, lambda: wanted)


@pytest.mark.parametrize("case", CASES)
def test_answers_of_a_bundle_are_those_of_its_pipeline(project: Project, case: str) -> None:
    parts = lay_out(case)
    bundle = pack(parts)
    assert bundle.compiled.reason == ""
    sent = as_rows(parts["holdout"], bundle.signature)
    sent += compiled.probes(bundle.described["example"], bundle.signature, bundle.reference)
    slow = dataclasses.replace(bundle)
    vars(slow)["compiled"] = compiled.CompiledPredictor(None, "left out")
    for rows in (sent[start : start + 40] for start in range(0, len(sent), 40)):
        quick, wanted = bundle.answer(rows), slow.answer(rows)
        assert repr(quick) == repr(wanted)  # of the same types, too
        frame = bundle.complete(rows).set_index(pd.Index([f"row {number}" for number in range(len(rows))]))
        pd.testing.assert_frame_equal(bundle.decide(frame), slow.decide(frame), check_exact=True)
        assert bundle.decide(frame)[bundle.answers].to_dict("records") == quick.records


def test_few_rows_never_reach_the_pipeline_and_many_always_do(bundle: Bundle, parts: Any, monkeypatch: Any) -> None:
    assert bundle.compiled.reason == ""
    by_pipeline, asked = Bundle._by_pipeline, []
    monkeypatch.setattr(Bundle, "_by_pipeline", lambda self, rows: asked.append(len(rows)) or by_pipeline(self, rows))
    for count in (1, compiled.FEW, compiled.FEW + 1):
        bundle.predict(parts["train"].head(count))
    assert asked == [compiled.FEW + 1]
