"""Fitted transformers and models as plain functions, for few rows: lists of Python values in, numbers out, no tables."""

import warnings
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.utils.extmath import softmax

from ninefold.training import Blend, Calibrated, Categories, DateParts, EmptyAsZero, Words

Columns = list[list[Any]]  # a list per feature: numbers and days (None or NaN is missing), texts (likewise)
Encode = Callable[[Columns], np.ndarray]  # to float64, shape (n, parts)
Step = Callable[[np.ndarray], np.ndarray]

MOST_NODES = 2_000_000  # of trees; Treelite holds them a second time, about 100 bytes each
UNKNOWN = "\0 a category that no table holds"


class NotCompilable(Exception):
    """A model has no compiled predictor, or one that answers differently; the message says why."""


def compile_estimator(model: Any, names: list[str]) -> Encode:
    """Return the function of a fitted model: ``predict_proba`` of a classifier, ``predict`` of a regressor.

    Its values are float64, of shape (n, classes) or (n,). A model is a pipeline from columns to a classifier or regressor,
    a `Blend` of such, or `Calibrated`; `NotCompilable` names a part of another type or setting. `names` are the columns.
    """
    if type(model) is Blend:
        parts = [compile_estimator(each, names) for each in model.models]
        weighted = list(zip(model.weights, parts, strict=True))
        return lambda columns: np.asarray(sum(weight * part(columns) for weight, part in weighted))
    if type(model) is Calibrated:
        raw = compile_estimator(model.model, names)
        return lambda columns: model.adjust(raw(columns))
    if type(model) is not Pipeline:
        raise NotCompilable(f"{type(model).__name__} has no compiled predictor")
    first, *between, last = [each for _, each in model.steps]
    # Of a sparse matrix, products are summed in another order.
    sparse = isinstance(last, LogisticRegression | Ridge) and getattr(first, "sparse_output_", False)
    return _chain(compile_encoder(first, names), [*map(_step, between), *([csr_matrix] if sparse else []), _step(last)])


def compile_encoder(transformer: Any, names: list[str]) -> Encode:
    """Return the function of a transformer that was fitted on a table of these columns."""
    kind = type(transformer)
    if kind is ColumnTransformer:
        return _blocks(transformer, names)
    if kind is Pipeline:
        return _chain(compile_encoder(transformer[0], names), [_step(each) for _, each in transformer.steps[1:]])
    if kind in (OneHotEncoder, OrdinalEncoder, TargetEncoder):
        return _categories(transformer)
    if kind is DateParts:
        return lambda columns: transformer.parts(_numbers(columns))
    if kind is Words:
        return lambda columns: csr_matrix(transformer.transform(pd.Series(columns[0], dtype="str"))).toarray()
    as_it_is = transformer == "passthrough" or (kind is FunctionTransformer and transformer.func is None)
    return _chain(_numbers, [] if as_it_is else [_step(transformer)])


def _step(fitted: Any) -> Step:
    kind = type(fitted)
    steps: dict[type, Callable[[Any], Step]] = {
        SimpleImputer: _imputed,
        StandardScaler: lambda each: (
            lambda X: (X - (each.mean_ if each.with_mean else 0.0)) / (each.scale_ if each.with_std else 1.0)
        ),
        EmptyAsZero: lambda zero: lambda X: np.where(zero.empty_, 0.0, X),
        Categories: lambda codes: _known_codes(np.arange(len(codes.sizes_)), codes.sizes_),
        LogisticRegression: _logistic,
        Ridge: lambda ridge: lambda X: X @ ridge.coef_ + ridge.intercept_,
    }
    trees: dict[str, Callable[[Any], Step]] = {
        "lightgbm.sklearn": _light,
        "sklearn.ensemble._forest": _forest,
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": _boosted,
    }
    compiler = steps.get(kind) or trees.get(kind.__module__)
    if compiler is None:
        raise NotCompilable(f"{kind.__name__} has no compiled predictor")
    return compiler(fitted)


def _chain(encode: Encode, steps: list[Step]) -> Encode:
    return lambda columns: reduce(lambda X, step: step(X), steps, encode(columns))


def _numbers(columns: Columns) -> np.ndarray:
    """Return columns as numbers; an infinite one is left to scikit-learn, which takes it at some places only."""
    X = np.array(columns, dtype="float64").T
    if np.isinf(X).any():
        raise ValueError("an infinite number")
    return X


def _blocks(transformer: ColumnTransformer, names: list[str]) -> Encode:
    blocks = []
    for _, fitted, selection in transformer.transformers_:
        columns = [selection] if isinstance(selection, str) else list(selection)
        if columns and fitted != "drop":
            blocks.append((compile_encoder(fitted, columns), [names.index(name) for name in columns]))
    return lambda columns: np.hstack([encode([columns[place] for place in places]) for encode, places in blocks])


