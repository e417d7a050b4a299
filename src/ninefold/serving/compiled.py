"""The compiled predictor of a model, for few rows: built from the fitted pipeline, used only if it answers the same.

One row through a pipeline costs milliseconds of tables and checks, and microseconds of arithmetic. The compiled predictor
is the arithmetic alone: dictionaries of categories, arrays of medians and scales, trees through Treelite.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold.problem import Problem, decisions
from ninefold.serving.compiled_parts import Encode, NotCompilable, compile_estimator
from ninefold.serving.fields import FEATURE_KINDS, FIRST_DAY, LAST_DAY, iso
from ninefold.training import WithInterval, of_all_classes

FEW = 100  # rows; of more, the pipeline is about as fast (benchmarks/serving_model.py)
PROBES = 50
TOLERANCE = 1e-9
EXTREMES: dict[str, list[Any]] = {  # by the type of a field
    "number": [None, 0.0, -1.0, 0.5, 1e9, -1e9],
    "string": [None, "\0 never seen", ""],
    "date": [None, "0001-01-01", "9999-12-31", "1969-12-31T23:59:59.999999"],
}


class CompiledPredictor(NamedTuple):
    """A compiled model, or the reason why there is none.

    `forecast` takes `Columns` in the model's order and returns the values of `decisions.forecast_columns`, float64. It
    raises `ValueError` for rows that only the pipeline may answer.
    """

    forecast: Encode | None
    reason: str = ""


def compiled_predictor(
    model: Any, probed: Mapping[str, list[Any]], by_pipeline: Callable[[], pd.DataFrame], problem: Problem
) -> CompiledPredictor:
    """Return the compiled predictor of a fitted model if it forecasts and decides as the pipeline does, else the reason.

    They are compared on `probed`, the model's columns with the values of `probes`, and the forecast that `by_pipeline` returns.
    """
    step, unused = "not compiled", "the compiled predictor is not used"
    try:
        forecast = compile_model(model, list(probed), problem)
        step = "not compared: the pipeline fails on probes"
        expected = by_pipeline()
        step = f"{unused}: it fails where the pipeline answers"
        if reason := _difference(forecast(list(probed.values())), expected, problem):
            raise NotCompilable(f"{unused}: {reason}")
    except NotCompilable as error:
        return CompiledPredictor(None, str(error))
    except Exception as error:  # a library's next release may name its parts otherwise, and answers have to go on
        return CompiledPredictor(None, f"{step}: {type(error).__name__}: {error}")
    return CompiledPredictor(forecast)


def compile_model(model: Any, names: list[str], problem: Problem) -> Encode:
    """Return the function that equals `ninefold.training.cross_validation.predict`."""
    if type(model) is WithInterval:
        quantity = compile_estimator(model.model, names)
        return lambda columns: model.around(quantity(columns)).to_numpy("float64")
    predict = compile_estimator(model, names)
    if not problem.is_class:
        is_quantity = [name != "loss" for name in decisions.QUANTITY]
        return lambda columns: np.where(is_quantity, np.asarray(predict(columns), dtype="float64")[:, None], 0.0)
    first, count = int(problem.task == "binary"), len(problem.classes)  # of two classes, the event alone
    return lambda columns: of_all_classes(predict(columns), model.classes_, count)[:, first:]


def probes(
    example: Mapping[str, Any], schema: list[dict[str, Any]], reference: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return rows to compare a compiled predictor with its pipeline on; the same bundle has the same rows.

    They are the example, and `PROBES` rows in which random fields are missing, unknown, extreme, or usual by the reference
    distributions: extreme at least as often as usual.
    """
    random, choices, rows = np.random.default_rng(0), {}, [dict(example)]
    for field in schema:
        if field["kind"] in FEATURE_KINDS:
            edges = [float(edge) for edge in reference["features"].get(field["name"], {}).get("edges", [])]
            usual: list[Any] = {
                "number": [*edges, *(edge + 0.5 for edge in edges)],
                "string": field.get("known", []),
                "date": [iso(edge) for edge in edges if FIRST_DAY <= edge < LAST_DAY],
            }[field["type"]]
            extreme = EXTREMES[field["type"]]
            choices[field["name"]] = [*extreme * (len(usual) // len(extreme) + 1), *usual]
    for _ in range(PROBES):
        some = {name: values for name, values in choices.items() if random.random() < 0.6}
        rows.append({**example, **{name: values[random.integers(len(values))] for name, values in some.items()}})
    return rows


def _difference(values: np.ndarray, forecast: pd.DataFrame, problem: Problem) -> str:
    """Return where values, or the actions that follow from them, differ from the pipeline's; empty if nowhere."""
    expected = forecast.to_numpy("float64")
    apart = np.nan_to_num(np.abs(values - expected) / np.maximum(np.abs(expected), 1), nan=np.inf).max(axis=1)
    if apart.max() > TOLERANCE:
        return f"it is {apart.max():.2g} from the pipeline in probe {apart.argmax()}, expected at most {TOLERANCE:g}"
    if not problem.is_class:
        return ""
    actions, others = (decisions.choose(each, problem)[0] for each in (values, expected))
    differ = int((actions != others).sum())
    return f"it leads to another action in {differ} of {len(actions)} probes" if differ else ""
