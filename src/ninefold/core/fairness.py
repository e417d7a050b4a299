"""What the groups of protected columns get from a decision, and how far apart they are (Fairlearn; Bird et al., 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ninefold.core import decisions
from ninefold.core.errors import DataError
from ninefold.core.evaluation import against_baseline
from ninefold.core.levels import BLOCK, LABEL, cells, difference
from ninefold.core.slices import MOST_GROUPS, few_blocks, fewest, groups

OTHERS = "(others)"
GAPS = ["column", "measure", "value", "low", "high", "rate", "highest", "lowest"]


def fairness(
    target: np.ndarray,
    predicted: pd.DataFrame,
    frame: pd.DataFrame,
    protected: list[str],
    stated: dict[str, Any],
    agreed: dict[str, Any],
    least: int | None = None,
    bins: int = 4,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the groups of each protected column get from the model, and the largest gaps between them.

    A row is selected if it gets another action than the best policy without a model gives to all; a quantity, if its
    prediction is above the median prediction. Missing values are a group; values of fewer than `least` rows
    (`fewest` if absent), or beyond the 50 most frequent, are pooled as ``(others)``, and no gap is taken from these if
    they still are too few.

    Returns
    -------
    table : DataFrame
        ``column``, ``group``, ``rows``, ``selection_rate``; of classes the ``true_positive_rate`` and
        ``false_positive_rate`` of being selected against the event (missing where a group has none to count);
        ``payoff`` per row; ``bias``: mean of predicted less observed.
    gaps : DataFrame
        ``column``; ``measure``: demographic parity difference, of classes the equalized odds difference, as fairlearn
        defines them; its ``value`` with ``low``, ``high``; the ``rate`` it is in, and its ``highest`` and ``lowest`` group. A gap
        is never below zero, so plain resampling would always find one: the interval is that of the difference between
        these two groups by blocks, widened for having picked them among all pairs (`levels.difference`).

    Raises
    ------
    DataError
        If a protected column is absent.
    """
    if lost := [name for name in protected if name not in frame]:
        raise DataError(
            f"params.yaml, training.protected: {', '.join(map(repr, lost))} is no column of the feature table; found "
            f"{', '.join(map(str, frame.columns))}; make it a feature (section features), or take it off the list"
        )
    seen = _treated(target, predicted, stated, agreed).assign(**{BLOCK: few_blocks(frame, stated, agreed)})
    least, level, tables, gaps = least or fewest(len(frame)), agreed["bootstrap"]["level"], [], []
    for name in dict.fromkeys(protected):
        group = _pooled(frame[name], least, bins)
        table = _by_group(seen, group, stated)
        known = table.loc[(table["group"] != OTHERS) | (table["rows"] >= least), "group"]
        tables.append(table.assign(column=name))
        gaps += [(name, *gap) for gap in _gaps(seen, group.where(group.isin(known)), stated, level)]
    if not tables:
        return pd.DataFrame(columns=["column", "group", "rows", "selection_rate"]), pd.DataFrame(columns=GAPS)
    whole = pd.concat(tables, ignore_index=True)
    return whole[["column", *whole.columns.drop("column")]], pd.DataFrame(gaps, columns=GAPS)


def _treated(
    target: np.ndarray, predicted: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]
) -> pd.DataFrame:
    """Return, per row, whether it is selected (1 or 0), the event, what it pays, and the bias."""
    paid, _, acted = against_baseline(target, predicted, stated, agreed)
    said, event = decisions.expected(predicted, stated), decisions.event(target, stated)
    selected = acted if decisions.is_class(stated) else said > np.median(said)
    return pd.DataFrame({"selected": selected.astype("int64"), "event": event, "payoff": paid, "bias": said - event})


def _pooled(values: pd.Series, least: int, bins: int) -> pd.Series:
    """Return the group of each row by name, small ones pooled."""
    code, names = groups(values, bins)
    rows = np.bincount(code, minlength=len(names))
    large = set(np.argsort(-rows, kind="stable")[:MOST_GROUPS]) & set(np.flatnonzero(rows >= least))
    kept = np.array([name if number in large else OTHERS for number, name in enumerate(names)], dtype=object)
    return pd.Series(kept[code], name="group")


