"""Estimators that scikit-learn lacks: parts of dates, words, categories for LightGBM, weighted means of models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.utils.validation import check_is_fitted

from ninefold.timestamps import as_days

TOKENS: dict[str, Any] = {"ngram_range": (1, 2), "strip_accents": "unicode"}
MOST_DAYS = 100_000  # since 1970-01-01, beyond which pandas has no dates
Wrapper = TypeVar("Wrapper", bound=BaseEstimator)


class DateParts(TransformerMixin, BaseEstimator):
    """Days since 1970-01-01 (float64) as numbers that a model can use: the days, month, day, weekday and hour.

    Parameters
    ----------
    trend : bool
        Whether the days themselves are among them. In the event's own time every later row has more days than any in
        training, and trees cannot extrapolate.
    """

    def __init__(self, trend: bool = True) -> None:
        self.trend = trend

    def fit(self, X: pd.DataFrame, y: Any = None) -> DateParts:
        """Remember the number of columns."""
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return four columns for each, and one of the trend: float64, missing where the date is."""
        check_is_fitted(self)
        parts = []
        for number in range(X.shape[1]):
            days = pd.Series(np.asarray(as_days(X.iloc[:, number]), dtype="float64"))
            date = pd.to_datetime(days.where(days.abs() < MOST_DAYS), unit="D", errors="coerce").dt
            parts += [days] * self.trend + [date.month, date.day, date.day_of_week, date.hour + date.minute / 60]
        return np.column_stack([np.asarray(part, dtype="float64") for part in parts])


class Categories(TransformerMixin, BaseEstimator):
    """Encoded columns as a table whose first ones are categorical, as LightGBM needs them.

    Parameters
    ----------
    count : int
        Columns that hold codes, the first ones.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def fit(self, X: np.ndarray, y: Any = None) -> Categories:
        """Remember how many codes each has."""
        codes = pd.DataFrame(np.asarray(X, dtype="float64")[:, : self.count])
        self.sizes_ = (codes.max().fillna(-1).to_numpy() + 1).astype("int64")
        return self

    def transform(self, X: np.ndarray) -> pd.DataFrame:
        """Return the columns, called ``column_0`` and so on: codes categorical, the others float64."""
        check_is_fitted(self)
        frame = pd.DataFrame(np.asarray(X, dtype="float64")).add_prefix("column_")
        for name, size in zip(frame.columns, self.sizes_, strict=False):
            codes = frame[name].fillna(-1).astype("int64")
            frame[name] = pd.Categorical.from_codes(codes.where(codes < size, -1), categories=range(max(size, 1)))
        return frame


class EmptyAsZero(TransformerMixin, BaseEstimator):
    """Zero in columns that have no value in training, since histograms need one; the others stay as they are."""

    def fit(self, X: np.ndarray, y: Any = None) -> EmptyAsZero:
        """Remember which columns are empty."""
        self.empty_ = np.isnan(np.asarray(X, dtype="float64")).all(axis=0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the same columns: float64, shape (n, columns)."""
        check_is_fitted(self)
        return np.where(self.empty_, 0.0, np.asarray(X, dtype="float64"))


class Words(TransformerMixin, BaseEstimator):
    """TF-IDF weights of the words, and pairs of words, of one text column.

    Parameters
    ----------
    parts : int, optional
        Reduce them to so many numbers where there are more words (latent semantic analysis; Deerwester et al., 1990).
    least : int
        Rows in which a word has to occur to be learned.
    most : int
        Words that are learned at most, the most frequent ones.
    seed : int
        Of the decomposition.
    """

    def __init__(self, parts: int | None = None, least: int = 3, most: int = 20_000, seed: int = 0) -> None:
        self.parts = parts
        self.least = least
        self.most = most
        self.seed = seed

    def fit(self, X: pd.Series, y: Any = None) -> Words:
        """Learn the words. If none occurs in enough rows, the vocabulary is one word that matches nothing."""
        texts = _texts(X)
        try:
            counter = CountVectorizer(**TOKENS, min_df=self.least, max_features=self.most).fit(texts)
            # One text instead of a table of words: the model file would hold a file for each of them.
            self.words_ = "\n".join(counter.get_feature_names_out())
        except ValueError:
            self.words_ = " "
        counts = _counter(self.words_).transform(texts)
        self.weigh_ = TfidfTransformer(sublinear_tf=True).fit(counts)
        self.condense_ = None
        if self.parts and counts.shape[1] > self.parts:
            self.condense_ = TruncatedSVD(self.parts, random_state=self.seed)
            with np.errstate(divide="ignore", invalid="ignore"):  # equal texts have no variance to explain
                self.condense_.fit(self.weigh_.transform(counts))
        return self

    def transform(self, X: pd.Series) -> Any:
        """Return the weights: sparse, shape (n, words); with `parts` dense, shape (n, parts or words)."""
        check_is_fitted(self)
        weights = self.weigh_.transform(_counter(self.words_).transform(_texts(X)))
        if self.condense_ is not None:
            return self.condense_.transform(weights)
        return weights.toarray() if self.parts else weights


class Blend(BaseEstimator):
    """The weighted mean of the predictions of several models.

    Parameters
    ----------
    models : list of estimator
        Classifiers or regressors, all of one kind.
    weights : list of float
        Of the same length; they sum to 1.
    """

    def __init__(self, models: list[Any], weights: list[float]) -> None:
        self.models = models
        self.weights = weights

    def fit(self, X: pd.DataFrame, y: Any) -> Blend:
        """Fit every model; the weights stay."""
        for model in self.models:
            model.fit(X, y)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether all models are fitted."""
        try:
            for model in self.models:
                check_is_fitted(model)
        except NotFittedError:
            return False
        return True

    @property
    def classes_(self) -> np.ndarray:
        """The classes of the models, which are the same for all."""
        return self.models[0].classes_

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the mean probability of every class: float64, shape (n, classes)."""
        return self._mean("predict_proba", X)

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the mean prediction of regressors, or the class with the highest mean probability."""
        if hasattr(self.models[0], "predict_proba"):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return self._mean("predict", X)

    def _mean(self, method: str, X: pd.DataFrame) -> np.ndarray:
        pairs = zip(self.models, self.weights, strict=True)
        return np.asarray(sum(weight * getattr(model, method)(X) for model, weight in pairs))


def refit(wrapper: Wrapper, X: pd.DataFrame, y: Any) -> Wrapper:
    """Fit the model of a wrapper, and drop what the wrapper had learned of the model before."""
    wrapper.model.fit(X, y)
    for name in [name for name in vars(wrapper) if name.endswith("_")]:
        delattr(wrapper, name)
    return wrapper


def _texts(column: pd.Series) -> np.ndarray:
    """Return texts as scikit-learn's vectorizers need them, an empty one where it is missing."""
    return pd.Series(column).astype("object").fillna("").to_numpy(dtype=object)


@lru_cache(maxsize=32)
def _counter(words: str) -> CountVectorizer:
    return CountVectorizer(**TOKENS, vocabulary=words.split("\n"))
