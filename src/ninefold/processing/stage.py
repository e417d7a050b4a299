"""Is it clean, typed and stored once?

Reads: ``data/raw/``, all text.
Writes: ``data/lake/``, typed Parquet partitions that keep the contract; ``data/quarantine/``, every other row, with
the rule it broke; ``data/state/processing.json``, of what each partition was made.
Gate: the data contract holds in the lake, no row is lost, the quarantined share of each table is under the limit, and
data is new.
"""

from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from ninefold import artifacts, collection, engine, gate
from ninefold.collection import datetimes
from ninefold.errors import DataError, ParamsError
from ninefold.problem import Problem
from ninefold.processing import contract as contracts
from ninefold.processing.contract import RULE, Contract, Params, Tables
from ninefold.processing.lake import Lake, Places, derive
from ninefold.sentences import render

RAW, LAKE, QUARANTINE, STATE = "data/raw", "data/lake", "data/quarantine", "data/state/processing.json"
EXAMPLES = 3
PLACES = Places(RAW, LAKE, QUARANTINE, STATE)


def read(params: Params, connection: ibis.BaseBackend) -> Tables:
    """Return the raw tables, all text, lazily; raise `DataError` if a table of the contract was not collected."""
    return {name: engine.read(connection, f"{RAW}/{name}") for name in _raw_files(params)}


def convert(raw: Tables, params: Params) -> Tables:
    """Give the contract's columns their types; text that does not fit breaks the rule ``<column>: not <type>``."""
    return derive(raw, params)[1]


def judge(typed: Tables, params: Params, earlier: Tables | None = None) -> Tables:
    """Return the contract's columns with ``broken_rule``, null or the first; keys of `earlier` sound rows are taken."""
    checked, sound, earlier = Tables(), Tables(), earlier or {}
    for name in contracts.in_order(params.tables):
        contract = params.tables[name]
        checked[name] = contracts.judge(typed[name], contract, sound, earlier.get(name))
        sound[name] = checked[name].filter(checked[name][RULE].isnull()).select(*contract.columns)
        if name in earlier:
            sound[name] = sound[name].union(earlier[name].select(*contract.columns).cast(sound[name].schema()))
    return {name: checked[name] for name in params.tables}


def update(params: Params, connection: ibis.BaseBackend) -> pd.DataFrame:
    """Bring lake and quarantine up to the raw partitions; return ``table``, ``raw``, ``lake``, ``quarantine`` (rows, int64).

    Only what a change concerns is made again, see `lake.Lake.update`. Raises `DataError` if a raw table or column is missing, or a raw file is not as it was collected.
    """
    known = {(part.table, part.period): part.sha256 for part in collection.verified_manifest().itertuples()}
    raw = dict[str, dict[str, str]]()
    for name, files in _raw_files(params).items():
        raw[name] = {file.stem: known.get((name, file.stem)) or artifacts.sha256(file) for file in files}
    new = Lake(PLACES, raw, params, connection).update()
    unchanged = sum(map(len, raw.values())) - new
    artifacts.note("processing", f"made {new} partition{'' if new == 1 else 's'}, kept {unchanged}")
    return PLACES.counts(params.tables)


def _raw_files(params: Params) -> dict[str, list[Path]]:
    """Return the raw partitions of every table; raise `DataError` if a table of the contract was not collected."""
    files = {name: engine.parts(f"{RAW}/{name}") for name in params.tables}
    if lost := [name for name, parts in files.items() if not parts]:
        there = sorted(place.name for place in artifacts.path(RAW).glob("*") if place.is_dir())
        tables = f"found {', '.join(there) or 'nothing; run `dvc repro`'}"
        raise DataError(f"{RAW}: lacks {', '.join(lost)}, which processing.tables names; {tables}")
    return files


