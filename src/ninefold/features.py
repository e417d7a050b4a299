"""What does the model see, and was it known at that moment?

Reads: ``data/problem.json``; ``data/exploration.json``, what is known only later; ``data/lake/``.
Writes: ``data/features/``, a row per event; ``data/online/``, the last history values per key;
``data/state/features.json``, of what each partition was made.
Gate: no feature is known only later, none sees the future, and online values equal offline ones.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from pydantic import Field, ValidationError, model_validator

from ninefold import metrics as agreed_metrics
from ninefold.core import decisions, engine, gate, hooks, io, moments
from ninefold.core.engine import PERIOD, ROW, Span
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.moments import MICROSECONDS
from ninefold.core.params import Duration, Keyed, Name, Section, Sparse, Text, root

LAKE, FEATURES, ONLINE, STATE = "data/lake", "data/features", "data/online", "data/state/features.json"
MOMENTS = 24
PROOFS = (0.3, 0.6, 0.9)  # where in the sample the future is taken away
MOMENT = "@moment"
SOME = 10_000  # rows without time of which features are built again
SAMPLE = 500_000  # rows that are looked at in figures
DECIDING = ("table", "key", "time", "horizon", "target", "group", "task", "classes", "focus")  # of the problem
WIDE = 250  # histogram trees take at most 255 categories


class History(Sparse):
    """What a column was over past rows with the same keys, in windows that close before the decision.

    `how` is what is taken of the values: their mean, sum, number, least, greatest, or standard deviation (n - 1). `prior` is
    what stands where the window holds no value, or but one of which to take a deviation; without one it stays missing, and
    a number is 0.
    """

    of: Name
    prefix: Text
    known_after: Duration
    over: list[Duration] = Field(min_length=1)
    by: list[list[Name]] = Field(min_length=1)
    how: Literal["mean", "sum", "count", "min", "max", "std"] = "mean"
    prior: float | None = Field(default=None, allow_inf_nan=False)


class Join(Keyed):
    """Columns of a related table: its row of the same key; with `as_of`, the newest at or before the decision.

    `columns` lists what is joined, or gives new names by the old.
    """

    columns: list[Name] | dict[Name, Name] = Field(min_length=1)
    as_of: Name | None = None

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


def history(
    of: str,
    by: str | list[str],
    over: str | list[str],
    known_after: str,
    how: str = "mean",
    prior: float | None = None,
    prefix: str | None = None,
) -> History:
    """Return a declaration: what `of` was over past rows with the same `by`, for ``project.features.define``.

    Parameters
    ----------
    of : str
        A column of the events, after joins and ``project.features.build``.
    by : str or list of str
        The columns whose values a past row must share.
    over : str or list of str
        Lengths of the windows, such as "28d"; a feature each.
    known_after : str
        How long after its event a value is known: a window closes when its values are, before the decision.
    how, prior, prefix
        See `History`; the features are called ``<prefix>_by_<by>_<over>``, the prefix being `of` if none is given.
    """
    spans, keys = ([value] if isinstance(value, str) else value for value in (over, by))
    named = {"of": of, "prefix": prefix or of, "known_after": known_after, "over": spans, "by": [keys]}
    return History.model_validate({**named, "how": how, "prior": prior})


def join(
    table: str, by: str | list[str] | dict[str, str], columns: list[str] | dict[str, str], as_of: str | None = None
) -> Join:
    """Return a declaration: columns of a related table, for ``project.features.define``; see `Join`."""
    return Join.model_validate(
        {"table": table, "by": [by] if isinstance(by, str) else by, "columns": columns, "as_of": as_of}
    )


def declared(params: Params, stated: dict[str, Any]) -> Params:
    """Return the params with the joins and histories that ``project.features.define`` adds.

    Raises
    ------
    ParamsError
        If it returns anything else, a feature twice, or declares what `join` and `history` refuse.
    """
    define, where = hooks.project("features", "define", nothing_more), "project.features.define"
    try:
        found = define(stated)
        more = found if isinstance(found, list | tuple) else [None]
        if any(not isinstance(each, Join | History) for each in more):
            raise ParamsError(f"{where}: found {found!r}, expected a list of what `join` and `history` return")
        added = {
            "joins": [*params.joins, *(each for each in more if isinstance(each, Join))],
            "history": [*params.history, *(each for each in more if isinstance(each, History))],
        }
        return Params.model_validate({**params.model_dump(), **added})
    except ValidationError as error:
        detail = error.errors()[0]
        wrong = f"{'.'.join(map(str, detail['loc']))}: found {detail['input']!r}, expected " if detail["loc"] else ""
        raise ParamsError(f"{where}: {wrong}{detail['msg'].removeprefix('Value error, ')}") from None


def nothing_more(stated: dict[str, Any]) -> list[Join | History]:
    """Return no declaration: the default where ``project.features.define`` is absent."""
    return []


def windows(params: Params, horizon: str) -> list[dict[str, Any]]:
    """Return every history feature: ``name``, ``of``, ``by``, ``how``, ``prior``, its window ``[t - start, t - end]`` (Timedelta).

    A value of an event at ``s`` is usable for one at ``t`` if ``s + known_after <= t - horizon``; the window is of
    length `over` and ends there.
    """
    found = []
    for history in params.history:
        gap = pd.Timedelta(history.known_after) + pd.Timedelta(horizon)
        for by in history.by:
            for over in history.over:
                name = f"{history.prefix}_by_{'_'.join(by)}_{over}"
                ends = {"start": gap + pd.Timedelta(over), "end": gap}
                prior = 0.0 if history.how == "count" and history.prior is None else history.prior
                taken = {"of": history.of, "how": history.how, "prior": prior}
                found.append({"name": name, "by": list(by), **taken, **ends})
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
        If a column is not there.
    """
    make = hooks.project("features", "build", own_columns)
    joined = engine.settle(join_related(tables, params, stated))
    try:
        events = make({**tables, stated["table"]: joined}, stated)
    except (AttributeError, KeyError, ibis.IbisError) as error:
        found = "; ".join(f"{name}: {', '.join(engine.columns(table))}" for name, table in tables.items())
        raise DataError(f"project.features.build: {error}; the lake has {found}") from None
    if PERIOD in joined.columns and PERIOD not in events.columns:
        place = joined.select(PERIOD, **{f"@ {name}": joined[name] for name in stated["key"]})
        same = [events[name].identical_to(place[f"@ {name}"]) for name in stated["key"]]
        events = events.left_join(place, same).drop(*(f"@ {name}" for name in stated["key"]))
    return engine.settle(events)


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
        known = events.mutate(**{moment: events[stated["time"]] - engine.interval(pd.Timedelta(stated["horizon"]))})
        _comparable(
            known[moment], narrow[inner[join.as_of]], f"{where}.as_of: the time and {join.table}'s {join.as_of}"
        )
        pairs = {mine: inner[theirs] for mine, theirs in keys.items()}
        events = engine.asof_join(known, narrow, pairs, moment, inner[join.as_of]).drop(moment, *inner.values())
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
    means = {
        window["name"]: _filled(
            engine.over_past(
                _number(events, window["of"], stated),
                window["how"],
                window["by"],
                events[stated["time"]],
                (window["start"], window["end"]),
            ).cast("float64"),
            window,
        )
        for window in wanted
    }
    return events.mutate(**means)


