"""The contract of a table: what each column holds, which columns identify a row, which refer to another table.

Declared in ``processing.tables`` of ``params.yaml``; `judge` gives each row the first rule that it breaks.
"""

from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, Self

import ibis
import ibis.expr.types as ir
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ninefold import engine
from ninefold.collection import datetimes, numbers
from ninefold.engine import PERIOD, ROW
from ninefold.errors import ParamsError
from ninefold.params import Duration, Keyed, Name, Section, StageSection, Text
from ninefold.sentences import render

RULE = "broken_rule"
TAKEN = (RULE, "raw_row", "raw_period")  # columns of the quarantine
MATCH = "@match"
Breaks = Callable[[ir.Value], ir.BooleanValue]
Tables = dict[str, ir.Table]


class Brief(Section):
    """A section of which only what is set is shown."""

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class Column(Brief):
    """What one column promises: its type and how the source writes it, whether it may be missing, and its bounds.

    `aliases`: texts of the source -> what each stands for, null for not known; these go before ``processing.missing``.
    """

    type: Literal["string", "int64", "float64", "timestamp"]
    format: Text | None = None
    aliases: dict[str, str | None] = Field(default_factory=dict)
    decimal: str | None = Field(default=None, min_length=1, max_length=1)
    thousands: str | None = Field(default=None, min_length=1, max_length=1)
    nullable: bool = False
    min: float | None = None
    max: float | None = None
    allowed: list[str | int | float] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        number = ("int64", "float64")
        kinds = {"format": ("timestamp", "float64"), **dict.fromkeys(("decimal", "thousands", "min", "max"), number)}
        for key, types in kinds.items():
            if getattr(self, key) is not None and self.type not in types:
                raise ValueError(f"no {key} for type {self.type}; it is for {' and '.join(types)}")
        if self.format and self.type == "timestamp":
            datetimes.known_format(self.format)
        elif self.format not in (None, *numbers.FORMATS) and not (self.format or "").startswith("amount "):
            known = f"{', '.join(numbers.FORMATS)}, or amount and a unit, such as amount kg"
            raise ValueError(f"format of numbers to be one of {known}, found {self.format!r}")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            raise ValueError(f"decimal and thousands to differ, found {self.thousands!r} for both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min <= max, found {self.min:g} > {self.max:g}")
        return self

    def rules(self) -> Iterator[tuple[str, str, Breaks]]:
        """Yield each rule on values: its name, the key that sets it, and a function that tells where values break it."""
        if not self.nullable:
            yield "missing", "nullable", lambda value: value.isnull()
        if self.min is not None:
            yield f"under {self.min:g}", "min", lambda value: value < self.min
        if self.max is not None:
            yield f"over {self.max:g}", "max", lambda value: value > self.max
        if self.allowed is not None:
            yield "not allowed", "allowed", lambda value: value.notnull() & value.notin(self.allowed)

    def written(self) -> str:
        """Return how the source is expected to write the values."""
        return render("processing", "written", column=self)


class Reference(Keyed):
    """Columns whose values must stand in another table, as its key says; a row with a missing one refers to nothing."""

    def rule(self) -> str:
        """Return the rule's name."""
        return f"{', '.join(self.keys())}: not in {self.table}"


