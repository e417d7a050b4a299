"""What the periods of a model are compared with: distributions, and the control limits of every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from ninefold.metrics import EvaluationPlan, evaluation, one_score
from ninefold.monitoring import causes, control_limits, drift, performance_estimation, period, shift_tests, two_sample
from ninefold.monitoring.control_limits import Shape
from ninefold.monitoring.performance_estimation import Learned
from ninefold.monitoring.period import Bins, Rows
from ninefold.monitoring.shift_tests import FORECAST
from ninefold.problem import RANKING, Problem, decisions
from ninefold.training import losses

MOST_ROWS = 200_000  # of a side: the standard error of a share of so many is at most 0.1 %
MOST_WINDOWS = 24
ENOUGH_WINDOWS = 20  # of the holdout, for its figures to vary as they do between these
RESAMPLES = 60  # periods drawn from the days of the holdout where it has fewer windows
LEAST_VOLUME = 0.05  # of the usual rows a day; a smaller change does not matter
LEAST_ROWS = 100  # of a category value, to be a slice
RARE = 0.01  # of the rows; rarer categories are one
LABELLED = 0.5  # share of the rows whose outcome has to be known
SHAPES = {
    "missing": Shape("high", "plain", 0.01),
    "unseen": Shape("high", "plain", 0.01),
    "psi": Shape("high", "root", 0.05),
    "joint auc": Shape("high"),
    "loss": Shape("high", "log"),
    "ranking": Shape("low"),
    "payoff": Shape("low"),
    "gain": Shape("low"),
    "slices": Shape("high", "log"),
}


class Context(NamedTuple):
    """What a model is about: its features (name -> kind, without the time of the event), problem and evaluation plan."""

    kinds: Mapping[str, str]
    problem: Problem
    plan: EvaluationPlan


class Reference(NamedTuple):
    """What periods are compared with; made once for a model."""

    known: Rows  # the rows fitted on, and the holdout
    holdout: Rows
    kinds: Mapping[str, str]
    problem: Problem
    plan: EvaluationPlan
    bins: dict[str, Bins]
    counts: dict[str, np.ndarray]  # of the known rows, by bin
    bounds: pd.DataFrame  # the control limits
    learned: Learned
    per_day: float | None
    seed: int


def reference(
    fitted: Rows | None, holdout: Rows, context: Context, length: float, alpha: float = 0.05, seed: int = 0
) -> Reference:
    """Return distributions, the control limits of every figure, and the errors on the holdout.

    Figures of inputs vary as between windows of all known rows. Those of predictions and outcomes vary as in the
    holdout alone: between its windows, or where these are fewer than `ENOUGH_WINDOWS`, between periods drawn from its
    days with replacement. Such periods vary less than real weeks, whose days are correlated: a season that the holdout
    does not have is beyond these limits.

    Parameters
    ----------
    fitted : Rows, optional
        What the model was fitted on; its predictions are not used. Rows without an outcome belong to it too.
    holdout : Rows
        With predictions, and outcomes where they are known.
    context : Context
    length : float
        Of a period: days where there is time, else rows.
    alpha : float
        The share of stable periods with any figure beyond its control limits, 0-1.
    seed : int
    """
    kinds, problem, plan = context
    parts = [part for part in (fitted, holdout) if part is not None and len(part.block)]
    timed = bool(problem.time)
    block = np.concatenate([part.block for part in parts])
    per_day = len(block) / len(np.unique(block)) if timed else None
    spans = period.windows(block, length, timed, most=MOST_WINDOWS, seed=seed) if timed else []
    volume = pd.DataFrame([{"rows per day": len(block[span]) / (np.ptp(block[span]) + 1)} for span in spans])
    known, holdout_rows = _together(parts), period.sample(holdout, MOST_ROWS)
    bins = {name: period.learn_bins(known.features[name], kind) for name, kind in kinds.items()}
    bins[FORECAST] = period.learn_bins(_expected(holdout_rows, problem), "numeric")
    learned = performance_estimation.learn(holdout_rows, problem)
    whole = Reference(known, holdout_rows, kinds, problem, plan, bins, {}, pd.DataFrame(), learned, per_day, seed)
    places = {name: _places(whole, known, name) for name in kinds}
    for name, place in {**places, FORECAST: _places(whole, holdout_rows, FORECAST)}.items():
        whole.counts[name] = np.bincount(place, minlength=bins[name].size + 1)
    inputs = control_limits.measure(
        period.windows(known.block, length, timed, most=MOST_WINDOWS, seed=seed),
        lambda window: _input_figures(
            whole, period.take(known, window), {name: place[window] for name, place in places.items()}, window
        ),
    )
    table = pd.concat([volume, inputs, _holdout_figures(whole, length, timed)], axis=1)
    shapes = {name: SHAPES.get(name.split(":")[0], Shape()) for name in table}
    shapes["rows per day"] = Shape("both", "log", LEAST_VOLUME * (per_day or 0.0))
    return whole._replace(bounds=control_limits.bounds(table, shapes, alpha))


def figures(
    reference: Reference, rows: Rows, days: float | None = None, arrived: int | None = None
) -> dict[str, float]:
    """Return the figures of a period by name, those that are finite.

    ``rows per day``; of each feature ``missing`` and ``unseen`` (categories), shares 0-1, and ``psi``; ``joint auc`` of all
    features; ``psi: the forecast``, ``mean forecast`` (of several classes, each), ``expected payoff``; where the outcomes of
    at least half of the rows are known ``outcome`` (mean, or share of each class), ``gap`` (mean prediction less outcome),
    ``loss``, ``ranking``, ``payoff`` and ``gain`` per row, and ``slices``, the largest bias of a slice.

    Parameters
    ----------
    reference : Reference
    rows : Rows
        Of the period, at least one.
    days : float, optional
        Length of the period; days with rows if absent.
    arrived : int, optional
        Rows that arrived, if `rows` are a sample.
    """
    values: dict[str, float] = {}
    if reference.per_day is not None:
        values["rows per day"] = (arrived or len(rows.block)) / (days or len(np.unique(rows.block)))
    values |= _input_figures(reference, rows, {name: _places(reference, rows, name) for name in reference.kinds})
    values |= _prediction_figures(reference, rows)
    if np.isfinite(rows.target).mean() >= LABELLED:
        values |= _outcome_figures(reference, rows)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _input_figures(
    reference: Reference, rows: Rows, places: Mapping[str, np.ndarray], window: np.ndarray | None = None
) -> dict[str, float]:
    """Return the figures of features against all known rows, or against those outside of `window`, a mask of these."""
    values, size = {}, len(rows.block)
    for name, kind in reference.kinds.items():
        count = np.bincount(places[name], minlength=reference.bins[name].size + 1)
        before = reference.counts[name] - (count if window is not None else 0)
        values[f"missing: {name}"] = count[0] / size
        if kind == "categorical":
            values[f"unseen: {name}"] = float(count[1:][before[1:] == 0].sum() / size)
        values[f"psi: {name}"] = _psi(before, count)
    rest = np.arange(len(reference.known.block)) if window is None else np.flatnonzero(~window)
    sample = period.take(reference.known, rest[two_sample.thin(len(rest), causes.JOINT_ROWS)])
    parts = sample.features, rows.features
    blocks = sample.block, rows.block
    compared = two_sample.compare(*parts, reference.kinds, blocks, reference.seed, causes.JOINT_ROWS, explain=False)
    return {**values, "joint auc": compared.auc}


def _prediction_figures(reference: Reference, rows: Rows, window: np.ndarray | None = None) -> dict[str, float]:
    problem = reference.problem
    count = np.bincount(_places(reference, rows, FORECAST), minlength=reference.bins[FORECAST].size + 1)
    before = reference.counts[FORECAST] - (count if window is not None else 0)
    return {
        f"psi: {FORECAST}": _psi(before, count),
        **_by_class("mean forecast", shift_tests.said(rows, problem).mean(axis=0), problem),
        "expected payoff": float(decisions.decide(rows.predicted, problem)["expected_payoff"].mean()),
    }


def _outcome_figures(reference: Reference, rows: Rows) -> dict[str, float]:
    rows, problem = period.known(rows), reference.problem
    if not len(rows.block):
        return {}
    gap, predicted = (each(rows, problem).mean(axis=0) for each in (shift_tests.residuals, shift_tests.said))
    paid, best, _ = evaluation.against_baseline(rows.target, rows.predicted, problem, reference.plan)
    bias = _largest_bias(reference, rows)
    return {
        **_by_class("outcome", predicted + gap, problem),
        **_by_class("gap", -gap, problem),
        "loss": float(losses(rows.target, rows.predicted, problem).mean()),
        "ranking": one_score(RANKING[problem.task], rows.target, rows.predicted, problem),
        "payoff": float(paid.mean()),
        "gain": float((paid - best).mean()),
        **({"slices": bias} if bias else {}),
    }


def _holdout_figures(reference: Reference, length: float, timed: bool) -> pd.DataFrame:
    """Return the figures of predictions and outcomes in stable periods: windows of the holdout, or drawn from its days."""

    def values(rows: Rows, window: np.ndarray | None = None) -> dict[str, float]:
        return {**_prediction_figures(reference, rows, window), **_outcome_figures(reference, rows)}

    holdout_rows, seed = reference.holdout, reference.seed
    windows = period.windows(holdout_rows.block, length, timed, most=MOST_WINDOWS, seed=seed)
    if len(windows) >= ENOUGH_WINDOWS:
        return control_limits.measure(windows, lambda window: values(period.take(holdout_rows, window), window))
    samples = period.replays(holdout_rows.block, length, timed, RESAMPLES, seed)
    table = [values(period.take(holdout_rows, rows)._replace(block=block)) for rows, block in samples]
    return pd.DataFrame(table, dtype="float64")


def _largest_bias(reference: Reference, rows: Rows) -> float:
    """Return the largest bias at a value of a category, beyond that of all rows, in standard errors of independent rows."""
    error = shift_tests.residuals(rows, reference.problem)
    error = error - error.mean(axis=0)
    spread, largest = error.std(axis=0), 0.0
    for name in (name for name, kind in reference.kinds.items() if kind == "categorical"):
        place = _places(reference, rows, name)
        count = np.bincount(place)
        often = count >= LEAST_ROWS
        for column in np.flatnonzero(spread > 0):
            total = np.abs(np.bincount(place, error[:, column]))[often]
            largest = max(largest, float((total / np.sqrt(count[often]) / spread[column]).max(initial=0.0)))
    return largest


def _by_class(name: str, values: np.ndarray, problem: Problem) -> dict[str, float]:
    if len(values) == 1:
        return {name: float(values[0])}
    return {f"{name}: {each}": float(value) for each, value in zip(problem.classes, values, strict=True)}


def _psi(before: np.ndarray, after: np.ndarray) -> float:
    """Return the population stability index of rows by bin; bins that are rare in both are one, the first is missing."""
    shares = [each / max(each.sum(), 1) for each in (before, after)]
    often = np.maximum(*shares) >= RARE
    often[0] = False
    distributions = [
        {"shares": each[often].tolist(), "other": float(each[1:][~often[1:]].sum()), "missing": float(each[0])}
        for each in shares
    ]
    return drift.psi(*distributions)


def _places(reference: Reference, rows: Rows, name: str) -> np.ndarray:
    """Return the bin of each row by a feature, or by `FORECAST`; 0 where it is missing."""
    column = _expected(rows, reference.problem) if name == FORECAST else rows.features[name]
    kind = "numeric" if name == FORECAST else reference.kinds[name]
    return period.places(column, kind, reference.bins[name]) + 1


def _expected(rows: Rows, problem: Problem) -> pd.Series:
    return pd.Series(np.asarray(decisions.expected(rows.predicted, problem), dtype="float64"))


def _together(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, without predictions: a sample of at most `MOST_ROWS`."""
    features = pd.concat([part.features for part in parts], ignore_index=True)
    target, block = (np.concatenate([getattr(part, name) for part in parts]) for name in ("target", "block"))
    return period.sample(Rows(features, pd.DataFrame(), target, block), MOST_ROWS)
