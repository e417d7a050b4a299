"""The few estimators that scikit-learn lacks: dates as numbers, probabilities set right, quantities with intervals."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from ninefold.core.moments import as_days

LEAST_PROBABILITY = 1e-6
TOKENS: dict[str, Any] = {"ngram_range": (1, 2), "strip_accents": "unicode"}
BINS, ROWS_A_BIN = 10, 200  # errors are told apart by the size of the prediction where there are enough of them


class DateParts(TransformerMixin, BaseEstimator):
    """Days since 1970-01-01 (float64) as numbers that a model can use: the days, month, day, weekday and hour.

    Parameters
    ----------
    trend : bool
        Whether the days themselves are among them. Of the event's own time every later row has more days than any seen,
        for which trees repeat what was so last.
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
            days = _days(X.iloc[:, number])
            moment = pd.to_datetime(days.where(days.abs() < 100_000), unit="D", errors="coerce")
            named = moment.dt
            parts += [days] * self.trend + [named.month, named.day, named.day_of_week, named.hour + named.minute / 60]
        return np.column_stack([np.asarray(part, dtype="float64") for part in parts])


class Categories(TransformerMixin, BaseEstimator):
    """Encoded columns as a table, of which the first ones are categories, as LightGBM wants to be told.

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
    """Columns without any value in training as zero, which histograms can count; the others stay as they are."""

    def fit(self, X: np.ndarray, y: Any = None) -> EmptyAsZero:
        """Remember which columns are empty."""
        self.empty_ = np.isnan(np.asarray(X, dtype="float64")).all(axis=0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the same columns: float64, shape (n, columns)."""
        check_is_fitted(self)
        return np.where(self.empty_, 0.0, np.asarray(X, dtype="float64"))