def assemble(events: ir.Table, params: Params, stated: dict[str, Any], keep: Iterable[str] = ()) -> ir.Table:
    """Return the feature table: key, time, entity, target, keys of the history, then the features, as the model takes them.

    The target is encoded (see `decisions.outcome`). Numbers, history and dates (days since 1970-01-01) are float64,
    categories and texts string; missing stays missing. Columns to `keep` come last.
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
    return events.select(**columns, **{name: events[name] for name in keep})


def order(stated: dict[str, Any]) -> list[str]:
    """Return the columns that fix the order of the rows: time where there is time, then the key."""
    return list(dict.fromkeys([*([stated["time"]] if stated["time"] else []), *stated["key"]]))


def read(connection: ibis.BaseBackend, stated: dict[str, Any]) -> dict[str, ir.Table]:
    """Return the tables of the lake, lazily; that which is decided on with the place of its rows, ``@period``."""
    tables = engine.tables(connection, LAKE)
    main = engine.read(connection, f"{LAKE}/{stated['table']}", numbered=True)
    return {**tables, stated["table"]: main.drop(ROW)}


def update(tables: dict[str, ir.Table], events: ir.Table, params: Params, stated: dict[str, Any]) -> None:
    """Bring ``data/features/`` up to the lake: a partition whose rows, history and related rows are as before is kept.

    A partition is made by itself, from its own rows and as much before them as the longest window reaches back: so it
    does not matter which others are made in the same run, and no more of the table is in memory than that.

    Parameters
    ----------
    tables : dict of str to Table
        What `read` returned.
    events : Table
        What `build` made of them.
    params : Params
        With what ``project.features.define`` declares: see `declared`.
    stated : dict
        The problem.

    Raises
    ------
    DataError
        If a column is not there, or ``project.features.build`` drops or repeats rows.
    """
    lake = f"{LAKE}/{stated['table']}"
    needs = _needs(tables, events, params, stated)
    before = _state()
    kept = [period for period in needs if before.get(period, {}).get("needs") == needs[period]]
    io.output(FEATURES)
    engine.carry(FEATURES, kept)
    for period in (period for period in needs if period not in kept):
        near = engine.keep(_near(events, period, params, stated))
        with engine.in_one_thread(events.get_backend(), _hang_on_order(near, params, stated)):
            told = add_history(near, params, stated)
            assembled = assemble(told.filter(told[PERIOD] == period), params, stated, keep=[PERIOD])
            engine.write(assembled, io.pending(FEATURES), order(stated), [period])
        rows, made = engine.count(lake, period), engine.count(FEATURES, period)
        if rows != made:
            raise DataError(
                f"project.features.build: {rows:,} rows of {period} went in, {made:,} came out; a join drops or repeats"
            )
    state = {period: {"needs": needs[period], "features": engine.fingerprint(FEATURES, period)} for period in needs}
    io.write_json({"periods": state}, io.output(STATE))
    count = len(needs) - len(kept)
    io.note("features", f"made {count} partition{'' if count == 1 else 's'}, kept {len(kept)}")


def snapshot(
    events: ir.Table, params: Params, stated: dict[str, Any], moment: datetime | None
) -> dict[str, pd.DataFrame]:
    """Return the history values for events due at `moment`, per key: what an online store holds for them.

    Returns
    -------
    dict of str to DataFrame
        Feature -> its key columns and ``value`` (float64).
    """
    if moment is None:
        return {}
    found = snapshots(events, params, stated, [moment])
    return {name: values.drop(columns=MOMENT) for name, values in found.items()}


def snapshots(
    events: ir.Table, params: Params, stated: dict[str, Any], due_at: Iterable[datetime]
) -> dict[str, pd.DataFrame]:
    """Return the history values for events due at each of some moments, per key.

    Computed by themselves, without windows, from the events whose values were known by the decision for that moment
    alone, so that they also prove the windows.

    Returns
    -------
    dict of str to DataFrame
        Feature -> ``@moment`` (timestamp), its key columns and ``value`` (float64), in their order.
    """
    found = dict[str, pd.DataFrame]()
    stamps = pd.DataFrame({MOMENT: pd.to_datetime(pd.Series(list(due_at))).astype("datetime64[us]")})
    wanted = windows(params, stated["horizon"])
    if not wanted or stamps.empty:
        return found
    due, time = engine.table(events.get_backend(), stamps), stated["time"]
    for window in wanted:
        first, last = stamps[MOMENT].min() - window["start"], stamps[MOMENT].max() - window["end"]
        past = events.filter(events[time].between(first.to_pydatetime(), last.to_pydatetime()))
        past = past.select(*dict.fromkeys([*window["by"], time, window["of"]]))
        known = past.inner_join(
            due,
            [
                past[time] >= due[MOMENT] - engine.interval(window["start"]),
                past[time] <= due[MOMENT] - engine.interval(window["end"]),
            ],
        )
        groups = known.group_by([MOMENT, *window["by"]])
        values = groups.aggregate(
            value=_filled(engine.taken(_number(known, window["of"], stated), window["how"]).cast("float64"), window)
        )
        found[window["name"]] = values.order_by([MOMENT, *window["by"]]).to_pandas()
    return found


def online_difference(
    events: ir.Table, table: ir.Table, due_at: Iterable[datetime], params: Params, stated: dict[str, Any]
) -> float:
    """Return the largest difference between online and offline history values, of the rows that are due at some moments.

    It is a share of the value where that is above 1, as sums may be large. A value that only one of both has counts as
    infinitely different.

    Parameters
    ----------
    events : Table
        As `build` returns them.
    table : Table
        The feature table.
    due_at : iterable of datetime
        See `sampled_moments`.
    """
    due_at = list(due_at)
    if not windows(params, stated["horizon"]) or not due_at:
        return 0.0
    due = table.filter(table[stated["time"]].isin(due_at)).to_pandas()
    due = due.assign(**{MOMENT: due[stated["time"]].astype("datetime64[us]")})
    priors = {
        window["name"]: np.nan if window["prior"] is None else window["prior"] for window in windows(params, "0h")
    }
    worst = 0.0
    for name, online in snapshots(events, params, stated, due_at).items():
        keys = [column for column in online if column != "value"]
        both = due.merge(_same_types(online, due, keys), on=keys, how="left")
        offline, served = both[name].to_numpy(dtype="float64"), both["value"].fillna(priors[name]).to_numpy("float64")
        if (np.isnan(offline) != np.isnan(served)).any():
            return float("inf")
        apart = np.abs(offline - served) / np.maximum(np.abs(offline), 1)
        worst = max(worst, float(np.nanmax(apart, initial=0.0)))
    return worst


def sampled_moments(sample: pd.DataFrame, stated: dict[str, Any], count: int = MOMENTS) -> list[datetime]:
    """Return so many moments at which events are due, spread over a sample of the feature table but its first tenth."""
    if not stated["time"] or sample.empty:
        return []
    times = np.sort(sample[stated["time"]].unique())
    chosen = times[np.unique(np.linspace(len(times) // 10, len(times) - 1, count).astype(int))]
    return [moment.to_pydatetime() for moment in pd.to_datetime(chosen)]


def future_difference(
    events: ir.Table, table: ir.Table, sample: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> int:
    """Return how many values at a few moments change when the future of each moment is taken away.

    Taken away are all later rows, and of the earlier ones every value that was not known by the decision: of history,
    what its windows draw on; of what ``project.features.build`` makes, the outcomes that were still to come, and what
    stage 05 declares known later. Without time, no outcome is known to the other rows.
    """
    return _changed_history(events, table, sample, params, stated) + _changed_build(
        events, table, sample, params, stated
    )


def _changed_history(
    events: ir.Table, table: ir.Table, sample: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> int:
    wanted = windows(params, stated["horizon"])
    time, changed = stated["time"], 0
    for share in PROOFS if wanted else ():
        moment = sample[time].iloc[int(len(sample) * share)].to_pydatetime()
        first = moment - max(window["start"] for window in wanted)
        past = engine.settle(events.filter(events[time].between(first, moment)))
        now = table.filter(table[time] == moment).to_pandas()
        for end in dict.fromkeys(window["end"] for window in wanted):
            alike, known = [window for window in wanted if window["end"] == end], past[time] <= moment - end
            hidden = {one["of"]: ibis.cases((known, past[one["of"]]), else_=ibis.null()) for one in alike}
            seen, names = add_history(past.mutate(**hidden), params, stated), [one["name"] for one in alike]
            then = seen.filter(seen[time] == moment).select(*stated["key"], *names).to_pandas()
            changed += _differing(now, then, names, stated)
    return changed


def _changed_build(
    events: ir.Table, table: ir.Table, sample: pd.DataFrame, params: Params, stated: dict[str, Any]
) -> int:
    """Return how many values that are no history change; 0 where there is no lake to build them from again."""
    named, time = kinds(params, stated["horizon"]), stated["time"]
    names = [name for name, kind in named.items() if kind != "history" and name not in (time, *stated["key"])]
    if not names or sample.empty or not engine.periods(f"{LAKE}/{stated['table']}"):
        return 0
    tables, plain, changed = read(events.get_backend(), stated), params.model_copy(update={"history": []}), 0
    for share in PROOFS if time else PROOFS[:1]:
        at = sample[time].iloc[int(len(sample) * share)].to_pydatetime() if time else None
        cut = engine.settle(_without_future(tables[stated["table"]], at, stated))
        seen = assemble(build({**tables, stated["table"]: cut}, plain, stated), plain, stated)
        if time:
            now, seen = table.filter(table[time] == at).to_pandas(), seen.filter(seen[time] == at)
        else:
            now = sample.head(SOME)
            seen = seen.semi_join(engine.table(events.get_backend(), now[stated["key"]]), stated["key"])
        changed += _differing(now, seen.to_pandas(), names, stated)
    return changed


def _without_future(main: ir.Table, at: datetime | None, stated: dict[str, Any]) -> ir.Table:
    """Return the rows up to a moment, without outcomes and what is known later of events after the decision for it."""
    time, file = stated["time"], "data/exploration.json"
    late = io.read_json(file)["known_later"] if io.path(file).is_file() else []
    hidden = [name for name in dict.fromkeys([stated["target"], *late]) if name in main.columns]
    known: Any = ibis.literal(False)
    if at is not None:
        main = main.filter(main[time] <= at)
        known = (main[time] <= at - pd.Timedelta(stated["horizon"])) & (main[time] < at)
    gone = {name: ibis.cases((known, main[name]), else_=ibis.null()) for name in hidden}
    return main.mutate(**{name: value for name, value in gone.items() if name not in (time, *stated["key"])})


def _differing(now: pd.DataFrame, then: pd.DataFrame, names: list[str], stated: dict[str, Any]) -> int:
    """Return how many values of the same rows differ, and how many rows are in the first alone."""
    both = now.merge(_same_types(then, now, stated["key"]), on=stated["key"], suffixes=("", " then"))
    changed = len(now) - len(both)
    for name in names:
        one, other = both[name], both[f"{name} then"]
        if pd.api.types.is_numeric_dtype(one):
            same = np.isclose(one, other.astype("float64"), rtol=1e-9, atol=1e-9, equal_nan=True)
        else:
            same = ((one == other) | (one.isna() & other.isna())).to_numpy(dtype=bool)
        changed += int((~same).sum())
    return changed


def known_too_late(params: Params, exploration: dict[str, Any]) -> list[str]:
    """Return the features that stage 05 found to be known only after the decision."""
    named, late = {*params.numeric, *params.categorical, *params.text, *params.dates}, set(exploration["known_later"])
    joined = {new: f"{join.table}.{old}" for join in params.joins for old, new in join.renamed().items()}
    return sorted(name for name in named if joined.get(name, name) in late)


def sample(limit: int = SAMPLE) -> pd.DataFrame:
    """Return the feature table by time; of more than `limit` rows, as many spread evenly over it."""
    step = -(-engine.count(FEATURES) // limit)
    if step <= 1:
        return load()
    taken = [io.read_table(str(file.relative_to(root()))).iloc[::step] for file in engine.parts(FEATURES)]
    return pd.concat(taken, ignore_index=True)


def dictionary(table: ir.Table, params: Params, stated: dict[str, Any]) -> pd.DataFrame:
    """Return every feature: ``feature``, ``kind``, ``looks back``, ``missing`` (0-1), ``distinct`` values.

    Parameters
    ----------
    table : Table
        The feature table, in the engine.
    """
    back = {
        window["name"]: f"from {short(window['start'])} to {short(window['end'])} before"
        for window in windows(params, stated["horizon"])
    }
    named = kinds(params, stated["horizon"])
    missing = {f"missing {name}": table[name].isnull().mean() for name in named}
    distinct = {f"distinct {name}": table[name].nunique() for name in named}
    found = table.aggregate(**missing, **distinct).to_pandas().iloc[0]
    rows = [
        (name, kind, back.get(name, ""), float(found[f"missing {name}"]), int(found[f"distinct {name}"]))
        for name, kind in named.items()
    ]
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


def wide(table: pd.DataFrame, stated: dict[str, Any], points: dict[str, Any]) -> list[str]:
    """Return the categories with more values on training rows than trees can tell apart by code (`WIDE`).

    Parameters
    ----------
    table : DataFrame
        What `dictionary` returned.
    """
    many = table.loc[(table["kind"] == "categorical") & (table["distinct"] > WIDE), "feature"].tolist()
    if not many:
        return []
    named = [*stated["key"], stated["time"], *(stated["group"] or []), stated["target"], *many]
    rows = train(load([name for name in dict.fromkeys(named) if name]), stated, points)
    return [name for name in many if rows[name].nunique() > WIDE]


def save_online(
    online: dict[str, pd.DataFrame], broad: list[str], params: Params, stated: dict[str, Any], moment: datetime | None
) -> None:
    """Write ``data/online/``: the history values of one moment, and the model's columns."""
    folder = io.output(ONLINE)
    stores = []
    for window in windows(params, stated["horizon"]):
        io.write_table(online[window["name"]], folder / f"{_file_name(window['name'])}.parquet")
        store = {"feature": window["name"], "by": window["by"], "file": f"{_file_name(window['name'])}.parquet"}
        stores.append(store if window["prior"] is None else {**store, "prior": window["prior"]})
    described = {"moment": moment.isoformat() if moment else None, "stores": stores}
    io.write_json({**described, **signature(params, stated, broad)}, folder / "online.json")


