"""The rows of a period as the statistics of monitoring take them: features, forecast, outcome where known, block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from ninefold.monitoring.two_sample import thin
from ninefold.problem import Problem
from ninefold.timestamps import as_days, utc

MISSING = -1  # the place of a missing value; the last place is that of values that were not known


class Rows(NamedTuple):
    """Rows of a period, all four attributes in one order."""

    features: pd.DataFrame  # text as str, all else float64
    predicted: pd.DataFrame  # the columns of `decisions.forecast_columns`; none where there was no forecast
    target: np.ndarray  # float64, as `decisions.outcome` encodes it; NaN where it is not known yet
    block: np.ndarray  # int64: the day since 1970-01-01 where there is time, else the entity or the row


class Bins(NamedTuple):
    """How the values of a feature are put into places: by edges of numbers, or by name."""

    edges: np.ndarray
    names: pd.Index | None
    size: int  # of places, without that of missing values


def rows(frame: pd.DataFrame, predicted: pd.DataFrame, kinds: Mapping[str, str], problem: Problem) -> Rows:
    """Return the rows of a table with their forecast.

    Parameters
    ----------
    frame : DataFrame
        The features, the time and group of the problem; the target where outcomes are known.
    predicted : DataFrame
        Row by row; empty for rows that the model was fitted on, whose forecasts say nothing.
    kinds : mapping
        Feature -> its kind, as the signature of the bundle has it. A date is taken as days before the event where there
        is time: dates themselves move on in every stream.
    problem : mapping
        The problem.
    """
    moment = as_days(frame[problem.time]) if problem.time else None
    columns = {}
    for name, kind in kinds.items():
        if kind in ("categorical", "text"):
            columns[name] = frame[name].astype("str")
        elif kind == "date" and moment is not None:
            columns[name] = moment - as_days(frame[name])
        else:
            columns[name] = as_days(frame[name])
    target = np.full(len(frame), np.nan)
    if problem.target in frame:
        target = frame[problem.target].to_numpy("float64", na_value=np.nan)
    if problem.time:
        block = utc(frame[problem.time]).to_numpy("datetime64[D]").astype("int64")
    elif problem.group:
        block = frame.groupby(problem.group, sort=False, dropna=False).ngroup().to_numpy("int64")
    else:
        block = np.arange(len(frame))
    features = pd.DataFrame(columns, index=frame.index).reset_index(drop=True)
    return Rows(features, predicted.reset_index(drop=True), target, block)


def take(whole: Rows, where: np.ndarray) -> Rows:
    """Return some of the rows, by mask or positions."""
    where = np.flatnonzero(where) if where.dtype == bool else where
    predicted = whole.predicted.iloc[where] if len(whole.predicted.columns) else whole.predicted
    features = whole.features.iloc[where].reset_index(drop=True)
    return Rows(features, predicted.reset_index(drop=True), whole.target[where], whole.block[where])


def sample(whole: Rows, most: int) -> Rows:
    """Return at most so many rows, spread evenly."""
    return whole if len(whole.block) <= most else take(whole, thin(len(whole.block), most))


def known(whole: Rows) -> Rows:
    """Return the rows whose outcome is known."""
    return take(whole, np.isfinite(whole.target))


def windows(
    block: np.ndarray, length: float, timed: bool, fewest: int = 8, most: int = 30, seed: int = 0
) -> list[np.ndarray]:
    """Return masks of windows as long as a period: consecutive days, or groups of rows where there is no time.

    Where fewer than `fewest` of that length fit, they are made shorter. In a stable stream a mean over a shorter window
    varies more, so that bounds become wide rather than narrow. Of more than `most` so many are taken, spread evenly.

    Parameters
    ----------
    block : ndarray of int, shape (n,)
        Of `Rows`.
    length : float
        Of a period: days where there is time, else rows.
    """
    if not len(block):
        return []
    place = block - block.min()
    if not timed:  # blocks in random order, each at the row with which it begins
        size = np.bincount(pd.factorize(block)[0])
        order = np.random.default_rng(seed).permutation(len(size))
        start = np.empty(len(size), dtype="int64")
        start[order] = np.cumsum(size[order]) - size[order]
        place = start[pd.factorize(block)[0]]
    span = int(place.max()) + 1 if timed else len(block)
    length = max(min(length, span / fewest), 1.0)
    if timed:
        length = np.floor(length)
    window = (place // length).astype("int64")
    size = np.bincount(window)
    whole = np.flatnonzero(size >= np.median(size[size > 0]) / 2)
    return [window == number for number in whole[thin(len(whole), most)]]


def replays(
    block: np.ndarray, length: float, timed: bool, count: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield stable periods, drawn with replacement from whole blocks: positions of rows, and the block of each, from 0.

    With them the share of periods that alert without cause can be measured.
    """
    code, names = pd.factorize(block)
    order, size = np.argsort(code, kind="stable"), np.bincount(code)
    first = np.cumsum(size) - size
    draws = max(round(length if timed else length / size.mean()), 1)
    random = np.random.default_rng(seed)
    for _ in range(count):
        chosen_blocks = random.integers(0, len(names), draws)
        parts = [order[first[one] : first[one] + size[one]] for one in chosen_blocks]
        yield np.concatenate(parts), np.repeat(np.arange(draws), size[chosen_blocks])


def learn_bins(column: pd.Series, kind: str, count: int = 10) -> Bins:
    """Return the places of a feature's values: deciles of numbers (of a text: of its length), every known category."""
    if kind == "categorical":
        names = pd.Index(column.dropna().unique())
        return Bins(np.array([]), names, len(names) + 1)
    values = measured(column, kind)
    finite = values[np.isfinite(values)]
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, count + 1)[1:-1])) if len(finite) else np.array([])
    return Bins(edges, None, len(edges) + 2)


def places(column: pd.Series, kind: str, bins: Bins) -> np.ndarray:
    """Return the place of each value, int64, from 0; `MISSING` where there is none, the last one for unseen categories."""
    if bins.names is not None:
        position = bins.names.get_indexer(pd.Index(column))
        return np.where(column.isna(), MISSING, np.where(position < 0, bins.size - 1, position))
    values = measured(column, kind)
    return np.where(np.isnan(values), MISSING, np.searchsorted(bins.edges, values, side="right"))


def measured(column: pd.Series, kind: str) -> np.ndarray:
    """Return what of a feature can be put in order: its numbers, the length of a text; float64."""
    return (column.str.len() if kind == "text" else column).to_numpy("float64", na_value=np.nan)
