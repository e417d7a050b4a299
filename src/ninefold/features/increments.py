"""Bring the feature table up to the lake: only partitions whose rows, history or related rows changed are built."""

from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from ninefold import artifacts, engine, hooks, lineage, timestamps
from ninefold.engine import PERIOD, Span
from ninefold.errors import DataError
from ninefold.features import declarations, events
from ninefold.features.declarations import Params, reach, windows
from ninefold.features.events import FEATURES, LAKE, add_history, assemble, join_related, number, order
from ninefold.problem import Problem, decisions

STATE = "data/state/features.json"
# The keys of the problem on which the feature table depends.
RELEVANT = ("table", "key", "time", "horizon", "target", "group", "task", "classes", "focus")
Tables = dict[str, ir.Table]
Spans = dict[str, Span | None]


def update(tables: Tables, built: ir.Table, params: Params, problem: Problem) -> None:
    """Bring ``data/features/`` up to the lake, from the results of `read`, `build` and `declared`; reuse equal partitions.

    A partition is computed alone, from its own rows and as many before them as the longest window needs. So the result
    does not depend on which others are computed in the same run, and memory holds no more of the table than that.
    Raises `DataError` if a column is missing, or ``project.features.build`` drops or repeats rows.
    """
    time, lake = problem.time if windows(params, problem.horizon) else None, f"{LAKE}/{problem.table}"
    spans = {period: engine.span(lake, period, time) if time else None for period in engine.periods(lake)}
    inputs, before = _inputs(tables, built, spans, params, problem), _state()
    reused = [period for period in inputs if before.get(period, {}).get("needs") == inputs[period]]
    artifacts.output(FEATURES)
    engine.carry(FEATURES, reused)
    for period in sorted(inputs.keys() - set(reused)):
        near, span = built.filter(built[PERIOD] == period), spans[period]
        if span:
            first, last = (moment.to_pydatetime() for moment in (span[0] - reach(params, problem), span[1]))
            near = built.filter(built[problem.time].between(first, last))
        near = near.cache()
        with engine.in_one_thread(built.get_backend(), _depends_on_order(near, params, problem)):
            complete = add_history(near, params, problem)
            table = assemble(complete.filter(complete[PERIOD] == period), params, problem, period=True)
            engine.write(table, artifacts.pending(FEATURES), order(problem), [period])
        rows, result = engine.count(lake, period), engine.count(FEATURES, period)
        if rows != result:
            counts = f"{rows:,} rows of {period} went in, {result:,} came out"
            raise DataError(f"project.features.build: {counts}; a join drops or repeats")
    state = {one: {"needs": needs, "features": engine.fingerprint(FEATURES, one)} for one, needs in inputs.items()}
    artifacts.write_json({"periods": state}, artifacts.output(STATE))
    count = len(inputs) - len(reused)
    artifacts.note("features", f"made {count} partition{'' if count == 1 else 's'}, kept {len(reused)}")


def _depends_on_order(near: ir.Table, params: Params, problem: Problem) -> bool:
    """Return whether sums in the windows depend on the order of rows of the same time: not so for whole numbers."""
    every = windows(params, problem.horizon)
    if any(window.how == "std" for window in every):
        return True
    columns = dict.fromkeys(window.of for window in every if window.how in ("mean", "sum"))
    values = [(name, number(near, name, problem)) for name in columns]
    broken = [(value % 1 != 0).any().name(name) for name, value in values if value.type().is_floating()]
    return bool(broken) and bool(near.aggregate(broken).to_pandas().iloc[0].fillna(False).any())


