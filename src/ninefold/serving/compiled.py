"""The compiled predictor of a model, for few rows: built from the fitted pipeline, used only if it answers the same.

One row through a pipeline costs milliseconds of tables and checks, and microseconds of arithmetic. The compiled predictor
is the arithmetic alone: dictionaries of categories, arrays of medians and scales, trees through Treelite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold.problem import Problem, decisions
from ninefold.serving.compiled_encoders import Columns, Declined, Encode, NotCompilable
from ninefold.serving.compiled_models import compile_estimator
from ninefold.serving.fields import FEATURE_KINDS, FIRST_DAY, LAST_DAY, iso
from ninefold.training import WithInterval

__all__ = ["Columns", "CompiledPredictor", "Declined", "compile_model", "decide", "probes", "unseen", "verify"]

FEW = 100  # rows; of more, the pipeline is about as fast (benchmarks/serving_model.py)
PROBES = 50
TOLERANCE = 1e-9
EXTREMES = (None, 0.0, -1.0, 0.5, 1e9, -1e9)
UNKNOWN = "\0 never seen"


class CompiledPredictor(NamedTuple):
    """A compiled model, or why there is none.

    Attributes
    ----------
    forecast : callable or None
        From `Columns` in the order of the model's to the values of `decisions.forecast_columns`: float64, shape
        (n, columns). It raises `Declined` for rows that only the pipeline may answer.
    reason : str
        Why there is none; empty if there is one.
    """

    forecast: Encode | None
    reason: str = ""


def compile_model(model: Any, names: list[str], problem: Problem) -> CompiledPredictor:
    """Return the compiled predictor of a fitted model, or the reason why it has none.

    Parameters
    ----------
    model : estimator
        Fitted; the predictor equals `ninefold.training.cross_validation.predict`.
    names : list of str
        The model's columns, in order.
    problem : Problem
    """
    try:
        return CompiledPredictor(_forecast(model, names, problem))
    except NotCompilable as error:
        return CompiledPredictor(None, str(error))
    except Exception as error:  # a library's next release may name its parts otherwise, and answers have to go on
        return CompiledPredictor(None, f"not compiled: {type(error).__name__}: {error}")


def verify(
    predictor: CompiledPredictor, columns: Columns, by_pipeline: Callable[[], pd.DataFrame], problem: Problem
) -> CompiledPredictor:
    """Return the predictor if it forecasts and decides as the pipeline does; else none, and the reason.

    Parameters
    ----------
    predictor : CompiledPredictor
    columns : Columns
        The rows to compare on, see `probes`.
    by_pipeline : callable
        Returns the pipeline's forecast of these rows.
    problem : Problem
    """
    if predictor.forecast is None:
        return predictor
    try:
        expected = by_pipeline()
    except Exception as error:  # a pipeline that refuses extreme values may still answer usual ones
        return CompiledPredictor(None, f"not compared: the pipeline fails on probes: {type(error).__name__}: {error}")
    try:
        reason = _difference(predictor.forecast(columns), expected, problem)
    except Exception as error:  # whatever is wrong with it, it is not used
        reason = f"it fails where the pipeline answers: {type(error).__name__}: {error}"
    return CompiledPredictor(None, f"the compiled predictor is not used: {reason}") if reason else predictor


def decide(values: np.ndarray, problem: Problem) -> tuple[list[Any], list[float]]:
    """Return the action and its expected payoff for each forecast, as `decisions.decide` does, without a table.

    Parameters
    ----------
    values : ndarray
        What `CompiledPredictor.forecast` returned.
    problem : Problem
    """
    if not problem.is_class:
        place = decisions.QUANTITY.index
        return values[:, place("quantile")].tolist(), (-values[:, place("loss")]).tolist()
    binary = problem.task == "binary"
    outcomes = ["negative", "positive"] if binary else problem.classes
    payoffs = np.array([[pays[each] for each in outcomes] for pays in problem.payoffs.values()], dtype="float64")
    expected = (np.column_stack([1 - values[:, 0], values[:, 0]]) if binary else values) @ payoffs.T
    names = list(problem.payoffs)
    return [names[best] for best in expected.argmax(axis=1).tolist()], expected.max(axis=1).tolist()


def unseen(columns: Mapping[str, list[Any]], known: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    """Return the categories that training rows did not have, as `Bundle.unseen` does: field, value, rows, first row."""
    result = []
    for name, categories in known.items():
        places: dict[str, list[int]] = {}
        for row, value in enumerate(columns[name]):
            if value is not None and value == value and value not in categories:
                places.setdefault(value, []).append(row)
        result += [
            {"field": name, "value": value, "rows": len(rows), "first_row": rows[0]}
            for value, rows in sorted(places.items())
        ]
    return result


def probes(
    example: Mapping[str, Any], schema: list[dict[str, Any]], reference: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return rows to compare a compiled predictor with its pipeline on; the same bundle has the same rows.

    They are the example, and `PROBES` rows in which random fields are missing, unknown, extreme, or as in training.

    Parameters
    ----------
    example : mapping
        A row as a caller sends it.
    schema : list of dict
        The signature.
    reference : mapping
        The distributions of the features, whose deciles are usual values.
    """
    random = np.random.default_rng(0)
    fields = [field for field in schema if field["kind"] in FEATURE_KINDS]
    choices = {field["name"]: _values(field, reference["features"].get(field["name"], {})) for field in fields}
    rows = [dict(example)]
    for _ in range(PROBES):
        changed = {
            name: values[random.integers(len(values))] for name, values in choices.items() if random.random() < 0.6
        }
        rows.append({**example, **changed})
    return rows