def check_problem(params: Params, problem: Problem) -> None:
    """Raise `ParamsError` if the contract lacks the table or a column of the problem, or its time is no timestamp."""
    main, time = problem.table, problem.time
    if main not in params.tables:
        known = ", ".join(params.tables)
        raise ParamsError(f"problem.table: found {main!r}, expected one of processing.tables: {known}")
    columns = params.tables[main].columns
    roles = {"time": [time] if time else [], "target": [problem.target], "key": problem.key}
    for key, names in {**roles, "group": problem.group or []}.items():
        if lost := [name for name in names if name not in columns]:
            raise ParamsError(f"problem.{key}: {', '.join(lost)} not among the columns of processing.tables.{main}")
    if time and (columns[time].type != "timestamp" or columns[time].nullable):
        facts = {"table": main, "name": time, "column": columns[time], "formats": datetimes.FORMATS}
        raise ParamsError(render("processing", "no_timestamp", **facts))


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
    """Return how new each table is that says how new it has to be; raise `ParamsError` if nothing was collected by time.

    ``table``, ``column``, ``newest`` (timestamp, NaT of no rows), ``end`` of what was collected, ``hours`` from one to the
    other (float64), ``limit`` (hours).
    """
    rows, manifest, hour = [], collection.manifest(), pd.Timedelta("1h")
    ends = pd.to_datetime(manifest["end"].replace("", None))
    for name, contract in params.tables.items():
        own = ends[manifest["table"] == name]
        end = (own if own.notna().any() else ends).max()
        for column, within in contract.newest.items():
            if pd.isna(end):
                raise ParamsError(render("processing", "no_end", table=name))
            last = pd.Timestamp(engine.read(connection, f"{LAKE}/{name}")[column].max().execute())
            rows.append((name, column, last, end, (end - last) / hour, pd.Timedelta(within) / hour))
    return pd.DataFrame(rows, columns=["table", "column", "newest", "end", "hours", "limit"])


