"""What the groups of protected columns get from a decision, and the gaps between them (Bird et al., Fairlearn, 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ninefold.errors import DataError
from ninefold.exploration import CLUSTER, LABEL, cells, difference
from ninefold.metrics import EvaluationPlan, against_baseline
from ninefold.problem import Problem, decisions
from ninefold.training.slices import MOST_GROUPS, few_blocks, fewest, groups

OTHERS = "(others)"
GAPS = ["column", "measure", "value", "low", "high", "rate", "highest", "lowest"]


def fairness(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    protected: list[str],
    problem: Problem,
    plan: EvaluationPlan,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the groups of each protected column get from the model, and the largest gaps between them.

    A row is selected if it gets another action than the best policy without a model gives to all; a quantity, if its
    prediction is above the median prediction. Missing values are a group; groups of fewer than `fewest` rows, or beyond
    the 50 most frequent, are pooled as ``(others)``, which is not compared if it is still too small.

    Returns
    -------
    table : DataFrame
        ``column``, ``group``, ``rows``, ``selection_rate``; of classes the ``true_positive_rate`` and
        ``false_positive_rate`` of being selected against the event (missing where a group has none to count);
        ``payoff`` per row; ``bias``: mean of predicted less observed.
    gaps : DataFrame
        ``column``; ``measure``: demographic parity difference, of classes the equalized odds difference, as fairlearn
        defines them; its ``value`` with ``low``, ``high``; the ``rate`` it is in, and its ``highest`` and ``lowest``
        group. The interval is that of the difference between these two groups by blocks, widened for having picked them
        among all pairs (`group_rates.difference`).

    Raises
    ------
    DataError
        If a protected column is absent.
    """
    if missing := [name for name in protected if name not in frame]:
        raise DataError(
            f"params.yaml, training.protected: {', '.join(map(repr, missing))} is no column of the feature table; found "
            f"{', '.join(map(str, frame.columns))}; make it a feature (section features), or take it off the list"
        )
    rows, least = _rows(target, predicted, problem, plan), fewest(len(frame))
    rows[CLUSTER] = few_blocks(frame, problem, plan)
    tables, gaps = [], []
    for name in dict.fromkeys(protected):
        group = _pooled(frame[name], least)
        table = _by_group(rows, group, problem)
        comparable = table.loc[(table["group"] != OTHERS) | (table["rows"] >= least), "group"]
        table.insert(0, "column", name)
        tables.append(table)
        gaps += [(name, *gap) for gap in _gaps(rows, group.where(group.isin(comparable)), problem, plan)]
    if not tables:
        return pd.DataFrame(columns=["column", "group", "rows", "selection_rate"]), pd.DataFrame(columns=GAPS)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(gaps, columns=GAPS)


def _rows(target: np.ndarray, predicted: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, per row, whether it is selected (1.0 or 0.0), the event, the payoff, and the bias."""
    paid, _, acted = against_baseline(target, predicted, problem, plan)
    expected, event = decisions.expected(predicted, problem), decisions.event(target, problem)
    selected = acted if problem.is_class else expected > np.median(expected)
    columns = {"selected": selected.astype("float64"), "event": event, "payoff": paid, "bias": expected - event}
    return pd.DataFrame(columns)


def _pooled(values: pd.Series, least: int) -> pd.Series:
    """Return the group of each row by name, small ones pooled."""
    code, names = groups(values)
    rows = np.bincount(code, minlength=len(names))
    large = set(np.argsort(-rows, kind="stable")[:MOST_GROUPS]) & set(np.flatnonzero(rows >= least))
    names = [name if number in large else OTHERS for number, name in enumerate(names)]
    return pd.Series(np.array(names, dtype=object)[code], name="group")


def _by_group(rows: pd.DataFrame, group: pd.Series, problem: Problem) -> pd.DataFrame:
    """Return the rates of each group, the largest first."""
    selected, event = rows["selected"], rows["event"]
    columns = {"selection_rate": selected}
    if problem.is_class:
        columns |= {"true_positive_rate": selected.where(event == 1), "false_positive_rate": selected.where(event == 0)}
    by_group = pd.DataFrame({**columns, "payoff": rows["payoff"], "bias": rows["bias"]}).groupby(group)
    table = by_group.mean()
    table.insert(0, "rows", by_group.size())
    return table.reset_index().sort_values("rows", ascending=False, ignore_index=True, kind="stable")


def _gaps(rows: pd.DataFrame, group: pd.Series, problem: Problem, plan: EvaluationPlan) -> list[tuple[Any, ...]]:
    """Return the gaps of one column: measure, value, low, high, rate, highest, lowest."""
    level = plan.bootstrap.level
    gaps = [("demographic parity difference", *_gap(rows, group, "selection rate", level))]
    if problem.is_class:
        odds = [
            _gap(rows[rows["event"] == event], group, rate, level, rates=2)
            for event, rate in ((1, "true positive rate"), (0, "false positive rate"))
        ]
        known = [gap for gap in odds if gap[0] == gap[0]]
        gaps.append(("equalized odds difference", *max(known or odds, key=lambda gap: gap[0])))
    return gaps


def _gap(rows: pd.DataFrame, group: pd.Series, rate: str, level: float, rates: int = 1) -> tuple[Any, ...]:
    """Return the largest gap of a rate between two groups: gap, low, high, rate, highest, lowest; missing for one group."""
    labels = pd.DataFrame({LABEL: rows["selected"], CLUSTER: rows[CLUSTER]})
    sums, sizes = cells(labels, group[rows.index], 1)
    if sizes.shape[1] < 2:
        return (np.nan, np.nan, np.nan, rate, None, None)
    share = sums.sum() / sizes.sum()
    top = share.idxmax()
    bottom = share.drop(top).idxmin()
    pairs = rates * sizes.shape[1] * (sizes.shape[1] - 1) // 2
    ends = difference(sums, sizes, (top, bottom), shares=True, level=level, pairs=pairs)
    return (*ends, rate, str(top), str(bottom))
