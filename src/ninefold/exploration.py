"""What happened, and what does it suggest?

Reads: ``data/problem.json``; ``data/metrics.json``; ``data/lake/``. Of the holdout, no outcome and no value.
Writes: ``data/exploration.json``: the findings, the columns that are known too late, the score of every single column.
Gate: no target leakage found: no column gives the outcome away, unless it is declared known later.
"""

from __future__ import annotations

from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from ninefold import metrics as agreed_metrics
from ninefold.core import decisions, gate, io, one_column, scores
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.levels import BLOCK, LABEL, MOST_VALUES, cells, difference, groups, rates
from ninefold.core.params import Name, Section, Text

# Columns that `read` adds, beside those of `levels`: the outcome as it is learned, the local time, the part of the split.
OUTCOME, CLOCK, PART = "@outcome", "@clock", "@part"
OURS = (OUTCOME, LABEL, CLOCK, BLOCK, PART)
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
MOST_COLUMNS = 12  # compared where the params name none
MOST_CROSSED = 6  # columns among which to look for two that say more together
MOST_PERIODS = 130  # points that a line over time can show
PIECES = 20  # of a table without time
SPAN = {"D": ("day", 1), "W": ("week", 7), "M": ("month", 30.4), "Y": ("year", 365.25)}
GAPS = {"classes": 0.5, "regression": 1.5}  # of shares, and of standard deviations: hardly seen without a leak


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
    leak_score: float = Field(default=0.995, gt=0, le=1)
    leak_gap: float | None = Field(default=None, gt=0)
    known_later: dict[Name, Text] = Field(default_factory=dict)

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ValueError("a name of the IANA time zone database, such as Europe/Paris") from None
        return name


def read(params: Params, stated: dict[str, Any], agreed: dict[str, Any]) -> pd.DataFrame:
    """Return the labelled rows before the holdout, with every column that could become a feature.

    Returns
    -------
    DataFrame
        The table's columns but the target; ``weekday``, ``hour``, ``month`` of the local clock where its time tells them
        and it has none; ``<table>.<column>`` of each related table; ``@outcome`` (the encoded target), ``@label``
        (float64: the event 1 or 0, the class in focus 1 or 0, or the quantity), ``@clock`` (datetime64, local; missing
        without time), ``@block`` (int64: rows that hang together; numbered at random), ``@part`` (``train`` or
        ``validation``).

    Raises
    ------
    DataError
        If a table lacks a column that the params name, or a related table has several rows for one key.
    ParamsError
        If ``leak_score`` is one that guessing reaches.
    """
    if params.leak_score <= one_column.guess(stated):
        raise ParamsError(
            f"exploration.leak_score: found {params.leak_score:g}, which a column that knows nothing reaches (a ROC AUC "
            "of 0.5 is guessing); expected more, such as 0.995"
        )
    where = f"data/lake/{stated['table']}"
    frame = agreed_metrics.labelled(stated)
    part = agreed_metrics.part_of(frame, agreed["split"], stated)
    frame = frame[part != "holdout"].reset_index(drop=True)
    clock, target = _local(frame, stated, params.timezone), frame.pop(stated["target"])
    calendar = {name: values for name, values in _calendar(frame, clock, stated).items() if name not in frame}
    own = {
        OUTCOME: target,
        LABEL: decisions.event(target.to_numpy(), stated),
        CLOCK: clock,
        PART: part[part != "holdout"],
    }
    added = pd.DataFrame({**calendar, **own, BLOCK: _blocks(frame, clock, stated)}, index=frame.index)
    frame = pd.concat([frame, added], axis=1)  # at once: there may be hundreds of columns
    for name, related in params.related.items():
        frame = _join(frame, name, related)
    io.require(frame, params.by, f"{where}, for exploration.by")
    io.require(frame, params.known_later, f"{where}, for exploration.known_later")
    return frame.reset_index(drop=True)


def candidates(frame: pd.DataFrame) -> list[str]:
    """Return the columns of `read` that could become features."""
    return [column for column in frame if column not in OURS]