def _inputs(tables: Tables, built: ir.Table, spans: Spans, params: Params, problem: Problem) -> dict[str, str]:
    """Return, per partition of the events, the digest of all that its features depend on."""
    connection, main, lake = built.get_backend(), problem.table, dict[str, dict[str, str]]()
    for name in tables:
        folder = f"{LAKE}/{name}"
        lake[name] = {period: engine.fingerprint(folder, period) for period in engine.periods(folder)}
    by_row, whole = _read_by_build(tables, params, problem)
    related = _related_parts(tables, params, problem)
    recipe: dict[str, Any] = {
        "params": params.model_dump(mode="json"),
        "problem": problem.model_dump(mode="json", include=set(RELEVANT)),
        "engine": engine.identity(connection),
        "code": hooks.digest(update, declarations, events, timestamps, decisions, events.builder()),
        "whole": {name: lake[name] for name in sorted(whole)},
    }
    result = {}
    for period in lake[main]:
        near = _periods_near(period, spans, reach(params, problem)) if by_row else list(lake[main])
        others = sorted({pair for each in near for pair in related[each]})
        recipe["rows"] = {each: lake[main][each] for each in near}
        recipe["related"] = [(table, part, lake[table].get(part)) for table, part in others]
        result[period] = lineage.of_values(recipe)
    return result


def _read_by_build(tables: Tables, params: Params, problem: Problem) -> tuple[bool, set[str]]:
    """Return whether ``project.features.build`` computes each event from one alone, and the other tables that it reads."""
    others = {name: table for name, table in tables.items() if name != problem.table}
    alone = ibis.table(join_related(tables, params, problem).schema(), name="@events")
    try:
        built = events.builder()({**tables, problem.table: alone}, problem)
    except ibis.IbisError:  # it computes values, of which this table has none
        return False, set(others)
    sources = engine.reads(built)
    return engine.row_by_row(built, {"@events"}), {name for name in others if engine.reads(others[name]) & sources}


def _related_parts(tables: Tables, params: Params, problem: Problem) -> dict[str, set[tuple[str, str]]]:
    """Return, per partition of the events, the partitions of related tables in which a declared join finds rows."""
    main = tables[problem.table]
    result: dict[str, set[tuple[str, str]]] = {period: set() for period in engine.periods(f"{LAKE}/{problem.table}")}
    for join in params.joins:
        name, keys = f"{LAKE}/{join.table}", join.keys()
        parts = engine.periods(name)
        pairs = [(mine, part) for mine in result for part in parts]
        if join.as_of is not None:  # only rows from before the last event of a partition
            begun = {part: span[0] for part in parts if (span := engine.span(name, part, join.as_of))}
            lake, time = f"{LAKE}/{problem.table}", str(problem.time)
            ended = {mine: span[1] for mine in result if (span := engine.span(lake, mine, time))}
            pairs = [(mine, part) for mine in ended for part in begun if begun[part] <= ended[mine]]
        elif len(parts) > 1 and set(keys) <= set(main.columns):
            there = engine.read(main.get_backend(), name, numbered=True)
            there = there.select(there[PERIOD].name("@part"), *(there[key].name(f"@ {key}") for key in keys.values()))
            same = [main[mine] == there[f"@ {theirs}"] for mine, theirs in keys.items()]
            both = main.inner_join(there.distinct(), same).select(PERIOD, "@part").distinct()
            pairs = list(both.to_pandas().itertuples(index=False, name=None))
        for mine, part in pairs:
            result[mine].add((join.table, part))
    return result


def _periods_near(period: str, spans: Spans, back: pd.Timedelta) -> list[str]:
    if (own := spans[period]) is None:
        return [period]
    first = own[0] - back
    return [each for each, span in spans.items() if each == period or (span and span[1] >= first and span[0] <= own[1])]


def _state() -> dict[str, Any]:
    """Return the last run's record of each partition that still is as it was written."""
    folder = artifacts.path(FEATURES)
    try:
        periods = (artifacts.published(STATE) or {"periods": {}})["periods"]
        return {period: one for period, one in periods.items() if one["features"] == engine.fingerprint(folder, period)}
    except (DataError, TypeError, KeyError, AttributeError):  # not what a run writes
        return {}
