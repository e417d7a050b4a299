"""What happened, and what does it suggest?

Reads: ``data/problem.json``; ``data/metrics.json``; ``data/lake/``. Of the holdout, no outcome and no value.
Writes: ``data/exploration.json``: the findings, the columns that are known too late, the score of every single column.
Gate: no target leakage found: no column gives the outcome away, unless it is declared known later.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field, field_validator
from scipy import stats
from sklearn.metrics import roc_auc_score

from ninefold import metrics as agreed_metrics
from ninefold.core import gate, io, plots
from ninefold.core.errors import DataError
from ninefold.core.params import Section
from ninefold.problem import Text

# Columns that `read` adds; no column of a lake is called so.
LABEL, CLOCK, DAY, PART = "@label", "@clock", "@day", "@part"
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
MOST_GROUPS = 31  # a numeric column with more values than a month has days is cut into bins
SCORE_BINS = 50  # bins of a numeric column whose order need not match the target's
PRIOR_ROWS = 20  # weight of the overall share in the share of a group (Micci-Barreca, SIGKDD Explorations 3, 2001)


class Related(Section):
    """A table of the lake to join: the columns that identify its rows (the events have them too), and those to compare."""

    key: list[Text] = Field(min_length=1)
    columns: list[Text] = Field(min_length=1)


class Params(Section):
    """Section ``exploration`` of ``params.yaml``."""

    timezone: str = "UTC"
    by: list[Text] = Field(default_factory=list)
    related: dict[Text, Related] = Field(default_factory=dict)
    bins: int = Field(default=6, ge=2, le=20)
    min_rows: int = Field(default=500, ge=2)
    leak_auc: float = Field(default=0.85, gt=0.5, le=1)
    leak_gap: float = Field(default=0.5, gt=0, le=1)
    known_later: dict[Text, Text] = Field(default_factory=dict)

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
        The event table's columns but the target; ``weekday`` and ``hour`` of the local clock where it has none;
        ``<table>.<column>`` of each related table; ``@label`` (int64, 0 or 1), ``@clock`` (datetime64, local),
        ``@day`` (datetime64, local), ``@part`` (``train`` or ``validation``).

    Raises
    ------
    DataError
        If a table lacks a column that the params name, or a related table has several rows for one key.
    """
    where = f"data/lake/{stated['table']}"
    frame = io.read_table(where)
    io.require(frame, [stated["time"], stated["target"]], where)
    frame[PART] = agreed_metrics.part_of(frame[stated["time"]], agreed["split"])
    frame = frame[(frame[PART] != "holdout") & frame[stated["target"]].notna()]
    clock = frame[stated["time"]].dt.tz_localize("UTC").dt.tz_convert(params.timezone).dt.tz_localize(None)
    calendar = {"weekday": pd.Categorical.from_codes(clock.dt.weekday, WEEKDAYS, ordered=True), "hour": clock.dt.hour}
    own = {LABEL: frame.pop(stated["target"]).astype("int64"), CLOCK: clock, DAY: clock.dt.normalize()}
    frame = frame.assign(**{name: values for name, values in calendar.items() if name not in frame}, **own)
    for name, related in params.related.items():
        frame = _join(frame, name, related)
    io.require(frame, params.by, f"{where}, for exploration.by")
    io.require(frame, params.known_later, f"{where}, for exploration.known_later")
    return frame.reset_index(drop=True)


def compared(frame: pd.DataFrame, params: Params) -> dict[str, list[str]]:
    """Return the columns to compare: ``ordered`` and ``nominal`` of the events, and ``related``.

    Without ``exploration.by`` these are the weekday and the hour.
    """
    by = params.by or ["weekday", "hour"]
    ordered = [column for column in by if _is_ordered(frame[column])]
    related = [f"{name}.{column}" for name, table in params.related.items() for column in table.columns]
    return {"ordered": ordered, "nominal": [column for column in by if column not in ordered], "related": related}


