"""A forecast in parts of the holdout: by feature, along time; its tests, and its worst rows.

Rows of one block (`scores.blocks`) hang together, so intervals and tests see the sums of whole blocks and never single rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.core import decisions, moments, one_column
from ninefold.core.evaluation import FOLLOW, against_baseline, naive_forecast
from ninefold.core.levels import MOST_BLOCKS
from ninefold.core.scores import LEAST_BLOCKS, PRIMARY, Bootstrap, blocks, intervals, row_losses, title

MISSING = "(missing)"
MOST_GROUPS = 50  # of a feature, the most frequent ones
PERIODS = (4, 60)  # fewer show no course, more cannot be read
UNITS = {"W": "week", "M": "month", "Y": "year", "D": "day"}  # tried in this order: a day has no blocks of its own
FLIPS = 9_999
CONTEXT = 4  # features beside a row that was forecast badly
SLICES = [
    "feature", "group", "rows", "loss", "skill", "gain", "low", "high", "bias", "bias_low", "bias_high",
    "p", "q", "flagged", "loss_p", "loss_q", "differs",
]  # fmt: skip
COURSE = ["period", "rows", "observed", "predicted", "loss", "gain", "low", "high", "unit"]
TESTS = ["comparison", "difference", "low", "high", "p"]


class _Mean(NamedTuple):
    """Means of groups, with what is known of each from its blocks."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def losses(target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any]) -> np.ndarray:
    """Return the proper loss of each row: log loss of classes, squared error of quantities; float64, shape (n,)."""
    found = row_losses(PRIMARY[stated["task"]], target, predicted, stated)
    assert found is not None  # the proper scores are means over rows
    return found


