"""What does the model see, and was it known at that moment?

Reads: ``data/problem.json``; ``data/exploration.json``, what is known only later; ``data/lake/``.
Writes: ``data/features/``, a row per event; ``data/online/``, the last history values per key.
Gate: no feature is known only later, none sees the future, and online values equal offline ones.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from ninefold import metrics as agreed_metrics
from ninefold.core import decisions, engine, gate, hooks, io
from ninefold.core.errors import DataError
from ninefold.core.moments import MICROSECONDS
from ninefold.core.params import Duration, Name, Section, Text

LAKE, FEATURES, ONLINE = "data/lake", "data/features", "data/online"
MOMENTS = 24
WIDE = 250  # histogram trees take at most 255 categories


class History(Section):
    """Means of a column over past rows with the same keys, in windows that close before the decision."""

    of: Name
    prefix: Text
    known_after: Duration
    over: list[Duration] = Field(min_length=1)
    by: list[list[Name]] = Field(min_length=1)


class Join(Section):
    """Columns of a related table: its row of the same key; with `as_of`, the newest at or before the decision.

    `by` lists the columns that both have, or gives those of the related table by the events' own. `columns` lists what
    is joined, or gives new names by the old.
    """

    table: Name
    by: list[Name] | dict[Name, Name] = Field(min_length=1)
    columns: list[Name] | dict[Name, Name] = Field(min_length=1)
    as_of: Name | None = None

    def keys(self) -> dict[str, str]:
        """Return the key: the events' columns -> the related table's."""
        return self.by if isinstance(self.by, dict) else {name: name for name in self.by}

    @model_validator(mode="after")
    def _columns_once(self) -> Join:
        names = [name.casefold() for name in self.renamed().values()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"every column once; {', '.join(twice)} stands there twice")
        return self

    def renamed(self) -> dict[str, str]:
        """Return the columns joined: the related table's -> the events'."""
        return self.columns if isinstance(self.columns, dict) else {name: name for name in self.columns}


class Params(Section):
    """Section ``features`` of ``params.yaml``."""

    numeric: list[Name] = Field(default_factory=list)
    categorical: list[Name] = Field(default_factory=list)
    text: list[Name] = Field(default_factory=list)
    dates: list[Name] = Field(default_factory=list)
    joins: list[Join] = Field(default_factory=list)
    history: list[History] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_once(self) -> Params:
        back = [window["name"] for window in windows(self, "0h")]
        names = [*self.numeric, *self.categorical, *self.text, *self.dates, *back]
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


def kinds(params: Params, horizon: str) -> dict[str, str]:
    """Return the features in the order of the model's columns, each with its kind.

    ``numeric``, ``history`` and ``date`` are numbers (a date the days since 1970-01-01), ``categorical`` and ``text`` texts.
    """
    by_kind = {
        "numeric": params.numeric,
        "history": [window["name"] for window in windows(params, horizon)],
        "date": params.dates,
        "categorical": params.categorical,
        "text": params.text,
    }
    return {name: kind for kind, names in by_kind.items() for name in names}


def build(tables: dict[str, ir.Table], params: Params, stated: dict[str, Any]) -> ir.Table:
    """Return the events with what is known of each by itself: own columns, the declared joins, ``project.features``.

    Parameters
    ----------
    tables : dict of str to Table
        The typed tables: the lake's, or any that keep the same contract.
    params : Params
    stated : dict
        The problem.

    Raises
    ------
    DataError
        If a join or ``project.features.build`` drops or repeats rows, or a column is not there.
    """
    make = hooks.project("features", "build", own_columns)
    joined = join_related(tables, params, stated)
    try:
        events = make({**tables, stated["table"]: joined}, stated).cache()
    except (AttributeError, KeyError, ibis.IbisError) as error:
        found = "; ".join(f"{name}: {', '.join(table.columns)}" for name, table in tables.items())
        raise DataError(f"project.features.build: {error}; the lake has {found}") from None
    before, after = (int(table.count().execute()) for table in (tables[stated["table"]], events))
    if before != after:
        raise DataError(f"project.features.build: {before:,} rows went in, {after:,} came out; a join drops or repeats")
    return events


def own_columns(tables: dict[str, ir.Table], stated: dict[str, Any]) -> ir.Table:
    """Return the events as they are: the default where ``project.features.build`` is absent."""
    return tables[stated["table"]]


def join_related(tables: dict[str, ir.Table], params: Params, stated: dict[str, Any]) -> ir.Table:
    """Return the events with the columns of related tables that ``features.joins`` declares, a row per event.

    Raises
    ------
    DataError
        If a table or a column is not there, a key names several rows, or a name is taken.
    """
    events = tables[stated["table"]]
    for number, join in enumerate(params.joins):
        where = f"params.yaml, features.joins[{number}]"
        related = _related(tables, join, where)
        keys, moment = join.keys(), f"@{number} moment"
        _demand(events, list(keys), f"{where}.by")
        held = {name.casefold() for name in events.columns}  # the engine tells names apart by more than their case
        if taken := [name for name in join.renamed().values() if name.casefold() in held]:
            raise DataError(
                f"{where}.columns: the events have {', '.join(taken)} already; give another name, {{old: new}}"
            )
        inner = {name: f"@{number} {name}" for name in (*keys.values(), *([join.as_of] if join.as_of else []))}
        narrow = related.select(
            **{inner[name]: related[name] for name in inner},
            **{new: related[old] for old, new in join.renamed().items()},
        )
        for mine, theirs in keys.items():
            _comparable(events[mine], narrow[inner[theirs]], f"{where}.by: {mine} and {join.table}'s {theirs}")
        if join.as_of is None:
            same = [events[mine] == narrow[inner[theirs]] for mine, theirs in keys.items()]
            events = events.left_join(narrow, same).drop(*inner.values())
            continue
        if not stated["time"]:
            raise DataError(f"{where}.as_of: needs problem.time, the moment of the decision; there is none")
        known = events.mutate(**{moment: events[stated["time"]] - _interval(pd.Timedelta(stated["horizon"]))})
        same = [known[mine] == narrow[inner[theirs]] for mine, theirs in keys.items()]
        _comparable(
            known[moment], narrow[inner[join.as_of]], f"{where}.as_of: the time and {join.table}'s {join.as_of}"
        )
        earlier = known[moment] >= narrow[inner[join.as_of]]
        events = known.asof_join(narrow, on=earlier, predicates=same).drop(moment, *inner.values())
    return events


def add_history(events: ir.Table, params: Params, stated: dict[str, Any]) -> ir.Table:
    """Add the history features: for each event, means over past events whose values were known by its decision.

    Parameters
    ----------
    events : Table
        With the time (timestamp, UTC), the keys and the columns that `params.history` names.
    """
    wanted = windows(params, stated["horizon"])
    if wanted and not stated["time"]:
        raise DataError("params.yaml, features.history: needs problem.time, the order of the past; there is none")
    _demand(events, [name for window in wanted for name in (window["of"], *window["by"])], "history")
    means = {}
    for window in wanted:
        span = ibis.range_window(
            preceding=(_interval(window["start"]), _interval(window["end"])),
            group_by=window["by"],
            order_by=stated["time"],
        )
        means[window["name"]] = _number(events, window["of"], stated).mean().over(span)
    return events.mutate(**means)


def assemble(events: ir.Table, params: Params, stated: dict[str, Any]) -> ir.Table:
    """Return the feature table: key, time, entity, target, keys of the history, then the features, as the model takes them.

    The target is encoded (see `decisions.outcome`). Numbers, history and dates (days since 1970-01-01) are float64,
    categories and texts string; missing stays missing.
    """
    keys = [name for history in params.history for by in history.by for name in by]
    named = [*stated["key"], stated["time"], *(stated["group"] or []), *keys]
    head = list(dict.fromkeys(name for name in named if name and name != stated["target"]))
    by_kind = kinds(params, stated["horizon"])
    _demand(events, [*head, stated["target"], *by_kind], "features")
    if stated["target"] in by_kind:
        raise DataError(f"params.yaml, features: {stated['target']} is the target itself; no feature may be made of it")
    if stated["time"] and by_kind.get(stated["time"], "date") != "date":
        raise DataError(f"params.yaml, features: {stated['time']} is the time of the events; name it in features.dates")
    # A feature may also be part of the key; it is then stored once, under its own name, with the feature's type. The
    # event's own time stays a timestamp, by which rows are split; the model turns it into days itself.
    columns = {name: events[name] for name in head}
    columns[stated["target"]] = decisions.outcome(events[stated["target"]], stated)
    columns |= {name: _cast(events[name], kind, name) for name, kind in by_kind.items() if name != stated["time"]}
    return events.select(**columns)


def order(stated: dict[str, Any]) -> list[str]:
    """Return the columns that fix the order of the rows: time where there is time, then the key."""
    return list(dict.fromkeys([*([stated["time"]] if stated["time"] else []), *stated["key"]]))


def snapshot(
    events: ir.Table, params: Params, stated: dict[str, Any], moment: datetime | None
) -> dict[str, pd.DataFrame]:
    """Return the history values for events due at `moment`, per key: what an online store holds for them.

    Computed by itself, without windows, from the events whose values were known by the decision for `moment` alone,
    so that it also proves the windows.

    Returns
    -------
    dict of str to DataFrame
        Feature -> its key columns and ``value`` (float64).
    """
    found: dict[str, pd.DataFrame] = {}
    if moment is None:
        return found
    for window in windows(params, stated["horizon"]):
        first, last = moment - window["start"], moment - window["end"]
        known = events.filter(events[stated["time"]].between(first, last))
        means = known.group_by(window["by"]).aggregate(value=_number(known, window["of"], stated).mean())
        found[window["name"]] = means.to_pandas().sort_values(window["by"], ignore_index=True)
    return found


def online_difference(events: ir.Table, features: pd.DataFrame, params: Params, stated: dict[str, Any]) -> float:
    """Return the largest difference between online and offline history values, at moments spread over the data.

    A value that only one of both has counts as infinitely different.
    """
    if not windows(params, stated["horizon"]):
        return 0.0
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
    named, late = {*params.numeric, *params.categorical, *params.text, *params.dates}, set(exploration["known_later"])
    joined = {new: f"{join.table}.{old}" for join in params.joins for old, new in join.renamed().items()}
    return sorted(name for name in named if joined.get(name, name) in late)


def dictionary(features: pd.DataFrame, params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return every feature: ``feature``, ``kind``, ``looks back``, ``missing`` (0-1), ``distinct`` values."""
    back = {
        window["name"]: f"from {short(window['start'])} to {short(window['end'])} before"
        for window in windows(params, stated["horizon"])
    }
    rows = []
    for name, kind in kinds(params, stated["horizon"]).items():
        column = features[name]
        rows.append((name, kind, back.get(name, ""), float(column.isna().mean()), int(column.nunique())))
    return pd.DataFrame(rows, columns=["feature", "kind", "looks back", "missing", "distinct"])