def signature(params: Params, stated: dict[str, Any], broad: list[str]) -> dict[str, Any]:
    """Return the model's columns, in order, each with its kind: what training, bundle and service agree on."""
    named = kinds(params, stated["horizon"])
    return {
        "features": [
            {"name": name, "kind": kind, **({"wide": True} if name in broad else {})} for name, kind in named.items()
        ]
    }


def load(columns: list[str] | None = None) -> pd.DataFrame:
    """Read the feature table that `update` wrote, by time."""
    return io.read_table(FEATURES, columns)


def moment_of(stated: dict[str, Any]) -> datetime | None:
    """Return the first midnight (UTC) after the last event, for which the online values hold; None without time."""
    if not stated["time"]:
        return None
    spans = [engine.span(FEATURES, period, stated["time"]) for period in engine.periods(FEATURES)]
    last = max(span[1] for span in spans if span)
    return (last.normalize() + pd.Timedelta(days=1)).to_pydatetime()


def checks(late: list[str], online: float, changed: int, rows: int, table: pd.DataFrame) -> list[gate.Check]:
    """Return the gate: known in time, blind to the future, the same online as offline, nothing empty."""
    empty = table.loc[table["missing"] == 1, "feature"].tolist()
    return [
        gate.holds("features known only after the decision", not late, ", ".join(late) or "none", "none"),
        gate.at_most("values that change when the future is removed", changed, 0),
        gate.at_most("largest difference between online and offline", online, 1e-9),
        gate.holds("features without any value", not empty, ", ".join(empty) or "none", "none"),
        gate.at_least("rows", rows, 1),
    ]


