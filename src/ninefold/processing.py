"""Is it clean, typed and stored once?

Reads: ``data/raw/``, all text.
Writes: ``data/lake/``, typed Parquet partitions that keep the contract; ``data/quarantine/``, every other row, with
the rule it broke.
Gate: the data contract holds in the lake, no row is lost, and the quarantined share is under its limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.ibis as pa
from matplotlib.figure import Figure
from pandera.errors import SchemaErrors
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ninefold import collection
from ninefold.core import decisions, engine, gate, hooks, io, plots, show
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.params import Name, Section, Text

RAW, LAKE, QUARANTINE = "data/raw", "data/lake", "data/quarantine"
RULE = "broken_rule"
EVENT = "@event"
EXAMPLES = 3
SPACES = " \u00a0\u2009\u202f"  # all that stand between thousands where a space does


@ibis.udf.scalar.builtin
def regexp_full_match(text: str, pattern: str) -> bool:  # type: ignore[empty-body]
    """Return whether a whole text has a pattern (DuckDB)."""


class Column(Section):
    """What one column promises: its type and how the source writes it, whether it may be missing, and its bounds."""

    type: Literal["string", "int64", "float64", "timestamp"]
    format: Text | None = None
    decimal: str | None = Field(default=None, min_length=1, max_length=1)
    thousands: str | None = Field(default=None, min_length=1, max_length=1)
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    allowed: list[str | int | float] | None = Field(default=None, min_length=1)

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    @field_validator("format")
    @classmethod
    def _format(cls, value: str | None) -> str | None:
        return value if value is None else engine.known_format(value)

    @model_validator(mode="after")
    def _written(self) -> Column:
        if self.format and self.type != "timestamp":
            raise ValueError(f"no format for type {self.type}; it tells how a timestamp is written")
        if (self.decimal or self.thousands) and self.type not in ("int64", "float64"):
            raise ValueError(f"no decimal or thousands for type {self.type}; they tell how a number is written")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError(f"decimal and thousands to differ, found {self.thousands!r} for both")
        return self

    @model_validator(mode="after")
    def _coherent(self) -> Column:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min <= max, found {self.min:g} > {self.max:g}")
        if self.type in ("string", "timestamp") and (self.min is not None or self.max is not None):
            raise ValueError(f"no min or max for type {self.type}; they bound numbers")
        return self


class Contract(Section):
    """What one table promises: the columns that identify a row, and what each column holds."""

    unique: list[Name] = Field(min_length=1)
    columns: dict[Name, Column] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Contract:
        if unknown := [name for name in self.unique if name not in self.columns]:
            raise ValueError(f"unique to name columns of the contract; {', '.join(unknown)} is none")
        if taken := [name for name in self.columns if name.lower() == RULE or name.startswith("@")]:
            raise ValueError(f"other names than {', '.join(taken)}, which the quarantine and the engine use")
        return self


class Params(Section):
    """Section ``processing`` of ``params.yaml``."""

    missing: list[str]
    max_quarantined: float = Field(ge=0, le=1)
    tables: dict[Name, Contract] = Field(min_length=1)


def read(params: Params, connection: ibis.BaseBackend) -> dict[str, ir.Table]:
    """Return the raw tables, all text, lazily.

    Raises
    ------
    DataError
        If a table of the contract was not collected, or a file of it is not as it was collected.
    """
    collection.held()  # proves every partition by its checksum
    raw = engine.tables(connection, RAW)
    if lost := [name for name in params.tables if name not in raw]:
        raise DataError(f"{RAW}: lacks {', '.join(lost)}, which processing.tables names; found {', '.join(raw)}")
    return {name: raw[name] for name in params.tables}


def convert(raw: dict[str, ir.Table], params: Params) -> dict[str, ir.Table]:
    """Give every column of the contract its type; a text that does not fit it breaks the rule ``<column>: type``.

    Raises
    ------
    DataError
        If a table lacks a column of its contract that no function of ``project.processing`` derives.
    """
    refine = hooks.project("processing", "refine", lambda tables: tables)
    typed = {name: _convert(raw[name], params.tables[name], params.missing) for name in params.tables}
    try:
        refined = refine(typed)
    except (AttributeError, KeyError, ibis.IbisError) as error:
        found = "; ".join(f"{name}: {', '.join(table.columns)}" for name, table in raw.items())
        raise DataError(f"project.processing.refine: {error} not found; the raw tables have {found}") from None
    for name, contract in params.tables.items():
        columns = refined[name].columns if name in refined else ()
        if lost := [column for column in contract.columns if column not in columns]:
            raise DataError(
                f"{RAW}/{name}: lacks {', '.join(lost)}, which processing.tables.{name} expects; "
                f"found {', '.join(raw[name].columns)}"
            )
    return refined


def judge(typed: dict[str, ir.Table], params: Params) -> dict[str, ir.Table]:
    """Return the tables with the columns of their contract and ``broken_rule``: the first rule a row breaks, or null.

    Of rows with the same key the first sound one is kept; the others break the rule ``unique: <key>``.
    """
    judged = {}
    for name, contract in params.tables.items():
        table = typed[name]
        broken = [(table[RULE].notnull(), table[RULE])]
        broken += [(condition, ibis.literal(rule)) for rule, condition in rules(table, contract)]
        table = table.mutate(ibis.cases(*broken).name(RULE))
        # Any order will do that repeats; that of a hash needs no sorting by hundreds of columns.
        content = ibis.struct({column: table[column] for column in contract.columns}).hash()
        copies = ibis.row_number().over(group_by=[*contract.unique, RULE], order_by=content)
        twice = table[RULE].isnull() & (copies > 0), ibis.literal(f"unique: {', '.join(contract.unique)}")
        judged[name] = table.select(*contract.columns, ibis.cases(twice, else_=table[RULE]).name(RULE))
    return judged


def rules(table: ir.Table, contract: Contract) -> Iterator[tuple[str, ir.BooleanValue]]:
    """Yield each rule on values as its name and the condition under which a row breaks it."""
    for name, column in contract.columns.items():
        value = table[name]
        if not column.nullable:
            yield f"{name}: missing", value.isnull()
        if column.min is not None:
            yield f"{name}: under {column.min:g}", value < column.min
        if column.max is not None:
            yield f"{name}: over {column.max:g}", value > column.max
        if column.allowed is not None:
            yield f"{name}: not allowed", value.notnull() & value.notin(column.allowed)


def write(judged: dict[str, ir.Table], params: Params, times: dict[str, str | None]) -> pd.DataFrame:
    """Write lake and quarantine, in a fixed order, so that the same raw data gives the same bytes.

    Parameters
    ----------
    judged : dict of str to Table
    params : Params
    times : dict of str to str or None
        Per table, the timestamp column that decides its monthly partition.

    Returns
    -------
    DataFrame
        ``table``, ``raw``, ``lake``, ``quarantine`` (rows, int64).
    """
    lake, quarantine = io.output(LAKE), io.output(QUARANTINE)
    # Never empty, of which DVC would warn at every run.
    io.write_text("Rows that broke their contract, each with the first rule it broke.\n", quarantine / "README.txt")
    rows = []
    for name, contract in params.tables.items():
        table = judged[name].cache()
        good, bad = table.filter(table[RULE].isnull()).drop(RULE), table.filter(table[RULE].notnull())
        kept = engine.write(good, lake / name, contract.unique, times.get(name))
        held = int(bad.count().execute())
        if held:
            engine.write(bad, quarantine / name, list(dict.fromkeys([RULE, *contract.unique, *contract.columns])))
        rows.append((name, engine.count(f"{RAW}/{name}"), kept, held))
    return pd.DataFrame(rows, columns=["table", "raw", "lake", "quarantine"])


def partition_columns(params: Params, stated: dict[str, Any]) -> dict[str, str | None]:
    """Return, per table, the timestamp by which it is partitioned: the problem's time, or one of its key, or None.

    Raises
    ------
    ParamsError
        If the contract lacks the table that the problem decides on, or a column that the problem names, or gives the
        problem's time another type than timestamp.
    """
    main, time = stated["table"], stated["time"]
    if main not in params.tables:
        raise ParamsError(
            f"problem.table: found {main!r}, expected one of processing.tables: {', '.join(params.tables)}"
        )
    columns = params.tables[main].columns
    wanted = {"time": [time] if time else [], "target": [stated["target"]], "key": stated["key"]}
    for key, names in {**wanted, "group": stated.get("group") or []}.items():
        if lost := [name for name in names if name not in columns]:
            raise ParamsError(f"problem.{key}: {', '.join(lost)} not among the columns of processing.tables.{main}")
    if time and (columns[time].type != "timestamp" or columns[time].nullable):
        raise ParamsError(
            f"processing.tables.{main}.columns.{time}: found {_promise(columns[time])}, expected type timestamp, not "
            f"nullable, as it is problem.time; where the source counts it, set its format: {', '.join(engine.FORMATS)}"
        )
    found = {}
    for name, contract in params.tables.items():
        stamps = [column for column in contract.unique if contract.columns[column].type == "timestamp"]
        found[name] = time if name == main and time else next(iter(stamps), None)
    return found


def promises(contract: Contract) -> pd.DataFrame:
    """Return the contract of one table for reading: ``column``, ``type``, ``may be missing``, ``values``."""
    rows = []
    for name, column in contract.columns.items():
        bounds = {"at least": column.min, "at most": column.max}
        values = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        values += ["one of " + ", ".join(map(str, column.allowed))] if column.allowed else []
        values += [_written(column)] if column.format or column.decimal or column.thousands else []
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])


def describe_counts(counts: pd.DataFrame) -> str:
    """Return where the raw rows went, as a sentence."""
    raw, kept, held = (int(counts[name].sum()) for name in ("raw", "lake", "quarantine"))
    return (
        f"Of {raw:,} raw rows, {kept:,} are in the lake and {held:,} in quarantine ({100 * held / max(raw, 1):.2g} %)."
    )


def broken_rules(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Return how many rows broke which rule: ``table``, ``column`` (None for uniqueness), ``rule``, ``rows``, ``examples``.

    The examples are the first three rows, each by what identifies it, with the value that broke the rule; a text that
    did not fit its type is shown as the source wrote it.
    """
    found = []
    for name, table in engine.tables(connection, QUARANTINE).items():
        contract = params.tables[name]
        columns = {rule: column for column in contract.columns for rule in _rules_of(column, contract.columns[column])}
        counts = table.group_by(RULE).agg(rows=table.count()).order_by(RULE).to_pandas()
        for rule, rows in counts.itertuples(index=False):
            column = columns.get(rule)
            shown = list(dict.fromkeys([*contract.unique, *([column] if column else [])]))
            raw = _misfits(connection, name, column, params) if column and rule.startswith(f"{column}: not ") else []
            held = table.filter(table[RULE] == rule).order_by(shown).limit(EXAMPLES).select(shown)
            examples = raw or [_shown(row) for row in held.to_pandas().to_dict("records")]
            found.append((name, column, rule, rows, "; ".join(examples)))
    return pd.DataFrame(found, columns=["table", "column", "rule", "rows", "examples"])


