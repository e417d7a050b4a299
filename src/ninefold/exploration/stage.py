"""What happened, and what does it suggest?

Reads: ``data/problem.json``; ``data/metrics.json``; ``data/lake/``. Of the holdout, no outcome and no value.
Writes: ``data/exploration.json``: the findings, what was decided on suspicious columns, the score of every column.
Gate: no target leakage: every suspicious column is declared as known later, or justified.
"""

from __future__ import annotations

from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from ninefold import artifacts, gate
from ninefold.errors import DataError, ParamsError
from ninefold.exploration import calendar as local_time
from ninefold.exploration import leakage, univariate
from ninefold.exploration.group_rates import CLUSTER, LABEL, MOST_VALUES, cells, difference, groups, rates
from ninefold.exploration.leakage import OUTCOME, PART
from ninefold.metrics import EvaluationPlan, clusters, count_clusters, labelled, part_of
from ninefold.params import Name, Section, Text
from ninefold.problem import Problem, decisions, title

CLOCK = "@clock"  # the local time of the row
OURS = (OUTCOME, LABEL, CLOCK, CLUSTER, PART)
MOST_COLUMNS = 12  # compared where the params name none
MOST_CROSSED = 6  # columns among which to look for two that say more together
PIECES = 20  # of a table without time
KNOWN = ("in advance", "justified")  # statuses of columns that may become features


class Related(Section):
    """A table of the lake to join: the columns that identify its rows (the rows have them too), and those to compare."""

    key: list[Name] = Field(min_length=1)
    columns: list[Name] = Field(min_length=1)


