"""Is something broken upstream? Silence, columns that are empty, constant or in another unit, categories never seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold import labels
from ninefold.metrics import subsample
from ninefold.monitoring.period import Rows, measured
from ninefold.monitoring.texts import say

MIXED = 0.5  # of the values; a value that had no larger share before, and is the only one now, is a fault
SILENT = 0.1  # of the usual rows; fewer are silence
NEWLY_MISSING = 0.1  # of all rows that miss a value and usually would not; from this on the column is broken
SAME = 0.99  # of the values that are one and the same
FAR, NEAR = 0.25, 0.1  # Kolmogorov's distance of values in another unit, and after they are converted
FEWEST = 30  # values with which a column is tested
MOST_COMPARED = 20_000  # values of a side: the standard error of their distance is at most 0.004
FAHRENHEIT = ((1.8, 32.0), (1 / 1.8, -32 / 1.8))  # from Celsius, and back; nothing else has both factor and offset
SMALLEST = 1.5  # factor; a kilometre is 0.62 miles
PLAIN = 5.0  # a factor that no shift of the inputs has; a smaller one needs values of one sign, converted more exactly
STEPS = np.linspace(0.05, 0.95, 19)
UNSEEN = 0.01  # of the rows; a rarer new category is no cause

Finding = dict[str, Any]
Broken = tuple[dict[str, Any], str, float]  # the evidence, what a column is, and the share of the rows


def finding(cause: str, subject: str, evidence: Mapping[str, Any], sentence: str, explains: float) -> Finding:
    """Return a named cause: `explains` is the share of the rows, or of the change of the loss, that it accounts for."""
    content = {**evidence, "explains": float(np.clip(explains, 0, 1))}
    return {"cause": cause, "subject": subject, "evidence": content, "sentence": sentence}


def silence(rows: int, usual: float | None, days: float, with_rows: int, each: float = 1.0) -> list[Finding]:
    """Return the finding that no or almost no rows came, or on half of the days none; `usual` is a day's, if known.

    A time stands for so many days as `each`, the period lasts so many as `days`; rows came on so many dates as `with_rows`.
    """
    expected, times = usual * days if usual else None, round(days / each)
    empty, share = max(times - with_rows, 0), rows / expected if expected else 0.0
    # Of fewer than three expected, none is not unusual.
    if rows and (not expected or expected < 3 or (share >= SILENT and empty < times / 2)):
        return []
    evidence = {"rows": rows, "expected": expected, "share": share, "days without rows": empty}
    text = say("silence", **evidence, empty=empty, times=times, each=each)
    return [finding("silence", "rows", evidence, text, max(1 - share, empty / times))]


def broken_columns(known: Rows, now: Rows, kinds: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each column that is mostly empty, constant, or in another unit than before."""
    findings = []
    for name, kind in kinds.items():
        before, after = known.features[name], now.features[name]
        broken = _empty(before, after) or _constant(before, after)
        if not broken and kind not in ("categorical", "text"):
            broken = _unit(measured(before, kind), measured(after, kind), known.block)
        if broken:
            evidence, text, share = broken
            findings.append(finding("broken column", name, evidence, f"Column {labels.of(name)} {text}.", share))
    return findings


def new_categories(known: Rows, now: Rows, kinds: Mapping[str, str]) -> tuple[list[Finding], np.ndarray]:
    """Return a finding for each column with at least `UNSEEN` new categories, and twice the usual, and their rows."""
    findings, rows = [], np.zeros(len(now.block), dtype="bool")
    for name in (name for name, kind in kinds.items() if kind == "categorical"):
        before, after = known.features[name], now.features[name]
        cut = len(before) - len(before) // 10
        last = before.iloc[cut:].dropna()
        usual = 2 * float((~last.isin(before.iloc[:cut].unique())).mean()) if len(last) else 0.0
        unseen = (after.notna() & ~after.isin(before.dropna().unique())).to_numpy("bool")
        if len(unseen) and unseen.mean() >= max(UNSEEN, usual):
            names, share = after[unseen].value_counts(), float(unseen.mean())
            evidence = {"categories": names.index[:10].tolist(), "share": share}
            text = say("new_category", name=name, first=names.index[0], more=len(names) - 1, share=share)
            findings.append(finding("new category", name, evidence, text, share))
            rows |= unseen
    return findings, rows


