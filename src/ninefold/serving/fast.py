"""The fast form of a model, for few rows: compiled from the fitted pipeline, and used only where it is proved equal to it.

One row through a pipeline costs milliseconds of tables and checks, and microseconds of arithmetic. The fast form is the
arithmetic alone: dictionaries of categories, arrays of medians and scales, trees through Treelite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ninefold.core import decisions
from ninefold.core.estimators import WithInterval
from ninefold.serving.fast_encode import Columns, Declined, NoFastForm
from ninefold.serving.fast_models import forecaster
from ninefold.serving.signature import FEATURE_KINDS, FIRST_DAY, LAST_DAY, iso

__all__ = ["Columns", "Declined", "Fast", "compile_model", "decide", "probes", "proved", "unseen"]

FEW = 100  # rows; of more, the pipeline is about as fast (benchmarks/serving_model.py)
PROBES = 50
TOLERANCE = 1e-9
EXTREMES = (None, 0.0, -1.0, 0.5, 1e9, -1e9)
STRANGE = "\0 never seen"


class Fast(NamedTuple):
    """A compiled model, or why there is none.

    Attributes
    ----------
    forecast : callable or None
        From `Columns` in the order of the model's to the values of `decisions.forecast_columns`: float64, shape
        (n, columns). It raises `Declined` for rows that are the pipeline's to answer.
    reason : str
        Why there is none; empty if there is one.
    """

    forecast: Callable[[Columns], np.ndarray] | None
    reason: str = ""


def compile_model(model: Any, names: list[str], stated: dict[str, Any]) -> Fast:
    """Return the fast form of a fitted model, as `fitting.predict` would ask it, or the reason why it has none.

    Parameters
    ----------
    model : estimator
        Fitted.
    names : list of str
        The model's columns, in order.
    stated : dict
        The problem.
    """
    try:
        if decisions.is_class(stated):
            return Fast(_classes(forecaster(model, names), model.classes_, stated))
        if type(model) is WithInterval:
            quantity = forecaster(model.model, names)
            return Fast(lambda columns: model.around(quantity(columns)).to_numpy("float64"))
        return Fast(_taken_at_its_word(forecaster(model, names)))
    except NoFastForm as error:
        return Fast(None, str(error))
    except Exception as error:  # a library's next release may hold its parts otherwise, and answers have to go on
        return Fast(None, f"not compiled: {type(error).__name__}: {error}")


def proved(made: Fast, columns: Columns, by_pipeline: Callable[[], pd.DataFrame], stated: dict[str, Any]) -> Fast:
    """Return a fast form if it forecasts and decides as the pipeline does; else none, and the reason.

    Parameters
    ----------
    made : Fast
        What `compile_model` returned.
    columns : Columns
        The rows to compare on.
    by_pipeline : callable
        Returns what the pipeline forecasts for them.
    stated : dict
        The problem.
    """
    if made.forecast is None:
        return made
    try:
        wanted = by_pipeline()
    except Exception as error:  # a pipeline that refuses strange values may still answer usual ones
        return Fast(None, f"not compared: the pipeline fails on probes: {type(error).__name__}: {error}")
    try:
        reason = _difference(made.forecast(columns), wanted, stated)
    except Exception as error:  # whatever is wrong with it, it is not used
        reason = f"it fails where the pipeline answers: {type(error).__name__}: {error}"
    return Fast(None, f"the fast form is not used: {reason}") if reason else made


def decide(values: np.ndarray, stated: dict[str, Any]) -> tuple[list[Any], list[float]]:
    """Return the action and its expected payoff for each forecast, as `decisions.decide` does, without a table.

    Parameters
    ----------
    values : ndarray
        What `Fast.forecast` returned.
    stated : dict
        The problem.
    """
    if not decisions.is_class(stated):
        place = decisions.QUANTITY.index
        return values[:, place("quantile")].tolist(), (-values[:, place("loss")]).tolist()
    two = stated["task"] == "binary"
    outcomes = ["negative", "positive"] if two else stated["classes"]
    matrix = np.array([[pays[each] for each in outcomes] for pays in stated["payoffs"].values()], dtype="float64")
    paid = (np.column_stack([1 - values[:, 0], values[:, 0]]) if two else values) @ matrix.T
    names = list(stated["payoffs"])
    return [names[best] for best in paid.argmax(axis=1).tolist()], paid.max(axis=1).tolist()


def unseen(columns: Mapping[str, list[Any]], known: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    """Return the categories that training rows did not have, as `Bundle.unseen` does: field, value, rows, first row."""
    found = []
    for name, values in known.items():
        strange: dict[str, list[int]] = {}
        for row, value in enumerate(columns[name]):
            if value is not None and value == value and value not in values:
                strange.setdefault(value, []).append(row)
        found += [
            {"field": name, "value": value, "rows": len(rows), "first_row": rows[0]}
            for value, rows in sorted(strange.items())
        ]
    return found


def probes(
    example: Mapping[str, Any], signed: list[dict[str, Any]], reference: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return rows to compare two forms of a model on: the example, and `PROBES` that differ from it at random places.

    There values are missing, unknown, extreme, or such as training had. The same bundle has the same rows.

    Parameters
    ----------
    example : mapping
        A row as a caller sends it.
    signed : list of dict
        The signature.
    reference : mapping
        The distributions of the features, whose deciles are usual values.
    """
    random = np.random.default_rng(0)
    fields = [field for field in signed if field["kind"] in FEATURE_KINDS]
    choices = {field["name"]: _values(field, reference["features"].get(field["name"], {})) for field in fields}
    rows = [dict(example)]
    for _ in range(PROBES):
        changed = {
            name: values[random.integers(len(values))] for name, values in choices.items() if random.random() < 0.6
        }
        rows.append({**example, **changed})
    return rows


