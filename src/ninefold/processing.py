"""Is it clean, typed and stored once?

Reads: ``data/raw/``, all text.
Writes: ``data/lake/``, typed Parquet partitions that keep the contract; ``data/quarantine/``, every other row, with
the rule it broke.
Gate: the data contract holds in the lake, no row is lost, and the quarantined share is under its limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.ibis as pa
from matplotlib.figure import Figure
from pandera.errors import SchemaErrors
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ninefold import collection
from ninefold.core import engine, gate, hooks, io, plots
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.params import Section
from ninefold.problem import Text

RAW, LAKE, QUARANTINE = "data/raw", "data/lake", "data/quarantine"
RULE = "broken_rule"


class Column(Section):
    """What one column promises: its type, whether it may be missing, and the bounds of its values."""

    type: Literal["string", "int64", "float64", "timestamp"]
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    allowed: list[str | int | float] | None = Field(default=None, min_length=1)

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    @model_validator(mode="after")
    def _coherent(self) -> Column:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min <= max, found {self.min:g} > {self.max:g}")
        if self.type in ("string", "timestamp") and (self.min is not None or self.max is not None):
            raise ValueError(f"no min or max for type {self.type}; they bound numbers")
        return self


class Contract(Section):
    """What one table promises: the columns that identify a row, and what each column holds."""

    unique: list[Text] = Field(min_length=1)
    columns: dict[Text, Column] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Contract:
        if unknown := [name for name in self.unique if name not in self.columns]:
            raise ValueError(f"unique to name columns of the contract; {', '.join(unknown)} is none")
        return self


class Params(Section):
    """Section ``processing`` of ``params.yaml``."""

    missing: list[str]
    max_quarantined: float = Field(ge=0, le=1)
    tables: dict[Text, Contract] = Field(min_length=1)


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
        table = table.mutate(**{RULE: ibis.cases(*broken)})
        order = [table[column] for column in table.columns if column != RULE]
        copies = ibis.row_number().over(group_by=[*contract.unique, RULE], order_by=order)
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
    quarantine.mkdir(parents=True)
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
    """Return, per table, the timestamp of its key by which it is partitioned, or None.

    Raises
    ------
    ParamsError
        If the contract lacks the table that the problem decides on, or a column that the problem names.
    """
    main = stated["table"]
    if main not in params.tables:
        raise ParamsError(
            f"problem.table: found {main!r}, expected one of processing.tables: {', '.join(params.tables)}"
        )
    for key, names in {"time": [stated["time"]], "target": [stated["target"]], "key": stated["key"]}.items():
        if lost := [name for name in names if name not in params.tables[main].columns]:
            raise ParamsError(f"problem.{key}: {', '.join(lost)} not among the columns of processing.tables.{main}")
    found = {}
    for name, contract in params.tables.items():
        stamps = [column for column in contract.unique if contract.columns[column].type == "timestamp"]
        found[name] = stated["time"] if name == main else next(iter(stamps), None)
    return found


def promises(contract: Contract) -> pd.DataFrame:
    """Return the contract of one table for reading: ``column``, ``type``, ``may be missing``, ``values``."""
    rows = []
    for name, column in contract.columns.items():
        bounds = {"at least": column.min, "at most": column.max}
        values = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        values += ["one of " + ", ".join(map(str, column.allowed))] if column.allowed else []
        rows.append((name, column.type, "yes" if column.nullable else "no", ", ".join(values) or "any"))
    return pd.DataFrame(rows, columns=["column", "type", "may be missing", "values"])


def describe_counts(counts: pd.DataFrame) -> str:
    """Return where the raw rows went, as a sentence."""
    raw, kept, held = (int(counts[name].sum()) for name in ("raw", "lake", "quarantine"))
    return (
        f"Of {raw:,} raw rows, {kept:,} are in the lake and {held:,} in quarantine ({100 * held / max(raw, 1):.2g} %)."
    )


def broken_rules(connection: ibis.BaseBackend, params: Params) -> pd.DataFrame:
    """Return how many rows broke which rule: ``table``, ``rule``, ``rows``, and the key and value of one example."""
    found = []
    for name, table in engine.tables(connection, QUARANTINE).items():
        for rule, rows in table.to_pandas().groupby(RULE):
            shown = dict.fromkeys([*params.tables[name].unique, str(rule).split(":")[0]])
            first = ", ".join(f"{column} {rows.iloc[0][column]}" for column in shown if column in rows)
            found.append((name, rule, len(rows), first))
    return pd.DataFrame(found, columns=["table", "rule", "rows", "first example"])


def describe_broken(broken: pd.DataFrame) -> str:
    """Return what is held back and why, in words."""
    if broken.empty:
        return "Every row keeps its contract; the quarantine is empty."
    worst = broken.loc[broken["rows"].idxmax()]
    return (
        f"Rows held back: {broken['rows'].sum():,}. The rule broken most often is `{worst['rule']}`, "
        f"in table `{worst['table']}` ({worst['rows']:,} of them)."
    )


def schema(contract: Contract) -> pa.DataFrameSchema:
    """Return the contract of a table as a pandera schema, for validating the lake independently of `judge`."""
    columns = {}
    for name, column in contract.columns.items():
        checks = []
        if column.min is not None:
            checks.append(pa.Check.ge(column.min))
        if column.max is not None:
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
    parts = [f"`{name}`: {', '.join(columns)}" for name, columns in extra.items() if columns]
    if not parts:
        return "Every raw column is part of a contract."
    return "Raw columns that no contract names stay in `data/raw` only. " + "; ".join(parts) + "."


def plot_missing(shares: pd.DataFrame) -> Figure:
    """Draw the missing share of the columns that miss any."""
    top = shares.head(20)
    fig, axes = plots.canvas("Which columns have gaps?", height=max(2.0, 0.28 * len(top) + 1))
    axes.barh(top["table"] + "." + top["column"], top["missing"], color=plots.BLUE)
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
        f"{len(shares)} columns have gaps; the widest is {worst['table']}.{worst['column']} with "
        f"{worst['missing']:.1%} missing, and {few} of them miss less than 5 %."
    )


def describe_months(monthly: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return the months with the lowest and the highest ``share`` of the event, in words."""
    known = monthly.dropna(subset=["share"])
    if known.empty:
        return f"The target `{stated['target']}` is not known in any month."
    low, high = known.loc[known["share"].idxmin()], known.loc[known["share"].idxmax()]
    return (
        f"`{stated['target']} = 1` for {low['share']:.1%} of the {stated['units']} of {low['month']}, the lowest month, "
        f"and for {high['share']:.1%} of those of {high['month']}, the highest."
    )