def least(frame: pd.DataFrame, params: Params) -> int:
    """Return the fewest rows of a group that is shown: ``min_rows``, or a hundredth of the rows, 10 to 500."""
    return params.min_rows or int(np.clip(len(frame) // 100, 10, 500))


def most_gap(params: Params, stated: dict[str, Any]) -> float:
    """Return the limit on the effect of missing values: ``leak_gap``; or 0.5 in shares, 1.5 deviations of a quantity."""
    return params.leak_gap or GAPS["classes" if decisions.is_class(stated) else "regression"]


def outcomes(frame: pd.DataFrame, stated: dict[str, Any], level: float) -> pd.DataFrame:
    """Return how the outcome is distributed: every class with its share and interval, or the quantiles of the quantity.

    Returns
    -------
    DataFrame
        Classes: ``class``, ``rows``, ``share``, ``low``, ``high`` (0-1), the most frequent first. Regression:
        ``quantile`` in words, ``value``.
    """
    if not decisions.is_class(stated):
        names = {0: "lowest", 0.05: "5%", 0.25: "25%", 0.5: "median", 0.75: "75%", 0.95: "95%", 1: "highest"}
        values = [*np.quantile(frame[LABEL], list(names)), frame[LABEL].std(ddof=0)]
        return pd.DataFrame({"quantile": [*names.values(), "standard deviation"], "value": values})
    rows = []
    for number, name in enumerate(stated["classes"]):
        event = frame[[BLOCK]].assign(**{LABEL: (frame[OUTCOME] == number).astype("float64")})
        whole = overall(event, stated, level)
        rows.append((name, int(event[LABEL].sum()), *whole.values()))
    table = pd.DataFrame(rows, columns=["class", "rows", "share", "low", "high"])
    return table.sort_values("rows", ascending=False, ignore_index=True, kind="stable")


def overall(frame: pd.DataFrame, stated: dict[str, Any], level: float) -> dict[str, float]:
    """Return the level of the outcome over all rows, with its interval: ``mean``, ``low``, ``high``."""
    everything = pd.Series(pd.Categorical.from_codes(np.zeros(len(frame), dtype="int8"), ["all"]), frame.index)
    row = rates(frame, everything, stated, level, 0).iloc[0]
    return {name: float(row[name]) for name in ("mean", "low", "high")}


def course(frame: pd.DataFrame, params: Params, stated: dict[str, Any], level: float) -> pd.DataFrame:
    """Return the level of the outcome along time, or, in a table without time, along the order of its key.

    Returns
    -------
    DataFrame
        The columns of `rates`; ``group`` is the first moment of the period, or the number of the piece; ``period`` is
        ``day``, ``week``, ``month``, ``year`` (the finest with enough rows in each), or ``piece``, of equally many rows.
    """
    rows = least(frame, params)
    if stated["time"]:
        unit = _period(frame[CLOCK], rows)
        table = rates(frame, frame[CLOCK].dt.to_period(unit).dt.start_time, stated, level, rows)
        if len(table) > 1:
            return table.assign(period=SPAN[unit][0])
    pieces = int(np.clip(len(frame) // rows, 2, PIECES))
    piece = pd.Series(np.arange(len(frame)) * pieces // max(len(frame), 1), frame.index)
    starts = frame[CLOCK].groupby(piece).transform("first") if stated["time"] else piece + 1
    return rates(frame, starts, stated, level, 1).assign(period="piece")


def compared(frame: pd.DataFrame, params: Params, stated: dict[str, Any], level: float) -> dict[str, list[str]]:
    """Return the columns to compare: ``ordered`` (numbers, times) and ``nominal`` (the others).

    Those of ``exploration.by`` and of the related tables; where ``by`` is empty, of the columns known in advance the
    twelve with the surest gap, in the order of the table.
    """
    related = [f"{name}.{column}" for name, table in params.related.items() for column in table.columns]
    columns = list(dict.fromkeys([*(params.by or _usual(frame, params, stated, level)), *related]))
    ordered = [column for column in columns if _is_ordered(frame[column])]
    return {"ordered": ordered, "nominal": [column for column in columns if column not in ordered]}


def by_group(
    frame: pd.DataFrame, columns: list[str], params: Params, stated: dict[str, Any], level: float
) -> pd.DataFrame:
    """Return the level of the outcome per group of each column: ``column`` and the columns of `rates`.

    Numeric columns of many values are cut into bins of about equal size; small groups are omitted.
    """
    tables = []
    for column in columns:
        table = rates(frame, groups(frame[column], params.bins), stated, level, least(frame, params))
        tables.append(table.assign(column=column).astype({"group": str}))
    order = ["column", "group", "rows", "blocks", "mean", "low", "high"]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[order] if filled else pd.DataFrame(columns=order)


def gaps(frame: pd.DataFrame, columns: list[str], params: Params, stated: dict[str, Any], level: float) -> pd.DataFrame:
    """Return, per column, the gap between its highest and its lowest group, the surest first.

    The interval resamples no rows: its variance is that of block sums. It is widened for having picked the two groups
    among all pairs (Bonferroni), so ``low`` is what is left of the gap when luck is taken off; in units of the spread of
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
            gap = difference(sums, sizes, top, bottom, stated, level=level, pairs=count * (count - 1) // 2)
            rows.append((column, str(top), str(bottom), mean[top], mean[bottom], *gap))
    names = ["column", "highest", "lowest", "mean of highest", "mean of lowest", "gap", "low", "high"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("low", ascending=False, ignore_index=True, kind="stable")


def cross(frame: pd.DataFrame, ranked: pd.DataFrame, params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return the level of the outcome where two scales meet, NaN where there are few rows: a line and a column each.

    Weekday and hour of the local clock; weekday and month; year and month; or the column with the surest gap and one of
    the next: the first pair of which at least half of the cells, and of the rows, can be shown. The axes are named by
    the scales; empty if there is no such pair.
    """
    rows = least(frame, params)
    bins = params.bins if len(frame) >= 4 * rows * params.bins**2 else 3
    top = list(ranked["column"].head(MOST_CROSSED))
    pairs = (([top[0], other], [_common(groups(frame[name], bins)) for name in (top[0], other)]) for other in top[1:])
    for names, scales in chain(_calendars(frame[CLOCK]), pairs):
        cells = frame[LABEL].groupby([pd.Series(scale, frame.index) for scale in scales], observed=True)
        table = cells.agg(["mean", "size"])
        shown = table["size"] >= rows
        grid = table["mean"].where(shown).unstack().tail(MOST_VALUES)
        grid = grid.dropna(axis=0, how="all").dropna(axis=1, how="all")
        known = table.loc[shown, "size"].sum() >= len(frame) / 2 and grid.notna().mean(axis=None) >= 0.5
        if known and min(grid.shape) > 1:
            return grid.rename_axis(index=names[0], columns=names[1])
    return pd.DataFrame()


def missing_effects(frame: pd.DataFrame, params: Params, stated: dict[str, Any], level: float) -> pd.DataFrame:
    """Return, per column with gaps, whether the outcome differs where it is missing, the largest difference first.

    Returns
    -------
    DataFrame
        ``column``, ``missing`` (share of rows), ``outcome`` (what is compared: the event, or the class that differs most,
        or the quantity), ``if missing``, ``if present`` (its levels), ``gap``, ``low``, ``high``: missing less present,
        with its interval by blocks. Columns with too few rows of either are omitted.
    """
    rows = []
    for column in candidates(frame):
        absent = frame[column].isna()
        if min(absent.sum(), (~absent).sum()) >= max(least(frame, params), one_column.FEWEST):
            event, name = _differs(frame, absent, stated)
            sums, sizes = cells(
                frame[[BLOCK]].assign(**{LABEL: event}), absent.map({True: "missing", False: "present"}), 1
            )
            mean, gap = sums.sum() / sizes.sum(), difference(sums, sizes, "missing", "present", stated, level=level)
            rows.append((column, absent.mean(), name, mean["missing"], mean["present"], *gap))
    names = ["column", "missing", "outcome", "if missing", "if present", "gap", "low", "high"]
    table = pd.DataFrame(rows, columns=names)
    return table.sort_values("gap", key=abs, ascending=False, ignore_index=True, kind="stable")


def one_column_scores(
    frame: pd.DataFrame, missing: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> pd.DataFrame:
    """Return how well each column alone foresees the outcome, the best first: what knows too much is a leak.

    Returns
    -------
    DataFrame
        ``column``; ``learned``, ``direct`` and ``score``, see `one_column.Score`; ``given`` and ``given score``, what
        it gives away best: a class, of several; whether a quantity is high, by being missing; ``missing gap``: from `missing_effects`, of a quantity
        in its standard deviations; ``evidence``: what is over a limit, in words; ``status``: ``known later`` if
        declared, ``identifier`` if it only numbers the rows, ``suspicious`` if over a limit, else ``in advance``.
    """
    outcome, part, block = (frame[name].to_numpy() for name in (OUTCOME, PART, BLOCK))
    masks = one_column.folds(part, outcome, block, stated)
    spread = 1.0 if decisions.is_class(stated) else float(frame[LABEL].std(ddof=0)) or 1.0
    gap = missing.set_index("column")["gap"].astype("float64") / spread
    named = dict(zip(missing["column"], missing["outcome"], strict=True))
    rows = []
    for column in candidates(frame):
        found = one_column.score(frame[column], outcome, masks, stated)
        effect = float(gap.get(column, np.nan))
        rows.append(
            {
                "column": column, "learned": found.learned, "direct": found.direct, "score": found.score,
                "given": found.given, "given score": found.given_score, "missing gap": effect,
                "evidence": _evidence(found, effect, named.get(column, ""), params, stated),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    own = [_is_key(column, frame, stated) for column in table["column"]]
    later = table["column"].isin(list(params.known_later))
    over = (table["evidence"] != "") & (table["column"] != stated["time"])  # when it is due is known by what it is
    table["status"] = np.select([later, own, over], ["known later", "identifier", "suspicious"], "in advance")
    return table.sort_values("score", ascending=False, ignore_index=True, kind="stable")


def strongest(table: pd.DataFrame) -> pd.Series | None:
    """Return the row of `one_column_scores` of the best column known in advance, by its ``learned`` score.

    None if all that are not declared known later are suspicious.

    Raises
    ------
    DataError
        If every column is declared known later, or numbers the rows.
    """
    known = table[table["status"] == "in advance"]
    if known.empty and not (table["status"] == "suspicious").any():
        raise DataError("exploration.known_later: leaves no column that is known in advance; there is nothing to learn")
    return None if known.empty else known.loc[known["learned"].idxmax()]


def score_name(stated: dict[str, Any]) -> str:
    """Return what the score of a single column is called."""
    return scores.title("roc_auc" if decisions.is_class(stated) else "r2")


def checks(
    frame: pd.DataFrame, table: pd.DataFrame, params: Params, stated: dict[str, Any], agreed: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: every column checked, on open rows alone, and none that gives the outcome away undeclared."""
    leaks, every = table[table["status"] == "suspicious"], len(candidates(frame))
    found = [f"{row['column']} ({row['evidence']})" for _, row in leaks.iterrows()]
    deviations = "" if decisions.is_class(stated) else " standard deviations"
    limit = (
        f"none with a {score_name(stated)} above {params.leak_score:g} or an effect of missing values above "
        f"{most_gap(params, stated):g}{deviations}: remove it from features and declare it under "
        "exploration.known_later with the reason, or raise exploration.leak_score (for missing values: leak_gap) if it "
        "is truly known when deciding"
    )
    return [
        gate.holds("columns that give the outcome away", leaks.empty, "; ".join(found) or "none", limit),
        gate.holds("columns checked", len(table) == every, len(table), f"all {every}"),
        _stays_closed(frame, stated, agreed),
    ]


def metrics(whole: dict[str, float], ranked: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "mean": whole["mean"],
        "gaps": ranked.set_index("column")["gap"].to_dict(),
        "one_column_score": table.set_index("column")["score"].to_dict(),
        "suspicious": int((table["status"] == "suspicious").sum()),
    }


def save(found: list[str], table: pd.DataFrame, params: Params) -> None:
    """Write ``data/exploration.json``: ``findings``, ``known_later`` (which stage 06 refuses), ``one_column_score``."""
    value = {
        "findings": found,
        "known_later": list(params.known_later),
        "one_column_score": gate.tidy(table.set_index("column")["score"].to_dict()),
    }
    io.write_json(value, io.output("data/exploration.json"))


def load() -> dict[str, Any]:
    """Read what `save` wrote."""
    return io.read_json("data/exploration.json")


def _local(frame: pd.DataFrame, stated: dict[str, Any], timezone: str) -> pd.Series:
    """Return the local time of each row; dates without hours are dates everywhere, and no table's time is missing."""
    if not stated["time"]:
        return pd.Series(pd.NaT, frame.index, dtype="datetime64[us]")
    times = frame[stated["time"]]
    if (times == times.dt.normalize()).all():
        return times
    return times.dt.tz_localize("UTC").dt.tz_convert(timezone).dt.tz_localize(None)


def _unit(clock: pd.Series) -> str:
    """Return the finest part of the clock that the times tell: ``hour``, ``day``, ``month``, ``year``, or ``none``."""
    if clock.isna().all():
        return "none"
    if (clock - clock.dt.normalize()).nunique() > 2:  # two: one time of the day, in summer and in winter
        return "hour"
    if (clock.dt.day == 1).all() or clock.dt.is_month_end.all():
        return "year" if clock.dt.month.nunique() == 1 else "month"
    return "day"


def _calendar(frame: pd.DataFrame, clock: pd.Series, stated: dict[str, Any]) -> dict[str, Any]:
    """Return what the local time tells of a row."""
    unit, found = _unit(clock), {}
    if unit in ("hour", "day"):
        found["weekday"] = pd.Categorical.from_codes(clock.dt.weekday, WEEKDAYS, ordered=True)
    if unit == "hour":
        found["hour"] = clock.dt.hour
    if unit in ("day", "month"):
        found["month"] = clock.dt.month
    return found


def _calendars(clock: pd.Series) -> list[tuple[list[str], list[Any]]]:
    """Return the pairs of scales that the local time tells, the finest first: their names, their values by row."""
    unit = _unit(clock)
    if unit in ("year", "none"):
        return []
    day = pd.Categorical.from_codes(clock.dt.weekday, WEEKDAYS, ordered=True)
    month = pd.Categorical.from_codes(clock.dt.month - 1, MONTHS, ordered=True)
    found: list[tuple[list[str], list[Any]]] = [(["year", "month"], [clock.dt.year, month])]
    if unit != "month":
        found.insert(0, (["weekday", "month"], [day, month]))
    if unit == "hour":
        found.insert(0, (["weekday", "hour"], [day, clock.dt.hour]))
    return found


def _blocks(frame: pd.DataFrame, clock: pd.Series, stated: dict[str, Any]) -> np.ndarray:
    """Return the block of each row by the local day, numbered at random, so that remainders are random groups."""
    local = frame.assign(**{stated["time"]: clock}) if stated["time"] else frame
    block = scores.blocks(local, stated)
    return np.random.default_rng(0).permutation(int(block.max(initial=-1)) + 1)[block]


def _period(clock: pd.Series, rows: int) -> str:
    """Return the finest period that gives a readable line: enough rows in most, few holes, not too many points."""
    days = (clock.max() - clock.min()).days + 1
    for unit, (_, length) in SPAN.items():
        counts = clock.dt.to_period(unit).value_counts()
        holes = len(counts) < 0.5 * days / length
        if (unit != "D" or days <= 28) and len(counts) <= MOST_PERIODS and counts.median() >= rows and not holes:
            return unit
    return "Y" if days > 2 * 365 else "M" if days > 60 else "W" if days > 14 else "D"


def _join(frame: pd.DataFrame, name: str, related: Related) -> pd.DataFrame:
    where = f"data/lake/{name}"
    io.require(frame, related.key, f"the rows, for exploration.related.{name}.key")
    table = io.read_table(where, list(dict.fromkeys([*related.key, *related.columns])))
    if table.duplicated(related.key).any():
        key = ", ".join(related.key)
        raise DataError(f"{where}: has several rows for one {key}; exploration.related.{name}.key must identify a row")
    renamed = table[related.columns].add_prefix(f"{name}.")
    return frame.merge(pd.concat([table[related.key], renamed], axis=1), how="left", on=related.key)


def _usual(frame: pd.DataFrame, params: Params, stated: dict[str, Any], level: float) -> list[str]:
    """Return the columns to compare where the params name none: those known in advance with the surest gaps."""
    left_out = {*params.known_later, stated["time"]}
    known = [name for name in candidates(frame) if name not in left_out and not _is_key(name, frame, stated)]
    top = set(gaps(frame, known, params, stated, level)["column"].head(MOST_COLUMNS))
    return [name for name in known if name in top]


def _is_key(column: str, frame: pd.DataFrame, stated: dict[str, Any]) -> bool:
    """Return whether a column identifies rows: it is the key, or it numbers them."""
    return [column] == stated["key"] or one_column.is_identifier(frame[column], frame[OUTCOME].to_numpy(), stated)


def _differs(frame: pd.DataFrame, absent: pd.Series, stated: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Return what to compare where a column is missing: the label, or the class whose share differs most; its name."""
    if stated["task"] != "multiclass":
        return frame[LABEL].to_numpy(), stated["focus"] or stated["target"]
    code, outcome = absent.to_numpy().astype(int), frame[OUTCOME].to_numpy().astype(int)
    counts = np.bincount(2 * outcome + code, minlength=2 * len(stated["classes"])).reshape(-1, 2)
    most = int(np.abs(np.diff(counts / counts.sum(axis=0), axis=1)).argmax())
    return (outcome == most).astype("float64"), stated["classes"][most]


def _evidence(found: one_column.Score, gap: float, outcome: str, params: Params, stated: dict[str, Any]) -> str:
    """Return what a column gives away over a limit, in words; empty if nothing."""
    name, signs = score_name(stated), []
    if found.score > params.leak_score:
        signs.append(f"{name} {found.score:.3f}")
    elif found.given_score > params.leak_score:
        what = f"for class {found.given}" if decisions.is_class(stated) else "of its gaps for high values"
        signs.append(f"{scores.title('roc_auc')} {found.given_score:.3f} {what}")
    if abs(gap) > most_gap(params, stated):
        deviations = "" if decisions.is_class(stated) else " standard deviations"
        level = decisions.level_name({**stated, "focus": outcome})
        signs.append(f"where it is missing the {level} changes by {gap:+.2f}{deviations}")
    return ", ".join(signs)


def _common(values: pd.Series, most: int = 12) -> pd.Series:
    """Return groups without all but the twelve largest."""
    return values.where(values.isin(values.value_counts().index[:most])).cat.remove_unused_categories()


def _is_ordered(values: pd.Series) -> bool:
    """Return whether a column has an order: numbers, times, and the weekday; not yes and no."""
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return numbers or pd.api.types.is_datetime64_any_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype)


def _stays_closed(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> gate.Check:
    """Return the check that no row of the holdout was looked at."""
    if not stated["time"]:
        rows = int((frame[PART] == "holdout").sum())
        return gate.holds("rows of the holdout looked at", rows == 0, rows, "none")
    newest, closed = frame[stated["time"]].max(), agreed["split"]["holdout"]
    in_time = newest < pd.Timestamp(closed)
    return gate.holds("newest row looked at", in_time, f"{newest:%Y-%m-%d}", f"before {closed}, the holdout")