def _difference(found: np.ndarray, wanted: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return where a forecast, or the actions that follow from it, are not as wanted; empty if they are everywhere."""
    expected = wanted.to_numpy("float64")
    if found.shape != expected.shape:
        return f"it has shape {found.shape}, the pipeline {expected.shape}"
    apart = np.abs(found - expected) / np.maximum(np.abs(expected), 1)
    if not apart.max() <= TOLERANCE:  # so that a NaN differs too
        worst = np.nan_to_num(apart, nan=np.inf).max(axis=1)
        return f"it is {worst.max():.2g} from the pipeline in probe {worst.argmax()}, expected at most {TOLERANCE:g}"
    if not decisions.is_class(stated):
        return ""
    actions, wise = decide(found, stated)[0], decisions.decide(wanted, stated)["action"].tolist()
    differ = sum(one != other for one, other in zip(actions, wise, strict=True))
    return f"it leads to another action in {differ} of {len(actions)} probes" if differ else ""


def _values(field: Mapping[str, Any], distribution: Mapping[str, Any]) -> list[Any]:
    """Return what a field may hold: strange values at least as often as usual ones."""
    edges = [float(edge) for edge in distribution.get("edges", [])]
    strange: list[Any] = [*EXTREMES]
    usual: list[Any] = [*edges, *(edge + 0.5 for edge in edges)]
    if field["type"] == "string":
        strange, usual = [None, STRANGE, ""], field.get("known", [])
    if field["type"] == "date":
        strange = [None, "0001-01-01", "9999-12-31", "1969-12-31T23:59:59.999999"]
        usual = [iso(edge) for edge in edges if FIRST_DAY <= edge < LAST_DAY]
    return [*strange * (len(usual) // len(strange) + 1), *usual]


def _classes(
    forecast: Callable[[Columns], np.ndarray], classes: Any, stated: dict[str, Any]
) -> Callable[[Columns], np.ndarray]:
    places, count = np.asarray(classes, dtype=int), len(stated["classes"])

    def probabilities(columns: Columns) -> np.ndarray:
        found = forecast(columns)
        p = np.zeros((len(found), count))
        p[:, places] = found
        return p[:, 1:] if stated["task"] == "binary" else p

    return probabilities


def _taken_at_its_word(forecast: Callable[[Columns], np.ndarray]) -> Callable[[Columns], np.ndarray]:
    given = np.array([name != "loss" for name in decisions.QUANTITY])
    return lambda columns: np.where(given, np.asarray(forecast(columns), dtype="float64")[:, None], 0.0)
