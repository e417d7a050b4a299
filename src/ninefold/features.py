"""What does the model see, and was it known at that moment?

Reads: ``data/problem.json``; ``data/exploration.json``, what is known only later; ``data/lake/``.
Writes: ``data/features/``, a row per event; ``data/online/``, the last history values per key.
Gate: no feature is known only later, none sees the future, and online values equal offline ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from ninefold import metrics as agreed_metrics
from ninefold.core import engine, gate, hooks, io, plots
from ninefold.core.errors import DataError
from ninefold.core.params import Section
from ninefold.problem import Duration, Text

LAKE, FEATURES, ONLINE = "data/lake", "data/features", "data/online"
MOMENTS = 24


class History(Section):
    """Means of a column over past rows with the same keys, in windows that close before the decision."""

    of: Text
    prefix: Text
    known_after: Duration
    over: list[Duration] = Field(min_length=1)
    by: list[list[Text]] = Field(min_length=1)


class Params(Section):
    """Section ``features`` of ``params.yaml``."""

    numeric: list[Text]
    categorical: list[Text]
    history: list[History] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_once(self) -> Params:
        names = [*self.numeric, *self.categorical, *(window["name"] for window in windows(self, "0h"))]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every feature once; {', '.join(twice)} stands there twice")
        if not names:
            raise ValueError("at least one feature")
        return self


def windows(params: Params, horizon: str) -> list[dict[str, Any]]:
    """Return every history feature: ``name``, ``of``, ``by``, and its window ``[t - start, t - end]`` (Timedelta).

    A value of an event at ``s`` is usable for one at ``t`` if ``s + known_after <= t - horizon``; the window is of
    length `over` and ends there.
    """
    found = []
    for history in params.history:
        gap = pd.Timedelta(history.known_after) + pd.Timedelta(horizon)
        for by in history.by:
            for over in history.over:
                name = f"{history.prefix}_by_{'_'.join(by)}_{over}"
                start = gap + pd.Timedelta(over)
                found.append({"name": name, "of": history.of, "by": list(by), "start": start, "end": gap})
    return found


def names(params: Params, horizon: str) -> list[str]:
    """Return the features in the order of the model's columns: numeric, history, categorical."""
    return [*params.numeric, *(window["name"] for window in windows(params, horizon)), *params.categorical]


def build(tables: dict[str, ir.Table], stated: dict[str, Any]) -> ir.Table:
    """Return the events with what is known of each by itself: own columns, and joins as ``project.features`` has them.

    Parameters
    ----------
    tables : dict of str to Table
        The typed tables: the lake's, or any that keep the same contract.
    stated : dict
        The problem.

    Raises
    ------
    DataError
        If ``project.features.build`` drops or repeats rows, or a column is not there.
    """
    make = hooks.project("features", "build", own_columns)
    try:
        events = make(tables, stated).cache()
    except (AttributeError, ibis.IbisError) as error:
        found = "; ".join(f"{name}: {', '.join(table.columns)}" for name, table in tables.items())
        raise DataError(f"project.features.build: {error}; the lake has {found}") from None
    before, after = (int(table.count().execute()) for table in (tables[stated["table"]], events))
    if before != after:
        raise DataError(f"project.features.build: {before:,} rows went in, {after:,} came out; a join drops or repeats")
    return events


def own_columns(tables: dict[str, ir.Table], stated: dict[str, Any]) -> ir.Table:
    """Return the events as they are in the lake: the default where ``project.features.build`` is absent."""
    return tables[stated["table"]]


def add_history(events: ir.Table, params: Params, stated: dict[str, Any]) -> ir.Table:
    """Add the history features: for each event, means over past events whose values were known by its decision.

    Parameters
    ----------
    events : Table
        With the time (timestamp, UTC), the keys and the columns that `params.history` names.
    """
    wanted = windows(params, stated["horizon"])
    _demand(events, [name for window in wanted for name in (window["of"], *window["by"])], "history")
    means = {}
    for window in wanted:
        span = ibis.range_window(
            preceding=(_interval(window["start"]), _interval(window["end"])),
            group_by=window["by"],
            order_by=stated["time"],
        )
        means[window["name"]] = events[window["of"]].cast("float64").mean().over(span)
    return events.mutate(**means)


