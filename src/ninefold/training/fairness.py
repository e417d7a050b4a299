"""What the groups of protected columns get from a decision, and the gaps between them (Bird et al., Fairlearn, 2020)."""

from typing import Any

import numpy as np
import pandas as pd

from ninefold.errors import DataError
from ninefold.exploration import CLUSTER, LABEL, cells, largest_gap
from ninefold.metrics import Evaluation
from ninefold.sentences import render
from ninefold.training.slices import MOST_GROUPS, few_clusters, fewest, groups

OTHERS = "(others)"
GAPS = ["column", "measure", "value", "low", "high", "rate", "highest", "lowest"]


def fairness(evaluation: Evaluation, protected: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the groups of each protected column get from the model, and the largest gaps between them.

    A row is selected if it gets another action than the best baseline policy gives to all; a quantity, if its
    prediction is above the median one. Missing values are a group; small ones are pooled as ``(others)``. An absent column
    raises DataError. Columns of the groups: ``column``, ``group``, ``rows``, ``selection_rate``; of classes
    ``true_positive_rate`` and ``false_positive_rate`` of being selected against the event; ``payoff`` per row; ``bias``. Of
    the gaps: ``column``, ``measure`` (demographic parity, of classes equalized odds difference, as in fairlearn), ``value``,
    ``low``, ``high`` (for the largest among all pairs), the ``rate`` it is in, its ``highest`` and ``lowest`` group.
    """
    frame, problem = evaluation.frame, evaluation.problem
    if missing := [name for name in protected if name not in frame]:
        raise DataError(render("training", "not_protected", missing=map(repr, missing), columns=frame.columns))
    paid, _, acted = evaluation.payoffs()
    expected, event = evaluation.expected, evaluation.observed
    selected = pd.Series(acted if problem.is_class else expected > np.median(expected)).astype("float64")
    kinds = {"true positive rate": event == 1, "false positive rate": event == 0} if problem.is_class else {}
    rates = {kind.replace(" ", "_"): selected.where(those) for kind, those in kinds.items()}
    rows = pd.DataFrame({"selection_rate": selected, **rates, "payoff": paid, "bias": expected - event})
    labels = pd.DataFrame({LABEL: selected, CLUSTER: few_clusters(frame, problem)})
    tables = [pd.DataFrame(columns=["column", "group", "rows", "selection_rate"])]
    gaps, least, level = [], fewest(len(frame)), evaluation.plan.level
    for name in dict.fromkeys(protected):
        group = _pooled(frame[name], least)
        by_group = rows.groupby(group)
        table = by_group.mean().reset_index()
        table.insert(0, "column", name)
        table.insert(2, "rows", by_group.size().to_numpy())
        tables.append(table.sort_values("rows", ascending=False, kind="stable"))
        comparable = group.where((group != OTHERS) | (group.map(by_group.size()) >= least))
        gaps.append((name, "demographic parity difference", *_gap(labels, comparable, "selection rate", level)))
        if odds := [_gap(labels[those], comparable, rate, level, rates=2) for rate, those in kinds.items()]:
            largest = max(odds, key=lambda gap: np.nan_to_num(gap[0], nan=-1))
            gaps.append((name, "equalized odds difference", *largest))
    return pd.concat(tables[1:] or tables, ignore_index=True), pd.DataFrame(gaps, columns=GAPS)


def _pooled(values: pd.Series, least: int) -> pd.Series:
    code, names = groups(values)
    group = pd.Series(np.array(names, dtype=object)[code], name="group")
    rows = np.bincount(code, minlength=len(names))
    large = np.argsort(-rows, kind="stable")[:MOST_GROUPS]
    return group.where(np.isin(code, large[rows[large] >= least]), OTHERS)


def _gap(labels: pd.DataFrame, group: pd.Series, rate: str, level: float, rates: int = 1) -> tuple[Any, ...]:
    """Return the largest gap of a rate between two groups: gap, low, high, rate, highest, lowest; missing for one group."""
    widest = largest_gap(*cells(labels, group[labels.index], 1), shares=True, level=level, rates=rates)
    if widest is None:
        return (np.nan, np.nan, np.nan, rate, None, None)
    (top, bottom), _, gap = widest
    return (*gap, rate, str(top), str(bottom))
