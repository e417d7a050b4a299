"""Is something broken upstream? Silence, columns that are empty, constant or in another unit, categories never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.core.period import Rows, measured

SILENT = 0.1  # of the usual rows; fewer are silence
GONE = 0.1  # of all rows that miss a value and usually would not; from this on the column is broken
SAME = 0.99  # of the values that are one and the same
FAR, NEAR = 0.25, 0.1  # Kolmogorov's distance of values in another unit before and after they are put right
FEWEST = 30  # values without which nothing is said of a column
UNITS = (1.8, 1.609344, 2.20462, 2.54, 3.28084, 3.785412, 7, 10, 12, 24, 60, 100, 1000, 1440, 3600, 86_400, 1_000_000)
PLAIN = 5.0  # a factor of this size needs no known unit to explain it
STEPS = np.linspace(0.05, 0.95, 19)
UNSEEN = 0.01  # of the rows; a rarer new category is no cause

Finding = dict[str, Any]


def finding(cause: str, subject: str, evidence: Mapping[str, Any], sentence: str, explains: float) -> Finding:
    """Return a named cause: `explains` is the share of the rows, or of the change of the loss, that it accounts for."""
    told = {**evidence, "explains": float(np.clip(explains, 0, 1))}
    return {"cause": cause, "subject": subject, "evidence": told, "sentence": sentence}


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
    told = f"{rows:,} rows came, {share:.0%} of the {expected:,.0f} expected" if expected else "No row came"
    more = f"; on {empty} days there was none" if rows and empty else ""
    evidence = {"rows": rows, "expected": expected, "share": share, "days without rows": empty}
    return [finding("silence", "rows", evidence, f"{told}{more}.", max(1 - share, empty / days if days else 1.0))]


def broken_columns(known: Rows, now: Rows, kinds: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each column that is mostly empty, constant, or a multiple of what it was.

    Parameters
    ----------
    known, now : Rows
        Of before, and of the period.
    kinds : mapping
        Feature -> its kind.
    """
    found = []
    for name, kind in kinds.items():
        before, after = known.features[name], now.features[name]
        broken = _empty(name, before, after, now.block) or _constant(name, before, after)
        if not broken and kind not in ("categorical", "text"):
            broken = _unit(name, measured(before, kind), measured(after, kind))
        found += broken
    return found


def new_categories(known: Rows, now: Rows, kinds: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each column with categories that were not known, on at least `UNSEEN` of the rows."""
    found = []
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
            found.append(finding("new category", name, evidence, sentence, float(unseen.mean())))
    return found


def is_unseen(known: Rows, now: Rows, name: str) -> np.ndarray:
    """Return of which rows the category was not known: bool, shape (n,)."""
    values = now.features[name]
    return (values.notna() & ~values.isin(known.features[name].dropna().unique())).to_numpy("bool")


def _usually_new(known: Rows, name: str) -> float:
    """Return twice the share of the last tenth of the known rows whose category the others do not have."""
    values = known.features[name]
    cut = len(values) - len(values) // 10
    last = values.iloc[cut:].dropna()
    return 2 * float((~last.isin(values.iloc[:cut].dropna().unique())).mean()) if len(last) else 0.0


def _empty(name: str, before: pd.Series, after: pd.Series, block: np.ndarray) -> list[Finding]:
    usual, missing = float(before.isna().mean()), float(after.isna().mean())
    if len(after) < FEWEST or missing - usual < GONE:
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
    if share < SAME or 1 - usual < 5 * (1 - SAME):
        return []
    evidence = {"how": "constant", "value": most.index[0], "share": share, "usual": usual}
    sentence = (
        f"{name} has one value, {most.index[0]}, on {share:.0%} of the rows; before, no value had over {usual:.0%}."
    )
    return [finding("broken column", name, evidence, sentence, share)]


def _unit(name: str, before: np.ndarray, after: np.ndarray) -> list[Finding]:
    """Return the finding that all values are a multiple of what they were, or moved by a constant, or both.

    The quantiles of the two lie on a line. A shift of the inputs may look alike: so the line has to be that of a unit,
    or far from the diagonal, and the values, put back along it, must be distributed as they were.
    """
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if min(len(before), len(after)) < FEWEST or len(np.unique(before)) < 10:
        return []
    if stats.ks_2samp(before, after, method="asymp").statistic < FAR:
        return []
    was, now = np.quantile(before, STEPS), np.quantile(after, STEPS)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = float(np.nan_to_num(np.median(now / was), posinf=0.0, neginf=0.0))
    slope, offset = (float(each) for each in stats.theilslopes(now, was)[:2])
    spread, middle = np.ptp(was), max(abs(float(np.median(was))), 1e-300)
    # A factor is known to a few per cent: how far depends on the rows, and on how far values are from each other.
    unsure = np.clip(spread / middle * np.sqrt(1 / len(before) + 1 / len(after)), 0.03, 0.06)
    one_sign = was.min() >= 0 or was.max() <= 0
    for how, factor, moved in (
        ("factor", scale, 0.0),
        ("offset", 1.0, float(np.median(now - was))),
        ("line", slope, offset),
    ):
        if abs(factor) < 1e-12 or stats.ks_2samp(before, (after - moved) / factor, method="asymp").statistic > NEAR:
            continue
        large = max(abs(factor), 1 / abs(factor))
        unit = np.min(np.abs(np.array(UNITS) / large - 1)) < unsure
        sure = {
            "factor": large >= PLAIN or factor < 0 or (unit and one_sign and large > 1.5),
            "offset": abs(moved) > 3 * spread,
            "line": large >= PLAIN or abs(np.median(now - was)) > 3 * max(spread, np.ptp(now)),
        }[how]
        if sure:
            return [_in_another_unit(name, how, factor, moved)]
    return []


def _in_another_unit(name: str, how: str, factor: float, moved: float) -> Finding:
    told = {
        "factor": f"{factor:.4g} times",
        "offset": f"{moved:+.4g} beside",
        "line": f"{factor:.4g} times, {moved:+.4g},",
    }
    evidence = {"how": "unit", "factor": factor, "offset": moved}
    sentence = f"The values of {name} are {told[how]} what they were: as if its unit had changed."
    return finding("broken column", name, evidence, sentence, 1.0)