def _by_group(seen: pd.DataFrame, group: pd.Series, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the rates of each group, the largest first."""
    from fairlearn.metrics import MetricFrame, selection_rate

    # fairlearn walks through rows in Python: it gets each kind of row once, weighed by how often it occurs.
    kinds = seen.assign(group=group, event=seen["event"] if decisions.is_class(stated) else 0)
    kinds = kinds.groupby(["group", "selected", "event"], as_index=False).agg(
        rows=("payoff", "size"), payoff=("payoff", "mean"), bias=("bias", "mean")
    )
    weight = {"sample_weight": kinds["rows"]}
    rates = {"selection_rate": selection_rate, **(_odds() if decisions.is_class(stated) else {})}
    found = MetricFrame(
        metrics={"rows": _total, **rates, "payoff": _average, "bias": _average},
        y_true=kinds["event"],
        y_pred=kinds["selected"],
        sensitive_features=kinds["group"],
        sample_params={name: weight for name in ("rows", *rates)}
        | {name: {**weight, "values": kinds[name]} for name in ("payoff", "bias")},
    ).by_group
    table = found.astype({"rows": "int64"}).rename_axis("group").reset_index()
    return table.sort_values("rows", ascending=False, ignore_index=True, kind="stable")


def _total(event: Any, selected: Any, sample_weight: Any) -> float:
    return float(np.sum(sample_weight))


def _average(event: Any, selected: Any, sample_weight: Any, values: Any) -> float:
    return float(np.average(values, weights=sample_weight))


def _odds() -> dict[str, Callable[..., float]]:
    """Return the true and the false positive rate; missing, where fairlearn says 0, if there is no row to count."""
    from fairlearn.metrics import false_positive_rate, true_positive_rate

    def true(event: Any, selected: Any, sample_weight: Any) -> float:
        return true_positive_rate(event, selected, sample_weight) if np.any(event == 1) else np.nan

    def false(event: Any, selected: Any, sample_weight: Any) -> float:
        return false_positive_rate(event, selected, sample_weight) if np.any(event == 0) else np.nan

    return {"true_positive_rate": true, "false_positive_rate": false}


def _gaps(seen: pd.DataFrame, group: pd.Series, stated: dict[str, Any], level: float) -> list[tuple[Any, ...]]:
    """Return the gaps of one column: measure, value, low, high, rate, highest, lowest."""
    found = [("demographic parity difference", *_gap(seen, group, "selection rate", level))]
    if decisions.is_class(stated):
        odds = [
            _gap(seen[seen["event"] == event], group, rate, level, tried=2)
            for event, rate in ((1, "true positive rate"), (0, "false positive rate"))
        ]
        known = [gap for gap in odds if gap[0] == gap[0]]
        found.append(("equalized odds difference", *max(known or odds, key=lambda gap: gap[0])))
    return found


def _gap(rows: pd.DataFrame, group: pd.Series, rate: str, level: float, tried: int = 1) -> tuple[Any, ...]:
    """Return the largest gap of a rate between two groups: gap, low, high, rate, highest, lowest; missing for one group."""
    named = pd.DataFrame({LABEL: rows["selected"].astype("float64"), BLOCK: rows[BLOCK]})
    sums, sizes = cells(named, group[rows.index], 1)
    if sizes.shape[1] < 2:
        return (np.nan, np.nan, np.nan, rate, None, None)
    share = sums.sum() / sizes.sum()
    top = share.idxmax()
    bottom = share.drop(top).idxmin()
    pairs = tried * sizes.shape[1] * (sizes.shape[1] - 1) // 2
    # A rate is a share, whatever the task.
    ends = difference(sums, sizes, top, bottom, {"task": "binary"}, level=level, pairs=pairs)
    return (*ends, rate, str(top), str(bottom))
