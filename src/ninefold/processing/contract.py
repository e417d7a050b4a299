"""The contract of a table: what each column holds, which columns identify a row, which refer to another table.

Declared in ``processing.tables`` of ``params.yaml``; `judge` gives each row the first rule that it breaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ninefold import engine
from ninefold.collection import datetimes, numbers
from ninefold.engine import PERIOD, ROW
from ninefold.errors import ParamsError
from ninefold.params import Duration, Keyed, Name, Section, Text

RULE = "broken_rule"
TAKEN = (RULE, "raw_row", "raw_period")  # columns of the quarantine


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
        return value if value is None else datetimes.known_format(value)

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


class Reference(Keyed):
    """Columns whose values must stand in another table, as its key says.

    A row with a missing value among them refers to nothing, and breaks no such rule.
    """

    def rule(self) -> str:
        """Return the rule's name."""
        return f"{', '.join(self.keys())}: not in {self.table}"


class Contract(Section):
    """What one table promises: what identifies a row, what each column holds, what refers elsewhere, how new it is.

    `newest` gives, for columns of times, how long before the end of what was collected their newest value may be.
    """

    unique: list[Name] = Field(min_length=1)
    references: list[Reference] = Field(default_factory=list)
    newest: dict[Name, Duration] = Field(default_factory=dict)
    columns: dict[Name, Column] = Field(min_length=1)

    @model_serializer(mode="wrap")
    def _brief(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}

    @model_validator(mode="after")
    def _known(self) -> Contract:
        referring = [name for one in self.references for name in list(one.keys())]
        named = {"unique": self.unique, "references": referring, "newest": list(self.newest)}
        for key, names in named.items():
            if unknown := [name for name in names if name not in self.columns]:
                raise ValueError(f"{key} to name columns of the contract; {', '.join(unknown)} is none")
        if wrong := [name for name in self.newest if self.columns[name].type != "timestamp"]:
            raise ValueError(f"newest to name timestamps; {', '.join(wrong)} is none")
        if taken := [name for name in self.columns if name.lower() in TAKEN or name.startswith("@")]:
            raise ValueError(f"other names than {', '.join(taken)}, which the quarantine and the engine use")
        return self

    def uniqueness(self) -> str:
        """Return the name of the rule that a row breaks whose key another row has."""
        return f"unique: {', '.join(self.unique)}"

    def rules(self) -> dict[str, str | None]:
        """Return every rule that a row can break, in the order in which they are looked at -> its column, if one."""
        result: dict[str, str | None] = {}
        for name, column in self.columns.items():
            result |= {f"{name}: not {column.type}": name} if column.type != "string" else {}
        for name, column in self.columns.items():
            bounds = {"under": column.min, "over": column.max}
            result |= {} if column.nullable else {f"{name}: missing": name}
            result |= {f"{name}: {word} {bound:g}": name for word, bound in bounds.items() if bound is not None}
            result |= {f"{name}: not allowed": name} if column.allowed is not None else {}
        for one in self.references:
            result[one.rule()] = next(iter(one.keys())) if len(one.keys()) == 1 else None
        return {**result, self.uniqueness(): None}


def convert(raw: ir.Table, contract: Contract, missing: list[str]) -> ir.Table:
    """Cast the columns of a contract that a raw table has; ``broken_rule`` is the first whose text does not fit its type."""
    columns = {name: column for name, column in contract.columns.items() if name in raw.columns}
    written = {name: known(raw[name], missing) for name in columns}
    odd = {name: f"@odd {name}" for name, column in columns.items() if column.type != "string"}
    values = [cast(written[name], column).name(name) for name, column in columns.items()]
    typed = engine.settle(raw.mutate(*values, *(written[name].notnull().name(odd[name]) for name in odd)))
    broken = [
        (typed[odd[name]] & typed[name].isnull(), ibis.literal(f"{name}: not {columns[name].type}")) for name in odd
    ]
    rule = ibis.cases(*broken) if broken else ibis.null("string")
    return typed.mutate(rule.name(RULE)).drop(*odd.values())


def known(text: ir.StringValue, missing: list[str]) -> ir.StringValue:
    """Return texts, null where they mean: not known."""
    return ibis.cases((text.isin(missing), ibis.null("string")), else_=text) if missing else text


def cast(text: ir.StringValue, column: Column) -> ir.Value:
    """Return texts as values of a column's type, null where they are none."""
    if column.type == "string":
        return text
    if column.type == "timestamp":
        return datetimes.parse(text, column.format)
    plain = numbers.plain_number(text, column.decimal, column.thousands)
    return numbers.whole_number(plain) if column.type == "int64" else numbers.number(plain)