def assemble(events: ir.Table, params: Params, stated: dict[str, Any]) -> ir.Table:
    """Return the feature table: key, time, target, keys of the history, then the features, cast to what the model takes.

    Numeric and history features are float64, categorical ones string; missing stays missing.
    """
    keys = [name for history in params.history for by in history.by for name in by]
    head = list(dict.fromkeys([*stated["key"], stated["time"], stated["target"], *keys]))
    _demand(events, [*head, *params.numeric, *params.categorical], "features")
    numeric = [name for name in names(params, stated["horizon"]) if name not in params.categorical]
    # A feature may also be part of the key; it is then stored once, under its own name, with the feature's type.
    columns = {name: events[name] for name in head}
    columns |= {name: events[name].cast("float64") for name in numeric}
    columns |= {name: events[name].cast("string") for name in params.categorical}
    return events.select(**columns)


def order(stated: dict[str, Any]) -> list[str]:
    """Return the columns that fix the order of the rows: time, then the key."""
    return list(dict.fromkeys([stated["time"], *stated["key"]]))


def snapshot(events: ir.Table, params: Params, stated: dict[str, Any], moment: datetime) -> dict[str, pd.DataFrame]:
    """Return the history values for events due at `moment`, per key: what an online store holds for them.

    Computed by itself, without windows, from the events whose values were known by the decision for `moment` alone,
    so that it also proves the windows.

    Returns
    -------
    dict of str to DataFrame
        Feature -> its key columns and ``value`` (float64).
    """
    found = {}
    for window in windows(params, stated["horizon"]):
        first, last = moment - window["start"], moment - window["end"]
        known = events.filter(events[stated["time"]].between(first, last))
        means = known.group_by(window["by"]).aggregate(value=known[window["of"]].cast("float64").mean())
        found[window["name"]] = means.to_pandas().sort_values(window["by"], ignore_index=True)
    return found