def checks(counts: pd.DataFrame, validation: pd.DataFrame, params: Params) -> list[gate.Check]:
    """Return the gate: contract kept, nothing lost, quarantine small, no table empty."""
    lost = int((counts["raw"] - counts["lake"] - counts["quarantine"]).abs().sum())
    share = counts["quarantine"].sum() / max(counts["raw"].sum(), 1)
    return [
        gate.at_most("contract failures in the lake", int(validation["failures"].sum()), 0),
        gate.at_most("rows neither in lake nor quarantine", lost, 0),
        gate.at_most("quarantined share", float(share), params.max_quarantined),
        gate.at_least("rows in the smallest table", int(counts["lake"].min()), 1),
    ]


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
    return (
        f"{kept:,} rows in {len(counts)} tables are typed, stored once and {state} their contract; held back: {held:,}."
    )


def _convert(raw: ir.Table, contract: Contract, missing: list[str]) -> ir.Table:
    """Cast the columns that the raw table has; keep in ``broken_rule`` the first text that does not fit its type."""
    typed, broken = {}, []
    for name, column in contract.columns.items():
        if name not in raw.columns:
            continue
        text = ibis.cases((raw[name].isin(missing), ibis.null("string")), else_=raw[name]) if missing else raw[name]
        typed[name] = _cast(text, column.type)
        if column.type != "string":
            broken.append((text.notnull() & typed[name].isnull(), ibis.literal(f"{name}: not {column.type}")))
    rule = ibis.cases(*broken) if broken else ibis.null("string")
    return raw.mutate(**typed, **{RULE: rule})


def _cast(text: ir.StringValue, kind: str) -> ir.Value:
    """Return the text as a value of its type, null where it is none."""
    if kind == "string":
        return text
    value = text.try_cast(kind)
    if kind == "int64":  # DuckDB rounds "1.7" to 2
        return ibis.cases((value.cast("float64") == text.try_cast("float64"), value))
    if kind == "float64":  # "nan" and "inf" are no numbers
        return ibis.cases((~(value.isnan() | value.isinf()), value))
    return value