def written(column: Column) -> str:
    """Return how the source is expected to write the values of a column."""
    if column.type == "timestamp":
        form = column.format or "iso"
        return f"times in the format {form}" + (" (2013-09-30 or 2013-09-30T17:00:00)" if form == "iso" else "")
    signs = [f"thousands {column.thousands!r}"] if column.thousands else []
    decimal = f"decimal {column.decimal or '.'!r}"
    if column.type == "float64":
        return f"numbers with {' and '.join([decimal, *signs])}"
    return " with ".join(["whole numbers", *signs])


def same(mine: ir.Value, other: ir.Value, nullable: bool = True) -> ir.BooleanValue:
    """Return whether values are equal, or both missing."""
    return mine.identical_to(other) if nullable else mine == other


def judge(
    table: ir.Table, contract: Contract, others: dict[str, ir.Table] | None = None, earlier: ir.Table | None = None
) -> ir.Table:
    """Return the columns of the contract with ``broken_rule``: the first rule that a row breaks, or null.

    Of sound rows with the same key the first is kept, by partition and place in it; the others break uniqueness.

    Parameters
    ----------
    table : Table
        What `convert` returned, with ``@row`` and ``@period``, which stay.
    contract : Contract
    others : dict of str to Table, optional
        The sound rows of the tables that it refers to.
    earlier : Table, optional
        Sound rows of the same table that came before; a row with the key of one breaks uniqueness.
    """
    broken = [(table[RULE].notnull(), table[RULE])]
    broken += [(condition, ibis.literal(rule)) for rule, condition in _broken(table, contract)]
    table = table.select(*contract.columns, ROW, PERIOD, ibis.cases(*broken).name(RULE))
    for number, reference in enumerate(contract.references):
        table = _refer(table, reference, (others or {})[reference.table], f"@found {number}")
    sound = table[RULE].isnull()
    place = ibis.row_number().over(group_by=[*contract.unique, RULE], order_by=[PERIOD, ROW])
    twice = ibis.literal(contract.uniqueness())
    table = table.mutate(ibis.cases((sound & (place > 0), twice), else_=table[RULE]).name(RULE))
    if earlier is None:
        return table
    held = earlier.select(**{f"@held {name}": earlier[name] for name in contract.unique}).mutate(**{"@held": True})
    both = table.left_join(
        held, [same(table[name], held[f"@held {name}"], contract.columns[name].nullable) for name in contract.unique]
    )
    again = both[RULE].isnull() & both["@held"].notnull()
    return both.mutate(ibis.cases((again, twice), else_=both[RULE]).name(RULE)).select(*table.columns)


def in_order(contracts: dict[str, Contract]) -> list[str]:
    """Return the tables so that each stands after those that it refers to.

    Raises
    ------
    ParamsError
        If a reference names a table or column that is in no contract, or a column of another type, or tables refer to
        each other in a circle.
    """
    result: list[str] = []

    def place(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ParamsError(
                f"processing.tables.{name}.references: found a circle, {' -> '.join([*above, name])}; leave one out"
            )
        for number, reference in enumerate(contracts[name].references):
            where = f"processing.tables.{name}.references[{number}]"
            if reference.table not in contracts:
                raise ParamsError(
                    f"{where}.table: found {reference.table!r}, expected one of processing.tables: {', '.join(contracts)}"
                )
            own, other = contracts[name].columns, contracts[reference.table].columns
            if lost := [column for column in reference.keys().values() if column not in other]:
                raise ParamsError(
                    f"{where}.by: {', '.join(lost)} is no column of {reference.table}; found {', '.join(other)}"
                )
            for mine, theirs in reference.keys().items():
                if own[mine].type != other[theirs].type:
                    raise ParamsError(
                        f"{where}.by: {mine} is {own[mine].type}, {reference.table}.{theirs} is {other[theirs].type}; "
                        "expected the same type"
                    )
            place(reference.table, (*above, name))
        if name not in result:
            result.append(name)

    for name in contracts:
        place(name, ())
    return result


def _broken(table: ir.Table, contract: Contract) -> Iterator[tuple[str, ir.BooleanValue]]:
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


def _refer(table: ir.Table, reference: Reference, other: ir.Table, result: str) -> ir.Table:
    """Give the rule of a reference to the rows without a broken one whose value is not in the other table."""
    keys = reference.keys()
    held = other.select(**{f"{result} {theirs}": other[theirs] for theirs in keys.values()}).distinct()
    held = held.mutate(**{result: True})
    both = table.left_join(held, [table[mine] == held[f"{result} {theirs}"] for mine, theirs in keys.items()])
    problem = ibis.and_(*(both[mine].notnull() for mine in keys))
    lost = both[RULE].isnull() & both[result].isnull() & problem
    rule = ibis.cases((lost, ibis.literal(reference.rule())), else_=both[RULE])
    return both.mutate(rule.name(RULE)).select(*table.columns)