def strongest(features: pd.DataFrame, params: Params, stated: dict[str, Any], points: dict[str, Any]) -> pd.DataFrame:
    """Return, on training rows, how far the outcome (`decisions.event`) moves over the quintiles of each number.

    Returns
    -------
    DataFrame
        ``feature``, ``lowest``, ``highest``, ``range`` (of the means: shares 0-1, or the target's unit), widest first.
    """
    rows = train(features, stated, points)
    outcome = pd.Series(decisions.event(rows[stated["target"]].to_numpy(), stated), rows.index)
    found = []
    for name, kind in kinds(params, stated["horizon"]).items():
        if kind in ("categorical", "text", "date") or rows[name].nunique() < 5:
            continue
        means = outcome.groupby(quantiles(rows[name], 5)).mean()
        found.append((name, means.min(), means.max(), means.max() - means.min()))
    table = pd.DataFrame(found, columns=["feature", "lowest", "highest", "range"])
    return table.sort_values("range", ascending=False, ignore_index=True)


def train(features: pd.DataFrame, stated: dict[str, Any], points: dict[str, Any]) -> pd.DataFrame:
    """Return the training rows whose outcome is known."""
    known = features[features[stated["target"]].notna()]
    return known[agreed_metrics.part_of(known, points, stated) == "train"]


