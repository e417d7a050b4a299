"""The proof that no feature sees the future: features are built again without it, and have to stay the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from ninefold import artifacts, engine
from ninefold.features.declarations import Params, kinds, windows
from ninefold.features.events import LAKE, assemble, build, read
from ninefold.features.histories import add_history
from ninefold.features.online import with_types_of
from ninefold.problem import Problem

PROOFS = (0.3, 0.6, 0.9)  # where in the sample the future is removed
ROWS = 10_000  # without time, so many rows are built again


def future_difference(events: ir.Table, table: ir.Table, sample: pd.DataFrame, params: Params, problem: Problem) -> int:
    """Return how many values at a few moments change when the future of each moment is removed.

    Removed are all later rows, and of the earlier ones every value that was not known at the decision: for history, the
    values in its windows; for ``project.features.build``, the target and the columns that stage 05 declares known later.
    Without time, the target is removed from all rows.
    """
    changed = _changed_history(events, table, sample, params, problem)
    return changed + _changed_build(table, sample, params, problem)


def _changed_history(events: ir.Table, table: ir.Table, sample: pd.DataFrame, params: Params, problem: Problem) -> int:
    every, time, changed = windows(params, problem.horizon), problem.time, 0
    for share in PROOFS if every else ():
        moment = sample[time].iloc[int(len(sample) * share)].to_pydatetime()
        first = moment - max(window.start for window in every)
        past = engine.settle(events.filter(events[time].between(first, moment)))
        now = table.filter(table[time] == moment).to_pandas()
        for end in dict.fromkeys(window.end for window in every):
            same_end, known = [window for window in every if window.end == end], past[time] <= moment - end
            rebuilt = add_history(_hide(past, [window.of for window in same_end], known), params, problem)
            names = [window.name for window in same_end]
            then = rebuilt.filter(rebuilt[time] == moment).select(*problem.key, *names).to_pandas()
            changed += _differing(now, then, names, problem)
    return changed


def _changed_build(table: ir.Table, sample: pd.DataFrame, params: Params, problem: Problem) -> int:
    """Return how many values other than history change; 0 if there is no lake to build them from again."""
    by_kind, time = kinds(params, problem.horizon), problem.time
    names = [name for name, kind in by_kind.items() if kind != "history" and name not in (time, *problem.key)]
    if not names or sample.empty or not engine.periods(f"{LAKE}/{problem.table}"):
        return 0
    connection = table.get_backend()
    tables, plain, changed = read(connection, problem), params.model_copy(update={"history": []}), 0
    for share in PROOFS if time else PROOFS[:1]:
        at = sample[time].iloc[int(len(sample) * share)].to_pydatetime() if time else None
        past = engine.settle(_without_future(tables[problem.table], at, problem))
        rebuilt = assemble(build({**tables, problem.table: past}, plain, problem), plain, problem)
        if time:
            now, rebuilt = table.filter(table[time] == at).to_pandas(), rebuilt.filter(rebuilt[time] == at)
        else:
            now = sample.head(ROWS)
            rebuilt = rebuilt.semi_join(engine.table(connection, now[problem.key]), problem.key)
        changed += _differing(now, rebuilt.to_pandas(), names, problem)
    return changed


def _without_future(main: ir.Table, at: datetime | None, problem: Problem) -> ir.Table:
    """Return the rows up to a moment, without the target and columns known later of events after the decision for it."""
    time, file = problem.time, "data/exploration.json"
    late = artifacts.read_json(file)["known_later"] if artifacts.path(file).is_file() else []
    columns = [name for name in [problem.target, *late] if name in main.columns and name not in (time, *problem.key)]
    if at is None:
        return _hide(main, columns, ibis.literal(False))
    main = main.filter(main[time] <= at)
    return _hide(main, columns, (main[time] <= at - pd.Timedelta(problem.horizon)) & (main[time] < at))


def _hide(table: ir.Table, columns: list[str], known: Any) -> ir.Table:
    """Return a table in which some columns are null where they are not known."""
    hidden = [ibis.cases((known, table[name]), else_=ibis.null()).name(name) for name in dict.fromkeys(columns)]
    return table.mutate(hidden) if hidden else table


def _differing(now: pd.DataFrame, then: pd.DataFrame, names: list[str], problem: Problem) -> int:
    """Return how many values of the same rows differ, and how many rows are in the first alone."""
    then = with_types_of(now, then, problem.key).rename(columns={name: f"@then {name}" for name in names})
    both = now.merge(then[[*problem.key, *(f"@then {name}" for name in names)]], on=problem.key)
    changed = len(now) - len(both)
    for name in names:
        one, other = both[name], both[f"@then {name}"]
        if pd.api.types.is_numeric_dtype(one):
            same = np.isclose(one, other.astype("float64"), rtol=1e-9, atol=1e-9, equal_nan=True)
        else:
            same = ((one == other) | (one.isna() & other.isna())).to_numpy(dtype=bool)
        changed += int((~same).sum())
    return changed
