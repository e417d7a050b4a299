"""Is it clean, typed and stored once?

Reads: ``data/raw/``, all text.
Writes: ``data/lake/``, typed Parquet partitions that keep the contract; ``data/quarantine/``, every other row, with
the rule it broke; ``data/state/processing.json``, of what each partition was made.
Gate: the data contract holds in the lake, no row is lost, the quarantined share is under its limit, and data is new.
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.ibis as pa
from pandera.errors import SchemaErrors
from pydantic import Field, model_validator

from ninefold import artifacts, collection, engine, gate, hooks
from ninefold.collection import datetimes
from ninefold.engine import PERIOD, ROW
from ninefold.errors import DataError, ParamsError
from ninefold.params import Name, Section
from ninefold.problem import Problem, decisions
from ninefold.processing import contract as contracts
from ninefold.processing.contract import RULE, Column, Contract
from ninefold.processing.lake import Lake, Places

RAW, LAKE, QUARANTINE, STATE = "data/raw", "data/lake", "data/quarantine", "data/state/processing.json"
EVENT = "@event"
EXAMPLES = 3
PLACES = Places(RAW, LAKE, QUARANTINE, STATE)


class Params(Section):
    """Section ``processing`` of ``params.yaml``."""

    missing: list[str]
    max_quarantined: float = Field(ge=0, le=1)
    tables: dict[Name, Contract] = Field(min_length=1)

    @model_validator(mode="after")
    def _referring(self) -> Params:
        contracts.in_order(self.tables)
        return self


def read(params: Params, connection: ibis.BaseBackend) -> dict[str, ir.Table]:
    """Return the raw tables, all text, lazily.

    Raises
    ------
    DataError
        If a table of the contract was not collected, or a file of it is not as it was collected.
    """
    raw = engine.tables(connection, RAW)
    if lost := [name for name in params.tables if name not in raw]:
        raise DataError(f"{RAW}: lacks {', '.join(lost)}, which processing.tables names; found {', '.join(raw)}")
    return {name: raw[name] for name in params.tables}


def convert(raw: dict[str, ir.Table], params: Params) -> dict[str, ir.Table]:
    """Give every column of the contract its type; a text that does not fit it breaks the rule ``<column>: not <type>``.

    Raises
    ------
    DataError
        If a table lacks a column of its contract that no function of ``project.processing`` derives.
    """
    return _refined(_typed(raw, params), raw, params)


def _typed(raw: dict[str, ir.Table], params: Params) -> dict[str, ir.Table]:
    return {name: contracts.convert(raw[name], params.tables[name], params.missing) for name in params.tables}


def _refined(typed: dict[str, ir.Table], raw: dict[str, ir.Table], params: Params) -> dict[str, ir.Table]:
    refine = hooks.project("processing", "refine", as_they_are)
    try:
        refined = refine(typed)
    except (AttributeError, KeyError, ibis.IbisError) as error:
        result = "; ".join(f"{name}: {', '.join(engine.columns(table))}" for name, table in raw.items())
        raise DataError(f"project.processing.refine: {error} not found; the raw tables have {result}") from None
    for name, contract in params.tables.items():
        columns = refined[name].columns if name in refined else ()
        if lost := [column for column in contract.columns if column not in columns]:
            raise DataError(
                f"{RAW}/{name}: lacks {', '.join(lost)}, which processing.tables.{name} expects; "
                f"found {', '.join(engine.columns(raw[name]))}; mend the names at the source, or the contract"
            )
        if lost := [column for column in (RULE, ROW, PERIOD) if column not in columns]:
            raise DataError(
                f"project.processing.refine: {name} lost {', '.join(lost)}, by which rows are told apart; return the "
                "tables with columns added, as `mutate` does, and none taken away"
            )
    return refined


def as_they_are(tables: dict[str, ir.Table]) -> dict[str, ir.Table]:
    """Return the typed tables: the default where ``project.processing.refine`` is absent."""
    return tables


def judge(
    typed: dict[str, ir.Table], params: Params, earlier: dict[str, ir.Table] | None = None
) -> dict[str, ir.Table]:
    """Return the tables with the columns of their contract and ``broken_rule``: the first rule a row breaks, or null.

    Parameters
    ----------
    typed : dict of str to Table
        What `convert` returned.
    params : Params
    earlier : dict of str to Table, optional
        Sound rows that came before, by table: their keys are taken, and references to them hold.
    """
    judged, sound, earlier = dict[str, ir.Table](), dict[str, ir.Table](), earlier or {}
    for name in contracts.in_order(params.tables):
        contract = params.tables[name]
        judged[name] = contracts.judge(typed[name], contract, sound, earlier.get(name))
        sound[name] = judged[name].filter(judged[name][RULE].isnull()).select(*contract.columns)
        if name in earlier:
            sound[name] = sound[name].union(earlier[name].select(*contract.columns).cast(sound[name].schema()))
    return {name: judged[name] for name in params.tables}


def update(params: Params, connection: ibis.BaseBackend) -> pd.DataFrame:
    """Bring lake and quarantine up to the raw partitions: what these made before is kept, only the rest is made.

    Made again are the partitions whose raw text, contract, code or engine changed, and those that a change elsewhere
    concerns: by a key that they share, or a reference. The result is the same as if all had been made anew.

    Returns
    -------
    DataFrame
        ``table``, ``raw``, ``lake``, ``quarantine`` (rows, int64).

    Raises
    ------
    DataError
        If a raw table or column is missing, or a raw file is not as it was collected.
    """
    raw = raw_sums(params)
    made = lake_of(PLACES, raw, params, connection).update()
    kept = sum(map(len, raw.values())) - made
    artifacts.note("processing", f"made {made} partition{'' if made == 1 else 's'}, kept {kept}")
    rows = [
        (name, engine.count(f"{RAW}/{name}"), engine.count(f"{LAKE}/{name}"), engine.count(f"{QUARANTINE}/{name}"))
        for name in params.tables
    ]
    return pd.DataFrame(rows, columns=["table", "raw", "lake", "quarantine"])


def lake_of(places: Places, raw: dict[str, dict[str, str]], params: Params, connection: ibis.BaseBackend) -> Lake:
    """Return the lake at some places, made of raw partitions by these params and ``project.processing``."""
    refine = hooks.project("processing", "refine", as_they_are)
    return Lake(
        places,
        params.tables,
        raw,
        give_types=lambda tables: _typed(tables, params),
        derive=lambda typed, tables: _refined(typed, tables, params),
        code=[hooks.digest(update, refine), params.missing],
        connection=connection,
    )


def raw_sums(params: Params) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of every raw partition, by table and period, each proved to be as it was collected.

    Raises
    ------
    DataError
        If a table of the contract was not collected, or a file of it is not as it was collected.
    """
    held = {(part.table, part.period): part.sha256 for part in collection.verified_manifest().itertuples()}
    result: dict[str, dict[str, str]] = {}
    for name in params.tables:
        files = engine.parts(f"{RAW}/{name}")
        if not files:
            there = sorted(place.name for place in artifacts.path(RAW).glob("*") if place.is_dir())
            raise DataError(f"{RAW}: lacks {name}, which processing.tables names; found {', '.join(there)}")
        result[name] = {file.stem: held.get((name, file.stem)) or artifacts.sha256(file) for file in files}
    return result