def quantiles(column: pd.Series, count: int) -> pd.Series:
    """Return the number of the bin of each value, of about `count` bins of equal size; NaN stays NaN."""
    bins = pd.qcut(column, count, labels=False, duplicates="drop")
    # Where one value fills most quantiles, the question is whether that value or another.
    return bins if bins.nunique() > 1 else (column != column.median()).where(column.notna()).astype("float64")


def wide(features: pd.DataFrame, params: Params, stated: dict[str, Any], points: dict[str, Any]) -> list[str]:
    """Return the categories with more values on training rows than trees can tell apart by code (`WIDE`)."""
    rows = train(features, stated, points)
    return [name for name in params.categorical if rows[name].nunique() > WIDE]


def save(
    features: ir.Table,
    online: dict[str, pd.DataFrame],
    broad: list[str],
    params: Params,
    stated: dict[str, Any],
    moment: datetime | None,
) -> int:
    """Write ``data/features/`` and ``data/online/``; return the number of feature rows."""
    rows = engine.write(features, io.output(FEATURES), order(stated), stated["time"])
    folder = io.output(ONLINE)
    stores = []
    for window in windows(params, stated["horizon"]):
        io.write_table(online[window["name"]], folder / f"{_file_name(window['name'])}.parquet")
        stores.append({"feature": window["name"], "by": window["by"], "file": f"{_file_name(window['name'])}.parquet"})
    described = {"moment": moment.isoformat() if moment else None, "stores": stores}
    io.write_json({**described, **signature(params, stated, broad)}, folder / "online.json")
    return rows