def _forecast(model: Any, names: list[str], problem: Problem) -> Encode:
    if problem.is_class:
        predict, places = compile_estimator(model, names), np.asarray(model.classes_, dtype=int)

        def probabilities(columns: Columns) -> np.ndarray:
            values = predict(columns)
            p = np.zeros((len(values), len(problem.classes)))
            p[:, places] = values
            return p[:, 1:] if problem.task == "binary" else p

        return probabilities
    if type(model) is WithInterval:
        quantity = compile_estimator(model.model, names)
        return lambda columns: model.around(quantity(columns)).to_numpy("float64")
    predict, is_quantity = compile_estimator(model, names), [name != "loss" for name in decisions.QUANTITY]
    return lambda columns: np.where(is_quantity, np.asarray(predict(columns), dtype="float64")[:, None], 0.0)


def _difference(values: np.ndarray, forecast: pd.DataFrame, problem: Problem) -> str:
    """Return where values, or the actions that follow from them, differ from the pipeline's; empty if nowhere."""
    expected = forecast.to_numpy("float64")
    if values.shape != expected.shape:
        return f"it has shape {values.shape}, the pipeline {expected.shape}"
    apart = np.abs(values - expected) / np.maximum(np.abs(expected), 1)
    if not apart.max() <= TOLERANCE:  # so that a NaN differs too
        worst = np.nan_to_num(apart, nan=np.inf).max(axis=1)
        return f"it is {worst.max():.2g} from the pipeline in probe {worst.argmax()}, expected at most {TOLERANCE:g}"
    if not problem.is_class:
        return ""
    actions, others = decide(values, problem)[0], decisions.decide(forecast, problem)["action"].tolist()
    differ = sum(one != other for one, other in zip(actions, others, strict=True))
    return f"it leads to another action in {differ} of {len(actions)} probes" if differ else ""


def _values(field: Mapping[str, Any], distribution: Mapping[str, Any]) -> list[Any]:
    """Return what a field may hold: extreme values at least as often as usual ones."""
    edges = [float(edge) for edge in distribution.get("edges", [])]
    extreme: list[Any] = [*EXTREMES]
    usual: list[Any] = [*edges, *(edge + 0.5 for edge in edges)]
    if field["type"] == "string":
        extreme, usual = [None, UNKNOWN, ""], field.get("known", [])
    if field["type"] == "date":
        extreme = [None, "0001-01-01", "9999-12-31", "1969-12-31T23:59:59.999999"]
        usual = [iso(edge) for edge in edges if FIRST_DAY <= edge < LAST_DAY]
    return [*extreme * (len(usual) // len(extreme) + 1), *usual]