def _empty(before: pd.Series, after: pd.Series) -> Broken | None:
    usual, missing = float(before.isna().mean()), float(after.isna().mean())
    if len(after) < FEWEST or missing - usual < NEWLY_MISSING:
        return None
    evidence = {"how": "missing", "missing": missing, "usual": usual}
    return evidence, f"is missing in {missing:.0%} of the rows; {usual:.1%} is usual", missing - usual


def _constant(before: pd.Series, after: pd.Series) -> Broken | None:
    values, earlier = after.value_counts(normalize=True), before.dropna()
    if after.count() < FEWEST or earlier.empty or values.iloc[0] < SAME:
        return None
    value, share = values.index[0], float(values.iloc[0])
    usual = float((earlier == value).mean())
    if usual > MIXED:  # what is nearly always the same may be so for a week
        return None
    shown = labels.number(value) if isinstance(value, float) else value
    text = f"has one value, {shown}, in {share:.0%} of the rows; before, {usual:.0%} had it"
    return {"how": "constant", "value": value, "share": share, "usual": usual}, text, share


def _unit(before: np.ndarray, after: np.ndarray, block: np.ndarray) -> Broken | None:
    """Return that all values are a multiple of what they were, or moved by a constant, or both.

    The quantiles of the two lie on a line, farther from the diagonal than single days were, and back along it are alike.
    """
    known = np.isfinite(before)
    before, block, after = before[known], block[known], after[np.isfinite(after)]
    if min(len(before), len(after)) < FEWEST or _distance(before, after) < FAR or len(np.unique(before)) < 10:
        return None
    was, now = np.quantile(before, STEPS), np.quantile(after, STEPS)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = float(np.nan_to_num(np.median(now / was), posinf=0.0, neginf=0.0))
    lines = [*FAHRENHEIT]
    offset, far = float(np.median(now - was)), 3 * max(np.ptp(was), np.ptp(now))
    slope, start = (float(each) for each in stats.theilslopes(now, was)[:2])
    if abs(offset) > far and slope > 0:
        lines = [(1.0, offset), (slope, start), *lines]
    near = [(by, moved) for by, moved in lines if _distance(before, (after - moved) / by) < NEAR]
    if factor:
        large, distance = max(abs(factor), 1 / abs(factor)), _distance(before, after / factor)
        one_sign = was.min() >= 0 or was.max() <= 0
        exact = one_sign and distance < NEAR / 2 and large > _usual_factor(before, block)
        near = [(factor, 0.0), *near] if exact or (large >= PLAIN and distance < NEAR) else near
    if not near:
        return None
    by, moved = near[0]
    return {"how": "unit", "factor": by, "offset": moved}, say("unit", by=by, moved=moved), 1.0


def _usual_factor(values: np.ndarray, block: np.ndarray) -> float:
    """Return the factor that is still usual: of the medians of all but few days, squared; at least `SMALLEST`."""
    days = pd.Series(values).groupby(block).agg(["median", "size"])
    medians = days.loc[days["size"] >= FEWEST, "median"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs(np.log(medians / np.median(values)))
    away = away[np.isfinite(away)]
    return max(SMALLEST, float(np.exp(2 * np.quantile(away, 0.95)))) if len(away) else SMALLEST


def _distance(before: np.ndarray, after: np.ndarray) -> float:
    samples = (values[subsample(len(values), MOST_COMPARED)] for values in (before, after))
    return float(stats.ks_2samp(*samples, method="asymp").statistic)