class Contract(Brief):
    """What one table promises: key, columns, references; how long before the end the `newest` of its times may be."""

    unique: list[Name] = Field(min_length=1)
    references: list[Reference] = Field(default_factory=list)
    newest: dict[Name, Duration] = Field(default_factory=dict)
    columns: dict[Name, Column] = Field(min_length=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        referring = [name for one in self.references for name in list(one.keys())]
        for key, names in {"unique": self.unique, "references": referring, "newest": list(self.newest)}.items():
            if unknown := [name for name in names if name not in self.columns]:
                raise ValueError(f"{key} to name columns of the contract; {', '.join(unknown)} is none")
        if wrong := [name for name in self.newest if self.columns[name].type != "timestamp"]:
            raise ValueError(f"newest to name timestamps; {', '.join(wrong)} is none")
        if reserved := [name for name in self.columns if name.lower() in TAKEN or name.startswith("@")]:
            raise ValueError(f"other names than {', '.join(reserved)}, which the quarantine and the engine use")
        return self

    def uniqueness(self) -> str:
        """Return the name of the rule that a row breaks whose key another row has."""
        return f"unique: {', '.join(self.unique)}"

    def rules(self) -> dict[str, str | None]:
        """Return every rule that a row can break, in the order in which they are looked at -> its column, if one."""
        columns = self.columns.items()
        result = dict[str, str | None]()
        result |= {f"{name}: not {one.type}": name for name, one in columns if one.type != "string"}
        result |= {f"{name}: {rule}": name for name, column in columns for rule, *_ in column.rules()}
        result |= {one.rule(): next(iter(one.keys())) if len(one.keys()) == 1 else None for one in self.references}
        return {**result, self.uniqueness(): None}

    def remedy(self, rule: str, table: str) -> str:
        """Return what is expected in place of values that break a rule, and the params key that says otherwise."""
        reference = next((one for one in self.references if one.rule() == rule), None)
        name = self.rules()[rule]
        column = self.columns.get(name or "")
        key = {f"{name}: {rule}": key for rule, key, _ in column.rules()}.get(rule) if column else None
        facts = {"contract": self, "reference": reference, "column": column, "name": name, "key": key}
        return render("processing", "remedy", path=f"processing.tables.{table}", **facts)


def convert(raw: ir.Table, contract: Contract, missing: list[str]) -> ir.Table:
    """Cast the columns of a contract that a raw table has; ``broken_rule`` is the first whose text does not fit its type."""
    columns = {name: column for name, column in contract.columns.items() if name in raw.columns}
    written = dict[str, ir.StringValue]()
    for name, column in columns.items():  # null where it is not known what a text stands for
        meant = [(raw[name] == alias, ibis.literal(text, "string")) for alias, text in column.aliases.items()]
        written[name] = ibis.cases(*meant, (raw[name].isin(missing), ibis.null("string")), else_=raw[name])
    odd = {name: f"@odd {name}" for name, column in columns.items() if column.type != "string"}
    values = [cast(written[name], column).name(name) for name, column in columns.items()]
    typed = engine.settle(raw.mutate(*values, *(written[name].notnull().name(odd[name]) for name in odd)))
    broken = [(typed[odd[name]] & typed[name].isnull(), f"{name}: not {columns[name].type}") for name in odd]
    rule = ibis.cases(*broken) if broken else ibis.null("string")
    return typed.mutate(rule.name(RULE)).drop(*odd.values())


def cast(text: ir.StringValue, column: Column) -> ir.Value:
    """Return texts as values of a column's type, null where they are none."""
    if column.type == "string":
        return text
    if column.type == "timestamp":
        return datetimes.parse(text, column.format)
    if column.type == "float64":
        return numbers.quantity(text, column.format, column.decimal, column.thousands)
    return numbers.whole_number(numbers.plain_number(text, column.decimal, column.thousands))


def judge(table: ir.Table, contract: Contract, others: Tables, earlier: ir.Table | None = None) -> ir.Table:
    """Return the columns of the contract with ``broken_rule``: the first rule that a row breaks, or null.

    Of sound rows with the same key the first is kept, by partition and place in it; the others break uniqueness.

    The table is what `convert` returned, with ``@row`` and ``@period``, which stay; `others` are the sound rows of the tables
    that it refers to, `earlier` those of the same table that came before: a row with the key of one breaks uniqueness.
    """
    broken = [(table[RULE].notnull(), table[RULE])]
    for name, column in contract.columns.items():
        broken += [(breaks(table[name]), ibis.literal(f"{name}: {rule}")) for rule, _, breaks in column.rules()]
    table = table.select(*contract.columns, ROW, PERIOD, ibis.cases(*broken).name(RULE))
    for reference in contract.references:
        keys = reference.keys()
        matched = _matched(table, others[reference.table], keys, contract)
        refers = ibis.and_(*(matched[name].notnull() for name in keys))
        table = _give(matched, refers & ~matched[MATCH], reference.rule()).drop(MATCH)
    place = ibis.row_number().over(group_by=[*contract.unique, RULE], order_by=[PERIOD, ROW])
    table = _give(table, place > 0, contract.uniqueness())
    if earlier is None:
        return table
    matched = _matched(table, earlier, {name: name for name in contract.unique}, contract)
    return _give(matched, matched[MATCH], contract.uniqueness()).drop(MATCH)


def _give(table: ir.Table, broken: ir.BooleanValue, rule: str) -> ir.Table:
    """Give a rule to the rows that break it, and none before it."""
    return table.mutate(ibis.cases((table[RULE].isnull() & broken, ibis.literal(rule)), else_=table[RULE]).name(RULE))


def _matched(table: ir.Table, other: ir.Table, keys: dict[str, str], contract: Contract) -> ir.Table:
    """Return a table with ``@match``: whether the other one has a row with the values of its columns `keys`."""
    both = table.left_join(*matches(table, other, keys, contract))
    return both.select(*table.columns, both[MATCH].notnull().name(MATCH))


def matches(
    table: ir.Table, other: ir.Table, keys: dict[str, str], contract: Contract
) -> tuple[ir.Table, list[ir.BooleanValue]]:
    """Return the distinct values of another table's columns `keys`, and when a row has them; missing ones are equal."""
    theirs = other.select(*(other[name].name(f"@ {name}") for name in dict.fromkeys(keys.values()))).distinct()
    theirs, equal = theirs.mutate(ibis.literal(True).name(MATCH)), []
    for mine, name in keys.items():
        one, two = table[mine], theirs[f"@ {name}"]
        equal.append(one.identical_to(two) if contract.columns[mine].nullable else one == two)
    return theirs, equal


def in_order(contracts: dict[str, Contract]) -> list[str]:
    """Return the tables, each after those it refers to; `ParamsError` if a reference is wrong or makes a circle."""
    for name, contract in contracts.items():
        for number, reference in enumerate(contract.references):
            where, table = f"processing.tables.{name}.references[{number}]", reference.table
            if table not in contracts:
                known = ", ".join(contracts)
                raise ParamsError(f"{where}.table: found {table!r}, expected one of processing.tables: {known}")
            for mine, theirs in reference.keys().items():
                kind, other = contract.columns[mine].type, contracts[table].columns
                if theirs not in other:
                    raise ParamsError(f"{where}.by: {theirs} is no column of {table}; found {', '.join(other)}")
                if kind != other[theirs].type:
                    types = f"{mine} is {kind}, {table}.{theirs} is {other[theirs].type}"
                    raise ParamsError(f"{where}.by: {types}; expected the same type")
    try:
        graph = {name: [one.table for one in contract.references] for name, contract in contracts.items()}
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        first, circle = error.args[1][-1], " -> ".join(error.args[1][::-1])
        raise ParamsError(f"processing.tables.{first}.references: found a circle, {circle}; leave one out") from None


class Params(StageSection):
    """Section ``processing`` of ``params.yaml``."""

    missing: list[str]
    max_quarantined: float = Field(ge=0, le=1)
    tables: dict[Name, Contract] = Field(min_length=1)

    @model_validator(mode="after")
    def _referring(self) -> Self:
        in_order(self.tables)
        return self