def describe_broken(broken: pd.DataFrame) -> str:
    """Return what is held back and why, in words."""
    if broken.empty:
        return "Every row keeps its contract; the quarantine is empty."
    worst = broken.loc[broken["rows"].idxmax()]
    return (
        f"Rows held back: {broken['rows'].sum():,}. The rule broken most often is {show.code(worst['rule'])}, "
        f"in table {show.code(worst['table'])} ({worst['rows']:,} of them)."
    )


def schema(contract: Contract) -> pa.DataFrameSchema:
    """Return the contract of a table as a pandera schema, for validating the lake independently of `judge`."""
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
        dtype = ibis.dtype("timestamp(6)" if column.type == "timestamp" else column.type)
        columns[name] = pa.Column(dtype, checks=checks, nullable=column.nullable)
    return pa.DataFrameSchema(columns, unique=contract.unique, strict=True)


def validate(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Validate every table of the lake against its contract by pandera: ``table``, ``columns``, ``failures``, ``first``."""
    rows = []
    for name, table in engine.tables(connection, LAKE).items():
        contract, failures, first = params.tables[name], 0, ""
        try:
            if engine.count(f"{LAKE}/{name}"):  # of no rows pandera finds every check failed
                schema(contract).validate(table, lazy=True)
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


def left_out(raw: dict[str, ir.Table], params: Params) -> str:
    """Return, as a sentence, the raw columns that no contract names and the lake therefore does not hold."""
    extra = {name: [c for c in raw[name].columns if c not in params.tables[name].columns] for name in raw}
    parts = [f"{show.code(name)}: {', '.join(map(show.code, columns))}" for name, columns in extra.items() if columns]
    if not parts:
        return "Every raw column is part of a contract."
    return "Raw columns that no contract names stay in `data/raw` only. " + "; ".join(parts) + "."


def plot_missing(shares: pd.DataFrame) -> Figure:
    """Draw the missing share of the columns that miss any."""
    top = shares.head(20)
    fig, axes = plots.canvas("Which columns have gaps?", height=max(2.0, 0.28 * len(top) + 1))
    axes.barh((top["table"] + "." + top["column"]).map(plots.plain), top["missing"], color=plots.BLUE)
    axes.invert_yaxis()
    axes.set(xlabel="share of rows without a value")
    axes.grid(axis="y", visible=False)
    plots.as_share(axes, "x")
    return fig


def describe_missing(shares: pd.DataFrame) -> str:
    """Return what the figure of gaps shows, in words."""
    if shares.empty:
        return "No column of the lake has a gap."
    worst = shares.iloc[0]
    few = (shares["missing"] < 0.05).sum()
    return (
        f"{len(shares):,} {'columns have' if len(shares) > 1 else 'column has'} gaps; the widest is {show.code(worst['table'] + '.' + worst['column'])} with "
        f"{worst['missing']:.1%} missing, and {few} of them miss less than 5 %."
    )


def view(table: ir.Table, stated: dict[str, Any]) -> ir.Table:
    """Return the table that is decided on with the column ``@event``: what its mean says is `decisions.level_name`."""
    known = decisions.outcome(table[stated["target"]], stated)
    if decisions.is_class(stated):
        happened = known == stated["classes"].index(stated["focus"])
        known = ibis.cases((known.notnull(), happened.cast("float64")))
    return table.mutate(known.name(EVENT))


def query(stated: dict[str, Any]) -> str:
    """Return a question to the lake in SQL: the target by month; without a time by class, or by tenths of a quantity."""
    table, target = _quoted(stated["table"]), _quoted(stated["target"])
    if stated["time"]:
        return (
            f"SELECT strftime({_quoted(stated['time'])}, '%Y-%m') AS month, count(*) AS rows, "
            f'avg("{EVENT}") AS level\nFROM {table} GROUP BY 1 ORDER BY 1'
        )
    if decisions.is_class(stated):
        return (
            f"SELECT CAST({target} AS VARCHAR) AS class, count(*) AS rows, "
            f"count(*) / sum(count(*)) OVER () AS share\nFROM {table} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
    return (
        "SELECT tenth, count(*) AS rows, min(value) AS lowest, avg(value) AS mean, max(value) AS highest\n"
        f"FROM (SELECT {target} AS value, ntile(10) OVER (ORDER BY {target}) AS tenth FROM {table} "
        f"WHERE {target} IS NOT NULL)\nGROUP BY 1 ORDER BY 1"
    )


def query_caption(stated: dict[str, Any]) -> str:
    """Return the caption of the answer to `query`."""
    units = stated["units"].capitalize()
    if stated["time"]:
        return f"{units} per month; level: {decisions.level_name(stated)}"
    how = "class" if decisions.is_class(stated) else "tenth"
    return f"{units} by {how} of {stated['target']}"


def describe_answer(answer: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return what the answer to `query` says, in words."""
    known = answer.dropna(subset=[answer.columns[-1]])
    target = show.code(stated["target"])
    if known.empty or ("class" in answer and answer["class"].isna().all()):
        return f"The target {target} is not known of any of the {stated['units']}."
    if "level" in answer:
        low, high = known.loc[known["level"].idxmin()], known.loc[known["level"].idxmax()]
        shown = [decisions.show_level(row["level"], stated) for row in (low, high)]
        return (
            f"The {decisions.level_name(stated)} of the {stated['units']} is {shown[0]} in {low['month']}, the lowest "
            f"month, and {shown[1]} in {high['month']}, the highest."
        )
    if "class" in answer:
        known = answer.dropna(subset=["class"])
        least, most = known.iloc[-1], known.iloc[0]
        gap = answer["rows"].sum() - known["rows"].sum()
        return (
            f"Of the {stated['units']}, {most['share']:.1%} have {target} = {show.code(most['class'])}, the most frequent class, and "
            f"{least['share']:.1%} {show.code(least['class'])}, the rarest."
            + (f" It is not known of {gap:,}." if gap else "")
        )
    return (
        f"The lowest tenth of {target} reaches from {known['lowest'].iloc[0]:,.4g} to "
        f"{known['highest'].iloc[0]:,.4g}, the highest from {known['lowest'].iloc[-1]:,.4g} to "
        f"{known['highest'].iloc[-1]:,.4g}, in rows of equal number."
    )


def grouping(contract: Contract, stated: dict[str, Any]) -> str:
    """Return a column to compare rows by: the first of text that is neither target nor the whole key, else any other."""
    taken = {"rows", "level", stated["target"], stated["time"], *(stated["key"] if len(stated["key"]) == 1 else [])}
    other = [name for name in contract.columns if name not in taken]
    texts = [name for name in other if contract.columns[name].type == "string"]
    return next(iter([*texts, *other, *stated["key"]]))


def checks(counts: pd.DataFrame, validation: pd.DataFrame, broken: pd.DataFrame, params: Params) -> list[gate.Check]:
    """Return the gate: contract kept, nothing lost, quarantine small, no table empty.

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
    if all(check.passed for check in results[2:]) or broken.empty:
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


def verdict(counts: pd.DataFrame, validation: pd.DataFrame) -> str:
    """Return the bottom line."""
    kept, held = counts["lake"].sum(), counts["quarantine"].sum()
    state = "keep" if not validation["failures"].sum() else "do not keep"
    tables = "one table" if len(counts) == 1 else f"{len(counts)} tables"
    return f"{kept:,} rows in {tables} are typed, stored once and {state} their contract; held back: {held:,}."


def _convert(raw: ir.Table, contract: Contract, missing: list[str]) -> ir.Table:
    """Cast the columns that the raw table has; keep in ``broken_rule`` the first text that does not fit its type."""
    typed, broken = [], []
    for name, column in contract.columns.items():
        if name not in raw.columns:
            continue
        text = _known(raw[name], missing)
        value = _cast(text, column)
        typed.append(value.name(name))
        if column.type != "string":
            broken.append((text.notnull() & value.isnull(), ibis.literal(f"{name}: not {column.type}")))
    rule = ibis.cases(*broken) if broken else ibis.null("string")
    return raw.mutate(*typed, rule.name(RULE))


def _known(text: ir.StringValue, missing: list[str]) -> ir.StringValue:
    return ibis.cases((text.isin(missing), ibis.null("string")), else_=text) if missing else text


def _cast(text: ir.StringValue, column: Column) -> ir.Value:
    """Return the text as a value of its type, null where it is none."""
    if column.type == "string":
        return text
    if column.type == "timestamp":
        return engine.moment(text, column.format)
    text = _plain_number(text, column)
    value = text.try_cast(column.type)
    if column.type == "int64":  # DuckDB rounds "1.7" to 2
        return ibis.cases((value.cast("float64") == text.try_cast("float64"), value))
    return ibis.cases((~(value.isnan() | value.isinf()), value))  # "nan" and "inf" are no numbers


def _plain_number(text: ir.StringValue, column: Column) -> ir.StringValue:
    """Return numbers as the engine reads them, null where a text has not the signs that the contract states."""
    if not column.decimal and not column.thousands:
        return text
    decimal, thousands = column.decimal or ".", column.thousands or ""
    signs = SPACES if thousands in SPACES else thousands
    mark = f"[{re.escape(signs)}]" if signs else ""
    grouped = rf"|\d{{1,3}}({mark}\d{{2,3}})*{mark}\d{{3}}" if mark else ""
    shape = rf"\s*[+-]?((\d+{grouped})({re.escape(decimal)}\d*)?|{re.escape(decimal)}\d+)([eE][+-]?\d+)?\s*"
    plain = text
    for sign in signs:
        plain = plain.replace(sign, "")
    return ibis.cases((regexp_full_match(text, shape), plain.replace(decimal, ".")))


def _rules_of(name: str, column: Column) -> list[str]:
    """Return every rule on values that a column can break, as `convert` and `rules` name them."""
    bounds = {"under": column.min, "over": column.max}
    named = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
    return [f"{name}: {what}" for what in (f"not {column.type}", "missing", "not allowed", *named)]


def _misfits(connection: ibis.BaseBackend, table: str, name: str, params: Params) -> list[str]:
    """Return the first raw texts of a column that do not fit its type, each with its place and key as the source has them."""
    contract, found = params.tables[table], list[str]()
    place = io.path(RAW) / table
    for file in sorted(place.rglob("*.parquet")):
        raw = connection.read_parquet(str(file))
        if name not in raw.columns:
            return []
        text = _known(raw[name], params.missing)
        key = [column for column in contract.unique if column in raw.columns]
        wrong = text.notnull() & _cast(text, contract.columns[name]).isnull()
        numbered = raw.select(*dict.fromkeys([*key, name]), (ibis.row_number() + 1).name("@row"), wrong.name("@wrong"))
        rows = numbered.filter(numbered["@wrong"]).drop("@wrong").order_by("@row").limit(EXAMPLES - len(found))
        found += [f"row {row.pop('@row')}{_of(file)}: {_shown(row)}" for row in rows.to_pandas().to_dict("records")]
        if len(found) == EXAMPLES:
            break
    return found


def _of(file: Path) -> str:
    return "" if file.stem == collection.WHOLE else f" of {file.stem}"


def _shown(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'missing' if pd.isna(value) else value}" for name, value in row.items())


def _worst(broken: pd.DataFrame, counts: pd.DataFrame, params: Params) -> gate.Check:
    """Return a failed check that names the rule broken most often, examples of it, and what to do."""
    worst = broken.loc[broken["rows"].idxmax()]
    total = counts.set_index("table")["raw"][worst["table"]]
    value = f"`{worst['rule']}` by {worst['rows']:,} of {total:,} rows of {worst['table']}, such as {worst['examples']}"
    return gate.holds("rule broken most often", False, value, _remedy(worst, params))


def _remedy(worst: pd.Series, params: Params) -> str:
    """Return what is expected of the values that broke a rule, and the params key that says otherwise."""
    path = f"processing.tables.{worst['table']}"
    if worst["column"] is None:
        return f"rows that differ in {path}.unique; name more columns there, or drop the copies at the source"
    column, path = params.tables[worst["table"]].columns[worst["column"]], f"{path}.columns.{worst['column']}"
    what = worst["rule"].removeprefix(f"{worst['column']}: ")
    if what == f"not {column.type}":
        keys = "format" if column.type == "timestamp" else "decimal and thousands"
        return (
            f"{_written(column)}; set {path}.{keys} to how the source writes them, or add the texts "
            "that mean not known to processing.missing"
        )
    if what == "missing":
        return f"a value in every row; if it may be missing, set {path}.nullable: true"
    key = "allowed" if what == "not allowed" else "min" if what.startswith("under ") else "max"
    bound = getattr(column, key)
    limit = ", ".join(map(str, bound)) if isinstance(bound, list) else f"{bound:g}"
    return f"values within {key} {limit}; if these are sound, widen {path}.{key}, else mend the source"


def _written(column: Column) -> str:
    """Return how the source is expected to write the values of a column."""
    if column.type == "timestamp":
        form = column.format or "iso"
        return f"times in the format {form}" + (" (2013-09-30 or 2013-09-30T17:00:00)" if form == "iso" else "")
    signs = [f"thousands {column.thousands!r}"] if column.thousands else []
    decimal = f"decimal {column.decimal or '.'!r}"
    if column.type == "float64":
        return f"numbers with {' and '.join([decimal, *signs])}"
    return " with ".join(["whole numbers", *signs])


def _promise(column: Column) -> str:
    return f"type {column.type}" + (", nullable" if column.nullable else "")


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
