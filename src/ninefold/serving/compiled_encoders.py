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

from ninefold.training import Categories, DateParts, EmptyAsZero, Words

Columns = list[list[Any]]  # a list per feature: numbers and days (None or NaN is missing), texts (likewise)
Encode = Callable[[Columns], np.ndarray]  # to float64, shape (n, parts)
Step = Callable[[np.ndarray], np.ndarray]

NANOSECONDS = 86_400_000_000_000  # of a day
HOUR, MINUTE = 3_600_000_000_000, 60_000_000_000
DIGITS = 1e13  # to which pandas rounds a fraction of a day before it counts nanoseconds
FIRST = date(1970, 1, 1).toordinal()
FARTHEST = 100_000  # days, beyond which `DateParts` gives no parts
UNKNOWN = "\0 a category that no table holds"


class NotCompilable(Exception):
    """A part of a model that cannot be compiled, named in the message."""

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} has no compiled predictor")


class Declined(Exception):
    """Rows that scikit-learn may refuse, and that are therefore left to it."""


def compile_encoder(transformer: Any, names: list[str]) -> Encode:
    """Return the function of a fitted transformer of columns.

    Parameters
    ----------
    transformer : transformer, or ``passthrough``
        Fitted on a table of these columns.
    names : list of str
        The names of the columns.

    Raises
    ------
    NotCompilable
        If it, or a part of it, is of another type or setting than those below.
    """
    known: dict[type, Callable[[Any], Encode]] = {
        ColumnTransformer: lambda fitted: _blocks(fitted, names),
        Pipeline: lambda fitted: chain(
            compile_encoder(fitted[0], names), [compile_step(each) for _, each in fitted.steps[1:]]
        ),
        OneHotEncoder: _categories,
        OrdinalEncoder: _categories,
        TargetEncoder: _categories,
        DateParts: lambda fitted: _date_parts(fitted.trend),
        Words: lambda fitted: lambda columns: _dense(fitted.transform(pd.Series(columns[0], dtype="str"))),
    }
    kind = type(transformer)
    if kind in known:
        return known[kind](transformer)
    if transformer == "passthrough" or (kind is FunctionTransformer and transformer.func is None):
        return _numbers
    return chain(_numbers, [compile_step(transformer)])


def compile_step(transformer: Any) -> Step:
    """Return the function of a fitted transformer of numbers, float64 of shape (n, parts).

    Raises
    ------
    NotCompilable
        As `compile_encoder`.
    """
    known: dict[type, Callable[[Any], Step]] = {
        SimpleImputer: _imputed,
        StandardScaler: lambda scaler: _scaled(
            scaler.mean_ if scaler.with_mean else 0.0, scaler.scale_ if scaler.with_std else 1.0
        ),
        EmptyAsZero: lambda zero: lambda X: np.where(zero.empty_, 0.0, X),
        Categories: _codes,
    }
    if type(transformer) not in known:
        raise NotCompilable(type(transformer).__name__)
    return known[type(transformer)](transformer)


def chain(encode: Encode, steps: list[Step]) -> Encode:
    """Return one function for an encoder and the steps that follow it."""

    def chained(columns: Columns) -> np.ndarray:
        X = encode(columns)
        for step in steps:
            X = step(X)
        return X

    return chained


def _numbers(columns: Columns) -> np.ndarray:
    """Return columns of numbers as they are; scikit-learn takes an infinite one at some places and refuses it at others."""
    X = np.array(columns, dtype="float64").T
    if np.isinf(X).any():
        raise Declined("an infinite number")
    return X


def _blocks(transformer: ColumnTransformer, names: list[str]) -> Encode:
    if transformer.transformer_weights:
        raise NotCompilable("ColumnTransformer with weights")
    blocks = []
    for _, fitted, selection in transformer.transformers_:
        columns = [selection] if isinstance(selection, str) else list(selection)
        if not columns or (isinstance(fitted, str) and fitted == "drop"):
            continue
        if not set(columns) <= set(names):
            raise NotCompilable("ColumnTransformer with columns that are not named")
        blocks.append((compile_encoder(fitted, columns), [names.index(name) for name in columns]))
    return lambda columns: np.hstack([encode([columns[place] for place in places]) for encode, places in blocks])


def _categories(fitted: OneHotEncoder | OrdinalEncoder | TargetEncoder) -> Encode:
    """Return the function of an encoder of categories: a dictionary per column, from a category to its non-zero numbers.

    The encoder itself gives the numbers, so they are right whatever its rules for rare, missing and unknown categories.
    """
    known = [[each for each in values if each is not None and each == each] for values in fitted.categories_]
    categories = [[*values, np.nan, UNKNOWN] for values in known]
    longest = max(map(len, categories))
    columns = [pd.Series([*values, *[np.nan] * (longest - len(values))], dtype="object") for values in categories]
    frame = pd.concat(columns, axis=1).set_axis(fitted.feature_names_in_, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the unknown category
        numbers = csr_matrix(fitted.transform(frame))
    same = [numbers.shape[1] // len(categories)] * len(categories)
    ends = np.cumsum([0, *(fitted._n_features_outs if isinstance(fitted, OneHotEncoder) else same)])
    tables: list[dict[Any, list[tuple[int, float]]]] = []
    for values, start, end in zip(categories, ends, ends[1:], strict=False):
        block = numbers[: len(values), start:end]
        entries = list(zip((block.indices + start).tolist(), block.data.tolist(), strict=True))
        bounds = zip(block.indptr, block.indptr[1:], strict=False)
        rows = [entries[first:last] for first, last in bounds]
        tables.append({value if value == value else None: row for value, row in zip(values, rows, strict=True)})

    def encode(columns: Columns) -> np.ndarray:
        X = np.zeros((len(columns[0]), numbers.shape[1]))
        for column, table in zip(columns, tables, strict=True):
            for row, value in enumerate(column):
                for place, number in table.get(value if value == value else None, table[UNKNOWN]):
                    X[row, place] = number
        return X

    return encode


def _date_parts(trend: bool) -> Encode:
    """Return the function of `DateParts`, which counts whole days and a rounded fraction, as pandas does."""

    def parts(days: float) -> list[float]:
        if not abs(days) < FARTHEST:
            return [days] * trend + [np.nan] * 4
        whole = int(days)
        fraction = round((days - whole) * DIGITS) / DIGITS
        day, rest = divmod(whole * NANOSECONDS + int(fraction * NANOSECONDS), NANOSECONDS)
        moment = date.fromordinal(FIRST + day)
        hour = rest // HOUR + rest % HOUR // MINUTE / 60
        return [days] * trend + [moment.month, moment.day, moment.weekday(), hour]

    def encode(columns: Columns) -> np.ndarray:
        return np.array(
            [[part for days in row for part in parts(days)] for row in _numbers(columns).tolist()], "float64"
        )

    return encode


def _imputed(imputer: SimpleImputer) -> Step:
    fill = np.asarray(imputer.statistics_, dtype="float64")
    if np.isnan(fill).any() or imputer.missing_values == imputer.missing_values:
        raise NotCompilable("SimpleImputer that leaves columns out, or fills other values than NaN,")
    marked = imputer.indicator_.features_ if imputer.add_indicator else []

    def impute(X: np.ndarray) -> np.ndarray:
        missing = np.isnan(X)
        complete = np.where(missing, fill, X)
        return np.hstack([complete, missing[:, marked]]) if len(marked) else complete

    return impute


def _scaled(mean: Any, scale: Any) -> Step:
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
