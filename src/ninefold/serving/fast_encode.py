"""Fitted transformers as plain functions, for few rows: columns of Python values in, numbers out, without any table."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

from ninefold.core.estimators import Categories, DateParts, EmptyAsZero, Words

Columns = list[list[Any]]  # a list per feature: numbers and days (None or NaN is missing), texts (likewise)
Encode = Callable[[Columns], np.ndarray]  # to float64, shape (n, parts)
Step = Callable[[np.ndarray], np.ndarray]

NANOSECONDS = 86_400_000_000_000  # of a day
HOUR, MINUTE = 3_600_000_000_000, 60_000_000_000
DIGITS = 1e13  # to which pandas rounds a fraction of a day before it counts nanoseconds
FIRST = date(1970, 1, 1).toordinal()
FARTHEST = 100_000  # days, beyond which `DateParts` gives no parts
UNKNOWN = "\0 a category that no table holds"


class NoFastForm(Exception):
    """A part of a model that is not known here; the message says which."""


class Declined(Exception):
    """Rows that scikit-learn may refuse, and that are therefore left to it."""


def encoder(transformer: Any, names: list[str]) -> Encode:
    """Return the function of a fitted transformer of columns.

    Parameters
    ----------
    transformer : transformer, or ``passthrough``
        Fitted on a table of these columns.
    names : list of str
        What each column is called.

    Raises
    ------
    NoFastForm
        If it, or what it is made of, is of another type than those below, or set otherwise than known here.
    """
    known: dict[type, Callable[[Any], Encode]] = {
        ColumnTransformer: lambda fitted: _side_by_side(fitted, names),
        Pipeline: lambda fitted: _one_after_another(fitted, names),
        OneHotEncoder: _indicators,
        OrdinalEncoder: _looked_up,
        TargetEncoder: _looked_up,
        DateParts: lambda fitted: _date_parts(fitted.trend),
        Words: lambda fitted: lambda columns: _dense(fitted.transform(pd.Series(columns[0], dtype="str"))),
    }
    kind = type(transformer)
    if kind in known:
        return known[kind](transformer)
    if transformer == "passthrough" or (kind is FunctionTransformer and transformer.func is None):
        return numbers
    return after(numbers, [step(transformer)])


def step(transformer: Any) -> Step:
    """Return the function of a fitted transformer of numbers, float64 of shape (n, parts).

    Raises
    ------
    NoFastForm
        As `encoder`.
    """
    known: dict[type, Callable[[Any], Step]] = {
        SimpleImputer: _filled,
        StandardScaler: _scaled,
        EmptyAsZero: lambda zero: lambda X: np.where(zero.empty_, 0.0, X),
        Categories: _codes,
    }
    if type(transformer) not in known:
        raise NoFastForm(f"{type(transformer).__name__} has no fast form")
    return known[type(transformer)](transformer)


def after(encode: Encode, steps: list[Step]) -> Encode:
    """Return one function for an encoder and the steps that follow it."""

    def chained(columns: Columns) -> np.ndarray:
        X = encode(columns)
        for each in steps:
            X = each(X)
        return X

    return chained


def numbers(columns: Columns) -> np.ndarray:
    """Return columns of numbers as they are.

    Raises
    ------
    Declined
        If one is infinite, which scikit-learn takes at some places and refuses at others.
    """
    X = np.array(columns, dtype="float64").T
    if np.isinf(X).any():
        raise Declined("an infinite number")
    return X


def _one_after_another(pipeline: Pipeline, names: list[str]) -> Encode:
    first, *rest = [each for _, each in pipeline.steps]
    return after(encoder(first, names), [step(each) for each in rest])


def _side_by_side(transformer: ColumnTransformer, names: list[str]) -> Encode:
    if transformer.transformer_weights:
        raise NoFastForm("ColumnTransformer with weights has no fast form")
    blocks = []
    for _, fitted, chosen in transformer.transformers_:
        picked = [chosen] if isinstance(chosen, str) else list(chosen)
        if not picked or (isinstance(fitted, str) and fitted == "drop"):
            continue
        if not set(picked) <= set(names):
            raise NoFastForm("ColumnTransformer with columns that are not named has no fast form")
        blocks.append((encoder(fitted, picked), [names.index(name) for name in picked]))

    def encode(columns: Columns) -> np.ndarray:
        return np.hstack([one([columns[place] for place in places]) for one, places in blocks])

    return encode


def _looked_up(fitted: Any) -> Encode:
    """Return the function of an encoder that has one or more numbers for each category."""
    asked, answers = _asked(fitted)
    width = answers.shape[1] // len(asked)
    tables = []
    for place, values in enumerate(asked):
        part = _dense(answers[: len(values), place * width : (place + 1) * width])
        tables.append(_table(values, [tuple(row) for row in part.tolist()]))

    def encode(columns: Columns) -> np.ndarray:
        found = [
            [table.get(value if value == value else None, table[UNKNOWN]) for value in column]
            for column, table in zip(columns, tables, strict=True)
        ]
        return np.hstack([np.array(part, dtype="float64") for part in found])

    return encode


def _indicators(fitted: OneHotEncoder) -> Encode:
    """Return the function of an encoder that has a column for each category, or for several rare ones."""
    if fitted.drop is not None:
        raise NoFastForm("OneHotEncoder that drops a category has no fast form")
    asked, answers = _asked(fitted)
    rare = getattr(fitted, "infrequent_categories_", [None] * len(asked))
    widths = [
        len(all_) - (len(few) - 1 if few is not None else 0) for all_, few in zip(fitted.categories_, rare, strict=True)
    ]
    ends = np.cumsum([0, *widths])
    tables = []
    for values, start, end in zip(asked, ends, ends[1:], strict=False):
        part = csr_matrix(answers[: len(values), start:end])
        places = np.full(len(values), -1)
        places[np.diff(part.indptr) > 0] = part.indices + start
        tables.append(_table(values, places.tolist()))

    def encode(columns: Columns) -> np.ndarray:
        X = np.zeros((len(columns[0]), ends[-1] + 1))  # the last column is for what has none
        for column, table in zip(columns, tables, strict=True):
            for row, value in enumerate(column):
                X[row, table.get(value if value == value else None, table[UNKNOWN])] = 1.0
        return X[:, :-1]

    return encode


def _asked(fitted: Any) -> tuple[list[list[Any]], Any]:
    """Return what an encoder is asked for each column (known categories, missing, unknown), and its answers.

    A table that the encoder fills in itself is right whatever rules it follows for rare, missing and unknown ones.
    """
    present = [[each for each in known if each is not None and each == each] for known in fitted.categories_]
    asked = [[*known, np.nan, UNKNOWN] for known in present]
    longest = max(map(len, asked))
    padded = [pd.Series([*values, *[np.nan] * (longest - len(values))], dtype="object") for values in asked]
    frame = pd.concat(padded, axis=1).set_axis(fitted.feature_names_in_, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an unknown category, which is the question
        return asked, fitted.transform(frame)


def _table(asked: list[Any], answers: list[Any]) -> dict[Any, Any]:
    return {value if value == value else None: answer for value, answer in zip(asked, answers, strict=True)}


def _date_parts(trend: bool) -> Encode:
    """Return the function of `DateParts`, for days as it gets them."""

    def encode(columns: Columns) -> np.ndarray:
        days = numbers(columns).tolist()
        return np.array([[part for each in row for part in _parts(each, trend)] for row in days], dtype="float64")

    return encode


def _parts(days: float, trend: bool) -> list[float]:
    """Return the parts of a moment as `DateParts` and pandas count them: whole days, and a rounded fraction."""
    known = abs(days) < FARTHEST
    if not known:
        return [days] * trend + [np.nan] * 4
    whole = int(days)
    fraction = round((days - whole) * DIGITS) / DIGITS
    day, rest = divmod(whole * NANOSECONDS + int(fraction * NANOSECONDS), NANOSECONDS)
    named = date.fromordinal(FIRST + day)
    return [days] * trend + [named.month, named.day, named.weekday(), rest // HOUR + rest % HOUR // MINUTE / 60]


def _filled(imputer: SimpleImputer) -> Step:
    fill = np.asarray(imputer.statistics_, dtype="float64")
    if np.isnan(fill).any() or imputer.missing_values == imputer.missing_values:
        raise NoFastForm("SimpleImputer that leaves columns out, or fills other values than NaN, has no fast form")
    marked = imputer.indicator_.features_ if imputer.add_indicator else []

    def impute(X: np.ndarray) -> np.ndarray:
        missing = np.isnan(X)
        return (
            np.hstack([np.where(missing, fill, X), missing[:, marked]]) if len(marked) else np.where(missing, fill, X)
        )

    return impute


def _scaled(scaler: StandardScaler) -> Step:
    mean = scaler.mean_ if scaler.with_mean else 0.0
    scale = scaler.scale_ if scaler.with_std else 1.0
    return lambda X: (X - mean) / scale


def _codes(categories: Categories) -> Step:
    """Return the function that lets through the codes that `Categories` knows, and any number in the other columns."""
    sizes = categories.sizes_

    def limit(X: np.ndarray) -> np.ndarray:
        limited = X.copy()
        codes = X[:, : len(sizes)]
        limited[:, : len(sizes)] = np.where((codes >= 0) & (codes < sizes), codes, np.nan)
        return limited

    return limit


def _dense(X: Any) -> np.ndarray:
    return np.asarray(X.toarray() if issparse(X) else X, dtype="float64")