class Params(Section):
    """Section ``exploration`` of ``params.yaml``."""

    timezone: str = "UTC"
    by: list[Name] = Field(default_factory=list)
    related: dict[Name, Related] = Field(default_factory=dict)
    bins: int = Field(default=6, ge=2, le=20)
    min_rows: int | None = Field(default=None, ge=2)
    leak_score: float | None = Field(default=None, gt=0, le=1)
    leak_gap: float | None = Field(default=None, gt=0)
    known_later: dict[Name, Text] = Field(default_factory=dict)
    justified: dict[Name, Text] = Field(default_factory=dict)

    @field_validator("justified")
    @classmethod
    def _decided_once(cls, justified: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if both := [name for name in justified if name in info.data.get("known_later", {})]:
            raise ValueError(
                f"a column to be dropped or kept, not both; take {', '.join(both)} out of known_later or of justified"
            )
        return justified

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ValueError("a name of the IANA time zone database, such as Europe/Paris") from None
        return name


def read(params: Params, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return the labelled rows before the holdout, with every column that could become a feature.

    Returns
    -------
    DataFrame
        The table's columns but the target; ``weekday``, ``hour``, ``month`` of the local clock where its time tells them
        and it has none; ``<table>.<column>`` of each related table; ``@outcome`` (the encoded target), ``@label``
        (float64: the event 1 or 0, the class in focus 1 or 0, or the quantity), ``@clock`` (datetime64, local; missing
        without time), ``@cluster`` (int64: rows that are correlated; numbered at random), ``@part`` (``train`` or
        ``validation``).

    Raises
    ------
    DataError
        If a table lacks a column that the params name, or a related table has several rows for one key.
    ParamsError
        If ``leak_score`` is one that guessing reaches.
    """
    if params.leak_score is not None and params.leak_score <= univariate.guess(problem):
        raise ParamsError(
            f"exploration.leak_score: found {params.leak_score:g}, which a column that knows nothing reaches (a ROC AUC "
            "of 0.5 is guessing); expected more, such as 0.995, or null"
        )
    where = f"data/lake/{problem.table}"
    frame = labelled(problem)
    part = part_of(frame, plan.split, problem)
    frame = frame[part != "holdout"].reset_index(drop=True)
    clock, target = local_time.local(frame, problem, params.timezone), frame.pop(problem.target)
    calendar = {name: values for name, values in local_time.parts(clock).items() if name not in frame}
    own = {
        OUTCOME: target,
        LABEL: decisions.event(target.to_numpy(), problem),
        CLOCK: clock,
        PART: part[part != "holdout"],
    }
    added = pd.DataFrame({**calendar, **own, CLUSTER: _clusters(frame, clock, problem)}, index=frame.index)
    frame = pd.concat([frame, added], axis=1)  # at once: there may be hundreds of columns
    for name, related in params.related.items():
        frame = _join(frame, name, related)
    artifacts.require(frame, params.by, f"{where}, for exploration.by")
    artifacts.require(frame, params.known_later, f"{where}, for exploration.known_later")
    artifacts.require(frame, params.justified, f"{where}, for exploration.justified")
    return frame.reset_index(drop=True)


def candidates(frame: pd.DataFrame) -> list[str]:
    """Return the columns of `read` that could become features."""
    return [column for column in frame if column not in OURS]


def least(frame: pd.DataFrame, params: Params) -> int:
    """Return the fewest rows of a group that is shown: ``min_rows``, or a hundredth of the rows, 10 to 500."""
    return params.min_rows or int(np.clip(len(frame) // 100, 10, 500))


def limits(params: Params) -> leakage.Limits:
    """Return the limits on a single column; see `leakage.Limits`."""
    return leakage.Limits(params.leak_score, params.leak_gap)


def outcomes(frame: pd.DataFrame, problem: Problem, level: float) -> pd.DataFrame:
    """Return how the outcome is distributed: every class with its share and interval, or the quantiles of the quantity.

    Returns
    -------
    DataFrame
        Classes: ``class``, ``rows``, ``share``, ``low``, ``high`` (0-1), the most frequent first. Regression:
        ``quantile`` in words, ``value``.
    """
    if not problem.is_class:
        names = {0: "lowest", 0.05: "5%", 0.25: "25%", 0.5: "median", 0.75: "75%", 0.95: "95%", 1: "highest"}
        values = [*np.quantile(frame[LABEL], list(names)), frame[LABEL].std(ddof=0)]
        return pd.DataFrame({"quantile": [*names.values(), "standard deviation"], "value": values})
    rows = []
    for number, name in enumerate(problem.classes):
        event = pd.DataFrame({CLUSTER: frame[CLUSTER], LABEL: (frame[OUTCOME] == number).astype("float64")})
        whole = overall(event, problem, level)
        rows.append((name, int(event[LABEL].sum()), *whole.values()))
    table = pd.DataFrame(rows, columns=["class", "rows", "share", "low", "high"])
    return table.sort_values("rows", ascending=False, ignore_index=True, kind="stable")


def overall(frame: pd.DataFrame, problem: Problem, level: float) -> dict[str, float]:
    """Return the mean of the outcome over all rows, with its interval: ``mean``, ``low``, ``high``."""
    everything = pd.Series(pd.Categorical.from_codes(np.zeros(len(frame), dtype="int8"), ["all"]), frame.index)
    row = rates(frame, everything, problem, level, 0).iloc[0]
    return {name: float(row[name]) for name in ("mean", "low", "high")}


def course(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return the mean of the outcome along time, or, in a table without time, along the order of its key.

    Returns
    -------
    DataFrame
        The columns of `rates`; ``group`` is the first moment of the period, or the number of the piece; ``period`` is
        ``day``, ``week``, ``month``, ``year`` (the finest with enough rows in each), or ``piece``, of equally many rows.
    """
    rows = least(frame, params)
    if problem.time:
        unit = local_time.period(frame[CLOCK], rows)
        table = rates(frame, frame[CLOCK].dt.to_period(unit).dt.start_time, problem, level, rows)
        if len(table) > 1:
            return table.assign(period=local_time.SPAN[unit][0])
    pieces = int(np.clip(len(frame) // rows, 2, PIECES))
    piece = pd.Series(np.arange(len(frame)) * pieces // max(len(frame), 1), frame.index)
    starts = frame[CLOCK].groupby(piece).transform("first") if problem.time else piece + 1
    return rates(frame, starts, problem, level, 1).assign(period="piece")


def compared(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> dict[str, list[str]]:
    """Return the columns to compare: ``ordered`` (numbers, times) and ``nominal`` (the others).

    Those of ``exploration.by`` and of the related tables; where ``by`` is empty, of the columns known in advance the
    twelve with the most significant gap, in the order of the table.
    """
    related = [f"{name}.{column}" for name, table in params.related.items() for column in table.columns]
    columns = list(dict.fromkeys([*(params.by or _usual(frame, params, problem, level)), *related]))
    ordered = [column for column in columns if _is_ordered(frame[column])]
    return {"ordered": ordered, "nominal": [column for column in columns if column not in ordered]}


def by_group(frame: pd.DataFrame, columns: list[str], params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return the mean of the outcome per group of each column: ``column`` and the columns of `rates`.

    Numeric columns of many values are cut into bins of about equal size; small groups are omitted.
    """
    tables = []
    for column in columns:
        table = rates(frame, groups(frame[column], params.bins), problem, level, least(frame, params))
        tables.append(table.assign(column=column).astype({"group": str}))
    order = ["column", "group", "rows", "clusters", "mean", "low", "high"]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[order] if filled else pd.DataFrame(columns=order)


def gaps(frame: pd.DataFrame, columns: list[str], params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return, per column, the gap between its highest and its lowest group, the most significant first.

    The variance of the interval is that of cluster sums. It is widened for the choice of the two groups
    among all pairs (Bonferroni), so ``low`` is what is left of the gap without sampling noise; in units of the spread of
    the outcome it orders the table.

    Returns
    -------
    DataFrame
        ``column``, ``highest``, ``lowest``, ``mean of highest``, ``mean of lowest``, ``gap``, ``low``, ``high``.
    """
    rows = []
    for column in columns:
        sums, sizes = cells(frame, groups(frame[column], params.bins), least(frame, params))
        mean, count = sums.sum() / sizes.sum(), sizes.shape[1]
        if count > 1:
            top = mean.idxmax()
            bottom = mean.drop(top).idxmin()
            gap = difference(
                sums, sizes, (top, bottom), shares=problem.is_class, level=level, pairs=count * (count - 1) // 2
            )
            rows.append((column, str(top), str(bottom), mean[top], mean[bottom], *gap))
    names = ["column", "highest", "lowest", "mean of highest", "mean of lowest", "gap", "low", "high"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("low", ascending=False, ignore_index=True, kind="stable")


def cross(frame: pd.DataFrame, ranked: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return the mean of the outcome where two scales meet, NaN where there are few rows: a line and a column each.

    Weekday and hour of the local clock; weekday and month; year and month; or the column with the most significant gap and one of
    the next: the first pair of which at least half of the cells, and of the rows, can be shown. The axes are named by
    the scales; empty if there is no such pair.
    """
    rows = least(frame, params)
    bins = params.bins if len(frame) >= 4 * rows * params.bins**2 else 3
    top = list(ranked["column"].head(MOST_CROSSED))
    pairs = (([top[0], other], [_common(groups(frame[name], bins)) for name in (top[0], other)]) for other in top[1:])
    for names, scales in chain(local_time.scales(frame[CLOCK]), pairs):
        cells = frame[LABEL].groupby([pd.Series(scale, frame.index) for scale in scales], observed=True)
        table = cells.agg(["mean", "size"])
        shown = table["size"] >= rows
        grid = table["mean"].where(shown).unstack().tail(MOST_VALUES)
        grid = grid.dropna(axis=0, how="all").dropna(axis=1, how="all")
        known = table.loc[shown, "size"].sum() >= len(frame) / 2 and grid.notna().mean(axis=None) >= 0.5
        if known and min(grid.shape) > 1:
            return grid.rename_axis(index=names[0], columns=names[1])
    return pd.DataFrame()


def missing_effects(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> pd.DataFrame:
    """Return, per column with gaps, whether the outcome differs where it is missing: see `leakage.missing_effects`.

    Columns with too few rows of either are omitted.
    """
    return leakage.missing_effects(frame, candidates(frame), least(frame, params), problem, level)


def univariate_scores(frame: pd.DataFrame, missing: pd.DataFrame, params: Params, problem: Problem) -> pd.DataFrame:
    """Return how well each column alone predicts the outcome, the best first, and whether it may be a leak.

    Returns
    -------
    DataFrame
        ``column``; ``learned``, ``direct``, ``score``, ``event`` and ``event score``, see `univariate.Score`;
        ``missing gap``: from
        `missing_effects`, of a quantity in its standard deviations; ``evidence``: what is over a limit, in words;
        ``status``: ``known later`` or ``justified`` if declared, ``identifier`` if it only numbers the rows,
        ``suspicious`` if over a limit, else ``in advance``; ``reason``: that of the declaration, or empty.
    """
    names = candidates(frame)
    own = [name for name in names if _is_key(name, frame, problem)]
    identifiers = [*filter(None, [problem.time]), *own]
    columns = leakage.Columns(names, identifiers, list(params.known_later))
    table = leakage.screen(frame, columns, missing, limits(params), problem)
    later, justified = (table["column"].isin(list(names)) for names in (params.known_later, params.justified))
    over = (table["evidence"] != "") & (table["column"] != problem.time)
    statuses = ["known later", "justified", "identifier", "suspicious"]
    table["status"] = np.select([later, justified, table["column"].isin(own), over], statuses, "in advance")
    table["reason"] = [{**params.known_later, **params.justified}.get(name, "") for name in table["column"]]
    return table


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `univariate_scores` that were decided on, or are to be, with evidence and reason.

    Returns
    -------
    DataFrame
        ``column``, ``evidence``, ``decision`` (``drop``, ``keep``, or ``open``), ``reason``; those still open first.
    """
    decision = {"suspicious": "open", "known later": "drop", "justified": "keep"}
    rows = table[table["status"].isin(list(decision))]
    rows = rows.assign(decision=rows["status"].map(decision), place=rows["status"].map(list(decision).index))
    rows = rows.sort_values("place", kind="stable", ignore_index=True)
    return rows[["column", "evidence", "decision", "reason"]].replace({"evidence": {"": "nothing"}})


def strongest(table: pd.DataFrame) -> pd.Series | None:
    """Return the row of `univariate_scores` of the best column known in advance, by its ``learned`` score.

    None if all that are not declared known later are suspicious.

    Raises
    ------
    DataError
        If every column is declared known later, or numbers the rows.
    """
    known = table[table["status"].isin(KNOWN)]
    if known.empty and not (table["status"] == "suspicious").any():
        raise DataError("exploration.known_later: leaves no column that is known in advance; there is nothing to learn")
    return None if known.empty else known.loc[known["learned"].idxmax()]


def score_name(problem: Problem) -> str:
    """Return what the score of a single column is called."""
    return title("roc_auc" if problem.is_class else "r2")


def checks(
    frame: pd.DataFrame, table: pd.DataFrame, params: Params, problem: Problem, plan: EvaluationPlan
) -> list[gate.Check]:
    """Return the gate: no suspected leak is undecided, and no row of the holdout was used."""
    open_ = table[table["status"] == "suspicious"]
    suspects = [f"{row['column']} ({row['evidence']})" for _, row in open_.iterrows()]
    justified = [f"{row['column']}: {row['reason']}" for _, row in table[table["status"] == "justified"].iterrows()]
    value = "; ".join(suspects) or (f"none but what is justified ({'; '.join(justified)})" if justified else "none")
    return [
        gate.holds(
            "columns that leak the outcome",
            open_.empty,
            value,
            leakage.expected(list(open_["column"]), limits(params), problem),
        ),
        _stays_closed(frame, problem, plan),
    ]


def metrics(whole: dict[str, float], ranked: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "mean": whole["mean"],
        "gaps": ranked.set_index("column")["gap"].to_dict(),
        "univariate_score": table.set_index("column")["score"].to_dict(),
        "suspicious": int((table["status"] == "suspicious").sum()),
        "justified": int((table["status"] == "justified").sum()),
    }


def save(findings: list[str], table: pd.DataFrame, params: Params) -> None:
    """Write ``data/exploration.json``: the findings, the columns dropped (which stage 06 refuses) and kept, the scores."""
    value = {
        "findings": findings,
        "known_later": list(params.known_later),
        "justified": dict(params.justified),
        "univariate_score": gate.tidy(table.set_index("column")["score"].to_dict()),
    }
    artifacts.write_json(value, artifacts.output("data/exploration.json"))


def load() -> dict[str, Any]:
    """Read what `save` wrote."""
    return artifacts.read_json("data/exploration.json")


def _clusters(frame: pd.DataFrame, clock: pd.Series, problem: Problem) -> np.ndarray:
    """Return the cluster of each row by the local day, numbered at random, so that remainders are random groups."""
    local = frame.copy(deep=False)
    if problem.time:
        local[problem.time] = clock
    cluster = clusters(local, problem)
    return np.random.default_rng(0).permutation(count_clusters(cluster))[cluster]


def _join(frame: pd.DataFrame, name: str, related: Related) -> pd.DataFrame:
    where = f"data/lake/{name}"
    artifacts.require(frame, related.key, f"the rows, for exploration.related.{name}.key")
    table = artifacts.read_table(where, list(dict.fromkeys([*related.key, *related.columns])))
    if table.duplicated(related.key).any():
        key = ", ".join(related.key)
        raise DataError(f"{where}: has several rows for one {key}; exploration.related.{name}.key must identify a row")
    renamed = table[related.columns].add_prefix(f"{name}.")
    return frame.merge(pd.concat([table[related.key], renamed], axis=1), how="left", on=related.key)


def _usual(frame: pd.DataFrame, params: Params, problem: Problem, level: float) -> list[str]:
    """Return the columns to compare where the params name none: those known in advance with the most significant gaps."""
    left_out = {*params.known_later, problem.time}
    known = [name for name in candidates(frame) if name not in left_out and not _is_key(name, frame, problem)]
    top = set(gaps(frame, known, params, problem, level)["column"].head(MOST_COLUMNS))
    return [name for name in known if name in top]


def _is_key(column: str, frame: pd.DataFrame, problem: Problem) -> bool:
    """Return whether a column identifies rows: it is the key, or it numbers them."""
    return [column] == problem.key or univariate.is_identifier(frame[column], frame[OUTCOME].to_numpy(), problem)


def _common(values: pd.Series, most: int = 12) -> pd.Series:
    """Return groups without all but the twelve largest."""
    return values.where(values.isin(values.value_counts().index[:most])).cat.remove_unused_categories()


def _is_ordered(values: pd.Series) -> bool:
    """Return whether a column has an order: numbers, times, and the weekday; not yes and no."""
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return numbers or pd.api.types.is_datetime64_any_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype)


def _stays_closed(frame: pd.DataFrame, problem: Problem, plan: EvaluationPlan) -> gate.Check:
    """Return the check that no row of the holdout was used."""
    if not problem.time:
        rows = int((frame[PART] == "holdout").sum())
        return gate.holds("rows of the holdout used", rows == 0, rows, "none")
    newest, closed = frame[problem.time].max(), plan.split.holdout
    in_time = newest < pd.Timestamp(closed)
    return gate.holds("newest row used", in_time, f"{newest:%Y-%m-%d}", f"before {closed}, the holdout")