def online_difference(events: ir.Table, features: pd.DataFrame, params: Params, stated: dict[str, Any]) -> float:
    """Return the largest difference between online and offline history values, at moments spread over the data.

    A value that only one of both has counts as infinitely different.
    """
    times = np.sort(features[stated["time"]].unique())
    moments = times[np.linspace(len(times) // 10, len(times) - 1, MOMENTS).astype(int)]
    worst = 0.0
    for moment in pd.to_datetime(moments):
        due = features[features[stated["time"]] == moment]
        for name, online in snapshot(events, params, stated, moment.to_pydatetime()).items():
            keys = [column for column in online if column != "value"]
            both = due.merge(_same_types(online, due, keys), on=keys, how="left")
            offline, served = both[name].to_numpy(dtype="float64"), both["value"].to_numpy(dtype="float64")
            if (np.isnan(offline) != np.isnan(served)).any():
                return float("inf")
            worst = max(worst, float(np.nanmax(np.abs(offline - served), initial=0.0)))
    return worst


def future_difference(events: ir.Table, features: pd.DataFrame, params: Params, stated: dict[str, Any]) -> int:
    """Return how many history values at a few moments change when the future of each moment is taken away.

    Taken away are all later rows, and of the earlier ones every value that was not known by the decision.
    """
    wanted = windows(params, stated["horizon"])
    time, changed = stated["time"], 0
    for share in (0.3, 0.6, 0.9) if wanted else ():
        moment = features[time].iloc[int(len(features) * share)].to_pydatetime()
        first = moment - max(window["start"] for window in wanted)
        past = events.filter(events[time].between(first, moment))
        ends = {window["of"]: window["end"] for window in wanted}
        hidden = {of: ibis.cases((past[time] <= moment - end, past[of]), else_=ibis.null()) for of, end in ends.items()}
        seen = add_history(past.mutate(**hidden), params, stated)
        then = seen.filter(seen[time] == moment).select(*stated["key"], *(window["name"] for window in wanted))
        now = features[features[time] == moment]
        both = now.merge(_same_types(then.to_pandas(), now, stated["key"]), on=stated["key"], suffixes=("", " then"))
        changed += len(now) - len(both)
        for name in (window["name"] for window in wanted):
            changed += int((~np.isclose(both[name], both[f"{name} then"], rtol=0, atol=1e-9, equal_nan=True)).sum())
    return changed


def known_too_late(params: Params, exploration: dict[str, Any]) -> list[str]:
    """Return the features that stage 05 found to be known only after the decision."""
    return sorted({*params.numeric, *params.categorical} & set(exploration["known_later"]))


def dictionary(features: pd.DataFrame, params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return every feature: ``feature``, ``kind``, ``looks back``, ``missing`` (0-1), ``distinct`` values."""
    back = {
        window["name"]: f"from {_short(window['start'])} to {_short(window['end'])} before"
        for window in windows(params, stated["horizon"])
    }
    rows = []
    for name in names(params, stated["horizon"]):
        kind = "categorical" if name in params.categorical else "history" if name in back else "numeric"
        column = features[name]
        rows.append((name, kind, back.get(name, ""), float(column.isna().mean()), int(column.nunique())))
    return pd.DataFrame(rows, columns=["feature", "kind", "looks back", "missing", "distinct"])


def strongest(features: pd.DataFrame, params: Params, stated: dict[str, Any], points: dict[str, str]) -> pd.DataFrame:
    """Return, on training rows, how far the share of events moves over the quintiles of each numeric feature.

    Returns
    -------
    DataFrame
        ``feature``, ``lowest``, ``highest``, ``range`` (shares, 0-1), widest first.
    """
    train = _train(features, stated, points)
    rows = []
    for name in names(params, stated["horizon"]):
        if name in params.categorical or train[name].nunique() < 5:
            continue
        shares = train.groupby(_quantiles(train[name], 5))[stated["target"]].mean()
        rows.append((name, shares.min(), shares.max(), shares.max() - shares.min()))
    table = pd.DataFrame(rows, columns=["feature", "lowest", "highest", "range"])
    return table.sort_values("range", ascending=False, ignore_index=True)


def plot_strongest(
    features: pd.DataFrame, table: pd.DataFrame, stated: dict[str, Any], points: dict[str, str]
) -> Figure:
    """Draw the share of events over the deciles of the six features in which it moves farthest (training rows)."""
    train = _train(features, stated, points)
    fig, axes = plots.canvas("Do the features order the outcomes?", height=4.6, nrows=2, ncols=3, sharey=True)
    for axis, name in zip(axes.ravel(), table["feature"].head(6), strict=False):
        deciles = train.groupby(_quantiles(train[name], 10)).agg(x=(name, "median"), y=(stated["target"], "mean"))
        axis.plot(deciles["x"], deciles["y"], marker="o", color=plots.BLUE)
        axis.set_title(name, fontsize=9)
        plots.as_share(axis)
    for axis in axes.ravel()[len(table) :]:
        axis.set_visible(False)
    fig.supylabel("share of events", fontsize=9)
    return fig


def plot_windows(params: Params, stated: dict[str, Any]) -> Figure:
    """Draw, for every history feature, the hours before the event from which it takes its values."""
    wanted = windows(params, stated["horizon"])
    fig, axes = plots.canvas("From when does the model know the past?", height=max(1.8, 0.26 * len(wanted) + 1.1))
    for row, window in enumerate(wanted):
        start, end = (window[side].total_seconds() / 3600 for side in ("start", "end"))
        axes.barh(row, start - end, left=end, color=plots.BLUE, height=0.6)
    horizon = pd.Timedelta(stated["horizon"]).total_seconds() / 3600
    axes.axvline(horizon, color=plots.RED, ls="--", lw=1.2, label=f"the decision, {stated['horizon']} before")
    axes.set_yticks(range(len(wanted)), [window["name"] for window in wanted])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.invert_xaxis()
    axes.set_xticks([1, 2, 4, 12, 24, 72, 168, 672], ["1", "2", "4", "12", "24", "72", "168", "672"])
    axes.set(xlabel=f"hours before the {stated['unit']} is due (log scale)")
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower left")
    return fig


def save(
    features: ir.Table, online: dict[str, pd.DataFrame], params: Params, stated: dict[str, Any], moment: datetime
) -> int:
    """Write ``data/features/`` and ``data/online/``; return the number of feature rows."""
    rows = engine.write(features, io.output(FEATURES), order(stated), stated["time"])
    folder = io.output(ONLINE)
    stores = []
    for window in windows(params, stated["horizon"]):
        io.write_table(online[window["name"]], folder / f"{window['name']}.parquet")
        stores.append({"feature": window["name"], "by": window["by"]})
    io.write_json({"moment": moment.isoformat(), "stores": stores, **signature(params, stated)}, folder / "online.json")
    return rows


def signature(params: Params, stated: dict[str, Any]) -> dict[str, Any]:
    """Return the model's columns, in order, each with its kind: what training, bundle and service agree on."""
    back = {window["name"] for window in windows(params, stated["horizon"])}
    kinds: dict[str, Literal["numeric", "history", "categorical"]] = {}
    for name in names(params, stated["horizon"]):
        kinds[name] = "history" if name in back else "categorical" if name in params.categorical else "numeric"
    return {"features": [{"name": name, "kind": kind} for name, kind in kinds.items()]}


def load(columns: list[str] | None = None) -> pd.DataFrame:
    """Read the feature table that `save` wrote, by time."""
    return io.read_table(FEATURES, columns)


def moment_of(features: pd.DataFrame, stated: dict[str, Any]) -> datetime:
    """Return the first midnight (UTC) after the last event: the moment for which the online values hold."""
    return (features[stated["time"]].max().normalize() + pd.Timedelta(days=1)).to_pydatetime()


def checks(
    late: list[str], online: float, changed: int, features: pd.DataFrame, table: pd.DataFrame
) -> list[gate.Check]:
    """Return the gate: known in time, blind to the future, the same online as offline, nothing empty."""
    empty = table.loc[table["missing"] == 1, "feature"].tolist()
    return [
        gate.holds("features known only after the decision", not late, ", ".join(late) or "none", "none"),
        gate.at_most("values that change when the future is removed", changed, 0),
        gate.at_most("largest difference between online and offline", online, 1e-9),
        gate.holds("features without any value", not empty, ", ".join(empty) or "none", "none"),
        gate.at_least("rows", len(features), 1),
    ]


def metrics(features: pd.DataFrame, table: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "rows": len(features),
        "features": len(table),
        "missing": table.set_index("feature")["missing"].to_dict(),
        "range": ranked.set_index("feature")["range"].to_dict(),
    }


def headline(table: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    return {"features": f"{len(table)}", "strongest alone": ranked["feature"].iloc[0] if len(ranked) else "none"}


def describe_events(events: ir.Table, stated: dict[str, Any]) -> str:
    """Return how many events there are, and how many columns describe each, as a sentence."""
    rows = int(events.count().execute())
    return f"**{rows:,}** {stated['units']} went in and came out, each now with {len(events.columns)} columns."


def describe_proofs(changed: int, online: float) -> str:
    """Return the outcome of both proofs, as a sentence."""
    future = "No value changes" if changed == 0 else f"{changed} values change"
    return (
        f"{future} when the future is taken away. Between the online values and the offline ones, at {MOMENTS} moments, "
        f"the largest difference is {online:.3g}."
    )


def describe_strongest(ranked: pd.DataFrame) -> str:
    """Return what the figure of the strongest features shows, in words."""
    if ranked.empty:
        return "No numeric feature has enough distinct values to be ranked."
    first = ranked.iloc[0]
    wide = int((ranked["range"] > 0.05).sum())
    return (
        f"The share of events moves farthest over `{first['feature']}`: from {first['lowest']:.1%} to "
        f"{first['highest']:.1%} between its quintiles. It moves by more than 5 points over {wide} of {len(ranked)} features."
    )


def describe_windows(params: Params, stated: dict[str, Any]) -> str:
    """Return how close to the event the history features come, in words."""
    wanted = windows(params, stated["horizon"])
    if not wanted:
        return "There are no history features: the params name none."
    nearest = min(window["end"] for window in wanted)
    longest = max(window["start"] for window in wanted)
    return (
        f"The {len(wanted)} history features look back at most {_short(longest)}, and never at the last "
        f"{_short(nearest)} before the {stated['unit']} is due: {stated['horizon']} pass between decision and event, "
        "the rest until an outcome is known."
    )


def verdict(features: pd.DataFrame, table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    kinds = table["kind"].value_counts()
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return (
        f"The model sees {len(table)} features ({listed}) of {len(features):,} {stated['units']}, each known "
        f"{stated['horizon']} ahead and the same online as offline."
    )


def _same_types(table: pd.DataFrame, like: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table.astype({column: like[column].dtype for column in columns})


def _train(features: pd.DataFrame, stated: dict[str, Any], points: dict[str, str]) -> pd.DataFrame:
    known = features[features[stated["target"]].notna()]
    return known[agreed_metrics.part_of(known[stated["time"]], points) == "train"]


def _quantiles(column: pd.Series, count: int) -> pd.Series:
    bins = pd.qcut(column, count, labels=False, duplicates="drop")
    # Where one value fills most quantiles, the question is whether that value or another.
    return bins if bins.nunique() > 1 else (column != column.median()).where(column.notna()).astype("float64")


def _demand(table: ir.Table, columns: list[str], key: str) -> None:
    if lost := sorted({name for name in columns if name not in table.columns}):
        raise DataError(
            f"params.yaml, {key}: {', '.join(lost)} is no column of what project.features.build returns; "
            f"found {', '.join(table.columns)}"
        )


def _interval(span: pd.Timedelta) -> ir.IntervalScalar:
    return ibis.interval(seconds=int(span.total_seconds()))


def _short(span: pd.Timedelta) -> str:
    days, hours = span.days, (span - pd.Timedelta(days=span.days)).total_seconds() / 3600
    if days < 2:
        return f"{span.total_seconds() / 3600:g} h"
    return f"{days} d {hours:g} h" if hours else f"{days} d"
