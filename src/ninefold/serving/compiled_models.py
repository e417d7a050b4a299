"""Fitted models as plain functions, for few rows: trees through Treelite, linear models by a product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.utils.extmath import softmax

from ninefold.serving.compiled_encoders import (
    Declined,
    Encode,
    NotCompilable,
    Step,
    chain,
    compile_encoder,
    compile_step,
)
from ninefold.training import Blend, Calibrated

MOST_NODES = 2_000_000  # of trees; Treelite holds them a second time, about 100 bytes each


def compile_estimator(model: Any, names: list[str]) -> Encode:
    """Return the function of a fitted model: ``predict_proba`` of a classifier, ``predict`` of a regressor.

    Its values are float64, of shape (n, classes) or (n,).

    Parameters
    ----------
    model : estimator
        A pipeline from columns to a classifier or regressor; a `Blend` of such; a classifier that is `Calibrated`.
    names : list of str
        The names of the columns, in order.

    Raises
    ------
    NotCompilable
        If the model, or a part of it, is of another type.
    """
    kind = type(model)
    if kind is Blend:
        parts = [
            (compile_estimator(each, names), weight) for each, weight in zip(model.models, model.weights, strict=True)
        ]
        return lambda columns: np.asarray(sum(weight * part(columns) for part, weight in parts))
    if kind is Calibrated:
        raw = compile_estimator(model.model, names)
        return lambda columns: model.adjust(raw(columns))
    if kind is not Pipeline:
        raise NotCompilable(kind.__name__)
    first, *between, last = [each for _, each in model.steps]
    stored: list[Step] = [csr_matrix] if _summed_sparsely(first, last) else []
    return chain(compile_encoder(first, names), [*map(compile_step, between), *stored, _final(last)])


def _final(model: Any) -> Step:
    """Return the function of a fitted classifier or regressor of numbers, float64 of shape (n, parts)."""
    name = type(model).__name__
    known: dict[type, Callable[[Any], Step]] = {
        HistGradientBoostingClassifier: _boosted,
        HistGradientBoostingRegressor: _boosted,
        RandomForestClassifier: _forest,
        RandomForestRegressor: _forest,
        ExtraTreesClassifier: _forest,
        ExtraTreesRegressor: _forest,
        LogisticRegression: _logistic,
        Ridge: lambda ridge: lambda X: X @ ridge.coef_ + ridge.intercept_,
    }
    if type(model) in known:
        return known[type(model)](model)
    if name in ("LGBMClassifier", "LGBMRegressor") and type(model).__module__ == "lightgbm.sklearn":
        return _light(model, is_class=name == "LGBMClassifier")
    raise NotCompilable(name)


def _boosted(model: Any) -> Step:
    """Return the function of gradient boosting on histograms: trees summed in scikit-learn's order, so to the last bit."""
    start, loss = model._baseline_prediction, model._loss
    leaves = _leaves(model, sum(len(tree.nodes) for trees in model._predictors for tree in trees))
    known = _known_codes(model)
    is_class = isinstance(model, HistGradientBoostingClassifier)

    def predict(X: np.ndarray) -> np.ndarray:
        grown = leaves(known(X)).reshape(len(X), -1, start.shape[1])
        first = np.broadcast_to(start, (len(X), 1, start.shape[1]))
        raw = np.concatenate([first, grown], axis=1).cumsum(axis=1)[:, -1]
        return loss.predict_proba(raw) if is_class else loss.link.inverse(raw[:, 0])

    return predict


def _known_codes(model: Any) -> Step:
    """Return a function that makes missing what the model does not know as a code of a category, as the model does."""
    if model._preprocessor is None:
        return lambda X: X
    places = np.flatnonzero(model.is_categorical_)
    listed = [codes[~np.isnan(codes)] for codes in model._preprocessor.named_transformers_["encoder"].categories_]
    if not all(np.array_equal(codes, np.arange(len(codes))) for codes in listed):
        raise NotCompilable(f"{type(model).__name__} with categories that are not numbered from 0")
    sizes = np.array([len(codes) for codes in listed])

    def limit(X: np.ndarray) -> np.ndarray:
        limited, codes = X.copy(), X[:, places]
        with np.errstate(invalid="ignore"):
            known = (codes >= 0) & (codes < sizes) & (codes == np.floor(codes))
        limited[:, places] = np.where(known, codes, np.nan)
        return limited

    return limit


def _forest(model: Any) -> Step:
    """Return the function of a forest: the mean of its trees, which see numbers of single precision."""
    if model.n_outputs_ != 1:
        raise NotCompilable(f"{type(model).__name__} of several outcomes")
    count = len(model.estimators_)
    leaves = _leaves(model, sum(tree.tree_.node_count for tree in model.estimators_))
    is_class = hasattr(model, "classes_")

    def predict(X: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            single = X.astype("float32")
        if np.isinf(single).any():
            raise Declined("a number beyond single precision")
        mean = leaves(single.astype("float64")).reshape(len(X), count, -1).cumsum(axis=1)[:, -1] / count
        return mean if is_class else mean[:, 0]

    return predict


def _leaves(model: Any, nodes: int) -> Step:
    """Return a function from numbers to the prediction of each tree, through Treelite (Cho and Li, 2018)."""
    if nodes > MOST_NODES:
        raise NotCompilable(f"{type(model).__name__} of {nodes:,} nodes (at most {MOST_NODES:,})")
    import treelite.sklearn
    from treelite.gtil import predict_per_tree

    with np.errstate(invalid="ignore"):  # it reads codes as whole numbers, the missing one too
        trees = treelite.sklearn.import_model(model)
    return lambda X: predict_per_tree(trees, np.ascontiguousarray(X), nthread=1)


def _summed_sparsely(first: Any, last: Any) -> bool:
    """Return whether a linear model is given a sparse matrix, of which the products are summed in another order."""
    return isinstance(last, LogisticRegression | Ridge) and bool(getattr(first, "sparse_output_", False))


def _logistic(model: LogisticRegression) -> Step:
    weights, start, two = model.coef_.T, model.intercept_, len(model.classes_) == 2

    def predict(X: np.ndarray) -> np.ndarray:
        scores = X @ weights + start
        if not two:
            return softmax(scores, copy=False)
        event = expit(scores[:, 0])
        return np.column_stack([1 - event, event])

    return predict


def _light(model: Any, is_class: bool) -> Step:
    """Return the function of LightGBM: its own trees, without a table."""
    trees = model.booster_

    def predict(X: np.ndarray) -> np.ndarray:
        values = trees.predict(X, num_threads=1)
        return np.column_stack([1 - values, values]) if is_class and values.ndim == 1 else values

    return predict
