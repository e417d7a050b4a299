"""What the periods of a model are compared with: distributions, and the control limits of every figure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold import timestamps
from ninefold.metrics import EvaluationPlan, against_baseline, one_score, subsample
from ninefold.monitoring import period, two_sample
from ninefold.monitoring.period import Bins, Rows
from ninefold.problem import RANKING, Problem, decisions
from ninefold.training import losses

MOST_ROWS = 200_000  # of a side: the standard error of a share of so many is at most 0.1 %
ENOUGH_WINDOWS = 20  # of the holdout, for its figures to vary as they do between these
RESAMPLES = 60  # periods drawn from the days of the holdout where it has fewer windows
LEAST_VOLUME = 0.05  # of the usual rows a day; a smaller change does not matter
LEAST_ROWS = 100  # of a category value, to be a slice
LABELLED = 0.5  # share of the rows whose outcome has to be known
FEWEST_WINDOWS = 4  # without which the spread of a figure is not known, and nothing is called unusual


class Shape(NamedTuple):
    """Which values of a figure are unusual."""

    side: str = "both"  # high, low or both
    scale: str = "plain"  # where it is nearly normal; log: of losses, which have a long tail, the logarithm
    least: float = 0.0  # a change from the usual that is smaller does not matter, however stable the figure was


SHAPES = {"joint auc": Shape("high")}
SHAPES |= dict.fromkeys(("missing", "unseen"), Shape("high", "plain", 0.01))
SHAPES |= dict.fromkeys(("loss", "slices"), Shape("high", "log"))
SHAPES |= dict.fromkeys(("ranking", "payoff", "gain"), Shape("low"))


class Context(NamedTuple):
    """What a model is about: its features (name -> kind, without the time of the event), problem and evaluation plan."""

    kinds: Mapping[str, str]
    problem: Problem
    plan: EvaluationPlan


class Reference(NamedTuple):
    """What periods are compared with; made once for a model."""

    known: Rows  # the rows fitted on, and the holdout; without predictions
    holdout: Rows  # its outcomes are known
    kinds: Mapping[str, str]
    problem: Problem
    plan: EvaluationPlan
    bins: dict[str, Bins]
    counts: dict[str, np.ndarray]  # of the known rows, by bin
    bounds: pd.DataFrame  # the control limits
    per_day: float | None
    days: float = 1.0  # that a time stands for: those of a month, where times are months


def reference(fitted: Rows, holdout: Rows, context: Context, length: float, alpha: float = 0.05) -> Reference:
    """Return distributions, and the control limits of every figure.

    Figures of inputs vary as between windows of all known rows: `fitted` (predictions and outcomes are not used) and
    `holdout`. Those of predictions and outcomes vary as between windows of the holdout, or of fewer than `ENOUGH_WINDOWS`,
    periods drawn from its days, which vary less. `length` of a period: days, or rows without time; `alpha` as of `bounds`.
    """
    kinds, problem, parts = context.kinds, context.problem, (fitted, holdout)
    target, block = (np.concatenate([getattr(part, name) for part in parts]) for name in ("target", "block"))
    features = pd.concat([part.features for part in parts], ignore_index=True)
    known = period.sample(Rows(features, features[[]], target, block), MOST_ROWS)
    holdout = period.sample(holdout, MOST_ROWS)
    each = timestamps.days_of(pd.Series(np.unique(block).astype("datetime64[D]"))) if problem.time else 1.0
    per_day = len(block) / (len(np.unique(block)) * each) if problem.time else None
    bins = {name: Bins.of(known.features[name], kind) for name, kind in kinds.items()}
    counts = {name: each.counts(known.features[name]) for name, each in bins.items()}
    whole = Reference(known, holdout, *context, bins, counts, pd.DataFrame(), per_day, each)
    days = [block[window] for window in period.windows(block, length, True, each)] if problem.time else []
    volume = [{"rows per day": len(part) / ((np.round(np.ptp(part) / each) + 1) * each)} for part in days]
    windows = period.windows(known.block, length, bool(problem.time), each)
    inputs = [_input_figures(whole, period.take(known, window), window) for window in windows]
    tables = map(pd.DataFrame, (volume, inputs, _holdout_figures(whole, length)))
    table = pd.concat(tables, axis=1).astype("float64")
    shapes = {**SHAPES, "rows per day": Shape("both", "log", LEAST_VOLUME * (per_day or 0.0))}
    return whole._replace(bounds=bounds(table, shapes, alpha))


def figures(reference: Reference, rows: Rows, days: float | None, arrived: int | None = None) -> dict[str, float]:
    """Return the figures of a period by name, those that are finite.

    ``rows per day``; of each feature ``missing`` and ``unseen`` (categories), shares 0-1; ``joint auc``; ``mean prediction``,
    ``expected payoff``; where the outcomes of at least half of the rows are known ``outcome``, ``gap`` (mean prediction less
    outcome), ``loss``, ``ranking``, ``payoff`` and ``gain`` per row, and ``slices``, the largest bias of a slice. `days` is
    the length of the period (None while it is open), `arrived` its rows if `rows` are a sample.
    """
    values: dict[str, float] = {}
    if reference.per_day is not None and days:
        values["rows per day"] = (arrived or len(rows.block)) / days
    values |= {**_input_figures(reference, rows), **_prediction_figures(rows, reference.problem)}
    if np.isfinite(rows.target).mean() >= LABELLED:
        values |= _outcome_figures(reference, rows)
    return {name: value for name, value in values.items() if np.isfinite(value)}


def bounds(table: pd.DataFrame, shapes: Mapping[str, Shape], alpha: float) -> pd.DataFrame:
    """Return the bounds that all figures of a new period keep to together, but for a share `alpha` of stable periods.

    Student's prediction interval of one more window (Hahn and Meeker, Statistical Intervals, 1991), from the spread between
    windows (the rows of `table`). `alpha` is divided by the number of kinds of figures (before the colon of their names), and
    among those of a kind (Bonferroni). ``low``, ``high`` are infinite where that side is not unusual, or windows are few.
    """
    kinds = {name: name.split(":")[0] for name in table}
    count = Counter(kind for name, kind in kinds.items() if table[name].count() >= FEWEST_WINDOWS)
    limits = {}
    for name, kind in kinds.items():
        shape, low, high, usual = shapes.get(kind, Shape()), -np.inf, np.inf, np.nan
        scaled, is_log = table[name].dropna().to_numpy("float64"), shape.scale == "log"
        scaled = np.log(np.maximum(scaled, 1e-12)) if is_log else scaled
        if len(scaled) >= FEWEST_WINDOWS:
            tail = alpha / len(count) / count[kind] / (2 if shape.side == "both" else 1)
            spread = scaled.std(ddof=1) * np.sqrt(1 + 1 / len(scaled))
            mean, reach = scaled.mean(), stats.t.ppf(1 - tail, len(scaled) - 1) * spread
            ends = np.array([mean - reach, mean, mean + reach])
            below, usual, above = (np.exp(ends) if is_log else ends).tolist()
            least = max(shape.least, 1e-9 * abs(usual))  # what never varied may differ in its last digits
            low = min(below, usual - least) if shape.side != "high" else low
            high = max(above, usual + least) if shape.side != "low" else high
        limits[name] = {"low": low, "high": high, "usual": usual}
    return pd.DataFrame.from_dict(limits, orient="index")


def outside(figures: Mapping[str, float], bounded: pd.DataFrame) -> list[str]:
    """Return the figures beyond their bounds, farthest first, in widths of the way from the usual to the bound."""
    value = pd.Series({name: figures.get(name, np.nan) for name in bounded.index}, dtype="float64")
    high = value > bounded["high"]
    width = (bounded["high"].where(high, bounded["low"]) - bounded["usual"]).abs()
    far = ((value - bounded["usual"]).abs() / width.clip(lower=1e-12))[high | (value < bounded["low"])]
    return sorted(far.index, key=lambda name: (-far[name], name))


def _input_figures(reference: Reference, rows: Rows, window: np.ndarray | None = None) -> dict[str, float]:
    """Return the figures of features against all known rows, or against those outside of `window`, a mask of these."""
    values: dict[str, float] = {}
    for name, kind in reference.kinds.items():
        count = reference.bins[name].counts(rows.features[name])
        values[f"missing: {name}"] = count[0] / len(rows.block)
        if kind == "categorical":
            before = reference.counts[name] - (count if window is not None else 0)
            values[f"unseen: {name}"] = float(count[1:][before[1:] == 0].sum() / len(rows.block))
    rest = np.arange(len(reference.known.block)) if window is None else np.flatnonzero(~window)
    sample = period.take(reference.known, rest[subsample(len(rest), two_sample.JOINT_ROWS)])
    compared = two_sample.compare(sample, rows, reference.kinds, explain=False)
    return {**values, "joint auc": compared.auc}


def _prediction_figures(rows: Rows, problem: Problem) -> dict[str, float]:
    payoff = float(decisions.decide(rows.predicted, problem)["expected_payoff"].mean())
    forecasts = _by_class("mean prediction", period.expected(rows, problem).mean(axis=0), problem)
    return {**forecasts, "expected payoff": payoff}


def _outcome_figures(reference: Reference, rows: Rows) -> dict[str, float]:
    rows, problem = period.take(rows, np.isfinite(rows.target)), reference.problem
    residuals = period.residuals(rows, problem)
    gap, mean = residuals.mean(axis=0), period.expected(rows, problem).mean(axis=0)
    paid, best, _ = against_baseline(rows.target, rows.predicted, problem, reference.plan)
    values = _by_class("outcome", mean + gap, problem) | _by_class("gap", -gap, problem)
    values["loss"] = float(losses(rows.target, rows.predicted, problem).mean())
    values["ranking"] = one_score(RANKING[problem.task], rows.target, rows.predicted, problem)
    values |= {"payoff": float(paid.mean()), "gain": float((paid - best).mean())}
    bias = _largest_bias(reference, rows, residuals - gap)
    return values | ({"slices": bias} if bias else {})


def _holdout_figures(reference: Reference, length: float) -> list[dict[str, float]]:
    """Return the figures of predictions and outcomes in stable periods: windows of the holdout, or drawn from its days."""
    holdout, timed = reference.holdout, bool(reference.problem.time)
    windows = period.windows(holdout.block, length, timed, reference.days)
    samples: Iterator[Rows] = (period.take(holdout, window) for window in windows)
    if len(windows) < ENOUGH_WINDOWS:
        draws = period.replays(holdout.block, length / reference.days, timed, RESAMPLES)
        samples = (period.take(holdout, rows)._replace(block=block) for rows, block in draws)
    return [{**_prediction_figures(rows, reference.problem), **_outcome_figures(reference, rows)} for rows in samples]


def _largest_bias(reference: Reference, rows: Rows, error: np.ndarray) -> float:
    """Return the largest bias at a value of a category, beyond that of all rows, in standard errors of independent rows."""
    spread, largest = error.std(axis=0), [0.0]
    for name in (name for name, kind in reference.kinds.items() if kind == "categorical"):
        place = reference.bins[name].places(rows.features[name])
        count = np.bincount(place, minlength=reference.bins[name].size)
        often = count >= LEAST_ROWS
        for column in np.flatnonzero(spread > 0):
            total = np.abs(np.bincount(place, error[:, column], len(count)))[often]
            largest += (total / np.sqrt(count[often]) / spread[column]).tolist()
    return max(largest)


def _by_class(name: str, values: np.ndarray, problem: Problem) -> dict[str, float]:
    if len(values) == 1:
        return {name: float(values[0])}
    return {f"{name}: {each}": float(value) for each, value in zip(problem.classes, values, strict=True)}
