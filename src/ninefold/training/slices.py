"""How good a model is in slices of the holdout: by feature and over time; and the rows of largest loss.

Rows of one block (`scores.blocks`) are correlated, so intervals and tests use the sums of whole blocks, never single rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold import timestamps
from ninefold.exploration import MOST_CLUSTERS, univariate
from ninefold.features import FeatureSchema
from ninefold.metrics import (
    LEAST_CLUSTERS,
    EvaluationPlan,
    against_baseline,
    clusters,
    naive_forecast,
    row_losses,
)
from ninefold.problem import PRIMARY, Problem, decisions

MISSING = "(missing)"
MOST_GROUPS = 50  # of a feature, the most frequent ones
BINS = 4  # of about equal size, of a number of more values
LEAST_ROWS = 30  # of a period
PERIODS = (4, 60)  # fewer show no course, more cannot be read
UNITS = {"W": "week", "M": "month", "Y": "year", "D": "day"}  # tried in this order: a day has no blocks of its own
CONTEXT = 4  # features shown beside a row of large loss
SLICES = [
    "feature", "group", "rows", "loss", "skill", "gain", "low", "high", "bias", "bias_low", "bias_high",
    "p", "q", "flagged", "loss_p", "loss_q", "differs",
]  # fmt: skip
COURSE = ["period", "rows", "observed", "predicted", "loss", "gain", "low", "high", "unit"]


class _Mean(NamedTuple):
    """Means of groups with Student's interval, and `p` that they are zero: float64, shape (groups,) each."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def losses(target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the proper loss of each row: log loss of classes, squared error of quantities; float64, shape (n,)."""
    loss = row_losses(PRIMARY[problem.task], target, predicted, problem)
    assert loss is not None  # the proper scores are means over rows
    return loss