def validate(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Check every row of the lake, as it is stored, against the whole contract once more.

    Returns ``table``, ``columns``, ``copies`` (rows equal to another in all but the key) and ``failures`` (int64: rows that
    break a rule, columns missing or of another type), ``first failure``.
    """
    stored = {name: engine.read(connection, f"{LAKE}/{name}", numbered=True) for name in params.tables}
    wrong: dict[str, list[str]] = {}
    for name, contract in params.tables.items():
        kinds = {column: str(kind).partition("(")[0] for column, kind in stored[name].schema().items()}
        types = {column: kinds.get(column, "missing") for column in contract.columns}
        wrong[name] = [f"{column} is {kind}" for column, kind in types.items() if kind != contract.columns[column].type]
    for name, table in stored.items() if not any(wrong.values()) else ():
        checked = contracts.judge(table.mutate(ibis.null("string").name(RULE)), params.tables[name], stored)
        wrong[name] = checked.filter(checked[RULE].notnull())[RULE].to_pandas().tolist()
    rows = []
    for name, contract in params.tables.items():
        first, table = [*wrong[name], "none"][0], stored[name]
        content = [column for column in contract.columns if column not in contract.unique and column in table.columns]
        copies = table.count().execute() - table[content].distinct().count().execute() if content else 0
        rows.append((name, len(contract.columns), copies, len(wrong[name]), first))
    return pd.DataFrame(rows, columns=["table", "columns", "copies", "failures", "first failure"])


def checks(
    counts: pd.DataFrame, validation: pd.DataFrame, broken: pd.DataFrame, params: Params, *, newest: pd.DataFrame
) -> list[gate.Check]:
    """Return the gate: contract kept, nothing lost, quarantine of each table small, no table empty, none too old.

    Where rows are why it fails, it also names each table over the limit, and the rule that rows of these, or of empty ones,
    broke most often, with examples and the remedy.
    """
    lost = int((counts["raw"] - counts["lake"] - counts["quarantine"]).abs().sum())
    share = counts["quarantine"].sum() / max(counts["raw"].sum(), 1)
    shares = (counts["quarantine"] / counts["raw"].clip(lower=1)).set_axis(counts["table"])
    over, most = shares[shares > params.max_quarantined], params.max_quarantined
    results = [
        gate.at_most("NF301 contract failures in the lake", int(validation["failures"].sum()), 0),
        gate.at_most("NF302 rows neither in lake nor quarantine", lost, 0),
        gate.at_most("NF303 quarantined share", float(share), most),
        *(gate.at_most(f"NF303 quarantined share of {name}", float(each), most) for name, each in over.items()),
        gate.at_least("NF304 rows in the smallest table", int(counts["lake"].min()), 1),
    ]
    for row in newest.itertuples():
        name = f"NF305 {row.table}.{row.column}: hours before the end that its newest is"
        results.append(gate.at_most(name, row.hours, row.limit))
    failing = broken[broken["table"].isin([*over.index, *counts.loc[counts["lake"] < 1, "table"]])]
    if failing["rows"].any():
        worst = failing.loc[failing["rows"].idxmax()]
        total = counts.set_index("table")["raw"][worst["table"]]
        remedy = params.tables[worst["table"]].remedy(worst["rule"], worst["table"])
        rows = f"{worst['rows']:,} of {total:,} rows of {worst['table']}, such as {worst['examples']}"
        results.append(gate.holds("NF306 rule broken most often", False, f"`{worst['rule']}` by {rows}", remedy))
    return results


def metrics(counts: pd.DataFrame, missing: pd.Series) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``; `missing` are the shares of missing values of all columns."""
    rows, bad = (counts.set_index("table")[name].to_dict() for name in ("lake", "quarantine"))
    return {"rows": rows, "quarantined": bad, "columns_with_gaps": int((missing > 0).sum())}


def headline(counts: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    return {"rows in the lake": f"{counts['lake'].sum():,}", "quarantined": f"{counts['quarantine'].sum():,}"}


def conclusion(counts: pd.DataFrame, validation: pd.DataFrame) -> str:
    """Return the conclusion of the stage."""
    return render("processing", "conclusion", counts=counts, valid=not validation["failures"].sum())


def _examples(table: ir.Table, name: str, rule: str, column: str | None, params: Params) -> str:
    """Return the first rows that broke a rule, as a text."""
    contract = params.tables[name]
    referring = [key for one in contract.references if one.rule() == rule for key in list(one.keys())]
    shown = list(dict.fromkeys([*contract.unique, *([column] if column else referring)]))
    first = table.filter(table[RULE] == rule).order_by(["raw_period", "raw_row"]).limit(EXAMPLES)
    examples = []
    for typed in first.select("raw_period", "raw_row", *shown).to_pandas().to_dict("records"):
        period, row = typed["raw_period"], typed["raw_row"]
        is_text = column and rule == f"{column}: not {contract.columns[column].type}"
        values = artifacts.read_table(f"{RAW}/{name}/{period}.parquet").iloc[row - 1].to_dict() if is_text else typed
        of = "" if period == collection.WHOLE else f" of {period}"
        texts = [f"{key} {'missing' if pd.isna(values[key]) else values[key]}" for key in shown if key in values]
        examples.append(f"row {row:,}{of}: {', '.join(texts)}")
    return "; ".join(examples)


def left_out(raw: Tables, params: Params) -> str:
    """Return, as a sentence, the raw columns that no contract names and the lake therefore does not hold."""
    extra = {name: [each for each in raw[name].columns if each not in params.tables[name].columns] for name in raw}
    return render("processing", "left_out", extra={name: names for name, names in extra.items() if names})


def promises(contract: Contract) -> pd.DataFrame:
    """Return the contract of one table for reading: ``column``, ``type``, ``may be missing``, ``values``."""
    rows = []
    for name, column in contract.columns.items():
        bounds = {"at least": column.min, "at most": column.max}
        values = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        values += ["one of " + ", ".join(map(str, column.allowed))] if column.allowed else []
        values += [column.written()] if column.format or column.decimal or column.thousands else []
        values += [f"{alias!r} stands for {meant or 'not known'}" for alias, meant in column.aliases.items()]
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])