def rates(frame: pd.DataFrame, group: pd.Series, level: float, min_rows: int) -> pd.DataFrame:
    """Return the share of events in each group of enough rows, with an interval that knows that days hang together.

    Wilson's interval with the number of rows divided by the design effect, which is measured from the sums of whole
    days (Dean and Pagano, Survey Methodology 41, 2015); it is never narrower than Wilson's of independent rows. Where
    the spread of days cannot be measured (no event, only events, or one day), each day counts as one row.

    Returns
    -------
    DataFrame
        ``group``, ``rows``, ``days`` (int64), ``share``, ``low``, ``high`` (0-1), in the order of the groups.
    """
    sums, sizes = _daily(frame, group)
    rows, days = sizes.sum(), (sizes > 0).sum()
    share = sums.sum() / rows
    spread = (_influence(sums, sizes) ** 2).sum() * days / (days - 1).clip(lower=1)
    binomial = share * (1 - share)
    size = (binomial / spread).clip(lower=1).clip(upper=rows).where((days > 1) & (binomial > 0), days)
    t = stats.t.ppf((1 + level) / 2, (days - 1).clip(lower=1))
    centre = (share + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t / (1 + t**2 / size) * np.sqrt(binomial / size + t**2 / (4 * size**2))
    table = pd.DataFrame({"rows": rows, "days": days, "share": share, "low": centre - half, "high": centre + half})
    return table[table["rows"] >= min_rows].rename_axis("group").reset_index()


def by_week(frame: pd.DataFrame, params: Params, level: float) -> pd.DataFrame:
    """Return the share of events per week, named by its Monday: the columns of `rates`."""
    return rates(frame, frame[DAY].dt.to_period("W").dt.start_time, level, params.min_rows)


def shares(frame: pd.DataFrame, columns: list[str], params: Params, level: float) -> pd.DataFrame:
    """Return the share of events per group of each column: ``column`` and the columns of `rates`.

    Numeric columns of many values are cut into bins of about equal size; groups under ``min_rows`` are omitted.
    """
    tables = [
        rates(frame, groups(frame[column], params.bins), level, params.min_rows).assign(column=column)
        for column in columns
    ]
    order = ["column", "group", "rows", "days", "share", "low", "high"]
    filled = [table.astype({"group": str}) for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[order] if filled else pd.DataFrame(columns=order)


def gaps(frame: pd.DataFrame, columns: list[str], params: Params, level: float) -> pd.DataFrame:
    """Return, per column, the gap between its highest and its lowest group, the surest first.

    The interval resamples no rows: its variance is that of day sums. It is widened for having picked the two groups
    among all pairs (Bonferroni), so ``low`` is what is left of the gap when luck is taken off, and orders the table.

    Returns
    -------
    DataFrame
        ``column``, ``highest``, ``lowest``, ``share of highest``, ``share of lowest``, ``gap``, ``low``, ``high`` (0-1).
    """
    rows = []
    for column in columns:
        sums, sizes = _daily(frame, groups(frame[column], params.bins))
        large = sizes.columns[sizes.sum() >= params.min_rows]
        share = (sums.sum() / sizes.sum())[large]
        if len(large) > 1:
            top, bottom = share.idxmax(), share.idxmin()
            gap = _difference(sums, sizes, top, bottom, level=level, pairs=len(large) * (len(large) - 1) // 2)
            rows.append((column, str(top), str(bottom), share[top], share[bottom], *gap))
    names = ["column", "highest", "lowest", "share of highest", "share of lowest", "gap", "low", "high"]
    return pd.DataFrame(rows, columns=names).sort_values("low", ascending=False, ignore_index=True, kind="stable")


def missing_effects(frame: pd.DataFrame, params: Params, level: float) -> pd.DataFrame:
    """Return, per column with gaps, whether the outcome differs where it is missing, the largest difference first.

    Returns
    -------
    DataFrame
        ``column``, ``missing`` (share of rows), ``if missing``, ``if present`` (shares of events), ``gap``, ``low``,
        ``high``: missing less present, with its interval by days. Columns with too few rows of either are omitted.
    """
    rows = []
    for column in candidates(frame):
        absent = frame[column].isna()
        if min(absent.sum(), (~absent).sum()) >= params.min_rows:
            sums, sizes = _daily(frame, absent)
            share = sums.sum() / sizes.sum()
            rows.append(
                (column, absent.mean(), share[True], share[False], *_difference(sums, sizes, True, False, level=level))
            )
    table = pd.DataFrame(rows, columns=["column", "missing", "if missing", "if present", "gap", "low", "high"])
    return table.sort_values("gap", key=abs, ascending=False, ignore_index=True, kind="stable")


def one_column_scores(frame: pd.DataFrame, missing: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return how well each column alone ranks the outcomes, the best first: what knows too much is a leak.

    Returns
    -------
    DataFrame
        ``column``; ``learned``: ROC AUC on validation of the shares that its groups had in training (missing is a group
        too); ``direct``: of the numbers themselves, in the better direction, on all rows with a value (NaN for text);
        ``auc``: the larger of the two; ``missing gap``: from `missing_effects`; ``status``: ``known later`` if declared,
        ``suspicious`` if over a limit, else ``in advance``.
    """
    gap = missing.set_index("column")["gap"].astype("float64")
    rows = []
    for column in candidates(frame):
        values = _numbers(frame[column])
        learned, direct = _learned_auc(values, frame), _direct_auc(values, frame[LABEL])
        rows.append((column, learned, direct, np.nanmax([learned, direct]), gap.get(column, np.nan)))
    table = pd.DataFrame(rows, columns=["column", "learned", "direct", "auc", "missing gap"])
    over = (table["auc"] >= params.leak_auc) | (table["missing gap"].abs() >= params.leak_gap)
    later = table["column"].isin(list(params.known_later))
    table["status"] = np.select([later, over], ["known later", "suspicious"], "in advance")
    return table.sort_values("auc", ascending=False, ignore_index=True, kind="stable")


def candidates(frame: pd.DataFrame) -> list[str]:
    """Return the columns of `read` that could become features."""
    return [column for column in frame if not column.startswith("@")]


def groups(values: pd.Series, bins: int) -> pd.Series:
    """Return the group of each row, as an ordered category: a value, or a bin named by what it holds, or missing."""
    values = _numbers(values)
    if not pd.api.types.is_numeric_dtype(values) or values.nunique() <= MOST_GROUPS:
        values = values.astype("category")
        number = pd.api.types.is_float_dtype(values.cat.categories)
        return values.cat.rename_categories(lambda value: f"{value:.12g}") if number else values
    bin_of = pd.Series(np.searchsorted(edges(values, bins), values, side="right"), values.index).where(values.notna())
    ends = values.groupby(bin_of).agg(["min", "max"])
    names = [f"{low:.4g}" if low == high else f"{low:.4g} – {high:.4g}" for low, high in ends.to_numpy()]
    if len(set(names)) < len(names):  # four digits are too few to tell the bins apart
        names = [f"{low} – {high}" for low, high in ends.to_numpy()]
    codes = pd.Index(ends.index).get_indexer(bin_of)
    return pd.Series(pd.Categorical.from_codes(codes, names, ordered=True), values.index)


def edges(values: pd.Series, bins: int) -> np.ndarray:
    """Return where bins of about equal size begin; a value that fills a bin by itself gets one."""
    shares = values.value_counts(normalize=True)
    common = np.sort(shares.index[shares > 1 / bins].to_numpy(dtype="float64"))
    rest = values[values.notna() & ~values.isin(common)]
    inner = np.linspace(0, 1, max(bins - len(common), 1) + 1)[1:-1]
    cuts = np.quantile(rest, inner, method="lower") if len(rest) else []
    return np.unique(np.concatenate([cuts, common, np.nextafter(common, np.inf)]))


def overall(frame: pd.DataFrame, level: float) -> dict[str, float]:
    """Return the share of events over all rows, with its interval: ``share``, ``low``, ``high`` (0-1)."""
    row = rates(frame, pd.Series("all", frame.index), level, 0).iloc[0]
    return {name: float(row[name]) for name in ("share", "low", "high")}


def strongest(scores: pd.DataFrame) -> pd.Series:
    """Return the row of `one_column_scores` of the best column known in advance, by its ``learned`` score.

    Raises
    ------
    DataError
        If every column is declared known later, or suspicious.
    """
    known = scores[scores["status"] == "in advance"]
    if known.empty:
        raise DataError("exploration.known_later: leaves no column that is known in advance; there is nothing to learn")
    return known.loc[known["learned"].idxmax()]


def findings(
    whole: dict[str, float],
    weeks: pd.DataFrame,
    ranked: pd.DataFrame,
    missing: pd.DataFrame,
    scores: pd.DataFrame,
    stated: dict[str, Any],
    level: float,
) -> list[str]:
    """Return what was found, a sentence each: overall, over time, the four surest gaps, missing values, columns."""
    lines = [describe_overall(whole, stated, level), describe_weeks(weeks, whole)]
    lines += [f"*{row['column']}*: {_gap(row, level)}." for _, row in ranked[ranked["low"] > 0].head(4).iterrows()]
    return [*lines, describe_missing(missing, level), describe_scores(scores)]


def describe_rows(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> str:
    """Return, as a sentence, which rows are looked at."""
    first, last = frame[CLOCK].min().date(), frame[CLOCK].max().date()
    return (
        f"**{len(frame):,}** {stated['units']} with a known outcome, from {first} to {last}; everything from "
        f"{agreed['split']['holdout']} on is the holdout and stays closed."
    )


def describe_overall(whole: dict[str, float], stated: dict[str, Any], level: float) -> str:
    """Return the overall share, in words."""
    return (
        f"In {whole['share']:.1%} of the cases (with {level:.0%} confidence {whole['low']:.1%} to {whole['high']:.1%}) "
        f"a {stated['unit']} {stated['positive']}."
    )


def describe_weeks(weeks: pd.DataFrame, whole: dict[str, float]) -> str:
    """Return how the share moves from week to week, in words, and whether that is drift."""
    if weeks.empty:
        return "No week has enough rows to tell its share."
    low, high = weeks.loc[weeks["share"].idxmin()], weeks.loc[weeks["share"].idxmax()]
    off = int(((weeks["low"] > whole["share"]) | (weeks["high"] < whole["share"])).sum())
    drift = "it drifts, and later weeks may differ again" if off > 0.1 * len(weeks) else "no more than chance would do"
    return (
        f"The weekly share moves between {low['share']:.1%} (week of {low['group'].date()}) and {high['share']:.1%} "
        f"(week of {high['group'].date()}); the intervals of {off} of {len(weeks)} weeks exclude the overall share: {drift}."
    )


def describe_shares(table: pd.DataFrame, frame: pd.DataFrame, params: Params) -> str:
    """Return the extremes of every column, in words, and what was omitted."""
    if table.empty:
        return "There is no such column to compare."
    parts = []
    for column, rows in table.groupby("column", sort=False):
        low, high = rows.loc[rows["share"].idxmin()], rows.loc[rows["share"].idxmax()]
        part = f"*{column}* from {low['share']:.1%} ({low['group']}) to {high['share']:.1%} ({high['group']})"
        omitted = 1 - rows["rows"].sum() / len(frame)
        parts.append(part + (f", {omitted:.1%} of rows omitted" if omitted >= 0.0005 else ""))
    return f"{'; '.join(parts)}. Groups under {params.min_rows:,} rows, and missing values, are omitted."


def describe_clock(frame: pd.DataFrame, params: Params) -> str:
    """Return where in the week the share is highest and lowest, in words."""
    grid = _clock(frame, params).stack()
    if grid.empty:
        return "No hour of the week has enough rows to tell its share."
    (day, hour), (calm, rest) = grid.idxmax(), grid.idxmin()
    return (
        f"The share is highest on {day} at {hour:02d}:00 ({grid.max():.1%}) and lowest on {calm} at {rest:02d}:00 "
        f"({grid.min():.1%}), by the clock of {params.timezone}; hours under {params.min_rows:,} rows are left blank."
    )


def describe_gaps(ranked: pd.DataFrame, level: float) -> str:
    """Return what separates the groups most, in words."""
    if ranked.empty:
        return "No column has two groups large enough to compare."
    row, sure = ranked.iloc[0], int((ranked["low"] > 0).sum())
    return (
        f"The surest gap is that of *{row['column']}*: {_gap(row, level)}. Of {len(ranked)} columns compared, {sure} "
        "have a gap that is more than the luck of the days."
    )


def describe_missing(missing: pd.DataFrame, level: float) -> str:
    """Return whether missing values go with the outcome, in words."""
    if missing.empty:
        return "No column is missing in enough rows to compare the outcomes."
    row, real = missing.iloc[0], int(((missing["low"] > 0) | (missing["high"] < 0)).sum())
    return (
        f"Where *{row['column']}* is missing the share is {row['if missing']:.1%}, elsewhere {row['if present']:.1%}: "
        f"{_points(row, level)}. Of {len(missing)} columns with gaps, {real} differ by more than the luck of the days."
    )


def describe_scores(scores: pd.DataFrame) -> str:
    """Return the strongest column known in advance, and those that know too much, in words."""
    best, leaks = strongest(scores), ", ".join(scores.loc[scores["status"] == "suspicious", "column"])
    late = int((scores["status"] == "known later").sum())
    return (
        f"Of {len(scores)} columns, *{best['column']}* alone foresees most: ROC AUC {best['learned']:.3f} on validation. "
        f"{late} are declared known later; {'suspicious: ' + leaks if leaks else 'no other knows suspiciously much'}."
    )


def plot_weeks(weeks: pd.DataFrame, whole: dict[str, float], agreed: dict[str, Any]) -> Figure:
    """Draw the share per week with its interval, the overall share, and where validation begins."""
    fig, axes = plots.canvas("Does the share of events change over time?")
    name = f"{agreed['bootstrap']['level']:.0%} interval"
    axes.fill_between(weeks["group"], weeks["low"], weeks["high"], color=plots.BLUE, alpha=0.18, lw=0, label=name)
    sns.lineplot(weeks, x="group", y="share", marker="o", markersize=5, label="weekly share", legend=False, ax=axes)
    axes.axhline(whole["share"], color=plots.GREY, ls="--", lw=1, label="overall")
    axes.axvline(pd.Timestamp(agreed["split"]["validation"]), color=plots.ORANGE, lw=1.5, label="validation begins")
    axes.set(xlabel="week", ylabel="share of events", ylim=(0, None))
    fig.legend(frameon=False, ncols=4, loc="outside lower center")
    plots.as_share(axes)
    return fig


def plot_clock(frame: pd.DataFrame, params: Params) -> Figure:
    """Draw the share by weekday and hour of the local clock."""
    grid = _clock(frame, params)
    fig, (axes, *_) = _panels("At which hours of the week do events happen?", 0 if grid.empty else 1, height=3)
    if grid.empty:
        return fig
    sns.heatmap(
        100 * grid, cmap="Blues", annot=True, fmt=".0f", annot_kws={"size": 7.5}, linewidths=1, vmin=0, ax=axes,
        cbar_kws={"label": "share of events (%)"},
    )  # fmt: skip
    axes.set(xlabel=f"hour ({params.timezone})", ylabel="")
    axes.tick_params(axis="both", rotation=0)
    return fig


def plot_ordered(table: pd.DataFrame, whole: dict[str, float], question: str) -> Figure:
    """Draw the share along the groups of each ordered column, a panel each, with intervals and the overall share."""
    columns = list(table["column"].unique())
    fig, panels = _panels(question, len(columns), across=2 if len(columns) in (2, 4) else 3, height=2.4, sharey=True)
    for axes, column in zip(panels, columns, strict=False):
        rows = table[table["column"] == column]
        bars = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
        sns.pointplot(rows, x="group", y="share", color=plots.BLUE, markersize=4, linewidth=1.5, ax=axes)
        axes.errorbar(range(len(rows)), rows["share"], bars, fmt="none", ecolor=plots.BLUE, elinewidth=1.2)
        axes.axhline(whole["share"], color=plots.GREY, ls="--", lw=1)
        axes.set(title=column, xlabel="", ylabel="share of events", ylim=(0, 1.05 * table["high"].max()))
        step = -(-len(rows) // 12)
        axes.set_xticks(range(0, len(rows), step), rows["group"].iloc[::step])
        axes.tick_params(axis="x", labelsize=8, rotation=40 if rows["group"].str.len().max() > 4 else 0)
        plots.as_share(axes)
    return fig


def plot_nominal(table: pd.DataFrame, whole: dict[str, float], question: str, most: int = 24) -> Figure:
    """Draw the share of the groups of each unordered column, sorted; of many groups, the highest and the lowest."""
    columns, half = list(table["column"].unique()), most // 2
    tallest = min(most, int(table["column"].value_counts().max())) if columns else 8
    fig, panels = _panels(question, len(columns), across=3, height=0.2 * tallest + 1, sharex=True)
    for axes, column in zip(panels, columns, strict=False):
        rows = table[table["column"] == column].sort_values("share", ascending=False, kind="stable")
        title = column
        if len(rows) > most:
            title = f"{column} ({half} highest, {half} lowest)"
            rows = pd.concat([rows.head(half), rows.tail(half)])
            axes.axhline(half - 0.5, color=plots.GREY, lw=0.8, ls=":")
        _intervals(axes, rows["group"], rows["share"], rows, whole["share"])
        axes.set(title=title, xlabel="share of events", ylim=(tallest - 0.5, -0.5))
    return fig


def plot_gaps(ranked: pd.DataFrame) -> Figure:
    """Draw the gap between the highest and the lowest group of each column, with intervals."""
    fig, (axes, *_) = _panels("What separates the groups most?", min(len(ranked), 1), height=0.28 * len(ranked) + 1)
    names = ranked["column"] + ": " + ranked["highest"] + " against " + ranked["lowest"]
    _intervals(axes, names, ranked["gap"], ranked, 0)
    axes.set(xlabel="highest less lowest share of events (points)", ylim=(max(len(ranked), 1) - 0.5, -0.5))
    return fig


def plot_scores(scores: pd.DataFrame, params: Params, most: int = 30) -> Figure:
    """Draw how well each column alone ranks the outcomes, coloured by whether it may be used."""
    top = scores.head(most)
    colors = {"in advance": plots.BLUE, "known later": plots.GREY, "suspicious": plots.RED}
    fig, axes = plots.canvas("Which single column knows the outcome?", height=0.22 * len(top) + 1.1)
    sns.barplot(
        top.assign(above=top["auc"] - 0.5), x="above", y="column", hue="status", palette=colors, dodge=False,
        hue_order=list(colors), width=0.7, saturation=1, ax=axes,
    )  # fmt: skip
    axes.axvline(params.leak_auc - 0.5, color=plots.RED, ls="--", lw=1, label=f"limit {params.leak_auc:g}")
    axes.set(xlabel="ROC AUC of the column alone (0.5 is guessing)", ylabel="", xlim=(0, 0.5))
    axes.set_xticks(np.linspace(0, 0.5, 6), [f"{0.5 + tick:.1f}" for tick in np.linspace(0, 0.5, 6)])
    axes.legend(frameon=False, loc="lower right")
    return fig


def checks(
    frame: pd.DataFrame, scores: pd.DataFrame, params: Params, stated: dict[str, Any], agreed: dict[str, Any]
) -> list[gate.Check]:
    """Return the gate: every column checked, on open rows alone, and none that gives the outcome away undeclared."""
    leaks, every = scores[scores["status"] == "suspicious"], len(candidates(frame))
    gap = leaks["missing gap"].map(", missing gap {:+.2f}".format, na_action="ignore").fillna("").astype(str)
    named = list(leaks["column"] + leaks["auc"].map(" (ROC AUC {:.3f}".format).astype(str) + gap + ")")
    limit = (
        f"none with a ROC AUC of {params.leak_auc:g} or a missing gap of {params.leak_gap:g}; declare what is unknown when "
        "deciding under exploration.known_later, with the reason; for what is known, raise leak_auc or leak_gap"
    )
    newest, closed = frame[stated["time"]].max(), agreed["split"]["holdout"]
    in_time = newest < pd.Timestamp(closed)
    return [
        gate.holds("columns that give the outcome away", leaks.empty, ", ".join(named) or "none", limit),
        gate.holds("columns checked", len(scores) == every, len(scores), f"all {every}"),
        gate.holds("newest row looked at", in_time, f"{newest:%Y-%m-%d}", f"before {closed}, the holdout"),
    ]


def metrics(whole: dict[str, float], ranked: pd.DataFrame, scores: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "share": whole["share"],
        "gaps": ranked.set_index("column")["gap"].to_dict(),
        "one_column_auc": scores.set_index("column")["auc"].to_dict(),
        "suspicious": int((scores["status"] == "suspicious").sum()),
    }


def headline(whole: dict[str, float], scores: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    best = strongest(scores)
    return {
        "share of events": f"{whole['share']:.1%}",
        "strongest column": f"{best['column']}, ROC AUC {best['learned']:.2f}",
    }


def verdict(whole: dict[str, float], scores: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    best, suspicious = strongest(scores), list(scores.loc[scores["status"] == "suspicious", "column"])
    leak = f"{', '.join(suspicious)} may give it away" if suspicious else "no undeclared column gives it away"
    return (
        f"In {whole['share']:.1%} of the cases a {stated['unit']} {stated['positive']}. The best single column known in "
        f"advance, {best['column']}, foresees it with a ROC AUC of {best['learned']:.2f}, and {leak}."
    )


def save(found: list[str], scores: pd.DataFrame, params: Params) -> None:
    """Write ``data/exploration.json``: ``findings``, ``known_later`` (which stage 06 refuses), ``one_column_auc``."""
    value = {
        "findings": found,
        "known_later": list(params.known_later),
        "one_column_auc": gate.tidy(scores.set_index("column")["auc"].to_dict()),
    }
    io.write_json(value, io.output("data/exploration.json"))


def load() -> dict[str, Any]:
    """Read what `save` wrote."""
    return io.read_json("data/exploration.json")


def _join(frame: pd.DataFrame, name: str, related: Related) -> pd.DataFrame:
    where = f"data/lake/{name}"
    io.require(frame, related.key, f"the events, for exploration.related.{name}.key")
    table = io.read_table(where, list(dict.fromkeys([*related.key, *related.columns])))
    if table.duplicated(related.key).any():
        key = ", ".join(related.key)
        raise DataError(f"{where}: has several rows for one {key}; exploration.related.{name}.key must identify a row")
    renamed = table[related.columns].add_prefix(f"{name}.")
    return frame.merge(pd.concat([table[related.key], renamed], axis=1), how="left", on=related.key)


def _daily(frame: pd.DataFrame, group: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the events, and the rows, of each day (index) and group (columns)."""
    cells = frame.groupby([frame[DAY], group.rename("group")], observed=True)[LABEL].agg(["sum", "size"])
    return cells["sum"].unstack(fill_value=0), cells["size"].unstack(fill_value=0)


def _influence(sums: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Return how much each day moves the share of each group (Taylor linearisation of a ratio)."""
    return (sums - sizes * (sums.sum() / sizes.sum())) / sizes.sum()


def _difference(
    sums: pd.DataFrame, sizes: pd.DataFrame, one: Any, other: Any, *, level: float, pairs: int = 1
) -> tuple[float, float, float]:
    """Return the share of `one` less that of `other`, and its interval by days, for one of so many pairs."""
    moves = _influence(sums, sizes)
    days = int(((sizes[one] > 0) | (sizes[other] > 0)).sum())
    error = np.sqrt(((moves[one] - moves[other]) ** 2).sum() * days / max(days - 1, 1))
    half = stats.t.ppf(1 - (1 - level) / (2 * pairs), max(days - 1, 1)) * error
    gap = sums[one].sum() / sizes[one].sum() - sums[other].sum() / sizes[other].sum()
    return float(gap), float(max(gap - half, -1)), float(min(gap + half, 1))


def _learned_auc(values: pd.Series, frame: pd.DataFrame) -> float:
    """Return the ROC AUC on validation of the target shares that the column's groups had in training."""
    train, target = (frame[PART] == "train").to_numpy(), frame[LABEL].to_numpy()
    if pd.api.types.is_numeric_dtype(values):
        code = np.searchsorted(edges(values[train], SCORE_BINS), values, side="right")
        code = np.where(values.isna(), -1, code)
    else:
        code = pd.factorize(values)[0]
    code, prior = code + 1, target[train].mean()
    rows = np.bincount(code[train], minlength=code.max() + 1)
    events = np.bincount(code[train], target[train], minlength=code.max() + 1)
    share = (events + PRIOR_ROWS * prior) / (rows + PRIOR_ROWS)
    return _auc(target[~train], share[code[~train]])


def _direct_auc(values: pd.Series, target: pd.Series) -> float:
    if not pd.api.types.is_numeric_dtype(values):
        return np.nan
    known = values.notna()
    auc = _auc(target[known].to_numpy(), values[known].to_numpy())
    return max(auc, 1 - auc)


def _auc(target: np.ndarray, score: np.ndarray) -> float:
    return float(roc_auc_score(target, score)) if len(np.unique(target)) == 2 else 0.5


def _numbers(values: pd.Series) -> pd.Series:
    """Return times as numbers, everything else as it is."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        return values
    return values.astype("int64").where(values.notna())


def _is_ordered(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(_numbers(values)) or isinstance(values.dtype, pd.CategoricalDtype)


def _clock(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return the share by weekday (index) and hour (columns) of the local clock, NaN where there are few rows."""
    day, hour = frame[CLOCK].dt.weekday, frame[CLOCK].dt.hour
    cells = frame.groupby([day.rename("weekday"), hour.rename("hour")])[LABEL].agg(["mean", "size"])
    grid = cells["mean"].where(cells["size"] >= params.min_rows).unstack()
    grid.index = [WEEKDAYS[number] for number in grid.index]
    return grid.dropna(axis=1, how="all")


def _panels(question: str, count: int, height: float, across: int = 1, **kwargs: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, one per panel, or one that says that there is nothing to compare."""
    across = max(min(across, count), 1)
    down = max(-(-count // across), 1)
    fig, axes = plots.canvas(question, height=height * down + 0.4, nrows=down, ncols=across, squeeze=False, **kwargs)
    for spare in axes.flat[count:]:
        spare.set_axis_off()
    if not count:
        axes.flat[0].text(0.5, 0.5, "nothing to compare", ha="center", transform=axes.flat[0].transAxes)
    return fig, list(axes.flat)


def _intervals(axes: Axes, names: pd.Series, values: pd.Series, ends: pd.DataFrame, base: float) -> None:
    """Draw points with intervals, one a line, against a base line."""
    bars = [values - ends["low"], ends["high"] - values]
    axes.errorbar(values, range(len(names)), xerr=bars, fmt="o", ms=4, color=plots.BLUE, elinewidth=1.2)
    axes.axvline(base, color=plots.GREY, ls="--", lw=1)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.grid(axis="y", visible=False)
    plots.as_share(axes, "x")


def _gap(row: pd.Series, level: float) -> str:
    return (
        f"{row['share of highest']:.1%} for {row['highest']} against {row['share of lowest']:.1%} for {row['lowest']}, "
        f"a gap of {_points(row, level)}"
    )


def _points(row: pd.Series, level: float) -> str:
    gap, low, high = (f"{100 * row[name]:.1f}" for name in ("gap", "low", "high"))
    return f"{gap} points ({level:.0%} interval {low} to {high})"