def fewest(rows: int) -> int:
    """Return the fewest rows of a slice: a hundredth of all, 30 to 500."""
    return int(np.clip(rows // 100, 30, 500))


def slices(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    schema: FeatureSchema,
    problem: Problem,
    plan: EvaluationPlan,
) -> pd.DataFrame:
    """Return how good the model is in each slice of the holdout: each value of a category, each bin of a number.

    A slice has at least `fewest` rows, of `scores.LEAST_CLUSTERS` blocks; missing values are one. Two hypotheses are
    tested: that the mean prediction is right (`p`), and that the loss is that of all other rows (`loss_p`). A slice whose
    loss differs is harder or easier, which is no fault; one that is biased can be improved. Both are Student's tests of a
    ratio mean from sums of blocks (Taylor linearisation; Wolter, Introduction to Variance Estimation, 2007), with degrees
    of freedom from the sizes of the blocks (Carter, Schnepel and Steigerwald, Review of Economics and Statistics 99,
    2017). The variance of the bias is at least that of outcomes around right predictions: ``p (1 - p)`` a row of a class,
    and for a quantity that of all errors in its decile of the predictions; that of the loss at least that of as many
    rows at random. Else slices with few events would look more certain than they are.

    Parameters
    ----------
    target, predicted, frame : ndarray, DataFrame, DataFrame
        Outcomes, predictions and feature rows of the holdout, row by row.
    schema : FeatureSchema
        Dates and text make no slices.

    Returns
    -------
    DataFrame
        ``feature``, ``group``, ``rows``; ``loss``: mean log loss, or root of the mean squared error; ``skill``: the share
        of the naive prediction's loss on these rows that the model avoids; ``gain`` per row over the best policy without
        a model on the whole holdout, ``low``, ``high``; ``bias``: mean of predicted less observed, ``bias_low``,
        ``bias_high``, its ``p``, ``q`` and ``flagged`` (``q <= 1 - level``); ``loss_p``, ``loss_q`` and ``differs`` alike
        for the loss. ``q`` controls the false discovery rate over all slices, however these overlap (Benjamini and
        Yekutieli, Annals of Statistics 29, 2001). Flagged ones first, then by ``q``, ``p`` and name.
    """
    measures, level, block = (
        row_measures(target, predicted, problem, plan),
        plan.bootstrap.level,
        few_blocks(frame, problem, plan),
    )
    names = dict.fromkeys([*schema.categorical, *schema.high_cardinality, *schema.numeric])
    parts = [_slices_of(name, frame[name], measures, block, problem, level) for name in names]
    filled = [part for part in parts if len(part)]
    if not filled:
        return pd.DataFrame(columns=SLICES).astype({"rows": "int64", "flagged": "bool", "differs": "bool"})
    table = pd.concat(filled, ignore_index=True)
    for p, q, flag in (("p", "q", "flagged"), ("loss_p", "loss_q", "differs")):
        table[q] = stats.false_discovery_control(table[p], method="by")
        table[flag] = table[q] <= 1 - level
    order = ["flagged", "q", "p", "feature", "group"]
    return table.sort_values(order, ascending=[False, *[True] * 4], ignore_index=True, kind="stable")[SLICES]


def over_time(
    target: np.ndarray, predicted: pd.DataFrame, frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan
) -> pd.DataFrame:
    """Return how good the model is over time: by week, or by month or year if weeks are too many, by day if too few.

    Returns
    -------
    DataFrame
        ``period`` (its start, UTC), ``rows`` (at least 30), ``observed`` and ``predicted`` means, ``loss`` and ``gain`` as
        in `slices`, with Student's interval ``low``, ``high`` by days (of a single day by its entities or rows); ``unit``:
        what a period is. Empty without time, or with fewer than four periods.
    """
    unit = _unit(frame[problem.time]) if problem.time else None
    if unit is None:
        return pd.DataFrame(columns=COURSE)
    measures, time = row_measures(target, predicted, problem, plan), timestamps.utc(frame[problem.time])
    days = pd.factorize(time.dt.normalize())[0]
    block = days if unit != "D" else few_blocks(frame, problem.changed(time=None), plan)
    code, periods = pd.factorize(time.dt.to_period(unit).dt.start_time, sort=True)
    rows = np.bincount(code[code >= 0], minlength=len(periods))
    large = np.flatnonzero(rows >= LEAST_ROWS)
    sums, sizes = _sums(code, large, block, measures)
    gain, means = _mean(sums["gain"], sizes, plan.bootstrap.level), _plain_means(sums, sizes, problem)
    table = {"period": periods[large], "rows": rows[large], "observed": means["expected"] - means["bias"]}
    table |= {"predicted": means["expected"], "loss": means["loss"]}
    table |= {"gain": gain.value, "low": gain.low, "high": gain.high}
    return pd.DataFrame({**table, "unit": UNITS[unit]})


def worst(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    schema: FeatureSchema,
    problem: Problem,
    count: int = 10,
) -> pd.DataFrame:
    """Return the rows of the largest loss, the worst first, ties by key.

    Returns
    -------
    DataFrame
        The key; the time where there is one; ``forecast`` (probability of the event, the most probable class, or the
        quantity); ``outcome``; of several classes ``probability``, that of the outcome; ``loss``; and the first four
        features that are no key.
    """
    loss = losses(target, predicted, problem)
    keys = [pd.factorize(frame[name], sort=True)[0] for name in problem.key]
    order = np.lexsort([*keys[::-1], -loss])[:count]
    first = list(dict.fromkeys([*problem.key, *([problem.time] if problem.time else [])]))
    features = [name for name in schema.all if name not in first][:CONTEXT]
    columns: dict[str, Any] = {"forecast": decisions.expected(predicted, problem), "outcome": np.asarray(target)}
    if problem.is_class:
        names, outcome = np.array(problem.classes, dtype=object), columns["outcome"].astype("int64")
        columns["outcome"] = names[outcome]
        if problem.task == "multiclass":
            p = decisions.probabilities(predicted, problem)
            columns |= {"forecast": names[p.argmax(axis=1)], "probability": p[np.arange(len(p)), outcome]}
    parts = [frame[first], pd.DataFrame({**columns, "loss": loss}, index=frame.index), frame[features]]
    return pd.concat([part.iloc[order] for part in parts], axis=1).reset_index(drop=True)


def few_blocks(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> np.ndarray:
    """Return the block of each row; more than `MOST_CLUSTERS` are merged at random into so many."""
    block = clusters(frame, problem)
    count = int(block.max(initial=-1)) + 1
    if count <= MOST_CLUSTERS:
        return block
    return np.random.default_rng(plan.bootstrap.seed).permutation(count)[block] % MOST_CLUSTERS


def groups(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the group of each row as a position, and the names: values, bins of a number of more values, missing."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > BINS:
        values = values.astype("float64").reset_index(drop=True)
        bin_of = pd.Series(np.searchsorted(univariate.edges(values, BINS), values, side="right")).where(values.notna())
        code, known = pd.factorize(bin_of, sort=True)
        ends = values.groupby(bin_of).agg(["min", "max"]).loc[known].to_numpy()
        names = [_range(low, high, decisions.number) for low, high in ends]
        if len(set(names)) < len(names):
            names = [_range(low, high, str) for low, high in ends]
    else:
        code, known = pd.factorize(values)
        names = [f"{value:.12g}" if isinstance(value, float) else str(value) for value in known]
    position, unique = pd.factorize(np.array([*names, MISSING], dtype=object))  # missing is code -1, and so the last
    return position[code], list(unique)


def row_measures(target: np.ndarray, predicted: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per row, what is averaged; ``noise`` is the variance of the outcome if the prediction is right."""
    naive, expected = naive_forecast(len(target), problem, plan), decisions.expected(predicted, problem)
    model, best, _ = against_baseline(target, predicted, problem, plan)
    bias = expected - decisions.event(target, problem)
    if problem.is_class:
        noise = expected * (1 - expected)
    else:  # of large quantities the errors vary more
        ranks = pd.Series(expected).rank(method="first")
        decile = pd.qcut(ranks, min(10, max(len(ranks) // 30, 1)), labels=False)
        noise = pd.Series(bias).groupby(decile).transform("var", ddof=0).to_numpy()
    loss, naive_loss = losses(target, predicted, problem), losses(target, naive, problem)
    values = {"loss": loss, "naive": naive_loss, "gain": model - best}
    return pd.DataFrame({**values, "expected": expected, "bias": bias, "noise": noise})


def _slices_of(
    feature: str, values: pd.Series, measures: pd.DataFrame, block: np.ndarray, problem: Problem, level: float
) -> pd.DataFrame:
    """Return the slices of one feature, as `slices` has them, before the correction for their number."""
    code, names = groups(values)
    rows = np.bincount(code, minlength=len(names))
    large = np.flatnonzero((rows >= fewest(len(code))) & (rows < len(code)))  # all rows are no slice
    large = large[np.argsort(-rows[large], kind="stable")[:MOST_GROUPS]]
    sums, sizes = _sums(code, large, block, measures)
    gain, bias = _mean(sums["gain"], sizes, level), _mean(sums["bias"], sizes, level, sums["noise"].sum(axis=0))
    means = _plain_means(sums, sizes, problem)
    limits = (means["expected"] - 1, means["expected"]) if problem.is_class else (-np.inf, np.inf)
    table = {
        "feature": feature,
        "group": [names[number] for number in large],
        "rows": rows[large],
        "loss": means["loss"],
        "skill": 1 - means["loss"] / np.where(means["naive"] > 0, means["naive"], np.nan),
        **{"gain": gain.value, "low": gain.low, "high": gain.high, "bias": bias.value, "p": bias.p},
        **{"bias_low": np.clip(bias.low, *limits), "bias_high": np.clip(bias.high, *limits)},
        "loss_p": _against_rest(sums["loss"], sizes, measures["loss"].to_numpy(), block),
    }
    return pd.DataFrame(table)[(sizes > 0).sum(axis=0) >= LEAST_CLUSTERS]


def _range(low: float, high: float, text: Any) -> str:
    return text(low) if low == high else f"{text(low)} – {text(high)}"


def _sums(
    code: np.ndarray, groups: np.ndarray, block: np.ndarray, measures: pd.DataFrame
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the sum of each measure, and the rows, by block (line) and group (column), for some of the groups."""
    place = np.full(max(code.max(initial=-1) + 2, 1), -1)  # missing is code -1, and so the last
    place[groups] = np.arange(len(groups))
    column = place[code]
    inside = (column >= 0) & (block >= 0)
    shape = (int(block.max(initial=-1)) + 1, len(groups))
    cell, cells = block[inside] * shape[1] + column[inside], shape[0] * shape[1]
    sums = {name: np.bincount(cell, each.to_numpy()[inside], cells).reshape(shape) for name, each in measures.items()}
    return sums, np.bincount(cell, minlength=cells).reshape(shape).astype("float64")


def _plain_means(sums: dict[str, np.ndarray], sizes: np.ndarray, problem: Problem) -> dict[str, np.ndarray]:
    """Return the mean of each measure by group; of squared errors its root."""
    means = {name: values.sum(axis=0) / sizes.sum(axis=0) for name, values in sums.items()}
    if not problem.is_class:
        means |= {name: np.sqrt(means[name]) for name in ("loss", "naive")}
    return means


def _mean(sums: np.ndarray, sizes: np.ndarray, level: float, least_variance: np.ndarray | float = 0.0) -> _Mean:
    """Return the mean of each group; its interval is missing where there is one block."""
    rows = sizes.sum(axis=0)
    value = sums.sum(axis=0) / rows
    spread = ((sums - sizes * value) ** 2).sum(axis=0) * _correction(sizes)
    error = np.sqrt(np.maximum(spread, least_variance)) / rows
    reach = stats.t.ppf((1 + level) / 2, _freedom(sizes)) * error
    return _Mean(value, value - reach, value + reach, _p(value, error, sizes))


def _against_rest(sums: np.ndarray, sizes: np.ndarray, values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return `p` that the mean of a group is that of all other rows, which may lie in the same blocks."""
    total, rows = np.bincount(block, values), np.bincount(block)
    others, remaining = total[:, None] - sums, rows[:, None] - sizes
    size, rest_size = sizes.sum(axis=0), remaining.sum(axis=0)
    mean, rest = sums.sum(axis=0) / size, others.sum(axis=0) / rest_size
    moved = (sums - sizes * mean) / size - (others - remaining * rest) / rest_size
    at_random = values.var() * (1 / size + 1 / rest_size)
    error = np.sqrt(np.maximum((moved**2).sum(axis=0) * _correction(sizes), at_random))
    return _p(mean - rest, error, sizes)


def _correction(sizes: np.ndarray) -> np.ndarray:
    """Return ``b / (b - 1)`` for groups of `b` blocks, missing for one block."""
    count = (sizes > 0).sum(axis=0).astype("float64")
    return count / np.where(count > 1, count - 1, np.nan)


def _freedom(sizes: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom: the effective number of blocks, less one; at least one."""
    return np.maximum(sizes.sum(axis=0) ** 2 / (sizes**2).sum(axis=0) - 1, 1)


def _p(value: np.ndarray, error: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return Student's two-sided `p`; 1 where there is one block, or neither a difference nor a variance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(2 * stats.t.sf(np.abs(value) / error, _freedom(sizes)), nan=1.0)


def _unit(time: pd.Series) -> str | None:
    """Return the length of periods that cuts time into 4 to 60 of enough rows."""
    for unit in UNITS:
        rows = timestamps.utc(time).dt.to_period(unit).value_counts()
        if PERIODS[0] <= (rows >= LEAST_ROWS).sum() <= PERIODS[1]:
            return unit
    return None