def fewest(rows: int) -> int:
    """Return the fewest rows of a part that is judged by itself: a hundredth of all, 30 to 500."""
    return int(np.clip(rows // 100, 30, 500))


def slices(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    signed: dict[str, list[str]],
    stated: dict[str, Any],
    agreed: dict[str, Any],
    least: int | None = None,
    bins: int = 4,
) -> pd.DataFrame:
    """Return how the forecast does in each part of the holdout: at each value of a category, in each band of a number.

    A part has at least `least` rows (`fewest` if absent), of `scores.LEAST_BLOCKS` blocks; missing values are one. Two
    questions are asked of each. Is the forecast right on average there (`p`)? If not, it is wrong in a way that can be
    mended. And does its loss differ from that of all other rows (`loss_p`)? That makes a harder or an easier part, not a
    fault. Both are Student's tests of a ratio mean from sums of blocks (Taylor linearisation; Wolter, Introduction to
    Variance Estimation, 2007), with as many degrees of freedom as the sizes of the blocks leave (Carter, Schnepel and
    Steigerwald, Review of Economics and Statistics 99, 2017). A part that holds few events, or no large error, by chance
    would look surer than it is. So the bias is never taken to vary less than outcomes do around such forecasts: by
    ``p (1 - p)`` a row of a class, and of a quantity as the errors of all rows in its tenth of the predictions; nor the
    loss less than in as many rows drawn from all.

    Parameters
    ----------
    target, predicted, frame : ndarray, DataFrame, DataFrame
        Outcomes, forecast and feature rows of the holdout, row by row.
    signed : dict
        The features by kind; dates and text are not cut into parts.
    stated, agreed : dict
        The problem, and what stage 04 agreed; its level is that of the intervals.
    least : int, optional
    bins : int
        Bands of about equal size of a number of more values than that.

    Returns
    -------
    DataFrame
        ``feature``, ``group``, ``rows``; ``loss``: mean log loss, or root of the mean squared error; ``skill``: the share
        of the naive forecast's loss *on these rows* that the model avoids. The naive forecast knows the level of all
        rows, not that of the part, so part of the skill is to know in which part a row is; below 0 it is better to
        know nothing. ``gain`` per row over the policy without a model that is best on the whole holdout, ``low``,
        ``high``; ``bias``: mean of predicted less observed, ``bias_low``, ``bias_high``, its ``p``, ``q`` and ``flagged``
        (``q <= 1 - level``); ``loss_p``, ``loss_q`` and ``differs`` alike for the loss. ``q`` holds the share of false
        ones among those flagged, over all parts at once, however these overlap (Benjamini and Yekutieli, Annals of
        Statistics 29, 2001). Flagged ones first, then by ``q``, ``p`` and name.
    """
    measured, level = _measures(target, predicted, stated, agreed), agreed["bootstrap"]["level"]
    block, least = few_blocks(frame, stated, agreed), least or fewest(len(frame))
    names = dict.fromkeys([*signed["categorical"], *signed["wide"], *signed["numeric"]])
    parts = [_parts(name, frame[name], measured, block, stated, level=level, least=least, bins=bins) for name in names]
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
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    stated: dict[str, Any],
    agreed: dict[str, Any],
    least: int = 30,
) -> pd.DataFrame:
    """Return how the forecast does along time: by week, or by month or year where weeks are too many, by day if too few.

    Returns
    -------
    DataFrame
        ``period`` (its first moment, UTC), ``rows`` (at least `least`), ``observed`` and ``predicted`` means, ``loss`` as in
        `slices`, ``gain`` per row over the policy without a model that is best on the whole holdout, with Student's
        interval ``low``, ``high`` by days (of a single day by its entities or rows, which does not know what all rows
        of that day share); ``unit``: what a period is. Empty without time, or with fewer than four periods.
    """
    unit = _unit(frame[stated["time"]], least) if stated["time"] else None
    if unit is None:
        return pd.DataFrame(columns=COURSE)
    measured, moment = _measures(target, predicted, stated, agreed), moments.utc(frame[stated["time"]])
    days = pd.factorize(moment.dt.normalize())[0]
    block = days if unit != "D" else few_blocks(frame, {**stated, "time": None}, agreed)
    code, periods = pd.factorize(moment.dt.to_period(unit).dt.start_time, sort=True)
    rows = np.bincount(code[code >= 0], minlength=len(periods))
    kept = np.flatnonzero(rows >= least)
    place = np.full(len(periods) + 1, -1)  # missing is code -1, and so the last
    place[kept] = np.arange(len(kept))
    sums, sizes = _sums(place[code], block, measured, len(kept))
    gain, means = _mean(sums["gain"], sizes, agreed["bootstrap"]["level"]), _plain_means(sums, sizes, stated)
    table = {"period": periods[kept], "rows": rows[kept], "observed": means["said"] - means["bias"]}
    table |= {"predicted": means["said"], "loss": means["loss"], "gain": gain.value, "low": gain.low, "high": gain.high}
    return pd.DataFrame({**table, "unit": UNITS[unit]})


def paired_tests(
    target: np.ndarray,
    predicted: pd.DataFrame | dict[str, pd.DataFrame],
    frame: pd.DataFrame,
    stated: dict[str, Any],
    agreed: dict[str, Any],
) -> pd.DataFrame:
    """Return whether the forecast, or each of several, is better than what needs no model, row against row.

    One-sided permutation test: were it no better, its advantage in a block might as well have the other sign, so blocks
    exchange signs at random (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005); ``p`` is the share
    of 9,999 such draws, and the data themselves, that are as good as it. The policy without a model is the one that
    was best on these very rows, which makes the bar higher than a policy chosen before.

    Returns
    -------
    DataFrame
        ``comparison``; ``difference``: mean per row of log loss (or squared error) avoided, or of payoff gained, above 0
        where the model is better; ``low``, ``high``: its interval over resampled blocks, as `evaluation.evaluate` has it;
        ``p``. Of several forecasts each test stands for itself.
    """
    forecasts = predicted if isinstance(predicted, dict) else {FOLLOW: predicted}
    block, group, bootstrap = blocks(frame, stated), few_blocks(frame, stated, agreed), Bootstrap(**agreed["bootstrap"])
    loss, found = title("log_loss") if decisions.is_class(stated) else "squared error", []
    for name, forecast in forecasts.items():
        measured = _measures(target, forecast, stated, agreed)
        better = {
            f"{loss} against the naive forecast": (measured["naive"] - measured["loss"]).to_numpy(),
            "payoff against the best policy without a model": measured["gain"].to_numpy(),
        }
        for comparison, values in better.items():
            figure = _resampled(values, block, bootstrap)
            label = f"{name}: {comparison}" if isinstance(predicted, dict) else comparison
            found.append((label, *figure.values(), _sign_flips(np.bincount(group, values), bootstrap.seed)))
    return pd.DataFrame(found, columns=TESTS)


def worst(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    signed: dict[str, list[str]],
    stated: dict[str, Any],
    count: int = 10,
) -> pd.DataFrame:
    """Return the rows of the largest loss, the worst first, ties by key.

    Returns
    -------
    DataFrame
        The key; the time where there is one; ``forecast`` (probability of the event, the most probable class, or the
        quantity); ``outcome``; of several classes ``probability``, which the outcome was given; ``loss``; and the first
        four features that are no key.
    """
    loss = losses(target, predicted, stated)
    keys = [pd.factorize(frame[name], sort=True)[0] for name in stated["key"]]
    order = np.lexsort([*keys[::-1], -loss])[:count]
    which = list(dict.fromkeys([*stated["key"], *([stated["time"]] if stated["time"] else [])]))
    features = [name for name in signed["all"] if name not in which][:CONTEXT]
    said: dict[str, Any] = {"forecast": decisions.expected(predicted, stated), "outcome": np.asarray(target)}
    if decisions.is_class(stated):
        names, came = np.array(stated["classes"], dtype=object), said["outcome"].astype("int64")
        said["outcome"] = names[came]
        if stated["task"] == "multiclass":
            p = decisions.probabilities(predicted, stated)
            said |= {"forecast": names[p.argmax(axis=1)], "probability": p[np.arange(len(came)), came]}
    parts = [frame[which], pd.DataFrame({**said, "loss": loss}, index=frame.index), frame[features]]
    return pd.concat([part.iloc[order] for part in parts], axis=1).reset_index(drop=True)


def _measures(
    target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return, per row, what is averaged; ``noise`` is how much the outcome varies where the forecast is right."""
    naive, said = naive_forecast(len(target), stated, agreed), decisions.expected(predicted, stated)
    model, best, _ = against_baseline(target, predicted, stated, agreed)
    bias = said - decisions.event(target, stated)
    return pd.DataFrame(
        {
            "loss": losses(target, predicted, stated),
            "naive": losses(target, naive, stated),
            "gain": model - best,
            "said": said,
            "bias": bias,
            "noise": said * (1 - said) if decisions.is_class(stated) else _spread(said, bias),
        }
    )


def _spread(said: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return, per row, the variance of the errors in its tenth of the predictions: large quantities vary more."""
    tenth = pd.qcut(pd.Series(said).rank(method="first"), min(10, max(len(said) // 30, 1)), labels=False)
    return pd.Series(bias).groupby(tenth).transform("var", ddof=0).to_numpy()


def few_blocks(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> np.ndarray:
    """Return the block of each row; more than `levels.MOST_BLOCKS` are thrown into so many random groups."""
    block = blocks(frame, stated)
    count = int(block.max(initial=-1)) + 1
    if count <= MOST_BLOCKS:
        return block
    return np.random.default_rng(agreed["bootstrap"]["seed"]).permutation(count)[block] % MOST_BLOCKS


def _parts(
    feature: str,
    values: pd.Series,
    measured: pd.DataFrame,
    block: np.ndarray,
    stated: dict[str, Any],
    *,
    level: float,
    least: int,
    bins: int,
) -> pd.DataFrame:
    """Return the parts that one feature makes, as `slices` has them, before all are looked at together."""
    code, names = groups(values, bins)
    rows = np.bincount(code, minlength=len(names))
    kept = np.flatnonzero((rows >= least) & (rows < len(code)))  # all rows are no part
    kept = kept[np.argsort(-rows[kept], kind="stable")[:MOST_GROUPS]]
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    sums, sizes = _sums(place[code], block, measured, len(kept))
    gain, bias = _mean(sums["gain"], sizes, level), _mean(sums["bias"], sizes, level, sums["noise"].sum(axis=0))
    means = _plain_means(sums, sizes, stated)
    most = (means["said"] - 1, means["said"]) if decisions.is_class(stated) else (-np.inf, np.inf)
    table = {
        "feature": feature,
        "group": [names[number] for number in kept],
        "rows": rows[kept],
        "loss": means["loss"],
        "skill": 1 - means["loss"] / np.where(means["naive"] > 0, means["naive"], np.nan),
        **{"gain": gain.value, "low": gain.low, "high": gain.high, "bias": bias.value, "p": bias.p},
        **{"bias_low": np.clip(bias.low, *most), "bias_high": np.clip(bias.high, *most)},
        "loss_p": _against_rest(sums["loss"], sizes, measured["loss"].to_numpy(), block),
    }
    return pd.DataFrame(table)[(sizes > 0).sum(axis=0) >= LEAST_BLOCKS]


def groups(values: pd.Series, bins: int) -> tuple[np.ndarray, list[str]]:
    """Return the group of each row as a position, and the names: values, bands of a number of more values, missing."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > bins:
        values = values.astype("float64").reset_index(drop=True)
        band = pd.Series(np.searchsorted(one_column.edges(values, bins), values, side="right")).where(values.notna())
        code, known = pd.factorize(band, sort=True)
        ends = values.groupby(band).agg(["min", "max"]).loc[known].to_numpy()
        names = [_span(low, high, decisions.number) for low, high in ends]
        if len(set(names)) < len(names):
            names = [_span(low, high, str) for low, high in ends]
    else:
        code, known = pd.factorize(values)
        names = [f"{value:.12g}" if isinstance(value, float) else str(value) for value in known]
    position, unique = pd.factorize(np.array([*names, MISSING], dtype=object))  # missing is code -1, and so the last
    return position[code], list(unique)


def _span(low: float, high: float, text: Any) -> str:
    return text(low) if low == high else f"{text(low)} – {text(high)}"


def _sums(
    code: np.ndarray, block: np.ndarray, measured: pd.DataFrame, count: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the sum of each measure, and the rows, by block (line) and group (column); code -1 is no group."""
    inside = (code >= 0) & (block >= 0)
    shape = (int(block.max(initial=-1)) + 1, count)
    cell = block[inside] * count + code[inside]
    sums = {
        name: np.bincount(cell, values.to_numpy()[inside], minlength=shape[0] * count).reshape(shape)
        for name, values in measured.items()
    }
    return sums, np.bincount(cell, minlength=shape[0] * count).reshape(shape).astype("float64")


def _plain_means(sums: dict[str, np.ndarray], sizes: np.ndarray, stated: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the mean of each measure by group; of squared errors its root."""
    means = {name: values.sum(axis=0) / sizes.sum(axis=0) for name, values in sums.items()}
    if not decisions.is_class(stated):
        means |= {name: np.sqrt(means[name]) for name in ("loss", "naive")}
    return means


def _mean(sums: np.ndarray, sizes: np.ndarray, level: float, least_variance: np.ndarray | float = 0.0) -> _Mean:
    """Return the mean of each group with Student's interval, and `p` that it is zero; missing where there is one block."""
    rows = sizes.sum(axis=0)
    value = sums.sum(axis=0) / rows
    moved = sums - sizes * value
    error = np.sqrt(np.maximum((moved**2).sum(axis=0) * _correction(sizes), least_variance)) / rows
    freedom = _freedom(sizes)
    reach = stats.t.ppf((1 + level) / 2, freedom) * error
    return _Mean(value, value - reach, value + reach, _student(value, error, freedom))


def _against_rest(sums: np.ndarray, sizes: np.ndarray, values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return `p` that the mean of a group is that of all other rows, in whose blocks it is; by no less than chance alone."""
    whole, rows = np.bincount(block, values), np.bincount(block)
    others, remaining = whole[:, None] - sums, rows[:, None] - sizes
    size, rest_size = sizes.sum(axis=0), remaining.sum(axis=0)
    mine, rest = sums.sum(axis=0) / size, others.sum(axis=0) / rest_size
    moved = (sums - sizes * mine) / size - (others - remaining * rest) / rest_size
    drawn = values.var() * (1 / size + 1 / rest_size)
    error = np.sqrt(np.maximum((moved**2).sum(axis=0) * _correction(sizes), drawn))
    return _student(mine - rest, error, _freedom(sizes))


def _correction(sizes: np.ndarray) -> np.ndarray:
    """Return ``b / (b - 1)`` for groups of `b` blocks, missing for one block."""
    count = (sizes > 0).sum(axis=0).astype("float64")
    return count / np.where(count > 1, count - 1, np.nan)


def _freedom(sizes: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom: as many equal blocks as would spread the rows alike, less one; at least one."""
    return np.maximum(sizes.sum(axis=0) ** 2 / (sizes**2).sum(axis=0) - 1, 1)


def _student(value: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return the two-sided `p`; what never varies is surely not zero, or surely zero. One block tells nothing: 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(2 * stats.t.sf(np.abs(value) / error, freedom), nan=1.0)


def _unit(moment: pd.Series, least: int) -> str | None:
    """Return by what to cut time: into 4 to 60 periods of enough rows."""
    for unit in UNITS:
        rows = moments.utc(moment).dt.to_period(unit).value_counts()
        if PERIODS[0] <= (rows >= least).sum() <= PERIODS[1]:
            return unit
    return None


def _resampled(values: np.ndarray, block: np.ndarray, bootstrap: Bootstrap) -> dict[str, float]:
    """Return the mean with its interval over resampled blocks: value, low, high."""

    def statistic(weight: np.ndarray) -> dict[str, float]:
        return {"mean": float(np.average(values, weights=weight))}

    return intervals(statistic, block, bootstrap)["mean"]


def _sign_flips(advantage: np.ndarray, seed: int) -> float:
    """Return the share of draws of signs whose sum is as large as that of the blocks' sums as they are, which count too."""
    signs = np.random.default_rng(seed).integers(0, 2, (FLIPS, len(advantage)), dtype="int8") * 2 - 1
    tie = 1e-9 * np.abs(advantage).sum()  # sums of the same numbers in another order differ by rounding
    return float((1 + (signs @ advantage >= advantage.sum() - tie).sum()) / (1 + FLIPS))
