"""Is something broken upstream? Silence, columns that are empty, constant or in another unit, categories never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.monitoring.period import Rows, measured

MIXED = 0.5  # of the values; of a column of which no value had a larger share, one alone is a fault
SILENT = 0.1  # of the usual rows; fewer are silence
NEWLY_MISSING = 0.1  # of all rows that miss a value and usually would not; from this on the column is broken
SAME = 0.99  # of the values that are one and the same
FAR, NEAR = 0.25, 0.1  # Kolmogorov's distance of values in another unit before and after they are put right
FEWEST = 30  # values without which nothing is said of a column
FAHRENHEIT = ((1.8, 32.0), (1 / 1.8, -32 / 1.8))  # from Celsius, and back; nothing else has both factor and offset
SMALLEST = 1.5  # factor; a kilometre is 0.62 miles
PLAIN = 5.0  # a factor that no shift of the inputs has; a smaller one needs values of one sign, put right more exactly
STEPS = np.linspace(0.05, 0.95, 19)
UNSEEN = 0.01  # of the rows; a rarer new category is no cause

Finding = dict[str, Any]


def finding(cause: str, subject: str, evidence: Mapping[str, Any], sentence: str, explains: float) -> Finding:
    """Return a named cause: `explains` is the share of the rows, or of the change of the loss, that it accounts for."""
    content = {**evidence, "explains": float(np.clip(explains, 0, 1))}
    return {"cause": cause, "subject": subject, "evidence": content, "sentence": sentence}


def silence(rows: int, usual: float | None, days: float | None, with_rows: int) -> list[Finding]:
    """Return the finding that no or almost no rows came, or on half of the days none.

    Parameters
    ----------
    rows : int
        That came.
    usual : float, optional
        Rows a day; not known where there is no time.
    days : float, optional
        Length of the period.
    with_rows : int
        Days on which any came.
    """
    if rows and (not usual or not days):
        return []
    expected = usual * days if usual and days else None
    share = rows / expected if expected else 0.0
    empty = max(round(days) - with_rows, 0) if days else 0
    if rows and share >= SILENT and empty < (days or 0) / 2:
        return []
    if rows and expected and expected < 3:  # so few come that none is no wonder
        return []
    volume = f"{rows:,} rows came, {share:.0%} of the {expected:,.0f} expected" if expected else "No row came"
    more = f"; on {empty} days there was none" if rows and empty else ""
    evidence = {"rows": rows, "expected": expected, "share": share, "days without rows": empty}
    return [finding("silence", "rows", evidence, f"{volume}{more}.", max(1 - share, empty / days if days else 1.0))]


def broken_columns(known: Rows, now: Rows, kinds: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each column that is mostly empty, constant, or a multiple of what it was.

    Parameters
    ----------
    known, now : Rows
        Of before, and of the period.
    kinds : mapping
        Feature -> its kind.
    """
    findings = []
    for name, kind in kinds.items():
        before, after = known.features[name], now.features[name]
        broken = _empty(name, before, after, now.block) or _constant(name, before, after)
        if not broken and kind not in ("categorical", "text"):
            broken = _unit(name, measured(before, kind), measured(after, kind), known.block)
        findings += broken
    return findings


