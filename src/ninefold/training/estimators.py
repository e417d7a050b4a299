"""Estimators that scikit-learn lacks: parts of dates, words, categories for LightGBM, weighted means of models."""

from functools import lru_cache
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from ninefold.timestamps import MICROSECONDS, as_days, days_of, local

TOKENS: dict[str, Any] = {"ngram_range": (1, 2), "strip_accents": "unicode"}
LEAST_TEXTS, MOST_WORDS = 3, 20_000  # in which a word occurs; words, the most frequent ones
MOST_DAYS = 100_000  # since 1970-01-01, beyond which pandas has no dates
DAY, HOUR, MINUTE = 86_400_000_000_000, 3_600_000_000_000, 60_000_000_000  # nanoseconds
DIGITS = 13  # to which pandas rounds a fraction of a day before it counts nanoseconds


class DateParts(TransformerMixin, BaseEstimator):
    """Days since 1970-01-01 (float64, UTC) as local month, day, weekday and hour; with `trend` the days, too."""

    timezone = "UTC"  # of models that were saved without one
    is_coarse_: Any = False

    def __init__(self, trend: bool = True, timezone: str = "UTC") -> None:
        self.trend = trend
        self.timezone = timezone

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Remember which columns have hours (dates without are the same in every zone), and which are months: no weekdays."""
        columns = [as_days(X.iloc[:, number]) for number in range(X.shape[1])]
        self.n_features_in_ = len(columns)
        self.has_hours_ = np.array([(days % 1 > 0).any() for days in columns])
        known = (days[days.abs() < MOST_DAYS] * MICROSECONDS for days in columns)
        self.is_coarse_ = np.array([days_of(each.round().astype("datetime64[us]")) > 7 for each in known])
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return four columns for each, and one of the trend: float64, missing where the date is."""
        check_is_fitted(self)
        days = [np.asarray(as_days(X.iloc[:, number]), dtype="float64") for number in range(X.shape[1])]
        return self.parts(np.column_stack(days))

    def parts(self, days: np.ndarray) -> np.ndarray:
        """Return what `transform` does, of plain numbers; like pandas, it counts whole days and a rounded fraction."""
        near = np.abs(days) < MOST_DAYS
        exact = np.where(near, days, 0.0)
        whole = np.trunc(exact)
        time = whole.astype("int64") * DAY + (np.round(exact - whole, DIGITS) * DAY).astype("int64")
        if self.timezone != "UTC":
            there = local(pd.Series(time.ravel().view("M8[ns]")), self.timezone).to_numpy().view("int64")
            time = np.where(self.has_hours_, there.reshape(time.shape), time)
        day = time.view("M8[ns]").astype("M8[D]")
        month, number, rest = day.astype("M8[M]"), day.astype("int64"), time % DAY
        hour = rest // HOUR + rest % HOUR // MINUTE / 60
        weekday = np.where(self.is_coarse_, 0, (number + 3) % 7)
        parts = [month.astype("int64") % 12 + 1, (day - month).astype("int64") + 1, weekday, hour]
        known = [np.where(near, part, np.nan) for part in parts]
        return np.stack([days] * self.trend + known, axis=-1).reshape(len(days), -1)


class Categories(TransformerMixin, BaseEstimator):
    """Encoded columns as a table whose first `count` ones, which hold codes, are categorical, as LightGBM needs them."""

    def __init__(self, count: int) -> None:
        self.count = count

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
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

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Remember which columns are empty."""
        self.empty_ = np.isnan(np.asarray(X, dtype="float64")).all(axis=0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the same columns: float64, shape (n, columns)."""
        check_is_fitted(self)
        return np.where(self.empty_, 0.0, np.asarray(X, dtype="float64"))


class Words(TransformerMixin, BaseEstimator):
    """TF-IDF weights of the words, and pairs of words, of one text column.

    More words than `parts` are reduced to so many numbers (latent semantic analysis; Deerwester et al., 1990).
    """

    def __init__(self, parts: int | None = None, seed: int = 0) -> None:
        self.parts = parts
        self.seed = seed

    def fit(self, X: pd.Series, y: Any = None) -> Self:
        """Learn the words. If none occurs in enough rows, the vocabulary is one word that matches nothing."""
        texts = _texts(X)
        try:
            counter = CountVectorizer(**TOKENS, min_df=LEAST_TEXTS, max_features=MOST_WORDS).fit(texts)
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
    """The weighted mean of the predictions of several models, classifiers or regressors; weights sum to 1."""

    def __init__(self, models: list[Any], weights: list[float]) -> None:
        self.models = models
        self.weights = weights

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit every model, side by side in threads; the weights stay."""
        self.models = Parallel(n_jobs=-1, require="sharedmem")(delayed(model.fit)(X, y) for model in self.models)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether all models are fitted; raise NotFittedError for the first that is not."""
        for model in self.models:
            check_is_fitted(model)
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


class Wrapper(BaseEstimator):
    """An estimator that corrects the predictions of its ``model`` by what it learned of them on unseen rows."""

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit the model, and drop what was learned of the one before."""
        self.model.fit(X, y)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        return self


def of_all_classes(p: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
    """Return probabilities of the `known` classes as those of all: float64, shape (n, count), 0 of one never seen."""
    every = np.zeros((len(p), count))
    every[:, np.asarray(known, dtype=int)] = p
    return every


def _texts(column: pd.Series) -> np.ndarray:
    return pd.Series(column).astype("object").fillna("").to_numpy(dtype=object)


@lru_cache(maxsize=32)
def _counter(words: str) -> CountVectorizer:
    return CountVectorizer(**TOKENS, vocabulary=words.split("\n"))