def check_problem(params: Params, problem: Problem) -> None:
    """Demand that the contract has what the problem names.

    Raises
    ------
    ParamsError
        If the contract lacks the table that the problem decides on, or a column that the problem names, or gives the
        problem's time another type than timestamp.
    """
    main, time = problem.table, problem.time
    if main not in params.tables:
        raise ParamsError(
            f"problem.table: found {main!r}, expected one of processing.tables: {', '.join(params.tables)}"
        )
    columns = params.tables[main].columns
    wanted = {"time": [time] if time else [], "target": [problem.target], "key": problem.key}
    for key, names in {**wanted, "group": problem.group or []}.items():
        if lost := [name for name in names if name not in columns]:
            raise ParamsError(f"problem.{key}: {', '.join(lost)} not among the columns of processing.tables.{main}")
    if time and (columns[time].type != "timestamp" or columns[time].nullable):
        raise ParamsError(
            f"processing.tables.{main}.columns.{time}: found {_baseline(columns[time])}, expected type timestamp, not "
            f"nullable, as it is problem.time; where the source counts it, set its format: {', '.join(datetimes.FORMATS)}"
        )


def broken_rules(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Return every rule and how many rows broke it: ``table``, ``column`` (None for several), ``rule``, ``rows``, ``examples``.

    The rules that were broken most often come first. The examples are the first three rows, each by its place in the raw
    partition and what identifies it, with the value that broke the rule; a text that did not fit its type is shown as the
    source wrote it.
    """
    result = []
    for name, contract in params.tables.items():
        counts, table = dict[str, int](), None
        if engine.parts(f"{QUARANTINE}/{name}"):
            table = engine.read(connection, f"{QUARANTINE}/{name}")
            counts = dict(table.group_by(RULE).agg(rows=table.count()).to_pandas().itertuples(index=False))
        for rule, column in contract.rules().items():
            examples = _examples(table, name, rule, column, params) if table is not None and rule in counts else ""
            result.append((name, column, rule, int(counts.get(rule, 0)), examples))
    # Of kind object, in which None stays None.
    frame = pd.DataFrame(result, columns=["table", "column", "rule", "rows", "examples"], dtype="object")
    return frame.astype({"rows": "int64"}).sort_values("rows", ascending=False, kind="stable", ignore_index=True)


def newest(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Return how new each table is that says how new it has to be.

    Returns
    -------
    DataFrame
        ``table``, ``column``, ``newest`` (timestamp, NaT of no rows), ``end`` of what was collected, ``hours`` from one to
        the other (float64), ``limit`` (hours).

    Raises
    ------
    ParamsError
        If nothing was collected by time.
    """
    rows = []
    for name, contract in params.tables.items():
        for column, within in contract.newest.items():
            end = _collected_until(name)
            last = pd.Timestamp(engine.read(connection, f"{LAKE}/{name}")[column].max().execute())
            hours = (end - last) / pd.Timedelta("1h")
            rows.append((name, column, last, end, hours, pd.Timedelta(within) / pd.Timedelta("1h")))
    return pd.DataFrame(rows, columns=["table", "column", "newest", "end", "hours", "limit"])


def schema(contract: Contract, stored: ibis.Schema) -> pa.DataFrameSchema:
    """Return the contract of a table, stored as a schema says, for pandera: to validate the lake independently of `judge`."""
    columns = {}
    for name, column in contract.columns.items():
        checks = []
        if column.min is not None and column.max is not None:
            checks.append(pa.Check.in_range(column.min, column.max))  # one query instead of two
        elif column.min is not None:
            checks.append(pa.Check.ge(column.min))
        elif column.max is not None:
            checks.append(pa.Check.le(column.max))
        if column.allowed is not None:
            checks.append(pa.Check.isin(column.allowed))
        # Engines name the same timestamp by other precisions.
        dtype = stored[name] if column.type == "timestamp" and stored[name].is_timestamp() else ibis.dtype(column.type)
        columns[name] = pa.Column(dtype, checks=checks, nullable=column.nullable)
    return pa.DataFrameSchema(columns, unique=contract.unique, strict=True)


def validate(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Validate every table of the lake against its contract by pandera: ``table``, ``columns``, ``failures``, ``first``."""
    rows = []
    for name, table in engine.tables(connection, LAKE).items():
        contract, failures, first = params.tables[name], 0, ""
        try:
            if engine.count(f"{LAKE}/{name}"):  # of no rows pandera finds every check failed
                schema(contract, table.schema()).validate(table, lazy=True)
        except SchemaErrors as error:
            failures = len(error.schema_errors)
            first = str(error.schema_errors[0])
        rows.append((name, len(contract.columns), failures, first or "none"))
    return pd.DataFrame(rows, columns=["table", "columns", "failures", "first failure"])


def missing_shares(connection: ibis.BaseBackend) -> pd.DataFrame:
    """Return the missing share of each column of the lake that misses any: ``table``, ``column``, ``missing`` (0-1)."""
    rows = []
    for name, table in engine.tables(connection, LAKE).items():
        shares = table.aggregate([table[column].isnull().mean().name(column) for column in table.columns])
        rows += [(name, column, float(share)) for column, share in shares.to_pandas().iloc[0].items() if share > 0]
    frame = pd.DataFrame(rows, columns=["table", "column", "missing"])
    return frame.sort_values(["missing", "table", "column"], ascending=[False, True, True], ignore_index=True)


def view(table: ir.Table, problem: Problem) -> ir.Table:
    """Return the table that is decided on with the column ``@event``: what its mean says is `decisions.level_name`."""
    known = decisions.outcome(table[problem.target], problem)
    if problem.is_class:
        happened = known == problem.classes.index(problem.focus)
        known = ibis.cases((known.notnull(), happened.cast("float64")))
    return table.mutate(known.name(EVENT))


def checks(
    counts: pd.DataFrame, validation: pd.DataFrame, broken: pd.DataFrame, fresh: pd.DataFrame, params: Params
) -> list[gate.Check]:
    """Return the gate: contract kept, nothing lost, quarantine small, no table empty, none too old.

    Where rows are why it fails, it also names the rule that was broken most often, with examples and the remedy.
    """
    lost = int((counts["raw"] - counts["lake"] - counts["quarantine"]).abs().sum())
    share = counts["quarantine"].sum() / max(counts["raw"].sum(), 1)
    results = [
        gate.at_most("contract failures in the lake", int(validation["failures"].sum()), 0),
        gate.at_most("rows neither in lake nor quarantine", lost, 0),
        gate.at_most("quarantined share", float(share), params.max_quarantined),
        gate.at_least("rows in the smallest table", int(counts["lake"].min()), 1),
    ]
    results += [
        gate.at_most(f"{row.table}.{row.column}: hours before the end that its newest is", row.hours, row.limit)
        for row in fresh.itertuples()
    ]
    if all(check.passed for check in results[2:4]) or not broken["rows"].any():
        return results
    return [*results, _worst(broken, counts, params)]


def metrics(counts: pd.DataFrame, shares: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    by_table = counts.set_index("table")
    return {
        "rows": by_table["lake"].to_dict(),
        "quarantined": by_table["quarantine"].to_dict(),
        "columns_with_gaps": len(shares),
    }


def headline(counts: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    return {"rows in the lake": f"{counts['lake'].sum():,}", "quarantined": f"{counts['quarantine'].sum():,}"}


def conclusion(counts: pd.DataFrame, validation: pd.DataFrame) -> str:
    """Return the bottom line."""
    kept, held = counts["lake"].sum(), counts["quarantine"].sum()
    state = "keep" if not validation["failures"].sum() else "do not keep"
    tables = "one table" if len(counts) == 1 else f"{len(counts)} tables"
    return f"{kept:,} rows in {tables} are typed, stored once and {state} their contract; quarantined: {held:,}."


def _worst(broken: pd.DataFrame, counts: pd.DataFrame, params: Params) -> gate.Check:
    """Return a failed check that names the rule broken most often, examples of it, and what to do."""
    worst = broken.loc[broken["rows"].idxmax()]
    total = counts.set_index("table")["raw"][worst["table"]]
    value = f"`{worst['rule']}` by {worst['rows']:,} of {total:,} rows of {worst['table']}, such as {worst['examples']}"
    return gate.holds("rule broken most often", False, value, _remedy(worst, params))


def _remedy(worst: pd.Series, params: Params) -> str:
    """Return what is expected of the values that broke a rule, and the params key that says otherwise."""
    contract, path = params.tables[worst["table"]], f"processing.tables.{worst['table']}"
    for number, reference in enumerate(contract.references):
        if worst["rule"] == reference.rule():
            return (
                f"values that stand in {reference.table}; collect the rows that it lacks, or leave out "
                f"{path}.references[{number}]"
            )
    if worst["column"] is None:
        return f"rows that differ in {path}.unique; name more columns there, or drop the copies at the source"
    column, path = contract.columns[worst["column"]], f"{path}.columns.{worst['column']}"
    what = worst["rule"].removeprefix(f"{worst['column']}: ")
    if what == f"not {column.type}":
        keys = "format" if column.type == "timestamp" else "decimal and thousands"
        return (
            f"{contracts.written(column)}; set {path}.{keys} to how the source writes them, or add the texts "
            "that mean not known to processing.missing"
        )
    if what == "missing":
        return f"a value in every row; if it may be missing, set {path}.nullable: true"
    key = "allowed" if what == "not allowed" else "min" if what.startswith("under ") else "max"
    bound = getattr(column, key)
    limit = ", ".join(map(str, bound)) if isinstance(bound, list) else f"{bound:g}"
    return f"values within {key} {limit}; if these are sound, widen {path}.{key}, else mend the source"


def _baseline(column: Column) -> str:
    return f"type {column.type}" + (", nullable" if column.nullable else "")


def _collected_until(name: str) -> pd.Timestamp:
    manifest = collection.manifest()
    ends = pd.to_datetime(manifest["end"].replace("", None))
    end = ends[manifest["table"] == name].max()
    end = ends.max() if pd.isna(end) else end
    if pd.isna(end):
        raise ParamsError(
            f"processing.tables.{name}.newest: nothing was collected by time, so that no end is known; state "
            "collection.tables.<table>.time, or leave `newest` out"
        )
    return end


def _examples(table: ir.Table, name: str, rule: str, column: str | None, params: Params) -> str:
    """Return the first rows that broke a rule, as a text."""
    contract = params.tables[name]
    referring = [key for one in contract.references if one.rule() == rule for key in list(one.keys())]
    shown = list(dict.fromkeys([*contract.unique, *([column] if column else referring)]))
    broke = table.filter(table[RULE] == rule).order_by(["raw_period", "raw_row"]).limit(EXAMPLES)
    rows = broke.select("raw_period", "raw_row", *shown).to_pandas()
    if column and rule == f"{column}: not {contract.columns[column].type}":
        return "; ".join(_as_written(row, name, shown) for row in rows.itertuples())
    return "; ".join(
        f"{_place(row['raw_row'], row['raw_period'])}: {_shown({key: row[key] for key in shown})}"
        for row in rows.to_dict("records")
    )


def _as_written(row: Any, name: str, shown: list[str]) -> str:
    """Return a row as the source wrote it."""
    raw = artifacts.read_table(f"{RAW}/{name}/{row.raw_period}.parquet").iloc[row.raw_row - 1]
    return f"{_place(row.raw_row, row.raw_period)}: {_shown({key: raw[key] for key in shown if key in raw})}"


def _place(row: int, period: str) -> str:
    return f"row {row:,}" + ("" if period == collection.WHOLE else f" of {period}")


def _shown(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'missing' if pd.isna(value) else value}" for name, value in row.items())