def _categories(fitted: OneHotEncoder | OrdinalEncoder | TargetEncoder) -> Encode:
    """Return, as a function, a dictionary per column from a category to the non-zero numbers that the encoder gives it."""
    present = [[each for each in known if each is not None and each == each] for known in fitted.categories_]
    listed = [[*known, None, UNKNOWN] for known in present]
    columns = [pd.Series(values, dtype="object").fillna(np.nan) for values in listed]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the unknown category
        numbers = csr_matrix(fitted.transform(pd.concat(columns, axis=1).set_axis(fitted.feature_names_in_, axis=1)))
    width, widths = numbers.shape[1], getattr(fitted, "_n_features_outs", None)
    ends = np.cumsum([0, *(widths or [width // len(listed)] * len(listed))])
    tables: list[dict[Any, list[tuple[int, float]]]] = []
    for values, start, end in zip(listed, ends, ends[1:], strict=False):
        part = numbers[: len(values), start:end].tolil()
        places = [[start + place for place in row] for row in part.rows]
        filled = [list(zip(*row, strict=True)) for row in zip(places, part.data, strict=True)]
        tables.append(dict(zip(values, filled, strict=True)))

    def encode(columns: Columns) -> np.ndarray:
        X = np.zeros((len(columns[0]), width))
        for column, table in zip(columns, tables, strict=True):
            for row, value in enumerate(column):
                for place, number in table.get(value if value == value else None, table[UNKNOWN]):
                    X[row, place] = number
        return X

    return encode


def _imputed(imputer: SimpleImputer) -> Step:
    fill = np.asarray(imputer.statistics_, dtype="float64")
    marked = imputer.indicator_.features_ if imputer.add_indicator else []
    return lambda X: np.hstack([np.where(np.isnan(X), fill, X), np.isnan(X)[:, marked]])


def _known_codes(places: np.ndarray, sizes: np.ndarray) -> Step:
    def limit(X: np.ndarray) -> np.ndarray:  # what is no code of a category becomes missing
        limited, codes = X.copy(), X[:, places]
        known = (codes >= 0) & (codes < sizes) & (codes == np.floor(codes))
        limited[:, places] = np.where(known, codes, np.nan)
        return limited

    return limit


def _boosted(model: Any) -> Step:
    """Return the function of gradient boosting on histograms, equal to the last bit."""
    limit: Step = np.asarray
    if model._preprocessor is not None:
        encoder = model._preprocessor.named_transformers_["encoder"]
        listed = [codes[~np.isnan(codes)] for codes in encoder.categories_]
        if not all(np.array_equal(codes, np.arange(len(codes))) for codes in listed):
            raise NotCompilable(f"{type(model).__name__} with categories not numbered from 0 has no compiled predictor")
        limit = _known_codes(np.flatnonzero(model.is_categorical_), np.array([len(codes) for codes in listed]))
    nodes = sum(len(tree.nodes) for trees in model._predictors for tree in trees)
    total = _trees(model, nodes, model._baseline_prediction)
    if hasattr(model, "classes_"):
        return lambda X: model._loss.predict_proba(total(limit(X)))
    return lambda X: model._loss.link.inverse(total(limit(X))[:, 0])


def _forest(model: Any) -> Step:
    """Return the mean of a forest's trees, which see numbers of single precision."""
    parts = len(getattr(model, "classes_", [0]))
    total = _trees(model, sum(tree.tree_.node_count for tree in model.estimators_), np.zeros((1, parts)))

    def predict(X: np.ndarray) -> np.ndarray:
        if (np.abs(X) > np.finfo("float32").max).any():
            raise ValueError("a number beyond single precision")
        mean = total(X.astype("float32").astype("float64")) / len(model.estimators_)
        return mean if hasattr(model, "classes_") else mean[:, 0]

    return predict


def _trees(model: Any, nodes: int, start: np.ndarray) -> Step:
    """Return a function from numbers to the sum of the trees, by Treelite (Cho and Li, 2018) in scikit-learn's order."""
    if nodes > MOST_NODES:
        size = f"{nodes:,} nodes (at most {MOST_NODES:,})"
        raise NotCompilable(f"{type(model).__name__} of {size} has no compiled predictor")
    import treelite.sklearn
    from treelite.gtil import predict_per_tree

    with np.errstate(invalid="ignore"):  # it reads codes as whole numbers, the missing one too
        trees = treelite.sklearn.import_model(model)

    def total(X: np.ndarray) -> np.ndarray:
        each = predict_per_tree(trees, np.ascontiguousarray(X), nthread=1).reshape(len(X), -1, start.shape[1])
        first = np.broadcast_to(start, (len(X), 1, start.shape[1]))
        return np.concatenate([first, each], axis=1).cumsum(axis=1)[:, -1]

    return total


def _logistic(model: LogisticRegression) -> Step:
    weights, start = model.coef_.T, model.intercept_
    if len(model.classes_) == 2:
        return lambda X: _both(expit((X @ weights + start)[:, 0]))
    return lambda X: softmax(X @ weights + start, copy=False)


def _light(model: Any) -> Step:
    predict = partial(model.booster_.predict, num_threads=1)
    return (lambda X: _both(predict(X))) if len(getattr(model, "classes_", ())) == 2 else predict


def _both(event: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - event, event])