def new_categories(known: Rows, now: Rows, kinds: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each column with categories that were not known, on at least `UNSEEN` of the rows."""
    findings = []
    for name in (name for name, kind in kinds.items() if kind == "categorical"):
        unseen = is_unseen(known, now, name)
        if len(unseen) and unseen.mean() >= max(UNSEEN, _usually_new(known, name)):
            names = now.features.loc[unseen, name].value_counts()
            first, share = names.index[0], float(names.iloc[0] / len(unseen))
            evidence = {"categories": names.index[:10].tolist(), "share": float(unseen.mean()), "largest share": share}
            also = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            sentence = (
                f'{name} has the category "{first}"{also}, which was not known, on {unseen.mean():.1%} of the rows.'
            )
            findings.append(finding("new category", name, evidence, sentence, float(unseen.mean())))
    return findings


def is_unseen(known: Rows, now: Rows, name: str) -> np.ndarray:
    """Return of which rows the category was not known: bool, shape (n,)."""
    values = now.features[name]
    return (values.notna() & ~values.isin(known.features[name].dropna().unique())).to_numpy("bool")


def _usually_new(known: Rows, name: str) -> float:
    """Return twice the share of the last decile of the known rows whose category the others do not have."""
    values = known.features[name]
    cut = len(values) - len(values) // 10
    last = values.iloc[cut:].dropna()
    return 2 * float((~last.isin(values.iloc[:cut].dropna().unique())).mean()) if len(last) else 0.0


def _empty(name: str, before: pd.Series, after: pd.Series, block: np.ndarray) -> list[Finding]:
    usual, missing = float(before.isna().mean()), float(after.isna().mean())
    if len(after) < FEWEST or missing - usual < NEWLY_MISSING:
        return []
    days = pd.Series(after.isna().to_numpy()).groupby(block).mean()
    evidence = {"missing": missing, "usual": usual, "blocks without any value": int((days == 1).sum())}
    sentence = f"{name} is missing on {missing:.0%} of the rows; {usual:.1%} is usual."
    return [finding("broken column", name, {"how": "missing", **evidence}, sentence, missing - usual)]


def _constant(name: str, before: pd.Series, after: pd.Series) -> list[Finding]:
    values, earlier = after.dropna(), before.dropna()
    if len(values) < FEWEST or earlier.empty:
        return []
    most = values.value_counts()
    share, usual = float(most.iloc[0] / len(values)), float(earlier.value_counts().iloc[0] / len(earlier))
    if share < SAME or usual > MIXED:  # what is nearly always the same may be so for a week
        return []
    evidence = {"how": "constant", "value": most.index[0], "share": share, "usual": usual}
    sentence = (
        f"{name} has one value, {most.index[0]}, on {share:.0%} of the rows; before, no value had over {usual:.0%}."
    )
    return [finding("broken column", name, evidence, sentence, share)]


def _unit(name: str, before: np.ndarray, after: np.ndarray, block: np.ndarray) -> list[Finding]:
    """Return the finding that all values are a multiple of what they were, or moved by a constant, or both.

    The quantiles of the two lie on a line. A shift of the inputs may look alike: so the line has to be far from the
    diagonal, farther than single days were, and the values, put back along it, must be distributed as they were.
    """
    known = np.isfinite(before)
    before, block, after = before[known], block[known], after[np.isfinite(after)]
    if min(len(before), len(after)) < FEWEST or len(np.unique(before)) < 10:
        return []
    if _distance(before, after) < FAR:
        return []
    was, now = np.quantile(before, STEPS), np.quantile(after, STEPS)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = float(np.nan_to_num(np.median(now / was), posinf=0.0, neginf=0.0))
    offset, far = float(np.median(now - was)), 3 * max(np.ptp(was), np.ptp(now))
    large = max(abs(factor), 1 / abs(factor)) if factor else 0.0
    one_sign = was.min() >= 0 or was.max() <= 0
    if large and (
        (large >= PLAIN and _distance(before, after / factor) < NEAR)
        or (one_sign and large > _usual(before, block) and _distance(before, after / factor) < NEAR / 2)
    ):
        return [_in_another_unit(name, "factor", factor, 0.0)]
    slope, start = (float(each) for each in stats.theilslopes(now, was)[:2])
    lines = [(1.0, offset), (slope, start)] if abs(offset) > far and slope > 0 else []
    for by, moved in [*lines, *FAHRENHEIT]:
        if _distance(before, (after - moved) / by) < NEAR:
            return [_in_another_unit(name, "offset" if by == 1 else "line", by, moved)]
    return []


def _usual(values: np.ndarray, block: np.ndarray) -> float:
    """Return the factor that is no longer usual: what the medians of all but few days keep to, squared; or `SMALLEST`."""
    days = pd.Series(values).groupby(block).agg(["median", "size"])
    medians = days.loc[days["size"] >= FEWEST, "median"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs(np.log(medians / np.median(values)))
    away = away[np.isfinite(away)]
    return max(SMALLEST, float(np.exp(2 * np.quantile(away, 0.95)))) if len(away) else SMALLEST


def _distance(before: np.ndarray, after: np.ndarray) -> float:
    """Return Kolmogorov's distance of two samples, 0-1."""
    return float(stats.ks_2samp(before, after, method="asymp").statistic)


def _in_another_unit(name: str, how: str, factor: float, moved: float) -> Finding:
    relation = {
        "factor": f"{factor:.4g} times",
        "offset": f"{moved:+.4g} beside",
        "line": f"{factor:.4g} times, {moved:+.4g},",
    }
    evidence = {"how": "unit", "factor": factor, "offset": moved}
    sentence = f"The values of {name} are {relation[how]} what they were: as if its unit had changed."
    return finding("broken column", name, evidence, sentence, 1.0)
