"""The rows of a period as the statistics of monitoring take them: features, prediction, outcome where known, block."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from ninefold.metrics import subsample
from ninefold.problem import Problem, decisions
from ninefold.timestamps import as_days

FORECAST = "the forecast"  # beside the names of features
LEAST_WINDOWS, MOST_WINDOWS = 8, 24


class Rows(NamedTuple):
    """Rows of a period, all four attributes in one order."""

    features: pd.DataFrame  # text as str, all else float64
    predicted: pd.DataFrame  # the columns of `decisions.forecast_columns`; none where there is no prediction
    target: np.ndarray  # float64, as `decisions.outcome` encodes it; NaN where it is not known yet
    block: np.ndarray  # int64: the day since 1970-01-01 where there is time, else the entity or the row


class Bins(NamedTuple):
    """The places of the values of a feature: 0 where it is missing; of numbers by edges, of categories by name, unseen last."""

    kind: str
    edges: np.ndarray | pd.Index

    @classmethod
    def of(cls, column: pd.Series, kind: str) -> Self:
        """Return the bins of a feature: deciles of numbers (of a text: of its length), every known category."""
        is_category = kind == "categorical"
        return cls(kind, pd.Index(column.dropna().unique()) if is_category else quantile_edges(measured(column, kind)))

    @property
    def size(self) -> int:
        """The number of places."""
        return len(self.edges) + (2 if isinstance(self.edges, pd.Index) else 3)

    def places(self, column: pd.Series) -> np.ndarray:
        """Return the place of each value: int64, 0 where it is missing."""
        if isinstance(self.edges, pd.Index):
            position = self.edges.get_indexer(pd.Index(column)) + 1
            return np.where(column.isna(), 0, np.where(position < 1, self.size - 1, position))
        values = measured(column, self.kind)
        return np.where(np.isnan(values), 0, np.searchsorted(self.edges, values, side="right") + 1)

    def counts(self, column: pd.Series) -> np.ndarray:
        """Return the number of values at each place: int64."""
        return np.bincount(self.places(column), minlength=self.size)


def rows(frame: pd.DataFrame, predicted: pd.DataFrame, kinds: Mapping[str, str], problem: Problem) -> Rows:
    """Return the rows of a table with predictions; with time a date becomes days before the event."""
    moment = as_days(frame[problem.time]) if problem.time else None
    columns = {}
    for name, kind in kinds.items():
        columns[name] = frame[name].astype("str") if kind in ("categorical", "text") else as_days(frame[name])
        if kind == "date" and moment is not None:
            columns[name] = moment - columns[name]
    target, block = np.full(len(frame), np.nan), np.arange(len(frame))
    if problem.target in frame:
        target = frame[problem.target].to_numpy("float64", na_value=np.nan)
    if problem.time:
        block = problem.local_times(frame).to_numpy("datetime64[D]").astype("int64")
    elif problem.group:
        block = frame.groupby(problem.group, sort=False, dropna=False).ngroup().to_numpy("int64")
    features = pd.DataFrame(columns, index=frame.index).reset_index(drop=True)
    return Rows(features, predicted.reset_index(drop=True), target, block)


def take(whole: Rows, where: np.ndarray) -> Rows:
    """Return some of the rows, by mask or positions."""
    features, predicted = (table.iloc[where].reset_index(drop=True) for table in (whole.features, whole.predicted))
    return Rows(features, predicted, whole.target[where], whole.block[where])


def sample(whole: Rows, most: int) -> Rows:
    """Return at most so many rows, spread evenly."""
    return whole if len(whole.block) <= most else take(whole, subsample(len(whole.block), most))


def expected(rows: Rows, problem: Problem) -> np.ndarray:
    """Return the predicted probability of the event, that of each class, or the quantity; float64, shape (n, k)."""
    if problem.task == "multiclass":
        return decisions.probabilities(rows.predicted, problem)
    return np.asarray(decisions.expected(rows.predicted, problem), dtype="float64")[:, None]


def residuals(rows: Rows, problem: Problem) -> np.ndarray:
    """Return outcome minus prediction: of the event, of each class, or of the quantity; float64, shape (n, k)."""
    outcome = decisions.event(rows.target, problem)[:, None]
    if problem.task == "multiclass":
        outcome = rows.target[:, None] == np.arange(len(problem.classes))
    return outcome - expected(rows, problem)


def windows(block: np.ndarray, length: float, timed: bool, days: float = 1.0) -> list[np.ndarray]:
    """Return masks of windows as long as a period: `length` consecutive days, or groups of so many rows without time.

    Where fewer than `LEAST_WINDOWS` of that length fit, they are made shorter. At most `MOST_WINDOWS` are taken. A block
    stands for so many `days`: those of a month, where times are months.
    """
    if not len(block):
        return []
    if timed:
        place = np.round((block - block.min()) / days)
        length = max(np.floor(min(length / days, (place.max() + 1) / LEAST_WINDOWS)), 1)
    else:  # blocks in random order, each at the row with which it begins
        code = pd.factorize(block)[0]
        size = np.bincount(code)
        order = np.random.default_rng(0).permutation(len(size))
        place = (np.cumsum(size[order]) - size[order])[np.argsort(order)][code]
        length = max(min(length, len(block) / LEAST_WINDOWS), 1)
    window = (place // length).astype("int64")
    size = np.bincount(window)
    whole = np.flatnonzero(size >= np.median(size[size > 0]) / 2)
    return [window == number for number in whole[subsample(len(whole), MOST_WINDOWS)]]


def replays(
    block: np.ndarray, length: float, timed: bool, count: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield stable periods of whole blocks, drawn with replacement: positions of rows, and the block of each, from 0."""
    code, names = pd.factorize(block)
    size = np.bincount(code)
    members = np.split(np.argsort(code, kind="stable"), np.cumsum(size)[:-1])
    draws = max(round(length if timed else length / size.mean()), 1)
    random = np.random.default_rng(seed)
    for _ in range(count):
        blocks = random.integers(0, len(names), draws)
        yield np.concatenate([members[each] for each in blocks]), np.repeat(np.arange(draws), size[blocks])


def quantile_edges(values: np.ndarray, count: int = 10) -> np.ndarray:
    """Return the distinct inner edges of so many quantile bins of the finite values."""
    finite = values[np.isfinite(values)]
    return np.unique(np.quantile(finite, np.linspace(0, 1, count + 1)[1:-1])) if len(finite) else np.array([])


def measured(column: pd.Series, kind: str) -> np.ndarray:
    """Return what of a feature can be ordered: its numbers, the length of a text; float64."""
    return (column.str.len() if kind == "text" else column).to_numpy("float64", na_value=np.nan)