def metrics(rows: int, table: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "rows": rows,
        "features": len(table),
        "missing": table.set_index("feature")["missing"].to_dict(),
        "range": ranked.set_index("feature")["range"].to_dict(),
    }


def headline(table: pd.DataFrame, ranked: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    return {"features": f"{len(table)}", "strongest alone": ranked["feature"].iloc[0] if len(ranked) else "none"}


def verdict(rows: int, table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the bottom line."""
    kinds = table["kind"].value_counts()
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    known = f", each known {stated['horizon']} ahead and the same online as offline" if stated["time"] else ""
    return f"The model sees {len(table)} features ({listed}) of {rows:,} {stated['units']}{known}."


def short(span: pd.Timedelta) -> str:
    """Return a span in hours, or in days and hours."""
    days, hours = span.days, (span - pd.Timedelta(days=span.days)).total_seconds() / 3600
    if days < 2:
        return f"{span.total_seconds() / 3600:g} h"
    return f"{days} d {hours:g} h" if hours else f"{days} d"


def reach(params: Params, stated: dict[str, Any]) -> pd.Timedelta:
    """Return how far before an event its history begins."""
    return max((window["start"] for window in windows(params, stated["horizon"])), default=pd.Timedelta(0))


def _near(events: ir.Table, period: str, params: Params, stated: dict[str, Any]) -> ir.Table:
    """Return the events of one partition, with those before them to which its windows reach back."""
    span = engine.span(f"{LAKE}/{stated['table']}", period, stated["time"]) if stated["time"] else None
    if span is None or not windows(params, stated["horizon"]):
        return events.filter(events[PERIOD] == period)
    first = (span[0] - reach(params, stated)).to_pydatetime()
    return events.filter(events[stated["time"]].between(first, span[1].to_pydatetime()))


def _hang_on_order(events: ir.Table, params: Params, stated: dict[str, Any]) -> bool:
    """Return whether sums in the windows depend on the order of rows of one moment: those of whole numbers do not."""
    wanted = windows(params, stated["horizon"])
    if any(window["how"] == "std" for window in wanted):
        return True
    summed = {
        window["of"]: _number(events, window["of"], stated) for window in wanted if window["how"] in ("mean", "sum")
    }
    broken = {name: (value % 1 != 0).any() for name, value in summed.items() if value.type().is_floating()}
    return bool(broken) and bool(events.aggregate(**broken).to_pandas().iloc[0].fillna(False).any())


def _needs(tables: dict[str, ir.Table], events: ir.Table, params: Params, stated: dict[str, Any]) -> dict[str, str]:
    """Return, per partition of the events, the digest of all that its features are made of."""
    prints = {name: _prints(name) for name in tables}
    main = stated["table"]
    by_row, whole = _read_by_build(tables, params, stated)
    related = _related_parts(tables, params, stated, events.get_backend())
    stated_of = {key: value for key, value in stated.items() if key in DECIDING}
    recipe = {
        "params": params.model_dump(mode="json"),
        "problem": stated_of,
        "engine": engine.identity(events.get_backend()),
        "code": hooks.digest(update, engine, moments, decisions, hooks.project("features", "build", own_columns)),
        "whole": {name: prints[name] for name in sorted(whole)},
    }
    looks_back = bool(stated["time"] and windows(params, stated["horizon"]))
    spans = {one: engine.span(f"{LAKE}/{main}", one, stated["time"]) if looks_back else None for one in prints[main]}
    back = reach(params, stated)
    found = {}
    for period in prints[main]:
        near = _context(period, spans, back) if by_row else list(prints[main])
        others = sorted({(table, other) for one in near for table, other in related[one]})
        inputs = {
            "rows": {one: prints[main][one] for one in near},
            "related": [(table, other, prints[table].get(other)) for table, other in others],
        }
        text = json.dumps({**recipe, **inputs}, sort_keys=True)
        found[period] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def _read_by_build(tables: dict[str, ir.Table], params: Params, stated: dict[str, Any]) -> tuple[bool, set[str]]:
    """Return whether ``project.features.build`` makes each event of one alone, and which other tables it reads itself."""
    make = hooks.project("features", "build", own_columns)
    main = stated["table"]
    alone = ibis.table(join_related(tables, params, stated).schema(), name="@events")
    try:
        built = make({**tables, main: alone}, stated)
    except ibis.IbisError:  # it asks for values, of which this table has none
        return False, {name for name in tables if name != main}
    read = engine.reads(built)
    return engine.row_by_row(built, {"@events"}), {
        name for name, table in tables.items() if name != main and engine.reads(table) & read
    }


def _related_parts(
    tables: dict[str, ir.Table], params: Params, stated: dict[str, Any], connection: ibis.BaseBackend
) -> dict[str, set[tuple[str, str]]]:
    """Return, per partition of the events, the partitions of related tables in which a declared join finds rows."""
    events = tables[stated["table"]]
    lake = f"{LAKE}/{stated['table']}"
    found: dict[str, set[tuple[str, str]]] = {period: set() for period in engine.periods(lake)}
    for join in params.joins:
        name = f"{LAKE}/{join.table}"
        parts, keys = engine.periods(name), join.keys()
        if join.as_of is not None:
            pairs = [(one, other) for one in found for other in parts if _begins_before(other, one, join, stated)]
        elif len(parts) == 1 or any(mine not in events.columns for mine in keys):
            pairs = [(one, other) for one in found for other in parts]
        else:
            there = engine.read(connection, name, numbered=True)
            there = there.select(
                **{f"@ {theirs}": there[theirs] for theirs in keys.values()}, **{"@part": there[PERIOD]}
            )
            same = [events[mine] == there[f"@ {theirs}"] for mine, theirs in keys.items()]
            both = events.inner_join(there.distinct(), same).select(PERIOD, "@part").distinct()
            pairs = list(both.to_pandas().itertuples(index=False, name=None))
        for one, other in pairs:
            found[one].add((join.table, other))
    return found


def _begins_before(other: str, period: str, join: Join, stated: dict[str, Any]) -> bool:
    """Return whether a partition of a related table holds a row that events of a period may take as their newest."""
    theirs = engine.span(f"{LAKE}/{join.table}", other, str(join.as_of))
    mine = engine.span(f"{LAKE}/{stated['table']}", period, stated["time"])
    return theirs is not None and mine is not None and theirs[0] <= mine[1]


def _context(period: str, spans: dict[str, Span | None], back: pd.Timedelta) -> list[str]:
    """Return the partitions, of those with these spans, that hold a period's events, or rows to which its windows reach."""
    own = spans[period]
    if own is None:
        return [period]
    first = own[0] - back
    return [one for one, span in spans.items() if one == period or (span and span[1] >= first and span[0] <= own[1])]


def _prints(name: str) -> dict[str, str]:
    """Return the digest of every partition of a table of the lake."""
    return {period: engine.fingerprint(f"{LAKE}/{name}", period) for period in engine.periods(f"{LAKE}/{name}")}


def _state() -> dict[str, Any]:
    """Return what the last run noted of each partition that still is as it left it."""
    folder = io.path(FEATURES)
    try:
        noted = (io.published(STATE) or {"periods": {}})["periods"]
        return {one: part for one, part in noted.items() if part["features"] == engine.fingerprint_of(folder, one)}
    except (DataError, TypeError, KeyError, AttributeError):  # not what a run writes
        return {}


def _filled(value: ir.FloatingValue, window: dict[str, Any]) -> ir.FloatingValue:
    value = value.nullif(0) if window["how"] == "count" else value  # null where there is no value, as the others are
    return value if window["prior"] is None else value.fill_null(window["prior"])


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


def _number(events: ir.Table, of: str, stated: dict[str, Any]) -> ir.NumericValue:
    """Return a column as int64 or float64; of a target of classes, whether it is the event (1 or 0)."""
    column = events[of]
    if of == stated["target"] and decisions.is_class(stated):
        return (column.cast("string") == stated["focus"]).cast("int64")
    if not column.type().is_numeric() and not column.type().is_boolean():
        raise DataError(f"params.yaml, features.history: {of} is {column.type()}, expected a number to average")
    return column.cast("float64" if column.type().is_floating() or column.type().is_decimal() else "int64")


def _cast(column: ir.Value, kind: str, name: str) -> ir.Value:
    if kind in ("categorical", "text"):
        return column.cast("string")
    if kind != "date":
        return column.cast("float64")
    if not column.type().is_timestamp() and not column.type().is_date():
        raise DataError(
            f"params.yaml, features.dates: {name} is {column.type()}, expected a timestamp; see its contract"
        )
    return engine.microseconds(column).cast("float64") / MICROSECONDS


def _demand(table: ir.Table, columns: list[str], key: str) -> None:
    if lost := sorted({name for name in columns if name not in table.columns}):
        raise DataError(
            f"{key if key.startswith('params.yaml') else f'params.yaml, {key}'}: {', '.join(lost)} is no column of the "
            f"events (with joins, and what project.features.build adds); found {', '.join(table.columns)}"
        )


def _file_name(feature: str) -> str:
    """Return a feature's name as a file can be called, whatever the columns it comes from are called."""
    plain = re.sub(r"[^\w-]", "_", feature)
    return plain if plain == feature else f"{plain}-{hashlib.sha256(feature.encode()).hexdigest()[:8]}"