def signature(params: Params, stated: dict[str, Any], broad: list[str]) -> dict[str, Any]:
    """Return the model's columns, in order, each with its kind: what training, bundle and service agree on."""
    named = kinds(params, stated["horizon"])
    return {
        "features": [
            {"name": name, "kind": kind, **({"wide": True} if name in broad else {})} for name, kind in named.items()
        ]
    }


def load(columns: list[str] | None = None) -> pd.DataFrame:
    """Read the feature table that `save` wrote, by time."""
    return io.read_table(FEATURES, columns)


def moment_of(features: pd.DataFrame, stated: dict[str, Any]) -> datetime | None:
    """Return the first midnight (UTC) after the last event, for which the online values hold; None without time."""
    if not stated["time"]:
        return None
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


def verdict(features: pd.DataFrame, table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    kinds = table["kind"].value_counts()
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    known = f", each known {stated['horizon']} ahead and the same online as offline" if stated["time"] else ""
    return f"The model sees {len(table)} features ({listed}) of {len(features):,} {stated['units']}{known}."


def short(span: pd.Timedelta) -> str:
    """Return a span in hours, or in days and hours."""
    days, hours = span.days, (span - pd.Timedelta(days=span.days)).total_seconds() / 3600
    if days < 2:
        return f"{span.total_seconds() / 3600:g} h"
    return f"{days} d {hours:g} h" if hours else f"{days} d"


def _same_types(table: pd.DataFrame, like: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table.astype({column: like[column].dtype for column in columns})


def _related(tables: dict[str, ir.Table], join: Join, where: str) -> ir.Table:
    """Return the table that a join names, its key proved to name one row."""
    if join.table not in tables:
        raise DataError(f"{where}.table: found {join.table!r}, expected a table of the lake: {', '.join(tables)}")
    related, key = tables[join.table], [*join.keys().values(), *([join.as_of] if join.as_of else [])]
    wanted = [*key, *join.renamed()]
    if lost := sorted({name for name in wanted if name not in related.columns}):
        raise DataError(f"{where}: {', '.join(lost)} is no column of {join.table}; found {', '.join(related.columns)}")
    related = related.filter(*(related[name].notnull() for name in key))  # what is missing names no row
    rows, distinct = (int(table.count().execute()) for table in (related, related.select(*key).distinct()))
    if rows != distinct:
        raise DataError(
            f"{where}.by: {', '.join(key)} names {distinct:,} rows of {join.table}, which has {rows:,}; expected one row "
            "for each key: add the columns that tell them apart, or `as_of` for their time"
        )
    return related


def _comparable(mine: ir.Value, theirs: ir.Value, where: str) -> None:
    try:
        mine == theirs  # noqa: B015
    except ibis.IbisError:
        raise DataError(
            f"{where}: found {mine.type()} and {theirs.type()}, expected one type; see processing.tables"
        ) from None


def _number(events: ir.Table, of: str, stated: dict[str, Any]) -> ir.FloatingValue:
    """Return a column as numbers to be averaged; of a target of classes, whether it is the event (1 or 0)."""
    if of == stated["target"] and decisions.is_class(stated):
        return (events[of].cast("string") == stated["focus"]).cast("float64")
    if not events[of].type().is_numeric() and not events[of].type().is_boolean():
        raise DataError(f"params.yaml, features.history: {of} is {events[of].type()}, expected a number to average")
    return events[of].cast("float64")


def _cast(column: ir.Value, kind: str, name: str) -> ir.Value:
    if kind in ("categorical", "text"):
        return column.cast("string")
    if kind != "date":
        return column.cast("float64")
    if not column.type().is_timestamp() and not column.type().is_date():
        raise DataError(
            f"params.yaml, features.dates: {name} is {column.type()}, expected a timestamp; see its contract"
        )
    micros = column.cast("timestamp(6)").delta(ibis.timestamp("1970-01-01"), unit="microsecond")
    return micros.cast("float64") / MICROSECONDS


def _demand(table: ir.Table, columns: list[str], key: str) -> None:
    if lost := sorted({name for name in columns if name not in table.columns}):
        raise DataError(
            f"{key if key.startswith('params.yaml') else f'params.yaml, {key}'}: {', '.join(lost)} is no column of the "
            f"events (with joins, and what project.features.build adds); found {', '.join(table.columns)}"
        )


def _interval(span: pd.Timedelta) -> ir.IntervalScalar:
    return ibis.interval(seconds=int(span.total_seconds()))


def _file_name(feature: str) -> str:
    """Return a feature's name as a file can be called, whatever the columns it comes from are called."""
    plain = re.sub(r"[^\w-]", "_", feature)
    return plain if plain == feature else f"{plain}-{hashlib.sha256(feature.encode()).hexdigest()[:8]}"