class Words(TransformerMixin, BaseEstimator):
    """The words, and pairs of words, of one column of text, weighed by how rare they are.

    Parameters
    ----------
    parts : int, optional
        Condense them to so many numbers where there are more words (latent semantic analysis; Deerwester et al., 1990).
    least : int
        Rows in which a word has to stand to be learned.
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
        """Learn the words. Where none stands in enough rows, one that never comes is all there is."""
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
            with np.errstate(divide="ignore", invalid="ignore"):  # equal texts have no variance to take shares of
                self.condense_.fit(self.weigh_.transform(counts))
        return self

    def transform(self, X: pd.Series) -> Any:
        """Return the weights: sparse, shape (n, words); or, where parts are asked for, dense, shape (n, parts or words)."""
        check_is_fitted(self)
        weighed = self.weigh_.transform(_counter(self.words_).transform(_texts(X)))
        if self.condense_ is not None:
            return self.condense_.transform(weighed)
        return weighed.toarray() if self.parts else weighed


class Blend(BaseEstimator):
    """The weighted mean of what several fitted models forecast.

    Parameters
    ----------
    models : list of estimator
        Fitted classifiers or regressors, all of one kind.
    weights : list of float
        Of the same length; they sum to 1.
    """

    def __init__(self, models: list[Any], weights: list[float]) -> None:
        self.models = models
        self.weights = weights

    def fit(self, X: pd.DataFrame, y: Any) -> Blend:
        """Fit every model anew; the weights stay."""
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
        """The classes of the models, which all saw the same outcomes."""
        return self.models[0].classes_

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the mean probability of every class: float64, shape (n, classes)."""
        return np.asarray(sum(weight * model.predict_proba(X) for model, weight in self._weighted()))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the mean prediction of regressors, or the class with the highest mean probability."""
        if hasattr(self.models[0], "predict_proba"):
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return np.asarray(sum(weight * model.predict(X) for model, weight in self._weighted()))

    def _weighted(self) -> list[tuple[Any, float]]:
        return list(zip(self.models, self.weights, strict=True))


class Calibrated(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose probabilities are set right by a map that was learned on rows it had not seen.

    ``sigmoid``: logistic regression on log probabilities (Platt, 1999; for several classes Kull et al., 2019).
    ``isotonic``: a monotone step function per class (Zadrozny and Elkan, 2002), then the sum is made 1.

    Parameters
    ----------
    model : classifier
        Fitted.
    method : str
        ``sigmoid`` or ``isotonic``.
    """

    def __init__(self, model: Any, method: str = "sigmoid") -> None:
        self.model = model
        self.method = method

    def fit(self, X: pd.DataFrame, y: Any) -> Calibrated:
        """Fit the model anew; the map stays as it was learned."""
        self.model.fit(X, y)
        return self

    def fit_map(self, p: np.ndarray, target: np.ndarray) -> Calibrated:
        """Learn the map from probabilities, shape (n, classes), and outcomes (int, shape (n,)) of unseen rows."""
        self.classes_ = np.arange(p.shape[1])
        if self.method == "sigmoid":
            self.maps_ = [LogisticRegression(C=1e3, max_iter=1000).fit(_logs(p), target)]
        else:
            least = 1 / (len(target) + 2)  # no step is surer than its rows can tell (Laplace's rule)
            limits: dict[str, Any] = {"y_min": least, "y_max": 1 - least, "out_of_bounds": "clip"}
            numbers = [1] if p.shape[1] == 2 else self.classes_
            self.maps_ = [IsotonicRegression(**limits).fit(p[:, number], target == number) for number in numbers]
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probability of every class: float64, shape (n, classes)."""
        return self.adjust(self.model.predict_proba(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the most probable class."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def adjust(self, p: np.ndarray) -> np.ndarray:
        """Return probabilities set right: float64, shape (n, classes)."""
        if self.method == "sigmoid":
            adjusted = np.full(p.shape, LEAST_PROBABILITY)
            adjusted[:, self.maps_[0].classes_] = self.maps_[0].predict_proba(_logs(p))
            return adjusted / adjusted.sum(axis=1, keepdims=True)
        if p.shape[1] == 2:
            event = np.clip(self.maps_[0].predict(p[:, 1]), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
            return np.column_stack([1 - event, event])
        steps = np.column_stack([step.predict(p[:, number]) for number, step in enumerate(self.maps_)])
        return steps / steps.sum(axis=1, keepdims=True)


class WithInterval(RegressorMixin, BaseEstimator):
    """A fitted regressor with an interval, and the quantity of least expected cost, by its errors on unseen rows.

    Split conformal prediction (Lei et al., Distribution-Free Predictive Inference for Regression, 2018), within bins of
    the prediction where there are enough errors (Mondrian; Vovk et al., Algorithmic Learning in a Random World, 2005).

    Parameters
    ----------
    model : regressor
        Fitted.
    level : float
        Share of outcomes that the interval is to hold, 0-1.
    over, under : float
        What a unit too high, or too low, costs.
    """

    def __init__(self, model: Any, level: float = 0.9, over: float = 1.0, under: float = 1.0) -> None:
        self.model = model
        self.level = level
        self.over = over
        self.under = under

    def fit(self, X: pd.DataFrame, y: Any) -> WithInterval:
        """Fit the model anew; the errors stay as they were learned."""
        self.model.fit(X, y)
        return self

    def fit_errors(self, prediction: np.ndarray, target: np.ndarray) -> WithInterval:
        """Learn the errors from predictions and outcomes of unseen rows: float64, shape (n,) each."""
        error = np.asarray(target, dtype="float64") - prediction
        count = max(1, min(BINS, len(error) // ROWS_A_BIN))
        self.edges_ = np.unique(np.quantile(prediction, np.linspace(0, 1, count + 1)[1:-1]))
        bins = np.searchsorted(self.edges_, prediction, side="right")
        found = [self._describe(error[bins == number], error) for number in range(len(self.edges_) + 1)]
        self.low_, self.high_, self.shift_, self.loss_ = np.array(found).T
        self.levels_ = np.round(np.linspace(0.02, 0.98, 49), 2)
        self.shifts_ = np.quantile(error, self.levels_)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the prediction: float64, shape (n,)."""
        return np.asarray(self.model.predict(X), dtype="float64")

    def forecast(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return ``prediction``, ``low``, ``high``, ``quantile`` (of least expected cost) and its expected ``loss``."""
        return self.around(self.predict(X))

    def around(self, prediction: np.ndarray) -> pd.DataFrame:
        """Return the forecast that belongs to a prediction, as `forecast` does; the model itself is not asked."""
        bins = np.searchsorted(self.edges_, prediction, side="right")
        ends = {"low": self.low_, "high": self.high_, "quantile": self.shift_}
        columns = {name: prediction + shift[bins] for name, shift in ends.items()}
        return pd.DataFrame({"prediction": prediction, **columns, "loss": self.loss_[bins]})

    def _describe(self, error: np.ndarray, whole: np.ndarray) -> tuple[float, float, float, float]:
        error = error if len(error) else whole
        tail, size = (1 - self.level) / 2, len(error)
        # One more than the rows, because the next outcome is one too (Lei et al., section 2).
        low = np.quantile(error, max(np.floor((size + 1) * tail) / size, 0), method="lower")
        high = np.quantile(error, min(np.ceil((size + 1) * (1 - tail)) / size, 1), method="lower")
        shift = np.quantile(error, self.under / (self.under + self.over))
        excess = shift - error
        loss = np.where(excess > 0, self.over * excess, -self.under * excess).mean()
        return float(low), float(high), float(shift), float(loss)


def _texts(column: pd.Series) -> np.ndarray:
    """Return texts, an empty one where it is missing, as scikit-learn's vectorizers want them."""
    return pd.Series(column).astype("object").fillna("").to_numpy(dtype=object)


@lru_cache(maxsize=32)
def _counter(words: str) -> CountVectorizer:
    return CountVectorizer(**TOKENS, vocabulary=words.split("\n"))


def _days(column: pd.Series) -> pd.Series:
    """Return days since 1970-01-01 (float64), as which dates come; or moments, as which the time of the events does."""
    return pd.Series(np.asarray(as_days(column), dtype="float64"))


def _logs(p: np.ndarray) -> np.ndarray:
    logs = np.log(np.clip(p, LEAST_PROBABILITY, 1))
    return (logs[:, 1:] - logs[:, :1]) if p.shape[1] == 2 else logs
